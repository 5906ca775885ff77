"""Lines of JSON-RPC on two descriptors and the loop that drives generators; it must not know any method of ACP."""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable, Generator, Iterator

TYPE_CHECKING = False  # importing typing would cost 2 ms of a start of 25
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]
else:
    Message = dict
Job = Generator[object, object, None]
READ_BYTES = 1 << 16
FOREVER = float("inf")


class Cancelled(Exception):
    """Thrown into a job whose turn the client cancelled."""


class Ask:
    """A request to the client. A job yields it, or a list of them, and is sent the answer or the list of answers."""

    def __init__(self, method: str, params: Message) -> None:
        self.method = method
        self.params = params


class Lines:
    """Whole lines of a descriptor and whole writes to another; both block, as small agents do."""

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self.sink = sink
        self._rest = b""

    def wait(self, seconds: float | None) -> bool:
        """True when there is something to read; `None` waits without end."""
        return bool(select.select([self.source], [], [], seconds)[0])

    def read(self) -> list[bytes] | None:
        """The lines completed by one read; None at the end of the stream."""
        data = os.read(self.source, READ_BYTES)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.sink, view) :]

    def send(self, message: Message) -> None:
        self.write(encode(message))


def encode(message: Message) -> bytes:
    """One line of the wire; text that UTF-8 cannot hold (a lone surrogate of the prompt) goes out escaped."""
    try:
        return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class Loop:
    """Drives jobs: a job yields seconds to sleep, an `Ask`, or a list of `Ask`s; several jobs run side by side."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.deaf_until = 0.0
        self.ignore_eof = False
        self._sleeping: dict[Job, float] = {}
        self._asking: dict[Job, dict[int, Message | None]] = {}
        self._lists: set[Job] = set()
        self._next_id = 0  # the first request has id 0 on purpose: hosts that test ids for truth lose it

    def spawn(self, job: Job) -> None:
        self._step(job, lambda: next(job))

    def cancel(self, job: Job) -> None:
        """Throw `Cancelled` into a job that waits; a job that catches it may go on."""
        if self._sleeping.pop(job, None) is None and self._asking.pop(job, None) is None:
            return
        self._step(job, lambda: job.throw(Cancelled()))

    def answer(self, message: Message) -> None:
        """Take a response of the client; one that nobody waits for is dropped."""
        for job, answers in list(self._asking.items()):
            if message.get("id") in answers:
                answers[message["id"]] = message
                if None not in answers.values():
                    self._resume_with(job, list(self._asking.pop(job).values()))
                return

    def run(self, receive: Callable[[bytes], None]) -> None:
        """Until the end of the input: lines go to `receive`, jobs go on when their time has come."""
        while True:
            now = time.monotonic()
            for job in [job for job, at in self._sleeping.items() if at <= now]:
                del self._sleeping[job]
                self._step(job, lambda job=job: next(job))  # type: ignore[misc]
            pause = max(0.0, min(self._sleeping.values(), default=FOREVER) - time.monotonic())
            if time.monotonic() < self.deaf_until:
                time.sleep(min(pause, self.deaf_until - time.monotonic(), 3600.0))
            elif self.lines.wait(None if pause == FOREVER else pause):
                arrived = self.lines.read()
                if arrived is None:
                    if not self.ignore_eof:
                        return
                    self.deaf_until = FOREVER
                for line in arrived or ():
                    receive(line)

    def _resume_with(self, job: Job, answers: list[Message | None]) -> None:
        value: object = answers if job in self._lists else answers[0]
        self._lists.discard(job)
        self._step(job, lambda: job.send(value))

    def _step(self, job: Job, advance: Callable[[], object]) -> None:
        try:
            wish = advance()
        except StopIteration:
            return
        if isinstance(wish, int | float):
            self._sleeping[job] = time.monotonic() + wish
            return
        if isinstance(wish, list):
            self._lists.add(job)
        numbered = list(self._number(wish if isinstance(wish, list) else [wish]))
        self._asking[job] = {number: None for number, _ in numbered}
        for number, ask in numbered:
            self.lines.send({"jsonrpc": "2.0", "id": number, "method": ask.method, "params": ask.params})

    def _number(self, asks: list[Any]) -> Iterator[tuple[int, Ask]]:
        for ask in asks:
            yield self._next_id, ask
            self._next_id += 1
