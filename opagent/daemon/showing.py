"""The steps of a probe, one after the other, and what each one saw; speaks through `conformance.Line`, keeps no record."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent.acp import messages
from opagent.acp.connection import Asked, Refusal, Reply
from opagent.daemon.conformance import Line, allow, reject
from opagent.errors import AgentFailed
from opagent.model import RuntimeSpec
from opagent.packages import ability
from opagent.packages.ability import Record
from opagent.packages.rehearsal import marks, script
from opagent.process.supervisor import Launch, Process

if TYPE_CHECKING:
    from opagent.daemon.proving import Place

WORD = "marmalade"  # what it is told in one process and asked for in the next
TURN, SESSION, CANCEL, ANSWER, EOF, TERM = 60.0, 60.0, 10.0, 5.0, 4.0, 4.0  # seconds
_STAGE = Path(script.__file__).with_name("__main__.py")
_LAST = 300  # characters of what an agent wrote to stderr, for the sentence that says it failed


class Showing:
    """One probe. `seen` are fields of the record; `started` whether any process of it came up at all."""

    def __init__(self, spec: RuntimeSpec, where: Place, make: Callable[[], Launch]) -> None:
        self._spec, self._where, self._make = spec, where, make
        self._line: Line | None = None
        self._facts = messages.AgentFacts()
        self._able: dict[str, Any] = {}
        self._session = ""
        self.seen: dict[str, Any] = {"runtime": spec.name}
        self.notes: list[str] = []
        self.problem = ""
        self.started = False
        self._calls = 0  # of the model, before this turn

    def record(self) -> Record:
        return Record(**self.seen, notes=tuple(self.notes), problem=self.problem)

    async def close(self) -> None:
        if self._line is not None:
            line, self._line = self._line, None
            await line.process.stop(stdin=0.0, term=0.0)
            await line.close()

    @property
    def line(self) -> Line:
        assert self._line is not None
        return self._line

    async def all(self) -> None:
        """Every step. Raises OpAgentError where it cannot go on."""
        await self._begin(self._stdio())
        await self._hello()
        await self._write()
        await self._mcp()
        await self._cancel()
        await self._end("ends_at_eof")
        await self._again()
        if self.seen.get("mcp") == "":
            await self._over_http()

    # ---- the model and its journal -------------------------------------------------------------------------------------

    @property
    def _modelled(self) -> bool:
        """Whether a model decides what it does; else `probe.say` of the description tells what to say."""
        return bool(self._spec.model)

    def _journal(self) -> list[dict[str, Any]]:
        try:
            text = (self._where.stage / "journal").read_text("utf-8", "replace")
        except FileNotFoundError:
            return []
        found = []
        for line in text.splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # half a line: it is being written
        return [entry for entry in found if isinstance(entry, dict)]

    def _asked(self) -> list[dict[str, Any]]:
        """Requests to the model that offered tools."""
        return [entry for entry in self._journal() if entry.get("kind") == "model" and entry.get("tools")]

    def _order(self, verb: str, rest: str = "", **names: str) -> str:
        """What to say so that it does that; "" where nothing is known to."""
        if self._modelled:
            return f"{script.ORDER}{verb} {rest}".rstrip()
        said = str(self._spec.probe.get("say", {}).get(verb, ""))
        for name, value in names.items():
            said = said.replace("{" + name + "}", value)
        return said

    # ---- steps ---------------------------------------------------------------------------------------------------------

    async def _begin(self, servers: list[dict[str, Any]]) -> None:
        """A new process and a new session."""
        began = time.monotonic()
        await self._start()
        answer = await self.line.call("session/new", {"cwd": str(self._where.work), "mcpServers": servers}, SESSION)
        if isinstance(answer, Refusal) and servers and answer.code != messages.AUTH_REQUIRED:
            self.notes.append(f"it refused session/new with an MCP server: {answer.message}")
            answer = await self.line.call("session/new", {"cwd": str(self._where.work), "mcpServers": []}, SESSION)
        if not isinstance(answer, Reply):
            raise await self._failed("gave no session", answer)
        self.line.session = self._session = messages.as_text(answer.result.get("sessionId"))
        self.seen.setdefault("ready_ms", _ms(began))
        await self._set_mode(answer.result)

    async def _start(self) -> None:
        self._line = Line(await Process.start(self._make()))
        self.started = True
        within = self._spec.timeouts.get("ready", 60.0)
        answer = await self.line.call("initialize", messages.initialize(()), within)
        if not isinstance(answer, Reply):
            raise await self._failed("did not answer initialize", answer)
        self._facts = messages.facts(answer.result)
        self._able = messages.as_dict(answer.result.get("agentCapabilities"))
        self.seen["protocol"] = self._facts.protocol
        self.seen["agent"] = f"{self._facts.name} {self._facts.version}".strip()

    async def _failed(self, what: str, answer: Reply | Refusal | None) -> AgentFailed:
        said = f"it says: {self._how(answer)}" if answer else "no answer came"
        report = await self.line.process.stop(stdin=0.5, term=1.0)
        tail = report.stderr_tail.strip()[-_LAST:]
        return AgentFailed(f"{self._spec.name} {what}", f"{said}; it wrote: {tail}" if tail else said)

    async def _set_mode(self, session: dict[str, Any]) -> None:
        mode = self._spec.quirks.get("mode")
        if mode and (found := messages.choices(session, "mode", str(mode))) is not None:
            method, params = found
            answer = await self.line.call(method, {"sessionId": self._session, **params}, ANSWER)
            if not isinstance(answer, Reply):
                self.notes.append(f"it did not take the mode {mode}")

    async def _hello(self) -> None:
        """A plain turn: is there an end, is there usage?"""
        said = self._order("hello", word=WORD) or f"Hello. Remember the word {WORD}."
        text = f"Remember the word {WORD}.\n{said}" if self._modelled else said
        answer = await self.line.turn(text, allow, TURN)
        if self._modelled and not self._asked():
            raise await self._failed("did not ask the scripted model, or its description does not lead it there", answer)
        if not isinstance(answer, Reply):
            raise await self._failed("did not answer a prompt", answer)
        self._usage(answer, "first")

    async def _write(self) -> None:
        """Does it ask before it writes, does it keep to the answer, does it answer meanwhile?"""
        if not self._order("write"):
            return
        path = self._where.work / "allowed.txt"
        before: list[bool] = []

        async def look(asked: Asked) -> str:
            if not before:
                ping = await self.line.call("_opagent/ping", {}, ANSWER)  # anything but silence is an answer
                self.seen["answers_while_asking"] = ping is not None
            before.append(path.exists())
            return "allow_once"

        answer = await self.line.turn(self._order("write", f"{path} tea", file=path.name, text="tea"), look, TURN)
        if isinstance(answer, Reply):
            self._usage(answer, "second")
        if path.exists() or before:
            self.seen["asks"] = bool(before) and not before[0]
        else:
            self.notes.append(f"it did not write: {self._how(answer)}")
        if self.seen.get("asks"):
            path = self._where.work / "refused.txt"
            await self.line.turn(self._order("write", f"{path} tea", file=path.name, text="tea"), reject, TURN)
            self.seen["keeps_to_no"] = not path.exists()

    def _usage(self, answer: Reply, which: str) -> None:
        """The scripted model charges the same for every answer: how many were counted tells what the numbers mean."""
        calls = len(self._asked())
        told = messages.as_dict(answer.result.get("usage")).get("inputTokens")
        kinds = {update.get("sessionUpdate") for update in self.line.updates}
        self.seen["context"] = "usage_update" in kinds
        if not isinstance(told, int | float):
            self.seen.setdefault("usage", "")
            return
        before, self._calls = self._calls, calls
        counted, turn = round(told / script.INPUT), calls - before
        self.seen["usage"] = "reported"
        if self._modelled and which == "second" and turn > 1:
            counts = ((1, "last_call"), (turn, "turn"), (calls, "session"))  # some ask it in the background as well: up to
            self.seen["usage"] = next((meaning for most, meaning in counts if counted <= most), "reported")

    def _stdio(self) -> list[dict[str, Any]]:
        args = ["-I", "-S", str(_STAGE), "marks", str(self._where.stage)]
        return [{"name": "probe", "command": sys.executable, "args": args, "env": []}]

    def _served(self, how: str, method: str) -> bool:
        return any(e.get("kind") == "mcp" and e.get("how") == how and e.get("method") == method for e in self._journal())

    async def _mcp(self) -> None:
        """Was the server started that it was given, and is its tool called?"""
        self.seen["mcp"] = "stdio" if self._served("stdio", "initialize") else ""
        if self.seen["mcp"] and self._modelled:
            await self.line.turn(self._order("call", marks.TOOL), allow, TURN)
            self.seen["calls_mcp"] = self._served("stdio", "tools/call")

    async def _over_http(self) -> None:
        """The same with a server on the agent's own loopback, for those that take no other."""
        if messages.as_dict(self._able.get("mcpCapabilities")).get("http") is not True:
            return
        await self._begin([{"type": "http", "name": "probe", "url": f"http://127.0.0.1:{script.PORT}/mcp", "headers": []}])
        await self.line.turn(self._order("hello") or "Hello.", allow, TURN)
        if self._served("http", "initialize"):
            self.seen["mcp"] = "http"
            await self.line.turn(self._order("call", marks.TOOL), allow, TURN)
            self.seen["calls_mcp"] = self._served("http", "tools/call")
        await self.close()

    async def _cancel(self) -> None:
        """A turn that lasts is cancelled as soon as it says something."""
        if not (text := self._order("slow", words="word " * 1000)):
            return
        turn = await self.line.begin(text)
        for _ in range(100):  # until it speaks, or its model does
            if await self.line.heard(0.1) or turn.done() or any(entry.get("slow") for entry in self._journal()):
                break
        if turn.done():
            self.notes.append("a turn that was to last ended at once, so nothing was cancelled")
            return
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await self.line.cancel()
        answer = await self.line.finish(turn, allow, CANCEL)
        self.seen["cancel"] = answer is not None
        if answer is None:
            self.notes.append(f"a cancelled turn did not end within {CANCEL:.0f} s")
            return
        self.seen["cancel_ms"] = _ms(began)
        if self._how(answer) != "cancelled":
            self.seen["cancel"] = self._modelled  # its model alone would have gone on for half a minute
            self.notes.append(f"a cancelled turn ended with: {self._how(answer)}")
        after = await self.line.turn(self._order("hello", word=WORD) or "Hello.", allow, TURN)
        self.seen["works_after_cancel"] = isinstance(after, Reply)

    def _how(self, answer: Reply | Refusal | None) -> str:
        if isinstance(answer, Reply):
            return messages.as_text(answer.result.get("stopReason"))
        return answer.message[:200] if answer else "no answer"

    async def _again(self) -> None:
        """A new process comes back to the session; at the end a command of it runs while its input ends."""
        replays = self._facts.load and not self._modelled  # without a model the replay is all that shows what it knows
        how = "resume" if self._facts.resume and not replays else "load" if self._facts.load else ""
        self.seen["again"], self.seen["resume"] = how, False
        if not how:
            await self._begin([])
        elif not await self._came_back(how):
            await self.close()
            await self._begin([])
        await self._left()

    async def _came_back(self, how: str) -> bool:
        session = self._session
        await self._start()
        self.line.session = session
        params = messages.session_again(session, str(self._where.work), {})
        answer = await self.line.call(f"session/{how}", params, SESSION)
        if not isinstance(answer, Reply):
            self.notes.append(f"session/{how} failed: {self._how(answer)}")
            return False
        await self._set_mode(answer.result)
        replayed = WORD in json.dumps(self.line.updates)
        said = await self.line.turn(self._order("hello", word="") or "Hello again.", allow, TURN)
        if self._modelled:
            asked = self._asked()
            self.seen["resume"] = bool(asked) and WORD in str(asked[-1].get("words"))
        else:
            self.seen["resume"] = replayed or None
        return said is not None

    async def _left(self) -> None:
        started = self._where.work / "started"
        turn = None
        if self._modelled:
            turn = await self.line.begin(self._order("run", f"touch {started}; sleep 300"))
            running = asyncio.ensure_future(self.line.finish(turn, allow, TURN))
            for _ in range(100):
                if started.exists() or running.done():
                    break
                await asyncio.sleep(0.1)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            if not started.exists():
                self.notes.append("it ran no command of the model")
        await self._end("" if turn is not None else "ends_at_eof")

    async def _end(self, name: str) -> None:
        """The ladder, step by step. What is left is looked at in the box, when the agent itself has ended."""
        left = self._where.stage / "left"
        left.unlink(missing_ok=True)
        process = self.line.process
        await process.close_stdin()
        try:
            async with asyncio.timeout(EOF):
                await process.wait()
            at_eof = True
        except TimeoutError:
            at_eof = False
        if name:
            self.seen[name] = at_eof
        if not at_eof:
            await process.stop(stdin=0.0, term=TERM)
            self.seen["ends_at_term"] = left.exists()
            if not name:
                self.notes.append("while a command of it ran, it lived on after the end of its input")
        if left.exists():
            found = {*self.seen.get("left", ()), *json.loads(left.read_text("utf-8"))}
            self.seen["left"] = tuple(sorted(found))
        await self.line.close()
        self._line = None


def as_json(record: Record) -> dict[str, Any]:
    """The record, what a binding can need of it, and how it reads."""
    needs = {need: record.can(need) for need in ability.NEEDS}
    return {**dataclasses.asdict(record), "can": needs, "lines": [list(line) for line in ability.lines(record)]}


def _ms(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
