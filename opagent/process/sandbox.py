"""The box of level `strict`: a profile becomes the options of bubblewrap and open descriptors; decides nothing about the profile.

    spawn(Launch(..., box=Bwrap(profile)))

Options go through a descriptor and the environment by execve: a command line can be read by every user of the machine.
(Design: "The profile of level `strict`".)
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping

from opagent.process import limits, seccomp
from opagent.process.box import Pipes, Started, popen
from opagent.process.pins import Pins, beneath, high, mount
from opagent.process.profile import HOME, Level, Mount, Profile

BWRAP = "/usr/bin/bwrap"  # AppArmor profiles name this path
SYSTEM = (
    "/usr", "/etc/ssl", "/etc/ca-certificates", "/etc/pki", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/alternatives",
)  # fmt: skip
# bwrap and its init keep stdin and stdout open for as long as they live: then nobody would notice that the agent closed them.
# They close all else, so the pipes pass them under other numbers.
_SH = ("/bin/sh", "-c")
_ASIDE = (*_SH, 'exec "$@" 8<&0 9>&1 0</dev/null 1>/dev/null', "sh")
_BACK = (*_SH, 'exec "$@" 0<&8 1>&9 8<&- 9>&-', "sh")
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # links into /usr, or directories of their own
_UNSHARED = ("user", "ipc", "pid", "uts", "cgroup-try", "net")


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
            self.warnings, self.mounted, self.hidden = tuple(pins.warnings), tuple(pins.mounted), tuple(pins.hidden)
            status, theirs = os.pipe()
            kept = contextlib.ExitStack()
            kept.callback(os.close, status)
            stack.push(kept)
            theirs = high(theirs)
            stack.callback(os.close, theirs)
            filter_ = _memory(stack, "filter", _filter(self.profile))
            words = [
                *options(self.profile, pins.options),
                "--seccomp",
                str(filter_),
                "--json-status-fd",
                str(theirs),
                "--chdir",
                cwd,
            ]
            said = _memory(stack, "options", b"".join(os.fsencode(word) + b"\0" for word in words))
            program = (*_BACK, *limits.prefix(self.profile.limits, limits.present()), *argv)
            command = (*_ASIDE, self.program, "--args", str(said), "--", *program)
            inside = {**env, "HOME": HOME, "TMPDIR": "/tmp"}
            child = popen(command, inside, cwd, pipes, (*pins.fds, theirs, filter_, said))
            kept.pop_all()
            return Started(child, status)

    def close(self) -> None:
        """Nothing outlives `start`."""


def options(profile: Profile, workspace: Iterable[str]) -> Iterator[str]:
    """The words for bwrap; `workspace` are those that mount it and names in it."""
    yield from (f"--unshare-{kind}" for kind in _UNSHARED)
    yield from ("--die-with-parent", "--new-session", "--hostname", "agent", "--cap-drop", "ALL")
    if not profile.nested:
        yield "--disable-userns"
    yield from _system()
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


def _system() -> Iterator[str]:
    for path in SYSTEM:
        if os.path.lexists(path):
            yield from mount(Mount(path, path))
    for name in _MERGED:
        place = f"/{name}"
        if os.path.islink(place):
            yield from ("--symlink", os.readlink(place), place)
        elif os.path.isdir(place):
            yield from mount(Mount(place, place))


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
