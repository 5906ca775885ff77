"""What the scripted model of a probe answers: it does what the last order in the conversation says, with the tools it is offered.

    opagent-probe: hello
    opagent-probe: write /path/of/file some words
    opagent-probe: run some command
    opagent-probe: call some_tool
    opagent-probe: slow

Pure, and imports nothing of OpAgent's that does I/O: it runs in the sandbox of the agent that is probed.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ORDER = "opagent-probe: "
PORT = 4010  # of the model, in the agent's own network
INPUT, OUTPUT = 100, 10  # tokens of every answer with tools at hand; the others (titles, summaries) cost one
SLOW = 600  # words of a slow answer, one each 50 ms
Body = Mapping[str, Any]

_PATH, _CONTENT = re.compile(r"path|file_?name|^file$", re.I), re.compile(r"content|text|body|new_str", re.I)
_WRITES = re.compile(r"write|create", re.I)
_RUNS = re.compile(r"bash|shell|exec|run|command|terminal", re.I)
_COMMAND = re.compile(r"^(command|cmd|script)$", re.I)


@dataclass(frozen=True, slots=True)
class Tool:
    """`free`: its input is text of its own form, a patch, and no JSON."""

    name: str
    schema: Body = field(default_factory=dict)
    free: bool = False
    group: str = ""  # what it is called in, where tools come in groups


@dataclass(frozen=True, slots=True)
class Said:
    """A message of a request: what it says, and whether it is the result of a tool."""

    text: str
    result: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    messages: Sequence[Said]
    tools: Sequence[Tool]
    form: Body | None = None  # the JSON Schema that the answer must fit

    @property
    def cost(self) -> tuple[int, int]:
        return (INPUT, OUTPUT) if self.tools else (1, 1)


@dataclass(frozen=True, slots=True)
class Reply:
    """Text, or a call of a tool. `ident`: of the call, and of this answer; agents drop what they think they know."""

    text: str = ""
    tool: Tool | None = None
    arguments: str = ""
    slow: bool = False
    ident: str = field(default_factory=lambda: uuid.uuid4().hex[:12])


def decide(asked: Asked) -> Reply:
    if not asked.tools:
        return Reply(json.dumps(_something(asked.form)) if asked.form else "A short title")
    orders = [(place, _order(said.text)) for place, said in enumerate(asked.messages) if not said.result]
    orders = [(place, order) for place, order in orders if order]
    if not orders:
        return Reply("hello")
    order = orders[-1][1]
    first = next(place for place, each in orders if each == order)  # some agents quote what the person said after each tool
    verb, _, rest = order.partition(" ")
    if verb == "slow":
        return Reply("slow", slow=True)
    results = [said.text for said in asked.messages[first:] if said.result]
    if verb in ("write", "run", "call") and not results:
        return _ordered(verb, rest.strip(), asked.tools)
    return Reply("done: " + results[-1][:200] if results and verb != "hello" else "hello")


def _order(text: str) -> str:
    """The last one in a message that stands at the start of a line: elsewhere it is told of, as in a conversation so far."""
    return next((line.removeprefix(ORDER).strip() for line in reversed(text.splitlines()) if line.startswith(ORDER)), "")


def _ordered(verb: str, rest: str, tools: Sequence[Tool]) -> Reply:
    own = [tool for tool in tools if not tool.group and "opagent" not in tool.name]  # not those of servers: OpAgent's write notes
    if verb == "write":
        path, _, text = rest.partition(" ")
        return _writing(path, text, own) or _running(f"printf %s '{text}' > '{path}'", own) or Reply("no tool writes")
    if verb == "run":
        return _running(rest, own) or Reply("no tool runs commands")
    # agents put the name of the server around that of the tool
    for tool in tools:
        if rest in tool.name:
            return Reply(tool=tool, arguments="{}")
    return Reply("no such tool")


def _writing(path: str, text: str, tools: Iterable[Tool]) -> Reply | None:
    for tool in tools:
        if not _WRITES.search(tool.name) or tool.free:
            continue
        names = tool.schema.get("properties") or {}
        where = next((name for name in names if _PATH.search(name)), None)
        what = next((name for name in names if _CONTENT.search(name) and name != where), None)
        if where and what:
            return Reply(tool=tool, arguments=_filled(tool.schema, {where: path, what: text}))
    return None


def _running(command: str, tools: Iterable[Tool]) -> Reply | None:
    for tool in tools:
        names = tool.schema.get("properties") or {}
        where = next((name for name in names if _COMMAND.match(name)), None)
        if where and _RUNS.search(tool.name):
            words = names[where].get("type") == "array"
            return Reply(tool=tool, arguments=_filled(tool.schema, {where: ["sh", "-c", command] if words else command}))
    return None


def _filled(schema: Body, given: dict[str, Any]) -> str:
    """The arguments, with something in every place that must not be empty."""
    names = schema.get("properties") or {}
    for name in schema.get("required") or ():
        given.setdefault(name, _something(names.get(name) or {}))
    return json.dumps(given)


def _something(wanted: Body) -> Any:
    if wanted.get("enum"):
        return wanted["enum"][0]
    kind = wanted.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    names = wanted.get("properties")
    if isinstance(names, dict):
        return {name: _something(one) for name, one in names.items()}
    return {"boolean": False, "integer": 1, "number": 1, "array": [], "object": {}}.get(str(kind).lower(), "a probe")
