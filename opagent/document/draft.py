"""The draft area of a file: what the next send would take, the gesture under it, the box and the daemon's note; sends nothing.

API: `Gesture`, `Said`, `read`; `is_text`, `asks`, `gestures`, `less`, `without_gesture`, `with_gesture`; `without_notes`,
`note_of`, `notes`, `noted`, `area_body`, `boxed`, `has_box`; `unmerged`.

No word inside text is a gesture: only the last line of a draft, or the ticked box, is one. (Design: "The draft and sending".)
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from opagent.document.excerpt import one_line
from opagent.document.lines import words
from opagent.document.notices import alert
from opagent.document.parse import Part, scan

_BOX = re.compile(rb"^[-*+] \[([ xX])\] (?:\*\*|__)?Send(?:\*\*|__)?(?:[ \t]*<!--[^\n]*-->)?[ \t]*(?=\r?$)", re.M)
_EMPTY_BOX = b"- [ ] **Send**"
NOTE = b"<!-- op -->"  # ends the last line of the daemon's note
_NOTE = re.compile(
    rb"^(?:> \[!NOTE\][ \t]*\r?\n((?:>[^\n]*\n){0,20}?>[^\n]*)|(>[^\n]*))<!-- op -->[ \t]*(?:\r?\n(?:[ \t]*\r?\n)?|\Z)", re.M
)
_HEADING = re.compile(rb"\A\s*## [^\n]*(?:\n|\Z)(?:[ \t]*\r?\n)?")
_BLANK_START = re.compile(rb"\A(?:[ \t]*\r?\n)+")
_CONFLICT = re.compile(rb"^<<<<<<< ", re.M)
_SENDS = (b"/send", b"/steer")
_COMMAND = re.compile(rb"/([a-z]+)(?:[ \t]+(.*?))?[ \t\r]*")
_ID = rb"(?:[a-z][0-9a-z]{0,15})?"
# what may follow the word of a command that acts at once; a line that does not fit is text
_ARGUMENTS = {
    b"cancel": re.compile(rb""),
    b"retry": re.compile(rb""),
    b"compact": re.compile(rb""),
    b"fork": re.compile(_ID),
    b"allow": re.compile(_ID + rb"(?:[ \t]*(?:once|conversation))?"),
    b"deny": re.compile(rb".*"),
}


class Gesture(enum.Enum):
    """What the end of a draft asks for; the value is the word of its line."""

    NONE = ""
    SEND = "send"
    STEER = "steer"
    CANCEL = "cancel"
    RETRY = "retry"
    ALLOW = "allow"
    DENY = "deny"
    FORK = "fork"
    COMPACT = "compact"

    @property
    def commands(self) -> bool:
        """Whether it acts at once and leaves the draft alone."""
        return self is not Gesture.NONE and not self.sends

    @property
    def sends(self) -> bool:
        """Whether it takes the draft."""
        return self in (Gesture.SEND, Gesture.STEER)


@dataclass(frozen=True, slots=True)
class Said:
    """A draft as read. `text` has no gesture lines, box and notes, else it is as typed; `argument` follows a command's word."""

    gesture: Gesture
    text: bytes
    argument: str = ""


def read(draft: bytes) -> Said:
    """What a draft (without its heading) says. A command in its last line comes before a ticked box."""
    text, ticked = _without_box(without_notes(draft))
    lines = text.split(b"\n")
    while len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    word, argument = _command(lines[-1])
    if word:
        return Said(Gesture(word.decode()), _trimmed(lines[:-1]), argument.decode("utf-8", "replace"))
    gesture = Gesture.SEND if ticked else Gesture.NONE
    while lines and lines[-1].rstrip() in (*_SENDS, b""):
        last = lines.pop().rstrip()
        if last and gesture is not Gesture.STEER:
            gesture = Gesture(last[1:].decode())
    return Said(gesture, _trimmed(lines))


def _without_box(draft: bytes) -> tuple[bytes, bool]:
    """The draft without its last box, and whether that was ticked."""
    boxes = list(_BOX.finditer(draft))
    if not boxes:
        return draft, False
    box = boxes[-1]
    return draft[: box.start()] + draft[box.end() :], box[1] in b"xX"


def _command(line: bytes) -> tuple[bytes, bytes]:
    """Word and argument of a line that is a command; two empty texts for any other."""
    found = _COMMAND.fullmatch(line)
    form = _ARGUMENTS.get(found[1]) if found else None
    argument = (found[2] or b"") if found else b""
    return (found[1], argument) if found and form and form.fullmatch(argument) else (b"", b"")


def _trimmed(lines: Sequence[bytes]) -> bytes:
    """Without the blank lines around it. Blanks at the end of its last line are typed: two of them break a line."""
    end = next((place for place in range(len(lines), 0, -1) if lines[place - 1].strip()), 0)
    return _BLANK_START.sub(b"", b"\n".join(lines[:end])).rstrip(b"\r")


