"""Starts one program with three pipes and a pidfd, and says in words why it could not; watches and ends nothing.

`spawn(launch)` is called on the thread of the event loop: a death signal follows the thread that spawned (bwrap's
--die-with-parent), and that thread outlives every child.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from opagent.errors import AgentFailed, NotFound, OpAgentError, RuntimeNotInstalled
from opagent.model import ProcessId
from opagent.policy.redact import Secrets
from opagent.process import tree
from opagent.process.box import Box, Pipes, Started, popen

# 64 KiB is what a pipe holds by itself. Not more than 256: beyond 64 MiB of pipes per user the kernel gives new ones two pages.
STDOUT_PIPE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start. `env` is the whole environment; OPAGENT_PROCESS is added. `log` gets what the program says on stderr.

    Without `secrets` nothing is hidden of that: it goes back to who said it. Without `box` nothing confines it.
    """

    id: ProcessId
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    log: Path
    secrets: Secrets | None = None
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Child:
    """A program that runs: our ends of its pipes (not blocking), its pidfd, and how its family is recognised.

    With a box `popen` may be the box's own process; `status` is then where it tells who runs inside.
    """

    popen: subprocess.Popen[bytes]
    pidfd: int
    stdin: int
    stdout: int
    stderr: int
    started: float  # monotonic
    family: tree.Family
    status: int = -1


unawaited: set[int] = set()  # pids of children whose exit status nobody but their owner may take


def spawn(launch: Launch) -> Child:
    """Start the program in a session of its own. Raises RuntimeNotInstalled, NotFound (its directory) or AgentFailed."""
    if not hasattr(os, "pidfd_open"):
        raise AgentFailed(f"agents cannot be supervised on {sys.platform}", "it takes Linux 5.4 or newer")
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
        try:
            child = _spawn(launch, theirs, ours)
        except OSError as error:
            raise _explained(error, launch) from error
        except ValueError as error:  # a NUL byte, or `=` in a name
            raise AgentFailed(f"{_name(launch)} cannot be started", str(error), "opagent doctor") from error
        finally:
            if launch.box:
                launch.box.close()
        ours.pop_all()
        return child


def _spawn(launch: Launch, theirs: contextlib.ExitStack, ours: contextlib.ExitStack) -> Child:
    their_stdin, stdin = _pipe(theirs, ours)
    stdout, their_stdout = _pipe(ours, theirs)
    stderr, their_stderr = _pipe(ours, theirs)
    with contextlib.suppress(OSError):  # a user has only so much memory for pipes
        fcntl.fcntl(stdout, fcntl.F_SETPIPE_SZ, STDOUT_PIPE)
    for fd in (stdin, stdout, stderr):
        os.set_blocking(fd, False)
    env = {**launch.env, tree.MARKER: launch.id}
    pipes = Pipes(their_stdin, their_stdout, their_stderr)
    with _marked() as mark:
        started = (
            launch.box.start(launch.argv, env, launch.cwd, pipes)
            if launch.box
            else Started(popen(launch.argv, env, launch.cwd, pipes))
        )
    child = started.popen
    try:
        if started.status >= 0:
            ours.callback(os.close, started.status)
            os.set_blocking(started.status, False)
        pidfd = os.pidfd_open(child.pid)
    except OSError:
        child.kill()
        child.wait()
        raise
    unawaited.add(child.pid)
    family = tree.Family(launch.id, child.pid, tree.start_time(child.pid) or 0, mark)
    return Child(child, pidfd, stdin, stdout, stderr, time.monotonic(), family, started.status)


def _pipe(reading: contextlib.ExitStack, writing: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe, each end closed by the stack of the side that it belongs to."""
    ends = os.pipe()
    reading.callback(os.close, ends[0])
    writing.callback(os.close, ends[1])
    return ends


_numbers = itertools.count(1)
_MARKS = 65_536


@contextlib.contextmanager
def _marked() -> Iterator[int]:
    """Mark what is forked meanwhile by a limit nobody uses: the size of POSIX message queues, a few bytes less than allowed.

    Limits are inherited by every descendant, can be read from outside, and stay when a program clears its environment, closes
    all descriptors and moves to a session of its own. Set here and not in the child: no code of ours runs after fork.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
    top = 819_200 if hard == resource.RLIM_INFINITY else hard
    mark = top - next(_numbers) % _MARKS if top > 2 * _MARKS else tree.NO_MARK
    if mark == tree.NO_MARK:
        yield mark
        return
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (mark, hard))
    try:
        yield mark
    finally:
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, (soft, hard))


def _name(launch: Launch) -> str:
    return launch.argv[0] if launch.argv else "nothing"


_WORDS = {
    errno.E2BIG: ("its arguments and environment are too large", "opagent explain"),
    errno.EMFILE: ("the daemon has no file descriptors left", "opagent ps"),
    errno.ENFILE: ("the machine has no file descriptors left", "opagent ps"),
    errno.EAGAIN: ("no more processes are allowed for this user", "opagent ps"),
    errno.ENOMEM: ("there is not enough memory", "opagent ps"),
    errno.ETXTBSY: ("the program is being written at this moment", ""),
}


def _explained(error: OSError, launch: Launch) -> OpAgentError:
    """The error in words. Popen tells by `filename` whether the directory or the program is meant."""
    name = _name(launch)
    if error.filename == launch.cwd and launch.cwd != name:
        return NotFound(f"{name} cannot be started in {launch.cwd}", os.strerror(error.errno or 0), f"ls -ld {launch.cwd}")
    found = shutil.which(name, mode=os.F_OK, path=launch.env.get("PATH", ""))
    if error.errno == errno.ENOENT and found:
        return AgentFailed(
            f"{name} cannot be started", "the interpreter that its first line names is missing", f"head -1 {found}"
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return RuntimeNotInstalled(f"{name} is not on this machine", "no such program in its PATH", "opagent doctor")
    if error.errno == errno.EACCES:
        return AgentFailed(f"{name} may not be executed", "permission denied", f"ls -l {found or name}")
    if error.errno == errno.ENOEXEC:
        return AgentFailed(f"{name} is no program for this machine", "exec format error", f"head -1 {found or name}")
    why, hint = _WORDS.get(error.errno or 0, (os.strerror(error.errno or 0), "opagent doctor"))
    return AgentFailed(f"{name} cannot be started", why, hint)
