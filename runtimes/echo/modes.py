"""What a turn does: the well-behaved modes and the search for all; the others have files of their own (`find`)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Generator

from wire import Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent import Agent
    from sessions import Session

Steps = Generator[object, object, None]


class Failed(Exception):
    """The prompt is answered with a JSON-RPC error of this code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Turn:
    """One prompt and what was answered so far."""

    def __init__(self, agent: Agent, session: Session, request: object, blocks: list[Message]) -> None:
        self.agent = agent
        self.session = session
        self.request = request
        self.blocks = blocks
        texts = [str(block.get("text")) for block in blocks if isinstance(block, dict) and block.get("type") == "text"]
        self.prompt = texts[-1] if texts else ""  # what a person said comes last; context and history come before it
        self.said = ""
        self.stop = "end_turn"
        self.usage: Message | None = None
        self.afterwards: Callable[[Turn], Steps] | None = None

    def say(self, text: str) -> None:
        self.said += text
        self.update({"sessionUpdate": "agent_message_chunk", "content": text_block(text)})

    def update(self, body: Message) -> None:
        self.agent.update(self.session.id, body)

    def path(self, name: str) -> str:
        return os.path.normpath(os.path.join(self.session.cwd, name))

    def result(self) -> Message:
        return {"stopReason": self.stop} if self.usage is None else {"stopReason": self.stop, "usage": self.usage}


Mode = Callable[[Turn, list[str]], "Steps | None"]


def text_block(text: str) -> Message:
    return {"type": "text", "text": text}


def play(turn: Turn) -> Steps:
    """Run the directives at the start of the prompt, one per line, then echo what is left of it."""
    rest, ran = turn.prompt, False
    while rest.startswith("/"):
        line, _, following = rest.partition("\n")
        name, *words = line[1:].rstrip().split(" ")
        mode = find(name)
        if mode is None:
            break
        try:
            steps = mode(turn, words)
            if steps is not None:
                yield from steps
        except BrokenPipeError:
            raise
        except (IndexError, KeyError, OSError, ValueError) as problem:
            raise Failed(-32602, f"{line}: {problem}") from problem
        rest, ran = following, True
    if rest or not ran:
        yield from echo(turn, rest)


def find(name: str) -> Mode | None:
    """The mode of a directive; the rarer ones are imported when they are asked for."""
    if name in MODES:
        return MODES[name]
    import callers
    import circles
    import faults
    import peers

    return peers.MODES.get(name) or callers.MODES.get(name) or circles.MODES.get(name) or faults.MODES.get(name)


def echo(turn: Turn, text: str) -> Steps:
    """Say the text again, word by word, as the session's mode and options want it."""
    if turn.session.mode == "ask":
        import peers

        if not (yield from peers.permitted(turn, "ask-1", "Answer this prompt")):
            turn.say("You did not want an answer.")
            return
    text = "echo: " + text
    if turn.session.model == "upper":
        text = text.upper()
    if turn.session.shout:
        text += "!"
    for word in re.findall(r"\s*\S+|\s+", text):
        turn.say(word)
        if turn.session.mode == "slow":
            yield 0.05


def slow(turn: Turn, words: list[str]) -> Steps:
    """`N DELAY`: N chunks, DELAY seconds apart."""
    count, delay = int(words[0]) if words else 10, float(words[1]) if len(words) > 1 else 0.2
    for number in range(1, count + 1):
        turn.say(f"{number} ")
        yield delay


def wait(turn: Turn, words: list[str]) -> Steps:
    """Says one word, then nothing until the turn is cancelled."""
    turn.say("waiting ")
    yield 1e9


def thought(turn: Turn, words: list[str]) -> None:
    """`TEXT`: thinks aloud."""
    for word in words or ["hm"]:
        turn.update({"sessionUpdate": "agent_thought_chunk", "content": text_block(word + " ")})


def plan(turn: Turn, words: list[str]) -> Steps:
    """A plan of three steps, sent again whenever one of them changes."""
    names = ["Read the question", "Think about it", "Say it again"]
    for done in range(len(names) + 1):
        states = ["completed"] * done + ["in_progress"] + ["pending"] * len(names)
        entries = [
            {"content": name, "priority": "high" if place == 0 else "medium", "status": states[place]}
            for place, name in enumerate(names)
        ]
        turn.update({"sessionUpdate": "plan", "entries": entries})
        yield 0.01
    turn.say("planned ")


