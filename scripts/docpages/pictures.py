"""Draws the pictures of the documentation from real runs: a terminal (tmux), its screen as SVG, the conversation file as text.

The runs have a home, a state and a copy of `workspaces/` of their own; nothing of the person who draws gets into a picture.
`pages` draws conversation files as a browser shows them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from docpages import browser, rendering, samples
from docpages.page import block, replace
from docpages.tables import ROOT

PICTURES = ROOT / "docs" / "pictures"
COLUMNS, LINES = 124, 60
DEADLINE = 60.0
QUESTION = 'scripts/opagent open workspaces/docs -m "How should headings be written?"'
SHELL, CHAT = "$", "›"  # the last line of a screen on which a program waits for words


class Terminal:
    """A tmux server of its own with one window. Raises TimeoutError when the screen does not come to what is waited for."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._tmux = ["tmux", "-S", str(folder / "tmux.sock"), "-f", "/dev/null"]
        shell = ["bash", "--norc", "--noprofile"]
        size = ["-x", str(COLUMNS), "-y", str(LINES)]
        self._environment = environment
        self._run("new-session", "-d", *size, "-c", str(folder / "opagent"), *shell)
        self.until(SHELL)

    def _run(self, *words: str) -> str:
        done = subprocess.run([*self._tmux, *words], env=self._environment, check=True, capture_output=True, text=True)
        return done.stdout

    def type(self, text: str, enter: bool = True) -> None:
        self._run("send-keys", "-l", text)
        if enter:
            self._run("send-keys", "Enter")

    def until(self, end: str, after: str = "") -> None:
        """Wait until the last line that is not empty is `end` and the screen shows `after`."""
        deadline = time.monotonic() + DEADLINE
        while True:
            screen = self._run("capture-pane", "-p").rstrip()
            if after in screen and (screen.splitlines() or [""])[-1].strip() == end:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{end!r} did not come:\n{screen}")
            time.sleep(0.05)

    def screen(self) -> str:
        return self._run("capture-pane", "-e", "-p").rstrip()

    def close(self) -> None:
        self._run("kill-server")


@contextmanager
def _place() -> Iterator[tuple[Terminal, Path]]:
    """A terminal in a directory that looks like a clone."""
    folder = Path(tempfile.mkdtemp(prefix="alice-", dir="/var/tmp"))
    clone = folder / "opagent"
    shutil.copytree(ROOT / "workspaces", clone / "workspaces", ignore=shutil.ignore_patterns("conversations", ".opagent"))
    (clone / "scripts").mkdir()
    command = clone / "scripts" / "opagent"
    command.write_text(f'#!/bin/sh\nexec {ROOT}/scripts/opagent "$@"\n')
    command.chmod(0o755)
    environment = {
        "HOME": str(folder), "PATH": os.environ["PATH"], "LANG": "C.UTF-8",
        "TERM": "tmux-256color", "PS1": f"{SHELL} ", "LOGNAME": "alice", "USER": "alice",
    }  # fmt: skip
    terminal = Terminal(folder, environment)
    try:
        yield terminal, clone
    finally:
        terminal.close()
        subprocess.run([command, "daemon", "stop"], env=environment, check=True, capture_output=True)
        shutil.rmtree(folder)


def pages(folder: Path = PICTURES) -> None:
    """Writes conversation-finished.png and conversation-waiting.png."""
    for name, sample in samples.SAMPLES.items():
        page = rendering.page(sample())
        browser.picture(page, folder / f"conversation-{name}.png", browser.look(page)["height"])


def draw() -> None:
    """Writes docs/pictures and the conversation file that README.md shows."""
    pages()
    with _place() as (terminal, clone):
        terminal.type(QUESTION)
        terminal.until(SHELL, "The best")
        _save("open", "a question in a terminal", terminal.screen())
        written = next((clone / "workspaces/docs/conversations").glob("*.md")).read_text("utf-8")
    readme = ROOT / "README.md"
    readme.write_text(replace(readme.read_text("utf-8"), "conversation", block(written, "markdown")), "utf-8")
    with _place() as (terminal, _):
        terminal.type("scripts/opagent open workspaces/docs")
        terminal.until(CHAT)
        terminal.type("How are releases made?")
        terminal.until(CHAT, "The best")
        terminal.type("/index")
        terminal.until(CHAT, "waits: o = once")
        time.sleep(1)  # a key that comes with the question was meant for something else and does not answer it
        terminal.type("o", enter=False)
        terminal.until(CHAT, "is written")
        terminal.type("/quit")
        terminal.until(SHELL, "Come back")
        terminal.type("scripts/opagent ps")
        terminal.until(SHELL, "MEMORY")
        _save("chat", "a chat in a terminal, with a question of the agent", terminal.screen())


def _save(name: str, title: str, screen: str) -> None:
    text = Text.from_ansi(screen[: screen.rindex(SHELL)].rstrip())
    lines = text.plain.count("\n") + 1
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=COLUMNS, height=lines, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(text, soft_wrap=True)
    path = PICTURES / f"{name}.svg"
    path.parent.mkdir(exist_ok=True)
    path.write_text(_without_fonts(console.export_svg(title=title, unique_id=name)), "utf-8")


def _without_fonts(picture: str) -> str:
    """The picture without the fonts that rich would load from elsewhere: it fetches nothing."""
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")
