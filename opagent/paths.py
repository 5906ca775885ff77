"""Every directory, file name, socket and environment variable of OpAgent, in one place; makes nothing and opens nothing."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from opagent import mounts

BINDING = ".agent.yaml"
WORK = ".opagent"  # inside a workspace: tmp/, blobs/, saves/ and a .gitignore
CONVERSATIONS = "conversations/"
COMPLETION_VARIABLE = "_OPAGENT_COMPLETE"  # set by the completion script of the shell only
TOOLS = "OPAGENT_TOOLS"
_USER = {"XDG_STATE_HOME": "~/.local/state", "XDG_CONFIG_HOME": "~/.config", "XDG_DATA_HOME": "~/.local/share"}
SOCKET_MAX = 100  # bytes; sun_path holds 107

# name -> what it is for (docs/reference/environment.md is made from this table)
ENVIRONMENT = {
    "OPAGENT_STATE_DIR": "where the database and the logs lie (default: $XDG_STATE_HOME/opagent, else ~/.local/state/opagent)",
    "OPAGENT_SHARED_HOME": "1: other machines have the same home directory, 0: none has (default: as its file system tells)",
    "OPAGENT_CONFIG_DIR": "where config.yaml and runtimes/ lie (default: $XDG_CONFIG_HOME/opagent, else ~/.config/opagent)",
    "OPAGENT_RUN_DIR": "where the daemon's socket and lock lie (default: run/ in the state, a directory per machine and boot)",
    "OPAGENT_IDLE_EXIT": "seconds without clients and agents after which the daemon leaves (default 900; 0: never)",
    "OPAGENT_ANCHOR": "who is given heads of the record: some of journald,syslog,program, or none (default: all that are there)",
    "OPAGENT_LOG": "level of the daemon's log: debug, info (default), warning",
    "OPAGENT_PROCESS": "set for every agent: the id of its process; all that it starts carries it and is ended with it",
    "OPAGENT_STATE": "set for every agent: its directory for data that outlives the process",
    "OPAGENT_TOOLS": "set for every agent: the directory of its own socket, by which it calls others and asks the person",
    "OPAGENT_SYSTEM_POLICY": "the machine's policy file (default /etc/opagent/policy.yaml)",
    "OPAGENT_SSH_CONFIG": "the ssh_config that says how other machines are reached, as `ssh -F` (default: the user's)",
    "SSH_AUTH_SOCK": "the ssh-agent that signs in to other machines; it is never forwarded to them",
    "XDG_CACHE_HOME": "on another machine: where OpAgent's code is put first, in opagent/ (default: ~/.cache)",
    "XDG_STATE_HOME": "the state directory is opagent/ in it (default: ~/.local/state)",
    "NO_COLOR": "no colours, whatever its value",
    "FORCE_COLOR": "colours although stdout is no terminal",
    "EDITOR": "what /open-file of the chat starts (after VISUAL)",
    "VISUAL": "what /open-file of the chat starts",
}


def _named(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path(default)


def _user(variable: str, program: str) -> str:
    """The program's directory below a base directory of the user (https://specifications.freedesktop.org/basedir-spec)."""
    base = os.environ.get(variable, "")
    return f"{base if base.startswith('/') else os.path.expanduser(_USER[variable])}/{program}"


def _digest(path: str | Path) -> str:
    import hashlib  # 2 ms, and short commands never come here

    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def state() -> Path:
    """On this machine alone: a database in a home directory that other machines share would be used by all of them."""
    usual = usual_state()
    return _named("OPAGENT_STATE_DIR", str(local() / f"state-{_digest(usual)[:8]}") if state_moved() else usual)


def usual_state() -> str:
    """Where the state lies when nothing speaks against it."""
    return _user("XDG_STATE_HOME", "opagent")


def state_moved() -> str:
    """Why the state is not where it usually is: the type of the file system there; "" where it is."""
    if os.environ.get("OPAGENT_STATE_DIR", "").startswith("/"):
        return ""
    said = os.environ.get("OPAGENT_SHARED_HOME", "")
    if said in ("0", "1"):
        return "a shared home directory" if said == "1" else ""
    return _shared(usual_state())


_shared = functools.cache(mounts.shared)  # asked with every path of the state


