"""Connections to daemons, here and on other machines, for a process that never waits for one: what is asked meanwhile is held.

A line to another machine is dialed, and after a loss dialed again, in a thread of its own; nothing else of it runs there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from opagent.cli import apart
from opagent.client import Client
from opagent.errors import DaemonUnavailable, HostUnreachable, OpAgentError
from opagent.model import Event

PROGRAM = "acp"
Work = Callable[[Client], None]
Failed = Callable[[OpAgentError], None]


class Line:
    """The daemon of `machine` (empty: here). `wake` is called from the thread when there is something to `settle`."""

    def __init__(self, machine: str, wake: Callable[[], None], tell: Callable[[str], None]) -> None:
        self.machine, self._wake, self._tell = machine, wake, tell
        self.client: Client | None = None
        self._held: list[tuple[Work, Failed]] = []
        self._dialing: threading.Thread | None = None
        self._outcome: Client | OpAgentError | None = None
        self._told: list[str] = []
        self._lost = False
        self._local: Client | None = None

    def run(self, work: Work, failed: Failed) -> None:
        """Do it with the client, now or as soon as there is a connection. After a loss in the middle it is done again."""
        if self._dialing is not None:
            self._held.append((work, failed))
            return
        try:
            if self.client is None:
                if self.machine:
                    self._held.append((work, failed))
                    self._dial()
                    return
                self.client = apart.client(PROGRAM)
            self._work(work)
        except ConnectionError:
            self._held.append((work, failed))
            self.lost()
        except OpAgentError as error:
            failed(error)

    def _work(self, work: Work) -> None:
        """Once more where the daemon here has ended meanwhile."""
        assert self.client is not None
        try:
            work(self.client)
        except DaemonUnavailable:
            if self.machine:
                raise
            self._again()
            work(self.client)

    def _again(self) -> None:
        """Another daemon here, that goes on where the last one was."""
        assert self.client is not None
        apart.begin(PROGRAM)
        self.client.renew()

    def arrived(self, ready: bool) -> list[Event]:
        """The events that are here; `ready`: more can be read. Raises OpAgentError when this line is of no use any more."""
        if self.client is None or self._dialing is not None:
            return []
        try:
            return self.client.arrived(ready)
        except ConnectionError:
            self.lost()
        except DaemonUnavailable:
            if self.machine:
                raise
            self._again()
            return self.client.arrived(False)  # some may have come while it was asked where it was
        return []

    @property
    def more(self) -> bool:
        """Whether `arrived` may bring more although nothing new can be read."""
        return self.client is not None and self._dialing is None and self.client.more

    def fileno(self) -> int | None:
        return self.client.fileno() if self.client is not None and self._dialing is None else None

    def lost(self) -> None:
        if self._dialing is None:
            self._dial()

    def settle(self) -> None:
        """Take what the thread has to say: a connection, or why there will be none."""
        told, self._told = self._told, []
        for text in told:
            self._tell(text)
        outcome, self._outcome = self._outcome, None
        if outcome is None or self._dialing is None:
            return
        self._dialing.join()
        self._dialing = None
        held, self._held = self._held, []
        if isinstance(outcome, OpAgentError):
            self.client = None
            for _, failed in held:
                failed(outcome)
            return
        self.client = outcome
        for work, failed in held:
            self.run(work, failed)

    def close(self) -> None:
        if self.client is not None and self._dialing is None:
            self.client.close()

    def _dial(self) -> None:
        if self.client is None:
            apart.client(PROGRAM).close()  # so that it is there when the thread wants it
            self._local = Client(PROGRAM)
        self._dialing = threading.Thread(target=self._connect, name=f"dial-{self.machine}", daemon=True)
        self._dialing.start()

    def _connect(self) -> None:
        try:
            self._outcome = self._connected()
        except OpAgentError as error:
            self._outcome = error
        except OSError as error:
            self._outcome = HostUnreachable(f"{self.machine} cannot be reached", str(error))
        self._wake()

    def _connected(self) -> Client:
        if self.client is not None:
            self.client.renew()
            return self.client
        from opagent.elsewhere import Elsewhere

        assert self._local is not None
        client = Elsewhere(self.machine, self._local, None, self._phase, PROGRAM)
        client.returns = False
        return client

    def _phase(self, phase: Mapping[str, Any]) -> None:
        """What the daemon here says while it dials; of the thread."""
        name = phase.get("phase")
        if name == "lost" and not self._lost:
            self._told.append(f"The link to {self.machine} is lost; it is dialed again. The agent works on.")
        elif name == "connected" and self._lost:
            self._told.append(f"The link to {self.machine} is there again.")
        if name in ("lost", "connected"):
            self._lost = name == "lost"
        self._wake()
