"""One soak: a daemon that is killed again and again, an agent that streams, a person at the file; then everything is checked.

report = soak(place, seed=1, seconds=30)      # in a home of its own; Report.wrong is empty where all is well
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from opagent import paths
from opagent.client import Client
from opagent.document.draft import without_notes
from opagent.errors import OpAgentError
from opagent.process import tree
from opagent.store.opening import connect_reader
from tests.bench.place import Place
from tests.doubles.checker import Checker, Snapshot, of_test
from tests.doubles.patience import PATIENCE, until
from tests.integration.conftest import FINAL
from tests.soak import agent, checks

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = """name: oracle
title: Oracle
version: "1.0.0"
command: ["{{python}}", "-I", "-S", "{{package}}/agent.py", "{echo}", "{{state}}"]
"""


@dataclass(frozen=True, slots=True)
class Report:
    seed: int
    numbers: Counter[str]
    wrong: list[str]


class Soak:
    """`place`: an isolated home."""

    def __init__(self, place: Place, seed: int, client: Client) -> None:
        self.seed, self.client, self.chance = seed, client, random.Random(seed)
        self.workspace = place.folder / "soak"
        self.journal = place.folder / "journal"
        self.numbers: Counter[str] = Counter()
        package = paths.config() / "runtimes/oracle"
        package.mkdir(parents=True)
        shutil.copy(agent.__file__, package / "agent.py")
        (package / "runtime.yaml").write_text(RUNTIME.format(echo=ROOT / "runtimes/echo"))
        paths.user_config().write_text("version: 1\napprovals: {in_file: unsandboxed}\n")
        (self.workspace / ".oracle").mkdir(parents=True)
        (self.workspace / ".agent.yaml").write_text("version: 1\nagent: oracle\n")
        digest = client.request("trust/show", {"path": str(self.workspace)})["digest"]
        client.request("trust/grant", {"path": str(self.workspace), "digest": digest})
        made = client.request("conversation/create", {"path": str(self.workspace), "environment": dict(os.environ)})
        self.conversation, self.path = str(made["id"]), Path(made["path"])

    def person(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "tests.soak.person", str(self.path), str(self.journal), str(self.seed)]
        return subprocess.Popen(argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE)

    def run(self, seconds: float) -> None:
        person = self.person()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, self.chance.uniform(0.1, 4)))  # the random moment
            assert person.poll() is None, "the person died"
            self.kill()
            self.back()
        person.communicate(timeout=PATIENCE)
        assert person.returncode == 0, "the person died"

    def kill(self) -> None:
        pid = int((paths.run() / "daemon.pid").read_text() or 0)
        self.numbers["kills"] += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        until(lambda: tree.start_time(pid) is None)

    def back(self) -> None:
        """A person's next command: the daemon starts, and hears where programs are."""
        self.client.request("workspace/open", {"path": str(self.workspace), "environment": dict(os.environ)})

    # ---- the end ---------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Until nothing runs and nothing waits: what asks is denied."""
        deadline = time.monotonic() + 2 * PATIENCE
        quiet = 0
        while quiet < 20:
            assert time.monotonic() < deadline, f"does not come to rest: {self.busy()}"
            for approval in self.client.request("approval/list", {})["approvals"]:
                with contextlib.suppress(OpAgentError):
                    self.client.request("approval/answer", {"approval": approval["id"], "allow": False})
            quiet = 0 if self.busy() else quiet + 1
            time.sleep(0.05)

    def busy(self) -> list[str]:
        """Turns that have not ended, and a draft that is to be sent."""
        shown = self.client.request("conversation/show", {"conversation": self.conversation, "limit": 0})["turns"]
        queue = self.client.request("queue/list", {"conversation": self.conversation})
        waits = ["the draft waits"] if "since" in queue.get("draft", {}) else []
        return [f"{turn['id']} {turn['state']}" for turn in shown if turn["state"] not in FINAL] + waits

    def wrong(self) -> list[str]:
        said = checks.journal(self.journal)
        checker = Checker(self.workspace)
        checker.allowed, checker.removed = said.ticked, said.deleted
        found = checks.check(self.path, self.workspace, self.conversation, said, self.numbers)
        try:
            checker.check(settled=True)
        except AssertionError as error:
            found += str(error).splitlines()
        connection = connect_reader(paths.database())
        self.numbers += checks.state_of(Snapshot(connection), self.conversation)
        connection.close()
        return found


def soak(place: Place, seed: int, seconds: float, keep: Path | None = None) -> Report:
    """`keep`: where everything is copied when something is wrong."""
    with Client("soak") as client:
        scene = Soak(place, seed, client)
        scene.run(seconds)
        scene.settle()
        wrong = scene.wrong()
        scene.kill()  # once more, with nothing to do: the same, but for notes of the moment
        before = without_notes(scene.path.read_bytes())
        scene.back()
        scene.settle()
        if without_notes(scene.path.read_bytes()) != before:
            (place.folder / "before.md").write_bytes(before)
            wrong.append("the file is another one after a restart in which nothing happened")
    place.stop_daemon()
    wrong += [f"left behind: {command}" for _, _, command in of_test()]
    if wrong and keep is not None:
        shutil.copytree(place.folder, keep, symlinks=True, ignore=_sockets, dirs_exist_ok=True)
    return Report(seed, scene.numbers, wrong)


def _sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_socket()]
