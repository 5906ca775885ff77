"""What the front matter of a conversation asks for, beyond who and what it is; obeys none of it.

API: `read(content) -> Settings`, `Write`. A value that is none counts as if it were not there. (Design: "Front matter".)
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opagent import yamlfile
from opagent.document import frontmatter
from opagent.errors import BindingInvalid

FOLDS = ("details", "callout", "none")
SHOWN = frozenset({"tools", "plan", "thoughts", "usage"})
_FLAT = ("write", "send", "fold", "archived", "agent", "model", "title")


class Write(enum.Enum):
    """`write:`, when the file is written."""

    LIVE = "live"  # while text streams, too
    TURN = "turn"  # for a send, a question, an answer and the end of a turn
    OFF = "off"  # never, and nothing in it is a gesture


@dataclass(frozen=True, slots=True)
class Settings:
    """`show` is None and texts are empty where nothing is said. `problem`: why the front matter cannot be read."""

    write: Write = Write.LIVE
    on_save: bool = False  # `send: save`: every save that changes the draft sends it
    show: frozenset[str] | None = None
    fold: str = ""
    archived: bool = False
    agent: str = ""
    model: str = ""
    title: str = ""
    problem: str = ""


def read(content: bytes) -> Settings:
    """Of a file, or of what stands before its first marker. Where that is no YAML, of its flat lines."""
    try:
        found = yamlfile.plain(yamlfile.load(b"\n" + frontmatter.text(content), "front matter"))
    except BindingInvalid as error:
        return _settings({key: frontmatter.get(content, key) for key in _FLAT}, error.why.splitlines()[0])
    return _settings(found if isinstance(found, dict) else {})


def _settings(found: Mapping[str, Any], problem: str = "") -> Settings:
    said = {key: value for key, value in found.items() if isinstance(value, str)}
    write, show = said.get("write"), found.get("show")
    return Settings(
        write=Write(write) if write in {each.value for each in Write} else Write.LIVE,
        on_save=said.get("send") == "save",
        show=SHOWN & {str(each) for each in show} if isinstance(show, list) else None,
        fold=said.get("fold", "") if said.get("fold") in FOLDS else "",
        archived=said.get("archived", "").lower() == "true",
        agent=said.get("agent", ""),
        model=said.get("model", ""),
        title=said.get("title", ""),
        problem=problem,
    )
