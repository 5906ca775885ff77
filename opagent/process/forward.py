"""One connection of an agent to the proxy, from its head to its end: asks whether it may, dials what was checked, carries bytes.

It decides nothing: whether a host is allowed is asked of the daemon for every request (`Gate`). A name is looked up once, and
what is dialed is an address that was looked at: a second answer of the name server changes nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import functools
import hmac
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from opagent.policy import address
from opagent.process.httpbody import HEAD_LIMIT, Answer, of_length
from opagent.process.httprequest import Malformed, Request, Way, onward, parse, swapped
from opagent.process.metering import Meter

HEAD_WITHIN, FOUND_WITHIN, DIALED_WITHIN = 10.0, 10.0, 10.0  # seconds
BLOCK = 256 * 1024
MOST_OPEN = 128  # connections of one agent at a time

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Refused(Exception):
    """What the agent is told, and with which status."""

    def __init__(self, why: str, status: str = "403 Forbidden") -> None:
        super().__init__(why)
        self.why, self.status = why, status


@dataclass(frozen=True, slots=True)
class Service:
    """A host whose key the agent does not hold. `path`: what stands before the agent's own."""

    host: str
    port: int
    secret: str
    path: str = ""
    tls: bool = True
    usage: tuple[str, ...] = ()


@dataclass(slots=True)
class Guest:
    """An agent as the proxy knows it. `token`: what it holds in place of every secret, and says where no socket names it."""

    id: str
    token: str
    services: Mapping[str, Service] = field(default_factory=dict)
    refused: str = ""  # why nothing goes on at present
    open: int = 0


class Gate(Protocol):
    """The daemon, as seen from here."""

    async def may(self, guest: Guest, request: Request, host: str, port: int) -> dict[str, Any]:
        """{"id", "allow", "why", "named": [host:port, ...], "secret"?}; waits for a person where one is asked.

        `named`: see `_checked`.
        """

    def tell(self, op: str, **facts: Any) -> None: ...


