"""What tests do with a dial: a person who answers, and one command there from dialing to closing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from opagent.remote.dial import Settings, dial
from opagent.remote.seam import Connection, Ended, Phase, Question
from opagent.target import Target
from tests.doubles.patience import PATIENCE

T = TypeVar("T")


class Person:
    """Gives the answers of a kind of question one after the other, then none. Remembers what was asked."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.asked: list[Question] = []
        self._answers = {kind: list(texts) for kind, texts in answers.items()}

    async def __call__(self, question: Question) -> str | None:
        self.asked.append(question)
        left = self._answers.get(question.kind, [])
        return left.pop(0) if left else None

    @property
    def kinds(self) -> list[str]:
        return [question.kind for question in self.asked]


def told(phase: Phase) -> None:
    return None


def connected(
    story: Callable[[Connection], Awaitable[T]],
    config: str,
    person: Person | None = None,
    transport: str = "",
    target: str = "there",
) -> T:
    """The story on a connection, which is closed after it."""

    async def run() -> T:
        async with asyncio.timeout(PATIENCE):
            connection = await dial(Target(target, ""), person or Person(), told, Settings(transport, config=config))
            try:
                return await story(connection)
            finally:
                connection.close()
                await connection.lost()

    return asyncio.run(run())


async def ran(connection: Connection, line: str) -> tuple[str, Ended]:
    """What a command there printed, and its end."""
    stream = await connection.run(line)
    parts = []
    while part := await stream.read():
        parts.append(part)
    return b"".join(parts).decode(), await stream.ended()


def says(config: str, person: Person | None = None, transport: str = "", line: str = "echo in", target: str = "there") -> str:
    """What one command there prints; raises what dialing raises."""

    async def story(connection: Connection) -> str:
        return (await ran(connection, line))[0]

    return connected(story, config, person, transport, target)


def transport_of(config: str, transport: str = "") -> str:
    """Which one was taken."""

    async def story(connection: Connection) -> str:
        assert (await ran(connection, "echo in"))[0] == "in\n"
        return connection.transport

    return connected(story, config, None, transport)
