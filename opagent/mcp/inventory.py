"""The tools of an MCP server as it says them: read, bounded, known by a digest, compared with what a person agreed to. Pure.

    tools, refused = read(items)                    # from the pages of tools/list
    stand = standing(tools, known)                  # `known` None: this server was never started here

What is hashed is exactly what an agent is given, so a change that an agent could see is a change of the digest. A name is plain
letters: two that look alike are two, and `*` of a rule means each of them. (Design: security.md, "Details to binding.md".)
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opagent.yamlfile import INVISIBLE

MOST_TOOLS = 256
TOOL_LIMIT = 64 * 1024  # characters of one tool as JSON
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_GIVEN = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")  # what an agent is given of a tool
_BREAKS = str.maketrans("", "", "\n\r\t")  # a description has lines


class State(enum.StrEnum):
    ALLOWED = "allowed"  # as a person agreed to it, or as it was at the first start
    NEW = "new"  # it was not there before
    CHANGED = "changed"  # it is not as it was
    INVISIBLE = "invisible"  # its words hold characters that nobody sees


@dataclass(frozen=True, slots=True)
class Tool:
    """`content`: canonical JSON of what an agent is given; `digest`: sha256 of that."""

    name: str
    content: str
    digest: str

    @property
    def given(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.content)
        return found


@dataclass(frozen=True, slots=True)
class Refused:
    """A tool that cannot be used at all. `name` as the server says it, at most 200 characters."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Standing:
    tool: Tool
    state: State


def read(items: Iterable[Any]) -> tuple[tuple[Tool, ...], tuple[Refused, ...]]:
    """The tools that can be used, in their order, and the others."""
    found: dict[str, Tool] = {}
    refused: list[Refused] = []
    for item in items:
        name = item.get("name") if isinstance(item, Mapping) else None
        if why := _problem(item, name, found):
            if len(refused) < MOST_TOOLS:
                refused.append(Refused(str(name)[:200], why))
            continue
        content = canonical({key: item[key] for key in _GIVEN if key in item})
        if len(content) > TOOL_LIMIT:
            refused.append(Refused(str(name), f"it takes more than {TOOL_LIMIT // 1024} KiB to describe"))
        else:
            found[str(name)] = Tool(str(name), content, hashlib.sha256(content.encode("utf-8", "replace")).hexdigest())
    return tuple(found.values()), tuple(refused)


def _problem(item: Any, name: Any, found: Mapping[str, Tool]) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "its name is not made of letters, digits, _ . - alone"
    if name in found:
        return "a tool of this name came before"
    if len(found) >= MOST_TOOLS:
        return f"only the first {MOST_TOOLS} tools of a server are used"
    return "" if isinstance(item.get("inputSchema"), Mapping) else "it has no inputSchema"


def canonical(value: Any) -> str:
    """One spelling for equal values. ASCII, so that what nobody sees is seen."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def standing(tools: Sequence[Tool], known: Mapping[str, str] | None) -> tuple[Standing, ...]:
    """Each tool against the digests that were agreed to, by name; `known` None: nothing was, and what is there now counts."""
    return tuple(Standing(tool, _state(tool, known)) for tool in tools)


def _state(tool: Tool, known: Mapping[str, str] | None) -> State:
    if known is not None and known.get(tool.name) == tool.digest:
        return State.ALLOWED
    if hidden(tool):
        return State.INVISIBLE
    if known is None:
        return State.ALLOWED
    return State.CHANGED if tool.name in known else State.NEW


def hidden(tool: Tool) -> bool:
    """Whether its words hold control, zero-width, bidi or tag characters, which a model reads and a person does not."""
    return any(INVISIBLE.search(text.translate(_BREAKS)) for text in _texts(tool.given))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield key
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def digest_of(tools: Iterable[Tool]) -> str:
    """Of a whole list, whatever its order."""
    return hashlib.sha256(canonical(sorted([tool.name, tool.digest] for tool in tools)).encode()).hexdigest()
