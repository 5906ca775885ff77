"""The daemons of people's own machines that are connected to this one: what waits is told to them, secrets are asked of them.

A secret that such a machine lends is asked for anew for every request of an agent, goes to the proxy for that one request, and is
written nowhere. The other end is `daemon/attending.py`. (Design: "Across the line".)
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from opagent import jsonrpc
from opagent.daemon.params import Params, maybe, text
from opagent.errors import Denied, NotFound, OpAgentError, Usage
from opagent.policy import address
from opagent.process.secrets import usable

if TYPE_CHECKING:
    from opagent.daemon.host import Host
    from opagent.daemon.keys import Key
    from opagent.daemon.server import Client

BACK_WITHIN = 10.0  # seconds for a machine whose link was lost
GIVEN_WITHIN = 45.0  # seconds: its owner may have to unlock something
MOST_LENT, LONGEST = 256, 300  # names that one machine may say it lends, and characters of each

Result = Mapping[str, Any]


class Attended:
    """One per daemon."""

    def __init__(self) -> None:
        self._clients: list[Client] = []
        self._lent: set[tuple[str, str]] = set()  # what was lent since the daemon began: name as in `user:NAME`, host:port
        self._asked: dict[str, tuple[Client, asyncio.Future[str]]] = {}
        self._came = asyncio.Event()

    def attend(self, client: Client, lends: Mapping[str, str]) -> None:
        self._clients.append(client)
        self._lent |= set(lends.items())
        self._came.set()

    def others(self, clients: Collection[Client]) -> int:
        """How many of these clients are somebody at work: one that only attends keeps no daemon running."""
        return len(set(clients) - set(self._clients))

    def tell(self, facts: Mapping[str, Any]) -> None:
        """A question waits here."""
        line = jsonrpc.encode(jsonrpc.Notification("waits", dict(facts)))
        for client in self._present():
            client.send(line)

    def lends(self, key: Key) -> bool:
        """Whether some machine said so, be it connected or not: an agent may start, and a request is refused where it is not."""
        return bool(key.lent) and (key.lent, address.shown(key.host, key.port)) in self._lent

    async def secret(self, key: Key, agent: str, workspace: str) -> str:
        """The value, from whoever gives it first. Raises Denied."""
        present = self._present() or await self._back()
        if not present:
            why = f"{key.said} is lent by a machine of yours that is not connected"
            raise Denied(
                f"the secret {key.name} cannot be had at the moment", why, "opagent open HOST:DIRECTORY, on that machine"
            )
        problem: OpAgentError | None = None
        for client in reversed(present):
            try:
                return usable(await self._ask(client, key, agent, workspace), key.said)
            except OpAgentError as error:
                problem = error
        assert problem is not None
        raise problem

    async def _ask(self, client: Client, key: Key, agent: str, workspace: str) -> str:
        ident = secrets.token_hex(8)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked[ident] = client, answer
        facts = {"id": ident, "name": key.lent, "host": key.host, "port": key.port, "agent": agent, "workspace": workspace}
        client.send(jsonrpc.encode(jsonrpc.Notification("secret", facts)))
        gone = asyncio.ensure_future(client.gone.wait())
        try:
            either: set[asyncio.Future[Any]] = {answer, gone}
            await asyncio.wait(either, timeout=GIVEN_WITHIN, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            why = "its machine went away" if client.gone.is_set() else f"its machine did not answer within {GIVEN_WITHIN:g} s"
            raise Denied(f"the secret {key.name} cannot be had at the moment", why)
        finally:
            gone.cancel()
            del self._asked[ident]

    def given(self, client: Client, ident: str, value: str | None, why: str) -> None:
        """Raises NotFound for what was not asked of this client, or is over."""
        asked, answer = self._asked.get(ident, (None, None))
        if asked is not client or answer is None or answer.done():
            raise NotFound("no secret is asked for")
        if value:
            answer.set_result(value)
        else:
            answer.set_exception(Denied("its machine does not give the secret", why or "it does not say why"))

    def _present(self) -> list[Client]:
        self._clients = [client for client in self._clients if not client.gone.is_set()]
        return self._clients

    async def _back(self) -> list[Client]:
        """A link that was lost may be made anew."""
        self._came.clear()
        try:
            async with asyncio.timeout(BACK_WITHIN):
                await self._came.wait()
        except TimeoutError:
            return []
        return self._present()


async def person_attend(host: Host, client: Client, params: Params) -> Result:
    host.refuse_agents(client)
    said = params.get("lends", {})
    if not isinstance(said, dict) or len(said) > MOST_LENT or not all(_short(each) for each in (*said, *said.values())):
        raise Usage("lends must be a map of names to hosts")
    host.shared.attended.attend(client, said)
    return {}


def _short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST


async def person_secret(host: Host, client: Client, params: Params) -> Result:
    host.refuse_agents(client)
    host.shared.attended.given(client, text(params, "id"), maybe(params, "value"), maybe(params, "why") or "")
    return {}


METHODS: dict[str, Callable[[Host, Client, Params], Awaitable[Result]]] = {
    "person/attend": person_attend, "person/secret": person_secret,
}  # fmt: skip
