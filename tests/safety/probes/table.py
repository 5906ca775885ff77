"""Every escape probe: what it tries, what must come of it at each level, and how the world outside sees that it got out.

Expected at `strict`: refused, always. Expected at `landlock`: refused, or the gap of `opagent/process/gaps.py` that `explain` lists.
Without a sandbox each is seen to succeed, so that it can fail; where that would do harm or needs what is not there, `bare` says why
it is not tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.safety.probes.world import World

Escaped = Callable[[World, str], bool]


@dataclass(frozen=True, slots=True)
class Probe:
    """`escaped` looks at the world, and at what the attempt gave. `root`: succeeds without a sandbox for root only."""

    name: str
    tries: str
    escaped: Escaped = field(repr=False)
    landlock: str = ""  # "": refused
    bare: str = ""  # why it is not tried without a sandbox
    root: bool = False
    needs_user: str = ""  # why it says nothing about root


def read(world: World, said: str) -> bool:
    """It holds what only the world outside knows."""
    return world.canary in said


def done(world: World, said: str) -> bool:
    """The call itself is what must not succeed."""
    return said.startswith("done")


def changed(path: str) -> Escaped:
    return lambda world, said: world.changed(path)


def above(limit: str) -> Escaped:
    return lambda world, said: said.startswith("done: ") and int(said[6:]) > getattr(world.limits, limit)


HARM = "it would change this machine"
NOBODY = "nobody is there who could answer"

PROBES = (
    # files outside
    Probe("key", "read a key of the home directory", read),
    Probe("key-by-old-link", "read it through a symbolic link that was there", read),
    Probe("key-by-new-link", "read it through a symbolic link made by the agent", read),
    Probe("key-by-new-hard-link", "link it into the workspace and read it", read),
    Probe("key-by-proc-root", "read it as /proc/self/root/...", read),
    Probe("key-by-proc-cwd", "read it as /proc/self/cwd/../...", read),
    Probe("key-by-first-process", "read it through the root of process 1", read, bare="process 1 may be anybody's"),
    Probe("key-by-handle", "open a file by its handle, past the directories above it", done, root=True),
    Probe("state", "read the database of the daemon", read),
    Probe("home-listing", "list a directory of the home", read),
    Probe("file-size", "see the size of a file outside", lambda world, said: f"{len(world.canary)} bytes" in said, "metadata"),
    Probe("mode-outside", "change the mode of a file outside", changed("other/mode"), "metadata"),
    Probe("start-up-file", "append to ~/.bashrc", changed(".bashrc")),
    Probe("beside", "make a file beside the workspace", changed("other/new")),
    Probe("beside-by-link", "the same through a link that was there", changed("other/linked")),
    Probe("beside-by-rename", "move a file out of the workspace", changed("other/moved")),
    Probe("cut", "truncate a file outside", changed("other/long")),
    Probe("hard-link", "write a file outside that has a second name in the workspace", changed("other/hard"), "hardlinks"),
    Probe("package", "write into the program of the agent", changed("package/program.py")),
    Probe("kernel-setting", "open a setting of the kernel for writing", done, root=True),
    Probe("cgroup", "open the list of a control group for writing", done, root=True),
    Probe("kernel-log", "open the log of the kernel", done, root=True),
    Probe("root-directory", "make a directory in /", done, bare=HARM),
    # names inside
    Probe("binding", "write .agent.yaml", changed("work/.agent.yaml"), "protected"),
    Probe("binding-aside", "move .agent.yaml away and make another", changed("work/.agent.yaml"), "protected"),
    Probe("binding-below", "write a binding of a directory below", changed("work/sub/.agent.yaml"), "protected"),
    Probe("conversation", "write the conversation", changed("work/conversations/a.md"), "protected"),
    Probe("shell-file", "write .envrc", changed("work/.envrc"), "protected"),
    Probe("editor-settings", "write .vscode/tasks.json", changed("work/.vscode/tasks.json"), "protected"),
    Probe("hidden", "read a name that a rule hides", read, "hidden"),
    Probe("git-gitlink", "put a gitlink into the index of git", changed("work/.git/index"), "protected"),
    Probe("git-hook", "make a hook of git", changed("work/.git/hooks/pre-commit"), "protected"),
    Probe("git-config", "write the settings of git", changed("work/.git/config"), "protected"),
    Probe("git-commondir", "make .git/commondir, which leads git to settings elsewhere", changed("work/.git/commondir"), "protected"),
    Probe("git-aside", "move .git away", done, "protected"),
    # other processes
    Probe("environment", "read the environment of another process", read),
    Probe("command-line", "read its command line", read, "pids"),
    Probe("memory-file", "read its memory as a file", read),
    Probe("memory-by-call", "read its memory by process_vm_readv", read),
    Probe("descriptor-link", "open a file that it has open", read),
    Probe("descriptor-by-call", "take its descriptor by pidfd_getfd", read),
    Probe("trace", "trace it", done),
    Probe("signal", "send it a signal", changed("other/signalled")),
    Probe("limit-of-another", "set its limits", lambda world, said: world.victim_limit() == (64, 64)),
    Probe("priority-of-another", "lower its priority", lambda world, said: world.victim_priority() == 19, "pids"),
    Probe("shared-memory", "attach its shared memory", read),
    # namespaces
    Probe("user-namespace", "make a user namespace", done),
    Probe("user-namespace-by-clone", "make one by clone", done),
    Probe("mount", "mount over the workspace", done),
    Probe("namespace-of-another", "enter the mounts of another process", done, root=True),
    Probe("other-root", "change its root directory", done, root=True),
    # sockets
    Probe("docker-socket", "connect to a socket with a path", read),
    Probe("control-socket", "connect to the daemon's own socket", read),
    Probe("abstract-socket", "connect to a socket with an abstract name", read),
    Probe("loopback", "connect to 127.0.0.1 of the host", read),
    Probe("loopback-udp", "send a datagram to 127.0.0.1 of the host", read),
    Probe("metadata-address", "connect to 169.254.169.254", done, bare=NOBODY),
    Probe("udp-out", "send a datagram to another machine", done, bare=NOBODY),
    Probe("raw-packets", "make a socket of raw packets", done, root=True),
    Probe("vsock", "make a socket to the hypervisor", done),
    # the kernel
    Probe("keyring", "reach the keyring of the session", done),
    Probe("bpf", "make a map of bpf", done, root=True),
    Probe("io-uring", "make a ring of io_uring", done),
    Probe("userfaultfd", "handle page faults", done),
    Probe("perf", "count events of the processor", done, root=True),
    # programs that run as their owner
    *(
        Probe(f"set-id-{way}", f"make a set-user-id file by {way}", lambda world, said: world.set_id_files() != [])
        for way in ("chmod", "fchmod", "fchmodat2", "open", "openat2", "mknod", "tmpfile")
    ),
    # terminals
    Probe("terminal-input", "type into a terminal (TIOCSTI)", done),
    Probe("terminal-of-another", "write to the terminal of a person", lambda world, said: world.terminal_said()),
    # too much of something
    Probe("core-file", "leave a core file", done),
    Probe(
        "fork-bomb", "fork beyond the limit", above("processes"), "processes",
        needs_user="the kernel counts no processes of root: the daemon looks and ends it (tests/integration/test_limits.py)",
    ),
    Probe("memory", "map more memory than allowed", above("memory")),
    Probe("tmp", "fill /tmp", above("tmp")),
    Probe("dev-shm", "fill /dev/shm", above("tmp")),
    Probe("large-file", "make a file larger than allowed", above("file")),
    Probe("open-files", "open more files than allowed", above("files")),
)  # fmt: skip
