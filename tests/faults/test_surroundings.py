"""The environment of commands and daemon: hostile directories under strace, scripts without a person, odd homes and umasks, no TCP."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from opagent import paths
from opagent.errors import NotTrusted
from tests.doubles.daemons import environment
from tests.doubles.patience import until
from tests.faults.conftest import Place
from tests.hostile import directories

COMMANDS = (
    ("explain",), ("trust", "--show"), ("open", "-m", "hello"), ("send", ".", "hello"), ("ps",), ("approvals",),
    ("conversations", "list"), ("doctor",),
)  # fmt: skip
WORST = ("a hostile git configuration", "environment files and programs", "a tool that is a payload", "a tool in the directory")


def hostile(home: Path, name: str) -> Path:
    at = home / "work/repo"
    at.mkdir(parents=True)
    next(case for case in directories.CASES if case.name == name).build(at)
    return at


@pytest.mark.parametrize("name", WORST)
def test_commands_in_a_hostile_directory_under_strace(home: Path, name: str) -> None:
    """B1: no program of the directory is run, nothing but our own socket is connected to, no name is looked up."""
    if (strace := shutil.which("strace")) is None:
        pytest.skip("strace is not installed")
    at, trace = hostile(home, name), home / "trace"
    opagent = [sys.executable, "-m", "opagent"]
    traced = [strace, "-ff", "-qq", "-s", "300", "-e", "trace=execve,connect", "-o", str(trace)]
    if subprocess.run([*traced, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    with subprocess.Popen([*traced, *opagent, "daemon", "run"], env=environment(), cwd="/", stderr=subprocess.DEVNULL) as daemon:
        until(lambda: paths.socket().exists())
        for command in COMMANDS:
            subprocess.run([*traced, *opagent, *command], capture_output=True, env=environment(), cwd=at, check=False, timeout=60)
        completing = environment(_OPAGENT_COMPLETE="bash_complete", COMP_WORDS="opagent open ", COMP_CWORD="2")
        subprocess.run([*traced, *opagent], capture_output=True, env=completing, cwd=at, check=False, timeout=60)
        subprocess.run([*opagent, "daemon", "stop"], env=environment(), capture_output=True, check=False)
        daemon.wait()
    lines = [line for file in home.glob("trace.*") for line in file.read_text(errors="replace").splitlines()]
    ran = [line for line in lines if "execve(" in line]
    assert ran and not [line for line in ran if str(at) in line.split("execve(", 1)[1].split(",", 1)[0]], ran
    assert not [line for line in ran if "OWNED" in line]
    connects = [line for line in lines if "connect(" in line and "AF_UNIX" not in line and "AF_UNSPEC" not in line]
    assert not connects, connects
    assert not (at.parent / "OWNED").exists()


@pytest.mark.parametrize("words", [("-y",), ("--no-input",), ()], ids=["yes", "no input", "CI"])
def test_nobody_there_is_no_yes(home: Path, words: tuple[str, ...]) -> None:
    """B4: without a terminal, with CI=1, with --yes: trust stays a person's, exit 6, and nothing was started."""
    at = hostile(home, "a tool in the directory")
    env = environment(CI="1", OPAGENT_TRUST="yes", OPAGENT_YES="1")
    argv = [sys.executable, "-m", "opagent", *words, "open", "-m", "hello"]
    said = subprocess.run(argv, cwd=at, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert said.returncode == NotTrusted.exit and "opagent trust" in said.stderr, said
    assert not (at.parent / "OWNED").exists()


def test_the_daemon_listens_on_no_network(place: Place) -> None:
    """S7: no browser page can reach what has no port."""
    conversation = place.create("oracle")
    place.say(conversation, "hello")
    pids = [place.daemon(), *place.agents()]
    found = [one for pid in pids for one in psutil.Process(pid).net_connections(kind="inet")]
    assert not found
    place.settle()


@pytest.mark.parametrize("broken", ["umask 0", "no HOME", "HOME of another", "runtime directory for all"])
def test_odd_surroundings_of_the_first_command(home: Path, tmp_path: Path, broken: str) -> None:
    """S5: private files, or one line of refusal; never a socket or a database that others can open."""
    env = environment()
    if broken == "no HOME":
        env = {name: value for name, value in env.items() if name != "HOME" and not name.startswith("XDG_")}
        env["OPAGENT_STATE_DIR"], env["OPAGENT_RUN_DIR"] = str(home / "state"), str(home / "run")
    elif broken == "HOME of another":
        if os.geteuid() != 0:
            pytest.skip("only root can give a directory away")
        os.chown(home, 12345, 12345)
    elif broken == "runtime directory for all":
        open_to_all = tmp_path / "run"
        open_to_all.mkdir()
        open_to_all.chmod(0o1777)
        env["XDG_RUNTIME_DIR"] = str(open_to_all)
    argv = [sys.executable, "-m", "opagent", "ps"]
    umask = 0 if broken == "umask 0" else -1
    said = subprocess.run(argv, cwd="/", env=env, capture_output=True, text=True, umask=umask, check=False)
    assert said.returncode in (0, 1) and "Traceback" not in said.stderr, said.stderr
    if said.returncode:
        assert said.stderr.count("error: ") == 1
    found = [
        path for top in (home, tmp_path) for path in top.rglob("*") if path.name.startswith(("opagent.db", "daemon", "control"))
    ]
    for path in found:
        assert path.lstat().st_mode & 0o077 == 0 or path.parent.lstat().st_mode & 0o077 == 0, path
    subprocess.run([*argv[:-1], "daemon", "stop"], env=env, capture_output=True, check=False)
    if broken == "HOME of another":
        os.chown(home, os.geteuid(), os.getegid())
