"""`opagent host`: what is known of other machines, a look at one, and nothing of ours left there."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.clock import faked
from tests.doubles.sshd import Sshd, sshd
from tests.doubles.terminal import run, run_json


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    with sshd(home.parent / "there") as server:
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", server.config)
        yield server


def everything(folder: Path) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(where, name), folder) for where, dirs, names in os.walk(folder) for name in dirs + names
    )


def test_a_machine_is_looked_at_used_and_as_before_when_it_is_forgotten(there: Sshd) -> None:
    (there.home / "docs").mkdir()
    before = everything(there.home)
    looked = run("host", "check", "there")
    assert looked.returncode == 0, looked.stdout + looked.stderr
    assert "reached" in looked.stdout and "interpreter" in looked.stdout and "the clocks agree" in looked.stdout
    assert run("open", "there:docs", "--agent", "echo", "-m", "hello").returncode == 0
    (listed,) = run_json("host", "list")["hosts"]
    assert (listed["name"], listed["state"], listed["transport"]) == ("there", "connected", "asyncssh")
    assert run_json("ps", "--host", "there")["processes"]
    assert run("host", "forget", "there", "--purge").returncode == 2  # nobody said yes
    gone = run("host", "forget", "there", "--purge", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert run_json("host", "list")["hosts"] == []
    left = [name for name in everything(there.home) if name not in before]
    assert all(name.startswith(("docs/conversations", "docs/.opagent")) for name in left), left


def test_a_machine_behind_a_command(there: Sshd) -> None:
    (there.home / "docs").mkdir()
    words = f"env HOME={there.home} XDG_STATE_HOME={there.home}/s XDG_CACHE_HOME={there.home}/c"
    assert run("host", "add", "box", "--command", words, "--python", sys.executable).returncode == 0
    (added,) = run_json("host", "list")["hosts"]
    assert (added["name"], added["settings"]["python"]) == ("box", sys.executable)
    done = run("open", f"box:{there.home}/docs", "--agent", "echo", "-m", "hello")
    assert (done.returncode, done.stdout) == (0, "echo: hello\n"), done.stderr
    forgotten = run_json("host", "forget", "box")
    assert forgotten["forgotten"]


def checked(*words: str) -> dict[str, dict[str, str | bool | None]]:
    """The steps of `host check` by name."""
    return {str(step["name"]): step for step in run_json("host", "check", *words)["steps"]}


def test_a_check_measures_the_way(there: Sshd) -> None:
    steps = checked("there")
    assert 0 < float(str(steps["round trip"]["sentence"]).split()[0]) < 5000
    assert str(steps["round trip"]["sentence"]).endswith(" ms by asyncssh")
    assert steps["sockets"]["ok"] is True and "forwarded" in str(steps["sockets"]["sentence"])
    assert "logout" in str(steps["logout"]["sentence"])  # whether the daemon outlives it
    assert "none runs" in str(steps["daemon"]["sentence"])  # and none was started for it
    assert not list(there.home.rglob("try-*")) and not any(path.is_socket() for path in there.home.rglob("*"))


def test_a_check_of_a_server_that_forwards_no_sockets(there: Sshd) -> None:
    there.options |= {"AllowStreamLocalForwarding": "no", "MaxSessions": "1"}
    there.restart()
    steps = checked("there")
    assert steps["sockets"]["ok"] is None and "share one session" in str(steps["sockets"]["sentence"])
    assert steps["sockets"]["hint"] == "AllowStreamLocalForwarding yes in its sshd_config"


def test_a_check_by_other_transports(there: Sshd) -> None:
    assert run("host", "add", "there", "--transport", "openssh").returncode == 0
    words = f"env HOME={there.home} XDG_STATE_HOME={there.home}/s XDG_CACHE_HOME={there.home}/c"
    assert run("host", "add", "box", "--command", words).returncode == 0
    for name, transport in (("there", "openssh"), ("box", "command")):
        steps = checked(name)
        assert str(steps["round trip"]["sentence"]).endswith(f" ms by {transport}")
        assert steps["sockets"]["ok"] is True and "share one session" in str(steps["sockets"]["sentence"])


def test_a_machine_with_another_clock(there: Sshd) -> None:
    words = ["env", f"HOME={there.home}", *(f"{name}={value}" for name, value in faked("+3d").items())]
    assert run("host", "add", "box", "--command", " ".join(words)).returncode == 0
    looked = run("host", "check", "box")
    assert looked.returncode == 0, looked.stdout
    assert re.search(r"! look +clock +the clocks are 259[12]\d\d s apart; nothing of OpAgent depends on it", looked.stdout)


def test_what_cannot_be_reached(there: Sshd) -> None:
    there.stop()
    looked = run("host", "check", "there")
    assert looked.returncode == 7
    assert "✗ failed" in looked.stdout and "host_unreachable" in looked.stdout


@pytest.mark.parametrize("words", [("add", "a b"), ("add", "x", "--command", "'"), ("forget", "x", "--force"), ("check", "-x")])
def test_words_that_are_wrong(home: Path, words: tuple[str, ...]) -> None:
    assert run("host", *words).returncode == 2
