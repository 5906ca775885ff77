"""The way to a machine: its configuration, that of each jump host before it, and the first byte stream. Speaks no ssh."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from opagent.errors import Usage
from opagent.remote import pipes, refusals, tcp
from opagent.remote.sshconfig import HostConfig
from opagent.target import Target, machine

CONNECT_WITHIN = 15.0  # seconds, where the configuration says nothing
HOPS = 8
Read = Callable[[str, str, int], Awaitable[HostConfig]]  # host, user, port


@dataclass(frozen=True, slots=True)
class Stem:
    """A connected socket, and the ProxyCommand behind it, if there is one."""

    socket: socket.socket
    proxy: pipes.Program | None = None

    def close(self) -> None:
        self.socket.close()
        if self.proxy is not None:
            self.proxy.close()

    async def left(self) -> None:
        """Waits for the end of the ProxyCommand, after `close`."""
        if self.proxy is not None:
            await self.proxy.left()

    def said(self) -> str:
        """What the ProxyCommand printed on stderr."""
        return self.proxy.complaint() if self.proxy is not None else ""


async def hops(target: Target, read: Read) -> list[HostConfig]:
    """The jump hosts in their order, then the target. As in OpenSSH, only the first one's own ProxyJump counts."""
    found: list[HostConfig] = []
    chain: str | None = None
    while True:
        config = await read(target.host, target.user, target.port)
        found.insert(0, config)
        chain = config.one("proxyjump") if chain is None else chain
        if not chain:
            return found
        before, _, last = chain.rpartition(",")
        chain = before or None
        try:
            target = machine(last.strip())
        except Usage as error:
            raise refusals.bad_configuration(config.name, f"ProxyJump {last} names no host") from error
        if chain is None and _same(target, config):
            return found  # `Host *` with a ProxyJump means the jump host too
        if len(found) >= HOPS:
            raise refusals.bad_configuration(found[-1].name, f"more than {HOPS} jump hosts, the last is {last}")


def _same(target: Target, config: HostConfig) -> bool:
    return target.host.lower() in (config.alias.lower(), config.host.lower()) and target.port in (0, config.port)


async def stem(config: HostConfig) -> Stem:
    """To the first machine of the way. Raises HostUnreachable."""
    command = config.one("proxycommand")
    if command:
        return await _proxied(config, command)
    within = float(config.number("connecttimeout", 0)) or CONNECT_WITHIN
    family = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(config.one("addressfamily"), socket.AF_UNSPEC)
    place = tcp.Place(config.host, config.port, config.name, within, family, config.one("bindaddress"))
    return Stem(await tcp.connect(place))


async def _proxied(config: HostConfig, command: str) -> Stem:
    """The command speaks on one end of a pair of sockets."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    shell = os.environ.get("SHELL") or "/bin/sh"
    try:
        proxy = await pipes.start([shell, "-c", f"exec {config.filled(command)}"], stdin=theirs.fileno(), stdout=theirs.fileno())
    except BaseException as error:
        ours.close()
        if isinstance(error, OSError):
            raise refusals.no_program(config.name, shell) from error
        raise
    finally:
        theirs.close()
    return Stem(ours, proxy)


async def early(config: HostConfig) -> asyncio.Task[Stem]:
    """`stem`, under way while the caller does something else."""
    task = asyncio.create_task(stem(config), name=f"dial {config.name}")
    await asyncio.sleep(0)
    return task


async def give_up(task: asyncio.Task[Stem]) -> None:
    """Nobody wants it any more."""
    task.cancel()
    with contextlib.suppress(BaseException):
        stem = await task
        stem.close()
        await stem.left()
