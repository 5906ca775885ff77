"""The box of level `strict`: a profile becomes the options of bubblewrap and open descriptors; decides nothing about the profile.

    spawn(Launch(..., box=Bwrap(profile)))

Options go through a descriptor and the environment by execve: a command line can be read by every user of the machine. What lies
in the workspace is opened beneath its descriptor first and mounted by that: a name that is swapped for a link meanwhile is not
followed. (Design: "The profile of level `strict`".)
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from opagent.process import seccomp
from opagent.process.box import Pipes, Started, popen
from opagent.process.pins import Pins
from opagent.process.profile import HOME, Level, Limits, Profile

BWRAP = "/usr/bin/bwrap"  # AppArmor profiles name this path
SYSTEM = (
    "/usr", "/etc/ssl", "/etc/ca-certificates", "/etc/pki", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/alternatives",
)  # fmt: skip
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # links into /usr, or directories of their own
_UNSHARED = ("user", "ipc", "pid", "uts", "cgroup-try", "net")
_SHELLS = (126, 127)  # exit status of prlimit for what cannot be executed, and for what is not there
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16


class Bwrap:
    """One launch. `gaps` tells later whether what was mounted over names of the workspace is still there."""

    level = Level.STRICT

    def __init__(self, profile: Profile, program: str = BWRAP) -> None:
        self.profile = profile
        self.warnings: tuple[str, ...] = ()
        self.mounted: tuple[str, ...] = ()  # places over names of the workspace
        self.hidden: frozenset[str] = frozenset()  # those of them that hide something
        self._program = program
        self._kept = contextlib.ExitStack()

    def start(self, argv: tuple[str, ...], env: Mapping[str, str], cwd: str, pipes: Pipes) -> Started:
        _require(argv, env)
        fds: list[int] = []
        with contextlib.ExitStack() as both:
            status, theirs = os.pipe()
            both.callback(os.close, theirs)
            self._kept.callback(os.close, status)
            fds.append(theirs)
            options = [*self._options(fds), "--chdir", cwd, "--json-status-fd", str(theirs)]
            fds.append(self._memory("options", b"".join(os.fsencode(option) + b"\0" for option in options)))
            command = [self._program, "--args", str(fds[-1]), "--", *_limited(self.profile.limits), *argv]
            child = popen(command, {**env, "HOME": HOME, "TMPDIR": "/tmp"}, cwd, pipes, tuple(fds))  # noqa: S108 - its own
            return Started(child, os.dup(status))

    def close(self) -> None:
        self._kept.close()

    def _memory(self, name: str, content: bytes) -> int:
        """A file without a name."""
        fd = os.memfd_create(name)
        self._kept.callback(os.close, fd)
        os.write(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def _options(self, fds: list[int]) -> Iterator[str]:
        profile = self.profile
        yield from (f"--unshare-{kind}" for kind in _UNSHARED)
        yield from ("--die-with-parent", "--new-session", "--hostname", "agent", "--cap-drop", "ALL")
        if not profile.nested:
            yield "--disable-userns"
        yield from system()
        size = str(profile.limits.tmp)
        yield from ("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--size", size, "--tmpfs", "/dev/shm")
        yield from ("--perms", "1777", "--size", size, "--tmpfs", "/tmp", "--perms", "0700", "--size", size, "--tmpfs", HOME)
        yield from self._outside()
        with Pins(profile.workspace) as pins:
            self._kept.push(pins.keep())
            yield from pins.options(profile)
            fds += pins.fds
            self.warnings, self.mounted, self.hidden = tuple(pins.warnings), tuple(pins.mounted), frozenset(pins.hidden)
        yield from ("--remount-ro", "/dev", "--remount-ro", "/")
        fds.append(self._memory("seccomp", seccomp.program(platform.machine(), nested=profile.nested, families=_FAMILIES)))
        yield from ("--seccomp", str(fds[-1]))

    def _outside(self) -> Iterator[str]:
        """Programs and other mounts, but for those that lie in the workspace: they come after it."""
