"""Many at once: floods beside conversations that work, agents that all crash, clients that do not read or vanish."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import psutil
import pytest

from opagent import paths
from opagent.client import Client
from tests.doubles.patience import PATIENCE, until
from tests.faults.conftest import Place

MEMORY = 400 * 2**20  # bytes; an idle daemon has about 50 MiB


def talk_on(place: Place, conversation: Mapping[str, Any], count: int, tag: str) -> None:
    """So many turns, one after the other, over a client of its own that follows the events."""
    with Client("bystander") as client:
        client.subscribe(conversation["id"], None)
        for number in range(count):
            params = {"conversation": conversation["id"], "text": f"{tag} {number}"}
            turn = client.request("turn/start", params)["turn"]
            while True:
                event = client.next_event(PATIENCE)
                assert event is not None, "the bystander waits for ever"
                if event.turn == turn["id"] and event.body.get("state") == "done":
                    break


@pytest.mark.parametrize("noise", ["/flood 100000000 100", "/flood 100000000 5000"])
def test_beside_a_flood_without_end_turns_end(place: Place, noise: str) -> None:
    """And a flood hears a cancel. (By how much floods slow others down, `scripts/bench beside` measures.)"""
    bystander, noisy = place.create("oracle"), [place.create("oracle") for _ in range(2)]
    turns = [place.start(each, f"{noise}\n{number}") for number, each in enumerate(noisy)]
    until(lambda: all(place.answer(each, turn["id"]) for each, turn in zip(noisy, turns, strict=True)))
    talk_on(place, bystander, 3, "loud")
    memory = psutil.Process(place.daemon()).memory_info().rss
    for each, turn in zip(noisy, turns, strict=True):
        assert place.turn(each, turn["id"])["state"] == "running"
        place.client.request("turn/cancel", {"conversation": each["id"]})
        assert place.ended(each, turn["id"])["state"] == "cancelled"
    assert memory < MEMORY, f"{memory >> 20} MiB"


@pytest.mark.parametrize("noise", ["/flood 100000 100", "/huge 100", "/stderr 200000", "/garbage\n/flood 20000 100"])
def test_noise_and_others_end(place: Place, noise: str) -> None:
    bystander, noisy = place.create("oracle"), [place.create("oracle") for _ in range(2)]
    turns = [place.start(each, f"{noise}\n{number}") for number, each in enumerate(noisy)]
    talk_on(place, bystander, 10, "loud")
    memory = psutil.Process(place.daemon()).memory_info().rss
    for each, turn in zip(noisy, turns, strict=True):
        assert place.ended(each, turn["id"])["state"] == "done"
    assert memory < MEMORY, f"{memory >> 20} MiB"
    place.settle()


def test_two_hundred_agents_crash_at_once(place: Place) -> None:
    bystander = place.create("oracle")
    crowd = [place.create("oracle") for _ in range(200)]
    turns = [place.start(each, f"/wait\n{number}") for number, each in enumerate(crowd)]
    waiting = [place.start(each, f"after {number}") for number, each in enumerate(crowd)]
    until(lambda: all(place.answer(each, turn["id"]) for each, turn in zip(crowd, turns, strict=True)))
    assert place.kill_agents() >= len(crowd)
    talk_on(place, bystander, 10, "loud")
    for each, first, second in zip(crowd, turns, waiting, strict=True):
        assert place.ended(each, first["id"])["state"] == "interrupted"
        assert place.ended(each, second["id"])["state"] == "done"
    place.settle()


def test_clients_that_do_not_read_are_told_that_they_lag(place: Place) -> None:
    """Their buffers are bounded, the daemon's memory too, and one that reads again sees every event once."""
    conversation = place.create("oracle")
    place.say(conversation, "warm up")
    sleepers = [Client(f"sleeper-{number}") for number in range(5)]
    after = 0
    for client in sleepers:
        after = client.subscribe(conversation["id"], None)
    turn = place.start(conversation, "/flood 6000 2500")
    assert place.ended(conversation, turn["id"])["state"] == "done"
    assert psutil.Process(place.daemon()).memory_info().rss < MEMORY
    for client in sleepers[:2]:
        seen = []
        while not seen or seen[-1].body.get("state") != "done":
            event = client.next_event(PATIENCE)
            assert event is not None
            seen.append(event)
            place.checker.saw(event.conversation, event.seq, event.body)
        assert [event.seq for event in seen] == list(range(after + 1, after + 1 + len(seen)))
    for client in sleepers:
        client.close()
    place.settle()


def test_clients_that_vanish_mid_stream(place: Place) -> None:
    """Closed without a word, in the middle of a request, in the middle of a line, before the greeting."""
    conversation = place.create("oracle")
    turn = place.start(conversation, "/slow 60 0.02")
    until(lambda: place.answer(conversation, turn["id"]))
    for number in range(30):
        if number % 3 == 0:
            client = Client("vanishing")
            client.subscribe(conversation["id"])
            client.close()
            continue
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(str(paths.socket()))
        if number % 3 == 1:
            stream.sendall(b'{"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":2}}\n{"jsonrpc":"2.0","id":2,"meth')
        stream.close()
    assert place.ended(conversation, turn["id"])["state"] == "done"
    until(lambda: place.client.request("daemon/status", {})["clients"] == 1)
    place.settle()


def test_what_is_no_client(place: Place) -> None:
    """Garbage, a line without an end, a request before hello: that connection ends, or gets an error, and the others go on."""
    for said in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0" * 4096 + b"\n",
        b'{"jsonrpc":"2.0","id":1,"method":"daemon/stop"}\n',
        b"[" * 100_000 + b"\n",
    ):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(paths.socket()))
            stream.sendall(said)
            stream.settimeout(1)
            try:
                while stream.recv(65536):
                    pass
            except TimeoutError:
                continue
    assert place.say(place.create("oracle"), "still here")["state"] == "done"
    place.settle()
