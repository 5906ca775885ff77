"""Every error a person or a client can see: code, sentence, hint, exit status. Nothing is printed here.

::

    OpAgentError                     error                  1
    +-- Usage                        usage                  2
    +-- BindingInvalid               binding_invalid        2
    |   `-- RuntimeInvalid           runtime_invalid        2
    +-- DeadlinePassed               timeout                3
    +-- NotFound                     not_found              4
    |   +-- NoBinding                no_binding             4
    |   +-- RuntimeNotFound          runtime_not_found      4
    |   +-- RuntimeNotInstalled      runtime_not_installed  4
    |   +-- ConversationNotFound     conversation_not_found 4
    |   +-- ApprovalNotFound         approval_not_found     4
    |   `-- ProcessNotFound          process_not_found      4
    +-- Denied                       denied                 5
    |   +-- AbilityUnseen            ability_unseen         5
    |   +-- NotPrivate               not_private            5
    |   +-- WorkspaceRefused         workspace_refused      5
    |   `-- ScriptsRefused           scripts_refused        5
    +-- NotTrusted                   not_trusted            6
    +-- HostUnreachable              host_unreachable       7
    |   +-- HostKeyRefused           host_key_refused       7
    |   +-- HostRefused              host_refused           7
    |   `-- HostUnfit                host_unfit             7
    +-- BudgetReached                budget_reached         8
    +-- WaitingForApproval           waiting_for_approval   9
    +-- AgentFailed                  agent_failed          10
    |   +-- AgentCrashed             agent_crashed         10
    |   +-- AgentStuck               agent_stuck           10
    |   +-- SignInNeeded             sign_in_needed        10
    |   `-- CrashLoop                crash_loop            10
    +-- AlreadyDecided               already_decided        1
    +-- Conflict                     conflict               1
    |   `-- RuntimeInUse             runtime_in_use         1
    +-- InstallFailed                install_failed         1
    |   `-- HashMismatch             hash_mismatch          1
    +-- DaemonUnavailable            daemon_unavailable     1
    +-- ProtocolMismatch             protocol_mismatch      1
    +-- StoreFailed                  store_failed           1
    +-- FileRefused                  file_refused           1
    `-- Bug                          bug                   70
"""

from __future__ import annotations

from typing import Any, ClassVar


class OpAgentError(Exception):
    """`what` is one sentence without a final full stop; `why` may be empty; `hint` is the next command to type."""

    code: ClassVar[str] = "error"
    exit: ClassVar[int] = 1

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" if self.why else self.what

    def as_json(self) -> dict[str, Any]:
        """The JSON form that every client prints: `{code, message, why, hint, exit}`."""
        return {"code": self.code, "message": self.what, "why": self.why, "hint": self.hint, "exit": self.exit}


class Usage(OpAgentError):
    """The words of the command line are wrong."""

    code, exit = "usage", 2


class BindingInvalid(OpAgentError):
    """A file of the chain cannot be used; `why` lists every problem as `file:line:column: sentence`, one a line."""

    code, exit = "binding_invalid", 2


class RuntimeInvalid(BindingInvalid):
    """A `runtime.yaml` cannot be used."""

    code = "runtime_invalid"


class DeadlinePassed(OpAgentError):
    """The time the caller gave is over."""

    code, exit = "timeout", 3


class NotFound(OpAgentError):
    """What was named does not exist."""

    code, exit = "not_found", 4


class NoBinding(NotFound):
    """No `.agent.yaml` at or above the directory."""

    code = "no_binding"


class RuntimeNotFound(NotFound):
    """No runtime of that name in the catalogue."""

    code = "runtime_not_found"


class RuntimeNotInstalled(NotFound):
    """The runtime is known, but its program is not on this machine."""

    code = "runtime_not_installed"


class ConversationNotFound(NotFound):
    """No conversation has that id, prefix or path."""

    code = "conversation_not_found"


class ApprovalNotFound(NotFound):
    """No approval has that id."""

    code = "approval_not_found"


