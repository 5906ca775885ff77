"""Where the directories of a test lie: on this machine, or on another one behind a real sshd with nothing of ours on it.

The command line is used in the same way for both. That is the point: what a test says of one must hold for the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from opagent import paths
from tests.doubles import terminal
from tests.doubles.sshd import Sshd, sshd

HERE, THERE = "local", "ssh"
NAMES = (HERE, THERE)


@dataclass(frozen=True)
class Place:
    """`home` holds the directories. `server`: the sshd in front of it, None for this machine."""

    home: Path
    server: Sshd | None = None

    def target(self, path: Path | str) -> str:
        """A path of that machine as it is typed on this one."""
        return str(path) if self.server is None else f"there:{path}"

    @property
    def option(self) -> tuple[str, ...]:
        """What sends a command that names no path to that machine."""
        return () if self.server is None else ("--host", "there")

    def words(self, *words: str) -> tuple[str, ...]:
        """A command line about that machine: a target says so itself, all else by the option."""
        named = self.server is None or "--host" in words or any(word.startswith("there:") for word in words)
        return words if named else (*self.option, *words)

    def run(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return terminal.run(*self.words(*words), **more)

    def json(self, *words: str, **more: Any) -> Any:
        """The one JSON object that a command printed."""
        return terminal.run_json(*self.words(*words), **more)

    def lines(self, *words: str, **more: Any) -> list[dict[str, Any]]:
        """The stream of JSON objects that a command printed, without those about the way there."""
        found = [json.loads(line) for line in self.run(*words, "--json", **more).stdout.splitlines()]
        return [line for line in found if line.get("type") != "link"]

    def terminal(self, *words: str, **more: Any) -> terminal.Terminal:
        return terminal.Terminal(*self.words(*words), **more)

    def directory(self, name: str, binding: str | None = "version: 1\nagent: echo\n") -> Path:
        """A new directory of that machine, bound to the echo agent unless `binding` says something else."""
        folder = self.home / name
        folder.mkdir(parents=True)
        if binding is not None:
            (folder / paths.BINDING).write_text(binding)
        return folder

    def runtime(self, name: str, *command: str, **more: Any) -> str:
        """Describe a runtime on that machine; `more` are other keys of runtime.yaml."""
        folder = self.home / ".config/opagent/runtimes" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "runtime.yaml").write_text(yaml.safe_dump({"name": name, "command": list(command), **more}))
        return name

    def trust(self, folder: Path) -> None:
        """Say yes as a person at a terminal does."""
        asked = self.terminal("trust", self.target(folder))
        asked.expect(r"Trust this binding\? \[y/N\]")
        asked.type("y\r")
        assert asked.end() == 0, asked.text

    def copy(self, source: Path, name: str) -> Path:
        folder = self.home / name
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("conversations", ".opagent", "__pycache__"))
        return folder


def files(folder: Path) -> list[Path]:
    """The conversation files of a directory."""
    return sorted((folder / "conversations").glob("*.md"))


def conversation(folder: Path) -> Path:
    """The one that there is."""
    (file,) = files(folder)
    return file


@contextlib.contextmanager
def place(name: str, home: Path) -> Iterator[Place]:
    """`home`: of this machine, in a folder of the test's own."""
    if name == HERE:
        yield Place(home)
        return
    with sshd(home.parent / "there") as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPAGENT_SSH_CONFIG", server.config)
        assert not os.listdir(server.home)
        yield Place(server.home, server)
