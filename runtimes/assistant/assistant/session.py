"""A conversation with its settings, kept as one JSON file in our state directory; the file is whole or not there."""

import contextlib
import json
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from assistant.talk import Message, Usage, whole
from assistant.wire import log

MODES = {
    "ask": ("Ask", "Asks before it writes a file or runs a command"),
    "auto": ("Auto", "Writes and runs without asking; the sandbox is what holds it"),
    "plan": ("Plan", "Reads and says what it would do; writes nothing, runs nothing"),
}
_ID = re.compile(r"[a-z0-9-]{1,64}")
MOST_BYTES = 64 << 20


@dataclass(slots=True)
class Session:
    """`used`: tokens of the last request and its answer, as far as known. `spent`: all of the session."""

    id: str
    cwd: str
    mode: str = "ask"
    model: str = ""
    instructions: str = ""
    messages: list[Message] = field(default_factory=list)
    used: int = 0
    spent: Usage = field(default_factory=Usage)
    cost: float = 0.0

    def save(self) -> None:
        """After each message: what a killed agent said is there when it comes back. A full disk does not end a turn."""
        spent = [self.spent.input, self.spent.output, self.spent.cached, self.spent.known]
        body = {
            "id": self.id, "mode": self.mode, "model": self.model, "instructions": self.instructions, "used": self.used,
            "cost": self.cost, "spent": spent, "messages": [message.json() for message in self.messages],
        }  # fmt: skip
        path = _path(self.id)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
                json.dump(body, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except OSError as error:
            log(f"the session cannot be kept: {error}")
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def add(self, message: Message) -> None:
        self.messages.append(message)
        self.save()


def directory() -> Path:
    """$OPAGENT_STATE as the daemon sets it, else one of our own below the XDG state directory."""
    given = os.environ.get("OPAGENT_STATE")
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(given or os.path.join(base, "opagent-assistant")) / "sessions"


def _path(ident: str) -> Path:
    return directory() / f"{ident}.json"


def new(cwd: str) -> Session:
    return Session(f"talk-{secrets.token_hex(8)}", cwd)


def load(ident: str, cwd: str) -> Session | None:
    """None for one that is not there or cannot be read. A call without an answer gets one that says so."""
    path = _path(ident)
    if not _ID.fullmatch(ident):
        return None
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        body = json.loads(path.read_text())
        spent = Usage(*body["spent"])
        messages = whole(Message.of(each) for each in body["messages"])
        mode = body["mode"] if body["mode"] in MODES else "ask"
        return Session(
            ident,
            cwd,
            mode,
            str(body["model"]),
            str(body["instructions"]),
            messages,
            int(body["used"]),
            spent,
            float(body["cost"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        log(f"session {ident} cannot be read: {error}")
        return None
