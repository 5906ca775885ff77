"""The real daemon, which stops itself with SIGSTOP at one step of the kill matrix (security.md), once.

python -m tests.doubles.barrier_daemon opagent.daemon.main K7 [--ready-fd N]      # by the first word it is found as a daemon

Whoever waits for it (`stands`) may then kill what they like, itself too; SIGCONT lets it go on. Only a turn whose text holds
`mortal_daemon.WORD` counts where the step belongs to a turn.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from opagent.daemon import main, turns
from opagent.daemon.agent import Agent
from opagent.daemon.approvals import Approvals
from opagent.daemon.conversation import Conversation
from opagent.daemon.effects import Act, Effects
from opagent.daemon.host import Host
from opagent.model import Kind
from opagent.process.supervisor import Process
from opagent.store.events import AuditKind
from opagent.watch import exchange
from tests.doubles.mortal_daemon import WORD, after, before, mortal
from tests.doubles.patience import until

_met: list[int] = []


def words(step: str) -> tuple[str, ...]:
    """After the interpreter."""
    return ("-m", __spec__.name, main.__name__, step)


def stop() -> None:
    if not _met:
        _met.append(os.getpid())
        os.kill(os.getpid(), signal.SIGSTOP)


def stands(pid: int) -> None:
    """Until the daemon has come to its step."""
    process = psutil.Process(pid)
    until(lambda: process.status() == psutil.STATUS_STOPPED)


def goes_on(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


def sent(*words: str) -> Callable[[], None]:
    """Every byte of a line that holds these words lies in the agent's pipe."""
    return lambda: after(Process, "send", lambda self, data: all(word.encode() in data for word in words), stop)


def told(kind: Kind) -> Callable[[], None]:
    """An event of the turn was handed to the journal; one with a barrier is committed."""

    def meant(self: Conversation, drafts: Any, *_: Any, **__: Any) -> bool:
        return self.current is not None and mortal(self.current.turn) and any(draft.kind is kind for draft in drafts)

    return lambda: after(Conversation, "append", meant, stop)


def writes(act: Act) -> bool:
    """Whether a file is written for an agent, or a tool called that does."""
    return act.kind is AuditKind.FS_WRITE or (act.kind is AuditKind.MCP_CALL and WORD in str(act.body))


def half_written(temporary: Path, path: Path) -> bool:
    """The new version lies beside the file and is not yet in its place."""
    words = temporary.read_bytes()
    return b" done " in words[words.rfind(WORD.encode()) :] and WORD.encode() in words


ARMED: dict[str, Callable[[], None]] = {
    "K0": lambda: before(Process, "start", lambda launch: True, stop),
    "K1": lambda: after(Process, "start", lambda launch: True, stop),
    "K2": sent('"initialize"'),
    "K3": lambda: before(Agent, "on_reply", lambda self, reply: reply.method == "initialize", stop),
    "K4": sent('"session/new"'),
    "K5": lambda: before(Agent, "_next_setting", lambda self: self.session is not None, stop),
    "K6": lambda: after(turns, "queue", lambda c, prompt: WORD in prompt.text, stop),
    "K7": sent('"session/prompt"', WORD),
    "K8": told(Kind.TEXT),
    "K9": told(Kind.TOOL_CALL),
    "K10": told(Kind.APPROVAL_ASKED),
    "K11": lambda: before(Approvals, "_tell", lambda self, approval: True, stop),
    "K12a": lambda: after(Effects, "begin", lambda self, act, *_, **__: writes(act), stop),
    "K12b": lambda: before(Effects, "end", lambda self, seq, act, *_, **__: writes(act), stop),
    "K13": lambda: before(turns, "ended", lambda c, number, result: c.current is not None and mortal(c.current.turn), stop),
    "K14": lambda: before(exchange, "swap", half_written, stop),
    "K15": lambda: before(Host, "close", lambda self: True, stop),
}


if __name__ == "__main__":
    del sys.argv[1]
    ARMED[sys.argv.pop(1)]()
    sys.exit(main.main())
