"""The daemon here keeps the last head of another machine's record and says when that went back; a real sshd, two daemons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opagent.client import Client
from tests.doubles.patience import until
from tests.doubles.sshd import Sshd, sshd
from tests.doubles.terminal import run, run_json


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    with sshd(home.parent / "there") as server:
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", server.config)
        (server.home / "docs").mkdir()
        yield server


def host() -> dict[str, Any]:
    with Client("test") as client:
        return next(host for host in client.request("host/list")["hosts"] if host["name"] == "there")


def anew() -> None:
    """The daemon here begins again, and with it the link."""
    assert run("daemon", "stop").returncode == 0


def test_a_record_that_was_made_anew_there_is_noticed_here(there: Sshd) -> None:
    assert run("open", "there:docs", "--agent", "echo", "-m", "hello").returncode == 0
    found = run_json("--host", "there", "audit", "list", "--kind", "agent.*")["records"]
    assert {row["kind"] for row in found} == {"agent.spawn", "agent.ready"}
    assert run("--host", "there", "audit", "verify").returncode == 0
    kinds = [row["kind"] for row in run_json("audit", "list", "--kind", "host.*")["records"]]
    assert kinds == ["host.connect"]

    anew()
    assert run("open", "there:docs", "--last", "-m", "again").returncode == 0
    assert "journal" not in host()
    assert run("--host", "there", "daemon", "stop").returncode == 0
    (database,) = there.home.rglob("opagent.db")
    for path in database.parent.glob("opagent.db*"):
        path.unlink()
    anew()
    assert run("open", "there:docs", "--agent", "echo", "-m", "all new").returncode == 0
    assert "ends at" in until(lambda: host().get("journal", "")) or "not the one that was there" in host()["journal"]
    gap = run_json("audit", "list", "--kind", "audit.gap")["records"]
    assert [row["obj"]["host"] for row in gap] == ["there"]
