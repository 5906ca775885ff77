"""Reading the parameters of a request; each raises Usage for what is missing or of another type."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from opagent.errors import Usage

Params = Mapping[str, Any]


def text(params: Params, name: str) -> str:
    """Text that must be there."""
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise Usage(f"{name} is missing")
    return value


def maybe(params: Params, name: str) -> str | None:
    """Text that may be missing; empty counts as missing."""
    value = params.get(name)
    if value is not None and not isinstance(value, str):
        raise Usage(f"{name} must be text")
    return value or None


def place(params: Params, name: str) -> str:
    """A path that must be there; one that is not absolute is meant from the home directory: over SSH there is no other."""
    return placed(text(params, name))


def placed(path: str) -> str:
    home = os.path.expanduser("~")
    return home if path == "~" else os.path.join(home, path.removeprefix("~/"))


def wanted(params: Params, name: str = "conversation") -> str:
    """The conversation: an id, a name or a file."""
    word = text(params, name)
    return placed(word) if word.startswith("~/") or ("/" in word and os.path.isfile(placed(word))) else word


def number(params: Params, name: str, default: int) -> int:
    """A whole number of at least 0."""
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Usage(f"{name} must be a number")
    return value


def environment(params: Params) -> dict[str, str] | None:
    """The client's environment, None when it sent none."""
    value = params.get("environment")
    return {str(key): str(text) for key, text in value.items()} if isinstance(value, dict) else None
