"""A draft typed in an editor that never saw its text being sent: every line goes back to the message or draft it belongs to.

API: `split`, `Split`. Gestures are not lined up, or one used again would move text between messages. (Design: "The merge".)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from opagent.document.draft import is_text
from opagent.document.lines import aligned

_DRAFT = ""  # the owner of what was not sent


@dataclass(slots=True)
class Split:
    """`edited`: new texts of messages that the stale draft changed."""

    draft: bytes
    edited: dict[str, bytes] = field(default_factory=dict)


def split(sent: Mapping[str, bytes], base: bytes, theirs: bytes, held: Collection[bytes]) -> Split:
    """`sent`: the drafts that became messages, in order; `base`: the draft as we know it; `held`: lines that stand elsewhere.

    A line missing from a message was deleted there; one missing from the base stays: a stale editor cannot delete what it
    never saw. A new line belongs to the line before it, after a message's last line to what follows.
    """
    old = [(line, owner) for owner, raw in (*sent.items(), (_DRAFT, base)) for line in raw.split(b"\n") if is_text(line)]
    new = _with_blanks(theirs)
    codes = aligned([line.strip() for line, _ in old], [line.strip() for _, line in new])
    moved = _moved(codes, old, new)
    gone = {place for place, _ in moved.values()}
    texts: dict[str, list[bytes]] = {owner: [] for owner in (*sent, _DRAFT)}
    last = {owner: place for place, (_, owner) in enumerate(old)}
    for kind, i1, i2, j1, j2 in codes:
        if kind != "equal":
            for place in range(i1, i2):
                line, owner = old[place]
                if place not in gone and (owner == _DRAFT or line.strip() in held):
                    texts[owner].append(line)
        for place in range(j1, j2):
            if kind == "equal":
                owner = old[i1 + place - j1][1]
            elif place in moved:
                owner = moved[place][1]
            else:
                owner = _owner(old, last, i1, replaced=kind == "replace")
            blanks, line = new[place]
            texts[owner] += [*blanks, line]
    edited = {owner: _joined(texts[owner]) for owner, raw in sent.items() if _said(texts[owner]) != _said(raw.split(b"\n"))}
    return Split(b"\n".join(texts[_DRAFT]), {name: text for name, text in edited.items() if text})


def _moved(
    codes: Sequence[tuple[str, int, int, int, int]], old: Sequence[tuple[bytes, str]], new: Sequence[tuple[list[bytes], bytes]]
) -> dict[int, tuple[int, str]]:
    """New lines that are an old one at another place: where that was, and whose."""
    left: dict[bytes, list[int]] = {}
    for kind, i1, i2, _, _ in codes:
        for place in range(i1, i2) if kind != "equal" else ():
            left.setdefault(old[place][0].strip(), []).append(place)
    found = {}
    for kind, _, _, j1, j2 in codes:
        for place in range(j1, j2) if kind != "equal" else ():
            if places := left.get(new[place][1].strip()):
                found[place] = (places[0], old[places.pop(0)][1])
    return found


def _said(texts: Sequence[bytes]) -> list[bytes]:
    return [line.strip() for line in texts if is_text(line)]


def _with_blanks(draft: bytes) -> list[tuple[list[bytes], bytes]]:
    """The lines of a draft that are text, each with the blank lines before it."""
    found: list[tuple[list[bytes], bytes]] = []
    blanks: list[bytes] = []
    for line in draft.split(b"\n"):
        if is_text(line):
            found.append((blanks, line))
            blanks = []
        elif not line.strip():
            blanks = [*blanks, line]
    return found


def _owner(old: list[tuple[bytes, str]], last: Mapping[str, int], place: int, replaced: bool) -> str:
    """Whose the new lines are that stand before the old line at `place`, or instead of it."""
    if replaced:
        return old[place][1]
    before = old[place - 1][1] if place else old[0][1] if old else _DRAFT
    if before != _DRAFT and place > last[before]:
        return old[place][1] if place < len(old) else _DRAFT
    return before


def _joined(texts: list[bytes]) -> bytes:
    return b"\n".join(texts).strip(b"\r\n")
