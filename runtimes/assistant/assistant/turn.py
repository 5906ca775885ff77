"""One turn: the model is asked, its tools are used, until it has said all. A cancel ends it anywhere."""

import asyncio
import itertools
import json
import os
import secrets
from collections.abc import Sequence

from assistant import compaction, endpoint, prompt, running
from assistant.asking import EndpointError, Model
from assistant.endpoint import Endpoint
from assistant.files import ToolFailed
from assistant.mcp import ServerTool
from assistant.session import Session
from assistant.talk import Answer, Ask, Body, Call, Message, Tool, Usage, whole
from assistant.tools import BUILTINS, BY_NAME, Builtin, Hands, arguments
from assistant.wire import Connection

MOST_REQUESTS = 100  # to the model in one turn
MOST_OUTPUT = 30_000  # characters of a tool's answer; less where the context is small
SHOWN = 8_000  # characters of it that a person sees
_OPTIONS = [
    {"optionId": "allow", "name": "Allow", "kind": "allow_once"},
    {"optionId": "reject", "name": "Reject", "kind": "reject_once"},
]
_STOPS = {"end": "end_turn", "tools": "end_turn", "length": "max_tokens", "refusal": "refusal"}


class PersonCancelled(Exception):
    """A question was answered with "cancelled": the turn is over."""


