"""Processes and approvals of several machines in one list: real sshd, no machine is dialed that need not be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fastjsonschema
import pytest

from opagent.cli.schemas import of
from opagent.client import Client
from opagent.daemon import fleet
from tests.doubles.patience import until
from tests.doubles.sshd import Sshd, sshd
from tests.doubles.terminal import run, run_json


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    with sshd(home.parent / "there") as server:
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", server.config)
        (server.home / "docs").mkdir()
        yield server


def _link() -> str:
    return next(str(host["state"]) for host in run_json_hosts() if host["name"] == "there")


def run_json_hosts() -> list[dict[str, object]]:
    with Client("test") as client:
        return list(client.request("host/list")["hosts"])


def test_ps_of_all_machines(there: Sshd, home: Path) -> None:
    (home / "notes").mkdir()
    assert run("open", str(home / "notes"), "--agent", "echo", "-m", "here").returncode == 0
    assert "HOST" not in run("ps", "-a").stdout, "one machine alone"
    assert run("open", "there:docs", "--agent", "echo", "-m", "hello").returncode == 0
    shown = run_json("ps", "-a")
    fastjsonschema.compile(of("ps"))(shown)
    assert {(row["host"], Path(row["workspace"]).name) for row in shown["processes"]} == {(None, "notes"), ("there", "docs")}
    assert [(host["name"], host["answered"]) for host in shown["hosts"]] == [("there", True)]
    table = run("ps", "-a").stdout
    assert table.startswith("HOST ") and "\nhere " in table and "\nthere " in table
    assert "host" not in run_json("ps")["processes"][0] and len(run_json("ps")["processes"]) == 1

    there.stop()
    until(lambda: _link() != "connected")
    gone = run("ps", "-a", "--timeout", "1s")
    assert "- offline " in gone.stdout and "\nhere " in gone.stdout
    assert gone.stderr.startswith("there: offline ") and gone.returncode == 0
    stale = [row for row in run_json("ps", "-a", "--timeout", "1s")["processes"] if "stale" in row]
    assert [(row["host"], row["agent"]) for row in stale] == [("there", "echo")]

    there.start()
    assert "stale" not in json.dumps(run_json("ps", "-a", "--timeout", "30s")), "dialed again"


def test_a_look_that_does_not_dial(there: Sshd) -> None:
    assert run("open", "there:docs", "--agent", "echo", "-m", "hello").returncode == 0
    run_json("ps", "-a")
    assert run("daemon", "stop").returncode == 0
    before = there.log.read_text().count("Connection from")
    with Client("test") as client:
        said = client.request("process/list", {"all": True, "hosts": True, "dial": False})
        assert client.request("approval/list", {"hosts": True})["approvals"] == []
    assert [row["host"] for row in said["processes"] if "stale" in row] == ["there"]
    assert said["hosts"][0]["answered"] is False and said["hosts"][0]["why"] == "it is not connected"
    assert there.log.read_text().count("Connection from") == before


def test_an_approval_of_another_machine(there: Sshd) -> None:
    begun = run("open", "there:docs", "--agent", "echo", "-m", "/permission")
    assert begun.returncode == 9, begun.stdout + begun.stderr
    [waits] = run_json("approvals")["approvals"]
    assert waits["host"] == "there"
    listed = run("approvals").stdout
    assert listed.startswith("HOST ") and "\nthere " in listed
    done = run("allow", waits["id"][:4])
    assert (done.returncode, f"{waits['id']} on there: " in done.stderr) == (0, True), done.stderr
    assert run_json("approvals")["approvals"] == []
    again = run("allow", "zzzzz")
    assert again.returncode == 4 and "zzzzz" in again.stderr


def test_usage_of_all_machines_and_a_budget_there(there: Sshd, home: Path) -> None:
    (home / "notes").mkdir()
    (there.home / "docs/.agent.yaml").write_text("version: 1\nagent: echo\nbudget: {turns: 1, per: total}\n")
    assert run("open", str(home / "notes"), "--agent", "echo", "-m", "/spend 30").returncode == 0
    assert run("open", "there:docs", "-m", "/spend 12").returncode == 0
    shown = run_json("usage", "-a", "--by", "host")
    fastjsonschema.compile(of("usage"))(shown)
    assert sorted((row["host"] or "", row["tokens"]) for row in shown["usage"]) == [("", 30), ("there", 12)]
    assert "\nthere " in run("usage", "-a").stdout and "there" not in run("usage").stdout
    refused = run("open", "there:docs", "-m", "more")
    assert refused.returncode == 8 and "opagent --host there allow" in refused.stderr, refused.stderr
    assert "1 added" in run("budget", "there:docs", "--raise", "turns=1").stdout
    assert run("--host", "there", "budget", "docs/").stdout.count("total") == 1
    assert run("open", "there:docs", "-m", "more").returncode == 0


def test_a_row_is_a_row() -> None:
    whole = {
        "conversation": "c", "path": "/p", "workspace": "/w", "agent": "a", "runtime": "r", "state": "ready", "since": "", "queued": 0,
        "restarts": 0, "sentence": "", "id": None, "pid": 1, "turn": None,
    }  # fmt: skip
    odd = {"memory": "much", "ports": [1, "x"], "children": [{"pid": 1}, 7], "host": "elsewhere", "stale": "x"}
    assert fleet._formed([whole | odd, {}, 1, whole | {"pid": True}], fleet._PROCESS) == [whole | {"children": []}]
    assert fleet._formed({"a": 1}, fleet._PROCESS) == []
    assert len(fleet._formed([whole] * 2000, fleet._PROCESS)) == fleet.MOST
