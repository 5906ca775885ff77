"""The box of level `landlock`: the kernel guards files outside the workspace, without namespaces or a helper program.

    spawn(Launch(..., box=Landlock(profile, private)))

Landlock, no_new_privs, capabilities and the filter of system calls belong to a *thread*: one thread for each agent gives its own
away, starts the program, and stays until that has ended (a death signal follows the thread that spawned); the daemon stays free.
What this level does not stop stands in `gaps.py`. (Source: linux/landlock.h; design: "Level landlock".)
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import shutil
import stat
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from opagent import files
from opagent.errors import AgentFailed
from opagent.process import bounds, gaps, seccomp
from opagent.process.box import Pipes, Started, popen
from opagent.process.profile import HOME, Level, Profile
from opagent.process.system import SYSTEM

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on all machines
_PATH_BENEATH, _NET_PORT, _VERSION = 1, 2, 1
_SET_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2  # linux/prctl.h
_CAPABILITIES_3 = 0x20080522  # linux/capability.h

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK, _REFER, _TRUNCATE, _DEVICE = 1 << 6, 1 << 11, 1 << 13, 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_ON_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE
_CONNECT_TCP, _TCP = 2, 1 | 2
_SCOPES = 1 | 2  # abstract sockets, signals

_MORE = (  # beside SYSTEM: what a box of mounts leaves out is missing there, and here it is refused, which programs mind more
    "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/etc/bash.bashrc", "/etc/gitconfig", "/etc/inputrc",
    "/etc/profile", "/etc/protocols", "/etc/services",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def abi() -> int:
    """The version of Landlock's interface, 0 where there is none: then this level is not to be had."""
    try:
        return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    except OSError:
        return 0


class Landlock:
    """One launch. `private`: a directory of ours that does not exist yet; it is the agent's home, and is emptied when it ended.

    `port`: where the proxy takes TCP connections, 0 without one: then it makes no connections at all.
    """

    level = Level.LANDLOCK

    def __init__(self, profile: Profile, private: str, port: int = 0) -> None:
        self.profile, self.private, self.port = profile, private, port

    def start(self, argv: tuple[str, ...], env: Mapping[str, str], cwd: str, pipes: Pipes) -> Started:
        version = abi()
        if not version:
            raise AgentFailed(
                "this kernel has no Landlock", "it takes Linux 5.13 or newer, with Landlock switched on", "opagent doctor"
            )
        _require(argv, env)
        self._furnish()
        # without a user namespace a number of processes would count all of this user's
        inside = {**env, "HOME": self.private, "TMPDIR": f"{self.private}/tmp"}
        command = (*bounds.prefix(replace(self.profile.limits, processes=0), bounds.present()), *argv)
        rules = Rules(version, tuple(self._readable()), (self.private, *self._writable()), self._ports())
        return Started(_Parked(self, rules, lambda: popen(command, inside, cwd, pipes)).child())

    def close(self) -> None:
        """The thread closes what it opened."""

    def filter(self) -> bytes:
        """Of system calls: with no namespaces, only sockets that the launch was given a reason for."""
        wanted = ((seccomp.AF_UNIX, gaps.has_sockets(self.profile)), (seccomp.AF_INET, bool(self._ports())))
        families = tuple(family for family, needed in wanted if needed)
        return seccomp.program(platform.machine(), nested=self.profile.nested, families=families, namespaces=False)

    def _ports(self) -> tuple[int, ...]:
        return (self.port,) if gaps.connects(self.profile, self.port) else ()

    def _furnish(self) -> None:
        """Make the home; what a box of mounts would show in it is linked there."""
        clear(Path(self.private).parent)
        files.private_directory(Path(self.private))
        os.mkdir(f"{self.private}/tmp", 0o700)
        for mount in self.profile.mounts:
            if mount.place.startswith(f"{HOME}/"):
                place = Path(self.private, mount.place.removeprefix(f"{HOME}/"))
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                place.symlink_to(mount.source)

    def _readable(self) -> Iterator[str]:
        yield from (*SYSTEM, *_MORE, "/dev/random", "/dev/urandom")
        yield from (mount.source for mount in (*self.profile.programs, *self.profile.mounts) if not mount.writable)
        if self.profile.read_only:
            yield self.profile.workspace

    def _writable(self) -> Iterator[str]:
        yield from _DEVICES
        yield from (mount.source for mount in (*self.profile.programs, *self.profile.mounts) if mount.writable)
        if not self.profile.read_only:
            yield self.profile.workspace
            return
        for name in self.profile.writable:
            with contextlib.suppress(OSError), files.directory(self.profile.workspace) as folder:
                os.close(files.open_beneath(folder, name, os.O_PATH | os.O_CLOEXEC, links=False))
                yield os.path.join(self.profile.workspace, name)


