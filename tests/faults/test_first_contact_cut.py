"""The first contact with a machine is cut at a step of it, or the machine dies in that moment: the next one works.

What was half installed is not used, and there is one daemon there in the end. Cuts at any byte: `test_link_lost.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from opagent.errors import HostUnreachable
from opagent.remote import bridge
from opagent.remote.bootstrap import Wanted
from opagent.remote.dial import Settings
from opagent.remote.payload import payload
from opagent.remote.seam import Phase, Question
from opagent.target import Target
from tests.doubles.far import kill
from tests.doubles.patience import until
from tests.doubles.sshd import Sshd, sshd
from tests.doubles.terminal import run, run_json

# in the words of the client's half; what is said there has just happened there, and nothing is known of what comes next
STEPS: dict[str, Callable[[Phase], bool]] = {
    "half of it is sent": lambda phase: phase.name == "uploading" and 2 * phase.done > phase.total,
    "all of it has come": lambda phase: phase.name == "installing",
    "the daemon is started": lambda phase: phase.name == "starting",
    "it runs and has not said hello": lambda phase: phase.name == "connected",
}


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    with sshd(home.parent / "there") as server:
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", server.config)
        (server.home / "docs").mkdir()
        yield server


def running(server: Sshd) -> list[psutil.Process]:
    """What runs there for its user."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("HOME") == str(server.home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def dies(server: Sshd) -> None:
    """As when the power fails; what it has on disk stays."""
    server.cut()
    while left := running(server):
        for process in left:
            kill(process)


async def nobody(_: Question) -> None:
    return None


def broken_off(server: Sshd, meant: Callable[[Phase], bool], cut: Callable[[Sshd], None]) -> None:
    phases: list[str] = []

    def tell(phase: Phase) -> None:
        phases.append(phase.name)
        if meant(phase) and "cut" not in phases:
            phases.append("cut")
            cut(server)

    async def attempt() -> None:
        made = await bridge.build(
            Target("there", "/"), Settings(config=server.config), bridge.Known(), nobody, tell, Wanted("there")
        )
        made.close()

    with pytest.raises(HostUnreachable):
        asyncio.run(attempt())
    assert "cut" in phases


@pytest.mark.parametrize("cut", [Sshd.cut, dies], ids=["the line", "the machine"])
@pytest.mark.parametrize("step", STEPS)
def test_the_next_contact_works(there: Sshd, step: str, cut: Callable[[Sshd], None]) -> None:
    broken_off(there, STEPS[step], cut)
    installed = there.home / ".cache/opagent/rt"
    done = run("open", f"there:{there.home}/docs", "--agent", "echo", "-m", "hello")
    assert (done.returncode, done.stdout) == (0, "echo: hello\n"), done.stderr
    digest = payload().digest
    assert [name for name in os.listdir(installed) if not name.startswith(".")] == [digest]
    (daemon,) = [process.pid for process in running(there) if "opagent.daemon.main" in process.cmdline()]
    status = run_json("daemon", "status", "--host", "there")
    assert (status["pid"], status["code"]) == (daemon, digest)
    if cut is not dies:  # who was unpacking went on, and has put it in its place
        until(lambda: not [name for name in os.listdir(installed) if name.startswith(".tmp-")])
