"""The conversation of a probe with one process of an agent: says things, answers its questions, notes what came and when.

Decides nothing about what was seen (that is `rehearsal.py`), starts no process by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from opagent import jsonrpc
from opagent.acp import messages
from opagent.acp.connection import Asked, Closed, Connection, Refusal, Reply, Update
from opagent.errors import OpAgentError
from opagent.process.supervisor import Process

Answer = Callable[[Asked], Awaitable[str]]  # the kind of option to choose: allow_once, reject_once, or cancelled
PERMISSION = "session/request_permission"


class Line:
    """One agent process that is spoken to. `updates` holds every update so far."""

    def __init__(self, process: Process) -> None:
        self.process, self.session = process, ""
        self.updates: list[dict[str, Any]] = []
        self._connection = Connection()
        self._open: dict[int, asyncio.Future[Reply | Refusal]] = {}
        self._asked: asyncio.Queue[Asked] = asyncio.Queue()
        self._heard = asyncio.Event()
        self._reader = asyncio.get_running_loop().create_task(self._read(), name=f"probe-{process.id}")

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while data := await self.process.read():
                for incoming in self._connection.receive(data):
                    await self._take(incoming)
        except OpAgentError:
            pass  # it does not read, or is gone: whoever waits for an answer gets none
        finally:
            for future in self._open.values():
                future.cancel()

    async def _take(self, incoming: Any) -> None:
        match incoming:
            case Reply() | Refusal():
                if (future := self._open.pop(incoming.number, None)) is not None and not future.done():
                    future.set_result(incoming)
            case Update(_, update):
                self.updates.append(update)
                self._heard.set()
            case Asked(_, method, _) if method == PERMISSION:
                self._asked.put_nowait(incoming)
            case Asked(ident, method, _):
                await self.process.send(self._connection.refuse(ident, jsonrpc.METHOD_NOT_FOUND, f"{method} is not offered"))
            case Closed():
                pass

    # ---- saying --------------------------------------------------------------------------------------------------------

    async def call(self, method: str, params: Mapping[str, Any], within: float) -> Reply | Refusal | None:
        """The answer; None when none came in time, or the agent is gone."""
        return await self._until(await self._post(method, params), within)

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        await self.process.send(self._connection.notify(method, params))

    async def _post(self, method: str, params: Mapping[str, Any]) -> asyncio.Future[Reply | Refusal]:
        number, data = self._connection.request(method, params)
        future = self._open[number] = asyncio.get_running_loop().create_future()
        await self.process.send(data)
        return future

    async def _until(self, future: asyncio.Future[Reply | Refusal], within: float) -> Reply | Refusal | None:
        await asyncio.wait([future], timeout=within)
        return future.result() if future.done() and not future.cancelled() else None

    async def turn(self, text: str, answer: Answer, within: float) -> Reply | Refusal | None:
        """One prompt; every question on the way is answered as `answer` says. None: no end within so many seconds."""
        turn = await self.begin(text)
        return await self.finish(turn, answer, within)

    async def begin(self, text: str) -> asyncio.Future[Reply | Refusal]:
        return await self._post("session/prompt", messages.prompt(self.session, [messages.text_block(text)]))

    async def finish(self, turn: asyncio.Future[Reply | Refusal], answer: Answer, within: float) -> Reply | Refusal | None:
        deadline = asyncio.get_running_loop().time() + within
        while not turn.done() and (left := deadline - asyncio.get_running_loop().time()) > 0:
            question = asyncio.ensure_future(self._asked.get())
            either: tuple[asyncio.Future[Any], ...] = (turn, question)
            await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not question.done():
                question.cancel()
                continue
            await self._answered(question.result(), answer)
        return turn.result() if turn.done() and not turn.cancelled() else None

    async def _answered(self, asked: Asked, answer: Answer) -> None:
        kind = await answer(asked)
        options = [messages.as_dict(option) for option in messages.as_list(asked.params.get("options"))]
        chosen = next((option for option in options if option.get("kind") == kind), None)
        if chosen is None:
            chosen = next((option for option in options if str(option.get("kind")).startswith(kind.partition("_")[0])), None)
        outcome = messages.cancelled_outcome()
        if chosen is not None:
            outcome = messages.selected_outcome(messages.as_text(chosen.get("optionId")))
        await self.process.send(self._connection.answer(asked.id, outcome))

    async def cancel(self) -> None:
        await self.notify("session/cancel", {"sessionId": self.session})

    async def heard(self, within: float) -> bool:
        """Whether an update came after this was asked for."""
        self._heard.clear()
        try:
            async with asyncio.timeout(within):
                await self._heard.wait()
        except TimeoutError:
            return False
        return True


async def allow(asked: Asked) -> str:
    return "allow_once"


async def reject(asked: Asked) -> str:
    return "reject_once"
