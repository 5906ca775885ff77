"""A conversation for elsewhere: Markdown without markers, or one object a turn; margin notes and the draft stay at home.

API: `markdown`, `entries`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

from opagent.document import frontmatter
from opagent.document.edit import title
from opagent.document.history import plain, said
from opagent.document.parse import Part, Region, scan, tag_of
from opagent.document.parts import part_of

_HEADING = re.compile(r"\A\s*## [^\n]*\n?")
_ROLES = {Part.MESSAGE: "user", Part.REPLY: "agent", Part.SUMMARY: "summary"}


Read = Callable[[str], bytes | None]  # a part, by its path relative to the file's directory; None where it is not there


def entries(content: bytes, read: Read = lambda part: None) -> Iterator[dict[str, Any]]:
    """Each message, reply and summary: id, role, author, text, at; of a reply its message, model, state, end and usage too.

    In the place of a summary stand the turns of its part, where there is one.
    """
    tag = tag_of(content)
    for region in _turns(content, tag, read):
        entry: dict[str, Any] = {"id": region.id, "role": _ROLES[region.part], **_author(region), "text": said(region, tag).text}
        if region.part is Part.REPLY:
            at, *words = (*region.ending[1:], "")
            numbers = dict(word.split("=", 1) for word in words if "=" in word)
            usage = {key: _number(numbers[key]) for key in ("in", "out", "cost") if key in numbers}
            entry |= {
                "re": region.value("re"), "model": unquote(region.value("model")), "state": region.state, "ended": at,
                "reason": unquote(numbers.get("reason", "")), "usage": usage,
            }  # fmt: skip
        yield entry


def markdown(content: bytes, read: Read = lambda part: None) -> str:
    """Every turn below the heading it has in the file, tool calls folded as they are there.

    A line of a text that would be taken for such a heading gets a backslash, so that it can be imported again.
    """
    tag = tag_of(content)
    turns = list(_turns(content, tag, read))
    people, agents = (
        list(dict.fromkeys(title(_author(region)["author"]) for region in turns if region.part is part))
        for part in (Part.MESSAGE, Part.REPLY)
    )
    front = {
        "title": frontmatter.get(content, "title"), "exported": frontmatter.conversation_id(content) or tag,
        "people": ", ".join(people), "agents": ", ".join(agents),
    }  # fmt: skip
    names = "|".join(map(re.escape, [*people, *agents])) or "$^"
    taken = re.compile(rf"^(?=\\*## (?:{names})(?: · |\s*$))", re.MULTILINE)
    parts = []
    for region in turns:
        text = plain(region, tag)
        heading = _HEADING.match(text)
        cut = heading.end() if heading else 0
        parts.append(text[:cut].lstrip() + taken.sub(r"\\", text[cut:].rstrip()) + "\n")
    return frontmatter.new(front) + "\n" + "\n".join(parts)


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() and len(text) < 19 else text


def _turns(content: bytes, tag: str, read: Read) -> Iterator[Region]:
    for region in scan(content, tag):
        part = read(path) if (path := part_of(region)) else None
        if part is not None:
            yield from (each for each in scan(part, tag) if each.part.turn)
        elif region.part in _ROLES:
            yield region


def _author(region: Region) -> dict[str, str]:
    if region.part is Part.SUMMARY:
        return {"author": "", "at": ""}
    _, author, at = (*region.words, "", "", "")[:3]
    return {"author": unquote(author), "at": at}
