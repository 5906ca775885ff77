"""The agent's side of ACP v1: which request does what. Each request is a task; one reader."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from assistant import mcp, prompt, session, wire
from assistant.asking import EndpointError, Model
from assistant.endpoint import NoModel, find
from assistant.files import ToolFailed
from assistant.session import MODES, Session
from assistant.turn import Turn, replayed
from assistant.wire import Connection, Message, Refused

VERSION = "0.1.0"
LEAVE = 2.0  # seconds that running turns get after stdin has ended
CAPABILITIES = {
    "loadSession": True,
    "promptCapabilities": {"image": False, "audio": False, "embeddedContext": True},
    "mcpCapabilities": {"http": True, "sse": False},
    "sessionCapabilities": {"resume": {}},
}
COMMANDS = [{"name": "compact", "description": "Make the memory of this conversation shorter"}]
UNSAID = "default"


class Agent:
    """All sessions of one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._model = Model()
        self._sessions: dict[str, Session] = {}
        self._servers: dict[str, list[mcp.ServerTool]] = {}
        self._channels: list[mcp.Channel] = []
        self._turns: dict[str, asyncio.Task[Message]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._able: Message = {}
        self._methods: dict[str, Callable[[Message], Awaitable[Message]]] = {
            "initialize": self._initialize,
            "authenticate": self._nothing,
            "session/new": self._new,
            "session/load": self._load,
            "session/resume": self._resume,
            "session/set_mode": self._set_mode,
            "session/set_config_option": self._set_option,
            "session/prompt": self._prompt,
        }

    def receive(self, message: Message) -> None:
        method, params = message.get("method"), message.get("params")
        params = params if isinstance(params, dict) else {}
        if not isinstance(method, str):
            self._connection.answered(message)
        elif "id" in message:
            task = asyncio.get_running_loop().create_task(self._answer(message["id"], method, params))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif method == "session/cancel" and (turn := self._turns.get(str(params.get("sessionId")))):
            turn.cancel()

    async def _answer(self, ident: object, method: str, params: Message) -> None:
        """The edge of one request: whatever happens, it is answered."""
        with contextlib.suppress(OSError):  # the client is gone: stdin says so, too
            try:
                if method not in self._methods:
                    raise Refused(wire.UNKNOWN_METHOD, f"unknown method: {method[:200]}")
                result = await self._methods[method](params)
            except Refused as error:
                self._connection.error(ident, error.code, str(error))
            except NoModel:
                self._connection.error(ident, wire.AUTH_REQUIRED, "no model is configured")
            except EndpointError as error:
                code = wire.AUTH_REQUIRED if error.status in (401, 403) else wire.INTERNAL
                self._connection.error(ident, code, str(error))
            except Exception as error:  # the outer edge of a request: the next one must still work
                wire.log(f"{method} failed: {error!r}")
                self._connection.error(ident, wire.INTERNAL, f"the assistant failed: {error}")
            else:
                self._connection.result(ident, result)
                if method in ("session/new", "session/load", "session/resume"):
                    self._connection.update(
                        str(result.get("sessionId") or params["sessionId"]),
                        "available_commands_update",
                        availableCommands=COMMANDS,
                    )

    async def leave(self) -> None:
        for turn in self._turns.values():
            turn.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LEAVE)
        for channel in self._channels:
            await channel.close()
        await self._model.close()

    # -- methods

    async def _nothing(self, params: Message) -> Message:
        return {}

    async def _initialize(self, params: Message) -> Message:
        able = params.get("clientCapabilities")
        able = able.get("session") if isinstance(able, dict) else None
        self._able = able if isinstance(able, dict) else {}
        info = {"name": "assistant", "title": "Assistant", "version": VERSION}
        return {"protocolVersion": 1, "agentCapabilities": CAPABILITIES, "agentInfo": info, "authMethods": []}

    async def _new(self, params: Message) -> Message:
        found = session.new(_directory(params))
        await self._open(found, params)
        return {"sessionId": found.id, **self._settings(found)}

    async def _resume(self, params: Message) -> Message:
        found = session.load(str(params.get("sessionId")), _directory(params))
        if found is None:
            raise Refused(wire.INVALID_PARAMS, "unknown session")
        await self._open(found, params)
        return self._settings(found)

    async def _load(self, params: Message) -> Message:
        settings = await self._resume(params)
        found = self._sessions[params["sessionId"]]
        for message in found.messages:
            replayed(message, self._connection, found.id)
        return settings

    async def _open(self, found: Session, params: Message) -> None:
        """Connects the session's servers; one that cannot be had is said, and the others work."""
        servers = [each for each in params.get("mcpServers") or [] if isinstance(each, dict)]
        made = await asyncio.gather(*(mcp.connect(each, found.cwd) for each in servers), return_exceptions=True)
        self._sessions[found.id], self._servers[found.id] = found, []
        for server, result in zip(servers, made, strict=True):
            if isinstance(result, tuple):
                self._channels.append(result[0])
                self._servers[found.id] += result[1]
                continue
            why = result if isinstance(result, ToolFailed) else f"the MCP server {server.get('name')} cannot be used: {result!r}"
            wire.log(str(why))
            if "notices" in self._able:
                self._connection.update(found.id, "notice", severity="warning", title=str(why)[:500])

    def _settings(self, found: Session) -> Message:
        modes = [{"id": name, "name": title, "description": about} for name, (title, about) in MODES.items()]
        return {"modes": {"currentModeId": found.mode, "availableModes": modes}, "configOptions": _options(found)}

    async def _set_mode(self, params: Message) -> Message:
        found = self._session(params)
        if params.get("modeId") not in MODES:
            raise Refused(wire.INVALID_PARAMS, f"there is no mode {params.get('modeId')!r}; there are {', '.join(MODES)}")
        found.mode = params["modeId"]
        self._connection.update(found.id, "current_mode_update", currentModeId=found.mode)
        return {}

    async def _set_option(self, params: Message) -> Message:
        found, value = self._session(params), params.get("value")
        if params.get("configId") != "model" or not isinstance(value, str) or not 0 < len(value) <= 200:
            raise Refused(wire.INVALID_PARAMS, "there is one option, model, and its value is the name of a model")
        found.model = "" if value == UNSAID else value
        return {"configOptions": _options(found)}

    def _session(self, params: Message) -> Session:
        found = self._sessions.get(str(params.get("sessionId")))
        if found is None:
            raise Refused(wire.INVALID_PARAMS, "unknown session")
        return found

    async def _prompt(self, params: Message) -> Message:
        found = self._session(params)
        if found.id in self._turns:
            raise Refused(wire.INVALID_REQUEST, "a turn of this session is running")
        text, told = prompt.read(params.get("prompt"))
        found.instructions = told or found.instructions
        turn = Turn(found, self._connection, self._model, self._servers[found.id], self._able)
        task = self._turns[found.id] = asyncio.get_running_loop().create_task(turn.run(text))
        try:
            return await task
        except asyncio.CancelledError:
            return {"stopReason": "cancelled"}  # before it had begun
        except NoModel as error:
            self._connection.update(found.id, "agent_message_chunk", content={"type": "text", "text": str(error)})
            raise
        finally:
            del self._turns[found.id]


def _directory(params: Message) -> str:
    cwd = params.get("cwd")
    if not isinstance(cwd, str) or not cwd.startswith("/") or "\0" in cwd or not os.path.isdir(cwd):
        raise Refused(wire.INVALID_PARAMS, "cwd is not the absolute path of a directory")
    return os.path.realpath(cwd)


def _options(found: Session) -> list[Message]:
    """The model as a choice. Others than those listed are taken, too: which there are, only the endpoint knows."""
    try:
        name = find(os.environ, found.model).model
    except NoModel:
        name = found.model or UNSAID
    value = found.model or UNSAID
    options: list[Any] = [{"value": value, "name": name}]
    return [{"id": "model", "name": "Model", "category": "model", "type": "select", "currentValue": value, "options": options}]


async def _serve() -> None:
    agent = Agent(Connection(1))
    reader = await wire.standard_input()

    async def read() -> None:
        async for line in wire.lines(reader):
            if (message := wire.parse(line)) is not None:
                agent.receive(message)

    reading = asyncio.create_task(read())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, reading.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    await agent.leave()


def main() -> int:
    """Speaks ACP until stdin ends or SIGTERM comes; exit status 0 for both."""
    asyncio.run(_serve())
    return 0
