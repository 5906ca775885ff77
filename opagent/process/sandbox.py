"""The box of level `strict`: a profile becomes the options of bubblewrap and open descriptors; decides nothing about the profile.

    spawn(Launch(..., box=Bwrap(profile)))

Options go through a descriptor and the environment by execve: a command line can be read by every user of the machine.
(Design: "The profile of level `strict`".)
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from opagent.process import bounds, seccomp
from opagent.process.box import Pipes, Started, popen
from opagent.process.pins import Pins, beneath, mount
from opagent.process.profile import HOME, Level, Limits, Profile
from opagent.process.system import System, high

BWRAP = "/usr/bin/bwrap"  # AppArmor profiles name this path
# bwrap and its init keep stdin and stdout open for as long as they live: then nobody would notice that the agent closed them.
# They close all else, so the pipes pass them under other numbers.
_SH = ("/bin/sh", "-c")
_ASIDE = (*_SH, 'exec "$@" 8<&0 9>&1 0</dev/null 1>/dev/null', "sh")
_BACK = 'exec "$@" 0<&{0} 1>&{1} {0}<&- {1}>&-'
# Some shells name the number of processes so, some so. It counts in the namespaces of the box: set before, it keeps bwrap from
# making them.
_FEWER = "ulimit -u {0} 2>/dev/null || ulimit -p {0} || exit 126; "
_KINDS = ("user", "ipc", "pid", "uts", "cgroup-try", "net")
UNSHARED = (
    *(f"--unshare-{kind}" for kind in _KINDS), "--die-with-parent", "--new-session", "--hostname", "agent", "--cap-drop", "ALL",
)  # fmt: skip


class Bwrap:
    """One launch. After `start`, `pins` tells what was mounted over names of the workspace, and what it warns of."""

    level = Level.STRICT

    def __init__(self, profile: Profile, program: str = BWRAP) -> None:
        self.profile = profile
        self.warnings: tuple[str, ...] = ()
        self.mounted: tuple[str, ...] = ()
        self.hidden: tuple[str, ...] = ()
        self.program = program

    def start(self, argv: tuple[str, ...], env: Mapping[str, str], cwd: str, pipes: Pipes) -> Started:
        _require(argv, env)
        with contextlib.ExitStack() as stack:
            pins = stack.enter_context(contextlib.closing(Pins(self.profile)))
            system = stack.enter_context(contextlib.closing(System()))
            self.warnings, self.mounted, self.hidden = tuple(pins.warnings), tuple(pins.mounted), tuple(pins.hidden)
            status, theirs = os.pipe()
            kept = contextlib.ExitStack()
            kept.callback(os.close, status)
            stack.push(kept)
            theirs = high(theirs)
            stack.callback(os.close, theirs)
            filter_ = _memory(stack, "filter", _filter(self.profile))
            last = ("--seccomp", str(filter_), "--json-status-fd", str(theirs), "--chdir", cwd)
            said = _memory(stack, "options", _joined((*options(self.profile, pins.options), *last)))
            gate, key = os.pipe()
            gate = high(gate)
            stack.callback(os.close, gate)
            with os.fdopen(key, "wb", buffering=0) as opened:
                past = stack.enter_context(_past(pipes))
                inner = _inner(self.profile.limits, past.numbers)
                words = (*past.before, self.program, "--args", str(gate), "--args", str(said), "--", *inner, *argv)
                inside = {**env, "HOME": HOME, "TMPDIR": "/tmp"}
                fds = (*pins.fds, *system.fds, *past.fds, theirs, filter_, gate, said)
                child = popen(words, inside, cwd, past.pipes, fds)
                _held(child, self.profile.limits, opened, (*UNSHARED, *system.options))
            kept.pop_all()
            return Started(child, status)

    def close(self) -> None:
        """Nothing outlives `start`."""


def options(profile: Profile, workspace: Iterable[str]) -> Iterator[str]:
    """The words for bwrap after its first ones; `workspace` are those that mount it and names in it."""
    if not profile.nested:
        yield "--disable-userns"
    size = ("--size", str(profile.limits.tmp), "--tmpfs")
    yield from ("--proc", "/proc", "--dev", "/dev", "--perms", "1777", *size, "/dev/shm")
    yield from ("--perms", "1777", *size, "/tmp", "--perms", "0700", *size, HOME)
    for each in (*profile.programs, *profile.mounts):
        if not beneath(each.place, profile.workspace):
            yield from mount(each)
    yield from workspace
    # root's programs may write settings of the kernel, capabilities or not; one that makes namespaces writes to /proc/self
    yield from ("--ro-bind", "/proc/sys", "/proc/sys") if profile.nested else ("--remount-ro", "/proc")
    yield from ("--remount-ro", "/dev", "--remount-ro", "/")


def _inner(held: Limits, numbers: tuple[int, ...]) -> tuple[str, ...]:
    """What stands before the argv."""
    fewer = _FEWER.format(bounds.processes(held)) if held.processes else ""
    return (*_SH, fewer + _BACK.format(*numbers), "sh")


@dataclass(frozen=True, slots=True)
class _Past:
    """How the pipes get past bwrap: what stands before it, its own three, what it inherits, and their numbers in the box."""

    before: tuple[str, ...]
    pipes: Pipes
    fds: tuple[int, ...]
    numbers: tuple[int, ...]


@contextlib.contextmanager
def _past(pipes: Pipes) -> Iterator[_Past]:
    """Under numbers of ours, else under those that a shell gives them."""
    with _one_at_a_time:
        if not (ours := spare()):
            yield _Past(_ASIDE, pipes, (), (8, 9))
            return
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.dup2(pipes.stdin, ours[0], inheritable=False)
            os.dup2(pipes.stdout, ours[1], inheritable=False)
            yield _Past((), Pipes(null, null, pipes.stderr), ours, ours)
        finally:
            for fd in ours:
                os.dup2(null, fd, inheritable=False)
            os.close(null)


_one_at_a_time = threading.Lock()


@functools.cache
def spare() -> tuple[int, ...]:
    """Two descriptors that stay ours, with numbers of one digit: a shell knows no others. () where those are all taken.

    A process that opens much asks early.
    """
    found = (os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
    if min(found) > _STANDARD and max(found) <= _DIGIT:
        return found
    for fd in found:
        os.close(fd)
    return ()


_STANDARD, _DIGIT = 2, 9


def _held(child: subprocess.Popen[bytes], held: Limits, gate: IO[bytes], first: Iterable[str]) -> None:
    """Set its limits, then let bwrap go on: it reads its first options, without which no program is found in the box.

    Raises OSError, with nothing left.
    """
    try:
        bounds.put(child.pid, held)
        gate.write(_joined(first))
    except (ProcessLookupError, BrokenPipeError):
        return  # it ended: its status says so
    except BaseException:
        child.kill()
        child.wait()
        raise


def _joined(words: Iterable[str]) -> bytes:
    return b"".join(os.fsencode(word) + b"\0" for word in words)


def _filter(profile: Profile) -> bytes:
    return seccomp.program(platform.machine(), nested=profile.nested)


def _memory(stack: contextlib.ExitStack, name: str, content: bytes) -> int:
    """A file without a name."""
    fd = high(os.memfd_create(name))
    stack.callback(os.close, fd)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _require(argv: tuple[str, ...], env: Mapping[str, str]) -> None:
    """Raises OSError as Popen would: bwrap would only end at once."""
    name = argv[0]
    found = name if "/" in name else shutil.which(name, path=env.get("PATH", ""))
    if found is None or not os.path.lexists(found):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    if not os.access(found, os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
