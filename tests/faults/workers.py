"""People at work while things die: each worker has a client of its own, says one thing after the other and waits for each end."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from opagent import paths
from opagent.client import Client
from opagent.errors import AlreadyDecided, ApprovalNotFound, OpAgentError
from tests.doubles.patience import PATIENCE
from tests.faults.conftest import Place
from tests.integration.conftest import FINAL

DIRECTIVES = ("", "", "/slow 4 0.01\n", "/tool\n", "/plan\n", "/permission\n", "/thought so it is\n", "/flood 300 80\n",
              "/fs {name} {name}\n")  # fmt: skip

_numbers = itertools.count(1)


def some_prompt(chance: random.Random, tag: str) -> str:
    """A prompt that no other one equals."""
    number = next(_numbers)
    directive = chance.choice(DIRECTIVES).replace("{name}", f"{tag}{number}.txt")
    return f"{directive}word {tag}{number} and some more of it"


Prompt = Callable[[random.Random, str], str]


class Worker(threading.Thread):
    """One conversation, one client. `failure` is what it could not get over."""

    def __init__(self, place: Place, seed: int, forgiving: bool = False, prompt: Prompt = some_prompt) -> None:
        super().__init__(name=f"worker-{seed}", daemon=True)
        self.place, self.chance = place, random.Random(seed)
        self.tag, self.prompt = f"w{seed}x", prompt
        self.conversation = place.create("oracle", title=self.tag)
        self.forgiving = forgiving  # restarts its agent when that was given up
        self.ended: list[dict[str, Any]] = []
        self.failure: BaseException | None = None
        self._stop_asked = threading.Event()
        place.at_end.append(self.leave)
        self.start()

    def run(self) -> None:
        try:
            with Client(self.name) as client:
                client.subscribe(self.conversation["id"])
                while not self._stop_asked.wait(self.chance.uniform(0, 0.1)):
                    self._one(client)
        except BaseException as error:
            self.failure = error

    def leave(self) -> None:
        self._stop_asked.set()
        self.join(2 * PATIENCE)

    def finish(self) -> None:
        self._stop_asked.set()
        self.join(PATIENCE)
        assert not self.is_alive(), f"{self.name} still waits: {self.place.unfinished()}"
        if self.failure is not None:
            said = paths.daemon_log().read_text().splitlines()[-60:]
            raise AssertionError("\n".join([f"{self.name}: {self.failure!r}", *said])) from self.failure

    def _one(self, client: Client) -> None:
        text = self.prompt(self.chance, self.tag)
        params = {"conversation": self.conversation["id"], "text": text, "request": f"{self.tag}{next(_numbers)}"}
        turn = client.request("turn/start", params)["turn"]
        self.place.checker.acknowledge(turn)
        deadline = float("inf")  # where each daemon dies before its agent has started, a turn waits as long as that goes on
        while time.monotonic() < deadline:
            if self._stop_asked.is_set():
                deadline = min(deadline, time.monotonic() + PATIENCE)
            event = client.next_event(0.5)
            if event is None:
                continue
            self.place.checker.saw(event.conversation, event.seq, event.body)
            if event.kind == "approval_asked":
                self._answer(client, str(event.body["id"]))
            if event.turn == turn["id"] and event.body.get("state") in FINAL and event.kind == "turn_state":
                self.ended.append({**turn, **event.body})
                if self.forgiving and event.body.get("reason") == "crash_loop":
                    client.request("process/restart", {"process": self.conversation["id"]})
                return
        raise AssertionError(f"{turn['id']} {text!r} did not end")

    def _answer(self, client: Client, approval: str) -> None:
        allow = self.chance.random() < 0.7
        if allow:
            self.place.checker.allowed.add(approval)
        try:
            client.request("approval/answer", {"approval": approval, "allow": allow})
        except (AlreadyDecided, ApprovalNotFound, OpAgentError):
            return  # the daemon or the agent died in between: then it is void, and the checker says whether it is
