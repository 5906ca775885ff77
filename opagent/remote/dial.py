"""Opens a connection to a machine by the transport that fits: asyncssh, the system's ssh, or a command with a shell behind it."""

from __future__ import annotations

import asyncio
import functools
import logging
from dataclasses import dataclass

from opagent.errors import Usage
from opagent.remote import choice, command, openssh, refusals, route, sshconfig
from opagent.remote.seam import Ask, Connection, Phase, Tell
from opagent.remote.sshconfig import HostConfig
from opagent.target import Target

log = logging.getLogger(__name__)

TRANSPORTS = ("asyncssh", "openssh", "command")


@dataclass(frozen=True, slots=True)
class Settings:
    """How to dial.

    `transport`: asyncssh, openssh or command; empty: what fits. `command`: the argv that gives a shell's stdio. `config`: the
    ssh_config to read instead of the user's, as `ssh -F`. `agent`: the socket of the person's ssh-agent; None: the daemon's own.
    """

    transport: str = ""
    command: tuple[str, ...] = ()
    config: str | None = None
    agent: str | None = None


async def dial(target: Target, ask: Ask, tell: Tell, settings: Settings | None = None) -> Connection:
    """Raises HostUnreachable, HostKeyRefused, HostRefused."""
    settings = settings or Settings()
    if settings.transport not in ("", *TRANSPORTS):
        raise Usage(f"'{settings.transport}' is no transport", "it is one of " + ", ".join(TRANSPORTS), "opagent host list")
    tell(Phase("dialing", target.machine))
    if settings.command or settings.transport == "command":
        return command.dial(target.machine, settings.command)
    if settings.transport == "openssh":
        return await openssh.dial(target, ask, tell, settings.config, settings.agent)
    hops = await route.hops(target, functools.partial(_read, settings.config))
    reason = "" if settings.transport else _only_openssh(hops, settings)
    if not reason:
        try:
            return await _by_asyncssh(hops, ask, tell, settings)
        except choice.OnlyOpenSsh as error:
            reason = str(error)
            if settings.transport or sshconfig.binary() is None:
                raise refusals.no_common_algorithm(target.machine, reason) from error
    log.info("%s is dialled with ssh: %s", target.machine, reason)
    return await openssh.dial(target, ask, tell, settings.config, settings.agent)


async def _read(config: str | None, host: str, user: str, port: int) -> HostConfig:
    if sshconfig.binary() is not None:
        return await sshconfig.ask(host, user, port, config)
    return await asyncio.to_thread(_read_here, config, host, user, port)


def _read_here(config: str | None, host: str, user: str, port: int) -> HostConfig:
    from opagent.remote import configfile  # imports asyncssh

    return configfile.read(host, user, port, config)


def _only_openssh(hops: list[HostConfig], settings: Settings) -> str:
    if sshconfig.binary() is None:
        return ""
    reasons = [choice.only_openssh(config, sshconfig.agent_path(config, settings.agent)) for config in hops]
    return "; ".join(f"{reason} of {config.name}" for reason, config in zip(reasons, hops, strict=True) if reason)


async def _by_asyncssh(hops: list[HostConfig], ask: Ask, tell: Tell, settings: Settings) -> Connection:
    """The network is at work already while asyncssh is imported."""
    early: asyncio.Task[route.Stem] | None = await route.early(hops[0])
    try:
        try:
            await asyncio.to_thread(_import)
        except ModuleNotFoundError as error:  # in a daemon that was brought to its machine: asyncssh does not travel
            raise choice.OnlyOpenSsh("asyncssh is not installed") from error
        from opagent.remote import handshake

        async def first() -> route.Stem:
            nonlocal early
            task, early = early, None
            return await (task if task is not None else route.stem(hops[0]))

        return await handshake.open_chain(hops, first, ask, tell, settings.agent)
    finally:
        if early is not None:
            await route.give_up(early)


def _import() -> None:
    """150 ms."""
    import opagent.remote.handshake  # noqa: F401
