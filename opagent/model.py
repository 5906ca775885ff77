"""The frozen values that all layers speak; no behaviour beyond small derived facts, no I/O."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NewType

ConversationId = NewType("ConversationId", str)  # TAG-REST, e.g. k7q2-m4x8p3
TurnId = NewType("TurnId", str)  # the id of the turn's reply: a + 4 characters
MessageId = NewType("MessageId", str)  # u + 4 characters
ApprovalId = NewType("ApprovalId", str)  # p + 4 characters, unique per host
ProcessId = NewType("ProcessId", str)  # x + 6 characters


class Effect(enum.IntEnum):
    """Severity: the greater wins."""

    ALLOW = 0
    ASK = 1
    DENY = 2

    @property
    def word(self) -> str:
        return self.name.lower()


class Trust(enum.Enum):
    UNNEEDED = "unneeded"  # nothing in the chain needs trust
    UNKNOWN = "unknown"
    ALLOWED = "allowed"
    CHANGED = "changed"
    DENIED = "denied"


class TurnState(enum.Enum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self not in (TurnState.QUEUED, TurnState.RUNNING, TurnState.WAITING)


class ProcessState(enum.Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    FAILED = "failed"


class ApprovalState(enum.Enum):
    PENDING = "pending"
    ALLOWED = "allowed"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    VOID = "void"


OURS = ProcessId("opagent")  # the process of an approval that no agent asks for, but the daemon
QUESTION = "question"  # the kind of an approval that asks for words, not for a permission


class Kind(enum.StrEnum):
    """The kinds of `Event` that a conversation's log holds."""

    TEXT = "text"
    THOUGHT = "thought"
    TOOL_CALL = "tool_call"
    PLAN = "plan"
    APPROVAL_ASKED = "approval_asked"
    APPROVAL_ANSWERED = "approval_answered"
    USAGE = "usage"
    TURN_STATE = "turn_state"
    AGENT_STATE = "agent_state"
    DOCUMENT = "document"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written: `file:line`; file is an absolute path, `built-in` or `command line`."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Role:
    name: str
    runtime: str
    model: str | None = None
    mode: str | None = None
    instructions: str | None = None
    needs: tuple[str, ...] = ()  # abilities that the runtime must have been seen to have: packages/ability.py


@dataclass(frozen=True, slots=True)
class RuleList:
    """One kind (`read`, `exec`, ...) in one layer. Patterns are text as written; exec and others may be nested tuples."""

    allow: tuple[Any, ...] = ()
    ask: tuple[Any, ...] = ()
    deny: tuple[Any, ...] = ()
    default: Effect | None = None
    lines: Mapping[str, int] = field(default_factory=dict)  # "deny.0" -> line


@dataclass(frozen=True, slots=True)
class Layer:
    """What one file says about capabilities. `base` is the directory its globs are relative to."""

    name: str  # "built-in", "machine", "user", or the file's path
    base: str
    kinds: Mapping[str, RuleList]
    file: str = ""  # the file it was written in, when that is not its name


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Ceilings (built-in floor, machine, user) and the chain of bindings, outermost first; decided by policy/decide.py."""

    ceilings: tuple[Layer, ...] = ()  # the floor first; files that are not trusted stand here too
    chain: tuple[Layer, ...] = ()
    defaults: tuple[Layer, ...] = ()  # user configuration, ~/.agent.yaml: their allows replace the built-in default
    workspace: str = ""
    fold: bool = False  # the file system of the workspace does not tell upper from lower case
    max_children: int = 4
    env: tuple[str, ...] = ()
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    max_depth: int = 2
    within: tuple[Capabilities, ...] = ()  # those of the agents that called this one: it never has more than they


@dataclass(frozen=True, slots=True)
class Instruction:
    """A piece of `instructions`: the text of a file of the binding's directory, or text written in place."""

    text: str
    file: str | None
    origin: Origin


@dataclass(frozen=True, slots=True)
class ChainFile:
    """One `.agent.yaml` of the chain with the very bytes that were parsed."""

    path: str
    content: bytes
    uid: int
    mode: int
    needs_trust: tuple[str, ...] = ()  # key paths that need it
    trusted: bool = True  # false: only what narrows was taken from it


