"""Pieces of Markdown that may hold any text: fences, code spans, quotes, excerpts, diffs; knows no events.

API: `fence`, `code`, `quote`, `one_line`, `inert`, `visible`, `excerpt`, `diff`, `Excerpt`, `Change`.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from dataclasses import dataclass

from opagent.document.clean import clean
from opagent.document.markers import escape

OUTPUT_LINES, OUTPUT_BYTES, DIFF_LINES = 20, 2048, 60
_ALIGNED = 2000  # lines a side; beyond, a diff is all old lines, then all new ones
_CONTEXT = 3
_HIDDEN = {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"}


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The shown part of an output. `whole` is empty where nothing was cut, else all of it, to be stored under `name`."""

    text: str
    whole: str = ""
    lines: int = 0

    @property
    def name(self) -> str:
        return hashlib.sha256(self.whole.encode()).hexdigest()[:12] + ".txt"


@dataclass(frozen=True, slots=True)
class Change:
    """A diff without its file header, and how many lines it adds and removes."""

    lines: tuple[str, ...]
    added: int
    removed: int


def _longest(text: str, character: str) -> int:
    return max((len(run) for run in re.findall(re.escape(character) + "+", text)), default=0)


def fence(text: str, info: str = "text") -> str:
    """A fenced block around any clean text: the fence is longer than every run of backticks inside."""
    ticks = "`" * max(3, _longest(text, "`") + 1)
    end = "" if text.endswith("\n") or not text else "\n"
    return f"{ticks}{info}\n{escape(text)}{end}{ticks}\n"


def one_line(text: str, limit: int = 160) -> str:
    """Clean, blanks folded, cut with an ellipsis."""
    folded = " ".join(clean(text[: limit * 8]).split())
    return folded if len(folded) <= limit else folded[: limit - 1] + "…"


def code(text: str) -> str:
    """A code span around a single line of any text."""
    if not text:
        return ""
    ticks = "`" * (_longest(text, "`") + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def inert(text: str) -> str:
    """A single line that cannot open HTML, a link or a comment in running text."""
    return re.sub(r"<(?=[A-Za-z/!?])", r"\\<", text)


def quote(text: str) -> str:
    """Every line behind `> `; ends with a line end."""
    return "".join(f"> {line}".rstrip(" ") + "\n" for line in text.removesuffix("\n").split("\n"))


def visible(text: str) -> str:
    """What a person is asked to allow: control, bidi, zero-width and private characters as U+XXXX, line ends kept."""
    text = text.replace("\r\n", "\n")
    return "".join(
        f"U+{ord(character):04X}" if character not in "\n\t" and unicodedata.category(character) in _HIDDEN else character
        for character in text
    )


def excerpt(text: str) -> Excerpt:
    """The first 20 lines or 2 kB of clean text."""
    text = text.removesuffix("\n")
    lines = text.count("\n") + 1
    shown = "\n".join(text[: OUTPUT_BYTES * 2].split("\n", OUTPUT_LINES)[:OUTPUT_LINES])
    shown = shown.encode()[:OUTPUT_BYTES].decode("utf-8", "ignore")
    return Excerpt(shown, "" if shown == text else text, lines)


def diff(old: str, new: str) -> Change:
    """Old and new text -> unified hunks. Bounded: what is common at both ends is cut first, very long rests are not lined up."""
    before, after = old.splitlines(), new.splitlines()
    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    inner_old, inner_new = before[head : len(before) - tail], after[head : len(after) - tail]
    first, last = max(0, head - _CONTEXT), max(0, tail - _CONTEXT)
    if max(len(inner_old), len(inner_new)) > _ALIGNED:
        lines = [f"@@ -{head + 1},{len(inner_old)} +{head + 1},{len(inner_new)} @@"]
        lines += [f"-{line}" for line in inner_old] + [f"+{line}" for line in inner_new]
    else:
        part_old, part_new = before[first : len(before) - last], after[first : len(after) - last]
        unified = difflib.unified_diff(part_old, part_new, lineterm="", n=_CONTEXT)
        lines = [_moved(line, first) if line.startswith("@@") else line for line in unified][2:]
    added = sum(line.startswith("+") for line in lines)
    return Change(tuple(lines), added, sum(line.startswith("-") for line in lines))


def _common(first: list[str], second: list[str]) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def _moved(hunk: str, lines: int) -> str:
    """A hunk header of a cut text, with the line numbers of the whole one."""
    return re.sub(r"(?<=[-+])\d+", lambda found: str(int(found.group()) + lines), hunk, count=2)
