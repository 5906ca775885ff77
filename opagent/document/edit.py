"""One conversation's file as a value: turns added, replies rewritten, everything of the person kept byte for byte; reads no file.

API::

    document = new(header, name="Alice", zone=zone)           # header: keys of the front matter, `conversation` among them
    document = load(content, zone=zone, tag="")               # the bytes on disk now, whoever wrote them
    document = document.adopt(header)                         # a file without front matter becomes a conversation
    document = document.begin(Opening(...))                   # message + open reply, above the draft
    document = document.put(reply_id, body, end)              # body and end marker of a reply: `Reply.body()`, `Reply.end()`
    document.content()                                        # bytes
    document.version(previous_size)                           # the same, never of the size of the version before

(Design: "The body of a region", "Writing one version".)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from urllib.parse import unquote

from opagent.document import frontmatter, parse
from opagent.document.clean import clean
from opagent.document.closers import closers
from opagent.document.draft import area_body, boxed, has_box
from opagent.document.excerpt import inert, one_line
from opagent.document.markers import escape, escape_own, marker, word
from opagent.document.notices import moment, second
from opagent.document.parse import Part, Region, did, join, line_end, scan, tag_of
from opagent.errors import Conflict
from opagent.model import TurnState

_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # not those that stand for bytes of a person's file
_PAD = re.compile(rb" pad=0+")


@dataclass(frozen=True, slots=True)
class Opening:
    """A turn that starts. `author` is a login or `agent:ROLE`; times are ISO 8601; `via` is empty for what stood in the file."""

    message: str
    reply: str
    author: str
    text: str
    agent: str
    sent: str
    started: str
    via: str = "cli"
    model: str = ""


def title(name: str) -> str:
    """How a login or a role is called in a heading: `alice` -> `Alice`, `agent:writer` -> `Writer (agent)`."""
    bare = name.removeprefix("agent:").removeprefix("human:")
    shown = inert(one_line(bare, 60)) or "You"
    return shown[:1].upper() + shown[1:] + (" (agent)" if name.startswith("agent:") else "")


@dataclass(frozen=True, slots=True)
class Document:
    tag: str
    regions: tuple[Region, ...]
    eol: bytes = b"\n"
    zone: tzinfo = UTC
    did: int = 0  # commands that were taken out of the draft
    began: Mapping[str, int] = field(default_factory=dict, compare=False)  # of turns, in which order, where that is known

    def content(self) -> bytes:
        return join(self.regions)

    def region(self, identifier: str) -> Region | None:
        return next((region for region in self.regions if region.id == identifier), None)

    def adopt(self, header: Mapping[str, str]) -> Document:
        """Front matter with what of `header` is not there yet; nothing that is there changes."""
        head = self.regions[0]
        body = head.body
        for key, value in header.items():
            if value and not frontmatter.get(body, key):
                body = frontmatter.put(body, key, value)
        return replace(self, regions=(replace(head, body=body), *self.regions[1:]))

    def begin(self, opening: Opening) -> Document:
        """The message and an open, empty reply, above all that the person has not sent yet."""
        tidy = self.with_draft(opening.author)
        *others, area = tidy.regions
        others[-1], after = self.without_tail(others[-1])
        grown = replace(tidy, regions=(*others, self.message(opening, others), self.reply(opening, after), area))
        return grown.put(opening.reply, "", (TurnState.RUNNING.value,))

    def with_draft(self, person: str) -> Document:
        """With the draft area as the last region, and a box in it; the person's bytes stay, behind the last turn, too."""
        others = [region for region in self.regions if region.part is not Part.NEXT]
        area = self.region("next")
        if area is None:
            return self.redraft(person, self.draft(person))
        body = area.body if has_box(self.draft(person)) else boxed(area.body, self.eol)
        if self.regions[-1] is area and body == area.body:
            return self
        if self.regions[-1] is not area:
            others[-1], after = self.without_tail(others[-1])
            field = "tail" if others[-1].close else "body"
            kept = getattr(others[-1], field) + (after if after.strip() else b"")
            others[-1] = replace(others[-1], **{field: kept + (b"" if kept.endswith(b"\n") else self.eol)})
        return self._with_area(others, body)

    def redraft(self, person: str, text: bytes, note: str = "") -> Document:
        """With a new draft area that holds this text and nothing behind the last turn."""
        others = [region for region in self.regions if region.part is not Part.NEXT]
        others[-1], _ = self.without_tail(others[-1])
        name = title("you" if person.startswith("agent:") else person)
        return self._with_area(others, area_body(f"## {name}", text, note, self.eol))

    def _with_area(self, others: Sequence[Region], body: bytes) -> Document:
        made = replace(self, regions=(*others, Region(Part.NEXT, "next", b"", body))).pointed()
        # a copied marker that was text behind the real one may stand before it now
        return replace(made, regions=scan(made.content(), self.tag))

    def draft(self, person: str) -> bytes:
        """The draft as it stands, without its heading: the name of the person or of an author of the file."""
        text = parse.draft(self.regions, f"## {title(person)}")
        if not text.lstrip().startswith(b"## "):
            return text
        authors = {region.words[1] for region in self.regions if region.part is Part.MESSAGE and region.words[1:]}
        return parse.draft(self.regions, *(f"## {title(name)}" for name in (person, *authors)))

    def without_tail(self, last: Region) -> tuple[Region, bytes]:
        """The last region without the person's text behind it, and that text: it stays the last thing before the draft area."""
        if last.part is Part.HEAD:
            cut = frontmatter.end(last.body)
            last, after = replace(last, body=last.body[:cut]), last.body[cut:]
        else:
            last, after = replace(last, tail=b""), last.tail
        end = b"".join(piece[-4:] for piece in (last.open, last.body, last.close, last.tail))
        gap = b"" if not end else self.eol if end.endswith(b"\n") else self.eol * 2
        if last.part is not Part.HEAD and not last.close:
            gap = b"" if end.endswith(self.eol * 2) else gap
            return replace(last, body=last.body + gap), after
        field = "tail" if last.close else "body"
        return replace(last, **{field: getattr(last, field) + gap}), after

    def message(self, opening: Opening, before: Sequence[Region]) -> Region:
        """The region of a message that stands after the regions `before`."""
        via = f"via={word(opening.via)}" if opening.via else ""
        line = marker(self.tag, opening.message, "you", word(opening.author), word(second(opening.sent)), via)
        region = Region(Part.MESSAGE, opening.message, self._bytes(line))
        text = opening.text
        if opening.author.startswith("agent:"):
            return self._worded(region, before, escape(clean(text)))
        return self._worded(region, before, escape_own(clean(text) if opening.via else text, self.tag))

    def reworded(self, message: str, text: str) -> Document:
        """A message that a person wrote, with other words."""
        place = self._place(message)
        return self.changed(self._worded(self.regions[place], self.regions[:place], escape_own(text, self.tag)))

    def _worded(self, region: Region, before: Sequence[Region], text: str) -> Region:
        end = "" if text.endswith("\n") or not text else "\n"
        heading = self._heading(region, before)
        return replace(region, body=self._bytes(f"{heading}{text}{end}{closers(text + end)}\n"))

    def _heading(self, region: Region, before: Sequence[Region]) -> str:
        """`## Alice · 09:14` with a blank line; the day is named where it differs from that of the turn before."""
        _, author, at = (*region.words, "", "", "")[:3]
        today, clock = moment(at, self.zone)
        shown = clock if today == _day(before, self.zone) else f"{today} {clock}"
        return f"## {title(unquote(author))}{f' · {shown}' if clock else ''}\n\n"

    def reply(self, opening: Opening, after: bytes = b"") -> Region:
        """The region of a reply that `put` has not filled yet; `after` is a person's text behind it."""
        words = ("agent", word(opening.agent), word(second(opening.started)), f"re={opening.message}")
        line = marker(self.tag, opening.reply, *words, f"model={word(opening.model)}" if opening.model else "")
        tail = after if after.startswith((b"\n", b"\r\n")) else self.eol + after
        tail = tail if tail.endswith(b"\n") else tail + self.eol
        return Region(Part.REPLY, opening.reply, self._bytes(line), tail=tail)

    def put(self, reply: str, body: str, end: tuple[str, ...]) -> Document:
        """A reply's body and end marker as they are now. Raises Conflict where somebody took the reply out of the file."""
        place = self._place(reply)
        old = self.regions[place]
        gap = "" if body.endswith("\n\n") else "\n"
        shown = self._bytes(f"{self._heading(old, self.regions[:place])}{body}{gap if body else ''}")
        return self.changed(replace(old, body=shown)).ended(reply, end)

    def ended(self, reply: str, words: tuple[str, ...]) -> Document:
        """A reply's end marker alone."""
        old = self.regions[self._place(reply)]
        close = self._bytes(marker(self.tag, f"/{reply}", *words))
        return self.changed(replace(old, close=close, tail=old.tail or self.eol)).pointed()

    def _place(self, identifier: str) -> int:
        place = next((index for index, region in enumerate(self.regions) if region.id == identifier), -1)
        if place < 0:
            raise Conflict(
                f"the reply {identifier} is no longer in the file", "somebody took it out", "opagent conversations rebuild FILE"
            )
        return place

    def changed(self, region: Region) -> Document:
        """With this region in the place of the one that has its id."""
        place = self._place(region.id)
        return replace(self, regions=(*self.regions[:place], region, *self.regions[place + 1 :]))

    def without(self, identifier: str) -> Document:
        """Without a region."""
        return replace(self, regions=tuple(region for region in self.regions if region.id != identifier)).pointed()

    def grown(self, region: Region, after: str) -> Document:
        """With one more turn behind that one; as the last where there is no such turn."""
        turns = [each.id for each in self.regions if each.part is not Part.NEXT]
        place = turns.index(after) + 1 if after in turns else len(turns)
        return replace(self, regions=(*self.regions[:place], region, *self.regions[place:])).pointed()

    def summed(self, summary: Region) -> Document:
        """With a summary behind those that are there; the same one twice changes nothing."""
        if self.region(summary.id) is not None:
            return self
        place = next((n for n, each in enumerate(self.regions) if n and each.part is not Part.SUMMARY), len(self.regions))
        return replace(self, regions=(*self.regions[:place], summary, *self.regions[place:]))

    def pointed(self) -> Document:
        """The draft area's marker names the reply that finished last: a save that carries it has that reply to its end.

        That is not always the last one of the file: a person may have put turns into another order.
        """
        area = self.region("next")
        if area is None:
            return self
        finished = (region.id for region in reversed(self.regions) if region.part is Part.REPLY and region.finished)
        done = max(finished, key=lambda name: self.began.get(name, -1), default="")
        words = (f"after={done}" if done else "", f"did={self.did}" if self.did else "")
        opening = self._bytes(marker(self.tag, "next", *words))
        return self if area.open.rstrip() == opening.rstrip() else self.changed(replace(area, open=opening))

    def padded(self, previous: int | None) -> Document:
        """Some editors see no change in a file that keeps its size: an end marker is longer then."""
        place = next((index for index in range(len(self.regions) - 1, -1, -1) if self.regions[index].close), -1)
        if previous is None or place < 0 or sum(region.size for region in self.regions) != previous:
            return self
        old = self.regions[place]
        padded = _PAD.search(old.close)
        at = padded.end() if padded else old.close.rindex(b" -->")
        close = old.close[:at] + (b"0" if padded else b" pad=0") + old.close[at:]
        return self.changed(replace(old, close=close))

    def version(self, previous: int | None) -> bytes:
        """The bytes to write."""
        return self.padded(previous).content()

    def _bytes(self, text: str) -> bytes:
        try:
            content = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # looking for halves in every text would cost ten times as much
            content = _HALVES.sub("\ufffd", text).encode("utf-8", "surrogateescape")
        return content if self.eol == b"\n" else content.replace(b"\r\n", b"\n").replace(b"\n", self.eol)


def _day(regions: Sequence[Region], zone: tzinfo) -> str:
    """The local day of the last turn among regions, from its marker."""
    for region in reversed(regions):
        if region.part.turn:
            return moment((*region.words, "", "", "")[2], zone)[0]
    return ""


def load(content: bytes, zone: tzinfo = UTC, tag: str = "") -> Document:
    """A file as it is. Without a tag given, in the front matter or in a marker, no turn can be added: see `adopt`."""
    tag = tag or tag_of(content)
    regions = scan(content, tag)
    return Document(tag, regions, line_end(content), zone, did(regions))


def new(header: Mapping[str, str], name: str, zone: tzinfo = UTC) -> Document:
    """A file without turns: front matter and an empty draft."""
    tag = header["conversation"].split("-")[0]
    head = frontmatter.new({"opagent": str(frontmatter.FORMAT), **header}) + "\n"
    return Document(tag, (Region(Part.HEAD, body=head.encode()),), zone=zone).with_draft(name)
