"""Whose code the daemon runs: another takes over when nothing is going on, what is old goes, and a purge leaves nothing. Real code."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opagent import checks, oldcode, paths, upkeep
from opagent.client import Client
from opagent.errors import Conflict, DaemonUnavailable, HostUnfit
from opagent.process import tree
from opagent.remote.bootstrap import Wanted, bootstrap
from opagent.remote.payload import ENTRY, payload
from opagent.version import VERSION
from tests.doubles import bare
from tests.doubles.local_shell import LocalShell, machine, on
from tests.doubles.patience import PATIENCE, until
from tests.integration.conftest import Talk

OLD, NEW = "0" * 64, "1" * 64
SLOW = "/slow 100000 0.02"  # until it is cancelled


@pytest.fixture
def base(home: Path) -> Path:
    return home / ".cache/opagent"


def put(base: Path, digest: str, version: str = VERSION) -> Path:
    """Code of this digest, as an install leaves it."""
    place = base / ("rt" if len(digest) == 64 else "lib") / digest
    bare.lay(place)
    (place / "opagent/version.py").write_text(f'VERSION = "{version}"\n')
    (place / "__main__.py").write_text(ENTRY)
    (place / ".ok").touch()
    return place


Begin = Callable[[Path], subprocess.Popen[bytes]]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts a daemon of that code; all of them have ended afterwards."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(place: Path) -> subprocess.Popen[bytes]:
        begun.append(bare.start(place))
        return begun[-1]

    yield start
    for process in begun:
        process.terminate()
        process.wait(PATIENCE)


def there(place: Path, code: str) -> Any:
    """What a process of that code says, as JSON; None where it ends with an error of ours, which it prints."""
    words = f"import json; from opagent import launch, upkeep; print(json.dumps({code}))"
    done = subprocess.run(bare.python(place, words), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def old(base: Path, begin: Begin) -> Iterator[Client]:
    """A daemon of the old code."""
    begin(put(base, OLD))
    with Client("test", start=False) as client:
        assert client.request("daemon/status")["code"] == OLD
        yield client


def status() -> dict[str, Any]:
    with Client("test", start=False) as client:
        return client.request("daemon/status")


def talking(client: Client, home: Path) -> tuple[Talk, dict[str, Any], dict[str, Any]]:
    (home / "notes").mkdir()
    talk = Talk(client, home / "notes")
    conversation = talk.create()
    turn = talk.start(conversation, SLOW)
    until(lambda: talk.answer(conversation, turn["id"]))
    return talk, conversation, turn


# ---- taking over ---------------------------------------------------------------------------------------------------------


def test_nobody_and_the_same_code(base: Path, begin: Begin) -> None:
    assert upkeep.make_way(NEW) == "none"
    process = begin(put(base, NEW))
    assert upkeep.make_way(NEW) == "same"
    paths.daemon_code().unlink()
    assert upkeep.make_way(NEW) == "same"
    assert process.poll() is None


def test_an_idle_daemon_makes_way(old: Client, base: Path) -> None:
    pid = old.greeting.daemon
    assert there(put(base, NEW), f"upkeep.make_way({NEW!r})") == "stopped"
    assert tree.start_time(pid) is None


def test_a_daemon_at_work_keeps_its_code_until_it_is_idle(old: Client, home: Path, base: Path) -> None:
    pid = old.greeting.daemon
    talk, conversation, _ = talking(old, home)
    [runs] = status()["runs"]
    assert (runs["conversation"], runs["agent"], runs["state"]) == (conversation["id"], "echo", "working")
    place = put(base, NEW)
    assert there(place, f"upkeep.make_way({NEW!r})") == "leaves"
    assert there(place, f"upkeep.make_way({NEW!r})") == "leaves"
    queued = talk.start(conversation, "one more")
    assert status()["leaves"] and status()["pid"] == pid
    old.request("turn/cancel", {"conversation": conversation["id"]})
    assert talk.ended(conversation, queued["id"])["state"] == "done"
    until(lambda: tree.start_time(pid) is None)


def test_an_open_question_is_something_that_goes_on(old: Client, home: Path) -> None:
    (home / "notes").mkdir()
    talk = Talk(old, home / "notes")
    conversation = talk.create()
    talk.start(conversation, "/permission")
    [question] = until(talk.approvals)
    assert status()["runs"][0]["state"] == "waiting for an answer"
    old.request("daemon/stop", {"when": "idle"})
    pid = status()["pid"]
    old.request("approval/answer", {"approval": question["id"], "allow": False})
    until(lambda: tree.start_time(pid) is None)


@pytest.mark.parametrize(
    ("version", "code", "word"),
    [("99.0", OLD, "kept"), ("0.0.1", OLD, "stopped"), (VERSION, "", "kept"), ("0.0.1", "", "stopped")],
)
def test_who_makes_way_for_whom(begin: Begin, base: Path, home: Path, version: str, code: str, word: str) -> None:
    """A newer one never goes for an older one, and one that the user installed there only for a newer one."""
    place = put(base, OLD, version) if code else put(home / "venv", "installed", version)
    process = begin(place)
    assert upkeep.make_way(NEW) == word
    if word == "stopped":
        process.wait()
    else:
        assert status()["version"] == version


def test_a_daemon_that_cannot_be_talked_to_is_told_with_the_command(base: Path, begin: Begin) -> None:
    place = put(base, OLD)
    control = place / "opagent/control.py"
    text = control.read_text()
    control.write_text(text.replace("\nPROTOCOL = ", "\nPROTOCOL = 100 + "))
    begin(place)
    with pytest.raises(HostUnfit) as caught:
        upkeep.make_way(NEW)
    assert caught.value.hint == "opagent host upgrade"


def test_an_upgrade_is_refused_while_something_goes_on_and_can_be_forced(old: Client, home: Path, base: Path) -> None:
    talking(old, home)
    pid = old.greeting.daemon
    with pytest.raises(Conflict) as caught:
        upkeep.upgrade(NEW)
    assert f"echo in {home}/notes (working)" in caught.value.why and "--force" in caught.value.hint
    assert status()["pid"] == pid
    assert there(put(base, NEW, "9.9"), f"upkeep.upgrade({NEW!r}, force=True)") == {"was": VERSION, "now": "9.9"}
    found = status()
    assert (found["version"], found["pid"] != pid) == ("9.9", True)


def test_when_is_checked(base: Path) -> None:
    with Client("test") as client, pytest.raises(Exception, match="now or idle"):
        client.request("daemon/stop", {"when": "later"})


# ---- old code ------------------------------------------------------------------------------------------------------------


def test_old_code_goes_after_its_time_and_never_while_it_runs(base: Path) -> None:
    ages = {NEW: 30, "2" * 64: 8, "3" * 64: 6, "4" * 64: 30, "not a digest": 30}
    for name, days in ages.items():
        (base / "rt" / name).mkdir(parents=True)
        (base / "rt" / name / ".ok").touch()
        os.utime(base / "rt" / name / ".ok", (time.time() - days * 86400,) * 2)
    running = os.open(base / "rt" / ("4" * 64) / ".ok", os.O_RDONLY)
    fcntl.flock(running, fcntl.LOCK_SH)
    try:
        assert oldcode.tidy(base, NEW) == ["2" * 64]
        assert oldcode.used(base) == ["4" * 64]
        assert sorted(each.name for each in (base / "rt").iterdir()) == sorted({*ages} - {"2" * 64})
    finally:
        os.close(running)
    assert oldcode.tidy(base / "nowhere", NEW) == []


def test_a_daemon_removes_old_code_when_it_starts(base: Path, begin: Begin) -> None:
    place = put(base, NEW)
    ancient = base / "rt" / ("2" * 64)
    ancient.mkdir()
    (ancient / ".ok").touch()
    os.utime(ancient / ".ok", (0, 0))
    begin(place)
    until(lambda: not ancient.exists())
    assert place.exists()


# ---- through the bootstrap -------------------------------------------------------------------------------------------------


def listing(folder: Path) -> dict[str, str]:
    """Everything below a directory: what it is, and what it holds."""
    return {str(each.relative_to(folder)): each.read_text() if each.is_file() else "" for each in sorted(folder.rglob("*"))}


def landed(there: dict[str, str], verb: str) -> Any:
    async def work(connection: LocalShell) -> Any:
        found = await bootstrap(connection, payload(), lambda _: None, None, Wanted("gpu1", "", verb))
        found.stream.close()
        return found.report

    return on(there, work)


def test_a_purge_leaves_the_machine_as_it_was(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = machine(home, OPAGENT_RUN_DIR=str(home.parent / "run"))
    monkeypatch.setenv("OPAGENT_RUN_DIR", str(home.parent / "run"))
    folder = Path(environment["HOME"])
    (folder / "docs").mkdir()
    (folder / "docs/.agent.yaml").write_text("agent: echo\n")
    before = listing(folder)
    landed(environment, "open")
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    with Client("test", start=False) as client:
        talk = Talk(client, folder / "docs")
        conversation = client.request("conversation/create", {"path": "docs"})
        turn = talk.start(conversation, SLOW)
        until(lambda: talk.answer(conversation, turn["id"]))
        pid = client.greeting.daemon
        with pytest.raises(Conflict, match="gpu1: the daemon there is at work"):
            landed(environment, "purge")
        assert tree.start_time(pid) is not None
    monkeypatch.setattr(paths, "_LOCAL", (tmp_path,))  # below /var/tmp lies what other tests use
    for name in ("rt", "py", "other"):
        (tmp_path / f"opagent-{os.getuid()}" / name).mkdir(parents=True)
    bases = [folder / ".cache/opagent", *paths.locals_()]
    report = upkeep.purge(bases, force=True)
    assert tree.start_time(pid) is None
    assert [report["removed"].pop() for _ in range(2)] == [str(bases[1] / "py"), str(bases[1] / "rt")]
    assert [each.name for each in bases[1].iterdir()] == ["other"]
    assert report == {
        "removed": [str(home.parent / "run"), str(folder / ".local/state/opagent"), str(folder / ".cache/opagent")],
        "left": [],
    }
    after = listing(folder)
    kept = {name for name in after if name.startswith(("docs/conversations", "docs/.opagent"))}
    assert Path(conversation["path"]).exists()
    assert {name: text for name, text in after.items() if name not in kept} == before
    with pytest.raises(DaemonUnavailable):
        Client("test", start=False)


def test_a_check_tells_every_step(home: Path) -> None:
    environment = machine(home)
    landed(environment, "open")
    report = landed(environment, "check")
    steps = {step["name"]: step for step in report["steps"]}
    assert list(steps) == ["python", "base", "state", "run", "noexec", "logout", "sandbox", "daemon", "protocol"]
    assert all(step["ok"] is not False and step["sentence"] for step in steps.values())
    assert sys.executable in steps["python"]["sentence"] or "python" in steps["python"]["sentence"]
    assert f"version {VERSION}" in steps["daemon"]["sentence"]
    assert abs(report["at"] - time.time()) < 3600


def test_a_check_goes_on_where_one_step_fails(home: Path) -> None:
    paths.state().mkdir(parents=True)
    paths.state().chmod(0o777)
    steps = {step["name"]: step for step in checks.check("/nowhere")}
    assert steps["base"]["ok"] is False and steps["state"]["ok"] is False
    assert steps["state"]["hint"] == f"chmod 700 {paths.state()}"
    assert steps["python"]["ok"] and steps["daemon"]["ok"]