def without_gesture(draft: bytes) -> bytes:
    """What stays after a gesture was obeyed: without a command's line; without sending lines, and the box not ticked."""
    said = read(draft)
    if said.gesture.sends:
        return said.text
    lines = draft.split(b"\n")
    commands = [place for place, line in enumerate(lines) if _command(line)[0]] if said.gesture is not Gesture.NONE else []
    return b"\n".join(line for place, line in enumerate(lines) if place not in commands[-1:])


def with_gesture(text: bytes, said: Said, eol: bytes) -> bytes:
    """A text with what `said` asks for at its end."""
    if said.gesture is Gesture.NONE or not text.strip():
        return text
    line = f"/{said.gesture.value} {said.argument}".rstrip() if said.gesture is not Gesture.SEND else "- [x] **Send**"
    return _trimmed(text.split(b"\n")) + eol * 2 + line.encode() + eol


def less(draft: bytes, taken: Iterable[bytes]) -> bytes:
    """Without one line for each of `taken` that it holds, from the end on; blanks around a line do not count."""
    left = Counter(line.strip() for line in taken)
    kept = []
    for line in reversed(draft.split(b"\n")):
        if left[line.strip()] > 0:
            left[line.strip()] -= 1
        else:
            kept.append(line)
    return b"\n".join(reversed(kept))


def is_text(line: bytes) -> bool:
    """Whether a line of a draft belongs to what is said: neither blank, nor a sending line, nor a box."""
    bare = line.strip()
    return bool(bare) and bare not in _SENDS and not _BOX.match(bare)


def asks(line: bytes) -> bool:
    """Whether a line asks for something where it is the last one: it sends, or is a command."""
    return bool(line.strip()) and (not is_text(line) or bool(_command(line.strip())[0]))


def gestures(draft: bytes) -> int:
    """How many lines of a draft send it, wherever they stand."""
    ticked = sum(box[1] in b"xX" for box in _BOX.finditer(draft))
    return ticked + sum(line.rstrip() in _SENDS for line in draft.split(b"\n"))


def without_notes(draft: bytes, known: str | None = None) -> bytes:
    """Without the daemon's notes. Of a note that is not `known`, the lines that a person wrote into it stay."""
    if NOTE not in draft:
        return draft
    return _NOTE.sub(lambda note: b"" if known is None else _foreign(note, words(known.encode())), draft)


def notes(content: bytes) -> str:
    """All that stands in notes of a daemon."""
    return " ".join(note[1].decode("utf-8", "replace") for note in _NOTE.finditer(content))


def note_of(body: bytes) -> str:
    """The text of the daemon's note in a draft area."""
    found = _NOTE.search(body) if NOTE in body else None
    return " ".join(re.sub(r"(?m)^>", "", (found[1] or found[2]).decode("utf-8", "replace")).split()) if found else ""


def _foreign(note: re.Match[bytes], known: str) -> bytes:
    lines = (line for line in (note[1] or note[2]).split(b"\n") if words(line).strip() and words(line) not in known)
    return b"".join(line + b"\n" for line in lines)


def noted(body: bytes, note: str, eol: bytes) -> bytes:
    """The body of a draft area with this note and no other, below the heading."""
    body = without_notes(body)
    if not note:
        return body
    found = _HEADING.match(body)
    place = found.end() if found else 0
    block = alert("NOTE", one_line(note, 400)).rstrip("\n").encode() + b" <!-- op -->\n\n"
    gap = b"" if not place or body[:place].endswith(b"\n") else eol
    return body[:place] + gap + block.replace(b"\n", eol) + body[place:]


def area_body(heading: str, draft: bytes, note: str, eol: bytes) -> bytes:
    """The body of a draft area: heading, note, draft, and a box unless the draft holds one."""
    text = draft.strip(b"\r\n")
    body = heading.encode() + eol * 2 + (text + eol if text.strip() else b"")
    return noted(boxed(body, eol), note, eol)


def has_box(draft: bytes) -> bool:
    return bool(_BOX.search(draft))


def boxed(body: bytes, eol: bytes) -> bytes:
    """With a box as the last line, unless there is one."""
    if has_box(body):
        return body
    gap = b"" if not body or body.endswith(eol * 2) else eol if body.endswith(b"\n") else eol * 2
    return body + gap + _EMPTY_BOX + eol


def unmerged(content: bytes, tag: str, known: Collection[bytes] | None = None) -> bool:
    """Whether git left its marks in the file: a line `<<<<<<< ` outside replies and messages, which may quote one.

    With the bodies that are `known`, one in any other message counts, too.
    """
    if b"<<<<<<< " not in content:
        return False
    for region in scan(content, tag):
        quoted = region.part is Part.REPLY or (region.part is Part.MESSAGE and (known is None or region.body in known))
        if _CONFLICT.search(region.tail if quoted else region.raw):
            return True
    return False