def clear(folder: Path) -> None:
    """Remove the homes of agents that ended: they are empty."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                path.rmdir()


@dataclass(frozen=True, slots=True)
class Rules:
    """Paths that may be read (and run), or written as well; ports to connect to. A path that is missing is left out."""

    abi: int
    readable: tuple[str, ...]
    writable: tuple[str, ...]
    ports: tuple[int, ...] = ()


class _Parked:
    """The thread that gives its rights away, starts the program, waits for its end and empties its home."""

    def __init__(self, box: Landlock, rules: Rules, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._box, self._rules, self._start = box, rules, start
        self._begun = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._error: Exception | None = None

    def child(self) -> subprocess.Popen[bytes]:
        """The running program. Raises what Popen raises, or OSError when the thread cannot be confined."""
        threading.Thread(target=self._run, daemon=True, name=f"parked-{os.path.basename(self._box.private)}").start()
        self._begun.wait()
        if self._error is not None:
            raise self._error
        assert self._child is not None
        return self._child

    def _run(self) -> None:
        try:
            confine(self._rules, self._box.filter())
            self._child = self._start()
        except Exception as error:  # the outer edge of a thread: the one that waits raises it
            self._error = error
        self._begun.set()
        if self._child is not None:
            with contextlib.suppress(ChildProcessError):  # somebody else took its status already
                os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        shutil.rmtree(self._box.private, ignore_errors=True)  # all but the directory itself, which is not below it


def confine(rules: Rules, program: bytes) -> None:
    """Take from the calling thread, for good, what it shall not do, and what it starts with it. Raises OSError."""
    ruleset = _ruleset(rules)
    try:
        _drop_capabilities()
        if _libc().prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise _last_error("no_new_privs")
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    buffer = ctypes.create_string_buffer(program, len(program))
    said = _Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    if _libc().prctl(_SET_SECCOMP, _FILTER, ctypes.byref(said), 0, 0):
        raise _last_error("seccomp")


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def _ruleset(rules: Rules) -> int:
    """What is listed is all that is allowed: a right that this version does not know is not handled, so not refused."""
    version = rules.abi
    handled = (1 << 13) - 1
    handled |= (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0) | (_DEVICE if version >= 5 else 0)
    ports = _TCP if version >= 4 else 0
    size = 8 if version < 4 else 16 if version < 6 else 24
    attributes = struct.pack("QQQ", handled, ports, _SCOPES if version >= 6 else 0)
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for path in rules.readable:
            _allow(ruleset, path, _READ & handled)
        for path in rules.writable:
            _allow(ruleset, path, handled & ~(_MAKE_CHAR | _MAKE_BLOCK | _DEVICE))
        for port in rules.ports if ports else ():
            rule = struct.pack("=QQ", _CONNECT_TCP, port)
            _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_NET_PORT), rule, ctypes.c_uint32(0))
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    try:
        granted = rights if stat.S_ISDIR(os.fstat(fd).st_mode) else rights & _ON_A_FILE
        rule = struct.pack("=Qi", granted, fd)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(fd)


def _drop_capabilities() -> None:
    """Of root: with no_new_privs no program it starts gets them back."""
    header, none = struct.pack("Ii", _CAPABILITIES_3, 0), bytes(24)
    if _libc().capset(header, none):
        raise _last_error("capset")


def _require(argv: tuple[str, ...], env: Mapping[str, str]) -> None:
    """Raises OSError as Popen would: the program in front of it would only end."""
    found = shutil.which(argv[0], mode=os.F_OK, path=env.get("PATH", ""))
    if found is None:
        raise FileNotFoundError(2, os.strerror(2), argv[0])
    if not os.access(found, os.X_OK):
        raise PermissionError(13, os.strerror(13), argv[0])


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _call(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise _last_error("landlock")
    return result


def _last_error(what: str) -> OSError:
    return OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)
