"""A client of MCP servers, over stdio and streamable HTTP: their tools, and calls of them. It chooses no server."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2

from assistant.endpoint import for_children
from assistant.files import ToolFailed
from assistant.talk import Body, Tool
from assistant.wire import encode, lines, log, parse

VERSION = "2025-06-18"
READY_WITHIN = 30.0  # seconds a server has to say its tools
MOST_TOOLS = 256
LAST_LINES = 2000  # characters of a server's stderr
_NAME = re.compile(r"[^A-Za-z0-9_-]+")


class Channel(Protocol):
    """One way to a server."""

    async def request(self, method: str, params: Body) -> Body:
        """The result. Raises ToolFailed."""

    async def notify(self, method: str, params: Body) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ServerTool:
    """A tool of a server: as the model sees it, and as the server calls it."""

    tool: Tool
    server: str
    name: str
    reads_only: bool
    channel: Channel

    async def call(self, given: Mapping[str, Any]) -> str:
        """The text of its answer. Raises ToolFailed. No deadline: a call may wait for a person, and ends when it is cancelled."""
        result = await self.channel.request("tools/call", {"name": self.name, "arguments": dict(given)})
        text = "\n".join(filter(None, map(_text, result.get("content") or [])))
        if not text and result.get("structuredContent") is not None:
            text = json.dumps(result["structuredContent"], ensure_ascii=False)
        if result.get("isError"):
            raise ToolFailed(text or f"{self.server} says that it failed")
        return text or "[nothing]"


def _text(block: Any) -> str:
    if not isinstance(block, dict):
        return ""
    if isinstance(block.get("text"), str):
        return str(block["text"])
    resource = block["resource"] if isinstance(block.get("resource"), dict) else {}
    return str(resource.get("text") or f"[{block.get('type')} {block.get('uri') or block.get('mimeType') or ''}]")


async def connect(server: Body, cwd: str) -> tuple[Channel, list[ServerTool]]:
    """A server of `session/new`, its handshake done. Raises ToolFailed."""
    name = str(server.get("name") or "server")
    channel: Channel = _Http(server) if server.get("type") == "http" else _Stdio(server, cwd)
    try:
        async with asyncio.timeout(READY_WITHIN):
            if isinstance(channel, _Stdio):
                await channel.start()
            about = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "assistant", "version": "0.1.0"}}
            await channel.request("initialize", about)
            await channel.notify("notifications/initialized", {})
            return channel, [tool async for tool in _tools(channel, name)]
    except BaseException as error:
        await channel.close()
        if isinstance(error, TimeoutError):
            raise ToolFailed(f"the MCP server {name} does not answer") from error
        raise


async def _tools(channel: Channel, server: str) -> AsyncIterator[ServerTool]:
    cursor, found = "", 0
    while True:
        page = await channel.request("tools/list", {"cursor": cursor} if cursor else {})
        for each in page.get("tools") or []:
            if not isinstance(each, dict) or not isinstance(each.get("name"), str) or (found := found + 1) > MOST_TOOLS:
                continue
            schema = each["inputSchema"] if isinstance(each.get("inputSchema"), dict) else {"type": "object", "properties": {}}
            hints = each["annotations"] if isinstance(each.get("annotations"), dict) else {}
            shown = _NAME.sub("_", f"{server}__{each['name']}")[:64]
            tool = Tool(shown, str(each.get("description") or each["name"])[:4000], schema)
            yield ServerTool(tool, server, each["name"], hints.get("readOnlyHint") is True, channel)
        cursor = str(page.get("nextCursor") or "")
        if not cursor or found > MOST_TOOLS:
            return


def _result(server: str, message: Body) -> Body:
    if isinstance(message.get("error"), dict):
        raise ToolFailed(f"{server} answers: {str(message['error'].get('message'))[:1000]}")
    result = message.get("result")
    return result if isinstance(result, dict) else {}


class _Stdio:
    """A server that is a process of ours: it ends with its group."""

    def __init__(self, server: Body, cwd: str) -> None:
        self._name, self._cwd = str(server.get("name") or "server"), cwd
        self._argv = [str(server.get("command") or ""), *map(str, server.get("args") or [])]
        given = {str(each["name"]): str(each["value"]) for each in server.get("env") or [] if isinstance(each, dict)}
        self._environment = {**for_children(), **given}
        self._process: asyncio.subprocess.Process | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Body]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._last = ""

    async def start(self) -> None:
        pipe = asyncio.subprocess.PIPE
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv, cwd=self._cwd, env=self._environment, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise ToolFailed(f"the MCP server {self._name} cannot be started: {error}") from error
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._drain())]

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in lines(self._process.stdout):
            message = parse(line) or {}
            if "method" in message:
                if "id" in message:  # a question of the server: we offer nothing
                    answer = (
                        {"result": {}} if message["method"] == "ping" else {"error": {"code": -32601, "message": "not offered"}}
                    )
                    await self._say({"id": message["id"], **answer})
                continue
            waiting = self._waiting.get(message.get("id") or 0)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ToolFailed(f"the MCP server {self._name} ended: {self._last.strip()[-300:]}"))

    async def _drain(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(1 << 14):
            self._last = (self._last + data.decode("utf-8", "replace"))[-LAST_LINES:]

    async def _say(self, message: Body) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(encode(message))
            await self._process.stdin.drain()
        except (OSError, RuntimeError) as error:
            raise ToolFailed(f"the MCP server {self._name} is gone: {self._last.strip()[-300:]}") from error

    async def request(self, method: str, params: Body) -> Body:
        if self._tasks and self._tasks[0].done():
            raise ToolFailed(f"the MCP server {self._name} ended: {self._last.strip()[-300:]}")
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            await self._say({"id": number, "method": method, "params": params})
            return _result(self._name, await answer)
        except asyncio.CancelledError:
            with contextlib.suppress(ToolFailed):
                await self.notify("notifications/cancelled", {"requestId": number})
            raise
        finally:
            del self._waiting[number]

    async def notify(self, method: str, params: Body) -> None:
        await self._say({"method": method, "params": params})

    async def close(self) -> None:
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        for task in self._tasks:
            task.cancel()


class _Http:
    """A server behind an address (streamable HTTP): each message is a POST, each answer JSON or a stream with it."""

    def __init__(self, server: Body) -> None:
        self._name, self._url = str(server.get("name") or "server"), str(server.get("url") or "")
        given = {str(each["name"]): str(each["value"]) for each in server.get("headers") or [] if isinstance(each, dict)}
        self._headers = {**given, "accept": "application/json, text/event-stream", "content-type": "application/json"}
        self._client = httpx2.AsyncClient(timeout=httpx2.Timeout(30.0, read=None))
        self._numbers = itertools.count(1)

    async def request(self, method: str, params: Body) -> Body:
        number = next(self._numbers)
        try:
            message = await self._post({"id": number, "method": method, "params": params}, number)
        except httpx2.HTTPError as error:
            raise ToolFailed(f"the MCP server {self._name} cannot be reached: {error}") from error
        except asyncio.CancelledError:
            with contextlib.suppress(ToolFailed, httpx2.HTTPError):
                await asyncio.wait_for(self.notify("notifications/cancelled", {"requestId": number}), 1.0)
            raise
        result = _result(self._name, message)
        if method == "initialize":
            self._headers["mcp-protocol-version"] = str(result.get("protocolVersion") or VERSION)
        return result

    async def notify(self, method: str, params: Body) -> None:
        try:
            await self._post({"method": method, "params": params}, None)
        except httpx2.HTTPError as error:
            log(f"the MCP server {self._name} did not take {method}: {error}")

    async def _post(self, message: Body, number: int | None) -> Body:
        async with self._client.stream("POST", self._url, headers=self._headers, content=encode(message)) as response:
            if response.status_code >= 400:
                raise ToolFailed(f"the MCP server {self._name} answers {response.status_code}")
            if session := response.headers.get("mcp-session-id"):
                self._headers["mcp-session-id"] = session
            if number is None:
                return {}
            if response.headers.get("content-type", "").startswith("text/event-stream"):
                async for event in httpx2.EventSource(response, None):
                    found = parse(event.data.encode()) or {}
                    if found.get("id") == number and "method" not in found:
                        return found
                raise ToolFailed(f"the MCP server {self._name} ended its stream without an answer")
            return parse(await response.aread()) or {}

    async def close(self) -> None:
        with contextlib.suppress(httpx2.HTTPError, TimeoutError):
            if "mcp-session-id" in self._headers:
                await asyncio.wait_for(self._client.delete(self._url, headers=self._headers), 1.0)
        await self._client.aclose()
