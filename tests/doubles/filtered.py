"""A program under a seccomp filter: `python filtered.py FILTER try` says what each call answers, `... run ARGV` becomes a program.

FILTER is a file of instructions, empty for none. Standard library only, imports nothing of opagent. Numbers are of x86_64.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
MODES = {"chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452, "creat": 85, "mknod": 133, "mknodat": 259}
SET_ID = 0o4755


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def apply(program: bytes) -> None:
    buffer = ctypes.create_string_buffer(program, len(program))
    said = _Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    if _libc.prctl(38, 1, 0, 0, 0) or _libc.prctl(22, 2, ctypes.byref(said), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def call(number: int, *arguments: int | bytes | None) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def say(action: Callable[[], object]) -> str:
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "allowed"


def senseless(numbers: dict[str, int]) -> dict[str, str]:
    """Each call with arguments that make no sense, so that nothing happens where it is allowed."""
    return {name: say(lambda number=number: call(number, *[-1] * 6)) for name, number in numbers.items()}  # type: ignore[misc]


def in_a_child(action: Callable[[], object]) -> str:
    """For what may kill, or make a process: the name of the signal, or what it said."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, say(action).encode())
        os._exit(0)
    os.close(writing)
    said = os.read(reading, 100).decode()
    os.close(reading)
    _, status = os.waitpid(child, 0)
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else said


def other_machine() -> None:
    """getpid by the door of 32-bit programs: mov eax, 20; int 0x80; ret."""
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()


def namespaces() -> None:
    if call(56, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(0)
    os.wait()


def set_id(folder: str) -> dict[str, str]:
    """Every way to make a program that runs as its owner, and what was made by it."""
    plain = f"{folder}/plain"
    os.close(os.open(plain, os.O_CREAT | os.O_WRONLY, 0o644))
    with open(plain) as file:
        fd = file.fileno()
        path, here = os.fsencode(plain), -100
        ways: dict[str, Callable[[], object]] = {
            "chmod": lambda: call(MODES["chmod"], path, SET_ID),
            "set-group-id": lambda: call(MODES["chmod"], path, 0o2755),
            "fchmod": lambda: call(MODES["fchmod"], fd, SET_ID),
            "fchmodat": lambda: call(MODES["fchmodat"], here, path, SET_ID),
            "fchmodat2": lambda: call(MODES["fchmodat2"], here, path, SET_ID, 0),
            "creat": lambda: call(MODES["creat"], os.fsencode(f"{folder}/creat"), SET_ID),
            "mknod": lambda: call(MODES["mknod"], os.fsencode(f"{folder}/mknod"), 0o100000 | SET_ID, 0),
            "mknodat": lambda: call(MODES["mknodat"], here, os.fsencode(f"{folder}/mknodat"), 0o100000 | SET_ID, 0),
            "open": lambda: call(2, os.fsencode(f"{folder}/open"), os.O_CREAT | os.O_WRONLY, SET_ID),
            "openat": lambda: call(257, here, os.fsencode(f"{folder}/openat"), os.O_CREAT | os.O_WRONLY, SET_ID),
            "O_TMPFILE": lambda: call(257, here, os.fsencode(folder), os.O_TMPFILE | os.O_RDWR, SET_ID),
            "openat2": lambda: call(437, here, os.fsencode(f"{folder}/b"), struct.pack("QQQ", 0o101, SET_ID, 0), 24),
        }
        said = {f"set-id by {name}": say(action) for name, action in ways.items()}
    made = sorted(name for name in os.listdir(folder) if os.stat(f"{folder}/{name}").st_mode & 0o6000)
    return said | {"set-id files": " ".join(made) or "none"}


def usual(folder: str) -> dict[str, str]:
    """What must go on working."""
    plain = f"{folder}/usual"

    def modes() -> None:
        os.close(os.open(plain, os.O_CREAT | os.O_WRONLY, 0o644))
        os.chmod(plain, 0o755)
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600))
        os.close(call(2, os.fsencode(plain), os.O_RDONLY, 0o7777))  # the mode means nothing without O_CREAT

    return {
        "usual files": say(modes),
        "usual terminal": say(lambda: call(16, 0, 0x5401, bytes(64))),  # TCGETS
        "usual pair": say(lambda: [one.close() for one in socket.socketpair()]),
        **{f"socket {family}": say(lambda family=family: socket.socket(family, 1).close()) for family in (1, 2, 10)},  # type: ignore[misc]
        "socket netlink": say(lambda: socket.socket(16, 3).close()),
        "datagram": say(lambda: socket.socket(2, 2).close()),
        "multipath": say(lambda: socket.socket(2, 1, 262).close()),
        "sent with the opening": say(lambda: socket.socket(2, 1).sendto(b"x", 0x20000000, ("127.0.0.1", 9))),
    }


def attempts(numbers: dict[str, int], folder: str) -> dict[str, str]:
    terminal = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    return {
        **senseless(numbers),
        **usual(folder),
        **set_id(folder),
        "clone": in_a_child(namespaces),
        "clone3": say(lambda: call(435, None, 0)),
        "TIOCSTI": say(lambda: call(16, terminal, 0x5412, b"x")),
        "TIOCLINUX": say(lambda: call(16, terminal, 0x541C, b"x")),
        "socket vsock": say(lambda: socket.socket(40, 1).close()),
        "socket packet": say(lambda: socket.socket(17, 3).close()),
        "x32": say(lambda: call(0x40000000 | 39)),
        "other machine": in_a_child(other_machine),
    }


def main(filter_file: str, what: str, *rest: str) -> None:
    with open(filter_file, "rb") as file:
        program = file.read()
    if program:
        apply(program)
    if what == "run":
        os.execvp(rest[0], rest)
    print(json.dumps(attempts(json.loads(rest[0]), rest[1])))


if __name__ == "__main__":
    main(*sys.argv[1:])
