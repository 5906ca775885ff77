"""Every effect has a record before it happens and one that says how it ended; over the real daemon and real agents."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from opagent import paths
from opagent.store import audit, opening
from opagent.store.blobs import Blobs
from tests.doubles import runtimes
from tests.doubles.patience import until
from tests.doubles.strings import Strings
from tests.integration.conftest import Talk

FREE = {
    "exec": {"default": "ask"},
    "read": {"default": "allow", "deny": ["secret.md"]},
    "write": {"default": "allow", "ask": ["asked.md"], "deny": ["no.md"]},
}


def rows(*kinds: str) -> list[dict[str, Any]]:
    """The records of these kinds, oldest first, as heads with their bodies."""
    connection = opening.connect_reader(paths.database())
    try:
        found = connection.execute("select kind, head, body from journal where n is null order by seq").fetchall()
        assert audit.verify(connection, Blobs(paths.database_blobs(paths.database()))).broken is None
    finally:
        connection.close()
    return [json.loads(head) | {"body": json.loads(body)} for kind, head, body in found if kind in kinds]


def states(*kinds: str) -> list[tuple[str, str]]:
    return [(row["kind"], row["state"]) for row in rows(*kinds)]


def test_a_served_write_and_read_are_recorded_with_rule_digests_and_sizes(talk: Talk) -> None:
    strings = Strings(talk, can=FREE)
    path = talk.directory / "a.md"
    path.write_text("one\ntwo\nthree\n")
    turn = strings.start({"id": 1, "method": "fs/write_text_file", "params": {"path": str(path), "content": "new\n"}})
    assert strings.answers(turn) == [{"id": 1, "result": {}}]
    assert "result" in strings.ask("fs/read_text_file", path=str(path))
    pending, done = rows("fs.write")[:2]
    assert (pending["state"], done["state"], done["ref"]) == ("pending", "done", pending["seq"])
    assert pending["obj"] == {"path": str(path), "before": sha("one\ntwo\nthree\n"), "after": sha("new\n"), "size": 4}
    assert pending["decision"]["effect"] == "allow" and ".agent.yaml" in pending["decision"]["rule"]
    assert pending["decision"]["enforcement"] and pending["decision"]["layer"]
    assert pending["conversation"] == strings.conversation["id"] and pending["who"]["turn"] == turn["id"]
    assert [row["obj"].get("after") for row in rows("fs.read")] == [None, sha("new\n")]
    assert [row["state"] for row in rows("fs.write")] == ["pending", "done"], "what went through us is not told twice"


def test_what_is_denied_is_recorded_and_what_fails_too(talk: Talk) -> None:
    strings = Strings(talk, can=FREE)
    assert "error" in strings.ask("fs/write_text_file", path=str(talk.directory / "no.md"), content="x")
    assert "error" in strings.ask("fs/read_text_file", path=str(talk.directory / "missing.md"))
    assert states("fs.write", "fs.read") == [("fs.write", "denied"), ("fs.read", "pending"), ("fs.read", "failed")]
    assert rows("fs.write")[0]["decision"]["effect"] == "deny"


def test_an_approved_write_names_its_approval(talk: Talk) -> None:
    strings = Strings(talk, can=FREE)
    turn = strings.start({"id": 1, "method": "fs/write_text_file", "params": {"path": "asked.md", "content": "x"}})
    approval = strings.decide(True)["id"]
    strings.answers(turn)
    assert [row["decision"]["approval"] for row in rows("fs.write")] == [approval, approval]


def test_a_command_is_recorded_by_the_digest_of_its_words_and_its_end(talk: Talk) -> None:
    strings = Strings(talk, can=FREE)
    turn = strings.start({"id": 1, "method": "terminal/create", "params": {"command": "sh", "args": ["-c", "exit 3"]}})
    strings.decide(True)
    strings.answers(turn)
    start, end = until(lambda: found if len(found := rows("exec.start", "exec.end")) == 2 else None)
    assert (start["state"], end["state"], end["kind"], end["ref"]) == ("pending", "failed", "exec.end", start["seq"])
    assert start["body"]["command"] == ["sh", "-c", "exit 3"] and "exit 3" not in json.dumps(start["obj"])
    assert end["obj"]["code"] == 3


def test_what_changes_by_itself_in_a_turn_is_seen_after_it(talk: Talk) -> None:
    strings = Strings(talk, can=FREE)
    (talk.directory / "old.md").write_text("old")
    params = {"toolCall": {"title": "Tea"}, "options": OPTIONS}
    turn = strings.start({"id": 1, "method": "session/request_permission", "params": params})
    until(talk.approvals)
    (talk.directory / "by-hand.md").write_text("hello")
    (talk.directory / "old.md").unlink()
    strings.decide(True)
    strings.answers(turn)
    seen = {Path(row["obj"]["path"]).name: row for row in rows("fs.write") if row["state"] == "seen"}
    assert {name: row["obj"]["how"] for name, row in seen.items()} == {"by-hand.md": "made", "old.md": "removed"}
    assert seen["by-hand.md"]["obj"]["after"] == sha("hello") and seen["by-hand.md"]["who"]["turn"] == turn["id"]


OPTIONS = [{"optionId": "y", "name": "Yes", "kind": "allow_once"}, {"optionId": "n", "name": "No", "kind": "reject_once"}]


def test_what_an_agent_changes_while_it_starts_is_told_with_the_turn_it_was_started_for(talk: Talk) -> None:
    (talk.directory / "old.md").write_text("old")
    runtimes.echo("late", "--start-delay=0.3")
    spec = paths.config() / "runtimes/late/runtime.yaml"
    said = yaml.safe_load(spec.read_text())
    said["command"] = ["/bin/sh", "-c", 'echo started > old.md; exec "$@"', "sh", *said["command"]]
    spec.write_text(yaml.safe_dump(said))
    runtimes.bind(talk.client, talk.directory, "late")
    conversation = talk.create("late")
    first, second = talk.say(conversation, "hello"), talk.say(conversation, "again")
    seen = [(Path(row["obj"]["path"]).name, row["obj"]["how"], row["who"]["turn"]) for row in rows("fs.write")]
    assert seen == [("old.md", "changed", first["id"])] and second["state"] == "done"


def test_a_yes_to_an_agents_own_call_is_recorded_before_it_hears_it_and_ends_by_its_report(talk: Talk) -> None:
    strings = Strings(talk, can=FREE)
    call = {"toolCallId": "t1", "title": "Edit", "kind": "edit", "locations": [{"path": str(talk.directory / "a.md")}]}
    turn = strings.start({"id": 1, "method": "session/request_permission", "params": {"toolCall": call, "options": OPTIONS}})
    approval = strings.decide(True)["id"]
    strings.answers(turn)
    pending, end = rows("fs.write")
    assert (pending["state"], pending["who"]["call"], pending["decision"]["approval"]) == ("pending", "t1", approval)
    assert pending["obj"]["path"] == str(talk.directory / "a.md")
    assert (end["state"], end["ref"]) == ("unknown", pending["seq"]), "the agent said nothing more of it"
    assert "did not say how this ended" in strings.notes()


def test_the_life_of_an_agent_is_in_the_record(talk: Talk) -> None:
    strings = Strings(talk, can=FREE)
    strings.ask("fs/read_text_file", path="a.md")
    talk.client.request("process/stop", {"process": strings.conversation["id"]})
    life = ("binding.resolve", "agent.spawn", "agent.ready", "session.new", "session.close", "agent.exit")
    kinds = [row["kind"] for row in rows(*life)]
    assert kinds == ["binding.resolve", "agent.spawn", "agent.spawn", "session.new", "agent.ready", "session.close", "agent.exit"]
    assert rows("agent.spawn")[1]["obj"]["pid"] > 0


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
