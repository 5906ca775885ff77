"""Modes that use much or go in circles on purpose: usage true and untrue, many tool calls, loops of every kind."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from modes import Mode, Steps, Turn, text_block
from wire import Message

UNTRUE: dict[str, tuple[object, ...]] = {
    "backwards": (0.5, 0.2),
    "negative": (-3,),
    "nan": (math.nan,),
    "huge": (1e18,),
    "text": ("much",),
    "currency": (3,),
}


def spend(turn: Turn, words: list[str]) -> None:
    """`TOKENS [COST]`: uses so many tokens, and adds so much to the cost of the session."""
    turn.usage = {"inputTokens": int(words[0]), "outputTokens": 0, "totalTokens": int(words[0])}
    if len(words) > 1:
        turn.session.cost += float(words[1])
        report(turn, turn.session.cost)
    turn.say(f"spent {words[0]} ")


def report(turn: Turn, amount: object, currency: str = "USD") -> None:
    cost = {"amount": amount, "currency": currency}
    turn.update({"sessionUpdate": "usage_update", "used": 10, "size": 200_000, "cost": cost})


def untrue(turn: Turn, words: list[str]) -> None:
    """`backwards|negative|nan|huge|text|currency`: costs (and tokens, but for nan) that cannot be true."""
    kind = words[0]
    for amount in UNTRUE[kind]:
        report(turn, amount, "XXX" if kind == "currency" else "USD")
    if kind in ("negative", "huge", "text"):
        turn.usage = {"inputTokens": UNTRUE[kind][0], "outputTokens": 1, "totalTokens": 1}
    turn.say(f"reported {kind} ")


def call(turn: Turn, number: int, command: str, output: str, status: str = "completed") -> None:
    """A whole tool call in one update."""
    ident: Message = {"sessionUpdate": "tool_call", "toolCallId": f"call-{number}", "title": command, "kind": "execute"}
    content = [{"type": "content", "content": text_block(output)}]
    turn.update({**ident, "status": status, "rawInput": {"command": command}, "rawOutput": output, "content": content})


def calls(turn: Turn, words: list[str]) -> Steps:
    """`N [DELAY]`: N tool calls that all differ, with a word behind each."""
    for number in range(int(words[0])):
        call(turn, number, f"look {'x' * number}", "y" * number)
        turn.say(f"call {number + 1} ")
        yield float(words[1]) if len(words) > 1 else 0.001


def same(number: int) -> tuple[str, str, str]:
    return "make", "nothing to be done", "completed"


def times(number: int) -> tuple[str, str, str]:
    return f"poll --at 12:{number:02}:17", f"job {number} took {number}.5 s", "completed"


def pingpong(number: int) -> tuple[str, str, str]:
    return ("ask left", "go right", "completed") if number % 2 else ("ask right", "go left", "completed")


def failing(number: int) -> tuple[str, str, str]:
    return f"try {'x' * number}", "ModuleNotFoundError: no module named y", "failed"


def idle(number: int) -> tuple[str, str, str]:
    return f"look {'x' * number}", "y" * number, "completed"


ROUNDS: dict[str, Callable[[int], tuple[str, str, str]]] = {
    "same": same, "times": times, "pingpong": pingpong, "error": failing, "idle": idle,
}  # fmt: skip


def loop(turn: Turn, words: list[str]) -> Steps:
    """`same|times|pingpong|error|idle|edits [N]`: tool calls of that kind for ever, or N of them."""
    kind, numbers = words[0], range(int(words[1])) if len(words) > 1 else itertools.count()
    for number in numbers:
        if kind == "edits":
            path = turn.path(f"file_{number}.txt")
            change = [{"type": "diff", "path": path, "oldText": "old", "newText": "new"}]
            ident: Message = {"sessionUpdate": "tool_call", "toolCallId": f"call-{number}", "title": "Edit", "kind": "edit"}
            turn.update({**ident, "status": "completed", "rawInput": {"path": path}, "content": change, "rawOutput": "ok"})
        else:
            call(turn, number, *ROUNDS[kind](number))
        yield 0.005
    turn.say(f"looped {kind} ")


MODES: dict[str, Mode] = {"spend": spend, "untrue": untrue, "calls": calls, "loop": loop}
