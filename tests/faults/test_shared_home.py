"""One home directory on two machines: each has its own state, also where the file system does not tell. Real mounts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opagent import paths
from opagent.client import Client
from tests.doubles.daemons import environment
from tests.doubles.patience import PATIENCE, until

# Another machine: its own id, its own /var/tmp; the home directory is the same.
_OTHER = """
mount -t tmpfs none /dev/shm
cp "$ID" /dev/shm/id && mount --bind /dev/shm/id /etc/machine-id
mkdir -m 1777 /dev/shm/var && mount --bind "$HOME" /mnt && mount --bind /dev/shm/var /var/tmp
mkdir -p "$HOME" && mount --bind /mnt "$HOME" && chmod 711 "$HOME/.."
"""


@pytest.fixture(params=["fuse", "said"])
def shared(request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The test's home, shared as its file system tells, or as a variable says. The state that is kept elsewhere is removed."""
    if request.param == "fuse":
        assert shutil.which("bindfs"), "bindfs is not installed: scripts/system-packages installs it"
        (tmp_path / "served").mkdir()
        subprocess.run(["bindfs", "-o", "nonempty", tmp_path / "served", home], check=True)
        paths._shared.cache_clear()
    else:
        monkeypatch.setenv("OPAGENT_SHARED_HOME", "1")
    yield home
    state = paths.state()
    with Client("test", start=False) as client:
        client.request("daemon/stop")
    if request.param == "fuse":
        subprocess.run(["umount", "-l", home], check=True)
    until(lambda: shutil.rmtree(state, ignore_errors=True) or not state.exists())  # who was just ended may still write


def command(*words: str) -> list[dict[str, Any]]:
    """The objects that a command prints here."""
    argv = [sys.executable, "-m", "opagent", *words, "--json"]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode in (0, 1), done.stderr
    return objects(done.stdout)


def objects(text: str) -> list[dict[str, Any]]:
    found = []
    while text := text.strip():
        one, end = json.JSONDecoder().raw_decode(text)
        found.append(one)
        text = text[end:]
    return found


def elsewhere(script: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """What a script says on another machine with this home; `opagent` is the command."""
    (tmp_path / "id").write_text("0123456789abcdef0123456789abcdef\n")
    opagent = f'opagent() {{ {sys.executable} -m opagent "$@"; }}\n'
    flags = "-m" if os.geteuid() == 0 else "-Urm"
    argv = ["unshare", flags, "sh", "-euc", f"{opagent}{_OTHER}{script}"]
    env = environment(ID=str(tmp_path / "id"))
    return subprocess.run(argv, cwd="/", env=env, capture_output=True, text=True, timeout=PATIENCE)


def test_the_state_of_a_shared_home_is_kept_on_the_machine(shared: Path) -> None:
    (shared / "notes").mkdir()
    why = paths.state_moved()
    assert why and paths.state().parent == paths.local()
    params = {"path": str(shared / "notes"), "agent": "echo", "environment": dict(os.environ)}
    with Client("test") as client:
        [notice] = client.request("workspace/open", params)["notices"]
        assert str(paths.state()) in notice and why in notice
        assert client.request("workspace/open", params)["notices"] == []
        made = client.request("conversation/create", params)
        client.request("turn/start", {"conversation": made["id"], "text": "hello"})
    assert f"not safe on {why}" in paths.daemon_log().read_text()
    found = {check["name"]: check for check in command("doctor")[0]["checks"]}
    assert why in found["state kept"]["sentence"] and found["database"]["ok"]
    assert not (shared / ".local").exists(), "nothing of the state in the shared home"
    assert Path(made["path"]).is_relative_to(shared)


def test_two_machines_with_one_home_share_files_and_no_database(shared: Path, tmp_path: Path) -> None:
    for name in ("notes", "letters"):
        (shared / name).mkdir()
    here = command("open", str(shared / "notes"), "--agent", "echo", "-m", "from here")
    script = """
opagent conversations list --all --json
opagent open "$HOME/letters" --agent echo -m "from there" --json
opagent daemon stop
"""
    done = elsewhere(script, tmp_path)
    assert done.returncode == 0, done.stderr
    first, *there = objects(done.stdout)
    assert first["conversations"] == []
    assert {line["host"] for line in here}.isdisjoint({line["host"] for line in there})
    [found] = command("conversations", "list", "--all")[0]["conversations"]
    assert found["id"] == here[0]["conversation"]
    [letter] = (shared / "letters/conversations").glob("*.md")
    assert "from there" in letter.read_text()


def test_a_shared_home_that_does_not_tell_is_refused_with_the_variable(home: Path, tmp_path: Path) -> None:
    Client().close()
    done = elsewhere("opagent ps", tmp_path)
    assert done.returncode == 1 and "another machine" in done.stderr and "OPAGENT_SHARED_HOME=1" in done.stderr
