"""The daemon's side of the proxy: starts it on demand and again when it ends, gives each agent its socket, decides every request.

    launch = await shared.network.attach(conversation, ident, launch)     # before the spawn; `detach(ident)` after the end
    shared.network.refuse(ident, "the budget is used up")                 # "" lets it go on
    shared.network.metered = lambda agent, usage: ...                     # what each answer of a model cost

Without the proxy nothing goes out: the agent's socket leads nowhere, and its network is its own.
(Design: security.md, "Network".)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent import files, paths
from opagent.daemon import connecting, keys, wayout
from opagent.daemon.connecting import Wanted
from opagent.daemon.wayout import Way
from opagent.errors import AgentFailed, OpAgentError
from opagent.jsonline import encode_line
from opagent.launch import module
from opagent.model import ConversationId, ProcessId
from opagent.process import relay
from opagent.process.secrets import fingerprint
from opagent.process.supervisor import Launch, Process

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.shared import Shared

log = logging.getLogger(__name__)

READY_WITHIN = 10.0  # seconds
AGAIN = (0.02, 0.1, 0.5)  # seconds until it is started again, the last for ever
_PASSED = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "LOCALDOMAIN", "RES_OPTIONS", "OPAGENT_TEST_ID")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one answer of a model; None: the answer does not say. `service`: the name of the secret that was put in."""

    conversation: ConversationId
    service: str
    status: int
    input: int | None
    output: int | None


@dataclass(eq=False, slots=True)
class Guest:
    """An agent that may use the proxy."""

    id: ProcessId
    conversation: Conversation
    token: str
    services: Mapping[str, Any]
    keys: Mapping[str, tuple[keys.Key, str]]  # with their fingerprints
    answers: connecting.Answers = field(default_factory=connecting.Answers)
    around: tuple[str, ...] = ()  # what stands before the argv of a program in a box like the agent's
    variables: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def message(self) -> dict[str, Any]:
        path = str(paths.agent_network(self.id))
        said = {"op": "open", "agent": self.id, "path": path, "token": self.token}
        return {**said, "refused": self.refused, "services": dict(self.services)}