def tool(turn: Turn, words: list[str]) -> Steps:
    """`[fail]`: a tool call pending, in progress, then completed or failed; with text, console output, diff and locations."""
    path = turn.path("notes.md")
    call: Message = {"toolCallId": "tool-1", "title": "Edit notes.md", "kind": "edit", "status": "pending"}
    turn.update({"sessionUpdate": "tool_call", **call, "rawInput": {"path": path}, "locations": [{"path": path}]})
    yield 0.01
    change: Message = {"sessionUpdate": "tool_call_update", "toolCallId": "tool-1"}
    turn.update({**change, "status": "in_progress", "locations": [{"path": path, "line": 3}]})
    yield 0.01
    content = [
        {"type": "content", "content": text_block("Changed one line.")},
        {"type": "content", "content": text_block("```console\n$ wc -l notes.md\n\x1b[32m3\x1b[0m notes.md\n```")},
        {"type": "diff", "path": path, "oldText": "one\ntwo\n", "newText": "one\ntwo\nthree\n"},
    ]
    status = "failed" if words[:1] == ["fail"] else "completed"
    turn.update({**change, "status": status, "content": content, "rawOutput": {"lines": 3}})
    turn.say(f"tool {status} ")


def usage(turn: Turn, words: list[str]) -> None:
    """`[INPUT OUTPUT]`: context fill and cost as an update, token counts with the answer."""
    used, made = (int(word) for word in (words + ["100", "20"][len(words) :])[:2])
    cost = {"amount": 0.25, "currency": "USD"}
    turn.update({"sessionUpdate": "usage_update", "used": used + made, "size": 200_000, "cost": cost})
    turn.usage = {"inputTokens": used, "outputTokens": made, "totalTokens": used + made}


def refuse(turn: Turn, words: list[str]) -> None:
    """The turn ends with `refusal`."""
    turn.stop = "refusal"


def max_tokens(turn: Turn, words: list[str]) -> None:
    """The turn ends with `max_tokens`."""
    turn.stop = "max_tokens"


def error(turn: Turn, words: list[str]) -> None:
    """`[CODE] [MESSAGE]`: the prompt is answered with a JSON-RPC error."""
    raise Failed(int(words[0]) if words else -32603, " ".join(words[1:]) or "echo was told to fail")


def write(turn: Turn, words: list[str]) -> None:
    """`PATH TEXT`: writes a file of the workspace without asking anybody."""
    with open(turn.path(words[0]), "w", encoding="utf-8") as file:
        file.write(" ".join(words[1:]))
    turn.say(f"wrote {words[0]} ")


def title(turn: Turn, words: list[str]) -> None:
    """`TEXT`: names the session."""
    turn.update({"sessionUpdate": "session_info_update", "title": " ".join(words)})


def mode(turn: Turn, words: list[str]) -> None:
    """`NAME`: the agent changes the session's mode by itself."""
    turn.session.mode = words[0]
    turn.update({"sessionUpdate": "current_mode_update", "currentModeId": words[0]})


def environment(turn: Turn, words: list[str]) -> None:
    """Names of the environment variables (no values), working directory, arguments."""
    shown = ["env: " + " ".join(sorted(os.environ)), f"cwd: {os.getcwd()}", f"argv: {sys.argv}"]
    turn.say("\n".join(shown) + "\n")


def context(turn: Turn, words: list[str]) -> None:
    """How this process came to the session, and each block of the prompt."""
    calls = turn.agent.calls
    counts = " ".join(f"{name}={calls.get('session/' + name, 0)}" for name in ("new", "load", "resume", "prompt"))
    servers = [str(server.get("name")) for server in turn.session.servers if isinstance(server, dict)]
    lines = [f"context: {counts}", f"session: {turn.session.id}", f"session cwd: {turn.session.cwd}"]
    lines.append(f"remembered: {len(turn.session.history) // 2} turns; mcp: {' '.join(servers) or 'none'}")
    for number, block in enumerate(turn.blocks, 1):
        shown = block.get("text", block) if isinstance(block, dict) else block
        lines.append(f"block {number}: {shown}")
    turn.say("\n".join(lines) + "\n")


def early(turn: Turn, words: list[str]) -> None:
    """Says something right after the answer of the prompt, and again 0.2 s later, between turns."""

    def afterwards(turn: Turn) -> Steps:
        turn.say("after the answer ")
        yield 0.2
        turn.say("between turns ")

    turn.afterwards = afterwards
    turn.say("before the answer ")


def greet(agent: Agent, session: str) -> None:
    """`--early`: updates that arrive before the answer that tells the session's id."""
    commands = [{"name": "slow", "description": "N chunks, DELAY apart", "input": {"hint": "N DELAY"}}]
    agent.update(session, {"sessionUpdate": "available_commands_update", "availableCommands": commands})
    agent.update(session, {"sessionUpdate": "agent_message_chunk", "content": text_block("early bird ")})


MODES: dict[str, Mode] = {
    "slow": slow,
    "wait": wait,
    "thought": thought,
    "plan": plan,
    "tool": tool,
    "usage": usage,
    "refuse": refuse,
    "maxtokens": max_tokens,
    "error": error,
    "write": write,
    "title": title,
    "mode": mode,
    "env": environment,
    "context": context,
    "early": early,
}
