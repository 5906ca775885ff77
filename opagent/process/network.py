"""The proxy: the one process through which agents reach other machines, one per daemon; it decides nothing and keeps nothing.

Started by the daemon as `python -I -m opagent.process.network PORT`. On stdin and stdout it speaks with it in lines of JSON:

    {"op": "open", "agent", "path", "token", "refused", "services": {NAME: {...}}}   a socket of its own; then: {"op": "opened"}
    {"op": "close", "agent"}
    {"op": "refuse", "agent", "why"}                                      "" lets it go on
    {"op": "verdict", "id", "allow", "why", "named", "secret"}            the answer to:
    {"op": "may", "id", "agent", "way", "host", "port", "service"}        an agent wants to connect
    {"op": "gone", "id"}                                                  it does not wait for that answer any more
    {"op": "end", "id", "sent", "received", "error"}                      what was allowed is over
    {"op": "deny", "agent", "host", "port", "why"}                        refused here, without a question
    {"op": "usage", "id", "agent", "service", "status", "input", "output"}

It ends with its stdin: without the daemon nothing is allowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import resource
import socket
import struct
import sys
from typing import Any

from opagent.jsonline import encode_line
from opagent.process import forward
from opagent.process.forward import Connection, Guest, Resolve, Service, look_up
from opagent.process.httpbody import HEAD_LIMIT
from opagent.process.httprequest import Request
from opagent.process.reaper import unreadable

FRAME_LIMIT = 4 * 2**20  # bytes of a line of the daemon
_GOODBYE = 0.2


class Proxy:
    """`port`: the one of an earlier proxy, which agents know. `resolve` looks a name up; tests give one that lies."""

    def __init__(self, port: int = 0, resolve: Resolve = look_up) -> None:
        self._port, self._resolve = port, resolve
        self._guests: dict[str, Guest] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._nobody = Guest("", "")
        self._numbers = itertools.count(1)
        self._running: dict[asyncio.Task[None], str] = {}
        self._out: asyncio.StreamWriter

    async def run(self) -> None:
        """Until the daemon closes our stdin."""
        reader, self._out = await _daemon()
        port = await self._listen()
        self.tell("ready", port=port.sockets[0].getsockname()[1])
        while line := await reader.readline():
            await self._told(json.loads(line))
        port.close()
        for task in self._running:
            task.cancel()
        await asyncio.wait(self._running, timeout=_GOODBYE) if self._running else None

    async def _listen(self) -> asyncio.Server:
        for port in (self._port, 0):
            with contextlib.suppress(OSError):
                return await asyncio.start_server(lambda r, w: self._accepted(None, r, w), "127.0.0.1", port, limit=HEAD_LIMIT)
        raise OSError("no port is free")

    # ---- the daemon ------------------------------------------------------------------------------------------------------

    def tell(self, op: str, **facts: Any) -> None:
        self._out.write(encode_line({"op": op, **facts}))

    async def may(self, guest: Guest, request: Request, host: str, port: int) -> dict[str, Any]:
        """The daemon's verdict. A question that is not wanted any more is taken back."""
        number = next(self._numbers)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        self.tell("may", id=number, agent=guest.id, way=request.way.value, host=host, port=port, service=request.service)
        try:
            return await future
        finally:
            del self._asked[number]
            if not future.done() or future.cancelled():
                self.tell("gone", id=number)

    async def _told(self, said: dict[str, Any]) -> None:
        match said["op"]:
            case "open":
                await self._open(said)
            case "close":
                self._close(said["agent"])
            case "refuse":
                if (guest := self._guests.get(said["agent"])) is not None:
                    guest.refused = said["why"]
            case "verdict":
                future = self._asked.get(said["id"])
                if future is not None and not future.done():
                    future.set_result(said)

    async def _open(self, said: dict[str, Any]) -> None:
        ident, path = said["agent"], said["path"]
        services = {name: Service(**{**each, "usage": tuple(each["usage"])}) for name, each in said["services"].items()}
        guest = self._guests[ident] = Guest(ident, said["token"], services, said.get("refused", ""))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._servers[ident] = await asyncio.start_unix_server(
            lambda r, w: self._accepted(guest, r, w), path, limit=HEAD_LIMIT, backlog=forward.MOST_OPEN
        )
        self.tell("opened", agent=ident)

    def _close(self, ident: str) -> None:
        self._guests.pop(ident, None)
        if (server := self._servers.pop(ident, None)) is not None:
            server.close()
        for task, owner in self._running.items():
            if owner == ident:
                task.cancel()

    # ---- agents ----------------------------------------------------------------------------------------------------------

    async def _accepted(self, guest: Guest | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if guest is not None and not _ours(writer):
            writer.close()
            return
        self._running[task] = guest.id if guest is not None else ""
        try:
            await Connection(self, self._guests, guest, self._nobody, self._resolve).serve(reader, writer)
        except asyncio.CancelledError:
            pass  # its agent is gone, or we go; a stream's task that says so is logged as a mistake
        finally:
            del self._running[task]


def _ours(writer: asyncio.StreamWriter) -> bool:
    """Whether the other end is a process of this user."""
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return bool(struct.unpack("3i", credentials)[1] == os.geteuid())


async def _daemon() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=FRAME_LIMIT)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


def main(port: int = 0, resolve: Resolve = look_up) -> int:
    os.umask(0o077)
    unreadable()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    asyncio.run(Proxy(port, resolve).run())
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
