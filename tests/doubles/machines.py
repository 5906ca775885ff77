"""Two machines on one: daemons with a home, a state and a socket of their own, so that the one can mirror the other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from opagent.client import Client
from tests.doubles.daemons import ROOT
from tests.doubles.patience import until
from tests.doubles.sheet import Sheet
from tests.integration.conftest import Talk


class Machine:
    """Its daemon is started by `start`, and ends with the test."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root / name, name
        self.home = self.root / "h"
        self.home.mkdir(parents=True, mode=0o700)
        (self.root / "r").mkdir(mode=0o700)
        self.directory = self.home / "notes"
        self.directory.mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self.mirrors: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        places = {
            "HOME": self.home, "XDG_CONFIG_HOME": self.home / ".config", "XDG_STATE_HOME": self.home / "state",
            "XDG_DATA_HOME": self.home / "data", "XDG_CACHE_HOME": self.home / "cache", "OPAGENT_RUN_DIR": self.root / "r",
        }  # fmt: skip
        return {**os.environ, **{name: str(path) for name, path in places.items()}, "PYTHONPATH": str(ROOT)}

    @property
    def socket(self) -> Path:
        return self.root / "r/daemon.sock"

    @property
    def conversations(self) -> Path:
        return self.directory / "conversations"

    def mirror(self, other: Machine, line: Path | None = None) -> None:
        """Its directory mirrors that of the other, from its next start on; over the socket `line`."""
        self.mirrors.append(f"{self.directory}|{line or other.socket}|{other.directory}|{other.name}")

    def start(self) -> None:
        module = "tests.doubles.mirror_daemon" if self.mirrors else "opagent.daemon.main"
        read, write = os.pipe()
        environment = {**self.environment, "MIRROR": "\n".join(self.mirrors), "OPAGENT_IDLE_EXIT": "0"}
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "--ready-fd", str(write)],
                env=environment, cwd=ROOT, pass_fds=(write,), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        os.close(write)
        try:
            assert os.read(read, 1) == b"!", self.log()
        finally:
            os.close(read)

    def log(self) -> str:
        return (self.root / "log").read_text()

    def kill(self) -> None:
        """SIGKILL; its agents end with it."""
        assert self.process is not None
        below = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        self.process = None
        for each in below:
            until(lambda: not each.is_running() or each.status() == psutil.STATUS_ZOMBIE)  # noqa: B023

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A connection to its daemon; made here, with the environment of that machine for the moment of it."""
        before = dict(os.environ)
        os.environ.update(self.environment)
        try:
            client = Client("test", start=False)
        finally:
            os.environ.clear()
            os.environ.update(before)
        with client:
            yield client


class Pair:
    """`there` has the agent, `here` the mirror."""

    def __init__(self, here: Machine, there: Machine, client: Client) -> None:
        self.here, self.there = here, there
        self.talk = Talk(client, there.directory)

    def create(self, title: str = "tea") -> Sheet:
        """A new conversation there, as its file here."""
        return self.mirrored(self.talk.create(title=title), self.here)

    def mirrored(self, made: dict[str, str], machine: Machine) -> Sheet:
        path = machine.conversations / Path(made["path"]).name
        until(path.exists)
        return Sheet(self.talk, {**made, "path": str(path)})

    def other(self, sheet: Sheet) -> Sheet:
        """The same conversation as its file there."""
        known = self.talk.show(sheet.conversation)["conversation"]
        return Sheet(self.talk, {**sheet.conversation, "path": known["path"]})

    def agree(self, sheet: Sheet, *words: str) -> str:
        """The text once both files are the same and hold the words."""
        other = self.other(sheet)

        def same() -> str | None:
            text = sheet.text()
            return text if text == other.text() and all(word in text for word in words) else None

        return str(until(same))


@contextmanager
def paired(home: Path) -> Iterator[Pair]:
    """Both daemons run; they end with the block."""
    here, there = Machine(home, "a"), Machine(home, "b")
    here.mirror(there)
    there.start()
    here.start()
    try:
        with there.client() as client:
            yield Pair(here, there, client)
    finally:
        here.stop()
        there.stop()
