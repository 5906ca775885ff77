"""The system calls that an agent may not make, as the bytes of a seccomp filter; sets it on nobody and asks the machine nothing.

`bwrap --seccomp FD` and the parked thread of `landlock.py` take the bytes as they are: classic BPF, eight bytes an instruction
(linux/filter.h, linux/seccomp.h). Built by hand: libseccomp is not on every machine, and the list below *is* the rule.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from typing import NamedTuple

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
FAMILIES = (AF_UNIX, AF_INET, AF_INET6, AF_NETLINK)

OTHER_PROCESSES = ("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "process_madvise")
KERNEL = (
    "io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl", "add_key", "request_key", "bpf", "perf_event_open",
    "userfaultfd", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "open_by_handle_at",
)  # fmt: skip
MOUNTS = (  # and clone with new namespaces, clone3: what a runtime with a sandbox of its own needs
    "mount", "umount2", "pivot_root", "unshare", "setns", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsmount",
    "fsconfig", "fspick", "mount_setattr",
)  # fmt: skip
SHARED = ("shmget", "shmat", "shmctl", "semget", "semctl", "msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink")

_EVERYWHERE = {  # numbers since Linux 5.0 are the same on all machines
    "pidfd_getfd": 438, "process_madvise": 440, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "move_mount": 429, "open_tree": 428, "open_tree_attr": 467, "fsopen": 430, "fsmount": 432, "fsconfig": 431, "fspick": 433,
    "mount_setattr": 442, "clone3": 435, "openat2": 437, "fchmodat2": 452,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of processor: its name in seccomp_data, and the number of each call. A call it does not have stands nowhere."""

    audit: int
    numbers: dict[str, int]


MACHINES = {
    "x86_64": Machine(
        0xC000003E,
        {  # arch/x86/entry/syscalls/syscall_64.tbl
            "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "keyctl": 250, "add_key": 248, "request_key": 249,
            "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "kexec_load": 246, "kexec_file_load": 320,
            "init_module": 175, "finit_module": 313, "delete_module": 176, "open_by_handle_at": 304, "mount": 165,
            "umount2": 166, "pivot_root": 155, "unshare": 272, "setns": 308, "clone": 56, "socket": 41, "sendto": 44,
            "sendmsg": 46, "sendmmsg": 307, "ioctl": 16, "chmod": 90, "fchmod": 91, "fchmodat": 268, "creat": 85, "mknod": 133,
            "mknodat": 259, "open": 2, "openat": 257, "prlimit64": 302, "shmget": 29, "shmat": 30, "shmctl": 31, "semget": 64,
            "semctl": 66, "msgget": 68, "msgsnd": 69, "msgrcv": 70, "msgctl": 71, "mq_open": 240, "mq_unlink": 241,
            **_EVERYWHERE,
        },
    ),
    "aarch64": Machine(
        0xC00000B7,
        {  # include/uapi/asm-generic/unistd.h
            "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "keyctl": 219, "add_key": 217, "request_key": 218,
            "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "kexec_load": 104, "kexec_file_load": 294,
            "init_module": 105, "finit_module": 273, "delete_module": 106, "open_by_handle_at": 265, "mount": 40,
            "umount2": 39, "pivot_root": 41, "unshare": 97, "setns": 268, "clone": 220, "socket": 198, "sendto": 206,
            "sendmsg": 211, "sendmmsg": 269, "ioctl": 29, "fchmod": 52, "fchmodat": 53, "mknodat": 33, "openat": 56,
            "prlimit64": 261, "shmget": 194, "shmat": 196, "shmctl": 195, "semget": 190, "semctl": 191, "msgget": 186,
            "msgsnd": 189, "msgrcv": 188, "msgctl": 187, "mq_open": 180, "mq_unlink": 181, **_EVERYWHERE,
        },
    ),
}  # fmt: skip

_X32 = 0x40000000  # x86_64 takes the same calls under a second set of numbers
_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000  # CLONE_NEW*
_SET_ID = 0o6000
_CREATES = 0o100 | 0o20000000  # O_CREAT, and O_TMPFILE: such a file can be linked to a name later
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C  # type into the terminal, paste into the console
_TYPE, _STREAM, _TCP, _FASTOPEN = 0xF, 1, 6, 0x20000000  # SOCK_TYPE_MASK, SOCK_STREAM, IPPROTO_TCP, MSG_FASTOPEN


class _Step(NamedTuple):
    """One instruction: jump `yes` or `no` instructions further by a comparison with `value`, or load, or return it."""

    code: int
    yes: int
    no: int
    value: int


