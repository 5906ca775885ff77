"""Reads what stands around a chain: the user's and the machine's file, instruction files, the floor, the file system's cases."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opagent import files, paths, yamlfile
from opagent.binding import find, resolve
from opagent.binding import source as sources
from opagent.binding.resolve import Given
from opagent.binding.source import Source
from opagent.errors import FileRefused
from opagent.model import Layer, RuleList
from opagent.policy.decide import FLOOR


def given(workspace: str, chain: Sequence[Source], home: str) -> Given:
    """Everything the merge is told beside the chain. Raises BindingInvalid for a file that cannot be used."""
    user = _own(paths.user_config(), sources.USER, workspace, home)
    machine = _own(paths.machine_policy(), sources.MACHINE, workspace, home)
    texts: dict[tuple[str, str], str] = {}
    problems: list[str] = []
    for each in (*chain, *((user,) if user else ())):
        for name, is_file, keys in resolve.mentioned(each.data.get("instructions") or []):
            if is_file:
                try:
                    texts[each.path, name] = _text(each.directory, name)
                except (OSError, FileRefused, UnicodeDecodeError) as error:
                    said = error.strerror if isinstance(error, OSError) else str(error)
                    problems.append(each.problem(keys, f"the file {name!r} cannot be read: {said}"))
    if problems:
        raise yamlfile.invalid(workspace, problems)
    return Given(workspace, floor(workspace, home), user, machine, texts, _folds(workspace))


def floor(workspace: str, home: str) -> Layer:
    """The built-in floor with the home directory put in, and OpAgent's own directories wherever they are."""
    own = tuple(f"{path}/" for path in (paths.state(), paths.config(), paths.run()))
    kinds = {
        kind: RuleList(deny=(*(home + name[1:] if name.startswith("~") else name for name in names), *own))
        for kind, names in _names().items()
    }
    return Layer(FLOOR, workspace, kinds)


@functools.cache
def _names() -> dict[str, list[str]]:
    path = Path(__file__).parent.parent / "policy" / "floor.json"
    return {kind: names for kind, names in json.loads(path.read_text("utf-8")).items() if kind != "about"}


def _own(path: Path, kind: str, workspace: str, home: str) -> Source | None:
    """The user's or the machine's file; links are followed here, because people keep such files elsewhere."""
    found = find.read_named(os.path.realpath(path))
    if found is None:
        return None
    return sources.parse(str(path), workspace, kind, found, home)


def _text(directory: str, name: str) -> str:
    with files.directory(directory) as fd:
        below = files.open_beneath(fd, name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            return files.read_regular(below, yamlfile.MAX_BYTES, name).decode("utf-8")
        finally:
            os.close(below)


def _folds(workspace: str) -> bool:
    """Whether the file system takes `Docs` and `dOCS` for the same name."""
    directory, name = os.path.split(workspace)
    swapped = os.path.join(directory, name.swapcase())
    try:
        return swapped != workspace and os.path.samefile(swapped, workspace)
    except OSError:
        return False


def user_secrets() -> dict[str, str]:
    """What the user's configuration names under `secrets:`. Raises BindingInvalid."""
    return dict(_of_user("secrets"))


def user_lends() -> dict[str, dict[str, str]]:
    """What it says under `lend:`, by machine: secrets, each with the host that it is for. Raises BindingInvalid."""
    return dict(_of_user("lend"))


def user_notify() -> dict[str, Any]:
    """What it says under `notify:`. Raises BindingInvalid."""
    return dict(_of_user("notify"))


def _of_user(key: str) -> Mapping[str, Any]:
    user = _own(paths.user_config(), sources.USER, "/", os.path.expanduser("~"))
    found: Mapping[str, Any] = user.data.get(key, {}) if user is not None else {}
    return found
