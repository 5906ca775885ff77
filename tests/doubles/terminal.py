"""The command line as a person or a script uses it: run to the end, or on a real pseudo-terminal."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pexpect

from tests.doubles.daemons import command, environment
from tests.doubles.patience import PATIENCE

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_]|\x1b\][^\x07]*\x07")


def run(
    *words: str, stdin: str = "", cwd: Path | None = None, fake: bool = False, **variables: str
) -> subprocess.CompletedProcess[str]:
    """One command line without a terminal."""
    argv, env = command(*words, fake=fake), environment(**variables)
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=PATIENCE, cwd=cwd, env=env, check=False)


def run_json(*words: str, **more: Any) -> Any:
    """The one JSON object that a command printed."""
    done = run(*words, "--json", **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


class Terminal:
    """A command on a pty, 100 columns wide."""

    def __init__(self, *words: str, cwd: Path | None = None, fake: bool = False, **variables: str) -> None:
        argv = command(*words, fake=fake)
        env = environment(**({"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"} | variables))
        self.child = pexpect.spawn(
            argv[0], argv[1:], cwd=cwd, env=env, encoding="utf-8", codec_errors="replace", timeout=PATIENCE, dimensions=(40, 100)
        )
        self.seen = ""

    def expect(self, pattern: str) -> None:
        self.child.expect(pattern)
        self.seen += str(self.child.before) + str(self.child.after)

    def type(self, text: str) -> None:
        self.child.send(text)

    def end(self) -> int:
        """Waits for the end; the exit status."""
        self.child.expect(pexpect.EOF)
        self.seen += str(self.child.before)
        self.child.close()
        assert self.child.exitstatus is not None, self.child.signalstatus
        return int(self.child.exitstatus)

    @property
    def text(self) -> str:
        """All that was shown, without the terminal's own sequences."""
        return _ESCAPES.sub("", self.seen).replace("\r", "")
