"""A conversation's events as an editor is told them: `session/update` bodies, live and as the history of a session. Pure.

API: `Shown`, `History`. Only kinds and fields of the protocol's schema come out: an editor that checks what it reads must not
lose a turn over one of an agent's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from opagent.acp.editor import Editor, ending, options_for
from opagent.acp.messages import Body, as_dict, as_list, as_text
from opagent.model import Event, Kind

FINAL = ("done", "failed", "interrupted", "cancelled")
_CALL_KINDS = ("read", "edit", "delete", "move", "search", "execute", "think", "fetch", "switch_mode", "other")
_CALL_STATES = ("pending", "in_progress", "completed", "failed")
_PRIORITIES, _STATES = ("high", "medium", "low"), ("pending", "in_progress", "completed")
_BLOCKS = {
    "text": "text",
    "image": "data",
    "audio": "data",
    "resource_link": "uri",
    "resource": "resource",
}  # and what each must have
_ANSWERED = ("current_mode_update", "config_option_update", "notice")  # of a history: the answer itself says how it is now
_HEADING = re.compile(r"\A\s*## [^\n]*\n")
_SAME = ("locations", "rawInput", "rawOutput")


class Shown:
    """What one editor was told of one conversation so far."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self.mine: set[str] = set()  # turns of its own prompts: it shows those itself
        self.running = ""  # the turn that the agent works on
        self._said: dict[str, Mapping[str, Any]] = {}  # turns whose words were not shown yet
        self._calls: set[str] = set()

    def queued(self, turn: str, body: Mapping[str, Any]) -> None:
        """A turn that waits or runs, and how it was queued."""
        self._said[turn] = body

    def of(self, event: Event) -> list[Body]:
        """The updates that an event means; questions are not told here."""
        body = event.body
        match event.kind:
            case Kind.TEXT:
                return [chunk("agent_message_chunk", as_text(body.get("text")))]
            case Kind.THOUGHT:
                return [chunk("agent_thought_chunk", as_text(body.get("text")))]
            case Kind.TOOL_CALL:
                return self._call(body)
            case Kind.PLAN:
                return [{"sessionUpdate": "plan", "entries": [_entry(one) for one in as_list(body.get("entries"))]}]
            case Kind.USAGE:
                return _usage(body)
            case Kind.TURN_STATE:
                return self._turn(str(event.turn), body)
            case Kind.AGENT_STATE:
                return self._state(body)
            case Kind.NOTE | Kind.DOCUMENT:
                return self._note(body)
        return []

    def say(self, text: str, severity: str = "info") -> list[Body]:
        """A sentence of OpAgent's own, as strongly as the editor can show it."""
        if not text.strip():
            return []
        if self.editor.notices:
            title, _, more = text.strip().partition("\n")
            return [{"sessionUpdate": "notice", "severity": severity, "title": title, **({"description": more} if more else {})}]
        kind = "agent_thought_chunk" if severity == "info" else "agent_message_chunk"
        quoted = "\n> ".join(text.strip().splitlines())
        return [chunk(kind, f"\n\n> OpAgent: {quoted}\n\n")]

    def _turn(self, turn: str, body: Mapping[str, Any]) -> list[Body]:
        state = as_text(body.get("state"))
        if state == "queued":
            self.queued(turn, body)
            return []
        found = self._words(turn)
        if state in FINAL:
            self.running = "" if self.running == turn else self.running
            if turn not in self.mine and state != "done" and body.get("sentence"):
                found += self.say(ending(body), "warning")
        else:
            self.running = turn
        return found

    def _words(self, turn: str) -> list[Body]:
        """What somebody else said, once it is its turn."""
        said = self._said.pop(turn, None)
        if said is None or turn in self.mine:
            return []
        own = {"turn": turn, "author": as_text(said.get("author")), "via": as_text(said.get("via"))}
        return [spoken(as_text(said.get("text")), as_text(said.get("message")), own)]

    def _call(self, body: Mapping[str, Any]) -> list[Body]:
        ident = as_text(body.get("id"))
        update: Body = {"sessionUpdate": "tool_call_update", "toolCallId": ident}
        if ident not in self._calls:
            self._calls.add(ident)
            update |= {"sessionUpdate": "tool_call", "title": as_text(body.get("name")) or ident}
        update |= {key: body[key] for key in ("title", "name") if as_text(body.get(key))}
        update |= {key: body[key] for key, known in (("kind", _CALL_KINDS), ("status", _CALL_STATES)) if body.get(key) in known}
        update |= {key: body[key] for key in _SAME if key in body}
        if "locations" in update:
            update["locations"] = [
                _location(place) for place in as_list(body["locations"]) if as_text(as_dict(place).get("path"))
            ]
        if "content" in body:
            update["content"] = contents(body["content"])
        return [update]

    def _state(self, body: Mapping[str, Any]) -> list[Body]:
        said = {**as_dict(body.get("session")), **body}
        found: list[Body] = []
        if "commands" in said:
            commands = [_command(one) for one in as_list(said["commands"]) if as_text(as_dict(one).get("name"))]
            found.append({"sessionUpdate": "available_commands_update", "availableCommands": commands})
        if mode := as_text(said.get("currentModeId")) or as_text(as_dict(said.get("modes")).get("currentModeId")):
            found.append({"sessionUpdate": "current_mode_update", "currentModeId": mode})
        if "configOptions" in said:
            options = options_for(said["configOptions"], self.editor)
            found.append({"sessionUpdate": "config_option_update", "configOptions": options})
        if as_text(said.get("title")):
            found.append({"sessionUpdate": "session_info_update", "title": said["title"]})
        if said.get("state") == "stalled":
            found += self.say("the agent says nothing for some time now")
        return found

    def _note(self, body: Mapping[str, Any]) -> list[Body]:
        update = as_dict(body.get("update"))
        if self.editor.compaction and update.get("sessionUpdate") == "compaction_update":
            return [update]
        severity = as_text(body.get("severity")) or ("warning" if "what" in body else "info")
        hint = as_text(body.get("hint"))
        asks = "what" not in body or hint  # of what happened to the file only what a person may have to deal with
        return self.say(as_text(body.get("text")) + (f"\nTry: {hint}" if hint else ""), severity) if asks else []


