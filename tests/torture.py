"""Random lives of one conversation file: people type, save, reload, delete; agents stream hostile text; the daemon restarts.

`python -m tests.torture N [FIRST]` runs N sequences of every kind and prints the seeds that fail; the suite runs some of them.
After every step nothing may be lost, doubled or sent twice, and merging the result again must change nothing.
"""

from __future__ import annotations

import collections
import random
import re
import sys
from dataclasses import dataclass, field
from typing import Any

from opagent.document.edit import new
from opagent.document.merge import merge
from opagent.document.parse import Part, Region, join, scan
from tests.doubles.conversation import Daemon
from tests.doubles.texts import HEADER, TAG

HOSTILE = (
    "```\n", "````md\n", "~~~\n", "# T\n", "## Alice\n", "---\n", "<!-- x\n", "-->\n", "<pre>\n", "<details>\n", "</details>\n",
    "<!-- op:k7q2 next -->\n", "<!-- op:k7q2 /a0001 done -->\n", "\r", "\u2028<!-- op:k7q2 zz you eve -->\n", "- [x] **Send**\n",
    "/send\n", "\x1b[31mred\x1b[0m ", "x" * 300 + "\n", "> <!-- op:k7q2 next -->\n", "\x00", "> [!NOTE]\n> x <!-- op -->\n",
)  # fmt: skip
BOX = re.compile(rb"(?m)^- \[([ x])\] \*\*Send\*\*\r?$")
NEXT = b"<!-- op:k7q2 next"
KINDS = ("always", "never", "sometimes", "two")  # when the editor reloads; `two`: a second one beside it
# what happens in a step, how often
PLAIN = {"type": 30, "gesture": 12, "save": 20, "reload": 10, "delete": 2, "restart": 2, "stream": 24}
RICH = PLAIN | {
    "margin": 4,
    "reword": 3,
    "cancel": 2,
    "format": 2,
    "unmark": 2,
    "undo": 2,
    "call": 2,
    "split": 1,
    "heading": 1,
    "reorder": 2,
}


@dataclass
class Editor:
    """A buffer over the file."""

    buffer: bytes
    dirty: bool = False
    deleted: list[tuple[set[str], set[bytes]]] = field(default_factory=list)  # exchanges cut since the last save
    before: list[bytes] = field(default_factory=list)  # what it can undo to