_LOAD, _AND, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _EPERM, _ENOSYS = (_Step(_RETURN, 0, 0, value) for value in (0x7FFF0000, 0x80000000, 0x00050001, 0x00050026))


@functools.cache
def program(machine: str, *, nested: bool = False, families: tuple[int, ...] = FAMILIES, namespaces: bool = True) -> bytes:
    """The filter for this `uname -m`. KeyError for a machine that is not in MACHINES.

    `nested` leaves mounts and namespaces to a runtime that brings its own sandbox. `families` are the sockets that may be
    made, none by `()`; socketpair stays. Without `namespaces` of its own, what Landlock does not see is refused as well:
    shared memory and queues that have a number or a name, limits set for another process, and every socket that is no plain
    TCP stream (MPTCP, a connection opened by its first bytes).
    """
    kind = MACHINES[machine]
    steps = [_Step(_LOAD, 0, 0, 4), _Step(_EQUAL, 1, 0, kind.audit), _KILL, _Step(_LOAD, 0, 0, 0)]
    if machine == "x86_64":
        steps += [_Step(_AT_LEAST, 0, 1, _X32), _EPERM]
    for name in (*OTHER_PROCESSES, *KERNEL, *(() if nested else MOUNTS)):
        steps += _when(kind, name, [_EPERM])
    for name in ("openat2", *(() if nested else ("clone3",))):  # what lies behind a pointer is not seen; libraries fall back
        steps += _when(kind, name, [_ENOSYS])
    if not nested:
        steps += _when(kind, "clone", _refuse_bits(0, _NAMESPACES))
    steps += _sockets(kind, families) if namespaces else _alone(kind, families)
    steps += _when(kind, "ioctl", _refuse_values(1, (_TIOCSTI, _TIOCLINUX)))
    steps += _set_id(kind)
    return b"".join(struct.pack("HBBI", *step) for step in (*steps, _ALLOW))


def _sockets(kind: Machine, families: tuple[int, ...]) -> list[_Step]:
    return _when(kind, "socket", _refuse_others(0, families))


def _alone(kind: Machine, families: tuple[int, ...]) -> list[_Step]:
    """What namespaces would keep apart: machine-wide memory and queues, other processes' limits, protocols beside TCP."""
    body = _refuse_others(0, families)[:-1]
    body += [_argument(1), _Step(_AND, 0, 0, _TYPE), _Step(_EQUAL, 1, 0, _STREAM), _EPERM, *_refuse_others(2, (0, _TCP))]
    found = _when(kind, "socket", body)
    for name, flags in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)):
        found += _when(kind, name, _refuse_bits(flags, _FASTOPEN))
    for name in SHARED:
        found += _when(kind, name, [_EPERM])
    return found + _when(kind, "prlimit64", _refuse_others(0, (0,)))


def _set_id(kind: Machine) -> list[_Step]:
    """A program that runs as whoever owns it, left behind for somebody else to start: every way to make one."""
    found: list[_Step] = []
    ways = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "creat": 1, "mknod": 1, "mknodat": 2}
    for name, mode in ways.items():
        found += _when(kind, name, _refuse_bits(mode, _SET_ID))
    for name, flags in (("open", 1), ("openat", 2)):
        found += _when(kind, name, [_argument(flags), _Step(_ANY_BIT, 1, 0, _CREATES), _ALLOW, *_refuse_bits(flags + 1, _SET_ID)])
    return found


def _when(kind: Machine, name: str, body: list[_Step]) -> list[_Step]:
    """The body for this call, which ends in a return on every way through it; nothing where the machine has no such call."""
    return [_Step(_EQUAL, 0, len(body), kind.numbers[name]), *body] if name in kind.numbers else []


def _argument(index: int) -> _Step:
    """Load the low half of an argument (both machines are little-endian): the kernel takes no more of any of these."""
    return _Step(_LOAD, 0, 0, 16 + 8 * index)


def _refuse_bits(argument: int, bits: int) -> list[_Step]:
    return [_argument(argument), _Step(_ANY_BIT, 0, 1, bits), _EPERM, _ALLOW]


def _refuse_values(argument: int, values: tuple[int, ...]) -> list[_Step]:
    last = len(values) - 1
    tests = [_Step(_EQUAL, last - index, 0 if index < last else 1, value) for index, value in enumerate(values)]
    return [_argument(argument), *tests, _EPERM, _ALLOW]


def _refuse_others(argument: int, values: tuple[int, ...]) -> list[_Step]:
    tests = [_Step(_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
    return [_argument(argument), *tests, _EPERM, _ALLOW]