def local() -> Path:
    """This user's directory that no other machine sees and that survives a logout: the first that is ours or can be made.

    It holds a state that may not lie in its usual place, and a socket whose usual path is too long.
    """
    name = f"opagent-{os.getuid()}"
    return next((base / name for base in _LOCAL if _usable(base, base / name)), _LOCAL[0] / name)


def locals_() -> tuple[Path, ...]:
    """Every directory that `local` may have been."""
    return tuple(base / f"opagent-{os.getuid()}" for base in _LOCAL)


_LOCAL = (Path("/var/tmp"), Path("/tmp"), Path("/dev/shm"))


def _usable(base: Path, path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return os.access(base, os.W_OK | os.X_OK) and not _shared(str(base))
    return found.st_uid == os.geteuid() and not found.st_mode & 0o077 and not _shared(str(base))


def config() -> Path:
    return _named("OPAGENT_CONFIG_DIR", _user("XDG_CONFIG_HOME", "opagent"))


def data() -> Path:
    return Path(_user("XDG_DATA_HOME", "opagent"))


def run() -> Path:
    """The directory of socket and lock; a short hashed one when the usual path leaves no room for the socket's name.

    The same in a desktop, a cron job and over SSH, whether XDG_RUNTIME_DIR is set or not, and it outlives a logout.
    """
    usual = _named("OPAGENT_RUN_DIR", str(runs() / here()))
    if len(os.fsencode(usual / "hosts/0123456789abcdef.sock")) <= SOCKET_MAX:
        return usual
    return local() / _digest(usual)


def runs() -> Path:
    """Holds a `run` directory per machine and boot."""
    return state() / "run"


@functools.cache
def here() -> str:
    """Names this machine, this boot of it, and a container on it: where a pid and a socket mean something."""
    machine = _word("/etc/machine-id") or _word("/var/lib/dbus/machine-id") or "0"
    boot = _word("/proc/sys/kernel/random/boot_id") or "0"
    name = f"{machine[:8]}-{boot[:8]}" if boot != "0" else f"{machine[:8]}-{_digest(os.uname().nodename)[:8]}"
    try:
        pids = int(os.readlink("/proc/self/ns/pid").strip("pid:[]"))
    except (OSError, ValueError):
        return name
    return name if pids == _FIRST_PIDS else f"{name}-{pids:x}"


_FIRST_PIDS = 0xEFFFFFFC  # the number of the pid namespace that the kernel starts with


def _word(path: str) -> str:
    """What stands in a small file, letters and digits of it; "" without one."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return "".join(filter(str.isalnum, file.read(64)))
    except OSError:
        return ""


def former_sockets() -> tuple[Path, ...]:
    """Where a daemon of an older version listens."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    return (*((Path(base) / "opagent/daemon.sock",) if base.startswith("/") else ()), runs() / "daemon.sock")


def socket() -> Path:
    return run() / "daemon.sock"


def lock() -> Path:
    return run() / "daemon.lock"


def daemon_pid() -> Path:
    """Held locked by the daemon for as long as it lives."""
    return run() / "daemon.pid"


def machine_socket(machine: str) -> Path:
    """Where the daemon of another machine is reached, through the link that the daemon here holds."""
    return run() / "hosts" / f"{_digest(machine)}.sock"


def agent_sockets(process: str) -> Path:
    """The directory of the sockets that one agent may use; nothing else lies in it."""
    return run() / "agents" / process


def agent_network(process: str) -> Path:
    """Where the proxy listens for one agent: who comes here is that agent."""
    return agent_sockets(process) / "net.sock"


def agent_tools(process: str) -> Path:
    """Where the daemon listens for what one agent asks of it; its token lies beside it."""
    return agent_sockets(process) / "tools.sock"


def daemon_code() -> Path:
    """What code the daemon runs: `code`, its version."""
    return run() / "daemon.code"


@functools.cache
def code() -> str:
    """The digest of the package this process runs from, where it was put there as a payload; "" for an installed one."""
    root = Path(__file__).resolve().parent.parent
    return root.name if root.parent.name == "rt" and (root / ".ok").is_file() else ""


def code_base() -> str:
    """Below it lies what `code` names, and other code of ours."""
    return str(Path(__file__).resolve().parents[3])


def database() -> Path:
    return state() / "opagent.db"


def database_lock(database: Path) -> Path:
    """Held by the one process that uses the database."""
    return database.with_name(f"{database.name}.lock")


def database_head(database: Path) -> Path:
    """Where the journal ended the last time somebody noted it: shows that a database lost its end."""
    return database.with_name(f"{database.name}.head")


def database_ballast(database: Path) -> Path:
    """Bytes that are given back to a full disk, so that "disk full" can be recorded."""
    return database.with_name(f"{database.name}.ballast")


def database_copy(database: Path) -> Path:
    """The copy of yesterday or today, alone in its directory."""
    return database.parent / "copy" / database.name


def database_blobs(database: Path) -> Path:
    """Large bodies of events, by digest."""
    return database.with_name("cas")


def audit_key() -> Path:
    """Seals the heads of the journal."""
    return state() / "audit.key"


def anchor_program() -> Path:
    """The user's own program that is given each head of the journal."""
    return config() / "anchor"


def journald() -> Path:
    return Path("/run/systemd/journal/socket")


def syslog() -> Path:
    return Path("/dev/log")


def secrets_key() -> Path:
    """With it the journal's fingerprints of secrets are made: they tell nothing to who has the journal alone."""
    return state() / "secrets.key"


def daemon_log() -> Path:
    return state() / "daemon.log"


def client_log() -> Path:
    """Where the command line leaves the trace of a bug of its own."""
    return state() / "client.log"


def chat_history() -> Path:
    """What was typed in chats, for the arrow keys."""
    return state() / "chat-history"


def payload_cache() -> Path:
    """What other machines are given, made from this installation."""
    return state() / "payload"


def python_archives() -> Path:
    """Portable Pythons for other machines, packed, one per kind of system."""
    return state() / "pythons"


def agent_log(process: str) -> Path:
    """What the process wrote to stderr (rotated once)."""
    return state() / "logs" / f"{process}.log"


def probes() -> Path:
    """What runtimes were seen to do: a directory for each, a file for each of its versions; and where probes work meanwhile."""
    return state() / "probes"


def agent_state(workspace: str, runtime: str) -> Path:
    """The directory a runtime keeps its data in, one per workspace and runtime."""
    return state() / "agents" / f"{runtime}-{_digest(workspace)}"


def agent_home(workspace: str, runtime: str) -> Path:
    """What is kept of the home directory that agents of this runtime see in this workspace.

    Beside `agent_state`, never in it: there an agent could put a link, and what it leads to would be mounted the next time.
    """
    own = agent_state(workspace, runtime)
    return own.with_name(f"{own.name}.home")


def landlock_home(process: str) -> Path:
    """The home directory that a program sees where it has no mounts of its own."""
    return state() / "homes" / process


def agent_git(process: str) -> Path:
    """The `.git` that the agent of a process sees in its workspace."""
    return agent_gits() / process


def agent_gits() -> Path:
    """Holds those of all processes; nothing in it outlives a daemon."""
    return state() / "git"


def sandbox_probe() -> Path:
    """What the last look at this machine's sandbox found."""
    return state() / "sandbox.json"


def user_config() -> Path:
    return config() / "config.yaml"


def machine_policy() -> Path:
    return _named("OPAGENT_SYSTEM_POLICY", "/etc/opagent/policy.yaml")


def _shipped(name: str) -> Path:
    package = Path(__file__).resolve().parent
    bundled = package / "_bundled" / name
    return bundled if bundled.is_dir() else package.parent / name


def bundled_runtimes() -> Path:
    """`runtimes/` of the wheel, or of the checkout when run from one."""
    return _shipped("runtimes")


def bundled_workspaces() -> Path:
    return _shipped("workspaces")


def runtime_directories() -> tuple[Path, ...]:
    """Where runtimes are looked for, first match wins: the user's own, installed packages, bundled ones."""
    return (config() / "runtimes", installed_runtimes(), bundled_runtimes())


def installed_runtimes() -> Path:
    """Holds a directory per runtime with its versions; the names that begin with a dot are work in progress."""
    return data() / "runtimes"


def runtime_registry() -> Path:
    """The list of agents that was fetched last, in the form of the ACP registry; without it the one that comes with us counts."""
    return data() / "registry.json"


def editor_swaps() -> tuple[Path, ...]:
    """Where nvim keeps swap files: in its state directory, before 0.8 in its data directory."""
    return (Path(_user("XDG_STATE_HOME", "nvim"), "swap"), Path(_user("XDG_DATA_HOME", "nvim"), "swap"))


def host_id_file() -> Path:
    return state() / "host-id"
