"""A Markdown text with `## User` and `## Assistant` above what each said -> the records that `imported.talk` takes.

API: `records`.

What `opagent conversations export` wrote is read with the names that it has in its front matter. A heading counts at top level
only, never in a fence, and only on the level of the first one that counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from itertools import pairwise

from markdown_it import MarkdownIt

from opagent.document import frontmatter

_PARSER = MarkdownIt("commonmark").disable(["inline", "reference"])  # as document/closers.py
_PEOPLE = {"user", "human", "you", "me", "prompt", "question"}
_AGENTS = {"assistant", "agent", "ai", "bot", "model", "answer", "response", "reply"}
_STAMP = re.compile(r" · (?:(\d{4}-\d\d-\d\d) )?(\d\d:\d\d)\s*\Z")
_AROUND = re.compile(r"\A[\W_]+|\s*\([^)]*\)\s*\Z|[\s:*_]+\Z")
_ESCAPED = re.compile(r"^\\(?=\\*## )", re.MULTILINE)


def records(content: bytes, zone: tzinfo = UTC) -> Iterator[dict[str, object]]:
    """What was said, in order; nothing where no heading names who says it. Times stand in exported texts only."""
    front = frontmatter.end(content)
    text = content[front:].decode("utf-8", "replace").replace("\r\n", "\n")
    title = frontmatter.get(content, "title")
    if title:
        yield {"session": {"title": title}}
    exported = bool(frontmatter.get(content, "exported"))
    people = _names(content, "people") if exported else _PEOPLE
    agents = _names(content, "agents") if exported else _AGENTS
    day = ""
    for heading, body in _sections(text, people | agents):
        stamp = _STAMP.search(heading)
        day = (stamp[1] if stamp else None) or day
        body = (_ESCAPED.sub("", body) if exported else body).strip("\n")
        yield {
            "user" if _name(heading) in people else "text": body,
            "at": _time(f"{day}T{stamp[2]}", zone) if stamp and day else "",
        }


def _names(content: bytes, key: str) -> set[str]:
    return {name for each in frontmatter.get(content, key).split(",") if (name := _name(each.strip()))}


def _name(heading: str) -> str:
    """Who a heading names: without a time, signs around it, or what stands in brackets behind it."""
    name = _STAMP.sub("", heading)
    while (bare := _AROUND.sub("", name)) != name:
        name = bare
    return name.lower()


def _sections(text: str, known: set[str]) -> Iterator[tuple[str, str]]:
    lines = text.split("\n")
    level, start, heading = "", 0, ""
    tokens = _PARSER.parse(text)
    for token, inner in pairwise(tokens):
        if token.type != "heading_open" or token.level or not token.map or not token.markup.startswith("#"):
            continue
        if _name(inner.content) in known and token.markup == (level or token.markup):
            if level:
                yield heading, "\n".join(lines[start : token.map[0]])
            level, start, heading = token.markup, token.map[1], inner.content
    if level:
        yield heading, "\n".join(lines[start:])


def _time(local: str, zone: tzinfo) -> str:
    try:
        moment = datetime.fromisoformat(local).replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
