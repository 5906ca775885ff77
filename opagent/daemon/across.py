"""A call to an agent on another machine, on the caller's side: the daemon there gives the turn, this one waits for its outcome.

It goes over the link that this daemon has to that machine; with it go the chain of calls and the rules that bind the caller.
What comes back is data of a stranger: shown, and never used as something of here. The other end is `daemon/arriving.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opagent.daemon import callees, peer
from opagent.daemon.abroad import Abroad
from opagent.daemon.calltree import Call, End, Outcome, Spot, There
from opagent.errors import BudgetReached, HostUnreachable, OpAgentError, ProtocolMismatch
from opagent.policy import carried
from opagent.target import Target, typed_here

if TYPE_CHECKING:
    from opagent.daemon.calling import Wanted
    from opagent.daemon.host import Host
    from opagent.daemon.peer import SocketPeer

log = logging.getLogger(__name__)

METHOD, NOTE = "call/across", "call"
GRACE = 300.0  # seconds for which the callee goes on while its machine does not hear of us
GONE = 60.0  # the same where the connection has ended, so that who still wants the answer can come back
ALIVE = 60.0  # seconds between two words of ours that the answer is still wanted
_REST = 2.0  # seconds between two attempts to have a lost link back
_STOPPED_WITHIN, _LEFT_WITHIN = 30.0, 1.0  # seconds for the machine there to say that it has stopped it
_WORD, _LINE = 200, 2000  # characters of what is said there
_NO_METHOD = "the daemon there takes no calls of agents: it runs an older OpAgent"


async def turn(host: Host, call: Call, there: Target, wanted: Wanted) -> Outcome:
    """The callee's turn, to its end. Raises OpAgentError where it does not begin; ends it there where it is cancelled."""
    one = _Across(host, call, there)
    try:
        async with asyncio.timeout(wanted.timeout):
            outcome = await one.run(wanted)
    except TimeoutError:
        outcome = Outcome(End.TIMED_OUT, f"it took longer than {wanted.timeout:g} s")
        await one.stop(_STOPPED_WITHIN)
    except BudgetReached as error:
        outcome = Outcome(End.BUDGET, str(error), error.code, error.hint)
    except OpAgentError as error:
        if not one.begun:
            call.end, call.why = End.REFUSED, str(error)
            raise
        outcome = Outcome(End.FAILED, str(error), error.code, error.hint)
    except asyncio.CancelledError:
        ends = call.unwanted is None  # the daemon does
        await one.stop(_LEFT_WITHIN if ends else _STOPPED_WITHIN)
        if call.unwanted is None:
            raise
        outcome = Outcome(call.unwanted, call.why)
    finally:
        one.close()
        await asyncio.shield(one.spent.end(one.begun))
    call.end, call.why = outcome.end, outcome.text
    return outcome