@dataclass(frozen=True, slots=True)
class Binding:
    """The chain of `.agent.yaml` files merged. `origins` maps a key path (`roles.writer.runtime`) to where it was written."""

    workspace: str
    agent: str | None
    roles: Mapping[str, Role]
    instructions: tuple[Instruction, ...] = ()
    capabilities: Capabilities = Capabilities()
    budget: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, Any] = field(default_factory=dict)
    conversations: str = "conversations/"
    approvals: Mapping[str, Any] = field(default_factory=dict)
    supervise: Mapping[str, Any] = field(default_factory=dict)
    notify: Mapping[str, Any] = field(default_factory=dict)  # of the user's own file only
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    host: str | None = None
    chain: tuple[ChainFile, ...] = ()  # nearest first
    origins: Mapping[str, Origin] = field(default_factory=dict)
    narrowed: Mapping[str, tuple[Origin, ...]] = field(default_factory=dict)  # key path -> what it narrowed
    digest: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """One `runtime.yaml`. `command` is an argv with {package} {node} {python} {state} not yet put in. Time-outs in seconds."""

    name: str
    version: str
    command: tuple[str, ...]
    package: str  # the directory that holds runtime.yaml
    title: str = ""
    about: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    network: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    from_home: tuple[str, ...] = ()
    client: tuple[str, ...] = ()
    needs: Mapping[str, Any] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    quirks: Mapping[str, Any] = field(default_factory=dict)
    timeouts: Mapping[str, float] = field(default_factory=dict)
    install: Mapping[str, Any] = field(default_factory=dict)
    sessions: Mapping[str, Any] = field(default_factory=dict)
    probe: Mapping[str, Any] = field(default_factory=dict)  # what a probe of it needs: env, files, say
    signin: str = ""
    source: str = ""  # "user", "installed" or "bundled"
    bin: tuple[str, ...] = ()  # directories of its package with programs that go before those on PATH
    origin: str = ""  # of an installed one: where its versions come from


@dataclass(frozen=True, slots=True)
class Event:
    """One durable, numbered fact. `seq` counts per conversation from 1, `journal` over the whole host; `at` is UTC, ISO 8601."""

    conversation: ConversationId
    seq: int
    journal: int
    turn: TurnId | None
    kind: Kind
    at: str
    body: Mapping[str, Any]
    encoded: bytes = field(default=b"", compare=False, repr=False)  # `body` as JSON, where it is at hand; goes with it


@dataclass(frozen=True, slots=True)
class Conversation:
    id: ConversationId
    workspace: str
    path: str  # of the Markdown file, absolute
    agent: str
    title: str = ""
    created: str = ""
    acp_session: str | None = None
    state: str = "open"  # open, closed
    next_seq: int = 1


@dataclass(frozen=True, slots=True)
class Turn:
    id: TurnId
    message: MessageId
    conversation: ConversationId
    author: str  # human:UID or agent:NAME
    text: str
    state: TurnState
    queued_at: str
    ended_at: str | None = None
    reason: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    request: str | None = None  # the client's key: the same key twice is one turn
    agent: str | None = None  # another one than the conversation's, for this turn only


@dataclass(frozen=True, slots=True)
class Approval:
    id: ApprovalId
    conversation: ConversationId
    turn: TurnId | None
    process: ProcessId
    rpc_id: str  # JSON of the agent's request id, and of which of its requests it was: an id may come again once it is answered
    kind: str
    subject: str  # what a person reads: the exact action, one or more lines
    digest: str  # sha256 of the canonical arguments
    options: tuple[Mapping[str, str], ...]
    asked_at: str
    expires_at: str | None
    state: ApprovalState = ApprovalState.PENDING
    answer: str | None = None  # optionId that was sent
    answered_by: str | None = None
    answered_at: str | None = None
    reason: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class ExitReport:
    """How a process ended. `code` or `signal` is None; `reason` is crashed, killed, memory, stopped or clean."""

    code: int | None
    signal: int | None
    stderr_tail: str
    uptime: float
    reason: str

    def sentence(self) -> str:
        how = f"signal {self.signal}" if self.signal else f"exit status {self.code}"
        return f"{self.reason} ({how}, after {self.uptime:.1f} s)"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of the policy to one request: the rule that won (`file:line`), its layer, and how it is enforced.

    `pattern`: of the rule as it was written; "" for a default.
    """

    effect: Effect
    rule: str
    layer: str
    enforcement: str = "advisory"  # os, proxy, acp, advisory: policy/enforcement.py
    pattern: Any = ""


@dataclass(frozen=True, slots=True)
class TrustRecord:
    path: str  # real path of the workspace
    digest: str
    state: Trust  # ALLOWED or DENIED
    at: str
    by: str
    shown: str = ""  # what the person was shown, for --diff
