"""Where the daemon is found: the same place however somebody logged in, another one per machine and boot, made anew when it goes."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from opagent import files, paths
from opagent.client import Client
from opagent.daemon import doorway
from opagent.process import tree
from tests.doubles.daemons import environment, kill
from tests.doubles.patience import PATIENCE, until

_PID = "from opagent.client import Client; print(Client().greeting.daemon)"


def ask(**more: str) -> int:
    """The pid of the daemon that another process finds."""
    done = subprocess.run([sys.executable, "-c", _PID], env=environment(**more), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_desktop_and_a_bare_login_find_the_same_daemon(home: Path) -> None:
    (home.parent / "session").mkdir(mode=0o700)
    pid = ask(XDG_RUNTIME_DIR=str(home.parent / "session"))
    assert ask() == pid
    assert list((home.parent / "session").iterdir()) == []


def test_the_place_is_named_after_machine_and_boot() -> None:
    machine, boot = Path("/etc/machine-id").read_text(), Path("/proc/sys/kernel/random/boot_id").read_text()
    assert paths.here().startswith(f"{machine[:8]}-{boot[:8]}")
    assert paths.run().parent == paths.runs() and paths.run().name == paths.here()


def namespace(script: str, *flags: str) -> str:
    """What a shell says in namespaces of its own; `here` prints the name of the place."""
    say = f"{sys.executable} -c 'from opagent import paths; print(paths.here())'"
    argv = ["unshare", "-Urm", *flags, "sh", "-euc", f"here() {{ {say}; }}\n{script}"]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_another_machine_another_boot_and_a_container_are_other_places(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("0123456789abcdef0123456789abcdef\n")
    mine = paths.here()
    assert namespace("here") == mine
    assert namespace(f"mount --bind {other} /etc/machine-id; here") == f"01234567-{mine.split('-', 1)[1]}"
    assert namespace(f"mount --bind {other} /proc/sys/kernel/random/boot_id; here").split("-")[:2] == [
        mine.split("-")[0],
        "01234567",
    ]
    assert namespace("mount -t proc proc /proc; here", "--pid", "--fork").startswith(f"{mine[:17]}-")
    assert len(namespace("mount --bind /dev/null /etc/machine-id; here")) > 8


@pytest.mark.parametrize("removed", ["the socket", "the directory", "all of them", "the lock"])
def test_what_a_cleaner_removes_is_made_anew(removed: str) -> None:
    with Client() as before:
        pid = before.greeting.daemon
        if removed == "the socket":
            paths.socket().unlink()
        elif removed == "the lock":
            paths.daemon_pid().unlink()
        else:
            shutil.rmtree(paths.run() if removed == "the directory" else paths.runs())
        assert ask() == pid
        until(lambda: paths.daemon_pid().exists() and paths.daemon_pid().read_text() == f"{pid}\n")
        assert before.request("daemon/status")["pid"] == pid
        with paths.daemon_pid().open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_stop_reaches_a_daemon_whose_directory_was_removed() -> None:
    with Client() as client:
        pid = client.greeting.daemon
    shutil.rmtree(paths.runs())
    with Client(start=False) as client:
        assert client.greeting.daemon == pid
        client.request("daemon/stop")
    until(lambda: tree.start_time(pid) is None)


def test_many_clients_wait_for_the_same_daemon() -> None:
    with Client() as client:
        pid = client.greeting.daemon
    shutil.rmtree(paths.run())
    found: list[int] = []
    clients = [threading.Thread(target=lambda: found.append(ask())) for _ in range(5)]
    for one in clients:
        one.start()
    for one in clients:
        one.join(PATIENCE)
    assert found == [pid] * 5


def test_a_daemon_of_an_older_version_is_found_where_it_listens(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    former = home.parent / "session"
    monkeypatch.setenv("OPAGENT_RUN_DIR", str(former / "opagent"))
    with Client() as client:
        pid = client.greeting.daemon
    monkeypatch.delenv("OPAGENT_RUN_DIR")
    assert ask(XDG_RUNTIME_DIR=str(former)) == pid
    kill(pid)


def test_directories_of_earlier_boots_are_removed(home: Path) -> None:
    machine, boot = paths.here().split("-")[:2]
    gone = [f"{machine}-00000000", f"{machine}-00000000-1", "ffffffff-00000001"]
    stays = [f"{machine}-{boot}-1", "ffffffff-00000002", "notes"]
    for name in gone + stays:
        files.private_directory(paths.runs() / name)
        (paths.runs() / name / "daemon.sock").touch()
    os.utime(paths.runs() / gone[-1], (0, 0))
    files.private_directory(paths.run())
    doorway.remove_old()
    assert sorted(path.name for path in paths.runs().iterdir()) == sorted([*stays, paths.here()])


def test_a_directory_of_somebody_else_beside_which_all_may_write_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    name = f"opagent-{os.getuid()}"
    for base in (first, second):
        base.mkdir()
    monkeypatch.setattr(paths, "_LOCAL", (first, second))
    assert paths.local() == first / name
    (first / name).symlink_to(second)
    assert paths.local() == second / name
    (first / name).unlink()
    files.private_directory(first / name / "state")
    assert paths.local() == first / name
    (first / name).chmod(0o777)
    assert paths.local() == second / name
