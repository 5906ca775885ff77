"""Outliving a logout: the decision, and what is asked and started, with small programs in the place of systemd's."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from opagent import staying
from opagent.client import Client
from opagent.staying import Logind, decide
from tests.doubles.patience import until

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize(
    ("logind", "stays", "scope", "hint"),
    [
        (Logind(None), True, False, ""),
        (Logind(False), True, False, ""),
        (Logind(False, True, True), True, False, ""),
        (Logind(True, False, True), False, False, "loginctl enable-linger"),
        (Logind(True, None, True), False, False, "loginctl enable-linger"),
        (Logind(True, True, False), False, False, "ask the administrator for KillExcludeUsers"),
        (Logind(True, True, True), True, True, ""),
    ],
)
def test_the_decision(logind: Logind, stays: bool, scope: bool, hint: str) -> None:
    found = decide(logind)
    assert (found.stays, bool(found.prefix), found.hint) == (stays, scope, hint)
    assert found.sentence and not found.sentence.endswith(".")


class Systemd:
    """Programs of systemd's names; what was started through a scope is written down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scopes = folder / "scopes"

    def put(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def logind(self, kills: str = "true", only: str = "as 0", excluded: str = "as 0", linger: str = "yes") -> None:
        self.put(
            "busctl", f"[ \"$1 $2\" = 'get-property org.freedesktop.login1' ] || exit 1\necho 'b {kills}\n{only}\n{excluded}'"
        )
        self.put("loginctl", f'[ "$*" = "show-user {os.getuid()} --property=Linger" ] && echo Linger={linger}')
        self.put("systemd-run", f'echo "$*" >>{self.scopes}\n[ "$1 $2" = "--user --scope" ] || exit 1\nshift 5\nexec "$@"')


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Systemd(tmp_path)


def test_what_logind_says(systemd: Systemd) -> None:
    systemd.logind()
    assert staying.ask() == Logind(True, True, True)
    systemd.logind(linger="no")
    assert staying.ask() == Logind(True, False, True)
    systemd.logind(kills="false")
    assert staying.ask() == Logind(False)
    systemd.logind(excluded=f'as 2 "somebody" "{ME}"')
    assert staying.ask() == Logind(False)
    systemd.logind(only='as 1 "somebody"')
    assert staying.ask() == Logind(False)
    systemd.logind(only=f'as 1 "{ME}"')
    assert staying.ask() == Logind(True, True, True)


@pytest.mark.parametrize("script", ["exit 1", "echo nonsense", "exec sleep 60", "exit 0", "kill -9 $$"])
def test_a_logind_that_does_not_answer(systemd: Systemd, script: str) -> None:
    systemd.put("busctl", script)
    assert staying.ask() == Logind()


def test_a_daemon_in_a_scope(systemd: Systemd) -> None:
    systemd.logind()
    with Client("test") as client:
        assert client.request("daemon/status")["pid"]
    assert "opagent.daemon.main --ready-fd" in systemd.scopes.read_text()


def test_a_plain_daemon_where_logind_leaves_it_alone(systemd: Systemd) -> None:
    systemd.logind(kills="false")
    Client("test").close()
    assert not systemd.scopes.exists()


def test_a_plain_daemon_where_the_scope_cannot_be_made(systemd: Systemd) -> None:
    systemd.logind()
    systemd.put("systemd-run", f"echo tried >>{systemd.scopes}; echo 'Failed to connect to bus' >&2; exit 1")
    with Client("test") as client:
        pid = client.greeting.daemon
    assert systemd.scopes.read_text() == "tried\n"
    until(lambda: os.getsid(pid) == pid)
