"""The client's half of the bootstrap: from an open connection to a multiplexed stream to the daemon there. Asks nothing twice.

What a program prints before our own marker (start-up files of the shell) is noise: skipped, and shown when we fail.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from opagent.errors import HostUnfit, HostUnreachable, OpAgentError, Usage, from_json
from opagent.remote import stage0, stage1
from opagent.remote.marks import Marks, Silent, harmless
from opagent.remote.payload import Payload
from opagent.remote.pythons import ROOM
from opagent.remote.seam import Connection, Phase, Stream, Tell

STALLED = 60.0  # seconds in which nothing of the upload was taken
_BLOCK = 32 * 1024
_PYTHON = re.compile(r"python (\d+) (.*?): ?(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is on a machine, as its landing told it; kept, so that the next time takes a round trip less."""

    home: str
    uid: int
    user: str
    socket: str
    python: str
    python_version: str
    version: str
    digest: str
    base: str
    started: bool  # this very time
    platform: str
    host_name: str

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def facts_from_json(data: dict[str, Any]) -> Facts:
    """Raises ValueError for what is not all of them."""
    try:
        texts: dict[str, Any] = {field.name: str(data[field.name]) for field in dataclasses.fields(Facts)}
        texts["uid"], texts["started"] = int(data["uid"]), data["started"] is True
        return Facts(**texts)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no facts of a machine: {error}") from error


@dataclass(frozen=True, slots=True)
class Landed:
    """`stream` speaks remote/mux.py from here on; `report` is the answer to another verb than `open`, and nothing follows it."""

    stream: Stream
    facts: Facts
    report: Any = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """`name`: the machine as the user calls it, for sentences; `python`: an interpreter there, tried first.

    `portable`: where one comes from when none there will do (remote/portable.py).
    """

    name: str = "the host"
    python: str = ""
    verb: str = "open"
    portable: str = ""


# Puts an interpreter on a machine that has none and gives its path; told what was found there, and the system.
Bring = Callable[[Connection, Tell, HostUnfit, str], Awaitable[str]]


async def attach(connection: Connection, facts: Facts) -> Stream | None:
    """A stream to the daemon that was there the last time; None when it is not, or sockets are not forwarded."""
    try:
        return await connection.socket(facts.socket)
    except (FileNotFoundError, ConnectionError):
        return None


async def bootstrap(
    connection: Connection,
    payload: Payload,
    tell: Tell,
    remembered: Facts | None = None,
    wanted: Wanted = Wanted(),
    bring: Bring | None = None,
) -> Landed:
    """`bring` is asked once, where no interpreter there will do.

    Raises HostUnfit, HostRefused, HostUnreachable, what `bring` raises, and what the daemon there raises when it cannot start.
    """
    python = wanted.python or (remembered.python if remembered else "")
    if wanted.python and not stage0.speakable(wanted.python):
        raise Usage("this path of a Python cannot be used", "it holds a quote or another special character", "link it elsewhere")
    shell, plain = "sh", False
    while True:
        tell(Phase("probing"))
        nonce = secrets.token_hex(8)
        stream = await connection.run(stage0.line(nonce, payload.digest, wanted.verb, python, shell, plain))
        landed = lacking = None
        try:
            landed = await _Landing(stream, nonce, payload, tell, wanted).run()
            return landed
        except Silent as error:  # `sh` is not on PATH, or something else is called so
            if shell != "sh":
                raise error.explained(wanted.name) from None
            shell = "/bin/sh"
        except _NothingFits as error:
            if not plain and error.new_enough():
                plain = True  # a Python that failed to unpack stage 1 may lack zlib
            elif bring is None:
                raise error.explained(wanted.name) from None
            else:
                lacking = error
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            hint = f"opagent host check {wanted.name}"
            raise HostUnfit(f"{wanted.name} answers what we do not understand", f"{error!r}", hint) from error
        finally:
            if landed is None:
                stream.close()
        await stream.ended()
        if lacking is not None and bring is not None:
            python = await bring(connection, tell, lacking.explained(wanted.name), lacking.system)
            bring, plain = None, False


