"""What a person meets when the way to another machine breaks: each time the work goes on, or one sentence says what to do.

`scripts/test tests/faults/test_link_lost.py --long` also waits for what takes longer than the keep-alive.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from opagent.client import Client
from opagent.elsewhere import Elsewhere, dialing
from opagent.errors import HostUnreachable
from opagent.model import Event
from tests.doubles.far import Far, far, followed, kill, words
from tests.doubles.patience import PATIENCE, until

COUNTED = "".join(f"{number} " for number in range(1, 41))
SLOW = "/slow 40 0.05"


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    with far(home.parent / "there") as place:
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", place.server.config)
        yield place


@pytest.fixture
def client(there: Far) -> Iterator[Elsewhere]:
    with there.client() as client:
        yield client


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long", False))


def _join(client: Elsewhere, there: Far, text: str, request: str = "first") -> dict[str, Any]:
    return client.join({"path": str(there.docs), "agent": "echo", "text": text, "request": request, "follow": True})


def _speaks(client: Client, turn: str, events: list[Event]) -> None:
    """Until the agent has said something."""
    while not words(events, turn):
        event = client.next_event()
        assert event is not None
        events.append(event)


def _whole(events: list[Event]) -> bool:
    seqs = [event.seq for event in events]
    return seqs == list(range(seqs[0], seqs[0] + len(seqs)))


# ---- while an agent speaks -----------------------------------------------------------------------------------------------


def test_the_daemon_here_is_killed(there: Far, client: Elsewhere) -> None:
    events: list[Event] = []
    turn = _join(client, there, SLOW)["turn"]["id"]
    _speaks(client, turn, events)
    kill(there.daemon_here())
    assert followed(client, turn, events) == "done"
    assert words(events, turn) == COUNTED and _whole(events)


def test_the_daemon_there_is_killed(there: Far, client: Elsewhere) -> None:
    """Its turn is interrupted, which is said once, and the next one runs."""
    events: list[Event] = []
    joined = _join(client, there, SLOW)
    turn = joined["turn"]["id"]
    _speaks(client, turn, events)
    kill(there.daemon_there())
    assert followed(client, turn, events) == "interrupted"
    said = {"conversation": joined["conversation"]["id"], "text": "are you there", "request": "second"}
    again = client.request("turn/start", said)["turn"]["id"]
    assert followed(client, again, events) == "done" and _whole(events)
    states = [event.body["state"] for event in events if event.kind == "turn_state" and event.turn == turn]
    assert states.count("interrupted") == 1
    text = until(lambda: "echo: are you there" in (found := Path(joined["conversation"]["path"]).read_text()) and found)
    assert text.count("interrupted") == 1


def test_the_server_is_restarted(there: Far, client: Elsewhere) -> None:
    events: list[Event] = []
    turn = _join(client, there, SLOW)["turn"]["id"]
    _speaks(client, turn, events)
    there.server.restart()
    assert followed(client, turn, events) == "done"
    assert words(events, turn) == COUNTED and _whole(events)


def test_a_command_prints_the_whole_answer(there: Far) -> None:
    """Whatever was cut, and how often, in the middle of it."""
    running = there.began("open", there.target, "--agent", "echo", "-m", SLOW)
    until(lambda: there.line.passed().down > 10_000 and there.docs.glob("*.md"))
    for after in (0, 1000, 50, 700, 20):
        time.sleep(0.3)  # a moment of the answer
        there.line.reset(after)
    there.line.mend()
    out, error = running.communicate()
    assert (running.returncode, out.decode()) == (0, COUNTED + "\n"), error.decode()


# ---- requests ------------------------------------------------------------------------------------------------------------


def test_a_prompt_whose_answer_was_lost_runs_once(there: Far, client: Elsewhere) -> None:
    """It arrives and the connection ends with the answer: asked again, it is the same turn, of which nothing was missed."""
    events: list[Event] = []
    followed(client, _join(client, there, "hello")["turn"]["id"], events)
    for number in range(3):
        there.line.reset(after=1)
        joined = _join(client, there, f"/slow 3 0.01\nnumber {number}", f"request-{number}")
        there.line.mend()
        conversation, events = joined["conversation"]["id"], []
        assert followed(client, joined["turn"]["id"], events) == "done"
        assert words(events, joined["turn"]["id"]) == f"1 2 3 echo: number {number}"
        assert _whole([event for event in events if event.conversation == conversation])
        shown = client.request("conversation/show", {"conversation": conversation})
        assert len(shown["turns"]) == 1
    assert len(client.request("conversation/list", {"path": str(there.docs)})["conversations"]) == 4


@pytest.mark.parametrize(("after", "up"), [(10, True), (1500, False), (3000, True), (100_000, True), (450_000, True)])
def test_a_first_contact_that_is_cut(there: Far, after: int, up: bool) -> None:
    """While keys are exchanged, while we are let in, while our program travels: a sentence and a hint; then it works."""
    there.line.reset(after, up)
    first = there.began("open", there.target, "--agent", "echo", "-m", "hello")
    _, error = first.communicate()
    assert first.returncode == HostUnreachable.exit and b"Traceback" not in error, (first.returncode, error)
    there.line.mend()
    second = there.began("open", there.target, "--agent", "echo", "-m", "hello")
    out, error = second.communicate()
    assert (second.returncode, out) == (0, b"echo: hello\n"), error


# ---- dialing -------------------------------------------------------------------------------------------------------------


def test_redialed_until_it_is_back(there: Far, client: Elsewhere) -> None:
    """Again and again, ever more seldom; who waits is told."""
    events: list[Event] = []
    turn = _join(client, there, SLOW)["turn"]["id"]
    _speaks(client, turn, events)
    there.line.refuse()
    before = there.line.passed().came
    with pytest.raises(HostUnreachable):  # who has just come is told at once
        there.client()
    assert followed_after_attempts(there, client, before + 4, turn, events) == "done"
    assert words(events, turn) == COUNTED and _whole(events)
    assert any(phase["phase"] == "lost" for phase in there.told)


def followed_after_attempts(there: Far, client: Elsewhere, attempts: int, turn: str, events: list[Event]) -> str:
    def mend() -> None:
        until(lambda: there.line.passed().came >= attempts)
        there.line.mend()

    thread = threading.Thread(target=mend)
    thread.start()
    try:
        return followed(client, turn, events)
    finally:
        thread.join()


def test_nobody_asks_and_nothing_is_dialed(there: Far) -> None:
    with there.client() as client:
        events: list[Event] = []
        followed(client, _join(client, there, "hello")["turn"]["id"], events)
    there.line.reset()
    until(lambda: there.state() != "connected")
    came = there.line.passed().came
    for _ in range(5):
        there.state()
        time.sleep(0.1)  # more than the first pause of a redial
    assert there.line.passed().came == came


# ---- several clients -----------------------------------------------------------------------------------------------------


def test_a_viewer_that_does_not_read_holds_up_nobody(there: Far, client: Elsewhere) -> None:
    events: list[Event] = []
    joined = _join(client, there, "hello")
    followed(client, joined["turn"]["id"], events)
    conversation = joined["conversation"]["id"]
    with there.client() as stale, there.client() as newcomer:
        stale.subscribe(conversation, events[-1].seq)
        turns = []
        for number in range(3):
            said = {"conversation": conversation, "text": f"/flood 2000 1000\nflood {number}", "request": f"flood-{number}"}
            turns.append(client.request("turn/start", said)["turn"]["id"])
            assert followed(client, turns[-1], events) == "done"
        newcomer.subscribe(conversation, 0)
        seen: list[Event] = []
        assert followed(newcomer, turns[-1], seen) == "done"
        late: list[Event] = []
        assert followed(stale, turns[-1], late) == "done"
    assert _whole(events) and _whole(seen) and _whole(late)
    assert [event.seq for event in late] == [event.seq for event in events if event.seq >= late[0].seq]


def test_many_who_come_at_once_share_one_socket(there: Far) -> None:
    """Each gets the path of it; a second one under the same name would never be given back."""
    with Client("test") as first:
        first.request("link/open", {"machine": "there", **dialing()}, PATIENCE)  # what travels once is there
        first.request("host/add", {"name": "there"})  # and the link is given back

        def come(_: int) -> str:
            with Client("test") as client:
                return str(client.request("link/open", {"machine": "there", **dialing()}, PATIENCE)["socket"])

        with ThreadPoolExecutor(8) as threads:
            (path,) = set(threads.map(come, range(8)))
        daemon = there.daemon_here()
        assert daemon is not None
        # one door, and the daemon here, which attends over it; what it asks else has the same name, for a moment
        until(lambda: [each.laddr for each in daemon.net_connections("unix")].count(path) == 2)


# ---- longer than the keep-alive (--long) ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["hold", "forget", "sleep"])
def test_silence(there: Far, client: Elsewhere, long: bool, way: str) -> None:
    """A black hole, a half-open connection, a laptop that sleeps. In the gate shorter than the keep-alive where that can be."""
    if way == "forget" and not long:
        way = "hold"  # only the keep-alive finds it
    silence = 30.0 if long else 1.0
    events: list[Event] = []
    turn = _join(client, there, SLOW)["turn"]["id"]
    _speaks(client, turn, events)
    daemon = there.daemon_here()
    assert daemon is not None
    if way == "sleep":
        daemon.send_signal(signal.SIGSTOP)
        time.sleep(silence)  # this process, the client, sleeps too
        daemon.send_signal(signal.SIGCONT)
    elif way == "hold":
        there.line.hold()
        time.sleep(silence)
        there.line.mend()
    else:
        there.line.forget()
    assert followed(client, turn, events) == "done"
    assert words(events, turn) == COUNTED and _whole(events)
