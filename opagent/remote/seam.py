"""What every way to another machine gives: a connection on which programs run, and a byte stream to each of them. Dials nothing.

`Connection` has one class per transport (`remote/ssh.py`, `remote/openssh.py`, `remote/command.py`); one contract suite tests
them all. (Design: "Transports".)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

BLOCK = 64 * 1024  # bytes of one read


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program there ended. `status` None: by a signal, or the connection ended first. `stderr`: its last 4 KiB."""

    status: int | None
    stderr: bytes = b""


class Stream(Protocol):
    """Stdin and stdout of a program there, or a socket there. One reader and one writer at a time."""

    async def read(self) -> bytes:
        """The next bytes, at most BLOCK; b"" at the end and ever after, also of a connection that was lost."""

    async def write(self, data: bytes) -> None:
        """Waits while the other side does not read. Raises ConnectionError when it never will."""

    async def end(self) -> None:
        """The other side reads an end of file; reading here goes on. Harmless twice."""

    def close(self) -> None:
        """Both directions, at once. Harmless twice."""

    async def ended(self) -> Ended:
        """Waits for the end of the program."""


class Connection(Protocol):
    """Made by the `dial` of its transport."""

    identity: str  # of the machine, for what is remembered of it: the host key's fingerprint, or the command's words
    transport: str  # asyncssh, openssh, command

    async def run(self, line: str) -> Stream:
        """Start `line` as the command of a login shell there. Raises HostUnreachable, HostRefused."""

    async def socket(self, path: str) -> Stream | None:
        """A stream to a Unix socket there; None where this transport or the server does not forward sockets.

        Raises FileNotFoundError when nobody listens there, as far as the server tells it apart.
        """

    async def lost(self) -> str:
        """Waits until the connection is no more; why, as a sentence."""

    def close(self) -> None:
        """Harmless twice. What runs there is told by the end of its streams only."""


@dataclass(frozen=True, slots=True)
class Question:
    """What only a person can answer. `kind`: host_key, password, passphrase, keyboard, confirm. `secret`: not to be echoed."""

    kind: str
    text: str
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Phase:
    """What goes on: dialing, authenticating, probing, fetching, uploading, installing, starting, connected.

    `done` of `total` bytes. `text`: "Python" for a portable one, which is fetched here and copied there before our code.
    """

    name: str
    text: str = ""
    done: int = 0
    total: int = 0


Ask = Callable[[Question], Awaitable[str | None]]  # None: nobody is there to be asked, or they did not answer
Tell = Callable[[Phase], None]
