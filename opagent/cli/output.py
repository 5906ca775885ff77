"""Everything that reaches the terminal: results on stdout, talk and errors on stderr. The only module that prints.

Agents, files and people's names are strangers: `clean` is applied to every text that is written here, so that no escape
sequence, control or direction character of theirs acts on a terminal.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from opagent.control import event_json
from opagent.errors import OpAgentError

if TYPE_CHECKING:
    from opagent.model import Event

SCHEMA = 1  # of every object that `--json` prints
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

# C0 but tab and newline, DEL, C1, direction marks and overrides, zero width, line separators, tags, lone surrogates
_UNSAFE = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)


def clean(text: str) -> str:
    """Text that cannot act on a terminal: what could is shown as `<U+001B>`; CRLF becomes LF; tabs and newlines stay."""
    if text.isprintable():
        return text
    return _unsafe().sub(lambda match: f"<U+{ord(match[0]):04X}>", text.replace("\r\n", "\n"))


@functools.cache
def _unsafe() -> re.Pattern[str]:
    """Compiled when there is something to look for."""
    return re.compile(_UNSAFE)


@dataclass(frozen=True, slots=True)
class Style:
    """How to print: `format` is text, json, jsonl or ids; `color` None lets the terminal and the environment decide."""

    format: str = "text"
    color: bool | None = None
    quiet: bool = False


class Output:
    """The two streams of one run. Raises BrokenPipeError when the reader of stdout is gone."""

    def __init__(self, style: Style) -> None:
        self.format = style.format
        self._style = style
        self._at_line_start = True
        self._held = ""
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal that knows no UTF-8

    @property
    def json(self) -> bool:
        return self.format in ("json", "jsonl")

    def data(self, text: str = "") -> None:
        """One line or more of the result."""
        _write(sys.stdout, clean(text) + "\n")

    def raw(self, text: str) -> None:
        """A result of ours that is no text of a stranger and must not be changed: a shell script, colours of our own."""
        _write(sys.stdout, text)

    def stream(self, text: str) -> None:
        """A piece of an answer as it comes; a CR LF may be cut in the middle."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r")
        if text:
            self._at_line_start = text.endswith("\n")
            _write(sys.stdout, clean(text))

    def end_line(self) -> None:
        """Whatever streamed last ends its line, so that the next thing stands on its own."""
        if not self._at_line_start:
            self._at_line_start = True
            _write(sys.stdout, "\n")

    def talk(self, text: str) -> None:
        """Progress and notices; `-q` silences them. On a terminal they do not continue a line of the answer."""
        if not self._style.quiet:
            if sys.stdout.isatty():
                self.end_line()
            _write(sys.stderr, clean(text) + "\n")

    def result(self, value: Mapping[str, Any]) -> None:
        """One JSON object: the whole result of a command. ASCII only, so that it is safe on a terminal as well."""
        indent = None if self.format == "jsonl" else 2
        _write(sys.stdout, json.dumps({"schema": SCHEMA, **value}, indent=indent) + "\n")

    def item(self, value: Mapping[str, Any]) -> None:
        """One JSON object a line: a piece of a stream."""
        _write(sys.stdout, json.dumps({"schema": SCHEMA, **value}, separators=(",", ":")) + "\n")

    def event(self, event: Event, host: str) -> None:
        body = event_json(event)
        kind = body.pop("kind")
        self.item({"seq": event.seq, "host": host, "conversation": event.conversation, "type": kind, **body})

    def records(self, name: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], empty: str) -> None:
        """A list in the format asked for; `columns` maps a heading to the key of a row, `empty` is what to say of none."""
        if self.format == "json":
            self.result({name: list(rows)})
        elif self.format == "jsonl":
            for row in rows:
                self.item(row)
        elif self.format == "ids":
            for row in rows:
                self.data(str(row.get("id") or row.get("path") or ""))
        elif rows:
            self.table(columns, ([row.get(key) for key in columns.values()] for row in rows))
        else:
            self.talk(empty)

    def table(self, headings: Iterable[str], rows: Iterable[Sequence[Any]]) -> None:
        """Columns without boxes; cut to the width of a terminal, whole when piped."""
        cells = [[clean("-" if cell in (None, "") else str(cell)).replace("\n", " ") for cell in row] for row in rows]
        lines = [list(headings), *cells]
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        limit = _columns() if sys.stdout.isatty() else 1 << 20
        for number, line in enumerate(lines):
            text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            text = text if len(text) <= limit else text[: limit - 1] + "…"
            _write(sys.stdout, (self.paint(text, "bold") if number == 0 else text) + "\n")

    def error(self, error: OpAgentError) -> None:
        """What, why, the command that helps: three lines on stderr, or an object on stdout where JSON was asked for."""
        if self.json:
            self.item({"error": error.as_json()})
            return
        word = self.paint("error:", "red", sys.stderr)
        _write(sys.stderr, f"{word} {clean(error.what)}\n")
        for line in error.why.splitlines():
            _write(sys.stderr, f"       {clean(line)}\n")
        if error.hint:
            _write(sys.stderr, f"  try: {self.paint(clean(error.hint), 'bold', sys.stderr)}\n")

    def paint(self, text: str, style: str, stream: TextIO | None = None) -> str:
        """Our own text in a colour, where colours are wanted."""
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.colored(stream or sys.stdout) else text

    def colored(self, stream: TextIO) -> bool:
        if self._style.color is not None:
            return self._style.color
        if "NO_COLOR" in os.environ:
            return False
        if os.environ.get("FORCE_COLOR"):
            return True
        return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def ask(self, question: str) -> str:
        """A line from the person at the terminal, "" at its end. The caller has made sure that there is one."""
        self.end_line()
        sys.stderr.write(clean(question))
        sys.stderr.flush()
        return sys.stdin.readline().strip()

    def ask_secret(self, question: str) -> str:
        """Like `ask`, and what is typed is not shown. Raises EOFError."""
        import getpass

        self.end_line()
        return getpass.getpass(clean(question))

    def status(self, text: str) -> None:
        """One line on stderr that the next one takes the place of; empty: it is wiped. Nothing where that is no terminal."""
        if not self._style.quiet and sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{clean(text)}")
            sys.stderr.flush()


def _columns() -> int:
    import shutil  # 2 ms that only a terminal needs

    return shutil.get_terminal_size().columns


def close_stdout() -> None:
    """After a closed pipe: the interpreter's own flush at exit must not complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        if stream is sys.stdout:
            raise