class _NothingFits(Exception):
    """No interpreter there could take over. `tried`: (status, path, version)."""

    def __init__(self, tried: list[tuple[int, str, str]], lacks: list[str], system: str) -> None:
        super().__init__()
        self.tried, self.lacks, self.system = tried, lacks, system

    def new_enough(self) -> bool:
        """Whether one failed that should not have."""
        return any(
            status not in (stage1.TOO_OLD, stage1.LACKS) and _version(text) >= stage1.OLDEST for status, _, text in self.tried
        )

    def explained(self, name: str) -> HostUnfit:
        wanted = ".".join(map(str, stage1.OLDEST))
        found = [
            f"{path} is {text}" if _version(text) else f"{path} fails (status {status})" for status, path, text in self.tried
        ]
        system = " ".join(self.system.split()[:2]) or "unknown system"
        why = "; ".join(dict.fromkeys([*self.lacks, *found])) or f"there is no Python at all ({system})"
        return HostUnfit(f"{name} has no Python {wanted} or newer", why, f"opagent host add {name} --python auto|ARCHIVE|PATH")


def _version(text: str) -> tuple[int, ...]:
    found = re.search(r"Python (\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else ()


class _Landing:
    """One attempt on one stream."""

    def __init__(self, stream: Stream, nonce: str, payload: Payload, tell: Tell, wanted: Wanted) -> None:
        self._stream, self._payload, self._tell, self._wanted = stream, payload, tell, wanted
        self._marks = Marks(stream, nonce, wanted.name)
        self._uploaded = False
        self._tried: list[tuple[int, str, str]] = []
        self._lacks: list[str] = []

    async def run(self) -> Landed:
        while True:
            word = harmless(await self._marks.next())
            if word.startswith("{"):
                landed = await self._message(json.loads(word))
                if landed is not None:
                    return landed
            elif found := _PYTHON.fullmatch(word):
                self._tried.append((int(found[1]), found[2], found[3]))
            elif word.startswith("none"):
                raise _NothingFits(self._tried, self._lacks, word[4:].strip())

    async def _message(self, body: dict[str, Any]) -> Landed | None:
        if "ok" in body:
            facts = facts_from_json(body["ok"])
            self._tell(Phase("connected"))
            return Landed(_Rest(self._stream, self._marks.rest), facts, body.get("report"))
        if "need" in body and not self._uploaded:
            self._uploaded = True
            await self._upload([str(form) for form in body["forms"]])
        elif "got" in body:
            self._tell(Phase("installing"))
        elif "starting" in body:
            self._tell(Phase("starting"))
        elif "lacks" in body:
            self._lacks.append(f"{body.get('python')}: {body['lacks']}")
        elif "failed" in body:
            raise self._failure(body)
        return None

    def _failure(self, body: dict[str, Any]) -> OpAgentError:
        name = self._wanted.name
        if body["failed"] == "room":
            why = "; ".join(f"{base}: {problem}" for base, problem in body["bases"])
            return HostUnfit(f"{name} has no directory that takes our program", why, ROOM)
        if body["failed"] == "archive":
            return HostUnfit(f"{name} could not unpack our program", str(body.get("why")), f"opagent host check {name}")
        error = from_json(body)
        return type(error)(f"{name}: {error.what}", error.why, error.hint)

    async def _upload(self, understood: list[str]) -> None:
        form, data = self._payload.packed(understood)
        total = len(data)
        try:
            async with asyncio.timeout(STALLED) as stalled:
                await self._stream.write(f"{form} {total}".encode().ljust(stage1.HEAD))
                for start in range(0, total, _BLOCK):
                    self._tell(Phase("uploading", "", start, total))
                    await self._stream.write(data[start : start + _BLOCK])
                    stalled.reschedule(asyncio.get_running_loop().time() + STALLED)
        except TimeoutError:
            raise HostUnreachable(f"{self._wanted.name} takes no more bytes", f"none in {STALLED:g} s", "try again") from None
        except ConnectionError:
            return  # what was said before the end explains it
        self._tell(Phase("uploading", "", total, total))


class _Rest:
    """A stream of which something was read already."""

    def __init__(self, stream: Stream, rest: bytes) -> None:
        self._stream, self._rest = stream, rest
        self.write, self.end, self.close, self.ended = stream.write, stream.end, stream.close, stream.ended

    async def read(self) -> bytes:
        rest, self._rest = self._rest, b""
        return rest or await self._stream.read()
