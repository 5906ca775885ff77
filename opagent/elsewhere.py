"""A client of the daemon on another machine, through the link that the daemon here holds. Nothing of this machine goes there
but what is said: not the environment, no path that is looked at here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent import launch, paths
from opagent.client import ASK_DEADLINE, Client
from opagent.errors import DaemonUnavailable, HostUnreachable, OpAgentError, ProtocolMismatch
from opagent.target import typed_here

if TYPE_CHECKING:
    from opagent.client import _Wire

FOREVER = 1e6  # seconds: a person may be asked, and a machine that is lost is waited for
_PAUSE = 0.05

Answer = Callable[[Mapping[str, Any]], str | None]  # a question {id, kind, text, secret}; None: nobody answers
Tell = Callable[[Mapping[str, Any]], None]  # a phase {machine, phase, text, done, total}


def dialing() -> dict[str, str]:
    """What of a person's surroundings counts when a machine is dialed for them: parameters of `link/open`."""
    said = {"agent": os.environ.get("SSH_AUTH_SOCK"), "config": os.environ.get("OPAGENT_SSH_CONFIG")}
    return {name: each for name, each in said.items() if each is not None}


def hearing(local: Client, answer: Answer | None, tell: Tell) -> Callable[[str, Mapping[str, Any]], None]:
    """What the daemon here says while it dials. Asked only what it asks: nothing here comes from the other machine."""

    def heard(method: str, params: Mapping[str, Any]) -> None:
        if method == "link":
            tell(params)
        elif method == "question":
            said = answer(params) if answer is not None else None
            local.tell("question/answer", {"question": params.get("id"), "answer": said})

    return heard


class _Said(dict[str, Any]):
    """An answer of a daemon that may be a stranger's."""

    def __missing__(self, key: str) -> Any:
        raise ProtocolMismatch("the daemon there left something out", f"its answer has no {key!r}", "opagent ps -a")


class Near(Client):
    """The daemon of `machine` while a link to it stands: nothing is dialed or waited for. Raises HostUnreachable else."""

    def __init__(self, machine: str) -> None:
        self._machine = machine
        super().__init__("completion")
        self.returns = False

    def environment(self) -> dict[str, str]:
        return {}

    def _dial(self, end: float) -> socket.socket:
        stream = launch.dial(paths.machine_socket(self._machine), time.monotonic() + _PAUSE)
        if stream is None:
            raise HostUnreachable(f"there is no link to {self._machine}")
        return stream

    def _introduce(self, wire: _Wire) -> None:
        try:
            self._hail(wire)
        except (ConnectionError, TimeoutError) as error:
            raise HostUnreachable(f"there is no link to {self._machine}") from error


class Elsewhere(Client):
    """One connection to the daemon of `machine`; over losses of the link it goes on where it was.

    Raises HostUnreachable and its kinds before the first connection, and what Client raises.
    """

    def __init__(self, machine: str, local: Client, answer: Answer | None, tell: Tell, program: str = "cli") -> None:
        self.machine, self.local = machine, local
        self._answer = answer
        local.heard = hearing(local, lambda question: self._answer(question) if self._answer is not None else None, tell)
        self.link: Mapping[str, Any] = {}
        self._within = False
        super().__init__(program)
        self._losses = deque(maxlen=0)  # a link may be lost any number of times

    def environment(self) -> dict[str, str]:
        """Nothing: the daemon there has its own."""
        return {}

    def alone(self) -> None:
        """From now on nobody is asked anything: what would have to be asked is refused."""
        self._answer = None

    def close(self) -> None:
        if hasattr(self, "_wire"):
            super().close()
        self.local.close()

    def request(self, method: str, params: Mapping[str, Any] | None = None, timeout: float = ASK_DEADLINE) -> dict[str, Any]:
        return _Said(super().request(method, params, timeout))

    def _ask(self, method: str, params: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        with self._theirs():
            return super()._ask(method, params, timeout)

    def _take(self, message: dict[str, Any]) -> None:
        with self._theirs():
            super()._take(message)

    @contextlib.contextmanager
    def _theirs(self) -> Iterator[None]:
        """What goes wrong in here was said there, and helps here only when it is typed as here."""
        within, self._within = self._within, True
        try:
            yield
        except OpAgentError as error:
            if not within:
                error.hint = typed_here(error.hint, self.machine)
            raise
        finally:
            self._within = within

    def _dial(self, end: float) -> socket.socket:
        said = {"machine": self.machine, "again": self.connections > 0, "asks": self._answer is not None, **dialing()}
        self.link = self.local.request("link/open", said, FOREVER)
        path = Path(str(self.link["socket"]))
        stream = launch.dial(path, time.monotonic() + launch.DEADLINE)
        if stream is None:
            raise ConnectionResetError(f"nobody listens at {path}")
        return stream

    def _connect(self) -> Any:
        while True:
            try:
                return super()._connect()
            except ConnectionError:
                pass  # the daemon here has just ended
            except DaemonUnavailable:
                if not self.connections:
                    raise
            time.sleep(_PAUSE)

    def _introduce(self, wire: _Wire) -> None:
        """The first request travels with our `hello`: its answer would cost a journey of its own."""
        with self._theirs():
            self._hail(wire)
