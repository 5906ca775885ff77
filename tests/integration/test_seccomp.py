"""The filter on real processes: each refused call is made, what it prevents is seen to happen without it, programs go on working."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from opagent.process import seccomp
from opagent.process.seccomp import KERNEL, MOUNTS, OTHER_PROCESSES, program
from tests.doubles import filtered

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="not run: the calls are made by the numbers of x86_64")
NAMES = (*OTHER_PROCESSES, *KERNEL, *MOUNTS)
EPERM, ANOTHER = 0x00050001, 0x00050063  # EADDRNOTAVAIL: an answer that none of these calls has by itself


def written(home: Path, data: bytes) -> str:
    path = home / "filter"
    path.write_bytes(data)
    return str(path)


def attempts(home: Path, data: bytes) -> dict[str, str]:
    folder = home / "work"
    folder.mkdir()
    numbers = json.dumps({name: seccomp.MACHINES["x86_64"].numbers[name] for name in NAMES})
    argv = [sys.executable, "-I", "-S", filtered.__file__, written(home, data), "try", numbers, str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder)
    said: dict[str, str] = json.loads(done.stdout)
    return said


def test_what_is_refused(home: Path) -> None:
    said = attempts(home, program("x86_64"))
    refused = {*NAMES, "clone", "TIOCSTI", "TIOCLINUX", "socket vsock", "socket packet", "x32"}
    refused |= {name for name in said if name.startswith("set-id by ")} - {"set-id by openat2"}
    assert {name: said[name] for name in refused} == dict.fromkeys(refused, "EPERM")
    assert said["set-id by openat2"] == said["clone3"] == "ENOSYS"
    assert said["set-id files"] == "none"
    assert said["other machine"] == "SIGSYS"
    usual = {name for name in said if name.startswith("usual ")} | {
        "socket 1",
        "socket 2",
        "socket 10",
        "socket netlink",
        "datagram",
    }
    assert {name: said[name] for name in usual} == {**dict.fromkeys(usual, "allowed"), "usual terminal": "ENOTTY"}


def test_it_is_the_filter_that_refuses(home: Path) -> None:
    """A plain user is refused much of this by the kernel as well: with another answer in the filter, the filter's is seen."""
    marked = program("x86_64").replace(EPERM.to_bytes(4, sys.byteorder), ANOTHER.to_bytes(4, sys.byteorder))
    said = attempts(home, marked)
    assert {name: said[name] for name in NAMES} == dict.fromkeys(NAMES, "EADDRNOTAVAIL")


def test_without_a_filter_it_happens(home: Path) -> None:
    said = attempts(home, b"")
    assert "open" in said["set-id files"].split()
    assert "chmod" not in said["set-id files"]
    assert said["set-id by O_TMPFILE"] == said["set-id by chmod"] == said["set-id by openat2"] == "allowed"
    for name in ("process_vm_readv", "pidfd_getfd", "io_uring_enter", "unshare", "setns", "TIOCLINUX", "x32", "clone3"):
        assert said[name] not in ("EPERM", "SIGSYS"), (name, said[name])
    assert said["other machine"] != "SIGSYS"


def test_a_runtime_with_its_own_sandbox(home: Path) -> None:
    bare, said = attempts(home, b""), attempts(home, program("x86_64", nested=True))
    same = (*MOUNTS, "clone", "clone3")
    assert {name: said[name] for name in same} == {name: bare[name] for name in same}
    assert {said[name] for name in (*OTHER_PROCESSES, *KERNEL)} == {"EPERM"}


def test_no_sockets_at_all(home: Path) -> None:
    said = attempts(home, program("x86_64", families=()))
    for name in ("socket 1", "socket 2", "socket 10", "socket netlink", "datagram"):
        assert said[name] == "EPERM", name
    assert said["usual pair"] == "allowed"


def test_only_plain_streams(home: Path) -> None:
    said = attempts(home, program("x86_64", families=(seccomp.AF_INET,), namespaces=False))
    assert said["socket 2"] == "allowed"
    for name in ("socket 1", "socket 10", "datagram", "multipath", "sent with the opening"):
        assert said[name] == "EPERM", name


THREADS = "import threading as t; x = t.Thread(target=print, args=('thread',)); x.start(); x.join()"
CHILDREN = (
    "import subprocess as s, multiprocessing as m; m.Process(target=print, args=('child',)).start(); s.run(['true'], check=True)"
)
WORKER = "new (require('worker_threads').Worker)('console.log(\"worker\")', {eval: true})"
SPAWN = "console.log(require('child_process').execFileSync('echo', ['spawned']).toString().trim())"
GIT = (
    "git init -q . && echo a > a && git add a && git -c user.name=n -c user.email=e@example.org commit -qm one"
    " && git checkout -qb b && git status --short -uno && git log --oneline | wc -l"
)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ((sys.executable, "-I", "-S", "-c", THREADS), "thread"),
        ((sys.executable, "-I", "-S", "-c", CHILDREN), "child"),
        (("node", "-e", WORKER), "worker"),
        (("node", "-e", SPAWN), "spawned"),
        (("sh", "-c", "(echo piped; sleep 0) | cat | cat"), "piped"),
        (("sh", "-c", GIT), "1"),
    ],
    ids=("threads", "children", "node-worker", "node-spawn", "shell", "git"),
)
def test_programs_go_on_working(home: Path, argv: tuple[str, ...], says: str) -> None:
    if shutil.which(argv[0]) is None:
        pytest.skip(f"not run: no {argv[0]} here")
    command = [sys.executable, "-I", "-S", filtered.__file__, written(home, program("x86_64")), "run", *argv]
    done = subprocess.run(command, capture_output=True, text=True, cwd=home)
    assert (done.stdout.strip(), done.stderr, done.returncode) == (says, "", 0)
