"""While a link to a machine stands, the person here is told what waits there, and lends it secrets; what it says decides nothing.

Which machine gets which secret for which host stands in the user's own configuration (`lend:`) and nowhere else: a machine that
was taken over gets what was lent to it, and no more. The other end is `daemon/attended.py`. (Design: "Across the line".)
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opagent import paths
from opagent.binding import surroundings
from opagent.daemon import keys, peer
from opagent.errors import Denied, OpAgentError
from opagent.policy import address
from opagent.process import secrets as sources
from opagent.store.events import AuditKind, Draft

if TYPE_CHECKING:
    from opagent.daemon.host import Host
    from opagent.daemon.peer import SocketPeer

log = logging.getLogger(__name__)

_REST = 600.0  # seconds without another user of the link, and without work there, after which it is given back
_PORTS = 1 << 16


class Attending:
    """One per host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, machine: str) -> None:
        """Its link stands and has a door. Harmless twice."""
        known = self._tasks.get(machine)
        if known is None or known.done():
            self._tasks[machine] = self._host.shared.spawn(self._attend(machine), f"attending {machine}")

    async def _attend(self, machine: str) -> None:
        try:
            there = await peer.connect(paths.machine_socket(machine), "attending")
        except (OpAgentError, OSError) as error:
            log.debug("nobody attends %s: %s", machine, error)
            return
        resting = asyncio.create_task(self._rest(machine, there), name=f"resting {machine}")
        try:
            await there.request("person/attend", {"lends": lent(machine)})
            async for method, params in there.notes():
                if method == "waits":
                    await self._host.shared.notifier.relay(machine, params, await self._environment())
                elif method == "secret":
                    self._host.shared.spawn(self._lend(machine, there, params), f"a secret for {machine}")
        except OpAgentError as error:  # an older one does not know this
            log.debug("%s is not attended: %s", machine, error)
        finally:
            resting.cancel()
            there.close()

    async def _rest(self, machine: str, there: SocketPeer) -> None:
        """Nobody else uses the link, and nothing runs there: it is not kept for this."""
        while True:
            await asyncio.sleep(_REST)
            if not self._host.links.alone(machine):
                continue
            try:
                status = await there.request("daemon/status", {})
            except OpAgentError:
                status = {}
            if not status.get("runs"):
                there.close()
                return

    async def _environment(self) -> dict[str, str]:
        return await self._host.environment(None, os.path.expanduser("~"))

    # ---- secrets ---------------------------------------------------------------------------------------------------------

    async def _lend(self, machine: str, there: SocketPeer, params: Mapping[str, Any]) -> None:
        answer: dict[str, Any] = {"id": str(params.get("id"))}
        try:
            answer["value"] = await self._value(machine, params)
        except OpAgentError as error:
            log.warning("no secret for %s: %s", machine, error)
            answer["why"] = str(error)
        try:
            await there.request("person/secret", answer)
        except OpAgentError as error:  # it is gone, or waits no more
            log.debug("%s does not take it: %s", machine, error)

    async def _value(self, machine: str, params: Mapping[str, Any]) -> str:
        """Recorded before it is given. Raises Denied, NotFound, StoreFailed."""
        name, host, port = params.get("name"), params.get("host"), params.get("port")
        if not isinstance(name, str) or not isinstance(host, str) or not isinstance(port, int) or not 0 < port < _PORTS:
            raise Denied("that is no request for a secret")
        wanted = address.shown(host, port)
        if lent(machine).get(name) != wanted:
            raise Denied(f"user:{name} is not lent to {machine} for {wanted}", "", f"lend: of {paths.user_config().name} there")
        source = surroundings.user_secrets().get(name, "")
        value = await sources.fetch(source, await self._environment())
        self._host.shared.known.keep({value: name})
        mark = sources.fingerprint(await asyncio.to_thread(keys.fingerprint_key), value)
        used = {"name": name, "host": wanted, "machine": machine, "hmac": mark}
        who = {"agent": f"{machine}:{str(params.get('agent'))[:64]}"}
        await self._host.journal.append(None, [Draft(AuditKind.SECRET_USE, who=who, facts={"obj": used})], barrier=True)
        return value


def lent(machine: str) -> dict[str, str]:
    """What is lent to a machine: names of `secrets:`, each with the one host that it is for, as host:port."""
    try:
        said, known = surroundings.user_lends().get(machine, {}), surroundings.user_secrets()
    except OpAgentError as error:
        log.warning("nothing is lent to %s: %s", machine, error)
        return {}
    return {name: address.shown(*address.authority(host, 443)) for name, host in said.items() if name in known}
