"""The model's server behind the proxy is down, hangs up, is slow, answers 5xx, or never ends: the agent sees it, and what it cost counts."""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from opagent import paths
from tests.doubles import runtimes, webserver
from tests.doubles.patience import PATIENCE, until
from tests.integration.conftest import Talk

CALLER = Path(__file__).parents[1] / "doubles/caller_agent.py"
MODEL = {"key": "MODEL_KEY", "base_url": "MODEL_BASE_URL", "path": "/v1", "usage": ["usage.in", "usage.out"]}
COUNTS = json.dumps({"usage": {"in": 11, "out": 7}}).encode()


class Model:
    """A conversation whose agent has a model behind the proxy, at `port` of this machine."""

    def __init__(self, talk: Talk, port: int) -> None:
        self.talk = talk
        paths.config().mkdir(parents=True, exist_ok=True)
        own = {"can": {"network": {"allow": [f"127.0.0.1:{port}"]}}, "secrets": {"model": "env:MY_OWN_NAME"}}
        paths.user_config().write_text(yaml.safe_dump(own))
        runtimes.put("caller", sys.executable, "-I", str(CALLER), model=MODEL)
        secrets = {"MODEL_KEY": {"from": "user:model", "to": f"127.0.0.1:{port}"}}
        runtimes.bind(talk.client, talk.directory, "caller", can={"secrets": secrets}, budget={"tokens": 10_000, "per": "total"})
        self.conversation = talk.create("caller")

    def asks(self, path: str = "/a") -> str:
        turn = self.talk.say(self.conversation, f"model {path}")
        assert turn["state"] == "done"
        return self.talk.answer(self.conversation, turn["id"])

    def counted(self) -> tuple[int, int | None]:
        where = {"path": str(self.talk.directory), "environment": dict(os.environ)}
        (limit,) = self.talk.client.request("budget/show", where)["limits"]
        return limit["used"], limit["metered"]


@pytest.fixture(autouse=True)
def trusted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment of the daemon, which starts later."""
    monkeypatch.setenv("SSL_CERT_FILE", str(home / "ca.pem"))
    monkeypatch.setenv("MY_OWN_NAME", "a-key-of-the-model")


@pytest.fixture
def answers(trusted: None, home: Path, talk: Talk) -> Iterator[Callable[[webserver.Answer], Model]]:
    """The model of an agent, which answers so."""
    ways: list[webserver.Answer] = []
    with webserver.running(lambda handler, body: ways[-1](handler, body), tls=home) as server:

        def build(way: webserver.Answer) -> Model:
            ways.append(way)
            return Model(talk, server.port)

        yield build


def test_it_is_down(talk: Talk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    model = Model(talk, port)
    assert model.asks().startswith(f"502 OpAgent: 127.0.0.1:{port} cannot be reached:")
    assert model.counted()[1] is None
    assert talk.say(model.conversation, "env HOME")["state"] == "done", "and the agent goes on"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_it_answers_with_an_error(answers: Callable[[webserver.Answer], Model], status: int) -> None:
    """What it says goes through; where it says what that cost, it counts."""
    model = answers(lambda handler, _: handler.say(COUNTS, "application/json", status))
    assert model.asks().startswith(f"{status} ")
    until(lambda: model.counted() == (18, 18))


def test_it_hangs_up(answers: Callable[[webserver.Answer], Model]) -> None:
    """Without a word, and in the middle of its answer."""

    def rude(handler: Any, _: bytes) -> None:
        if handler.path.endswith("/b"):
            handler.send_response(200)
            handler.send_header("content-length", "1000")
            handler.end_headers()
            handler.wfile.write(b"half of i")
        handler.close_connection = True

    model = answers(rude)
    for path in ("/a", "/b"):
        said = model.asks(path)
        assert not said.startswith("200 half") and ("Remote" in said or "Incomplete" in said or said.startswith("50")), said
    assert model.asks("/a"), "and the agent goes on"


def test_it_is_slow(answers: Callable[[webserver.Answer], Model]) -> None:
    """The turn waits; others' turns end meanwhile."""
    waits, goes_on = threading.Event(), threading.Event()

    def slow(handler: Any, _: bytes) -> None:
        waits.set()
        goes_on.wait(PATIENCE)
        handler.say(COUNTS, "application/json")

    model = answers(slow)
    turn = model.talk.start(model.conversation, "model /a")
    assert waits.wait(PATIENCE)
    other = model.talk.create("caller")
    assert model.talk.say(other, "env HOME")["state"] == "done"
    assert model.talk.turn(model.conversation, turn["id"])["state"] == "running"
    goes_on.set()
    assert model.talk.ended(model.conversation, turn["id"])["state"] == "done"
    until(lambda: model.counted()[1] == 18)


def test_it_never_ends(answers: Callable[[webserver.Answer], Model]) -> None:
    """A person ends it; what the stream said of its cost until then counts, and its server is left."""
    left, streaming = threading.Event(), threading.Event()

    def endless(handler: Any, _: bytes) -> None:
        def pieces() -> Iterator[bytes]:
            for number in itertools.count():
                yield (b"data: " + COUNTS + b"\n\n") * 1000
                if number == 500:  # 20 MB: more than lies in any buffer, so the proxy has read some
                    streaming.set()

        try:
            handler.stream(pieces())
        except OSError:
            left.set()

    model = answers(endless)
    turn = model.talk.start(model.conversation, "model /a")
    assert streaming.wait(PATIENCE)
    model.talk.client.request("process/stop", {"process": model.conversation["id"], "force": True})
    assert model.talk.ended(model.conversation, turn["id"])["state"] == "cancelled"
    assert left.wait(PATIENCE)
    until(lambda: model.counted()[1] == 18)