class ProcessNotFound(NotFound):
    """No supervised process matches."""

    code = "process_not_found"


class Denied(OpAgentError):
    """A rule says no."""

    code, exit = "denied", 5


class AbilityUnseen(Denied):
    """A binding needs of its runtime what no probe of it has seen."""

    code = "ability_unseen"


class NotPrivate(Denied):
    """A directory, file or socket that must be ours alone is not."""

    code = "not_private"


class WorkspaceRefused(Denied):
    """`/`, `/etc`, the home directory and the state directory are never workspaces."""

    code = "workspace_refused"


class ScriptsRefused(Denied):
    """An installation would execute programs of the package, and nobody said yes."""

    code = "scripts_refused"


class NotTrusted(OpAgentError):
    """The binding wants something that needs trust, and nobody gave it."""

    code, exit = "not_trusted", 6


class HostUnreachable(OpAgentError):
    """The other machine does not answer."""

    code, exit = "host_unreachable", 7


class HostKeyRefused(HostUnreachable):
    """The other machine's key is unknown and nobody accepted it, or it is another one than before."""

    code = "host_key_refused"


class HostRefused(HostUnreachable):
    """The other machine answers and does not let us in, or gives no shell."""

    code = "host_refused"


class HostUnfit(HostUnreachable):
    """The other machine lets us in, and lacks what a daemon needs there: a Python, room, a directory of its own."""

    code = "host_unfit"


class BudgetReached(OpAgentError):
    """A budget of the binding is used up."""

    code, exit = "budget_reached", 8


class WaitingForApproval(OpAgentError):
    """The agent waits for a person, and nobody is at this terminal."""

    code, exit = "waiting_for_approval", 9


class AgentFailed(OpAgentError):
    """The agent did not do what its protocol demands."""

    code, exit = "agent_failed", 10


class AgentCrashed(AgentFailed):
    """The agent's process ended by itself."""

    code = "agent_crashed"


class AgentStuck(AgentFailed):
    """The agent neither reads nor answers within its deadline."""

    code = "agent_stuck"


class SignInNeeded(AgentFailed):
    """The agent wants an account."""

    code = "sign_in_needed"


class CrashLoop(AgentFailed):
    """The agent crashed too often; it is started again only when somebody says so."""

    code = "crash_loop"


class AlreadyDecided(OpAgentError):
    """Somebody answered this approval first."""

    code = "already_decided"


class Conflict(OpAgentError):
    """What was asked does not fit the present state."""

    code = "conflict"


class RuntimeInUse(Conflict):
    """A version of a runtime runs, or counts, and so it stays."""

    code = "runtime_in_use"


class InstallFailed(OpAgentError):
    """A runtime could not be installed; nothing of it is left."""

    code = "install_failed"


class HashMismatch(InstallFailed):
    """What was fetched, or what lies here, is not what its hash says."""

    code = "hash_mismatch"


class DaemonUnavailable(OpAgentError):
    """The daemon cannot be started or does not answer."""

    code = "daemon_unavailable"


class ProtocolMismatch(OpAgentError):
    """Client and daemon have no protocol version in common."""

    code = "protocol_mismatch"


class StoreFailed(OpAgentError):
    """The state database cannot be written or read."""

    code = "store_failed"


class FileRefused(OpAgentError):
    """A file is not what it must be (a FIFO, a device, too large, another's)."""

    code = "file_refused"


class Bug(OpAgentError):
    """A mistake of ours; the daemon's log has the details."""

    code, exit = "bug", 70


def _tree(root: type[OpAgentError]) -> dict[str, type[OpAgentError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


BY_CODE: dict[str, type[OpAgentError]] = _tree(OpAgentError)


def from_json(data: dict[str, Any]) -> OpAgentError:
    """The error that `as_json` described; an unknown code (a newer daemon) becomes a plain OpAgentError."""
    kind = BY_CODE.get(str(data.get("code")), OpAgentError)
    return kind(str(data.get("message", "")), str(data.get("why", "")), str(data.get("hint", "")))