class History:
    """A conversation from its log, as a person has it now: edited, deleted and restored turns as they stand in the file."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._turns: dict[str, list[Body]] = {}
        self._last: dict[str, Body] = {}  # of what only the newest counts
        self._gone: set[str] = set()

    def take(self, event: Event) -> None:
        if event.kind is Kind.DOCUMENT:
            self._document(event.body)
            return
        if event.kind is Kind.NOTE:
            return
        for update in self._shown.of(event):
            kind = update["sessionUpdate"]
            if event.kind in (Kind.AGENT_STATE, Kind.USAGE):
                self._last[kind] = update
                continue
            _add(self._turns.setdefault(event.turn or "", []), update)

    def updates(self) -> Iterable[Body]:
        """All of it; what was forgotten meanwhile is left out."""
        for turn, updates in self._turns.items():
            if turn not in self._gone:
                yield from updates
        yield from (update for kind, update in self._last.items() if kind not in _ANSWERED)

    def _document(self, body: Mapping[str, Any]) -> None:
        region, what = as_text(body.get("region")), body.get("what")
        turn = f"a{region[1:]}"
        new = _HEADING.sub("", as_text(body.get("body"))).strip()
        if what == "deleted" or (what == "reverted" and not new):
            self._gone.add(turn)
        elif what == "restored":
            self._gone.discard(turn)
        elif what in ("edited", "reverted") and region.startswith("u") and turn in self._turns:
            self._turns[turn] = [
                spoken(new, region, {}) if each["sessionUpdate"] == "user_message_chunk" else each for each in self._turns[turn]
            ]
        elif what in ("reply_edited", "reverted") and turn in self._turns:
            kept = [each for each in self._turns[turn] if each["sessionUpdate"] != "agent_message_chunk"]
            self._turns[turn] = [*kept, chunk("agent_message_chunk", new)]
        elif what == "imported" and new and region:
            said = spoken(new, region, {}) if region.startswith("u") else chunk("agent_message_chunk", new)
            self._turns.setdefault(turn, []).append(said)


def _add(updates: list[Body], update: Body) -> None:
    """Text behind text of its kind becomes one, and of plans the last stands."""
    kind = update["sessionUpdate"]
    if kind == "plan":
        updates[:] = [each for each in updates if each["sessionUpdate"] != "plan"]
    last = updates[-1] if updates else {}
    if kind in ("agent_message_chunk", "agent_thought_chunk") and last.get("sessionUpdate") == kind:
        updates[-1] = chunk(kind, last["content"]["text"] + update["content"]["text"])
    else:
        updates.append(update)


def chunk(kind: str, text: str) -> Body:
    return {"sessionUpdate": kind, "content": {"type": "text", "text": text}}


def spoken(text: str, message: str, own: Mapping[str, Any]) -> Body:
    """Words of a person, or of another agent."""
    said = chunk("user_message_chunk", text)
    said |= {"messageId": message} if message else {}
    return said | ({"_meta": {"opagent": dict(own)}} if own else {})


def contents(items: Any) -> list[Body]:
    """The content of a tool call; what an editor could not read is left out, and a terminal of ours is named."""
    found: list[Body] = []
    for item in map(as_dict, as_list(items)):
        match item.get("type"):
            case "content" if block(as_dict(item.get("content"))):
                found.append(item)
            case "diff" if isinstance(item.get("path"), str) and isinstance(item.get("newText"), str):
                found.append(item)
            case "terminal":
                found.append({"type": "content", "content": {"type": "text", "text": "(in a terminal that OpAgent runs)"}})
    return found


def block(content: Mapping[str, Any]) -> bool:
    """Whether it is a content block of the schema."""
    needed = _BLOCKS.get(as_text(content.get("type")))
    return needed is not None and content.get(needed) is not None


def _location(place: Any) -> Body:
    line = as_dict(place).get("line")
    numbered = isinstance(line, int) and not isinstance(line, bool) and line >= 0
    return {"path": as_dict(place)["path"], **({"line": line} if numbered else {})}


def _entry(entry: Any) -> Body:
    said = as_dict(entry)
    priority, status = said.get("priority"), said.get("status")
    return {
        "content": as_text(said.get("content")),
        "priority": priority if priority in _PRIORITIES else "medium",
        "status": status if status in _STATES else "pending",
    }


def _command(command: Any) -> Body:
    said = as_dict(command)
    found: Body = {"name": as_text(said.get("name")), "description": as_text(said.get("description"))}
    hint = as_text(as_dict(said.get("input")).get("hint"))
    return found | ({"input": {"hint": hint}} if hint else {})


def _usage(body: Mapping[str, Any]) -> list[Body]:
    context, cost = as_dict(body.get("context")), as_dict(body.get("cost"))
    if "used" not in context or "size" not in context:
        return []
    update: Body = {"sessionUpdate": "usage_update", "used": context["used"], "size": context["size"]}
    return [update | ({"cost": cost} if cost.get("currency") else {})]
