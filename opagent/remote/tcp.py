"""A TCP connection to a name: the first of its addresses that answers. Speaks no protocol."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass
from typing import Any

from opagent.remote import refusals

_QUICK = 64  # reads
AFTER = 0.25  # seconds until the next address is tried beside the one before (RFC 8305)


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect. `said`: the host in the words of the user. `bind`: our address, or empty."""

    host: str
    port: int
    said: str
    within: float  # seconds
    family: int = socket.AF_UNSPEC
    bind: str = ""


class Quick(socket.socket):
    """Acknowledges at once while a connection is made: a server that waits for that (Nagle) costs 40 ms a step otherwise.

    The kernel forgets the wish by itself, so it is said again after each of the first reads.
    """

    _reads = 0

    def recv(self, *arguments: Any) -> bytes:
        data = super().recv(*arguments)
        if self._reads < _QUICK and hasattr(socket, "TCP_QUICKACK"):
            self._reads += 1
            with contextlib.suppress(OSError):
                self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data


async def connect(place: Place) -> socket.socket:
    """A connected socket that does not block. Raises HostUnreachable."""
    try:
        async with asyncio.timeout(place.within):
            return await _first(place, await _addresses(place))
    except TimeoutError:
        why = f"no answer from {place.host} port {place.port} within {place.within:g} s"
        raise refusals.silent(place.said, why) from None
    except OSError as error:
        raise refusals.unreachable(place.said, _reason(error, place)) from error


async def _addresses(place: Place) -> list[tuple[int, Any]]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(place.host, place.port, family=place.family, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise refusals.no_address(place.said, place.host, error.strerror or str(error)) from error
    except (UnicodeError, OverflowError) as error:
        raise refusals.no_address(place.said, place.host, "it is no name of a host") from error
    return [(family, address) for family, _, _, _, address in found]


async def _first(place: Place, addresses: list[tuple[int, Any]]) -> socket.socket:
    """Addresses one after the other, the next one early when one is slow; the first that answers wins."""
    running: set[asyncio.Task[socket.socket]] = set()
    rest, failed = list(addresses), OSError("no address")
    try:
        while rest or running:
            if rest:
                running.add(asyncio.create_task(_one(place, *rest.pop(0)), name="tcp"))
            done, running = await asyncio.wait(running, timeout=AFTER if rest else None, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    return task.result()
                failed = error if isinstance(error, OSError) else failed
        raise failed
    finally:
        for task in running:
            task.cancel()


async def _one(place: Place, family: int, address: Any) -> socket.socket:
    stream = Quick(family, socket.SOCK_STREAM)
    try:
        stream.setblocking(False)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if place.bind:
            stream.bind((place.bind, 0))
        await asyncio.get_running_loop().sock_connect(stream, address)
    except BaseException:
        stream.close()
        raise
    return stream


def _reason(error: OSError, place: Place) -> str:
    at = f"{place.host} port {place.port}"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens at {at}"
    return f"{at}: {os.strerror(error.errno) if error.errno else error}"
