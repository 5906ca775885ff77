"""The client against a daemon that misbehaves: order, resuming, lagging, versions, garbage, deadlines."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator

import pytest

from opagent import control, files, launch, paths
from opagent.client import Client
from opagent.errors import DaemonUnavailable, DeadlinePassed, NotFound, NotPrivate, ProtocolMismatch, Usage
from opagent.model import Event, Kind
from tests.doubles.daemons import end_all, kill, starts, use_fake
from tests.doubles.patience import PATIENCE

CONVERSATION = "k7q2-m4x8p3"


@pytest.fixture(autouse=True)
def _fakes() -> Iterator[None]:
    yield
    end_all()


Follow = Callable[[Client], list[Event]]


def _until_done(client: Client) -> list[Event]:
    found: list[Event] = []
    while not found or found[-1].body.get("state") != "done":
        event = client.next_event(PATIENCE)
        assert event is not None, found
        found.append(event)
    return found


def _polled(client: Client) -> list[Event]:
    """The same for a caller that waits for the descriptor, as `opagent acp` does."""
    found = client.arrived(False)
    while not found or found[-1].body.get("state") != "done":
        look = select.poll()
        look.register(client.fileno(), select.POLLIN)
        ready = bool(look.poll(0 if client.more else PATIENCE * 1000))
        assert ready or client.more, found
        found += client.arrived(ready)
    return found


both = pytest.mark.parametrize("follow", [_until_done, _polled])


def _start_turn(client: Client, text: str) -> None:
    client.request("turn/start", {"conversation": CONVERSATION, "text": text, "request": "r1"})


def test_a_request_finds_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch)
    with Client() as client:
        assert client.request("daemon/status")["pid"] == client.greeting.daemon
        assert client.host == "fake"


def test_events_between_question_and_answer_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch)
    with Client() as client:
        client.subscribe(CONVERSATION, None)
        _start_turn(client, "one two three four")
        for _ in range(20):
            client.request("process/list")
        found = _until_done(client)
    assert [event.seq for event in found] == list(range(1, 8))
    assert "".join(event.body["text"] for event in found if event.kind is Kind.TEXT) == "one two three four "


def test_from_now_on_leaves_out_what_was(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch)
    with Client() as client:
        client.subscribe(CONVERSATION, 0)
        _start_turn(client, "old")
        last = _until_done(client)[-1].seq
    with Client() as client:
        assert client.subscribe(CONVERSATION, None) == last
        assert client.next_event(0.2) is None
        _start_turn(client, "new")
        assert _until_done(client)[0].seq == last + 1


@pytest.mark.parametrize("topic", [CONVERSATION, "*"])
@both
def test_each_event_comes_once_over_dying_daemons(monkeypatch: pytest.MonkeyPatch, topic: str, follow: Follow) -> None:
    use_fake(monkeypatch)
    with Client() as client:
        client.subscribe(topic, 0)
        _start_turn(client, "a b c d e f g h")
        follow(client)
    kill(starts()[-1])
    use_fake(monkeypatch, "dying")
    with Client() as client:
        client.subscribe(topic, 0)
        found = follow(client)
    assert [event.seq for event in found] == list(range(1, len(found) + 1))
    assert len(starts()) > 3


def test_a_killed_daemon_is_started_again_and_the_stream_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch)
    with Client() as client:
        client.subscribe(CONVERSATION, 0)
        _start_turn(client, "before")
        before = _until_done(client)
        kill(client.greeting.daemon)
        assert client.next_event(0.5) is None
        _start_turn(client, "after")
        after = _until_done(client)
    assert [event.seq for event in before + after] == list(range(1, 9))
    assert len(starts()) == 2


def test_a_daemon_that_dies_at_once_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch)
    with Client() as client:
        client.subscribe(CONVERSATION, 0)
        for _ in range(8):
            kill(client.greeting.daemon)
            try:
                client.next_event(0.05)
            except DaemonUnavailable as error:
                assert str(paths.daemon_log()) in error.hint
                return
    pytest.fail("it went on for ever")


@both
def test_lagging_reads_on_after_the_last_event(monkeypatch: pytest.MonkeyPatch, follow: Follow) -> None:
    use_fake(monkeypatch, "lagging")
    with Client() as client:
        client.subscribe(CONVERSATION, 0)
        _start_turn(client, "a b c d")
        found = follow(client)
    assert [event.seq for event in found] == list(range(1, 8))


@both
def test_events_that_come_while_an_answer_is_waited_for_have_a_limit(monkeypatch: pytest.MonkeyPatch, follow: Follow) -> None:
    """What is beyond it is read and dropped, and asked for again: each comes once, in order."""
    monkeypatch.setattr(control, "UNREAD_LIMIT", 100_000)
    use_fake(monkeypatch)
    words = [f"{number}-{'x' * 5_000}" for number in range(200)]
    with Client() as client:
        client.subscribe(CONVERSATION, 0)
        client.tell("turn/start", {"conversation": CONVERSATION, "text": " ".join(words), "request": "r"})
        client.request("daemon/doctor")  # a second, in which all of them come
        assert 100_000 < client.waiting < 110_000
        found = follow(client)
        assert client.waiting == 0
    assert [event.seq for event in found] == list(range(1, 204))
    assert [event.body["text"] for event in found if event.kind is Kind.TEXT] == [word + " " for word in words]


def test_a_turn_is_asked_for_again_but_not_a_new_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch, "dropping")
    with Client() as client:
        client.subscribe(CONVERSATION, 0)
        _start_turn(client, "hello")
        assert _until_done(client)
        with pytest.raises(DaemonUnavailable, match="conversation/create"):
            client.request("conversation/create", {"path": "/w"})
    assert len((paths.state() / "creates").read_text().splitlines()) == 1


def test_an_error_of_the_daemon_is_ours_again(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch)
    with Client() as client, pytest.raises(NotFound) as caught:
        client.request("no/such")
    assert (caught.value.exit, caught.value.code) == (4, "not_found")


def test_a_late_answer_is_no_answer_to_the_next_question(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch)
    with Client() as client:
        with pytest.raises(DeadlinePassed):
            client.request("daemon/doctor", timeout=0.1)
        assert "processes" in client.request("process/list")


@pytest.mark.parametrize(
    ("mode", "hint"), [("old", "opagent daemon stop"), ("foreign", "opagent daemon status"), ("garbage", "opagent daemon status")]
)
def test_what_does_not_speak_our_protocol_is_refused(monkeypatch: pytest.MonkeyPatch, mode: str, hint: str) -> None:
    use_fake(monkeypatch, mode)
    with pytest.raises(ProtocolMismatch) as caught:
        Client()
    assert caught.value.hint == hint


def test_one_version_newer_works(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch, "newest")
    with Client() as client:
        assert client.greeting.protocol[0] == control.PROTOCOL + 1
        assert "processes" in client.request("process/list")


def test_a_line_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch, "endless")
    with pytest.raises(ProtocolMismatch, match="without an end"):
        Client()


def test_letters_are_not_blown_up_and_too_many_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch)
    with Client() as client:
        client.request("process/list", {"text": "\u0434" * 3_000_000})
        client.request("process/list", {"text": "half a letter \ud800"})
        with pytest.raises(Usage, match="the limit is 16777216"):
            client.request("process/list", {"text": "\u0434" * 9_000_000})
        assert client.connections == 1 and client.request("daemon/status")["pid"]


def test_after_half_a_line_a_new_connection_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch)
    with Client() as client:
        os.kill(client.greeting.daemon, signal.SIGSTOP)
        try:
            with pytest.raises(DeadlinePassed):
                client.request("process/list", {"texts": ["x" * 5_000_000] * 2}, timeout=0.3)
        finally:
            os.kill(client.greeting.daemon, signal.SIGCONT)
        assert client.request("conversation/list") is not None
        assert client.connections == 2


def test_a_silent_daemon_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch, "silent")
    monkeypatch.setattr(launch, "DEADLINE", 1.0)
    with pytest.raises(DaemonUnavailable, match=r"daemon\.log"):
        Client()


def test_a_daemon_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch, "refuses")
    with pytest.raises(DaemonUnavailable, match="the disk is on holiday") as caught:
        Client()
    assert str(paths.daemon_log()) in caught.value.hint


def test_nothing_is_started_when_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch)
    with pytest.raises(DaemonUnavailable, match="no daemon is running"):
        Client(start=False)
    assert not paths.state().exists()


def test_a_socket_of_another_user_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch)
    Client().close()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(NotPrivate, match="another user"):
        Client(start=False)


def test_a_directory_others_can_enter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch)
    files.private_directory(paths.run()).chmod(0o755)
    with pytest.raises(NotPrivate):
        Client()
    assert starts() == []


def test_a_linked_directory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch)
    elsewhere = files.private_directory(paths.run().with_name("elsewhere"))
    paths.run().symlink_to(elsewhere)
    with pytest.raises(NotPrivate):
        Client()


def test_a_linked_lock_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake(monkeypatch)
    files.private_directory(paths.run())
    paths.lock().symlink_to("/dev/null")
    with pytest.raises(NotPrivate):
        Client()
