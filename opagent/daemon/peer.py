"""A daemon on another machine as a daemon sees it: asked by requests, heard by notifications; connects once, redials nothing.

API: `Peer`, `connect`. Behind the Unix socket is the link to that machine. What comes over it is data of a stranger.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from opagent import control, jsonrpc
from opagent.errors import HostUnreachable, OpAgentError, ProtocolMismatch
from opagent.version import VERSION

ASK_WITHIN = 60.0  # seconds
GREETED_WITHIN = 15.0
WAITING, WAITING_BYTES = 4096, 16 * 2**20  # notifications that nobody has taken; with more the connection ends


class Peer(Protocol):
    """A connection to a daemon. Used by `daemon/mirror.py`; ended for good when `lost`."""

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Raises the OpAgentError that the other side gives, HostUnreachable where no answer comes."""

    def notes(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Method and parameters of each notification, until the connection ends. One reader."""

    @property
    def lost(self) -> bool:
        """Whether the connection has ended."""

    def close(self) -> None:
        """Harmless twice."""


async def connect(path: str | Path, program: str = "mirror") -> SocketPeer:
    """Raises HostUnreachable, ProtocolMismatch, what the daemon says to the greeting."""
    try:
        async with asyncio.timeout(GREETED_WITHIN):
            reader, writer = await asyncio.open_unix_connection(str(path), limit=control.FRAME_LIMIT)
    except (OSError, TimeoutError) as error:
        raise HostUnreachable(f"nothing answers at {path}", str(error) or "no answer in time") from error
    peer = SocketPeer(reader, writer)
    try:
        async with asyncio.timeout(GREETED_WITHIN):
            await peer.introduce(program)
    except TimeoutError as error:
        peer.close()
        raise HostUnreachable(f"nothing answers at {path}", "no greeting in time") from error
    except BaseException:
        peer.close()
        raise
    return peer


class SocketPeer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._framer = jsonrpc.Framer(control.FRAME_LIMIT)
        self._answers: dict[jsonrpc.Id, asyncio.Future[dict[str, Any]]] = {}
        self._notes: asyncio.Queue[tuple[int, str, dict[str, Any]] | None] = asyncio.Queue()
        self._waiting = 0  # bytes of them
        self._ended = asyncio.Event()
        self._last = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def lost(self) -> bool:
        return self._ended.is_set()

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._end()

    async def introduce(self, program: str) -> None:
        """The greeting of the daemon and ours; then its messages are read."""
        try:
            line = await self._reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
            raise HostUnreachable("the daemon closed the connection", str(error)) from error
        try:
            version = control.shared_version(*control.greeting(_object(line)).protocol)
        except (ValueError, TypeError, RecursionError) as error:
            raise ProtocolMismatch("what answers is no OpAgent daemon", "", "opagent daemon status") from error
        self._task = asyncio.create_task(self._read(), name="peer")
        hello = {"client": program, "version": VERSION, "protocol": version, "pid": os.getpid()}
        await self.request("hello", hello)

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        if self.lost:
            raise _gone(method)
        self._last += 1
        number, answer = self._last, asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        line = jsonrpc.encode(jsonrpc.Request(number, method, dict(params)))
        try:
            async with asyncio.timeout(ASK_WITHIN):
                self._writer.write(line)
                await self._writer.drain()
                found: dict[str, Any] = await answer
                return found
        except TimeoutError as error:
            self.close()
            raise HostUnreachable(f"no answer to {method}", f"waited {ASK_WITHIN:g} s") from error
        except OSError as error:
            raise _gone(method) from error
        finally:
            self._answers.pop(number, None)

    async def notes(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        while (note := await self._notes.get()) is not None:
            size, method, params = note
            self._waiting -= size
            yield method, params
        self._notes.put_nowait(None)

    # ---- reading ---------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(1 << 16):
                for line in self._framer.feed(data):
                    self._take(jsonrpc.decode(line), len(line))
                if self._framer.dropped or self._notes.qsize() > WAITING or self._waiting > WAITING_BYTES:
                    return
        except OSError:
            pass  # the same as its end
        finally:
            self._end()

    def _take(self, message: jsonrpc.Message, size: int) -> None:
        if isinstance(message, jsonrpc.Notification):
            self._notes.put_nowait((size, message.method, message.params))
            self._waiting += size
        elif isinstance(message, jsonrpc.Response | jsonrpc.Failure) and message.id is not None:
            answer = self._answers.get(message.id)
            if answer is None or answer.done():
                return
            if isinstance(message, jsonrpc.Failure):
                data = {"message": message.message, "data": message.data}
                answer.set_exception(control.error_from_json(data))
            else:
                answer.set_result(message.result if isinstance(message.result, dict) else {})

    def _end(self) -> None:
        if self._ended.is_set():
            return
        self._ended.set()
        self._notes.put_nowait(None)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(_gone("a question"))
        with contextlib.suppress(OSError, RuntimeError):  # the loop may be closing
            self._writer.close()


def _gone(method: str) -> OpAgentError:
    return HostUnreachable(f"no answer to {method}", "the connection ended")


def _object(line: bytes) -> dict[str, Any]:
    message = json.loads(line)
    return message if isinstance(message, dict) else {}
