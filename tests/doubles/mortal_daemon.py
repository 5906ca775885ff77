"""The real daemon, which kills itself with -9 at one step of a message's way from the file to the agent (conversation.md, 15).

python -m tests.doubles.mortal_daemon STEP [--ready-fd N]

`displaced`: a person's save lands in the instant of the exchange, so that the only copy of it lies under a temporary name.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from opagent.daemon import main, projection, saves, turns
from opagent.daemon.agent import Agent
from opagent.store.chain import Chain
from opagent.watch import exchange

WORD = "mortal"  # of the message at whose steps it dies
LINE = b"typed in the last instant\n"
STEPS = ("merged", "queued", "exchanged", "displaced", "stamped", "running", "sent", "batch", "ended", "shown", "given")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, meant: Callable[..., bool], then: Callable[[], None] = die) -> None:
    """Die at the call."""
    original = getattr(owner, name)

    def dying(*words: Any, **more: Any) -> Any:
        if meant(*words, **more):
            then()
        return original(*words, **more)

    setattr(owner, name, dying)


def after(owner: Any, name: str, meant: Callable[..., bool], then: Callable[[], None] = die) -> None:
    """Die when the call, which is awaited, is over."""
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def dying(*words: Any, **more: Any) -> Any:
        result = await original(*words, **more)
        if meant(*words, **more):
            then()
        return result

    setattr(owner, name, dying)


def mortal(turn: Any) -> bool:
    return WORD in turn.text


def displace() -> None:
    """A person saves once more, the exchange takes that out of the file, and nobody looks at it."""
    original = exchange.swap

    def swap(temporary: Path, path: Path) -> tuple[Path, ...]:
        ours = temporary.read_bytes()
        if b" agent " not in ours[ours.rfind(WORD.encode()) :] or WORD.encode() not in ours:
            return original(temporary, path)
        path.write_bytes(path.read_bytes().replace(b"- [ ] **Send**", LINE + b"\n- [ ] **Send**"))
        original(temporary, path)
        die()
        return ()

    exchange.swap = swap


def exchanged(state: bytes) -> None:
    """Die when a version with these words in it stands in the file and what came out was not looked at."""
    original = exchange.swap

    def swap(temporary: Path, path: Path) -> tuple[Path, ...]:
        meant = state in (ours := temporary.read_bytes())[ours.rfind(WORD.encode()) :] and WORD.encode() in ours
        found = original(temporary, path)
        if meant:
            die()
        return found

    exchange.swap = swap


def batch() -> None:
    """Die in the writer's transaction, after the rows and before the commit."""
    original = Chain.add

    def add(self: Chain, connection: Any, prepared: Any) -> Any:
        found = original(self, connection, prepared)
        if any(WORD in str(each.content) and each.draft.kind == "text" for each in prepared):
            die()
        return found

    Chain.add = add  # type: ignore[method-assign]


def arm(step: str) -> None:
    match step:
        case "merged":
            before(turns, "queue", lambda c, prompt: WORD in prompt.text)
        case "queued":
            after(turns, "queue", lambda c, prompt: WORD in prompt.text)
        case "exchanged":
            exchanged(b" agent ")
        case "displaced":
            displace()
        case "stamped":
            after(projection.ConversationFile, "open_turn", lambda self, turn: mortal(turn))
        case "running":
            before(turns, "_blocks", lambda c, turn, fresh: mortal(turn))
        case "sent":
            after(turns, "begin", lambda c, turn: mortal(turn))
        case "batch":
            batch()
        case "ended":
            before(projection.ConversationFile, "close_turn", lambda self, turn: mortal(turn))
        case "shown":
            exchanged(b" done ")
        case "given":
            after(projection.ConversationFile, "close_turn", lambda self, turn: mortal(turn))
        case _:
            raise SystemExit(f"no such step: {step}")
    assert saves


if __name__ == "__main__":
    arm(sys.argv.pop(1))
    assert Agent
    sys.exit(main.main())