class Network:
    """One per daemon."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._guests: dict[ProcessId, Guest] = {}
        self._process: Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._port = 0
        self._ready = asyncio.Event()
        self._open: dict[int, tuple[Guest, Wanted]] = {}  # what was allowed and is not over
        self._deciding: dict[int, asyncio.Task[None]] = {}
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.metered: Callable[[ProcessId, Usage], None] = lambda agent, usage: None

    # ---- agents ----------------------------------------------------------------------------------------------------------

    async def attach(self, c: Conversation, launch: Launch) -> Launch:
        """The launch, which has its box, with the way out and the secrets of its agent.

        Raises NotFound, Denied (a secret), AgentFailed (no proxy).
        """
        return await self.admit(c, launch, keys.keys(c.workspace, c.role), wayout.way(launch, c.workspace, c.role))

    async def admit(self, c: Conversation, launch: Launch, wanted: list[keys.Key], way: Way) -> Launch:
        """The same for these secrets and this way: of a program that runs for the agent in a box of its own."""
        found = await keys.values(c.workspace, wanted, self._shared.attended.lends)
        self._shared.known.keep({value: name for name, value in found.items() if value})
        by_proxy = {key.name: key for key in wanted if key.variable}
        env = {**launch.env, **{name: value for name, value in found.items() if name not in by_proxy}}
        if way is Way.NONE or (way is Way.OPEN and not by_proxy):
            return replace(launch, env=env)
        secret, token = keys.fingerprint_key(), keys.token()
        marks = {name: (key, fingerprint(secret, found[name])) for name, key in by_proxy.items()}
        guest = Guest(launch.id, c, token, {name: key.service(found[name]) for name, key in by_proxy.items()}, marks)
        await self._admit(guest)
        door = f"127.0.0.1:{relay.PORT if way is Way.RELAY else self._port}"
        for name, key in by_proxy.items():
            env |= {name: token, key.variable: f"http://{door}/-/{name}"}
        if way is not Way.OPEN:
            guest.variables = wayout.variables(f"http://{'' if way is Way.RELAY else f'opagent:{token}@'}{door}", c.workspace)
            env |= guest.variables
        inside = await asyncio.to_thread(wayout.through, replace(launch, env=env), c.workspace, self._port)
        guest.around = inside.argv[: len(inside.argv) - len(launch.argv)]
        return inside

    def also(self, ident: ProcessId, argv: tuple[str, ...], env: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, str]]:
        """A command that an agent runs through us, in a box like its own: with the agent's way out."""
        guest = self._guests.get(ident)
        return (argv, dict(env)) if guest is None else ((*guest.around, *argv), {**env, **guest.variables})

    async def _admit(self, guest: Guest) -> None:
        files.private_directory(paths.agent_sockets(guest.id))
        self._guests[guest.id] = guest
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="network")
        elif self._ready.is_set():
            self._say(guest.message())
        try:
            async with asyncio.timeout(READY_WITHIN):
                await guest.opened.wait()
        except TimeoutError as error:
            self.detach(guest.id)
            why = f"it is not ready within {READY_WITHIN:.0f} s, and nothing goes out without it"
            raise AgentFailed("the network proxy does not start", why, f"tail {paths.agent_log('network')}") from error

    def detach(self, ident: ProcessId) -> None:
        """The agent is gone: so are its socket and its connections."""
        guest = self._guests.pop(ident, None)
        if guest is None:
            return
        self._say({"op": "close", "agent": ident})
        guest.answers.end()
        shutil.rmtree(paths.agent_sockets(ident), ignore_errors=True)

    def refuse(self, ident: ProcessId, reason: str) -> None:
        """From its next request on; what runs goes on."""
        guest = self._guests.get(ident)
        if guest is not None and guest.refused != reason:
            guest.refused = reason
            self._say({"op": "refuse", "agent": ident, "why": reason})

    def answered(self, ident: ProcessId, request: str, turn: str, allow: bool, why: str) -> None:
        """What a person said to a question, or its end."""
        if (guest := self._guests.get(ident)) is not None:
            guest.answers.put(request, turn, allow, why)

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._process is not None:
            await self._process.stop(stdin=1.0, term=0.0)

    def _known(self, ident: ProcessId) -> bool:
        """Whether an agent of this daemon has sockets."""
        return ident in self._guests or ident in self._shared.lines

    # ---- the process -----------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """For ever: a proxy that ended is there again within a second."""
        failures = 0
        await asyncio.to_thread(_sweep, paths.agent_sockets(""), self._known)
        while True:
            try:
                await self._run()
                failures = 0
            except OpAgentError as error:
                log.error("the network proxy cannot be started: %s", error)
                failures += 1
            for guest in self._guests.values():
                guest.opened.clear()
            self._ready.clear()
            for task in self._deciding.values():
                task.cancel()
            for number in list(self._open):
                await self._over({"id": number, "sent": 0, "received": 0, "error": "the proxy ended"})
            await asyncio.sleep(AGAIN[min(failures, len(AGAIN) - 1)])

    async def _run(self) -> None:
        env = {name: os.environ[name] for name in _PASSED if name in os.environ}
        ident = self._shared.new_process()
        argv = (sys.executable, *module("opagent.process.network"), str(self._port))
        files.private_directory(paths.agent_log("network").parent)
        launch = Launch(ident, argv, "/", env, paths.agent_log("network"))
        self._outbox = asyncio.Queue()
        self._process = process = await Process.start(launch)
        writing = asyncio.create_task(self._write(process), name="network-writer")
        try:
            held = b""
            while data := await process.read():
                *lines, held = (held + data).split(b"\n")
                for line in lines:
                    await self._told(json.loads(line))
        finally:
            writing.cancel()
            if not process.ended:
                await process.stop(stdin=0.2, term=0.0)
        log.warning("the network proxy ended: %s", (await process.wait()).sentence())

    async def _write(self, process: Process) -> None:
        with contextlib.suppress(OpAgentError):  # its end is noticed where it is read
            while True:
                await process.send(await self._outbox.get())

    def _say(self, said: Mapping[str, Any]) -> None:
        self._outbox.put_nowait(encode_line(dict(said)))

    async def _told(self, said: Mapping[str, Any]) -> None:
        guest = self._guests.get(said.get("agent", ""))
        match said["op"]:
            case "ready":
                self._port = said["port"]
                self._ready.set()
                for each in self._guests.values():
                    self._say(each.message())
            case "opened" if guest is not None:
                guest.opened.set()
            case "may":
                number = said["id"]
                task = asyncio.create_task(self._decide(number, guest, said), name=f"network-{number}")
                self._deciding[number] = task
                task.add_done_callback(lambda _: self._deciding.pop(number, None))
            case "gone" if (deciding := self._deciding.get(said["id"])) is not None:
                deciding.cancel()
            case "end":
                await self._over(said)
            case "deny" if guest is not None:
                self._shared.spawn(connecting.refused(guest.conversation, guest.answers.refusals, said), "net.deny")
            case "usage" if guest is not None:
                usage = Usage(guest.conversation.record.id, said["service"], said["status"], said["input"], said["output"])
                self.metered(guest.id, usage)

    # ---- requests --------------------------------------------------------------------------------------------------------

    async def _decide(self, number: int, guest: Guest | None, said: Mapping[str, Any]) -> None:
        verdict, secret = connecting.Verdict(False, "this agent is gone"), ""
        if guest is not None:
            key, mark = guest.keys.get(said["service"], (None, ""))
            wanted = Wanted(guest.id, said["host"], said["port"], key, mark)
            try:
                secret = await self._lent(guest, wanted) if key is not None and key.lent else ""
                verdict = await connecting.decided(guest.conversation, wanted, guest.answers)
            except OpAgentError as error:  # what cannot be recorded does not happen
                verdict = connecting.Verdict(False, str(error))
            if verdict.allow:
                self._open[number] = guest, wanted
        said_back = {"allow": verdict.allow, "why": verdict.why, "named": list(verdict.named), "secret": secret}
        self._say({"op": "verdict", "id": number, **said_back})

    async def _lent(self, guest: Guest, wanted: Wanted) -> str:
        """A secret of the person's own machine, for this request. Raises Denied, which is recorded as any refusal."""
        assert wanted.key is not None
        c = guest.conversation
        try:
            value = await self._shared.attended.secret(wanted.key, c.role, c.workspace.path)
        except OpAgentError as error:
            said = {"agent": guest.id, "host": wanted.host, "port": wanted.port, "why": str(error)}
            await connecting.refused(c, guest.answers.refusals, said)
            raise
        self._shared.known.keep({value: wanted.key.name})
        wanted.mark = fingerprint(keys.fingerprint_key(), value)
        return value

    async def _over(self, said: Mapping[str, Any]) -> None:
        guest, wanted = self._open.pop(said["id"], (None, None))
        if guest is not None and wanted is not None:
            self._shared.spawn(connecting.over(guest.conversation, wanted, said), "net.connect")


def _sweep(folder: Path, known: Callable[[ProcessId], bool]) -> None:
    """What an earlier daemon left when it was killed."""
    for left in folder.iterdir():
        if not known(ProcessId(left.name)):
            shutil.rmtree(left, ignore_errors=True)