class Life:
    def __init__(self, seed: int, kind: str, eol: bytes, weights: dict[str, int]) -> None:
        self.random, self.kind, self.eol, self.weights = random.Random(seed), kind, eol, weights
        head = new(HEADER, "alice").content().split(b"<!-- op:")[0]
        self.disk = head.replace(b"\n", eol)
        self.daemon = Daemon(self.disk)
        self.editor, self.other = Editor(self.disk), Editor(self.disk)
        self.typed: list[bytes] = []
        self.saved: set[bytes] = set()
        self.loose: set[bytes] = set()  # words that a person may have taken out: at most once is enough
        self.streamed: dict[str, list[str]] = {}
        self.gone: set[str] = set()  # turns that were deleted
        self.back: set[str] = set()  # of them those that an editor showed again
        self.steps: list[tuple[Any, ...]] = []
        self.numbers: collections.Counter[str] = collections.Counter()
        self.called: list[bytes] = []
        self.stopped = False  # the file is damaged: nothing is written until somebody saves it

    def _word(self, letter: str) -> str:
        self.numbers["words"] += 1
        return f"{letter}{self.numbers['words']:04}q"

    # ---- the daemon ----------------------------------------------------------------------------------------------------

    def react(self) -> None:
        merged = self.daemon.take(self.disk)
        self.stopped = merged.stop
        self.steps.append(("merge", merged.facts, merged.gestures))
        self.flush()

    def flush(self) -> None:
        """The exchange; now and then the daemon dies before it, or somebody saves in that moment."""
        if self.daemon.memory.content() == self.disk or self.stopped:
            return
        before, content = self.disk, self.daemon.version(len(self.disk))
        if self.random.random() < 0.02:
            self.steps.append(("killed before the exchange",))
            self.daemon.restart(self.disk)
            content = self.daemon.version(len(self.disk))
        self.disk = content
        self.steps.append(("write",))
        if "margin" in self.weights and self.random.random() < 0.03 and (self.editor.dirty or self.editor.buffer != before):
            self._killed_with_a_save()
        elif self.random.random() < 0.05 and (self.editor.dirty or self.editor.buffer != before):
            ours = self.disk
            self._reload_clean()
            self._store()
            self.daemon.take(self.editor.buffer, displaced=ours)
            self.disk = self.daemon.version(len(ours))
            between = self.kind != "never" and self.random.random() < 0.5
            if between:  # its editor loads the version that its save met, before the one that holds both
                self.editor.buffer = ours
                self.back |= self.gone & {region.id for region in scan(ours, TAG)}  # in its buffer again: it may come back
            self.steps.append(("displaced", between))
            if between:
                return
        self._reload_clean()

    def _killed_with_a_save(self) -> None:
        """A save was in the file when the version went in, and the daemon dies before it looks at what came out."""
        self._reload_clean()
        self._store()
        save = self.editor.buffer
        self.daemon.restart(self.disk)
        self.daemon.rescue(save)
        self.steps.append(("killed with a save",))
        if self.daemon.memory.content() != self.disk:
            self.disk = self.daemon.version(len(self.disk))
        self._reload_clean()

    def _reload_clean(self) -> None:
        if self.kind == "always" and not self.editor.dirty:
            self.editor.buffer = self.disk

    def stream(self) -> None:
        turn = self.daemon.running
        if not turn:
            return
        word = self._word("A")
        self.streamed.setdefault(turn, []).append(word)
        before = self.random.choice(HOSTILE) if self.random.random() < 0.5 else ""
        end = "done" if self.random.random() < 0.25 else ""
        self.daemon.stream(before + word + self.random.choice([" ", "\n"]), end)
        self.steps.append(("stream", turn, word, end))
        self.flush()
        if end:
            self.react()

    def restart(self) -> None:
        if self.stopped:
            return
        self.steps.append(("restart",))
        self.daemon.restart(self.disk)
        self.flush()

    def call(self) -> None:
        """A turn from the command line."""
        if not self.daemon.running:
            self.called.append(self._word("C").encode())
            self.daemon.begin(self.daemon.queue(self.called[-1]))
            self.steps.append(("call", self.called[-1]))
            self.flush()

    def split(self) -> None:
        cut = self.editor.deleted or self.other.deleted  # a note behind such a turn would stand in the part as well
        if not self.daemon.running and not cut and self.daemon.split():
            self.steps.append(("split",))
            self.flush()

    # ---- the person ----------------------------------------------------------------------------------------------------

    def _edit(self, content: bytes, *step: Any) -> None:
        self.editor.before.append(self.editor.buffer)
        self.editor.buffer, self.editor.dirty = content, True
        self.steps.append(step)

    def _typed(self) -> bytes:
        self.typed.append(self._word("P").encode())
        return self.typed[-1]

    def _insert(self, place: int, text: bytes, *step: Any) -> None:
        content = self.editor.buffer
        self._edit(content[:place] + text + content[place:], *step)

    def _regions(self, part: Part) -> list[Region]:
        return [region for region in scan(self.editor.buffer, TAG) if region.part is part]

    def type(self) -> None:
        word, content = self._typed(), self.editor.buffer
        replies = [region for region in self._regions(Part.REPLY) if region.close]
        if replies and self.random.random() < 0.15:
            reply = self.random.choice(replies)
            self.numbers["inside"] += 1
            self._insert(self._line_in(reply), word + self.eol, "type inside", reply.id, word)
            return
        boxes = list(BOX.finditer(content, max(content.find(NEXT), 0))) if NEXT in content else []
        if boxes and self.random.random() < 0.6:
            self._insert(boxes[-1].start(), word + self.eol * 2, "type", word)
        else:
            self._insert(len(content), (b"" if content.endswith(b"\n") else self.eol) + word + self.eol, "type", word)

    def _line_in(self, region: Region) -> int:
        """Where some line of a region's text begins."""
        start = self.editor.buffer.find(region.open) + len(region.open)
        ends = [place for place in range(len(region.body)) if region.body[place - 1 : place] == b"\n" and place > 10]
        return start + self.random.choice(ends or [len(region.body)])

    def gesture(self) -> None:
        content = self.editor.buffer
        boxes = list(BOX.finditer(content, content.find(NEXT))) if NEXT in content else []
        if boxes and self.random.random() < 0.6:
            box = boxes[-1]
            self._edit(content[: box.start(1)] + b"x" + content[box.end(1) :], "tick")
        else:
            self._insert(len(content), (b"" if content.endswith(b"\n") else self.eol) + b"/send" + self.eol, "/send")

    def cancel(self) -> None:
        content = self.editor.buffer
        self.numbers["cancels"] += 1
        self._insert(len(content), (b"" if content.endswith(b"\n") else self.eol) + b"/cancel" + self.eol, "/cancel")

    def margin(self) -> None:
        """A note behind an older turn."""
        replies = [region for region in self._regions(Part.REPLY) if region.close][:-1]
        if replies:
            reply = self.random.choice(replies)
            place = self.editor.buffer.find(reply.close) + len(reply.close)
            word = self._typed()
            self._insert(place, self.eol + word + self.eol, "margin", reply.id, word)

    def reword(self) -> None:
        """A word in a message that was sent."""
        messages = self._regions(Part.MESSAGE)
        if messages:
            message, word = self.random.choice(messages), self._typed()
            self._insert(self._line_in(message), word + self.eol, "reword", message.id, word)

    def format(self) -> None:
        content = self.editor.buffer
        how = self.random.choice(("blanks", "crlf", "lf", "end", "bom"))
        if how == "blanks":
            content = re.sub(rb"[ \t]+(?=\r?\n)", b"", content)
        elif how == "crlf":
            content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        elif how == "lf":
            content = content.replace(b"\r\n", b"\n")
        elif how == "end":
            content = content.rstrip(b"\r\n")
        elif not content.startswith(b"\xef\xbb\xbf"):
            content = b"\xef\xbb\xbf" + content
        self._edit(content, "format", how)

    def unmark(self) -> None:
        """A marker is deleted: of the draft area, of the end of a reply, of its start."""
        regions = scan(self.editor.buffer, TAG)
        # a stale second editor without the marker of the draft area removes what the other one has seen: known
        lines = [region.open for region in regions if region.part is Part.NEXT and self.kind != "two"]
        lines += [region.close for region in regions if region.close]
        if lines:
            line = self.random.choice(lines)
            self._edit(self.editor.buffer.replace(line, b"", 1), "unmark", line)

    def heading(self) -> None:
        headings = re.findall(rb"(?m)^## .*\n", self.editor.buffer)
        if headings:
            line = self.random.choice(headings)
            self._edit(self.editor.buffer.replace(line, b"", 1), "heading", line)

    def undo(self) -> None:
        """Back by some steps, which may reach behind a save or a reload."""
        if not self.editor.before:
            return
        back = self.random.randint(1, min(6, len(self.editor.before)))
        old = self.editor.before[-back]
        if NEXT not in old and b"<!-- op:" in old:
            return  # without the marker of the draft area it says nothing of what its editor has loaded: known
        del self.editor.before[-back:]
        self.loose |= {word for word in self.typed if word not in old}
        self.editor.buffer, self.editor.dirty = old, True
        self.steps.append(("undo", back))

    def _exchange(self, loaded: bool = True) -> tuple[bytes, set[str]]:
        """A whole exchange as it stands in the buffer, and its ids; as a rule one that has loaded its end."""
        content = self.editor.buffer
        regions = scan(content, TAG)
        names = [region.id for region in regions]
        after = next((region.value("after") for region in regions if region.part is Part.NEXT), "")
        last = names.index(after) if after and after in names else -1
        places = [place for place, region in enumerate(regions) if region.part is Part.REPLY and region.close and place <= last]
        places = (
            places if loaded else [place for place, region in enumerate(regions) if region.part is Part.REPLY and region.close]
        )
        if self.kind == "two" or not places:
            return b"", set()  # a stale second editor may bring it back, or send its text again: known, 9 of 3,000
        place = self.random.choice(places)
        cut = [regions[place]]
        if regions[place - 1].part is Part.MESSAGE:
            cut.insert(0, regions[place - 1])
        raw = b"".join(region.open + region.body + region.close for region in cut)
        ids = {region.id for region in cut}
        if raw not in content or ids & self.daemon.memory.records.parted.keys():
            return b"", set()  # a note behind it stands in the part as well
        return raw, ids

    def delete(self) -> None:
        raw, ids = self._exchange()
        if raw:
            self._edit(self.editor.buffer.replace(raw, b"", 1), "delete", ids)
            self.editor.deleted.append((ids, set(re.findall(rb"[PC]\d{4}q", raw))))
            self.numbers["exchanges deleted"] += 1

    def reorder(self) -> None:
        """A whole exchange goes to the top."""
        raw, ids = self._exchange(loaded=False)
        first = next((region.open for region in self._regions(Part.MESSAGE)), b"")
        if raw and first and not raw.startswith(first):
            self._edit(self.editor.buffer.replace(raw, b"", 1).replace(first, raw + first, 1), "reorder", ids)

    def save(self) -> None:
        if not self.editor.dirty and (self.editor.buffer == self.disk or self.random.random() < 0.7):
            return  # now and then an unchanged buffer, which may be stale
        self._store()
        self.disk = self.editor.buffer
        self.steps.append(("save",))
        self.react()

    def _store(self) -> None:
        for names, words in self.editor.deleted:
            self.gone |= names
            self.loose |= words
        self.editor.deleted = []
        self.editor.dirty = False
        self.saved |= {word for word in self.typed if word in self.editor.buffer}

    def reload(self) -> None:
        if not self.editor.dirty and self.kind != "never":
            if self.editor.buffer != self.disk:
                self.editor.before.append(self.editor.buffer)
            self.editor.buffer = self.disk
            self.steps.append(("reload",))

    # ---- one step and what must hold after it --------------------------------------------------------------------------

    def step(self) -> None:
        if self.kind == "two" and self.random.random() < 0.4:
            self.editor, self.other = self.other, self.editor
        name = self.random.choices(list(self.weights), list(self.weights.values()))[0]
        getattr(self, name)()

    def check(self) -> None:
        if self.stopped:
            self.numbers["steps while damaged"] += 1
            return
        content = self.disk
        regions = scan(content, TAG)
        assert join(regions) == content, "lossless"
        assert regions == self.daemon.memory.document.regions, "regions are what a scan finds"
        found = re.findall(rb"(?m)^<!-- op:k7q2 ([a-z0-9/]+)", content)
        assert len(found) == len(set(found)), f"ids doubled: {found}"
        assert content.count(b"sent when this turn ends <!-- op -->") <= 1, "two notes"
        self._check_replies({region.id: region.body for region in regions})
        lists = re.compile(rb"(?m)^- 2026-.*$")  # of the messages in a part
        shown = [lists.sub(b"", region.raw) if region.part is Part.SUMMARY else region.raw for region in regions]
        self._check_words(b"".join([*shown, *self.daemon.parts]))
        assert self.daemon.cancelled <= self.numbers["cancels"], "a command was obeyed twice"
        again = merge(self.daemon.memory, content)
        assert not again.facts and again.content == content == self.daemon.memory.content(), f"not idempotent: {again.facts}"

    def _check_replies(self, bodies: dict[str, bytes]) -> None:
        parted = {region.id: region.body for part in self.daemon.parts for region in scan(part, TAG)}
        for turn, words in self.streamed.items():
            assert turn not in parted or turn not in bodies, f"in a part and in the file: {turn}"
            body = bodies.get(turn, parted.get(turn))
            if turn in self.gone:
                assert turn in self.back or self.kind == "two" or body is None or "undo" in self.weights, (
                    f"deleted turn came back: {turn}"
                )
                continue
            assert body is not None, f"reply lost: {turn}"
            shown = re.findall(r"A\d{4}q", body.decode())
            assert shown == words, f"reply changed: {turn} {shown} {words}"

    def _check_words(self, content: bytes) -> None:
        messages = b"\n".join(self.daemon.sent)
        for word in self.saved:
            # an exchange that was deleted, then an undo to before it was sent: its text is draft again
            again = word in self.loose and "undo" in self.weights
            assert again or messages.count(word) <= 1, f"sent twice: {word!r}"
            count = content.count(word)
            if (word in self.loose or self.kind == "two") and count <= 1:
                continue  # of two drafts the later one stands, the rest is in saves/
            if not count and any(word in kept for kept in self.daemon.aside):
                self.numbers["aside"] += 1
                continue
            assert count, f"lost: {word!r}"
            assert count == 1, f"doubled: {word!r}"


def live(seed: int, kind: str, eol: bytes, weights: dict[str, int] = PLAIN, steps: int = 60) -> Life:
    """One sequence; raises AssertionError where something does not hold."""
    life = Life(seed, kind, eol, weights)
    for _ in range(steps):
        life.step()
        life.check()
    return life


def main(count: int, first: int = 0) -> int:
    failed: dict[str, list[int]] = {}
    totals: collections.Counter[str] = collections.Counter()
    for name, weights in (("plain", PLAIN), ("rich", RICH)):
        for kind in KINDS:
            for eol in (b"\n", b"\r\n"):
                for seed in range(first, first + count):
                    totals["sequences"] += 1
                    try:
                        life = live(seed, kind, eol, weights)
                    except Exception as error:
                        words = re.sub(r"\d+", "N", f"{type(error).__name__} {error}".split("\n")[0])[:60]
                        failed.setdefault(f"{name} {kind} {eol!r} {words}", []).append(seed)
                        continue
                    totals["messages"] += len(life.daemon.sent)
                    totals += life.numbers
                    totals += life.daemon.facts
    print(dict(totals))
    for what, seeds in failed.items():
        print(len(seeds), what, seeds[:5])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
