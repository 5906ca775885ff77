"""MCP over HTTP for an agent that takes no other servers: each POST is one message for a `Speaker`; knows no tool.

door = Door(make, token)                  # make(name, send) gives the speaker of a server, or None
await door.connected(reader, writer)      # of each connection
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from opagent import control, jsonrpc
from opagent.mcp import http

if TYPE_CHECKING:
    from opagent.daemon.lines import Send, Speaker

_HEAD_WITHIN = 300.0  # seconds that a connection may lie idle


class Door:
    """One per agent. Its servers live as long as it does."""

    def __init__(self, make: Callable[[str, Send], Speaker | None], token: str) -> None:
        self._make, self._token = make, token
        self._speakers: dict[str, Speaker | None] = {}
        self._waiting: dict[tuple[str, jsonrpc.Id], asyncio.Future[bytes]] = {}

    def end(self) -> None:
        for speaker in self._speakers.values():
            if speaker is not None:
                speaker.end()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            status = 200
            while status < 400:
                async with asyncio.timeout(_HEAD_WITHIN):
                    head = await reader.readuntil(b"\r\n\r\n")
                    said = 413 if len(head) > http.HEAD_LIMIT else http.read(head, control.FRAME_LIMIT)
                    body = await reader.readexactly(said.length) if isinstance(said, http.Post) else b""
                status, answer = (said, b"") if isinstance(said, int) else await self._take(said, body, reader)
                writer.write(http.answer(status, answer))
                await writer.drain()
        writer.close()

    async def _take(self, post: http.Post, body: bytes, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        if not secrets.compare_digest(post.token.encode(), self._token.encode()):
            return 401, b""
        speaker = self._speaker(post.name)
        if speaker is None:
            return 404, b""
        message = jsonrpc.decode(line := body.replace(b"\n", b" "))
        if isinstance(message, jsonrpc.Noise):
            return 400, jsonrpc.encode(message.answer) if message.answer else b""
        if not isinstance(message, jsonrpc.Request):
            speaker.take(line)
            return 202, b""
        place = (post.name, message.id)
        if place in self._waiting:
            return 400, b""
        heard = self._waiting[place] = asyncio.get_running_loop().create_future()
        speaker.take(line)
        try:
            return 200, await self._heard(heard, reader)
        except ConnectionError:
            gone = jsonrpc.Notification("notifications/cancelled", {"requestId": message.id})
            speaker.take(jsonrpc.encode(gone).rstrip(b"\n"))
            raise
        finally:
            del self._waiting[place]

    async def _heard(self, heard: asyncio.Future[bytes], reader: asyncio.StreamReader) -> bytes:
        """The answer. Raises ConnectionError where the client leaves before, or says more than it was asked for."""
        left = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((heard, left), return_when=asyncio.FIRST_COMPLETED)
            if not heard.done():
                raise ConnectionResetError("the client does not wait for the answer")
            return heard.result()
        finally:
            left.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await left

    def _speaker(self, name: str) -> Speaker | None:
        if name not in self._speakers:
            self._speakers[name] = self._make(name, lambda data: self._sent(name, data))
        return self._speakers[name]

    def _sent(self, name: str, data: bytes) -> None:
        """An answer goes to whoever waits for it; of what nobody asked for this form of MCP has no place."""
        message = jsonrpc.decode(data.rstrip(b"\n"))
        if isinstance(message, jsonrpc.Response | jsonrpc.Failure) and message.id is not None:
            heard = self._waiting.get((name, message.id))
            if heard is not None and not heard.done():
                heard.set_result(data)