class Turn:
    def __init__(self, session: Session, connection: Connection, model: Model, servers: Sequence[ServerTool], able: Body) -> None:
        self._session, self._connection, self._model = session, connection, model
        self._servers = {tool.tool.name: tool for tool in servers}
        self._able = able  # the client's session capabilities: notices, compaction
        self._usage = Usage()
        self._said: list[str] = []  # of the answer that is on its way
        self._changes = asyncio.Lock()  # one change after the other, in whatever order questions are answered
        self._numbers, self._prefix = itertools.count(1), secrets.token_hex(3)

    async def run(self, text: str) -> Body:
        """The result of `session/prompt`. Raises NoModel, EndpointError."""
        found = endpoint.find(os.environ, self._session.model)
        if text.strip() == "/compact":
            await self._compact(found)
            return self._result("end_turn")
        self._session.add(Message("user", text))
        try:
            return self._result(await self._steps(found))
        except asyncio.CancelledError:
            if said := "".join(self._said).strip():
                self._session.messages.append(Message("assistant", f"{said}\n\n[cut off by the person]"))
            self._session.messages = whole(self._session.messages)
            self._session.save()
            return self._result("cancelled")

    async def _steps(self, found: Endpoint) -> str:
        for _ in range(MOST_REQUESTS):
            if compaction.due(self._fill(), found.context):
                await self._compact(found)
            answer = await self._ask(found)
            calls = answer.calls if answer.stop == "tools" else ()
            self._session.add(Message("assistant", answer.text, calls))
            if not calls:
                return _STOPS[answer.stop]
            try:
                async with asyncio.TaskGroup() as group:
                    for call in calls:
                        group.create_task(self._call(call, found))
            except* PersonCancelled:
                raise asyncio.CancelledError from None
        return "max_turn_requests"

    def _fill(self) -> int:
        """Tokens that the next request takes, at least: as reported, and what came since as estimated."""
        return max(self._session.used, sum(message.size for message in self._session.messages))

    # -- the model

    async def _ask(self, found: Endpoint) -> Answer:
        try:
            return await self._once(found)
        except EndpointError as error:
            if not error.too_long:
                raise
            await self._compact(found)
            return await self._once(found)

    async def _once(self, found: Endpoint) -> Answer:
        session = self._session
        most = max(256, min(8192, found.context // 4))
        ask = Ask(found.model, prompt.system(session), tuple(session.messages), tuple(self._offered()), most)
        self._said.clear()
        answer = await self._model.ask(found, ask, self._show, self._tell)
        self._said.clear()
        self._spent(found, answer.usage)
        return answer

    def _offered(self) -> list[Tool]:
        plan = self._session.mode == "plan"
        own = [each.tool for each in BUILTINS if not (plan and each.changes)]
        return own + [each.tool for each in self._servers.values() if not plan or each.reads_only]

    def _spent(self, found: Endpoint, usage: Usage, fills: bool = True) -> None:
        session = self._session
        self._usage += usage
        session.spent += usage
        if not usage.known:
            return
        if fills:
            session.used = usage.input + usage.output
        body: Body = {"used": session.used, "size": found.context}
        if found.price is not None:
            session.cost += found.price.of(usage)
            body["cost"] = {"amount": round(session.cost, 6), "currency": found.price.currency}
        self._connection.update(session.id, "usage_update", **body)

    async def _compact(self, found: Endpoint) -> None:
        """Raises EndpointError."""
        session = self._session
        older, kept = compaction.split(session.messages, found.context)
        if not older:
            if session.messages:
                raise EndpointError("the last message alone is too long for the model's context")
            return
        ident = f"compaction-{self._prefix}-{next(self._numbers)}"
        self._compaction(ident, "in_progress")
        try:
            ask = compaction.question(found.model, older, found.context)
            answer = await self._model.ask(found, ask, lambda kind, words: None, self._tell)
            if not answer.text.strip():
                raise EndpointError("the model gave no summary of the conversation")
        except BaseException as error:
            self._compaction(ident, "cancelled" if isinstance(error, asyncio.CancelledError) else "failed")
            raise
        session.messages = compaction.shortened(answer.text, kept)
        self._spent(found, answer.usage, fills=False)
        session.used = sum(message.size for message in session.messages)
        session.save()
        self._compaction(ident, "completed")

    # -- what is shown

    def _show(self, kind: str, words: str) -> None:
        if kind == "text":
            self._said.append(words)
        update = "agent_message_chunk" if kind == "text" else "agent_thought_chunk"
        self._connection.update(self._session.id, update, content={"type": "text", "text": words})

    def _tell(self, sentence: str) -> None:
        """Something about the model that a person should know: it takes longer, and why."""
        if self._said:
            self._show("text", "\n\n")
            self._said.clear()
        if "notices" in self._able:
            self._connection.update(self._session.id, "notice", severity="warning", title=sentence)
        else:
            self._show("thought", f"{sentence}\n")

    def _compaction(self, ident: str, status: str) -> None:
        if "compaction" in self._able:
            self._connection.update(self._session.id, "compaction_update", compactionId=ident, status=status)
        elif status != "in_progress":
            self._show("thought", f"compaction of the conversation: {status}\n")

    # -- tools

    async def _call(self, call: Call, found: Endpoint) -> None:
        """One call from the model to its answer in the conversation."""
        limit = min(MOST_OUTPUT, found.context // 2)
        shown = Shown(self, f"call-{self._prefix}-{next(self._numbers)}")
        try:
            given = arguments(call.arguments)
            builtin, server = BY_NAME.get(call.name), self._servers.get(call.name)
            if builtin is not None:
                text = await self._own(builtin, given, shown, limit)
            elif server is not None:
                if self._session.mode == "plan" and not server.reads_only:
                    raise ToolFailed("in the mode `plan` only tools that read are used")
                shown.begin(f"{server.server}: {server.name}", "other", given)
                text = await server.call(given)
            else:
                raise ToolFailed(f"there is no tool {call.name[:100]}")
            text, failed = running.bounded(text, limit), False
        except ToolFailed as error:
            text, failed = running.bounded(str(error), limit), True
        except asyncio.CancelledError:
            shown.end("failed", "cancelled")
            raise
        shown.end("failed" if failed else "completed", text, call.name)
        self._session.add(Message("tool", text, call=call.id, failed=failed))

    async def _own(self, builtin: Builtin, given: Body, shown: "Shown", limit: int) -> str:
        path = given.get("path")
        places = [os.path.join(self._session.cwd, path)] if isinstance(path, str) and "\0" not in path else []
        shown.begin(builtin.title(given), builtin.kind, given, places)
        if builtin.changes and self._session.mode == "plan":
            raise ToolFailed("in the mode `plan` nothing is written and nothing is run")
        hands = Hands(self._session.cwd, shown.may, limit)
        if not builtin.changes:
            return await builtin.work(hands, given)
        async with self._changes:
            return await builtin.work(hands, given)

    def _result(self, reason: str) -> Body:
        body: Body = {"stopReason": reason}
        if self._usage.known:
            total = self._usage.input + self._usage.output
            counts = {"inputTokens": self._usage.input, "outputTokens": self._usage.output, "totalTokens": total}
            body["usage"] = counts | ({"cachedReadTokens": self._usage.cached} if self._usage.cached else {})
        return body


class Shown:
    """A tool call as the client sees it."""

    def __init__(self, turn: Turn, ident: str) -> None:
        self._turn = turn
        self._call: Body = {"toolCallId": ident}
        self._begun = False

    def begin(self, title: str, kind: str, given: Body, places: Sequence[str] = ()) -> None:
        self._begun = True
        self._call |= {"title": title[:500], "kind": kind, "rawInput": given}
        self._call |= {"locations": [{"path": place} for place in places]} if places else {}
        self._update("tool_call", **self._call, status="pending")

    def end(self, status: str, text: str, name: str = "") -> None:
        if not self._begun:
            self._update("tool_call", **self._call, title=name[:100] or "a tool", status="pending")
        content = [{"type": "content", "content": {"type": "text", "text": running.bounded(text, SHOWN)}}]
        kept = [each for each in self._call.get("content", []) if each["type"] == "diff"]
        self._update("tool_call_update", toolCallId=self._call["toolCallId"], status=status, content=[*kept, *content])

    async def may(self, content: list[Body]) -> None:
        """Asks the person, in the mode `ask`. Raises ToolFailed for a no, PersonCancelled."""
        turn = self._turn
        if content:
            self._call["content"] = content
        if turn._session.mode == "ask":
            params = {"sessionId": turn._session.id, "toolCall": {**self._call, "status": "pending"}, "options": _OPTIONS}
            answer = await turn._connection.request("session/request_permission", params)
            outcome = answer["result"].get("outcome") if isinstance(answer.get("result"), dict) else None
            outcome = outcome if isinstance(outcome, dict) else {}
            if outcome.get("outcome") == "cancelled":
                raise PersonCancelled
            if outcome.get("optionId") != "allow":
                raise ToolFailed("the person did not allow this")
        self._update(
            "tool_call_update",
            toolCallId=self._call["toolCallId"],
            status="in_progress",
            **({"content": content} if content else {}),
        )

    def _update(self, update_kind: str, /, **body: object) -> None:
        self._turn._connection.update(self._turn._session.id, update_kind, **body)


def replayed(message: Message, connection: Connection, session: str) -> None:
    """A message of an earlier process, for a client that loads the session."""
    kinds = {"user": "user_message_chunk", "assistant": "agent_message_chunk"}
    if message.role in kinds and message.text:
        connection.update(session, kinds[message.role], content={"type": "text", "text": message.text})
    for call in message.calls:
        try:
            given = json.loads(call.arguments)
        except (ValueError, RecursionError):
            given = call.arguments
        connection.update(session, "tool_call", toolCallId=call.id, title=call.name, status="completed", rawInput=given)
