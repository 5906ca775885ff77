"""What the daemon has in mind of one conversation's file between two saves: the document, and the records of what was written.

API: `Memory`. Mutable, owned by one consumer; reads no file. `merge.merge` brings a person's save into it. (Design: "The merge".)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, tzinfo
from typing import Any

from opagent.document import frontmatter
from opagent.document.draft import asks, is_text, less, note_of, noted, read, unmerged, without_gesture, without_notes
from opagent.document.edit import Document, Opening, load
from opagent.document.lines import digest, has_text, line_digest, lines, words
from opagent.document.parse import Part, Region, scan
from opagent.document.records import Fact, Kept, Records
from opagent.document.ticks import untick

_COMMANDS = 20  # that an editor may still show after they were obeyed


class Memory:
    def __init__(self, document: Document, person: str) -> None:
        self.records, self.person = Records(), person
        self.document = replace(document, began=self.records.began)
        self.kept = self.records.kept
        self.notice = ""  # the daemon's note in the draft area

    @classmethod
    def of(cls, content: bytes, tag: str, person: str, zone: tzinfo = UTC, imported: bool = False) -> Memory:
        """Of a file as it is: all in it counts as seen. `imported`: its turns are in no log of this daemon."""
        memory = cls(load(content, zone, tag), person)
        memory.know(imported)
        area = memory.document.region("next")
        memory.notice = memory.records.notices = note_of(area.body) if area else ""
        return memory

    def know(self, imported: bool, seen: bool = True) -> None:
        """Records of the regions that have none, and of no others."""
        standing = {region.id for region in self.document.regions if region.part not in (Part.HEAD, Part.NEXT)}
        for name in self.kept.keys() - standing:  # text that a person put in swallowed its marker
            self.records.lost(name)
        for region in self.document.regions:
            if region.id in standing:
                self.kept.setdefault(region.id, Kept(shown=region.body, seen=seen, imported=imported))

    @property
    def tag(self) -> str:
        return self.document.tag

    @property
    def zone(self) -> tzinfo:
        return self.document.zone

    def content(self) -> bytes:
        return self.document.content()

    def version(self, previous: int | None) -> bytes:
        """The content to write over a file of `previous` bytes; never of the same size (an end marker is padded)."""
        self.document = self.document.padded(previous)
        return self.content()

    def draft(self) -> bytes:
        """The draft as it stands: with box and gesture lines, without heading and notes."""
        return self.draft_of(self.document)

    def draft_of(self, document: Document) -> bytes:
        return without_notes(document.draft(self.person), self.records.notices)

    def unmerged(self, content: bytes) -> bool:
        """Whether git has left its marks in a save, as far as that can be said without asking git."""
        return unmerged(content, self.tag, {region.body for region in self.document.regions if region.part.turn})

    def last_turn_ours(self) -> bool:
        """False where the last turn of the file came by import (clone, git, paste)."""
        turns = [region.id for region in self.document.regions if region.part.turn]
        return not turns or not self.kept[turns[-1]].imported

    # ---- what the daemon does ------------------------------------------------------------------------------------------

    def adopt(self, header: Mapping[str, str]) -> None:
        """Front matter with what of `header` is not there yet; nothing that is there changes."""
        self.document = self.document.adopt(header)

    def begin(self, opening: Opening, raw: bytes = b"") -> None:
        """Message and open reply above the draft. `raw`: the draft that the message was made of, which is taken away.

        A message that stands in the file already is only told of: a daemon may have died between file and agent.
        """
        if self.document.region(opening.message) is None and self.document.region(opening.reply) is None:
            if raw:
                draft = self.draft()
                self.redraft(b"" if draft == raw else less(read(draft).text, filter(is_text, raw.split(b"\n"))))
            self.document = self.document.with_draft(self.person).begin(opening)
        self.records.begins(opening.message, opening.reply)
        self.kept.setdefault(opening.message, Kept()).raw = raw
        self.kept.setdefault(opening.reply, Kept()).running = True

    def put(self, reply: str, body: str, end: Sequence[str], running: bool) -> None:
        """A reply rendered anew. One that the person took out stays out; of one that they edited only the end changes."""
        kept = self.kept.get(reply)
        if kept is None:
            return
        kept.running, kept.seen = running, False
        if kept.edited:
            self.document = self.document.ended(reply, tuple(end))
        else:
            self.document = self.document.put(reply, body, tuple(end))

    def note(self, text: str) -> None:
        """The daemon's one note in the draft area; an empty text takes it away."""
        if text == self.notice:
            return
        self.notice = text
        self.records.notices += "" if text in self.records.notices else f" {text}"
        self.document = self.document.with_draft(self.person)
        area = self.document.regions[-1]
        self.document = self.document.changed(replace(area, body=noted(area.body, text, self.document.eol)))

    def unnoted(self) -> None:
        """After a restart: without the note that an earlier daemon left."""
        area, self.notice = self.document.region("next"), ""
        if area is not None:
            self.document = self.document.changed(replace(area, body=without_notes(area.body)))

    def obeyed(self) -> None:
        """The gesture in the draft was acted on without sending: its line goes, the box is unticked, the text stays.

        The marker of the draft area counts such commands: a save that is behind it does not give the same one again.
        """
        draft = self.draft()
        said = read(draft)
        if said.gesture.commands:
            number = self.document.did + 1
            self.document = replace(self.document, did=number)
            line = f"/{said.gesture.value} {said.argument}".rstrip()
            self.records.obeyed = [*self.records.obeyed, (number, line)][-_COMMANDS:]
        self.redraft(without_gesture(draft))

    def redraft(self, text: bytes) -> None:
        """The draft area anew, with this text."""
        self.document = self.document.redraft(self.person, text, self.notice)

    def rescue(self, content: bytes) -> bool:
        """A save that a daemon took out of the file and did not live to merge: lines of a person that stand nowhere are kept."""
        if self.records.is_version(content):
            return False  # what persons wrote in it was merged before
        found = load(content, self.zone, self.tag)
        since = [text for name, text in self.records.sent() if found.region(name) is None]  # what was sent after that save
        draft = less(self.draft_of(found), b"\n".join(since).split(b"\n"))
        turns = [region for region in found.regions if region.part.turn]
        head = found.regions[0].body
        texts = [head[frontmatter.end(head) :]] if turns else []  # else it is the draft, as what stands behind the last turn is
        texts += [self._behind(region) for region in turns[:-1]]
        texts += [self._typed(region) for region in turns]
        return self._keep(b"\n".join((draft, *texts)).split(b"\n"))

    def cannot_keep(self, content: bytes) -> bool:
        """Whether a save changes the words of a turn whose text is not at hand: in a part by now, or deleted before a restart."""
        for region in scan(content, self.tag):
            kept = self.records.parted.get(region.id) or self.records.record(region.id)
            away = kept and not kept.deleted and self.document.region(region.id) is None
            if kept and away and digest(region.body) not in kept.states:
                return True
        return False

    def _behind(self, region: Region) -> bytes:
        """What stands behind a turn in a save, but for what is in a part with it."""
        parted = self.records.parted.get(region.id)
        if parted is None:
            return region.tail
        return b"\n".join(line for line in region.tail.split(b"\n") if line_digest(line) not in parted.lines)

    def _typed(self, region: Region) -> bytes:
        """Of a turn in a save, the lines that were never written: also of one that was deleted since."""
        kept = self.records.record(region.id)
        mine = self.document.region(region.id) or (kept.deleted if kept else None)
        body = untick(region.body, self.tag, region.id)[0] if region.part is Part.REPLY else region.body
        if kept is None or mine is None or digest(body) in kept.states:
            return b""
        if region.part is not Part.REPLY:
            return less(body, mine.body.split(b"\n"))
        theirs, said = lines(mine.body), words(mine.body)
        known = set(theirs)
        new = [line for line in body.split(b"\n") if has_text(line.strip()) and line.strip() not in known]
        new = [line for line in new if line_digest(line) not in kept.lines and words(line) not in said]
        new = [line for line in new if not any(each.startswith(line.strip()) for each in theirs)]  # it streamed then
        kept.moved |= Counter(map(line_digest, new))  # the same buffer may be saved again
        return b"\n".join(new)

    def remind(self, disk: bytes) -> None:
        """After a restart without the last version: lines that no save has shown yet were only there, and in the log.

        Not those that the file has, wherever; and not those that were sent: they went with their message.
        """
        sent = {line.strip() for _, raw in self.records.raws() for line in raw.split(b"\n")}
        sent.update(lines(disk))
        self._keep(line for line in self.records.unseen.values() if line.strip() not in sent)

    def _keep(self, found: Iterable[bytes]) -> bool:
        """Those of a person's lines that stand nowhere go into the draft."""
        standing = set(lines(self.content()))
        lost = [line for line in found if is_text(line) and not asks(line) and line.strip() not in standing]
        if lost:
            self.document = replace(self.document, did=self.document.did + 1)
            self.records.watch(lost, self.document.did)
            self.records.rescued |= set(map(line_digest, lost))
            self.redraft(b"\n".join((read(self.draft()).text, *lost)))
        return bool(lost)

    def rewrite(self, content: bytes) -> None:
        """The daemon changed the file as a whole. Turns that it holds no longer were moved to a part."""
        before = self.document.regions
        self.document = replace(load(content, self.zone, self.tag), did=self.document.did, began=self.records.began)
        for region in before:
            if region.id in self.kept and self.document.region(region.id) is None:
                self.records.part(region)
        self.know(imported=False, seen=False)

    def again(self, names: Collection[str]) -> list[Region]:
        """Regions that a person had deleted stand at their place again, as they were."""
        back = self.records.again(names)
        for kept in back:
            if kept.deleted:
                self.document = self.document.grown(kept.deleted, self.records.standing(kept.before) or "")
        return [kept.deleted for kept in back if kept.deleted]

    def moved(self, kept: Kept) -> Counter[bytes]:
        """Digests of a person's lines that were taken out of a region, and how often.

        An earlier daemon that took some may have died before they were in the file: of those only what stands somewhere.
        """
        if kept.recalled:
            texts = (region.tail if region.part is Part.REPLY else region.body for region in self.document.regions)
            standing = {line_digest(line) for text in texts for line in lines(text)}
            kept.moved |= Counter({line: count for line, count in kept.recalled.items() if line in standing})
        return kept.moved

    # ---- what outlives a restart ---------------------------------------------------------------------------------------

    def written(self, content: bytes) -> dict[str, Any]:
        """`content` is (about to be) in the file. Returns the body of the event `document: version`."""
        body = self.records.written(content, self.document.regions)
        new = [region for region in self.document.regions if region.part is Part.SUMMARY and region.id in body.get("regions", ())]
        return body | ({"summaries": [region.raw.decode("utf-8", "replace") for region in new]} if new else {})

    def restore(self, body: Mapping[str, Any]) -> None:
        """One body that `written` returned, from the log, oldest first."""
        for text in body.get("summaries", ()):
            for region in scan(text.encode(), self.tag)[1:]:
                self.document = self.document.summed(region)
        self.know(imported=False)
        self.records.restore(body)
        for name in body.get("parted", ()):
            self.document = self.document.without(name)
        counted = (*(number for number, _ in self.records.obeyed), *self.records.since.values())
        self.document = replace(self.document, did=max([self.document.did, *counted]))

    def told(self, message: str, raw: bytes) -> None:
        """After a restart: the draft that a message was made of."""
        self.records.known(message).raw = raw

    def recall(self, fact: Fact) -> None:
        """After a restart: one fact of a merge, oldest first, at its place among the versions."""
        kept = self.kept.get(fact.region)
        region = self.document.region(fact.region)
        if fact.what == "restored":
            self.again([fact.region])
        if fact.what == "imported" and kept is None:
            found = next((each for each in scan(fact.body, self.tag) if each.id == fact.region), None)
            if found:
                self.document = self.document.grown(found, self.records.standing(fact.after) or "")
                self.records.found(found.id).shown = found.body
        if kept is None or region is None:
            return
        if fact.what == "deleted" or (fact.what == "reverted" and not fact.body):
            names = ["", *(each.id for each in self.document.regions if each.id in self.kept)]
            self.records.lost(region.id, region, names[names.index(fact.region) - 1])
            self.document = self.document.without(fact.region)
        elif fact.what in ("edited", "reply_edited", "reverted"):
            kept.edited = region.part is Part.REPLY
            self.document = self.document.changed(replace(region, body=fact.body))
