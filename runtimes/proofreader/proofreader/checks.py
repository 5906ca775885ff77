"""What codespell and proselint find in a text; it changes nothing.

codespell runs as a process of its own: its licence is the GPL, and its interface is what it prints.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofreader.files import Text
from proofreader.prose import visible

LIBRARIES = str(Path(__file__).resolve().parent.parent / "lib")
SPELLING, DOUBLED = "spelling", "lexical_illusions"
LONGEST_WORD = 60
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_FOUND = re.compile(r"(\d+): (.+?) ==> (.+)")
_RUN = """import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv.pop(1))
from codespell_lib import main
sys.exit(main(*sys.argv[1:]))"""
# Renderers of Markdown make these signs themselves, and a checklist may well say "todo".
_SILENT = ("typography", "annotations")


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark about `start` to `end` of a text. `instead`: what may be written there; one of them is sure where `sure`."""

    start: int
    end: int
    rule: str
    message: str
    instead: tuple[str, ...]
    sure: bool


def misspelt(texts: Iterable[str], stopped: Callable[[], bool]) -> dict[str, tuple[str, ...]]:
    """Words of these texts that codespell knows as misspelt -> what they may mean. Raises OSError where it cannot run."""
    words = sorted({word[0] for text in texts for word in _WORD.finditer(text) if len(word[0]) <= LONGEST_WORD})
    argv = [sys.executable, "-I", "-S", "-c", _RUN, LIBRARIES, "--stdin-single-line", "--config", "/dev/null", "-"]
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", cwd="/"
    )
    said: str | None = None
    given: str | None = "".join(f"{word}\n" for word in words)
    while said is None:
        try:
            said, errors = process.communicate(given, timeout=0.2)
        except subprocess.TimeoutExpired:
            given = None
            if stopped():
                process.kill()
    if process.returncode not in (0, 65) and not stopped():  # 65: it found something
        raise OSError(process.returncode, f"codespell failed: {errors.strip()[-300:]}")
    found = {}
    for line in said.splitlines():
        if match := _FOUND.fullmatch(line):
            found[words[int(match[1]) - 1]] = tuple(part for part in map(str.strip, match[3].split(",")) if part)
    return found


def findings(text: Text, wrong: dict[str, tuple[str, ...]]) -> list[Finding]:
    """Of one file, in order; where two overlap the spelling counts."""
    shown = seen(text)
    found = list(_spelling(shown, wrong))
    taken = [(each.start, each.end) for each in found]
    for remark in style(shown):
        if not any(remark.start < end and start < remark.end for start, end in taken):
            found.append(remark)
            taken.append((remark.start, remark.end))
    return sorted(found, key=lambda each: (each.start, each.end))


def seen(text: Text) -> str:
    return visible(text.text, text.path.lower().endswith((".md", ".markdown", ".mdown")))


def _spelling(shown: str, wrong: dict[str, tuple[str, ...]]) -> Iterator[Finding]:
    for word in _WORD.finditer(shown):
        if instead := wrong.get(word[0]):
            said = " or ".join(f"“{each}”" for each in instead)
            yield Finding(word.start(), word.end(), SPELLING, f"“{word[0]}”: {said}?", instead, len(instead) == 1)


def style(shown: str) -> Iterator[Finding]:
    """What proselint remarks. A repeated word is the only remark of its that is sure."""
    lint_file, config = _proselint()
    for result in lint_file("text", shown).lint(config):
        found = result.check_result
        start, end = found.span[0] - 1, found.span[1] - 1  # it puts a line end before the text
        words = shown[start:end]
        start, end = start + len(words) - len(words.lstrip()), end - len(words) + len(words.rstrip())
        rule = found.check_path.split(".")[0]
        twice = words.split()
        if rule == DOUBLED and len(twice) == 2 and twice[0].lower() == twice[1].lower():
            yield Finding(start, end, DOUBLED, f"“{' '.join(twice)}”: said twice?", (twice[0],), True)
        elif words.strip() and rule != "restricted":
            instead = (found.replacements,) if found.replacements else ()
            yield Finding(start, end, found.check_path, " ".join(found.message.split()), instead, False)


def _proselint() -> tuple[Any, Any]:
    """Imported by the first check: it takes a fifth of a second."""
    from proselint.checks import __register__
    from proselint.config import DEFAULT
    from proselint.registry import CheckRegistry
    from proselint.tools import LintFile

    registry = CheckRegistry()
    if not registry.checks:
        registry.register_many(__register__)
    checks = {**DEFAULT["checks"], **dict.fromkeys(_SILENT, False)}
    return LintFile, {"max_errors": 1000, "checks": checks}


def corrected(text: str, found: Iterable[Finding]) -> tuple[str, int]:
    """The text with every sure correction, and how many there were."""
    parts, at, count = [], 0, 0
    for each in found:
        if each.sure and each.start >= at:
            parts += [text[at : each.start], each.instead[0]]
            at, count = each.end, count + 1
    return "".join([*parts, text[at:]]), count
