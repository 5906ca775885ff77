"""What a runtime was seen to do: the record of a probe, where it is kept, and which abilities a binding can need; runs nothing.

A record is of one version of one package and one program. What nobody tried is None: it is not seen, and no promise.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from opagent import files, paths
from opagent.errors import FileRefused, RuntimeInvalid
from opagent.model import RuntimeSpec
from opagent.packages import catalog

# what a role can need -> (what must have been seen, in a sentence)
NEEDS = {
    "ask": "it asks before it writes, and keeps to the answer",
    "cancel": "it ends a turn within 10 s when it is cancelled",
    "resume": "it comes back to a session and knows what was said",
    "usage": "it reports the tokens that it used",
    "mcp": "it starts the MCP servers that it is given",
}
_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    """Of one probe. Milliseconds where nothing else is said; None: it was not tried, or could not be seen."""

    runtime: str
    version: str = ""
    digest: str = ""
    program: str = ""
    at: str = ""
    level: str = ""  # of the sandbox it ran in
    agent: str = ""  # name and version, as it says itself
    protocol: int | None = None
    ready_ms: int | None = None
    asks: bool | None = None  # before it writes
    keeps_to_no: bool | None = None
    answers_while_asking: bool | None = None
    cancel: bool | None = None
    cancel_ms: int | None = None
    works_after_cancel: bool | None = None
    again: str = ""  # how it comes back to a session: resume, load or ""
    resume: bool | None = None  # and knows what was said
    usage: str | None = None  # last_call, turn, session; "reported" when it cannot be told which; "" for none
    context: bool | None = None  # whether it tells how full the context is
    mcp: str | None = None  # stdio, http or "" for none
    calls_mcp: bool | None = None
    ends_at_eof: bool | None = None
    ends_at_term: bool | None = None
    left: tuple[str, ...] | None = None  # names of processes that outlived it
    notes: tuple[str, ...] = ()  # sentences
    problem: str = ""  # why the probe came to an end before its end

    def can(self, need: str) -> bool:
        """Whether an ability of NEEDS was seen."""
        seen = {
            "ask": self.asks and self.keeps_to_no is not False,
            "cancel": self.cancel,
            "resume": self.resume,
            "usage": bool(self.usage),
            "mcp": bool(self.mcp),
        }
        return bool(seen[need])


@dataclass(frozen=True, slots=True)
class Key:
    """What a record is about."""

    runtime: str
    version: str
    digest: str
    program: str

    @property
    def file(self) -> str:
        said = "\0".join((self.version, self.digest, self.program))
        return f"{self.runtime}/{hashlib.sha256(said.encode()).hexdigest()[:16]}.json"


def key(spec: RuntimeSpec, argv: Iterable[str]) -> Key:
    """`argv` as `catalog.installed` gave it. A package that cannot be hashed is told by its program alone."""
    try:
        digest = catalog.digest(spec)
    except RuntimeInvalid:
        digest = ""
    version = spec.version or str(spec.install.get("version", ""))
    return Key(spec.name, version, digest, os.path.realpath(next(iter(argv))))


def read(wanted: Key) -> Record | None:
    """The record, or None where there is none that can be read."""
    try:
        said = json.loads(files.read_file(paths.probes() / wanted.file, _MAX_BYTES))
        return _record(said)
    except (OSError, ValueError, TypeError, FileRefused):
        return None


def _record(said: Mapping[str, Any]) -> Record:
    known = {each.name for each in fields(Record)}
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in said.items() if name in known
    }
    return Record(**given)


def write(wanted: Key, record: Record) -> None:
    """Raises OSError."""
    path = paths.probes() / wanted.file
    files.private_directory(path.parent)
    files.write_whole(path, json.dumps(asdict(record), indent=1).encode())


def lacking(needs: Iterable[str], record: Record | None) -> tuple[str, ...]:
    """Those that were not seen, each with what that means, in sentences."""
    return tuple(f"{need} ({NEEDS[need]})" for need in needs if record is None or not record.can(need))


def lines(record: Record) -> list[tuple[str, str]]:
    """What was seen, for people: what was looked for, and what came."""
    ready = f"{record.ready_ms} ms" if record.ready_ms is not None else "never"
    cancel = f"yes, {record.cancel_ms} ms" if record.cancel else _word(record.cancel)
    again = _word(record.resume) + (f", by session/{record.again}" if record.again else "")
    left = _word(None) if record.left is None else ", ".join(record.left) or "nothing"
    usage = "not tried" if record.usage is None else record.usage or "no"
    mcp = "not tried" if record.mcp is None else record.mcp or "none"
    return [
        ("ready", ready),
        ("protocol", str(record.protocol or "unknown")),
        ("asks before it writes", _word(record.asks)),
        ("keeps to a no", _word(record.keeps_to_no)),
        ("answers while it waits for one", _word(record.answers_while_asking)),
        ("honours a cancel", cancel),
        ("works after a cancel", _word(record.works_after_cancel)),
        ("comes back to a session", again),
        ("reports usage", usage),
        ("reports how full its context is", _word(record.context)),
        ("takes MCP servers", mcp),
        ("calls their tools", _word(record.calls_mcp)),
        ("ends at the end of its input", _word(record.ends_at_eof)),
        ("ends at SIGTERM", _word(record.ends_at_term)),
        ("leaves behind", left),
    ]


def _word(seen: bool | None) -> str:
    return "not tried" if seen is None else "yes" if seen else "no"
