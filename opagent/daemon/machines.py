"""What a person does with the machines themselves: name one, look whether it is fit, bring it up to date, forget it.

API: `METHODS`. A look dials anew, so that it tells what is so now; the link that others use is left alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from opagent.daemon.params import Params, maybe, text
from opagent.daemon.server import Client
from opagent.errors import HostUnreachable, OpAgentError, Usage
from opagent.store import machines as rows
from opagent.store.machines import Machine
from opagent.target import machine

if TYPE_CHECKING:
    from opagent.daemon.host import Host
    from opagent.remote.bootstrap import Landed
    from opagent.remote.bridge import Examined

Result = Mapping[str, Any]
T = TypeVar("T")
TRANSPORTS = ("asyncssh", "openssh", "command")
_SKEW = 30.0  # seconds between two clocks that are worth a word


async def host_list(host: Host, client: Client, params: Params) -> Result:
    return {"hosts": host.links.listed()}


async def host_add(host: Host, client: Client, params: Params) -> Result:
    """Keep a name, and how its machine is reached; of a name that is kept already, change what is said. Nothing is dialed."""
    host.refuse_agents(client)
    name = machine(text(params, "name")).machine
    before = host.database.read(lambda db: rows.get(db, name)) or Machine(name, name)
    target = machine(maybe(params, "target") or before.target).machine
    said = {**before.settings, **_dialed(params), **await _python(params, name)}
    record = Machine(name, target, {key: value for key, value in said.items() if value})
    await host.database.write(lambda db: rows.put(db, record), barrier=True)
    host.links.drop(name)  # after it: who comes meanwhile would go on with the old one
    return {"host": record.as_json(), **_foreseen(record)}


def _dialed(params: Params) -> dict[str, Any]:
    """What is said of how a machine is reached. Raises Usage."""
    words, transport = params.get("command"), maybe(params, "transport")
    if not words and transport is None:
        return {}
    words = words or []
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise Usage("the command must be a list of words", hint="opagent host add --help")
    transport = "command" if words else transport
    if transport and (transport not in TRANSPORTS or (transport == "command" and not words)):
        raise Usage(f"no transport {transport!r}", "asyncssh, openssh, or --command WORDS", "opagent host add --help")
    return {"transport": transport, "command": words}


def _foreseen(record: Machine) -> dict[str, str]:
    """What will be missing here when it is needed: told now."""
    from opagent.remote import portable

    if record.settings.get("portable") != portable.AUTO or portable.uv():
        return {}
    return {"note": f"there is no uv on this machine, which would fetch a Python for {record.name}: pipx install uv"}


async def _python(params: Params, name: str) -> dict[str, str]:
    """What is said of the Python: a path there, or where a portable one comes from. Raises Usage."""
    from opagent.remote import portable, pythons

    said = params.get("python")
    if said is None:
        return {}
    if not isinstance(said, str):
        raise Usage("python must be a text", "auto, an archive here, or a path there", "opagent host add --help")
    if portable.is_archive(said):
        await asyncio.to_thread(pythons.checked, Path(said), name)
    elif said != portable.AUTO:
        return {"python": said, "portable": ""}
    return {"python": "", "portable": said}


async def host_check(host: Host, client: Client, params: Params) -> Result:
    """Step by step, as far as it goes: `{steps: [{name, ok, sentence, hint?}]}`."""
    host.refuse_agents(client)
    began = time.monotonic()
    try:
        name = machine(text(params, "machine")).machine
        found = await _waited_for(client, host.links.examined(name, client, params))
    except OpAgentError as error:
        return {"steps": [{"name": error.code, "ok": False, "sentence": str(error), "hint": error.hint}]}
    facts, report = found.landed.facts, found.landed.report if isinstance(found.landed.report, dict) else {}
    took = time.monotonic() - began
    steps = [
        {
            "name": "reached",
            "ok": True,
            "sentence": f"as {facts.user} on {facts.host_name} in {took:.1f} s, {found.connection.identity}",
        },
        *_way(found),
        {"name": "interpreter", "ok": True, "sentence": f"{facts.python_version} at {facts.python}{_which(facts.python)}"},
    ]
    told, at = report.get("steps"), report.get("at")
    steps += [dict(step) for step in (told if isinstance(told, list) else []) if isinstance(step, dict)]
    if isinstance(at, int | float):
        apart = abs(time.time() - at - took / 2)
        word = "agree" if apart < _SKEW else f"are {apart:.0f} s apart; nothing of OpAgent depends on it"
        steps.append({"name": "clock", "ok": True if apart < _SKEW else None, "sentence": f"the clocks {word}"})
    return {"steps": steps}


def _way(found: Examined) -> Iterator[dict[str, Any]]:
    """The link as it was measured."""
    if found.round_trip is not None:
        yield {"name": "round trip", "ok": True, "sentence": f"{found.round_trip * 1000:.1f} ms by {found.connection.transport}"}
    if found.forwards:
        yield {"name": "sockets", "ok": True, "sentence": "forwarded: each command has a channel of its own"}
    elif found.connection.transport != "asyncssh":
        yield {"name": "sockets", "ok": True, "sentence": f"by {found.connection.transport} all commands share one session"}
    else:
        words = "the server forwards none: all commands share one session"
        yield {"name": "sockets", "ok": None, "sentence": words, "hint": "AllowStreamLocalForwarding yes in its sshd_config"}


def _which(python: str) -> str:
    from opagent.remote import pythons

    return ", a portable one that was copied there" if pythons.base_of(python) else ""


async def host_upgrade(host: Host, client: Client, params: Params) -> Result:
    """The daemon there runs this very code afterwards: at once where it is idle, or where `now` says so."""
    host.refuse_agents(client)
    landed, _ = await _landed(host, client, params, "upgrade-now" if params.get("now") else "upgrade")
    return {"report": landed.report}


async def host_forget(host: Host, client: Client, params: Params) -> Result:
    """What is known of it here; with `purge` first everything of ours there, but for conversations and bindings."""
    host.refuse_agents(client)
    name = machine(text(params, "machine")).machine
    report = None
    if params.get("purge"):
        landed, _ = await _landed(host, client, params, "purge-now" if params.get("force") else "purge")
        report = landed.report
    host.links.drop(name)  # before it: who reaches the machine at this moment would keep it again
    known = await host.database.write(lambda db: rows.remove(db, name), barrier=True)
    host.links.drop(name)
    return {"forgotten": known, "report": report}


async def _landed(host: Host, client: Client, params: Params, verb: str) -> tuple[Landed, str]:
    """The answer of a fresh landing to a verb, and the identity of the machine. Raises HostUnreachable and its kinds."""
    return await _waited_for(client, host.links.landed(machine(text(params, "machine")).machine, client, params, verb))


async def _waited_for(client: Client, work: Coroutine[Any, Any, T]) -> T:
    """Raises HostUnreachable when the client leaves."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(client.gone.wait())
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HostUnreachable("nobody waits for it any more")
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


METHODS: dict[str, Callable[[Host, Client, Params], Awaitable[Result]]] = {
    "host/list": host_list, "host/add": host_add, "host/check": host_check, "host/upgrade": host_upgrade,
    "host/forget": host_forget,
}  # fmt: skip