class _Across:
    """One call."""

    def __init__(self, host: Host, call: Call, there: Target) -> None:
        self._host, self._call, self._there = host, call, there
        self._peer: SocketPeer | None = None
        self._asked: asyncio.Future[dict[str, Any]] | None = None
        self._ident = ""  # of the call there
        self.begun = False  # perhaps
        self.spent = Abroad(host, call)

    async def run(self, wanted: Wanted) -> Outcome:
        said = self._said(wanted, await self.spent.begin())
        peer = await self._connected()
        found = await self._told(peer, said)
        while True:
            if found is None:
                found = await self._again(said)
            if (outcome := self._seen(found)) is not None:
                return outcome
            found = await self._next(said)

    async def stop(self, within: float) -> None:
        """Where the machine cannot be reached it ends the call by itself: `GRACE`."""
        with contextlib.suppress(OpAgentError, TimeoutError):
            async with asyncio.timeout(within):
                if self._asked is not None and not self._ident:
                    self._ident = str((await self._asked).get("call", ""))
                if self._peer is not None and self._ident:
                    await self._peer.request("call/stop", {"call": self._ident})

    def close(self) -> None:
        if self._peer is not None:
            self._peer.close()

    # ---- the connection --------------------------------------------------------------------------------------------------

    async def _connected(self) -> SocketPeer:
        name, links = self._there.machine, self._host.links
        try:
            self._peer = await peer.connect(await links.unasked(name), "call")
        except HostUnreachable:
            if not links.connected(name):
                raise
            await links.doubt(name)  # the link stands and its daemon is gone: it is started
            self._peer = await peer.connect(await links.unasked(name), "call")
        return self._peer

    async def _told(self, peer: SocketPeer, said: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """How the call stands there; None where the connection ended before that was said."""
        before, self.begun = self.begun, True
        self._asked = asyncio.ensure_future(peer.request(METHOD, said))
        try:
            return await asyncio.shield(self._asked)
        except HostUnreachable:
            if not peer.lost:
                self.begun = before
                raise
            return None
        except OpAgentError as error:
            self.begun = before
            raise self._theirs(error) from error

    async def _again(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        """After a loss: the same call, which nobody begins a second time. Raises OpAgentError where it is not known there."""
        loop = asyncio.get_running_loop()
        end, problem = loop.time() + GRACE, HostUnreachable(f"the link to {self._there.machine} was lost")
        while loop.time() < end:
            self.close()
            try:
                found = await self._told(await self._connected(), {**said, "again": True})
            except HostUnreachable as error:
                problem = error
            else:
                if found is not None:
                    return found
            await asyncio.sleep(_REST)
        raise HostUnreachable(f"the link to {self._there.machine} was lost, and is not back", str(problem))

    async def _next(self, said: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What is said of it next, or how it stands after a while; None where the connection has ended."""
        assert self._peer is not None
        try:
            async with asyncio.timeout(ALIVE):
                async for method, params in self._peer.notes():
                    if method == NOTE and params.get("call") == self._ident:
                        return params
            return None
        except TimeoutError:
            return await self._told(self._peer, {**{key: said[key] for key in ("path", "by", "chain")}, "again": True})

    # ---- what is said ----------------------------------------------------------------------------------------------------

    def _said(self, wanted: Wanted, left: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        call = self._call
        chain = [{"host": each.host, "workspace": each.workspace, "role": each.role} for each in call.chain]
        rules = [carried.as_json(each) for each in call.under.capabilities]
        said = {"key": call.id, "conversation": call.caller, "turn": call.working, "trace": call.tree.trace}
        said["machine"] = os.uname().nodename
        return {
            "path": self._there.path or "~", "prompt": wanted.prompt, "timeout": wanted.timeout, "grace": GRACE,
            "on": wanted.conversation, "by": said, "chain": chain, "rules": rules, "strict": call.under.strict,
            "budget": list(left), "alive": True,
        }  # fmt: skip

    def _seen(self, found: Mapping[str, Any]) -> Outcome | None:
        """Kept and shown; the outcome where that is one. Raises ProtocolMismatch."""
        call, name = self._call, self._there.machine
        self.spent.heard(found.get("used"))
        self._ident = self._ident or _text(found, "call")
        file, role = _text(found, "file", _LINE), _text(found, "agent")
        call.there = There(name, _text(found, "conversation"), _text(found, "turn"), file, self._ident)
        call.to = Spot(name, str(self._there), role)
        waits = _text(found, "waits_for")
        word = f"--host {name} {waits if re.fullmatch('[a-z0-9]+', waits) else ''}".strip() if waits else ""
        outcome = self._outcome(found)
        if call.waits != word:
            for each in call.line():  # everybody that it works for shows it
                each.waits = word
                self._host.calls.show(each)
        elif outcome is None:
            self._host.calls.show(call)
        return outcome

    def _outcome(self, found: Mapping[str, Any]) -> Outcome | None:
        word = found.get("outcome")
        if word == "running":
            return None
        try:
            end = End(str(word))
        except ValueError as error:
            raise ProtocolMismatch("what the daemon there says of a call is not understood", repr(word)[:_WORD]) from error
        text = self._host.shared.known.hide(_text(found, "text", callees.ANSWER + _LINE))
        usage = found.get("usage")
        counts = {str(key)[:_WORD]: each for key, each in usage.items() if _counts(each)} if isinstance(usage, dict) else {}
        hint = typed_here(_text(found, "hint", _LINE), self._there.machine)
        return Outcome(end, text, _text(found, "reason"), hint, counts)

    def _theirs(self, error: OpAgentError) -> OpAgentError:
        """What was said there helps here when it is typed as here."""
        if error.code == OpAgentError.code and METHOD in str(error):
            return ProtocolMismatch(_NO_METHOD, str(error), f"opagent host upgrade {self._there.machine}")
        error.what = f"on {self._there.machine}: {error.what[:_LINE]}"
        error.hint = typed_here(error.hint, self._there.machine)
        return error


def _text(found: Mapping[str, Any], key: str, most: int = _WORD) -> str:
    said = found.get(key)
    return said[:most] if isinstance(said, str) else ""


def _counts(value: Any) -> bool:
    return isinstance(value, int | float | str) and len(str(value)) <= _WORD
