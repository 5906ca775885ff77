"""One check from prompt to report: reads the files, says what is wrong and where, and corrects what a person allows."""

import os
from dataclasses import dataclass, field
from urllib.parse import quote

from proofreader import checks, files
from proofreader.checks import Finding
from proofreader.files import Passed, Text
from proofreader.request import Request
from proofreader.turn import Cancelled, Turn

SHOWN, SHOWN_OF_ONE = 200, 50  # remarks
MAX_TOTAL = 32 << 20  # bytes of all files of one check
HELLO = """I check the spelling and style of Markdown and text files; I have no model and use no network.

- `check`, `check README.md docs/`: remarks, each with file and line
- `check . and fix`, `/fix README.md`: the same, and I correct misspelt and doubled words, each file when you allow it
- `check this: ...`, or a text below the first line: that text

Code, addresses, names of files and front matter are left alone, and so is what `.gitignore` files name.
"""


@dataclass(slots=True)
class Checked:
    """What one check read and found."""

    found: dict[str, tuple[Text, list[Finding]]] = field(default_factory=dict)
    passed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def remarks(self) -> int:
        return sum(len(remarks) for _, remarks in self.found.values())


def run(turn: Turn, request: Request) -> None:
    """Raises Cancelled, OSError."""
    if request.help:
        turn.say(HELLO)
        return
    for word in request.missing:
        turn.say(f"There is no `{word}` in this directory.\n\n")
    if request.missing and not request.paths:
        return
    if request.passage:
        text = Text("text", b"", request.passage, "utf-8", b"")
        checked = _check(turn, [text], [], "Check the text")
    else:
        texts, passed = _read(turn, request.paths or ("",))
        checked = _check(turn, texts, passed, f"Check {_count(len(texts), 'file')}")
    turn.say(_report(turn, checked, request))
    if request.fix:
        _fix(turn, checked, bool(request.passage))


def _read(turn: Turn, paths: tuple[str, ...]) -> tuple[list[Text], list[tuple[str, str]]]:
    texts: dict[str, Text] = {}
    passed: list[tuple[str, str]] = []
    total = 0
    for start in paths:
        folder = os.path.isdir(os.path.join(turn.root, start))
        for path in files.find(turn.root, start, turn.conversations) if folder else [start]:
            turn.check()
            if len(texts) >= files.MAX_FILES or total > MAX_TOTAL:
                passed.append((path, f"and what comes after it: more than {files.MAX_FILES} files or {MAX_TOTAL >> 20} MiB"))
                return list(texts.values()), passed
            try:
                texts[path] = files.read(turn.root, path)
                total += len(texts[path].data)
            except Passed as why:
                passed.append((path, str(why)))
    return list(texts.values()), passed


def _check(turn: Turn, texts: list[Text], passed: list[tuple[str, str]], title: str) -> Checked:
    places = [turn.place(text.path) for text in texts[:20] if text.data]
    tool = turn.tool("read", title, **({"locations": places} if places else {}))
    checked = Checked(passed=passed)
    try:
        wrong = checks.misspelt((checks.seen(text) for text in texts), lambda: turn.stopped)
        for text in texts:
            turn.check()
            checked.found[text.path] = text, checks.findings(text, wrong)
    except BaseException:
        tool.end("failed")
        raise
    tool.end("completed", title=f"{title}: {_count(checked.remarks, 'remark')}")
    return checked


def _report(turn: Turn, checked: Checked, request: Request) -> str:
    lines, shown = [], 0
    for text, remarks in checked.found.values():
        rows = remarks[: max(0, min(SHOWN_OF_ONE, SHOWN - shown))]
        shown += len(rows)
        lines += [_row(turn, text, each) for each in rows]
        if len(rows) < len(remarks):
            lines.append(f"- `{text.path}`: {len(remarks) - len(rows)} more; `check {text.path}` shows {SHOWN_OF_ONE} of a file")
    lines += [f"- `{path}` was not read: {why}" for path, why in checked.passed[:20]]
    where = "the text" if request.passage else _count(len(checked.found), "file")
    total = f"{_count(checked.remarks, 'remark')} on {where}."
    if not checked.remarks:
        total = f"Nothing to remark on {where}."
    sure = sum(each.sure for _, remarks in checked.found.values() for each in remarks)
    if sure and not request.fix and not request.passage:
        total += f" {_count(sure, 'of them')} I can correct: say `fix`, with a file or without one."
    return "\n".join([*lines, "", total] if lines else [total]) + "\n"


def _row(turn: Turn, text: Text, each: Finding) -> str:
    line = text.text.count("\n", 0, each.start) + 1
    instead = f" → {', '.join(each.instead)}" if each.instead and each.rule != checks.SPELLING and not each.sure else ""
    message = each.message.replace("<", "\\<").replace("*", "\\*")
    where = f"`{text.path}:{line}`"
    if text.data:
        base = turn.conversations or "."
        where = f"[{text.path}:{line}]({quote(os.path.relpath(text.path, base))}#L{line})"
    return f"- {where} {message}{instead} ({each.rule.split('.')[0].replace('_', ' ')})"


def _fix(turn: Turn, checked: Checked, passage: bool) -> None:
    done = left = 0
    for text, remarks in checked.found.values():
        new, count = checks.corrected(text.text, remarks)
        if not count:
            continue
        if passage:
            turn.say(f"\nCorrected:\n\n{new}\n")
        elif _correct(turn, text, new, count):
            done += 1
        else:
            left += 1
    if passage:
        return
    if not (done or left):
        turn.say("\nThere is nothing that I am sure enough of to correct.\n")
        return
    rest = "" if not left else ", 1 file left as it was" if left == 1 else f", {left} files left as they were"
    turn.say(f"\n{_count(done, 'file')} corrected{rest}.\n")


def _correct(turn: Turn, text: Text, new: str, count: int) -> bool:
    """One file, after asking."""
    turn.check()
    title = f"Correct {_count(count, 'word')} in {text.path}"
    content = [{"type": "diff", "path": os.path.join(turn.root, text.path), "oldText": text.text, "newText": new}]
    places = [turn.place(text.path)]
    tool = turn.tool("edit", title, content=content, locations=places)
    why = "not allowed"
    try:
        if turn.permission(tool.call):
            files.replace(turn.root, text, text.encoded(new))
            tool.end("completed")
            return True
    except Cancelled:
        tool.end("failed", title=f"{title}: cancelled")
        raise
    except (OSError, Passed, UnicodeEncodeError) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        turn.say(f"\n`{text.path}` was not written: {why}.\n")
    tool.end("failed", title=f"{title}: {why}")
    return False


def _count(number: int, what: str) -> str:
    if what == "of them":
        return f"{number} of them"
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