async def look_up(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@dataclass(slots=True)
class _Call:
    request: Request
    host: str
    port: int
    service: Service | None
    secret: str = ""  # of this request alone, where the daemon has none for the service
    id: int = 0
    sent: int = 0
    received: int = 0


class Connection:
    """`guest` is None where the connection came to the port: its head has to say who speaks; before, it counts as `nobody`."""

    def __init__(self, gate: Gate, guests: Mapping[str, Guest], guest: Guest | None, nobody: Guest, resolve: Resolve) -> None:
        self._gate, self._guests, self._resolve = gate, guests, resolve
        self._known, self._guest = guest is not None, guest or nobody
        self._call: _Call | None = None
        self._early = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until it ends; raises nothing but cancellation. Closes the writer."""
        error = "the proxy ends"
        self._guest.open += 1
        try:
            error = await self._served(reader, writer)
        finally:
            self._guest.open -= 1
            if (call := self._call) is not None and call.id:
                self._gate.tell("end", id=call.id, sent=call.sent, received=call.received, error=error)
            with contextlib.suppress(OSError, RuntimeError):
                writer.close()

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Why it did not go well, "" where it did."""
        try:
            if self._guest.open > MOST_OPEN:
                raise Refused(f"{MOST_OPEN} connections are open", "503 Service Unavailable")
            request = await self._head(reader)
            if not self._known:
                self._become(self._who(request))
            self._call = call = self._wanted(request)
            await self._carry(self._guest, call, reader, writer)
        except Refused as refused:
            asked = self._call
            if asked is None or not asked.id:
                host, port = (asked.host, asked.port) if asked else ("", 0)
                self._gate.tell("deny", agent=self._guest.id, host=host, port=port, why=refused.why)
            if asked is None or not asked.received:
                _refuse(writer, refused)
            return refused.why
        except (OSError, Malformed, EOFError) as broken:
            return str(broken) or type(broken).__name__
        return ""

    def _become(self, guest: Guest) -> None:
        self._guest.open -= 1
        guest.open += 1
        self._guest = guest

    async def _head(self, reader: asyncio.StreamReader) -> Request:
        try:
            async with asyncio.timeout(HEAD_WITHIN):
                return parse(await reader.readuntil(b"\r\n\r\n"))
        except Malformed as error:
            raise Refused(str(error), "400 Bad Request") from error
        except asyncio.LimitOverrunError as error:
            raise Refused(f"the head is longer than {HEAD_LIMIT} bytes", "431 Request Header Fields Too Large") from error
        except TimeoutError as error:
            raise Refused(f"the head did not come within {HEAD_WITHIN:.0f} s", "408 Request Timeout") from error

    def _who(self, request: Request) -> Guest:
        said = "".join(value for name, value in request.headers if request.way is Way.SERVICE or name == "proxy-authorization")
        said += _basic(request.header("proxy-authorization"))
        for guest in self._guests.values():
            start = said.find("opagent-")
            while start >= 0:
                if hmac.compare_digest(said[start : start + len(guest.token)].encode("utf-8", "replace"), guest.token.encode()):
                    return guest
                start = said.find("opagent-", start + 1)
        raise Refused("who are you?", "407 Proxy Authentication Required")

    def _wanted(self, request: Request) -> _Call:
        if self._guest.refused:
            raise Refused(self._guest.refused)
        if request.way is not Way.SERVICE:
            return _Call(request, request.host, request.port, None)
        service = self._guest.services.get(request.service)
        if service is None:
            raise Refused(f"there is no service {request.service} here", "404 Not Found")
        return _Call(request, service.host, service.port, service)

    async def _carry(self, guest: Guest, call: _Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        verdict = await self._verdict(guest, call, reader)
        call.id, call.secret = verdict["id"], str(verdict.get("secret") or "")
        if not verdict["allow"]:
            raise Refused(str(verdict["why"]))
        checked = await self._checked(call, verdict["named"])
        head = self._onward(guest, call)
        up_reader, up_writer = await self._dial(call, checked)
        try:
            if call.request.way is Way.TUNNEL:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await self._both(call, reader, writer, up_reader, up_writer)
            else:
                up_writer.write(head)
                await self._exchange(guest, call, reader, writer, up_reader, up_writer)
        finally:
            with contextlib.suppress(OSError, RuntimeError):
                up_writer.close()

    async def _verdict(self, guest: Guest, call: _Call, reader: asyncio.StreamReader) -> dict[str, Any]:
        """The daemon's, unless the agent goes away before: nobody is asked for one that waits no more."""
        asked = asyncio.ensure_future(self._gate.may(guest, call.request, call.host, call.port))
        seen = asyncio.ensure_future(reader.read(BLOCK))
        try:
            await asyncio.wait({asked, seen}, return_when=asyncio.FIRST_COMPLETED)
            if seen.done():
                self._early = seen.result()
                if not self._early and not asked.done():
                    raise EOFError("the agent went away")
            return await asked
        finally:
            asked.cancel()
            if not seen.done():
                seen.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await seen

    async def _checked(self, call: _Call, named: list[str]) -> list[str]:
        """The addresses behind the name that may be dialed: those of everybody, and those that the user's own files name."""
        try:
            async with asyncio.timeout(FOUND_WITHIN):
                found = await self._resolve(call.host, call.port)
        except (OSError, TimeoutError, UnicodeError) as error:
            raise Refused(f"{call.host} has no address", "502 Bad Gateway") from error
        good = []
        for each in found:
            number = ipaddress.ip_address(each.partition("%")[0])
            plain = getattr(number, "ipv4_mapped", None) or number
            if address.public(number) or address.shown(str(plain), call.port) in named or "*" in named:
                good.append(each)
        if not good:
            raise Refused(f"{call.host} leads to a private address, and your own configuration does not name it")
        return good

    def _onward(self, guest: Guest, call: _Call) -> bytes:
        request, service = call.request, call.service
        if service is None:
            host = call.host if call.port == 80 else address.shown(call.host, call.port)
            return onward(request, host, request.path, request.headers)
        headers, there = swapped(request.headers, guest.token, call.secret or service.secret)
        if not there:
            raise Refused("the request does not carry the key that this agent was given", "401 Unauthorized")
        host = call.host if call.port == (443 if service.tls else 80) else address.shown(call.host, call.port)
        return onward(request, host, service.path + request.path or "/", headers)

    async def _dial(self, call: _Call, checked: list[str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = _tls() if call.service is not None and call.service.tls else None
        error: Exception = OSError("no address")
        for each in checked:
            try:
                async with asyncio.timeout(DIALED_WITHIN):
                    name = call.host if tls else None
                    return await asyncio.open_connection(each, call.port, ssl=tls, server_hostname=name, limit=BLOCK)
            except (OSError, TimeoutError) as failed:
                error = failed
        why = str(error) or "no answer in time"
        raise Refused(f"{address.shown(call.host, call.port)} cannot be reached: {why}", "502 Bad Gateway") from error

    async def _both(
        self, call: _Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        async def forth() -> None:
            data = self._early or await reader.read(BLOCK)
            while data:
                call.sent += len(data)
                up_writer.write(data)
                await up_writer.drain()
                data = await reader.read(BLOCK)
            up_writer.write_eof()

        sending = asyncio.ensure_future(forth())
        try:
            while data := await up.read(BLOCK):
                call.received += len(data)
                writer.write(data)
                await writer.drain()
            writer.write_eof()
            await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _exchange(
        self, guest: Guest, call: _Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        """One request, one answer. What the agent says after its body is not heard."""
        meter = Meter(call.service.usage if call.service else ())

        def hear(content: bytes) -> None:
            meter.streamed = b"event-stream" in answer.headers.get(b"content-type", b"")
            meter.feed(content)

        answer = Answer(call.request.method, hear)
        sending = asyncio.ensure_future(self._send_body(call, reader, up_writer))
        try:
            while not answer.done and (data := await up.read(BLOCK)):
                call.received += len(data)
                writer.write(answer.feed(data))
                await writer.drain()
        finally:  # told before anything is awaited: the end of the agent may come in the middle of this
            if call.service is not None and call.service.usage and call.received:
                into, out = meter.counts()
                said = {"status": answer.status, "input": into, "output": out}
                self._gate.tell("usage", id=call.id, agent=guest.id, service=call.request.service, **said)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send_body(self, call: _Call, reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter) -> None:
        body = of_length(call.request.length)
        data = self._early
        while not body.done:
            data = data or await reader.read(BLOCK)
            if not data:
                up_writer.close()  # half a request is none
                return
            used, _ = body.feed(data)
            call.sent += used
            up_writer.write(data[:used])
            await up_writer.drain()
            data = b""


def _basic(value: str) -> str:
    scheme, _, rest = value.partition(" ")
    with contextlib.suppress(binascii.Error, ValueError):
        return base64.b64decode(rest).decode("latin-1") if scheme.lower() == "basic" else ""
    return ""


def _refuse(writer: asyncio.StreamWriter, refused: Refused) -> None:
    body = f"OpAgent: {refused.why}\n".encode("utf-8", "replace")
    again = 'proxy-authenticate: Basic realm="opagent"\r\n' if refused.status.startswith("407") else ""
    head = f"HTTP/1.1 {refused.status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {len(body)}\r\n{again}"
    with contextlib.suppress(OSError, RuntimeError):
        writer.write(head.encode() + b"connection: close\r\n\r\n" + body)
