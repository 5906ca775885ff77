"""Processes and approvals of several machines in one list: real sshd, no machine is dialed that need not be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import fastjsonschema
import pytest

from opagent.cli.schemas import of
from opagent.client import Client
from opagent.daemon import fleet
from opagent.remote.bootstrap import Facts
from opagent.store import machines as rows
from opagent.store.machines import Machine
from tests.doubles import inside
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


def test_a_machine_that_is_dialed_for_a_list_is_reached_also_where_the_list_does_not_wait(there: Sshd) -> None:
    """The package is on its way to it: the next command would begin anew."""
    assert run("host", "add", "there").returncode == 0
    assert "no answer in time" in json.dumps(run_json("ps", "-a", "--timeout", "0.1"))
    until(lambda: _link() == "connected")
    assert run_json("ps", "-a")["hosts"][0]["answered"]


def test_a_machine_that_is_forgotten_while_it_is_dialed_stays_so(home: Path) -> None:
    async def scene() -> None:
        async with inside.host() as host:
            reached = host.links._reach("there")
            host.links.drop("there")
            facts = Facts("/h", 1, "u", "/s", "/p", "3.11", "0.1.0", "d", "/b", True, "linux", "there")
            await host.links._seen(reached, SimpleNamespace(identity="key", transport="asyncssh"), facts)
            record = Machine("there", "there")
            await fleet._keep(host, fleet.Answer(record, [{"id": "x"}], "now"))
            await host.database.write(lambda db: rows.renew(db, record))
            assert host.links.listed() == []

    asyncio.run(scene())


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


def test_a_row_is_a_row() -> None:
    whole = {
        "conversation": "c", "path": "/p", "workspace": "/w", "agent": "a", "runtime": "r", "state": "ready", "since": "", "queued": 0,
        "restarts": 0, "sentence": "", "id": None, "pid": 1, "turn": None,
    }  # fmt: skip
    odd = {"memory": "much", "ports": [1, "x"], "children": [{"pid": 1}, 7], "host": "elsewhere", "stale": "x"}
    assert fleet._formed([whole | odd, {}, 1, whole | {"pid": True}], fleet._PROCESS) == [whole | {"children": []}]
    assert fleet._formed({"a": 1}, fleet._PROCESS) == []
    assert len(fleet._formed([whole] * 2000, fleet._PROCESS)) == fleet.MOST
