"""Sequences that a review found: each once went wrong."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

import psutil
import pytest

from opagent import paths
from opagent.errors import Conflict, NotTrusted
from tests.doubles import runtimes
from tests.doubles.patience import until
from tests.integration.conftest import Talk

ROLES = (
    "version: 1\nagent: one\nroles:\n  one: {runtime: echo, instructions: first}\n  two: {runtime: echo, instructions: second}\n"
)


def trust(talk: Talk, text: str) -> None:
    (talk.directory / ".agent.yaml").write_text(text)
    asked = {"path": str(talk.directory), "environment": dict(os.environ)}
    shown = talk.client.request("trust/show", asked)
    talk.client.request("trust/grant", {**asked, "digest": shown["digest"]})


def test_a_restart_does_not_start_what_is_no_longer_trusted(talk: Talk) -> None:
    trust(talk, ROLES)
    conversation = talk.create("")
    assert talk.say(conversation, "hello")["state"] == "done"
    talk.client.request("trust/revoke", {"path": str(talk.directory)})
    with pytest.raises(NotTrusted):
        talk.client.request("process/restart", {"process": conversation["id"]})
    refused = talk.say(conversation, "hello")
    assert refused["state"] == "failed" and refused["reason"] == "not_trusted"


def test_a_changed_binding_counts_at_the_next_start(talk: Talk) -> None:
    trust(talk, ROLES)
    conversation = talk.create("two")
    talk.say(conversation, "hello")
    talk.client.request("process/stop", {"process": conversation["id"]})
    (talk.directory / ".agent.yaml").write_text(ROLES.replace("second", "changed"))
    assert talk.say(conversation, "hello")["reason"] == "not_trusted"


def test_a_session_that_is_not_taken_up_again_leaves_no_deadline(talk: Talk, tmp_path: Path) -> None:
    """The agent refuses to load; the deadline of that attempt must not end it later."""
    name = runtimes.echo("forgetful", "--state={state}", "--fail=load:-32002", "--without=resume")
    runtimes.bind(talk.client, talk.directory, name)
    conversation = talk.create(name)
    talk.say(conversation, "one")
    talk.client.request("process/stop", {"process": conversation["id"]})
    assert talk.say(conversation, "two")["state"] == "done"


def test_a_steer_that_is_asked_twice_runs_once(talk: Talk) -> None:
    conversation = talk.create()
    slow = talk.start(conversation, "/slow 200 0.05")
    until(lambda: talk.turn(conversation, slow["id"])["state"] == "running")
    asked = {"conversation": conversation["id"], "text": "do this instead", "request": "key-1"}
    first = talk.client.request("turn/steer", asked)["turn"]["id"]
    assert talk.ended(conversation, slow["id"])["state"] == "cancelled"
    assert talk.client.request("turn/steer", asked)["turn"]["id"] == first
    assert talk.ended(conversation, first)["state"] == "done"


def test_an_emptied_file_is_not_written_over(talk: Talk) -> None:
    conversation = talk.create()
    talk.file(conversation, f"/{talk.say(conversation, 'one')['id']} done")
    path = Path(conversation["path"])
    path.write_text("")
    assert talk.say(conversation, "two")["state"] == "done"
    said = [e["body"] for e in talk.show(conversation)["events"] if e["kind"] == "document" and e["body"]["what"] == "stopped"]
    assert any("empty" in body["text"] and "rebuild" in body["hint"] for body in said) and path.read_text() == ""
    talk.client.request("conversation/rebuild", {"conversation": conversation["id"]})
    assert "echo: one" in path.read_text() and "echo: two" in path.read_text()


def test_stops_that_somebody_wanted_are_no_crash_loop(talk: Talk) -> None:
    conversation = talk.create()
    for _ in range(5):
        assert talk.say(conversation, "hello")["state"] == "done"
        talk.client.request("process/stop", {"process": conversation["id"]})
    assert talk.say(conversation, "/crash")["state"] == "interrupted"
    assert talk.say(conversation, "hello")["state"] == "done"


def test_an_ambiguous_word_stops_nobody(talk: Talk) -> None:
    for _ in range(2):
        talk.say(talk.create(), "hello")
    with pytest.raises(Conflict):
        talk.client.request("process/stop", {"process": "x"})
    assert len(talk.client.request("process/list", {})["processes"]) == 2


def test_two_answers_at_once_let_the_turn_go_on(talk: Talk) -> None:
    conversation = talk.create()
    turn = talk.start(conversation, "/permissions 2")
    asked = until(lambda: len(found := talk.approvals()) == 2 and found)
    for approval in asked:
        talk.client.request("approval/answer", {"approval": approval["id"], "allow": True})
    assert talk.ended(conversation, turn["id"])["state"] == "done"
    states = [e["body"]["state"] for e in talk.show(conversation)["events"] if e["kind"] == "turn_state"]
    assert states.count("running") == 2 and states[-2:] == ["running", "done"]


def test_what_waited_for_a_foreign_program_goes_on_with_the_next_client(talk: Talk, home: Path) -> None:
    """After a restart the daemon knows no client's PATH: a queued turn waits for one, it does not fail."""
    name = runtimes.echo("own")
    runtimes.bind(talk.client, talk.directory, name)
    conversation = talk.create(name)
    slow, waiting = talk.start(conversation, "/slow 400 0.05"), talk.start(conversation, "after")
    until(lambda: talk.turn(conversation, slow["id"])["state"] == "running")
    pid = talk.client.request("daemon/status")["pid"]
    os.kill(pid, 9)
    until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)  # it is this process's child
    assert talk.ended(conversation, slow["id"])["state"] == "interrupted"
    assert talk.turn(conversation, waiting["id"])["state"] == "queued"
    talk.client.request("workspace/open", {"path": str(talk.directory), "environment": dict(os.environ)})
    assert talk.ended(conversation, waiting["id"])["state"] == "done"


def test_a_daemon_with_a_senseless_idle_time_runs(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    talk.stop_daemon()
    monkeypatch.setenv("OPAGENT_IDLE_EXIT", "15m")
    assert talk.client.request("daemon/status")["pid"]
    time.sleep(1)  # an idle time of nothing would have ended it by now
    assert talk.client.request("daemon/status")["pid"]


def test_a_daemon_clears_away_what_ended_long_ago(talk: Talk) -> None:
    """Rows and logs of old processes, and logs that nobody knows; not those of the last week, not the newest."""
    conversation = talk.create()
    talk.say(conversation, "/stderr 1")
    (ours,) = [row["id"] for row in talk.client.request("process/list")["processes"]]
    talk.stop_daemon()
    logs, old = paths.agent_log("").parent, [f"xold{number:03}" for number in range(30)]
    with contextlib.closing(sqlite3.connect(paths.database())) as database, database:
        row = database.execute("select * from process where id = ?", (ours,)).fetchone()
        values = [("2001-01-01T00:00:00.000Z" if value == row[9] else value) for value in row[1:]]
        for name in old:
            database.execute(f"insert into process values(?{', ?' * len(values)})", (name, *values))
    for name in ("xold000", "xold000.log.1", "xold029", "xlost01", "xnew001"):
        path = paths.agent_log(name) if "." not in name else logs / name
        path.write_text("said")
        if name != "xnew001":
            os.utime(path, (0, 0))
    assert talk.client.request("daemon/status")["pid"]
    until(lambda: {each.name for each in logs.iterdir()} == {"xold029.log", "xnew001.log", f"{ours}.log"})
    with contextlib.closing(sqlite3.connect(paths.database())) as database:
        kept = {name for (name,) in database.execute("select id from process")}
    assert kept == {ours, *old[-20:]}
