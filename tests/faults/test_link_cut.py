"""The link to another machine is cut while an agent there speaks: every event comes once and in order, here and in the file.

`scripts/test tests/faults/test_link_cut.py --long` cuts 200 times; the gate cuts a tenth of that.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opagent.elsewhere import Elsewhere
from opagent.model import Event
from tests.doubles.far import Far, far, followed, words
from tests.doubles.patience import until

SEED = 4
CUTS = 20
COUNTED = "".join(f"{number} " for number in range(1, 41))


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    with far(home.parent / "there") as place:
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", place.server.config)
        yield place


def test_cut_at_random(there: Far, rounds: int) -> None:
    events: list[Event] = []
    turns: list[str] = []
    with there.client() as client:
        joined = client.join({"path": str(there.docs), "agent": "echo", "text": "hello", "request": "first", "follow": True})
        followed(client, joined["turn"]["id"], events)
        with _cutter(there, CUTS * rounds) as cutter:
            while cutter.is_alive():
                turns.append(_say(client, joined["conversation"]["id"], f"/slow 40 0.01\nturn {len(turns)}"))
                assert followed(client, turns[-1], events) == "done"
        _complete(client, joined["conversation"], events, turns)


class _cutter:
    """A thread that cuts so many times, each after a random moment, in a random way."""

    def __init__(self, there: Far, count: int) -> None:
        self._there, self._count = there, count
        self._chance = random.Random(SEED)
        self._thread = threading.Thread(target=self._run, name="cutter")
        self._over = threading.Event()

    def __enter__(self) -> threading.Thread:
        self._thread.start()
        return self._thread

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        line, chance = self._there.line, self._chance
        ways: list[Callable[[], None]] = [
            line.reset,
            self._there.server.cut,
            lambda: line.reset(after=chance.randrange(1, 3000)),
            lambda: line.reset(after=chance.randrange(1, 500), up=True),
            self._hole,
        ]
        for _ in range(self._count):
            if self._over.wait(chance.uniform(0, 0.8)):
                break
            chance.choice(ways)()
        line.mend()

    def _hole(self) -> None:
        """Shorter than the keep-alive: nobody may notice."""
        self._there.line.hold()
        self._over.wait(self._chance.uniform(0, 0.3))
        self._there.line.mend()


def _say(client: Elsewhere, conversation: str, text: str) -> str:
    said = {"conversation": conversation, "text": text, "request": f"{random.random()}"}
    return str(client.request("turn/start", said)["turn"]["id"])


def _complete(client: Elsewhere, conversation: dict[str, str], events: list[Event], turns: list[str]) -> None:
    """Nothing is missing, nothing came twice: at this client, in the log there, in the file there."""
    seqs = [event.seq for event in events]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    kept: dict[int, Any] = {}
    while True:
        said = {"conversation": conversation["id"], "after": max(kept, default=0), "limit": 1000}
        shown = client.request("conversation/show", said)
        kept |= {event["seq"]: event for event in shown["events"]}
        if not shown["events"]:
            break
    assert [(kept[event.seq]["kind"], kept[event.seq]["body"]) for event in events] == [(str(e.kind), e.body) for e in events]
    assert len(shown["turns"]) == len(turns) + 1
    for number, turn in enumerate(turns):
        assert words(events, turn) == f"{COUNTED}echo: turn {number}"
    last = f"echo: turn {len(turns) - 1}"
    text = until(lambda: last in (found := Path(conversation["path"]).read_text()) and found)
    assert [text.count(f"{COUNTED}echo: turn {number}\n") for number in range(len(turns))] == [1] * len(turns)
