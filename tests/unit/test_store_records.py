"""The tables: what is stored comes back, names find one row, the rules that hold between daemon lives."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from opagent.errors import AlreadyDecided, ApprovalNotFound, Bug, Conflict, ConversationNotFound, NotFound, ProcessNotFound
from opagent.model import (
    Approval,
    ApprovalId,
    ApprovalState,
    Conversation,
    ConversationId,
    Effect,
    MessageId,
    ProcessId,
    ProcessState,
    Trust,
    TrustRecord,
    Turn,
    TurnId,
    TurnState,
)
from opagent.store import approvals, conversations, migrations, processes, recovery, remembered, trust, turns

ONE = Conversation(
    ConversationId("k7q2-m4x8p3"), "/w", "/w/conversations/2026-11-20-headings.md", "librarian", created="2026-11-20"
)
TWO = replace(ONE, id=ConversationId("k7q9-000001"), path="/w/conversations/[b]*.md", workspace="/w", created="2026-11-21")


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrations.migrate(connection)
    yield connection
    connection.close()


def turn(name: str, conversation: ConversationId = ONE.id, **changes: Any) -> Turn:
    first = Turn(
        TurnId(name), MessageId("u" + name[1:]), conversation, "human:0", "Hello", TurnState.QUEUED, "2026-11-20T09:14:00.000Z"
    )
    return replace(first, **changes)


def approval(name: str, **changes: Any) -> Approval:
    options = (
        {"optionId": "yes", "kind": "allow_once", "name": "Allow"},
        {"optionId": "no", "kind": "reject_once", "name": "Deny"},
    )
    subject = "write index.md"
    first = Approval(
        ApprovalId(name),
        ONE.id,
        TurnId("a0001"),
        ProcessId("x000001"),
        f'"{name}"',
        "write",
        subject,
        "d" * 64,
        options,
        "t1",
        "t5",
    )
    return replace(first, **changes)


def process(name: str, **changes: Any) -> processes.ProcessRecord:
    runtime = ("/w", "librarian", "librarian")
    first = processes.ProcessRecord(ProcessId(name), 4242, 1763.25, "boot-7", ONE.id, *runtime, ProcessState.READY, "t1")
    return replace(first, **changes)


def test_a_conversation_comes_back_with_the_journals_next_number(db: sqlite3.Connection) -> None:
    conversations.insert(db, ONE)
    assert conversations.get(db, ONE.id) == ONE
    db.execute("insert into journal values(1, ?, 41, 'text', null, x'00', null, x'00', x'00')", (ONE.id,))
    later = replace(ONE, title="Headings", acp_session="s1", state="closed")
    conversations.update(db, later)
    assert conversations.get(db, ONE.id) == replace(later, next_seq=42)


def test_a_conversation_is_found_by_what_a_person_types(db: sqlite3.Connection) -> None:
    conversations.insert(db, ONE)
    conversations.insert(db, TWO)
    for word in (ONE.id, "k7q2", ONE.path, "2026-11-20-headings.md", "2026-11-20-headings"):
        assert conversations.find(db, word).id == ONE.id
    assert conversations.find(db, "[b]*").id == TWO.id
    for word in ("k7", ""):
        with pytest.raises(Conflict, match="several"):
            conversations.find(db, word)
    for word in ("zzzz", "headings.md", "*"):
        with pytest.raises(ConversationNotFound):
            conversations.find(db, word)


def test_the_newest_conversation_of_a_path_counts(db: sqlite3.Connection) -> None:
    conversations.insert(db, ONE)
    conversations.insert(db, replace(TWO, path=ONE.path))
    assert conversations.find(db, ONE.path).id == TWO.id


def test_conversations_are_listed_newest_first_by_workspace_and_state(db: sqlite3.Connection) -> None:
    other = replace(TWO, id=ConversationId("zzzz-1"), workspace="/other", created="2026-11-22", state="closed")
    for each in (ONE, TWO, other):
        conversations.insert(db, each)
    assert [each.id for each in conversations.listed(db)] == [other.id, TWO.id, ONE.id]
    assert [each.id for each in conversations.listed(db, "/w", limit=1)] == [TWO.id]
    assert [each.id for each in conversations.listed(db, state="closed")] == [other.id]


def test_a_taken_or_missing_conversation_id_is_an_error(db: sqlite3.Connection) -> None:
    conversations.insert(db, ONE)
    with pytest.raises(Conflict):
        conversations.insert(db, ONE)
    with pytest.raises(ConversationNotFound):
        conversations.update(db, TWO)


def test_the_same_request_key_twice_is_one_turn(db: sqlite3.Connection) -> None:
    first = turn("a0001", request="key-1", usage={"tokens": 3})
    assert turns.queue(db, first) is first
    assert turns.queue(db, turn("a0002", request="key-1")) == first
    elsewhere = turn("a0003", TWO.id, request="key-1")
    assert turns.queue(db, elsewhere) is elsewhere
    unkeyed = [turns.queue(db, turn(f"a001{number}")) for number in range(2)]
    assert turns.newest(db, ONE.id, 10) == [first, *unkeyed]
    assert turns.counts(db) == {ONE.id: 3, TWO.id: 1}


def test_a_turn_moves_until_it_ends(db: sqlite3.Connection) -> None:
    first, second = turns.queue(db, turn("a0001")), turns.queue(db, turn("a0002"))
    running = replace(first, state=TurnState.RUNNING)
    turns.update(db, running)
    assert turns.unfinished(db) == turns.unfinished(db, ONE.id) == [running, second]
    done = replace(running, state=TurnState.DONE, ended_at="t9", usage={"tokens": 5}, reason="end_turn")
    turns.update(db, done)
    turns.update(db, done)
    assert turns.get(db, ONE.id, first.id) == done
    with pytest.raises(Conflict, match="ended already"):
        turns.update(db, running)
    assert turns.unfinished(db) == [second] and turns.unfinished(db, TWO.id) == []


def test_a_turn_is_found_by_its_id_where_that_is_clear(db: sqlite3.Connection) -> None:
    turns.queue(db, turn("a0001"))
    turns.queue(db, turn("a0001", TWO.id, state=TurnState.DONE))
    assert turns.find(db, "a0001").conversation == ONE.id, "the one that is not over"
    turns.queue(db, turn("a0001", ConversationId("third"), state=TurnState.RUNNING))
    with pytest.raises(Conflict):
        turns.find(db, "a0001")
    with pytest.raises(NotFound):
        turns.find(db, "a9999")
    with pytest.raises(NotFound):
        turns.get(db, TWO.id, TurnId("a9999"))
    with pytest.raises(Conflict):
        turns.queue(db, turn("a0001"))


def test_an_approval_comes_back_and_is_listed_while_pending(db: sqlite3.Connection) -> None:
    first, second = approval("p0001"), approval("p0002", conversation=TWO.id, turn=None, expires_at=None, asked_at="t2")
    approvals.insert(db, first)
    approvals.insert(db, second)
    assert approvals.get(db, "p0001") == first
    assert approvals.listed(db) == [first, second] and approvals.listed(db, TWO.id) == [second]


def test_the_first_committed_answer_wins(db: sqlite3.Connection) -> None:
    approvals.insert(db, approval("p0001", rule="/w/.agent.yaml:7"))
    yes = approvals.Answer(ApprovalState.ALLOWED, "t2", "human:0", "yes", reason="fine")
    decided = approvals.answer(db, "p0001", yes)
    assert decided == approvals.get(db, "p0001")
    assert (decided.state, decided.answer, decided.answered_by, decided.rule) == (
        ApprovalState.ALLOWED,
        "yes",
        "human:0",
        "/w/.agent.yaml:7",
    )
    with pytest.raises(AlreadyDecided, match="allowed by human:0"):
        approvals.answer(db, "p0001", approvals.Answer(ApprovalState.DENIED, "t3", "human:1", "no"))
    assert approvals.get(db, "p0001") == decided
    assert approvals.listed(db) == [] and approvals.listed(db, decided=True) == [decided]
    with pytest.raises(ApprovalNotFound):
        approvals.answer(db, "p9999", yes)
    with pytest.raises(Bug):
        approvals.answer(db, "p0001", replace(yes, state=ApprovalState.PENDING))


def test_one_request_of_one_process_is_one_approval(db: sqlite3.Connection) -> None:
    approvals.insert(db, approval("p0001", rpc_id="7"))
    with pytest.raises(Conflict, match="one request id twice"):
        approvals.insert(db, approval("p0002", rpc_id="7"))
    with pytest.raises(Conflict, match="exists already"):
        approvals.insert(db, approval("p0001", rpc_id="8"))
    approvals.insert(db, approval("p0003", rpc_id="7", process=ProcessId("x000002")))


def test_an_approval_is_found_by_a_beginning_among_the_pending(db: sqlite3.Connection) -> None:
    for name in ("p5t2w", "p5t9z", "p7aaa"):
        approvals.insert(db, approval(name))
    assert approvals.find(db, "p7").id == "p7aaa" and approvals.find(db, "p5t2w").id == "p5t2w"
    with pytest.raises(Conflict):
        approvals.find(db, "p5")
    approvals.answer(db, "p5t9z", approvals.Answer(ApprovalState.DENIED, "t2", "human:0"))
    assert approvals.find(db, "p5").id == "p5t2w" and approvals.find(db, "p5t9z").state is ApprovalState.DENIED
    for word in ("", "p8", "_"):
        with pytest.raises(ApprovalNotFound):
            approvals.find(db, word)


def test_approvals_of_an_ended_process_are_void(db: sqlite3.Connection) -> None:
    approvals.insert(db, approval("p0001"))
    approvals.insert(db, approval("p0002", process=ProcessId("x000002")))
    (void,) = approvals.void(db, "t3", "agent ended", ProcessId("x000001"))
    assert (void.id, void.state, void.reason, void.answered_by) == ("p0001", ApprovalState.VOID, "agent ended", "daemon")
    assert [each.id for each in approvals.listed(db)] == ["p0002"]


def test_the_last_word_about_a_path_counts(db: sqlite3.Connection) -> None:
    first = TrustRecord("/w", "d1", Trust.ALLOWED, "t1", "human:0", "what was shown")
    trust.put(db, first)
    assert trust.get(db, "/w") == first and trust.get(db, "/w/below") is None
    second = replace(first, digest="d2", state=Trust.DENIED)
    trust.put(db, second)
    trust.put(db, replace(first, path="/a"))
    assert [each.path for each in trust.listed(db)] == ["/a", "/w"]
    assert trust.remove(db, "/w") == second and trust.remove(db, "/w") is None and trust.get(db, "/w") is None


def test_a_process_is_found_while_it_lives_and_forgotten_later(db: sqlite3.Connection) -> None:
    first, second = process("x00aaa1"), process("x00bbb2", agent="writer", conversation=None)
    for each in (first, second, replace(first, restarts=1)):
        processes.put(db, each)
    first = replace(first, restarts=1)
    assert processes.get(db, first.id) == first and set(processes.live(db)) == {first, second}
    assert processes.find(db, "x00a") == first and processes.find(db, "writer") == second
    with pytest.raises(Conflict):
        processes.find(db, "x00")
    processes.move(db, first.id, ProcessState.FAILED, "t5", "crashed")
    assert processes.live(db) == [second] and processes.get(db, first.id).reason == "crashed"
    assert {each.id for each in processes.listed(db)} == {first.id, second.id}
    assert processes.forget_ended(db, "t5", 0) == 0 and processes.forget_ended(db, "t6", 0) == 1
    assert processes.ids(db) == {second.id}
    for missing in (lambda: processes.get(db, first.id), lambda: processes.find(db, "x00a"), lambda: processes.find(db, "")):
        with pytest.raises(ProcessNotFound):
            missing()
    with pytest.raises(ProcessNotFound):
        processes.move(db, first.id, ProcessState.READY, "t7")


def test_the_newest_processes_of_each_conversation_are_kept(db: sqlite3.Connection) -> None:
    for number in range(5):
        processes.put(db, process(f"x0000a{number}", state=ProcessState.STOPPED))
    for number in range(3):
        processes.put(db, process(f"x0000b{number}", conversation=TWO.id, state=ProcessState.FAILED))
    processes.put(db, process("x0000c0", state=ProcessState.READY))
    assert processes.forget_ended(db, "t9", 2) == 5
    assert processes.ids(db) == {"x0000a4", "x0000b1", "x0000b2", "x0000c0"}


def test_remembered_answers_hold_for_the_binding_or_one_conversation(db: sqlite3.Connection) -> None:
    general = remembered.Remembered(
        "d1", None, "writer", "exec", "git status", Effect.ALLOW, "t1", "human:0", "p0001", "/w", "git"
    )
    here = replace(general, conversation=ONE.id, pattern="git push", effect=Effect.DENY)
    for each in (general, here, replace(general, binding="d2"), replace(general, agent="other")):
        remembered.put(db, each)
    find = lambda *patterns, conversation=ONE.id: remembered.find(db, "d1", "writer", "exec", patterns, conversation)  # noqa: E731
    assert find("git status") == replace(general, number=1)
    assert find("git status", "git push") == replace(here, number=2), "the strictest"
    assert find("git push", conversation=TWO.id) is None and find("git") is None and find() is None
    remembered.put(db, replace(general, effect=Effect.DENY, at="t2"))
    assert find("git status") == replace(general, effect=Effect.DENY, at="t2", number=5), "the later one replaces it"
    assert remembered.forget(db, "r5").at == "t2" and find("git status") is None
    assert [each.id for each in remembered.listed(db, "/w")] == ["r2", "r3", "r4"] and remembered.listed(db, "/v") == []
    for word in ("r5", "r", "", "x2", "r-1", "rr2"):
        with pytest.raises(ApprovalNotFound):
            remembered.forget(db, word)


def test_an_approval_is_called_by_a_beginning_that_only_one_has(db: sqlite3.Connection) -> None:
    for ident in ("p0001", "p0002", "p1"):
        approvals.insert(db, approval(ident))
    assert (found := approvals.called(db, "p1")) is not None and found.id == "p1"
    assert approvals.called(db, "q") is None and approvals.called(db, "") is None
    with pytest.raises(Conflict):
        approvals.called(db, "p000")


def test_recovery_brings_everything_to_rest_and_twice_is_once(db: sqlite3.Connection) -> None:
    numbers = itertools.count(1)
    stored = {state: turns.queue(db, turn(f"a{next(numbers):04d}", state=state)) for state in TurnState}
    approvals.insert(db, approval("p0001"))
    approvals.insert(db, approval("p0002"))
    approvals.answer(db, "p0002", approvals.Answer(ApprovalState.ALLOWED, "t2", "human:0", "yes"))
    for number, state in enumerate(ProcessState):
        processes.put(db, process(f"x00000{number}", state=state))

    found = recovery.recover(db, "t9")

    assert [each.id for each in found.turns] == [stored[TurnState.RUNNING].id, stored[TurnState.WAITING].id]
    assert {(each.state, each.ended_at, each.reason) for each in found.turns} == {
        (TurnState.INTERRUPTED, "t9", "the daemon ended")
    }
    assert [each.id for each in found.approvals] == ["p0001"] and found.approvals[0].state is ApprovalState.VOID
    assert len(found.processes) == len(ProcessState) - 2
    assert {(each.pid, each.started, each.boot, each.state) for each in found.processes} == {
        (4242, 1763.25, "boot-7", ProcessState.STOPPED)
    }
    assert turns.unfinished(db) == [stored[TurnState.QUEUED]], "it may still run"
    assert approvals.get(db, "p0002").state is ApprovalState.ALLOWED
    assert [turns.get(db, ONE.id, each.id) for each in found.turns] == list(found.turns)
    assert recovery.recover(db, "t10") == recovery.Recovered((), (), ())


def test_a_queued_turn_of_an_agent_that_called_is_not_begun_any_more(db: sqlite3.Connection) -> None:
    turns.queue(db, turn("a0001", author="agent:writer", state=TurnState.QUEUED))
    turns.queue(db, turn("a0002", author="human:7", state=TurnState.QUEUED))
    (ended,) = recovery.recover(db, "t9").turns
    assert (ended.id, ended.state) == ("a0001", TurnState.CANCELLED)
    assert [each.id for each in turns.unfinished(db)] == ["a0002"]


def test_an_answer_that_the_agent_did_not_get_is_void_and_says_whose_it_was(db: sqlite3.Connection) -> None:
    """K11: committed, not sent. K12: the log says that it was sent."""
    turns.queue(db, turn("a0001", state=TurnState.RUNNING))
    turns.queue(db, turn("a0002", state=TurnState.DONE))
    told = json.dumps({"state": "running", "delivered": "p0001"}).encode()
    db.execute("insert into journal values(1, ?, 1, 'turn_state', null, x'00', ?, x'00', x'00')", (ONE.id, told))
    db.execute("insert into journal values(2, ?, 2, 'turn_state', null, x'00', null, x'00', x'00')", (ONE.id,))
    for ident, of, state in (
        ("p0001", "a0001", ApprovalState.ALLOWED),
        ("p0002", "a0001", ApprovalState.ALLOWED),
        ("p0003", "a0001", ApprovalState.DENIED),
        ("p0004", "a0001", ApprovalState.EXPIRED),
        ("p0005", "a0002", ApprovalState.ALLOWED),
    ):
        approvals.insert(db, approval(ident, turn=TurnId(of)))
        approvals.answer(db, ident, approvals.Answer(state, "t2", "human:7", "yes"))

    found = recovery.recover(db, "t9").approvals

    assert [each.id for each in found] == ["p0002", "p0003"]
    assert all(each == approvals.get(db, each.id) for each in found)
    assert (found[0].state, found[0].answered_by, found[0].answered_at) == (ApprovalState.VOID, "human:7", "t2")
    assert found[0].reason == "allowed by human:7, but not known to have reached the agent: the daemon ended"
    assert approvals.get(db, "p0001").state is approvals.get(db, "p0005").state is ApprovalState.ALLOWED
    assert approvals.get(db, "p0004").state is ApprovalState.EXPIRED
    for ident in ("p0002", "p0004"):
        with pytest.raises(AlreadyDecided):
            approvals.take_back(db, ident, "again")
