"""One other machine as this daemon reaches it: a bridge that is built when somebody wants it, and again when it is lost.

Whoever wants it calls `up` and waits; while nobody does, nothing is dialed: a machine that sleeps is left alone. What goes over
the streams is not looked at. (Design: "The link".)
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opagent.errors import HostKeyRefused, HostRefused, HostUnfit, HostUnreachable, OpAgentError
from opagent.remote.seam import Ask, Phase, Question, Tell

if TYPE_CHECKING:
    from opagent.remote.bridge import Bridge

log = logging.getLogger(__name__)

FIRST, MOST = 0.2, 30.0  # seconds between two attempts: doubled, with jitter, for ever
IDLE = 600.0  # seconds without a stream after which the connection is given back
CHECKED_WITHIN = 5.0  # seconds for a daemon there to greet
_FINAL = (HostKeyRefused, HostRefused, HostUnfit)  # trying again changes nothing

Build = Callable[[Ask, Tell], Awaitable["Bridge"]]


class LinkState(enum.Enum):
    IDLE = "idle"  # nobody wants it
    DIALING = "dialing"
    CONNECTED = "connected"
    LOST = "lost"  # it is wanted, and dialed again and again
    FAILED = "failed"  # the last attempt failed, and nobody waits


@dataclass(eq=False, slots=True)
class _Waiter:
    ask: Ask | None
    tell: Tell
    patient: bool
    done: asyncio.Future[Bridge]


class Link:
    """`build` makes the bridge; `chance` gives 0 <= x < 1 for the jitter; `changed` is called with each new state."""

    def __init__(self, build: Build, chance: Callable[[], float], changed: Callable[[], None] = lambda: None) -> None:
        self.state = LinkState.IDLE
        self.why = ""  # the last failure or loss, as a sentence
        self.bridge: Bridge | None = None
        self.streams = 0
        self._build, self._chance, self._changed = build, chance, changed
        self._waiters: list[_Waiter] = []
        self._dialing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._idle: asyncio.TimerHandle | None = None

    # ---- wanting it ------------------------------------------------------------------------------------------------------

    async def up(self, ask: Ask | None, tell: Tell, patient: bool = False) -> Bridge:
        """The bridge, once it stands. `patient`: waits through losses; else raises what the next attempt raises.

        `ask` None: there is nobody who could answer a question.
        """
        if self.bridge is not None:
            return self.bridge
        waiter = _Waiter(ask, tell, patient, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self._hurry.set()
        if self._dialing is None or self._dialing.done():
            self._dialing = asyncio.create_task(self._dial(), name="link")
        try:
            return await waiter.done
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            if not self._waiters:
                self._give_up()

    async def sound(self) -> bool:
        """Whether the daemon there greets. A bridge without one is taken down; the next `up` starts what is missing."""
        bridge = self.bridge
        if bridge is None:
            return False
        with contextlib.suppress(OSError, OpAgentError, TimeoutError):
            async with asyncio.timeout(CHECKED_WITHIN):
                await bridge.greets()
                return True
        await self._take_down(bridge, "the daemon there does not answer")
        return False

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for it."""
        return bool(self._waiters)

    @property
    def shown(self) -> LinkState:
        """As people see it: one that was lost, and that nobody waits for, is not dialed again."""
        return LinkState.IDLE if self.state is LinkState.LOST and not self.wanted else self.state

    def enter(self) -> Bridge:
        """Somebody uses it; `leave` when that is over. Raises HostUnreachable while the link is down."""
        if self.bridge is None:
            raise HostUnreachable("the link is down", self.why)
        self.streams += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        return self.bridge

    def leave(self) -> None:
        self.streams -= 1
        if not self.streams and self.bridge is not None:
            self._rest()

    def close(self, why: str = "closed") -> None:
        """Give the connection back. Streams on it end, and who waits for it hears why."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done.done():
                waiter.done.set_exception(HostUnreachable("the link is closed", why))
        self._give_up()
        if self._watching is not None:
            self._watching.cancel()
        if self._idle is not None:
            self._idle.cancel()
        bridge, self.bridge = self.bridge, None
        if bridge is not None:
            bridge.close()
        self._become(LinkState.IDLE, why)

    def _give_up(self) -> None:
        """Nobody waits. An attempt takes its time to end: the next one who wants the link does not wait for that."""
        dialing, self._dialing = self._dialing, None
        if dialing is not None and not dialing.done():
            dialing.cancel()
            self._become(LinkState.FAILED if self.why else LinkState.IDLE)

    def _rest(self) -> None:
        """From now on nobody uses it."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE, self.close, "nobody used it")

    # ---- the attempts ----------------------------------------------------------------------------------------------------

    async def _dial(self) -> None:
        pause = FIRST
        while self._waiters:
            self._hurry.clear()
            self._become(LinkState.LOST if self.state is LinkState.LOST else LinkState.DIALING)
            try:
                bridge = await self._build(self._asks, self._tells)
            except OpAgentError as error:
                if not self._failed(error):
                    self._become(LinkState.FAILED, str(error))
                    return
            except Exception as error:  # whatever a library raises concerns those who wait for this machine only
                log.exception("a link could not be made")
                if not self._failed(HostUnreachable("the machine could not be reached", f"{type(error).__name__}: {error}")):
                    self._become(LinkState.FAILED, str(error))
                    return
            else:
                self._stands(bridge)
                return
            self._become(LinkState.LOST, self.why)
            wait = pause * (0.5 + self._chance())
            self._tells(Phase("lost", f"{self.why}; the next try is in {wait:.1f} s"))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._hurry.wait()
            pause = min(MOST, 2 * pause)

    def _stands(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self._rest()
        self._watching = asyncio.create_task(self._watch(bridge), name="link-watch")
        self._become(LinkState.CONNECTED)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done.done():
                waiter.done.set_result(bridge)

    def _failed(self, error: OpAgentError) -> bool:
        """Whether somebody goes on waiting."""
        self.why = str(error)
        final = isinstance(error, _FINAL) or not isinstance(error, HostUnreachable)
        for waiter in list(self._waiters):
            if final or not waiter.patient:
                self._waiters.remove(waiter)
                if not waiter.done.done():
                    waiter.done.set_exception(error)
        return bool(self._waiters)

    async def _watch(self, bridge: Bridge) -> None:
        why = await bridge.lost()
        await self._take_down(bridge, why)

    async def _take_down(self, bridge: Bridge, why: str) -> None:
        if self.bridge is bridge:
            self.bridge = None
            if self._idle is not None:
                self._idle.cancel()
            self._become(LinkState.LOST, why)
        bridge.close()

    def _become(self, state: LinkState, why: str = "") -> None:
        self.state, self.why = state, why or self.why
        self._changed()

    async def _asks(self, question: Question) -> str | None:
        """The one who came last is asked: most likely they sit there. Who leaves without an answer is waited for no longer."""
        while asked := next((waiter for waiter in reversed(self._waiters) if waiter.ask and not waiter.done.done()), None):
            assert asked.ask is not None
            asking = asyncio.ensure_future(asked.ask(question))
            either: set[asyncio.Future[Any]] = {asking, asked.done}
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if asking.done():
                    return asking.result()
            finally:
                asking.cancel()
        return None

    def _tells(self, phase: Phase) -> None:
        for waiter in self._waiters:
            waiter.tell(phase)
