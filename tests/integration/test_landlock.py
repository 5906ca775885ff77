"""The box without namespaces: what a program in it reaches, that the one who started it stays free, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opagent.errors import AgentFailed, NotFound, RuntimeNotInstalled
from opagent.model import ProcessId
from opagent.process import landlock, reaper, tree
from opagent.process.landlock import Landlock
from opagent.process.profile import HOME, Limits, Mount, Network, Profile
from opagent.process.supervisor import Launch, Process
from tests.doubles.patience import until

DOUBLES = str(Path(__file__).parent.parent / "doubles" / "processes.py")
PROGRAMS = tuple(Mount(path, path) for path in dict.fromkeys((sys.prefix, sys.base_prefix, os.path.dirname(DOUBLES))))
VERSION = landlock.abi()
pytestmark = pytest.mark.skipif(not VERSION, reason="not run: this kernel has no Landlock")
Run = Callable[..., str]


@pytest.fixture(autouse=True)
def subreaper() -> Iterator[None]:
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    yield
    reaper.collect()
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


@pytest.fixture
def workspace(home: Path) -> Path:
    folder = home / "work"
    folder.mkdir()
    (home / "secret").write_text("secret")
    return folder


def launch(workspace: Path, argv: tuple[str, ...], port: int = 0, ident: str = "ll1", **profile: object) -> Launch:
    held = Profile(str(workspace), programs=PROGRAMS, **profile)  # type: ignore[arg-type]
    box = Landlock(held, str(workspace.parent / "boxes" / ident), port)
    env = {"PATH": "/usr/bin:/bin", "OPAGENT_TEST_ID": os.environ["OPAGENT_TEST_ID"]}
    return Launch(ProcessId(ident), argv, str(workspace), env, workspace.parent / "log", box=box)


def said(workspace: Path, argv: tuple[str, ...], **options: object) -> str:
    """All that it says, on stdout and on stderr."""

    async def run() -> str:
        burying = reaper.Reaper()
        burying.start()
        process = await Process.start(launch(workspace, argv, **options))  # type: ignore[arg-type]
        text = b""
        while data := await process.read():
            text += data
        report = await process.wait()
        burying.stop()
        return text.decode() + report.stderr_tail

    return asyncio.run(run())


def shell(workspace: Path, script: str, **options: object) -> str:
    return said(workspace, ("/bin/sh", "-c", script), **options)


def python(workspace: Path, script: str, **options: object) -> str:
    return said(workspace, (sys.executable, "-I", "-S", "-c", script), **options)


def test_it_has_no_rights_left_and_we_have_ours(workspace: Path) -> None:
    facts = shell(workspace, "cat /proc/self/status")
    lines = dict(line.split(":\t", 1) for line in facts.splitlines())
    assert (lines["NoNewPrivs"], lines["Seccomp"]) == ("1", "2")
    assert {int(lines[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")} == {0}
    ours = Path("/proc/self/status").read_text()
    assert "NoNewPrivs:\t0" in ours
    assert "Seccomp:\t0" in ours
    assert (workspace.parent / "secret").read_text() == "secret"


def test_files_outside_are_refused_and_inside_are_free(workspace: Path) -> None:
    script = """
        cat ../secret; echo x > ../new; ls ..; ln ../secret here; mv ../secret here; ln -s ../secret link; cat link; rm ../secret
        echo text > a; mkdir d; mv a d/b; ln d/b c; cat c; echo more >> c; rm d/b; ls
    """
    lines = shell(workspace, script).splitlines()
    assert lines.count("text") == 1
    refused = [line for line in lines if "denied" in line or "cross-device" in line]
    assert [line for line in lines if line not in refused] == ["text", "c", "d", "link"]
    assert len(refused) == 7
    assert sorted(path.name for path in workspace.parent.iterdir() if not path.name.startswith(".")) == [
        "boxes", "log", "secret", "work",
    ]  # fmt: skip


def test_its_home_is_private_and_emptied(workspace: Path) -> None:
    told = shell(workspace, "echo $HOME $TMPDIR; echo x > ~/a; echo y > $TMPDIR/b; ls ~; touch /tmp/x /dev/shm/x /var/tmp/x")
    private = workspace.parent / "boxes/ll1"
    assert told.splitlines()[:3] == [f"{private} {private}/tmp", "a", "tmp"]
    assert told.count("Permission denied") == 3
    until(lambda: not list(private.iterdir()))
    shell(workspace, "true", ident="ll2")
    assert not private.exists()


def test_directories_of_its_own_stand_in_its_home(workspace: Path) -> None:
    state = workspace.parent / "state"
    state.mkdir()
    shell(workspace, "echo kept > ~/.config/agent/file", mounts=(Mount(str(state), f"{HOME}/.config/agent", True),))
    assert (state / "file").read_text() == "kept\n"
    refused = shell(
        workspace, "echo x > ~/.agent/file; cat ~/.agent/file", mounts=(Mount(str(state), f"{HOME}/.agent"),), ident="ll2"
    )
    assert "denied" in refused
    assert "kept" in refused


def test_a_workspace_that_may_only_be_read(workspace: Path) -> None:
    (workspace / "notes").mkdir()
    (workspace / "away").symlink_to(workspace.parent)
    (workspace / "file").write_text("read\n")
    script = "cat file; echo x > file; echo x > new; echo y > notes/n && cat notes/n; echo z > away/z"
    told = shell(workspace, script, read_only=True, writable=("notes", "away", "../boxes", "missing"))
    assert [line for line in told.splitlines() if "denied" not in line] == ["read", "y"]
    assert told.count("denied") == 3
    assert not (workspace.parent / "z").exists()


def test_no_sockets_without_a_reason(workspace: Path) -> None:
    script = (
        "import socket\n"
        "for family, kind in ((1, 1), (1, 2), (2, 1), (2, 2), (10, 1), (16, 3)):\n"
        "    try: socket.socket(family, kind); print('made')\n"
        "    except PermissionError: print('refused')\n"
        "a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))"
    )
    assert python(workspace, script).split() == ["refused"] * 6 + ["b'x'"]


def test_only_the_port_of_the_proxy(workspace: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [listener.getsockname()[1] for listener in (proxy, other)]
        script = (
            "import socket\n"
            f"for port in {ports}:\n"
            "    try: socket.create_connection(('127.0.0.1', port)); print('connected')\n"
            "    except PermissionError: print('refused')\n"
            "for family, kind in ((2, 2), (1, 1)):\n"
            "    try: socket.socket(family, kind); print('made')\n"
            "    except PermissionError: print('refused')\n"
            "try: socket.create_server(('127.0.0.1', 0)); print('listens')\n"
            "except PermissionError: print('refused')"
        )
        told = python(workspace, script, network=Network.PROXY, port=ports[0]).split()
    full = VERSION >= 4
    assert told == ["connected", "refused" if full else "connected", "refused", "refused", "refused" if full else "listens"]


@pytest.mark.skipif(VERSION < 6, reason="not run: this kernel guards no signals")
def test_signals_reach_its_own_only(workspace: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as victim:
        told = shell(workspace, f"kill -0 {victim.pid} && echo reached; sleep 600 & kill $! && echo own")
        victim.kill()
    assert "reached" not in told
    assert "own" in told


def test_limits_are_set(workspace: Path) -> None:
    limits = Limits(processes=50, memory=1 << 30, file=1 << 20, files=99)
    told = shell(workspace, "cat /proc/self/limits; head -c 2000000 /dev/zero > big; stat -c %s big", limits=limits)
    found = {line[:25].strip(): line[26:].split()[:2] for line in told.splitlines()}
    assert found["Max processes"] == Path("/proc/self/limits").read_text().partition("Max processes")[2].split()[:2]
    assert found["Max data size"] == [str(1 << 30)] * 2
    assert found["Max open files"] == ["99", "99"]
    assert found["Max core file size"] == ["0", "0"]
    assert str(1 << 20) in told.splitlines()


def parked() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("parked-")]


def test_the_thread_waits_for_the_end_and_no_longer(workspace: Path) -> None:
    async def body() -> None:
        burying = reaper.Reaper()
        burying.start()
        process = await Process.start(launch(workspace, ("/bin/cat",), ident="ll4"))
        assert parked() == ["parked-ll4"]
        await process.send(b"hello\n")
        assert await process.read() == b"hello\n"
        report = await process.stop()
        assert (report.code, report.reason) == (0, "stopped")
        burying.stop()

    asyncio.run(body())
    until(lambda: not parked())


def test_what_leaves_its_session_is_ended_with_it(workspace: Path) -> None:
    async def body() -> int:
        burying = reaper.Reaper()
        burying.start()
        process = await Process.start(launch(workspace, (sys.executable, "-I", "-S", DOUBLES, "daemonise", "bare")))
        pid = int(await process.read())
        assert tree.start_time(pid) is not None
        await process.stop(stdin=0.0, term=0.0)
        burying.stop()
        return pid

    assert tree.start_time(asyncio.run(body())) is None


def test_what_cannot_be_started(workspace: Path) -> None:
    async def start(argv: tuple[str, ...], **options: object) -> None:
        await Process.start(launch(workspace, argv, **options))  # type: ignore[arg-type]

    with pytest.raises(RuntimeNotInstalled):
        asyncio.run(start(("no-such-program",)))
    (workspace / "plain").write_text("#!/bin/sh\n")
    with pytest.raises(AgentFailed, match="may not be executed"):
        asyncio.run(start((str(workspace / "plain"),)))
    (workspace / "gone").mkdir()
    gone = launch(workspace, ("/bin/true",), ident="ll3")
    (workspace / "gone").rmdir()
    with pytest.raises(NotFound):
        asyncio.run(Process.start(Launch(gone.id, gone.argv, str(workspace / "gone"), gone.env, gone.log, box=gone.box)))
    until(lambda: not parked())
