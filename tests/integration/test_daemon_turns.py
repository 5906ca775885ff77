"""Turns through the real daemon with the echo agent: log, file, queue, cancel, permission, crash."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from pathlib import Path

import pytest

from opagent.client import Client
from opagent.errors import AlreadyDecided, ApprovalNotFound, ConversationNotFound, FileRefused, OpAgentError, Usage
from tests.doubles.patience import PATIENCE, until
from tests.integration.conftest import Talk


def test_a_turn_stands_in_log_and_file(talk: Talk) -> None:
    conversation = talk.create(title="Tighten the intro")
    turn = talk.say(conversation, "hello there")
    assert turn["state"] == "done"
    assert talk.answer(conversation, turn["id"]) == "echo: hello there"
    text = talk.file(conversation, f"/{turn['id']} done")
    assert "hello there\n" in text and "echo: hello there" in text
    assert Path(conversation["path"]).name.endswith("tighten-the-intro.md")
    assert oct(Path(conversation["path"]).stat().st_mode & 0o777) == "0o600"


def test_the_same_request_key_is_one_turn(talk: Talk) -> None:
    conversation = talk.create()
    first = talk.start(conversation, "once", request="key-1")
    again = talk.start(conversation, "once", request="key-1")
    assert first["id"] == again["id"]
    talk.ended(conversation, first["id"])
    assert len(talk.show(conversation)["turns"]) == 1


def test_queued_turns_run_in_order(talk: Talk) -> None:
    conversation = talk.create()
    turns = [talk.start(conversation, text)["id"] for text in ("/slow 3 0.05", "second", "third")]
    for turn in turns:
        assert talk.ended(conversation, turn)["state"] == "done"
    order = [e["turn"] for e in talk.show(conversation)["events"] if e["body"].get("state") == "done"]
    assert order == turns
    text = talk.file(conversation, f"/{turns[-1]} done")
    assert text.index("second") < text.index("echo: second") < text.index("third")


def test_a_queued_turn_can_be_taken_back(talk: Talk) -> None:
    conversation = talk.create()
    running = talk.start(conversation, "/slow 200 0.05")
    waiting = talk.start(conversation, "never mind")
    until(lambda: talk.turn(conversation, running["id"])["state"] == "running")
    assert talk.client.request("queue/remove", {"turn": waiting["id"]})["state"] == "cancelled"
    assert talk.turn(conversation, waiting["id"])["state"] == "cancelled"
    talk.client.request("turn/cancel", {"conversation": conversation["id"]})
    assert talk.ended(conversation, running["id"])["state"] == "cancelled"
    assert "never mind" not in talk.file(conversation, f"/{running['id']} cancelled")


def test_permission_is_asked_committed_and_answered(talk: Talk) -> None:
    conversation = talk.create()
    target = talk.directory / "made.md"
    turn = talk.start(conversation, f"/permission write {target} hello")
    approval = until(talk.approvals)[0]
    assert approval["turn"] == turn["id"] and str(target) in approval["subject"]
    assert talk.turn(conversation, turn["id"])["state"] == "waiting"
    assert f"opagent allow {approval['id']}" in talk.file(conversation, approval["id"])
    assert [row["state"] for row in talk.client.request("process/list", {})["processes"]] == ["waiting"]
    assert not target.exists()
    answered = talk.client.request("approval/answer", {"approval": approval["id"][:3], "allow": True})
    assert answered["state"] == "allowed"
    assert talk.ended(conversation, turn["id"])["state"] == "done"
    assert target.read_text() == "hello"
    assert "allowed once**" in talk.file(conversation, f"/{turn['id']} done")
    with pytest.raises(AlreadyDecided):
        talk.client.request("approval/answer", {"approval": approval["id"], "allow": False})


def test_denied_means_denied_and_is_remembered_for_the_conversation(talk: Talk) -> None:
    conversation = talk.create()
    target = talk.directory / "made.md"
    turn = talk.start(conversation, f"/permission write {target} hello")
    approval = until(talk.approvals)[0]
    talk.client.request("approval/answer", {"approval": approval["id"], "allow": False, "scope": "conversation", "reason": "no"})
    talk.ended(conversation, turn["id"])
    again = talk.say(conversation, f"/permission write {target} hello")
    assert again["state"] == "done" and not target.exists() and not talk.approvals()


def test_a_protected_file_is_denied_without_a_question(talk: Talk) -> None:
    conversation = talk.create()
    target = talk.directory / ".agent.yaml"
    turn = talk.say(conversation, f"/permission write {target} evil")
    assert turn["state"] == "done" and not target.exists() and not talk.approvals()
    notes = [event["body"] for event in talk.show(conversation)["events"] if event["kind"] == "note"]
    assert any(".agent.yaml" in note["text"] and note["effect"] == "denied" for note in notes)


def test_cancel_answers_the_open_question(talk: Talk) -> None:
    conversation = talk.create()
    turn = talk.start(conversation, "/permission")
    approval = until(talk.approvals)[0]
    talk.client.request("turn/cancel", {"conversation": conversation["id"]})
    assert talk.ended(conversation, turn["id"])["state"] == "cancelled"
    assert not talk.approvals()
    decided = talk.client.request("approval/list", {"all": True})["approvals"]
    assert [each["state"] for each in decided if each["id"] == approval["id"]] == ["cancelled"]


def test_a_crash_marks_the_turn_and_the_next_one_runs(talk: Talk) -> None:
    conversation = talk.create()
    turn = talk.say(conversation, "/crash")
    assert turn["state"] == "interrupted" and turn["reason"] == "crashed"
    assert "exit status 70" in talk.file(conversation, f"/{turn['id']} interrupted")
    assert talk.say(conversation, "still there?")["state"] == "done"
    assert len([e for e in talk.show(conversation)["events"] if e["body"].get("state") == "running"]) == 2


def test_a_turn_that_was_queued_when_the_agent_died_runs_once(talk: Talk) -> None:
    conversation = talk.create()
    first, second = (talk.start(conversation, text) for text in ("/slow 100 0.05", "after"))
    process = until(lambda: [row for row in talk.client.request("process/list", {})["processes"] if row.get("turn")])[0]
    os.kill(process["pid"], signal.SIGKILL)
    assert talk.ended(conversation, first["id"])["state"] == "interrupted"
    assert talk.ended(conversation, second["id"])["state"] == "done"
    assert talk.answer(conversation, second["id"]) == "echo: after"


def test_a_crash_loop_stops_and_restart_clears_it(talk: Talk) -> None:
    conversation = talk.create()
    states = []
    for _ in range(5):
        states.append(talk.say(conversation, "/crash")["state"])
    assert states == ["interrupted"] * 5
    refused = talk.say(conversation, "hello")
    assert refused["state"] == "failed" and refused["reason"] == "crash_loop"
    talk.client.request("process/restart", {"process": conversation["id"]})
    assert talk.say(conversation, "hello")["state"] == "done"


def test_stop_ends_the_agent_and_the_next_turn_comes_back_to_its_session(talk: Talk) -> None:
    conversation = talk.create()
    talk.say(conversation, "one")
    stopped = talk.client.request("process/stop", {"process": conversation["id"]})
    assert stopped["state"] == "stopped" and stopped["pid"] is None
    turn = talk.say(conversation, "/context")
    assert turn["state"] == "done"
    assert "resume" in talk.answer(conversation, turn["id"])


@pytest.mark.parametrize("text", ["", "   \n", "x" * (8 * 2**20 + 1)])
def test_a_prompt_that_is_none_is_refused(talk: Talk, text: str) -> None:
    conversation = talk.create()
    with pytest.raises(Usage):
        talk.start(conversation, text)


def test_unknown_things_are_not_found(talk: Talk) -> None:
    with pytest.raises(ConversationNotFound):
        talk.client.request("conversation/show", {"conversation": "zzzz"})
    with pytest.raises(ApprovalNotFound):
        talk.client.request("approval/answer", {"approval": "pzzzz", "allow": True})
    with pytest.raises(OpAgentError, match="no method"):
        talk.client.request("no/such", {})


def test_events_resume_after_a_number(talk: Talk) -> None:
    conversation = talk.create()
    talk.say(conversation, "one")
    events = talk.show(conversation)["events"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    with Client("second") as other:
        other.subscribe(conversation["id"], events[2]["seq"])
        talk.say(conversation, "two")
        seen = []
        while len(seen) < 4 or seen[-1].body.get("state") != "done" or seen[-1].seq < len(events) + 2:
            event = other.next_event(PATIENCE)
            assert event is not None
            seen.append(event)
    assert [event.seq for event in seen] == list(range(4, 4 + len(seen)))


def test_a_person_who_edits_between_turns_keeps_every_byte(talk: Talk) -> None:
    conversation = talk.create()
    first = talk.say(conversation, "one")
    path = Path(conversation["path"])
    text = talk.file(conversation, f"/{first['id']} done")
    path.write_text(text + "My draft, not sent.\n\n```\nleft open\n")
    second = talk.say(conversation, "two")
    text = talk.file(conversation, f"/{second['id']} done")
    assert text.endswith("My draft, not sent.\n\n```\nleft open\n")
    assert text.index("echo: two") < text.index("My draft")


def test_two_conversations_do_not_meet(talk: Talk) -> None:
    one, two = talk.create(), talk.create()
    slow = talk.start(one, "/slow 100 0.05")
    until(lambda: talk.turn(one, slow["id"])["state"] == "running")
    assert talk.say(two, "quick")["state"] == "done"
    assert talk.turn(one, slow["id"])["state"] == "running"
    assert talk.ended(one, slow["id"])["state"] == "done"


def test_a_file_goes_on_without_its_log(talk: Talk, home: Path) -> None:
    """The file is enough: the database is gone, the conversation goes on with what was said."""
    conversation = talk.create()
    first = talk.say(conversation, "the password is swordfish")
    before = talk.file(conversation, f"/{first['id']} done")
    talk.stop_daemon()
    until(lambda: not list((home.parent / "run/opagent").glob("daemon.sock")))
    until(lambda: not _runs(home))
    shutil.rmtree(home / ".local/state/opagent")
    with Client("second") as client:
        again = Talk(client, talk.directory)
        client.request("workspace/open", {"path": conversation["path"], "environment": dict(os.environ)})
        known = client.request("conversation/show", {"conversation": conversation["path"]})["conversation"]
        assert known["id"] == conversation["id"] and known["agent"] == "echo"
        turn = again.say(known, "/context")
        assert "swordfish" in again.answer(known, turn["id"])
        after = again.file(known, f"/{turn['id']} done")
    start = before[: before.index("<!-- op:" + conversation["id"][:4] + " next")]
    assert after[: len(start)] == start


def _runs(home: Path) -> bool:
    lock = home / ".local/state/opagent/opagent.db.lock"
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_file_that_was_renamed_is_the_same_conversation(talk: Talk) -> None:
    conversation = talk.create()
    talk.file(conversation, f"/{talk.say(conversation, 'one')['id']} done")
    path = Path(conversation["path"])
    moved = path.with_name("other-name.md")
    path.rename(moved)
    known = talk.client.request("conversation/show", {"conversation": str(moved)})["conversation"]
    assert known["id"] == conversation["id"] and known["path"] == str(moved)
    turn = talk.say(known, "two")
    assert "echo: two" in talk.file(known, f"/{turn['id']} done") and not path.exists()


def test_a_copy_and_a_plain_file_are_no_conversations(talk: Talk) -> None:
    conversation = talk.create()
    talk.file(conversation, f"/{talk.say(conversation, 'one')['id']} done")
    copy = Path(conversation["path"]).with_name("copy.md")
    shutil.copy(conversation["path"], copy)
    plain = talk.directory / "plain.md"
    plain.write_text("# Only text\n")
    for path, error in ((copy, FileRefused), (plain, ConversationNotFound)):
        with pytest.raises(error):
            talk.client.request("conversation/show", {"conversation": str(path)})


def test_a_file_that_is_renamed_under_a_running_agent_is_followed(talk: Talk) -> None:
    conversation = talk.create()
    talk.file(conversation, f"/{talk.say(conversation, 'one')['id']} done")
    path = Path(conversation["path"])
    below = path.parent / "archive"
    below.mkdir()
    moved = below / "a new name.md"
    path.rename(moved)
    turn = talk.say(conversation, "two")
    text = talk.file({**conversation, "path": str(moved)}, f"/{turn['id']} done")
    assert "echo: one" in text and "echo: two" in text and not path.exists()
    assert talk.show(conversation)["conversation"]["path"] == str(moved)


def test_a_file_that_was_removed_is_made_again_by_the_next_turn(talk: Talk) -> None:
    conversation = talk.create()
    talk.file(conversation, f"/{talk.say(conversation, 'one')['id']} done")
    Path(conversation["path"]).unlink()
    turn = talk.say(conversation, "two")
    text = talk.file(conversation, f"/{turn['id']} done")
    assert text.count("echo: one") == 1 and text.count("echo: two") == 1
    said = [event["body"] for event in talk.show(conversation)["events"] if event["kind"] == "document"]
    assert any(body["what"] == "made again" for body in said)


def test_turns_that_an_old_version_took_away_come_back(talk: Talk) -> None:
    conversation = talk.create()
    path = Path(conversation["path"])
    old = talk.file(conversation, f"/{talk.say(conversation, 'one')['id']} done")
    talk.file(conversation, f"/{talk.say(conversation, 'two')['id']} done")
    path.write_text(old + "my words\n")
    turn = talk.say(conversation, "three")
    text = talk.file(conversation, f"/{turn['id']} done")
    assert text.index("echo: one") < text.index("echo: two") < text.index("echo: three") < text.index("my words")
    said = [event["body"]["what"] for event in talk.show(conversation)["events"] if event["kind"] == "document"]
    assert said.count("restored") >= 2


def test_the_log_of_an_agent_that_crashed_can_be_read(talk: Talk) -> None:
    conversation = talk.create()
    talk.say(conversation, "/crash")
    for word in (conversation["id"], conversation["path"], str(talk.directory)):
        assert "ending as asked" in talk.client.request("process/logs", {"process": word})["text"]


def test_an_agent_at_work_is_seen_to_work(talk: Talk) -> None:
    conversation = talk.create()
    turn = talk.start(conversation, "/slow 100 0.05")
    until(lambda: [row["state"] for row in talk.client.request("process/list", {})["processes"]] == ["working"])
    talk.client.request("process/stop", {"process": str(talk.directory)})
    assert talk.ended(conversation, turn["id"])["state"] == "cancelled"
