"""A head goes to the log of the system and to a program of the user's; real sockets, real programs."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from opagent import paths
from opagent.daemon import anchors
from opagent.store import heads

LINE = anchors.line("host-1", 7, "a" * 64, "2026-11-29T12:00:00Z")


@pytest.fixture
def log(tmp_path: Path) -> socket.socket:
    there = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    there.bind(str(tmp_path / "log"))
    there.settimeout(10)
    return there


def test_the_journal_of_systemd_gets_fields(log: socket.socket, tmp_path: Path) -> None:
    with log:
        assert anchors.journald(LINE, tmp_path / "log")
        fields = dict(line.split("=", 1) for line in log.recv(65536).decode().splitlines())
    assert fields["MESSAGE"] == LINE and fields["SYSLOG_IDENTIFIER"] == "opagent" and fields["PRIORITY"] == "5"
    assert heads.read(fields["MESSAGE"]) == [(7, "a" * 64)]


def test_syslog_gets_a_line(log: socket.socket, tmp_path: Path) -> None:
    with log:
        assert anchors.syslog(LINE, tmp_path / "log")
        assert log.recv(65536).decode() == f"<13>opagent[{os.getpid()}]: {LINE}"


def test_nobody_there_and_a_full_log_are_no_mistake_and_nobody_waits(log: socket.socket, tmp_path: Path) -> None:
    assert not anchors.journald(LINE, tmp_path / "missing")
    with log:
        taken = [anchors.journald(LINE, tmp_path / "log") for _ in range(5000)]
    assert taken[0] and not taken[-1]


def program(text: str, mode: int = 0o700) -> Path:
    path = paths.anchor_program()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_users_program_gets_the_line_and_nothing_secret(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cret-value-1")
    program(f"#!/bin/sh\ncat > {home}/got\nenv > {home}/env\n")
    assert anchors.program(LINE)
    assert (home / "got").read_text() == LINE + "\n"
    assert "s3cret" not in (home / "env").read_text() and f"HOME={home}" in (home / "env").read_text()


@pytest.mark.parametrize(
    ("text", "mode"), [("#!/bin/sh\nexit 1\n", 0o700), ("#!/bin/sh\n", 0o600), ("#!/bin/sh\n", 0o777), ("no program", 0o700)]
)
def test_a_program_that_fails_or_that_others_may_write_did_not_take_it(text: str, mode: int) -> None:
    program(text, mode)
    assert not anchors.program(LINE)


def test_without_a_program_nothing_is_run() -> None:
    assert not anchors.program(LINE)


def test_the_key_is_made_once_and_is_private(home: Path) -> None:
    assert heads.known_key(paths.audit_key()) is None
    key = heads.key(paths.audit_key())
    assert len(key) == 32 and heads.key(paths.audit_key()) == key == heads.known_key(paths.audit_key())
    assert paths.audit_key().stat().st_mode & 0o777 == 0o600
