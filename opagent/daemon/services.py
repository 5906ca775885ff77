"""The client services of ACP for a runtime that asks for them: files beneath the workspace, terminals; each under the policy.

Off unless `runtime.yaml` says `client: [fs, terminal]`. A file is opened beneath the workspace's descriptor, whatever
links say; the decision is taken on our action, never on what the agent calls it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent import jsonrpc
from opagent.acp.connection import Asked
from opagent.acp.messages import REQUEST_CANCELLED, as_text
from opagent.acp.permission import Permission
from opagent.daemon import beneath, confinement, enforcing, questions, served
from opagent.daemon import workspace as workspace_of
from opagent.daemon.asking import Question
from opagent.daemon.effects import Act
from opagent.errors import FileRefused, OpAgentError
from opagent.model import Approval, ApprovalId, ApprovalState, Decision, Effect
from opagent.policy import remembering
from opagent.process.supervisor import Launch, Process
from opagent.store.effects import State
from opagent.store.events import AuditKind

if TYPE_CHECKING:
    from opagent.daemon.agent import Agent
    from opagent.daemon.conversation import Conversation

READ_LIMIT = 8 * 2**20
WORDS = 300  # characters of an error that the agent is told
OUTPUT_LIMIT = 2**20  # bytes of a terminal's output that are kept, newest last
TERMINALS = 16
_ENDED = 5.0  # seconds
_UNCONFINED = Decision(Effect.ASK, "commands outside a sandbox are always asked", "built-in", "acp")
_NOT_FOUND, _DENIED, _INVALID = -32002, -32003, jsonrpc.INVALID_PARAMS


@dataclass(slots=True)
class Terminal:
    """A command that the agent runs through us."""

    process: Process
    limit: int
    effect: int  # the record of its start
    output: bytearray = field(default_factory=bytearray)
    truncated: bool = False
    waiting: list[jsonrpc.Id] = field(default_factory=list)
    status: dict[str, Any] | None = None
    followed: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Bound:
    """What a person's answer is bound to beside the request itself: where it really leads, and for a write what stands there."""

    place: str
    target: str = ""
    again: int = 0  # how often an answer did not fit any more

    def digest(self, of: str) -> str:
        return hashlib.sha256(json.dumps([of, self.place, self.target]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is done for an agent, at which real path, and why. `target`: what must stand there still when it is replaced."""

    request: Asked
    place: str
    decision: Decision
    approval: ApprovalId | None = None
    target: str | None = None


class Changed(Exception):
    """A file is not what a person was shown."""


class Services:
    """One per running agent that asked for services."""

    def __init__(self, conversation: Conversation, agent: Agent) -> None:
        self._c, self._agent = conversation, agent
        self._terminals: dict[str, Terminal] = {}
        self._asked: dict[int, tuple[Bound, Decision]] = {}  # by the request's number

    def takes(self, method: str) -> bool:
        service = method.partition("/")[0]
        return service in ("fs", "terminal") and service in self._agent.role.services

    async def serve(self, request: Asked, again: int = 0) -> None:
        """Answer now, or ask a person first."""
        params = request.params
        try:
            match request.method:
                case "fs/read_text_file":
                    await self._decided(request, "read", self._bound(request, again))
                case "fs/write_text_file":
                    await self._decided(request, "write", await asyncio.to_thread(self._bound, request, again))
                case "terminal/create":
                    await self._command(request, self._bound(request, again))
                case "terminal/output" | "terminal/wait_for_exit" | "terminal/kill" | "terminal/release":
                    await self._terminal(request, self._terminals[as_text(params.get("terminalId"))])
                case _:
                    self._agent.refuse(request.id, jsonrpc.METHOD_NOT_FOUND, f"no method {request.method!r}")
        except KeyError:
            self._agent.refuse(request.id, _NOT_FOUND, "no such terminal")
        except ValueError as error:
            self._agent.refuse(request.id, _INVALID, str(error))

    def _bound(self, request: Asked, again: int = 0) -> Bound:
        """As things are at this moment. Raises ValueError for a place that leaves the workspace."""
        workspace, params = self._c.workspace.path, request.params
        match request.method:
            case "fs/write_text_file":
                place = beneath.real_path(workspace, as_text(params.get("path")), False)
                return Bound(place, beneath.identity(workspace, place, READ_LIMIT), again)
            case "fs/read_text_file":
                return Bound(beneath.real_path(workspace, as_text(params.get("path")), True), again=again)
        return Bound(os.path.realpath(as_text(params.get("cwd")) or workspace), again=again)

    async def _decided(self, request: Asked, kind: str, bound: Bound) -> None:
        decision = self._c.workspace.decide(kind, bound.place)
        if decision.effect is Effect.ASK:
            changes = [await asyncio.to_thread(self._change, bound.place, request.params)] if kind == "write" else []
            await self._ask(request, served.permission(kind, {"command": f"{kind} {bound.place}"}, changes), decision, bound)
        elif decision.effect is Effect.DENY:
            await self._refuse(Wanted(request, bound.place, decision), f"{kind} of {bound.place} is denied by {decision.rule}")
        else:
            await self._perform(Wanted(request, bound.place, decision))

    async def _refuse(self, wanted: Wanted, words: str) -> None:
        await self._c.shared.effects.denied(await asyncio.to_thread(served.act, self._c, self._agent, wanted), words)
        self._agent.refuse(wanted.request.id, _DENIED, words)

    async def _command(self, request: Asked, bound: Bound) -> None:
        """A command runs as the agent does: in its sandbox the rules decide, and outside of one a person does, each time."""
        permission, argv = served.command(request.params), served.argv(request.params)
        plain = remembering.words_of(as_text(request.params.get("command"))) if argv[:2] == served.SHELL else ()
        said = [self._c.workspace.decide("exec", words) for words in (argv, plain) if words]
        decision = max(said, key=lambda each: each.effect)
        confined = enforcing.stands(self._agent).confined
        if decision.effect is Effect.DENY:
            await self._refuse(Wanted(request, bound.place, decision), f"the command is denied by {decision.rule}")
        elif confined and decision.effect is Effect.ALLOW:
            await self._perform(Wanted(request, bound.place, decision))
        else:
            await self._ask(request, permission, decision if confined else _UNCONFINED, bound, leaving=not confined)

    async def _ask(self, request: Asked, permission: Permission, decision: Decision, bound: Bound, leaving: bool = False) -> None:
        """Put it to a person, unless they said before what shall be. `leaving`: the sandbox, which counts once."""
        running = self._c.current
        if running is None:
            self._agent.refuse(request.id, _DENIED, "nobody can be asked outside a turn")
            return
        same = permission.same if permission.kind == "execute" else [bound.place]
        pattern = "" if leaving else remembering.literal(permission.kind, same)
        earlier = self._c.shared.approvals.remembered(self._c, permission.kind, pattern)
        if earlier is not None:
            wanted = Wanted(request, bound.place, workspace_of.earlier(earlier))
            if earlier.effect is Effect.ALLOW:
                await self._perform(wanted)
            else:
                await self._refuse(wanted, f"denied by {wanted.decision.rule}")
        else:
            self._asked[request.number] = bound, decision
            question = Question.of(permission, decision, pattern)
            question = replace(question, digest=bound.digest(permission.digest), again=bound.again)
            await questions.put(self._c, running, request, question)

    def taken_back(self, ident: jsonrpc.Id) -> None:
        """The agent no longer waits for the end of a command."""
        for terminal in self._terminals.values():
            if ident in terminal.waiting:
                terminal.waiting.remove(ident)
                self._agent.refuse(ident, REQUEST_CANCELLED, "taken back")

    async def answered(self, approval: Approval, request: Asked) -> None:
        """A person's answer to one of our questions; a yes counts for exactly what they were shown."""
        bound, decision = self._asked.pop(request.number)
        wanted = Wanted(request, bound.place, replace(decision, effect=Effect.ALLOW), approval.id, bound.target)
        if approval.state is not ApprovalState.ALLOWED:
            denied = replace(wanted, decision=replace(decision, effect=Effect.DENY))
            await self._refuse(denied, _why_not(approval))
            return
        try:
            now = await asyncio.to_thread(self._bound, request, bound.again)
        except ValueError as error:
            now = Bound(str(error))
        if now == bound and await self._perform(wanted):
            return
        why = f"{bound.place} changed between the question and the answer"
        await self._c.shared.approvals.void_answer(self._c, approval.id, why)
        await self._c.note(f"the answer to {approval.id} does not count: {why}; it is asked again", {"approval": approval.id})
        await self.serve(request, bound.again + 1)

    async def _perform(self, wanted: Wanted) -> bool:
        """Do it; a file is the one decided on, by its real path, whatever has become of the links to it.

        False where that is not there any more which `wanted` replaces: nothing was done or said.
        """
        request = wanted.request
        try:
            result = await (self._create(wanted) if request.method == "terminal/create" else self._file(wanted))
        except Changed:
            return False
        except FileNotFoundError:
            self._agent.refuse(request.id, _NOT_FOUND, "no such file")
        except ValueError as error:
            self._agent.refuse(request.id, _INVALID, str(error)[:WORDS])
        except (OSError, OpAgentError) as error:
            self._agent.refuse(request.id, _DENIED, (getattr(error, "strerror", None) or str(error))[:WORDS])
        else:
            self._agent.answer(request.id, result)
        return True

    # ---- files -------------------------------------------------------------------------------------------------------

    async def _file(self, wanted: Wanted) -> dict[str, Any]:
        """Recorded before, with what stands there and what will; and how it ended."""
        params, place, top = wanted.request.params, wanted.place, self._c.workspace.path
        act = await asyncio.to_thread(served.act, self._c, self._agent, wanted)
        async with self._c.shared.effects.of(act) as doing:
            if act.kind is AuditKind.FS_READ:
                content = await asyncio.to_thread(beneath.read, top, place, READ_LIMIT)
                doing.adds = {"size": len(content), "after": hashlib.sha256(content).hexdigest()}
                return self._part(content, params)
            if not await asyncio.to_thread(beneath.write, top, place, served.content(params), wanted.target):
                raise Changed("it changed between the question and the answer")
        self._c.aftermath.written[str(act.obj["path"])] = str(act.obj["after"])
        if self._c.current is not None:
            self._c.current.watch.wrote(place, str(act.obj["after"]))
        return {}

    @staticmethod
    def _part(content: bytes, params: dict[str, Any]) -> dict[str, Any]:
        text = content.decode("utf-8", "replace")
        first, count = params.get("line"), params.get("limit")
        if first is None and count is None:
            return {"content": text}
        lines = text.splitlines(keepends=True)
        start = max(0, (first if isinstance(first, int) else 1) - 1)
        return {"content": "".join(lines[start : start + count if isinstance(count, int) else None])}

    def _change(self, relative: str, params: dict[str, Any]) -> dict[str, str]:
        """What would become of the file, as a person is shown it; of one that cannot be read nothing is shown as taken out."""
        try:
            old = beneath.read(self._c.workspace.path, relative, READ_LIMIT).decode("utf-8", "replace")
        except (OSError, FileRefused):
            old = ""
        return {"type": "diff", "path": relative, "oldText": old, "newText": as_text(params.get("content"))}

    # ---- terminals ---------------------------------------------------------------------------------------------------

    async def _create(self, wanted: Wanted) -> dict[str, Any]:
        params = wanted.request.params
        if len(self._terminals) >= TERMINALS:
            raise ValueError(f"more than {TERMINALS} terminals")
        cwd = as_text(params.get("cwd")) or self._c.workspace.path
        if os.path.commonpath([os.path.realpath(cwd), self._c.workspace.path]) != self._c.workspace.path:
            raise ValueError("the directory of a terminal must lie in the workspace")
        argv = served.argv(params)
        env = {**self._c.workspace.environment_of(self._c.record, self._agent.id), **served.variables(params)}
        name = self._c.shared.new_process()
        log = Path(os.devnull)
        act = replace(served.act(self._c, self._agent, wanted), process=name)
        held = self._agent.box
        box = confinement.box(self._agent.plan, held.profile, name) if held is not None else None  # as the agent itself
        env |= self._c.shared.lines.variables(self._agent.id)
        argv, env = self._c.shared.network.also(self._agent.id, argv, env)
        effect = await self._c.shared.effects.begin(act)
        try:
            process = await Process.start(Launch(name, argv, os.path.realpath(cwd), env, log, box=box))
        except (OSError, OpAgentError) as error:
            await self._c.shared.effects.end(effect, act, State.FAILED, error=str(error))
            raise
        limit = params.get("outputByteLimit")
        most = min(limit, OUTPUT_LIMIT) if isinstance(limit, int) and limit > 0 else OUTPUT_LIMIT
        terminal = self._terminals[name] = Terminal(process, most, effect)
        await process.close_stdin()
        terminal.followed = self._c.shared.spawn(self._follow(terminal, act), f"terminal-{name}")
        return {"terminalId": name}

    async def _follow(self, terminal: Terminal, act: Act) -> None:
        while data := await terminal.process.read():
            terminal.output += data
            if len(terminal.output) > terminal.limit:
                del terminal.output[: len(terminal.output) - terminal.limit]
                terminal.truncated = True
        report = await terminal.process.wait()
        name = served.signal_name(report.signal) if report.signal else None
        terminal.status = {"exitCode": report.code, "signal": name}
        terminal.output += report.stderr_tail.encode()
        ended = State.DONE if report.code == 0 else State.FAILED
        await self._c.shared.effects.end(terminal.effect, act, ended, {"code": report.code, "signal": name})
        for ident in terminal.waiting:
            self._agent.answer(ident, terminal.status)

    async def _terminal(self, request: Asked, terminal: Terminal) -> None:
        match request.method:
            case "terminal/output":
                kept = _whole_letters(terminal.output) if terminal.truncated else terminal.output
                text = kept.decode("utf-8", "replace")
                self._agent.answer(request.id, {"output": text, "truncated": terminal.truncated, "exitStatus": terminal.status})
            case "terminal/wait_for_exit":
                if terminal.status is not None:
                    self._agent.answer(request.id, terminal.status)
                else:
                    terminal.waiting.append(request.id)
            case _:
                if request.method == "terminal/release":
                    del self._terminals[as_text(request.params.get("terminalId"))]
                if terminal.status is None:
                    await terminal.process.stop(stdin=0.0, term=1.0)
                self._agent.answer(request.id, {})

    async def close(self) -> None:
        """The agent is gone: so are its commands."""
        for terminal in self._terminals.values():
            await terminal.process.stop(stdin=0.0, term=0.0)
        if ends := [terminal.followed for terminal in self._terminals.values() if terminal.followed]:
            await asyncio.wait(ends, timeout=_ENDED)  # so that their ends are in the record
        self._terminals.clear()


def _why_not(approval: Approval) -> str:
    """What the agent is told: who said no, in their own words, and the rule that made it a question."""
    why = f": {approval.reason}" if approval.reason else ""
    return f"{approval.state.value} by {approval.answered_by}{why[:WORDS]} (asked by {approval.rule})"


def _whole_letters(output: bytearray) -> bytearray:
    """Without the end of a letter whose beginning was cut off."""
    return output[:3].lstrip(bytes(range(0x80, 0xC0))) + output[3:]
