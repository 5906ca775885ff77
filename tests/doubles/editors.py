"""Real editors on a pseudo-terminal, as a person uses them: open, read the screen, type at the end, save, say yes, be killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pyte

from opagent.watch.dirty import dirty
from tests.doubles.patience import PATIENCE, until

ESCAPE, ENTER = "\x1b", "\r"
COLUMNS, LINES = 120, 200


@dataclass(frozen=True, slots=True)
class Program:
    """`type`: the keys around a text typed at the end. `replace`: the keys that change {old} into {new}.

    `trace`: what it leaves while a buffer is changed, below HOME where it has a slash. `reload`: the settings of the guide that
    make it load a file which changed on disk; empty where it cannot. `questions`: what it asks when that happened, and yes.
    """

    argv: tuple[str, ...]
    type: tuple[str, str]
    save: str
    replace: str
    trace: str
    reload: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]
    quit: str


_ROOM = ("--cmd", "set cmdheight=5")  # for what it says: where that fits it waits for no key, which would go between those typed
_VI = (
    ("Go", ESCAPE), f":w{ENTER}", f":%s#\\V{{old}}#{{new}}#{ENTER}",
)  # fmt: skip
_CHECKTIME = ("-c", "set autoread | call timer_start(1000, {-> execute('silent! checktime')}, {'repeat': -1})")
_ASKS, _QUIT = (("Do you really want to write to it", "y"),), f":q{ENTER}"
_NANO = (
    (f"{ESCAPE}/", ENTER), f"\x0f{ENTER}", f"\x1c{{old}}{ENTER}{{new}}{ENTER}y", ".{name}.swp", (),
    (("was modified since you opened it; continue saving?", "y"),), "\x18",
)  # fmt: skip
EDITORS = {
    "vim": Program(("vim", "-u", "NONE", "-N", *_ROOM), *_VI, ".{name}.swp", _CHECKTIME, _ASKS, _QUIT),
    "vim backupcopy=yes": Program(
        ("vim", "-u", "NONE", "-N", *_ROOM, "--cmd", "set backupcopy=yes"), *_VI, ".{name}.swp", _CHECKTIME, _ASKS, _QUIT
    ),
    "nvim": Program(("nvim", "-u", "NONE", *_ROOM), *_VI, ".local/*/nvim/swap/*%{name}.swp", _CHECKTIME, _ASKS, _QUIT),
    "emacs": Program(
        ("emacs", "-nw", "-Q"), (f"{ESCAPE}>", ENTER), "\x18\x13",
        f"{ESCAPE}<{ESCAPE}xreplace-string{ENTER}{{old}}{ENTER}{{new}}{ENTER}", ".#{name}",
        ("--eval", "(global-auto-revert-mode 1)"),
        (("really edit the buffer", "y"), ("Save anyway", f"yes{ENTER}")), "\x18\x03",
    ),
    "nano": Program(("nano", "-I", "--locking"), *_NANO),
    "nano --backup": Program(("nano", "-I", "--locking", "--backup"), *_NANO),
}  # fmt: skip


class Editor:
    """One file open in one editor. What it draws has to be taken away (`drain`), or it waits for that."""

    def __init__(self, program: Program, path: Path, home: Path, shows: str, reload: bool = False) -> None:
        """Returns when the text `shows` stands on the screen."""
        name, *more = [*program.argv, *(program.reload if reload else ())]
        assert shutil.which(name), f"{name} is not installed: scripts/system-packages installs it"
        self.program, self.path, self.home = program, path, home
        self.drawn = ""  # all of it
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.Stream(self._screen)
        # nano takes its size from here first: pexpect sets the terminal's from outside, and on a busy machine too late for it
        size = {"LINES": str(LINES), "COLUMNS": str(COLUMNS)}
        self.child = pexpect.spawn(
            name, [*more, path.name], cwd=str(path.parent), env={**os.environ, "TERM": "linux", **size}, encoding="utf-8",
            codec_errors="replace", dimensions=(LINES, COLUMNS),
        )  # fmt: skip
        self.child.delaybeforesend = None
        self.sees(shows)

    def type(self, text: str) -> None:
        """At the end of the file, lines of their own. An editor may ask after the first key whether it is meant."""
        before, after = self.program.type
        self.child.send(before + text[0])
        self.until(lambda: dirty(str(self.path)))
        self.child.send(text[1:].replace("\n", ENTER) + after)
        self.sees(text.splitlines()[-1])

    def replace(self, old: str, new: str) -> None:
        """One text of the file by another."""
        self.child.send(self.program.replace.format(old=old, new=new))
        self.until(lambda: dirty(str(self.path)) and self.shows(new))

    def save(self) -> None:
        self.child.send(self.program.save)

    # ---- the screen ------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        try:
            while drawn := self.child.read_nonblocking(4096, timeout=0):
                self.drawn += drawn
                self._stream.feed(drawn)
        except pexpect.TIMEOUT:
            return

    def screen(self) -> str:
        self.drain()
        return "\n".join(line.rstrip() for line in self._screen.display).strip()

    def shows(self, text: str) -> bool:
        return text in self.screen()

    def sees(self, text: str) -> None:
        """Until the text stands on the screen."""
        self.until(lambda: self.shows(text))

    def until(self, look: Callable[[], Any]) -> Any:
        """What `look` gives as soon as it gives something; a person says yes meanwhile to everything that is asked."""
        try:
            return until(lambda: self._say_yes() or look())
        except AssertionError as error:
            shown = f"{self.program.argv[0]} shows:\n{self.screen()}\n\nthe file holds:\n{self.path.read_text()}"
            raise AssertionError(f"{error}; {shown}") from error

    def _say_yes(self) -> None:
        self.drain()
        line = self._screen.display[self._screen.cursor.y]
        for asked, yes in self.program.questions:
            if asked in line:
                self.child.send(yes)
                until(lambda: self.drain() or asked not in self._screen.display[self._screen.cursor.y])  # noqa: B023

    # ---- its end ------------------------------------------------------------------------------------------------

    def traces(self) -> list[Path]:
        """A link that leads nowhere is one too, and glob finds none."""
        pattern = self.program.trace.format(name=self.path.name)
        if "/" in pattern:
            return list(self.home.glob(pattern))
        return [beside for beside in (self.path.with_name(pattern),) if os.path.lexists(beside)]

    def quit(self) -> None:
        """As a person does who has saved."""
        self.child.send(self.program.quit)
        self.child.expect(pexpect.EOF, timeout=PATIENCE)
        self.child.close()

    def kill(self) -> None:
        self.child.kill(signal.SIGKILL)
        self.child.wait()
        self.child.close()
