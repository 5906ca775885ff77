"""When a file has grown too long: its older turns move to a part, and a table of contents stands for them; writes nothing.

API: `split`, `Split`, `part_of`, `whole_of`, `LIMIT`.

The turns that move are byte-identical in the part. What stays is at most 20 turns and at most half the limit, so that the
next split is far away. (Design: "Old turns, forks, parts, git".)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from urllib.parse import quote as percent
from urllib.parse import unquote

from opagent.document import frontmatter
from opagent.document.edit import title
from opagent.document.excerpt import inert, one_line
from opagent.document.history import history
from opagent.document.markers import marker, word
from opagent.document.notices import moment
from opagent.document.parse import Part, Region, join, line_end, scan, tag_of

LIMIT = 400_000  # bytes
KEPT = 20  # turns
_PART = re.compile(r"(?!\.\.?/)[^/\0]+/part-\d{1,4}\.md")
_LISTED = 200  # lines of a table of contents


@dataclass(frozen=True, slots=True)
class Split:
    """The new bytes of the file, the new part and its path relative to the file's directory."""

    content: bytes
    part: bytes
    name: str


def part_of(summary: Region) -> str:
    """The path of the part that a summary stands for, relative to the file's directory; empty for one that leads elsewhere."""
    path = unquote(summary.value("part"))
    return path if summary.part is Part.SUMMARY and _PART.fullmatch(path) else ""


def whole_of(path: str) -> str:
    """Of the path of a part the path of the file that it was split off from; empty for any other."""
    stem = path.rpartition("/")[0]
    return f"{stem}.md" if _PART.fullmatch(path[stem.rfind("/") + 1 :]) else ""


def split(content: bytes, name: str, identifier: str, zone: tzinfo = UTC, limit: int = LIMIT) -> Split | None:
    """None while the file is small enough, or nothing is old enough. `name` is the file's, `identifier` a new summary id.

    A turn that still runs, and all after it, never moves. With a `limit` of 0 a person asked: the size does not matter.
    """
    if limit and len(content) <= limit:
        return None
    tag = tag_of(content)
    regions = scan(content, tag)
    moving, kept = _cut(list(regions), limit or 2 * len(content))
    if not any(region.part is Part.REPLY for region in moving):
        return None
    old = [region for region in regions if region.part is Part.SUMMARY]
    stem = name.removesuffix(".md")
    path = f"{stem}/part-{len(old) + 1}.md"
    eol = line_end(content)
    turns = [region for region in moving if region.part.turn]
    words = ("summary", f"covers={turns[0].id}..{turns[-1].id}", f"part={word(path)}")
    contents = f"{marker(tag, identifier, *words)}{_contents(turns, tag, path, zone)}".encode()
    summary = contents.replace(b"\n", eol)
    head = regions[0]
    shown = (head, *(_short(region, eol) for region in old))
    front = frontmatter.new({"part": str(len(old) + 1), "part_of": f"../{name}"}) + "\n"
    part = front.encode().replace(b"\n", eol) + join(tuple(moving))
    return Split(join(shown) + summary + join(tuple(kept)), part, path)


def _cut(regions: list[Region], limit: int) -> tuple[list[Region], list[Region]]:
    """What moves and what stays: whole exchanges, from a message to the next."""
    body = [region for region in regions[1:] if region.part is not Part.SUMMARY]
    starts = [index for index, region in enumerate(body) if region.part is Part.MESSAGE]
    cut, replies, size = len(body), 0, 0
    for index in range(len(body) - 1, -1, -1):
        region = body[index]
        replies += region.part is Part.REPLY
        size += region.size
        if index in starts:
            if cut < len(body) and (replies > KEPT or size > limit // 2):
                break
            cut = index
    running = next((index for index, region in enumerate(body) if region.state in ("running", "waiting", "queued")), cut)
    cut = max((index for index in starts if index <= min(cut, running)), default=0)
    return body[:cut], body[cut:]


def _contents(turns: list[Region], tag: str, path: str, zone: tzinfo) -> str:
    messages = [region for region in turns if region.part is Part.MESSAGE]
    link = percent(path)
    lines = []
    for region in messages[:_LISTED]:
        day, clock = moment((*region.words, "", "", "")[2], zone)
        said = next((said.text for said in history(region.raw, tag=tag)), "")
        author = (*region.words, "", "")[1]
        lines.append(f"- {day} {clock} {title(author)}: {inert(one_line(said, 100))}\n")
    if len(messages) > _LISTED:
        lines.append(f"- and {len(messages) - _LISTED} more\n")
    return f"## Earlier\n\n[{len(messages)} turns]({link}):\n\n{''.join(lines)}\n"


def _short(summary: Region, eol: bytes) -> Region:
    """A summary that another follows: heading and link stay, its list stands in the part's own turns."""
    body = re.sub(rb"(?m)^- .*\n", b"", summary.body.rstrip() + eol)
    return replace(summary, body=body.rstrip().rstrip(b":") + eol * 2)
