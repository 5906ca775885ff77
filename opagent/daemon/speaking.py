"""How agents speak on their own connection: as a client of MCP, or by the few methods that a command of theirs may ask for.

API: `register`. What is asked for is done in `daemon/verbs.py`; each request is a task, and ends with its connection.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opagent import control, jsonrpc
from opagent.daemon import verbs
from opagent.daemon.lines import Line, Lines, Send
from opagent.daemon.verbs import Asker
from opagent.errors import Bug, OpAgentError
from opagent.mcp import server as mcp
from opagent.mcp.tools import INSTRUCTIONS, SERVER, TOOLS, said

if TYPE_CHECKING:
    from opagent.daemon.host import Host

log = logging.getLogger(__name__)

MOST_OPEN = 64  # requests of one connection
BEAT = 5.0  # seconds between two signs of life of a call
# method of an agent's own connection -> the tool that does the same
METHODS = {
    "agent/list": "agent_list", "call/start": "agent_send", "call/result": "agent_result", "ask/person": "ask_person",
    "notes/read": "notes_read", "notes/write": "notes_write", "turn/status": "turn_status",
}  # fmt: skip


def register(host: Host, lines: Lines) -> None:
    lines.speakers["mcp"] = functools.partial(_Mcp, host)
    lines.speakers["calls"] = functools.partial(_Control, host)


class _Speaker:
    """Requests as tasks, so many at a time."""

    def __init__(self, host: Host, line: Line, send: Send) -> None:
        self._asker = Asker(host, line.conversation, line.id)
        self._shared, self._send = host.shared, send
        self._tasks: dict[jsonrpc.Id, asyncio.Task[None]] = {}

    def end(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()

    def _begin(self, ident: jsonrpc.Id, work: Callable[[], Any]) -> bool:
        """False for too many, or the number of one that is not answered yet."""
        if len(self._tasks) >= MOST_OPEN or ident in self._tasks:
            return False
        task = self._tasks[ident] = self._shared.spawn(work(), f"{self._asker.process}-{ident}")
        task.add_done_callback(lambda _: self._tasks.pop(ident, None))
        return True

    async def _done(self, name: str, arguments: Any) -> verbs.Result:
        """Raises OpAgentError, whatever goes wrong."""
        try:
            return await verbs.perform(self._asker, name, arguments)
        except OpAgentError:
            raise
        except Exception as error:  # the outer edge of a request: one agent's trouble must not end the daemon
            log.exception("%s of %s failed", name, self._asker.process)
            raise Bug("the daemon made a mistake", name, "opagent daemon status") from error


class _Mcp(_Speaker):
    def __init__(self, host: Host, line: Line, send: Send) -> None:
        super().__init__(host, line, send)
        self._server = mcp.Server(SERVER, lambda: TOOLS, INSTRUCTIONS)

    def take(self, line: bytes) -> None:
        for step in self._server.receive(line):
            if isinstance(step, mcp.Call):
                if not self._begin(step.id, functools.partial(self._perform, step)):
                    self._send(self._server.refuse(step, jsonrpc.INVALID_REQUEST, f"more than {MOST_OPEN} requests at once"))
            elif isinstance(step, mcp.Cancelled):
                if (task := self._tasks.get(step.id)) is not None:
                    task.cancel()
            else:
                self._send(step)

    async def _perform(self, call: mcp.Call) -> None:
        beat = asyncio.create_task(self._beat(call), name=f"beat-{call.id}") if call.progress is not None else None
        try:
            result = said(call.tool, await self._done(call.tool, call.arguments))
        except OpAgentError as error:
            result = mcp.Result(f"{error}\n{error.hint}".strip(), None, failed=True)
        finally:
            if beat is not None:
                beat.cancel()
        self._send(self._server.answer(call, result))

    async def _beat(self, call: mcp.Call) -> None:
        count = 0
        while True:
            await asyncio.sleep(BEAT)
            count += 1
            self._send(self._server.progress(call, count, f"{call.tool} is at work, {count * BEAT:g} s"))


class _Control(_Speaker):
    """Requests of the control protocol, without its greeting; only METHODS are there."""

    def take(self, line: bytes) -> None:
        message = jsonrpc.decode(line)
        if isinstance(message, jsonrpc.Noise) and message.answer:
            self._send(jsonrpc.encode(message.answer))
        if not isinstance(message, jsonrpc.Request):
            return
        name = METHODS.get(message.method)
        known = next((tool for tool in TOOLS if tool.name == name), None)
        if known is None:
            words = f"an agent's own connection has no method {message.method!r}"
            self._send(jsonrpc.encode(jsonrpc.Failure(message.id, control.METHOD_NOT_FOUND, words)))
        elif problem := mcp.misfit(known.arguments, message.params):
            self._send(jsonrpc.encode(jsonrpc.Failure(message.id, control.INVALID_PARAMS, problem)))
        elif not self._begin(message.id, functools.partial(self._perform, known.name, message)):
            words = f"more than {MOST_OPEN} requests at once"
            self._send(jsonrpc.encode(jsonrpc.Failure(message.id, jsonrpc.INVALID_REQUEST, words)))

    async def _perform(self, name: str, message: jsonrpc.Request) -> None:
        try:
            result = await self._done(name, message.params)
        except OpAgentError as error:
            data = control.error_json(error)
            self._send(jsonrpc.encode(jsonrpc.Failure(message.id, data["code"], data["message"], data["data"])))
        else:
            self._send(jsonrpc.encode(jsonrpc.Response(message.id, dict(result))))
