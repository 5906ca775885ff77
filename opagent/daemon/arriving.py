"""A call that an agent of another machine makes, on the callee's side: admitted here, by what is trusted here.

The chain of calls and the rules of everybody in it come with it; the circle and the depth are looked for over all machines. The
machine that called follows the call on its connection, and may come back after a loss; without it the call ends after a while.
The other end is `daemon/across.py`.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opagent import jsonrpc
from opagent.binding.question import visible
from opagent.daemon import abroad, admitting, calling, joining
from opagent.daemon.across import GONE, GRACE, METHOD, NOTE
from opagent.daemon.calling import Wanted
from opagent.daemon.calltree import Call, End, Spot, Tree, Under
from opagent.daemon.params import Params, maybe, place, text
from opagent.errors import NotFound, Usage
from opagent.model import ConversationId, TurnId
from opagent.policy import carried

if TYPE_CHECKING:
    from opagent.daemon.admitting import Target
    from opagent.daemon.host import Host
    from opagent.daemon.server import Client

Result = Mapping[str, Any]
_LONGEST = 4096  # characters of a name
_NAME = 100  # of what a machine calls itself
_GONE = "the machine that called is not connected any more"


@dataclass(eq=False, slots=True)
class Arrived:
    """`client`: who follows it."""

    call: Call
    client: Client
    told: Mapping[str, Any] = field(default_factory=dict)  # what was said last
    back: asyncio.Event = field(default_factory=asyncio.Event)


async def call_across(host: Host, client: Client, params: Params) -> Result:
    """Begun once for each key of a machine; `again`: only followed. Raises Denied, NotFound, NotTrusted, Usage."""
    host.refuse_agents(client)
    chain, by = _chain(params), _object(params, "by")
    key = f"{chain[0].host}/{chain[-1].host}/{text(by, 'key')}"
    if len(key) > 3 * _LONGEST:
        raise Usage("the key of the call is too long")
    path = place(params, "path")
    given = await host.environment(None, path)
    arrived = host.calls.arrived.get(key)
    if arrived is None:
        if params.get("again"):
            raise NotFound("the call is not known there any more", "its daemon ended meanwhile, or never heard of it")
        found = admitting.target(host, os.path.expanduser("~"), path, given)
        call = _admitted(host, params, chain, by, found, key)
        arrived = Arrived(call, client)
        host.remember(found.spot.workspace, given)
        call.heard = lambda: _tell(host, arrived)
        wanted = Wanted(
            path, joining.said({"text": params.get("prompt")}), _seconds(params, "timeout"), maybe(params, "on") or ""
        )
        host.calls.begin_for_machine(call, found, wanted)
        host.calls.arrived[key] = arrived
        grace = min(GRACE, _seconds(params, "grace"))
        silence = grace if params.get("alive") is True else None
        host.shared.spawn(_keep(host, arrived, silence, min(GONE, grace)), f"keeping call-{call.id}")
    arrived.client = client
    arrived.back.set()
    return _stands(host, arrived)


def _stands(host: Host, arrived: Arrived) -> Result:
    """How it stands, and what was used of the caller's limits."""
    under = arrived.call.under.limits
    arrived.told = arrived.call.as_json() | ({"used": abroad.used(host, under)} if under else {})
    return arrived.told


def _admitted(host: Host, params: Params, chain: tuple[Spot, ...], by: Params, found: Target, key: str) -> Call:
    """The call, which has not begun. Raises Denied, Usage."""
    said = params.get("rules")
    if not isinstance(said, list) or not 0 < len(said) <= carried.MOST:
        raise Usage("the rules of those that call are missing")
    rules = tuple(map(carried.from_json, said))
    trace = text(by, "trace")
    if not re.fullmatch("[0-9a-f]{32}", trace):
        raise Usage("trace must be 32 hexadecimal digits")
    *before, caller = chain
    conversation, turn = f"{caller.host}/{text(by, 'conversation')}", f"{caller.host}/{text(by, 'turn')}"
    machine = visible(maybe(by, "machine") or "")[:_NAME]
    left = abroad.limits(params.get("budget"), key, machine)
    call = Call(
        host.calls.new_id(), Tree(trace), caller, ConversationId(conversation), TurnId(turn), before=tuple(before),
        under=Under(rules, params.get("strict") is True, left), to=found.spot, key=text(by, "key"), machine=machine,
    )  # fmt: skip
    admitting.within_bounds(call, found, min(each.max_depth for each in rules))
    return call


def _chain(params: Params) -> tuple[Spot, ...]:
    said = params.get("chain")
    if not isinstance(said, list) or not 0 < len(said) <= carried.MOST:
        raise Usage("the chain of those that call is missing")
    spots = []
    for each in said:
        if not isinstance(each, dict):
            raise Usage("a caller of the chain is none")
        names = [text(each, name) for name in ("host", "workspace", "role")]
        if any(len(name) > _LONGEST for name in names):
            raise Usage("a name of the chain is too long")
        spots.append(Spot(*names))
    return tuple(spots)


def _object(params: Params, name: str) -> Params:
    said = params.get(name)
    if not isinstance(said, dict):
        raise Usage(f"{name} is missing")
    return said


def _seconds(params: Params, name: str) -> float:
    value = params.get(name, calling.LONGEST)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise Usage(f"{name} must be a number of seconds")
    return float(value)


def _tell(host: Host, arrived: Arrived) -> None:
    client, before = arrived.client, arrived.told
    if not client.gone.is_set() and _stands(host, arrived) != before:
        client.send(jsonrpc.encode(jsonrpc.Notification(NOTE, dict(arrived.told))))


async def _keep(host: Host, arrived: Arrived, silence: float | None, gone: float) -> None:
    """Until it is over, or nobody wants it: no word for `silence` seconds, or no connection for `gone`.

    A call never outlives the turn that made it. `silence` None: whoever called says nothing while it waits.
    """
    call = arrived.call
    while not call.over.done():
        arrived.back.clear()
        client = arrived.client
        words: list[asyncio.Future[Any]] = [asyncio.ensure_future(arrived.back.wait())]
        if not client.gone.is_set():
            words.append(asyncio.ensure_future(client.gone.wait()))
        within = gone if client.gone.is_set() else silence
        try:
            heard, _ = await asyncio.wait({call.over, *words}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in words:
                each.cancel()
        if not heard:
            host.calls.stop(call, End.CANCELLED, _GONE)
            return


METHODS: dict[str, Callable[[Host, Client, Params], Awaitable[Result]]] = {METHOD: call_across}
