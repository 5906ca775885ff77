"""A directory of another machine: a real sshd, nothing of ours on it before, and the command line as at home."""

from __future__ import annotations

import asyncio
import io
import lzma
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent.remote import bridge
from opagent.remote.bootstrap import Wanted
from opagent.remote.dial import Settings
from opagent.remote.payload import Payload, pack, payload
from opagent.remote.seam import Question
from opagent.target import Target
from opagent.version import VERSION
from tests.doubles.account import NEEDS_ROOT, NUMBER, account
from tests.doubles.daemons import command, environment
from tests.doubles.far import daemon_of, kill
from tests.doubles.patience import until
from tests.doubles.sshd import Sshd, fingerprint, generate, sshd
from tests.doubles.terminal import Terminal, run, run_json


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    with sshd(home.parent / "there") as server:
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", server.config)
        yield server


def test_a_turn_on_a_machine_that_has_nothing_of_ours(there: Sshd) -> None:
    (there.home / "docs").mkdir()
    done = run("open", f"there:{there.home}/docs", "--agent", "echo", "-m", "hello")
    assert (done.returncode, done.stdout) == (0, "echo: hello\n"), done.stderr


def test_a_server_that_allows_next_to_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One session, no forwarding, no files, a command of its own that lets ours through, a banner, new keys all the time."""
    banner = home / "banner"
    banner.write_text("authorised use only \x1b[31m\n" * 700)
    odd = {
        "MaxSessions": 1, "DisableForwarding": "yes", "ForceCommand": 'echo hello from the wrapper; eval "$SSH_ORIGINAL_COMMAND"',
        "Subsystem": "sftp /bin/false", "RekeyLimit": "1M", "Banner": banner,
    }  # fmt: skip
    with sshd(home.parent / "there", **odd) as server:
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", server.config)
        (server.home / "docs").mkdir()
        words = command("open", "there:docs", "--agent", "echo", "-m", "/flood 2000 1000\nflood")
        with subprocess.Popen(words, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as flooded:
            until(lambda: run_json("ps", "--host", "there")["processes"])  # on the one session
            assert run("open", "there:docs", "--agent", "echo", "-m", "hello").stdout == "echo: hello\n"
            said, _ = flooded.communicate()
        assert flooded.returncode == 0 and len(said) > 2_000_000 and said.endswith(b"echo: flood\n")


def test_a_person_is_asked_for_the_key_of_the_machine_and_for_a_passphrase(there: Sshd) -> None:
    """What the daemon has to know comes from the terminal that the command was typed in, once."""
    (there.home / "docs").mkdir()
    key = generate(there.folder / "locked", "ed25519", "open sesame")
    there.authorize(key)
    there.know()
    there.configure(IdentityFile=str(key))
    alone = run("open", "there:docs", "--agent", "echo", "-m", "hello")
    assert alone.returncode == 7 and "the key of there is not known" in alone.stderr
    asked = Terminal("open", "there:docs", "--agent", "echo", "-m", "hello")
    asked.expect(re.escape(fingerprint(there.host_key)))
    asked.type("yes\r")
    asked.expect("assphrase")
    asked.type("open sesame\r")
    asked.expect("echo: hello")
    assert asked.end() == 0
    assert "open sesame" not in asked.text
    assert run("open", "there:docs", "--last", "-m", "again").stdout == "echo: again\n"


# ---- several who use it --------------------------------------------------------------------------------------------------


def test_two_laptops_and_one_directory(there: Sshd, home: Path) -> None:
    """The second one sees what the first one began, its turn waits for the other's, and each sees both."""
    (there.home / "docs").mkdir()
    other = home.parent / "laptop"
    other.mkdir(mode=0o700)
    second = {
        "HOME": str(other), "XDG_CONFIG_HOME": f"{other}/.config", "XDG_STATE_HOME": f"{other}/.local/state",
        "XDG_DATA_HOME": f"{other}/.local/share", "XDG_CACHE_HOME": f"{other}/.cache",
    }  # fmt: skip
    words = command("open", "there:docs", "--agent", "echo", "-m", "/slow 20 0.05\nfrom the first")
    with subprocess.Popen(words, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as first:
        until(lambda: run_json("ps", "--host", "there")["processes"])
        queued = run("send", "there:docs", "from the second", **second)
        assert (queued.returncode, queued.stdout) == (0, "echo: from the second\n"), queued.stderr
        said, _ = first.communicate()
    assert said.endswith(b"20 echo: from the first\n")
    (conversation,) = run_json("conversations", "list", "there:docs")["conversations"]
    shown = [run_json("--host", "there", "conversations", "show", conversation["id"], **more) for more in ({}, second)]
    assert shown[0] == shown[1]
    assert [turn["text"].splitlines()[-1] for turn in shown[0]["turns"]] == ["from the first", "from the second"]
    pids = [run_json("daemon", "status", *where, **more)["pid"] for where in ((), ("--host", "there")) for more in ({}, second)]
    assert pids[0] != pids[1] and pids[2] == pids[3]


@NEEDS_ROOT
def test_two_users_of_one_machine(there: Sshd, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a daemon, code and state of its own; here they are two machines."""
    with account(home.parent / "ana") as ana:
        text = Path(ana.config).read_text().replace("Host there", "Host ana")
        there.configure(text)
        for server in (there, ana):
            (server.home / "docs").mkdir()
            os.chown(server.home / "docs", server.home.stat().st_uid, -1)
        for name in ("there", "ana"):
            done = run("open", f"{name}:docs", "--agent", "echo", "-m", f"for {name}")
            assert (done.returncode, done.stdout) == (0, f"echo: for {name}\n"), done.stderr
        assert {row["host"] for row in run_json("ps", "-a")["processes"]} == {"there", "ana"}
        users = {run_json("daemon", "status", "--host", name)["database"] for name in ("there", "ana")}
        assert len(users) == 2
        (conversation,) = (ana.home / "docs/conversations").glob("*.md")
        assert conversation.stat().st_uid == NUMBER
        assert run("host", "forget", "ana", "--purge", "--yes").returncode == 0
        assert run("open", "there:docs", "--last", "-m", "still here").stdout == "echo: still here\n"


# ---- what was there before -----------------------------------------------------------------------------------------------


def _older(made: Payload) -> Payload:
    """The same package of an earlier version."""
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(made.data))) as archive:
        contents = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    del contents["__main__.py"]
    contents["opagent/version.py"] = contents["opagent/version.py"].replace(VERSION.encode(), b"0.0.9")
    return pack(contents)


def test_an_older_version_makes_way_when_it_is_idle(there: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    (there.home / "docs").mkdir()
    older = _older(payload())

    async def nobody(_: Question) -> None:
        return None

    async def begin() -> str:
        settings = Settings(config=there.config)
        made = await bridge.build(Target("there", "/"), settings, bridge.Known(), nobody, lambda _: None, Wanted("there"))
        made.close()
        return made.facts.version

    with monkeypatch.context() as patch:
        patch.setattr(bridge, "payload", lambda: older)
        assert asyncio.run(begin()) == "0.0.9"
    done = run("open", "there:docs", "--agent", "echo", "-m", "hello")
    assert (done.returncode, done.stdout) == (0, "echo: hello\n"), done.stderr
    status = run_json("daemon", "status", "--host", "there")
    assert (status["version"], status["code"]) == (VERSION, payload().digest)
    assert {older.digest, payload().digest} <= set(os.listdir(there.home / ".cache/opagent/rt"))


def test_a_machine_that_was_started_anew(there: Sshd) -> None:
    """No process of before, another place for the socket, the files as they were: the next command goes on in the conversation."""
    (there.home / "docs").mkdir()
    assert run("open", "there:docs", "--agent", "echo", "-m", "before").returncode == 0
    before = run_json("daemon", "status", "--host", "there")
    there.stop()
    kill(daemon_of(str(there.home)))
    there.environment["OPAGENT_RUN_DIR"] = str(there.folder / "boot2")
    there.start()
    done = run("open", "there:docs", "--last", "-m", "after")
    assert (done.returncode, done.stdout) == (0, "echo: after\n"), done.stderr
    after = run_json("daemon", "status", "--host", "there")
    assert after["socket"] != before["socket"] and after["database"] == before["database"]
    (conversation,) = run_json("conversations", "list", "there:docs")["conversations"]
    assert conversation["turns"] == 2
