"""What an agent tries in order to get out: one function a probe, run inside. Standard library only, imports nothing of opagent.

`python attempts.py WORLD NAME...` writes a line of JSON for each: [name, what came of it]. An attempt gives what it read or did as
evidence, or raises what refused it; whether that was an escape is not for it to say (`table.py` asks the world outside).
Each runs in a child of its own: some end in a signal. Numbers of system calls are of x86_64 and aarch64.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

NUMBERS = {
    "x86_64": {
        "ptrace": 101, "process_vm_readv": 310, "keyctl": 250, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "unshare": 272, "clone": 56, "setns": 308,
        "open_by_handle_at": 304, "name_to_handle_at": 303, "fchmodat2": 452, "mknodat": 259, "openat": 257, "shmget": 29, "shmat": 30,
    },
    "aarch64": {
        "ptrace": 117, "process_vm_readv": 270, "keyctl": 219, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "unshare": 97, "clone": 220, "setns": 268,
        "open_by_handle_at": 265, "name_to_handle_at": 264, "fchmodat2": 452, "mknodat": 33, "openat": 56, "shmget": 194, "shmat": 196,
    },
}.get(platform.machine(), {}) | {"pidfd_getfd": 438, "io_uring_setup": 425, "openat2": 437}  # fmt: skip
AT_FDCWD, SET_ID = -100, 0o4755
MIB = 1 << 20

World = dict[str, Any]
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(name: str, *arguments: int | bytes | Any | None) -> int:
    if name not in NUMBERS:
        raise NotImplementedError(name)
    result = int(_libc.syscall(ctypes.c_long(NUMBERS[name]), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(MIB).decode("utf-8", "replace")


def write(path: str) -> str:
    with open(path, "a") as file:
        file.write("escaped\n")
    return "written"


def connect(family: int, kind: int, address: Any, world: World) -> str:
    with socket.socket(family, kind) as stream:
        stream.settimeout(5)
        stream.connect(address)
        stream.send(world["canary"].encode())
        return stream.recv(100).decode()


def opened(path: str, flags: int) -> str:
    os.close(os.open(path, flags))
    return "opened"


# ---- files -------------------------------------------------------------------------------------------------------------


def through_a_link(world: World) -> str:
    os.symlink(world["key"], f"{world['workspace']}/my-link")
    return read(f"{world['workspace']}/my-link")


def through_a_new_hard_link(world: World) -> str:
    os.link(world["key"], f"{world['workspace']}/stolen")
    return read(f"{world['workspace']}/stolen")


def by_rename(world: World) -> str:
    os.rename(f"{world['workspace']}/movable", f"{world['home']}/other/moved")
    return "moved"


def by_handle(world: World) -> str:
    """Open a file by its number on the disk, past every directory above it."""
    handle, mount = bytearray(struct.pack("II", 128, 0) + bytes(128)), ctypes.c_int()
    buffer = (ctypes.c_char * len(handle)).from_buffer(handle)
    call("name_to_handle_at", AT_FDCWD, world["workspace"].encode(), buffer, ctypes.byref(mount), 0)
    folder = os.open(world["workspace"], os.O_RDONLY)
    os.close(call("open_by_handle_at", folder, buffer, os.O_RDONLY))
    return "opened"


def aside(path: str) -> str:
    """Put a name out of the way and something else in its place."""
    os.rename(path, path + ".aside")
    with open(path, "w") as file:
        file.write("escaped\n")
    return "replaced"


def away_and_back(world: World) -> str:
    """Whoever can do this can put anything there meanwhile."""
    here, there = f"{world['workspace']}/.git", f"{world['workspace']}/git-aside"
    os.rename(here, there)
    os.rename(there, here)
    return "moved"


def gitlink(world: World) -> str:
    sha = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    command = ["git", "update-index", "--add", "--cacheinfo", f"160000,{sha},evil"]
    done = subprocess.run(command, cwd=world["workspace"], capture_output=True, text=True)
    if done.returncode:
        raise OSError(errno.EPERM, done.stderr)
    return "added"


# ---- other processes ------------------------------------------------------------------------------------------------------


def memory_of_another(world: World) -> str:
    with open(f"/proc/{world['victim']}/mem", "rb", buffering=0) as file:
        file.seek(world["address"])
        return file.read(64).decode("utf-8", "replace")


def read_by_call(world: World) -> str:
    buffer = ctypes.create_string_buffer(64)
    here = struct.pack("QQ", ctypes.addressof(buffer), 64)
    call("process_vm_readv", world["victim"], here, 1, struct.pack("QQ", world["address"], 64), 1, 0)
    return buffer.raw.decode("utf-8", "replace")


def descriptor_of_another(world: World) -> str:
    pidfd = os.pidfd_open(world["victim"])
    fd = call("pidfd_getfd", pidfd, world["descriptor"], 0)
    return os.pread(fd, 100, 0).decode()


def trace(world: World) -> str:
    call("ptrace", 0x4206, world["victim"], None, None)  # PTRACE_SEIZE
    return "traced"


def limit_another(world: World) -> str:
    resource.prlimit(world["victim"], resource.RLIMIT_NOFILE, (64, 64))
    return "set"


def slow_another(world: World) -> str:
    os.setpriority(os.PRIO_PROCESS, world["victim"], 19)
    return "set"


def shared_memory(world: World) -> str:
    _libc.shmat.restype = ctypes.c_void_p
    address = _libc.shmat(world["shared"], None, 0o10000)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return ctypes.string_at(address, 64).decode("utf-8", "replace")


# ---- namespaces and the kernel ---------------------------------------------------------------------------------------------


def user_namespace_by_clone(world: World) -> str:
    pid = call("clone", 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "made"


def a_mount(world: World) -> str:
    """In a user namespace of its own, as anybody may."""
    call("unshare", 0x10000000 | 0x00020000)
    if _libc.mount(b"none", world["workspace"].encode(), b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "mounted"


def namespace_of_another(world: World) -> str:
    fd = os.open(f"/proc/{world['victim']}/ns/mnt", os.O_RDONLY)
    call("setns", fd, 0x00020000)
    return "entered"


def other_root(world: World) -> str:
    os.chroot(world["workspace"])
    return "entered"


def kernel_log(world: World) -> str:
    return opened("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)


# ---- set-user-id ------------------------------------------------------------------------------------------------------------


def set_id(way: str) -> Callable[[World], str]:
    def attempt(world: World) -> str:
        path = f"{world['workspace']}/set-id-{way}"
        name = os.fsencode(path)
        if way.startswith(("chmod", "fchmod")):
            with open(path, "w") as file:
                match way:
                    case "chmod":
                        os.chmod(path, SET_ID)
                    case "fchmod":
                        os.fchmod(file.fileno(), SET_ID)
                    case "fchmodat2":
                        call("fchmodat2", AT_FDCWD, name, SET_ID, 0)
            return "set"
        match way:
            case "open":
                call("openat", AT_FDCWD, name, os.O_CREAT | os.O_WRONLY, SET_ID)
            case "openat2":
                call("openat2", AT_FDCWD, name, struct.pack("QQQ", os.O_CREAT | os.O_WRONLY, SET_ID, 0), 24)
            case "mknod":
                call("mknodat", AT_FDCWD, name, 0o100000 | SET_ID, 0)
            case "tmpfile":
                fd = call("openat", AT_FDCWD, os.fsencode(world["workspace"]), os.O_TMPFILE | os.O_RDWR, SET_ID)
                if _libc.linkat(AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, name, 0x400):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return "set"

    return attempt


# ---- terminals -------------------------------------------------------------------------------------------------------------


def type_into_a_terminal(world: World) -> str:
    """Into one of its own: it is the call that matters."""
    os.setsid()
    _, fd = os.openpty()
    fcntl.ioctl(fd, 0x540E, 0)  # TIOCSCTTY
    fcntl.ioctl(fd, 0x5412, b"x")
    return "typed"


# ---- too much ---------------------------------------------------------------------------------------------------------------


def forks(world: World) -> str:
    """Forks until it is refused, at most four times what is allowed; says how many lived at once."""
    children: list[int] = []
    try:
        with contextlib.suppress(BlockingIOError):
            while len(children) < 4 * world["limits"]["processes"]:
                if (pid := os.fork()) == 0:
                    signal.pause()
                children.append(pid)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return str(len(children))


def memory(world: World) -> str:
    with mmap.mmap(-1, 2 * world["limits"]["memory"], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS):
        return str(2 * world["limits"]["memory"])


def fill(folder: str) -> Callable[[World], str]:
    """Write files until it is refused, at most four times what is allowed; says how many bytes."""

    def attempt(world: World) -> str:
        total, paths = 0, []
        try:
            while total < 4 * world["limits"]["tmp"]:
                paths.append(f"{folder}/fill-{os.getpid()}-{len(paths)}")
                with open(paths[-1], "wb") as file:
                    for _ in range(8):
                        total += file.write(bytes(MIB))
        except OSError:
            if not total:
                raise
        finally:
            for path in paths:
                with contextlib.suppress(OSError):
                    os.unlink(path)
        return str(total)

    return attempt


def one_large_file(world: World) -> str:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = f"{world['workspace']}/large"
    try:
        with open(path, "wb") as file:
            file.truncate(2 * world["limits"]["file"])
        return str(os.path.getsize(path))
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def open_files(world: World) -> str:
    held: list[int] = []
    with contextlib.suppress(OSError):
        while len(held) < 2 * world["limits"]["files"]:
            held.append(os.open("/dev/null", os.O_RDONLY))
    return str(len(held))


def core_file(world: World) -> str:
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if most == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (MIB, MIB))
    return "allowed"


def over_the_network(kind: int, address: tuple[str, int]) -> Callable[[World], str]:
    """Out to another machine: a time-out means that something left."""

    def attempt(world: World) -> str:
        with socket.socket(socket.AF_INET, kind) as stream:
            stream.settimeout(0.2)
            try:
                stream.connect(address)
                stream.send(b"x")
            except (TimeoutError, ConnectionRefusedError):
                return "left"
        return "left"

    return attempt


def socket_of(family: int, kind: int) -> Callable[[World], str]:
    def attempt(world: World) -> str:
        socket.socket(family, kind).close()
        return "made"

    return attempt


def raw(name: str, *arguments: Any) -> Callable[[World], str]:
    def attempt(world: World) -> str:
        given = [ctypes.create_string_buffer(each, len(each)) if isinstance(each, bytes) else each for each in arguments]
        return f"made ({call(name, *given)})"

    return attempt


ATTEMPTS: dict[str, Callable[[World], str]] = {
    "key": lambda w: read(w["key"]),
    "key-by-old-link": lambda w: read(f"{w['workspace']}/keys/id_rsa"),
    "key-by-new-link": through_a_link,
    "key-by-new-hard-link": through_a_new_hard_link,
    "key-by-proc-root": lambda w: read(f"/proc/self/root{w['key']}"),
    "key-by-proc-cwd": lambda w: read(f"/proc/self/cwd/../.ssh/{os.path.basename(w['key'])}"),
    "key-by-first-process": lambda w: read(f"/proc/1/root{w['key']}"),
    "key-by-handle": by_handle,
    "state": lambda w: read(f"{w['home']}/.local/state/opagent/opagent.db"),
    "home-listing": lambda w: " ".join(os.listdir(f"{w['home']}/.ssh")),
    "file-size": lambda w: f"{os.stat(w['key']).st_size} bytes",
    "mode-outside": lambda w: str(os.chmod(f"{w['home']}/other/mode", 0o777)),
    "start-up-file": lambda w: write(f"{w['home']}/.bashrc"),
    "beside": lambda w: write(f"{w['home']}/other/new"),
    "beside-by-link": lambda w: write(f"{w['workspace']}/elsewhere/linked"),
    "beside-by-rename": by_rename,
    "cut": lambda w: str(os.truncate(f"{w['home']}/other/long", 0)),
    "hard-link": lambda w: write(f"{w['workspace']}/linked"),
    "package": lambda w: write(f"{w['package']}/program.py"),
    "kernel-setting": lambda w: opened("/proc/sys/kernel/core_pattern", os.O_WRONLY),
    "cgroup": lambda w: opened("/sys/fs/cgroup/cgroup.procs", os.O_WRONLY),
    "kernel-log": kernel_log,
    "root-directory": lambda w: str(os.mkdir("/opagent-probe")),
    "binding": lambda w: write(f"{w['workspace']}/.agent.yaml"),
    "binding-aside": lambda w: aside(f"{w['workspace']}/.agent.yaml"),
    "binding-below": lambda w: write(f"{w['workspace']}/sub/.agent.yaml"),
    "conversation": lambda w: write(f"{w['workspace']}/conversations/a.md"),
    "shell-file": lambda w: write(f"{w['workspace']}/.envrc"),
    "editor-settings": lambda w: write(f"{w['workspace']}/.vscode/tasks.json"),
    "hidden": lambda w: read(f"{w['workspace']}/private/canary"),
    "git-hook": lambda w: write(f"{w['workspace']}/.git/hooks/pre-commit"),
    "git-config": lambda w: write(f"{w['workspace']}/.git/config"),
    "git-commondir": lambda w: write(f"{w['workspace']}/.git/commondir"),
    "git-gitlink": gitlink,
    "git-aside": away_and_back,
    "environment": lambda w: read(f"/proc/{w['victim']}/environ"),
    "command-line": lambda w: read(f"/proc/{w['victim']}/cmdline"),
    "memory-file": memory_of_another,
    "memory-by-call": read_by_call,
    "descriptor-link": lambda w: read(f"/proc/{w['victim']}/fd/{w['descriptor']}"),
    "descriptor-by-call": descriptor_of_another,
    "trace": trace,
    "signal": lambda w: str(os.kill(w["victim"], signal.SIGUSR1)),
    "limit-of-another": limit_another,
    "priority-of-another": slow_another,
    "shared-memory": shared_memory,
    "user-namespace": raw("unshare", 0x10000000),
    "user-namespace-by-clone": user_namespace_by_clone,
    "mount": a_mount,
    "namespace-of-another": namespace_of_another,
    "other-root": other_root,
    "docker-socket": lambda w: connect(socket.AF_UNIX, socket.SOCK_STREAM, w["docker"], w),
    "control-socket": lambda w: connect(socket.AF_UNIX, socket.SOCK_STREAM, w["control"], w),
    "abstract-socket": lambda w: connect(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + w["abstract"], w),
    "loopback": lambda w: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", w["tcp"]), w),
    "loopback-udp": lambda w: connect(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", w["udp"]), w),
    "metadata-address": over_the_network(socket.SOCK_STREAM, ("169.254.169.254", 80)),
    "udp-out": over_the_network(socket.SOCK_DGRAM, ("192.0.2.1", 53)),
    "raw-packets": socket_of(17, socket.SOCK_RAW),
    "vsock": socket_of(40, socket.SOCK_STREAM),
    "keyring": raw("keyctl", 0, -3, 1),
    "bpf": raw("bpf", 0, struct.pack("IIII", 2, 4, 4, 1) + bytes(112), 128),
    "io-uring": raw("io_uring_setup", 4, bytes(120)),
    "userfaultfd": raw("userfaultfd", 1),
    "perf": raw("perf_event_open", struct.pack("IIQ", 1, 112, 0) + bytes(96), 0, -1, -1, 0),
    **{f"set-id-{way}": set_id(way) for way in ("chmod", "fchmod", "fchmodat2", "open", "openat2", "mknod", "tmpfile")},
    "terminal-input": type_into_a_terminal,
    "terminal-of-another": lambda w: write(w["terminal"]),
    "core-file": core_file,
    "fork-bomb": forks,
    "memory": memory,
    "tmp": fill("/tmp"),
    "dev-shm": fill("/dev/shm"),
    "large-file": one_large_file,
    "open-files": open_files,
}


def tried(name: str, world: World) -> str:
    """What an attempt gives, said by a child of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.write(writing, _said(name, world).encode()[:60_000])
        os._exit(0)
    os.close(writing)
    said = b""
    while block := os.read(reading, 65536):
        said += block
    os.close(reading)
    _, status = os.waitpid(child, 0)
    return said.decode("utf-8", "replace") if said else f"refused: signal {os.WTERMSIG(status)}"


def _said(name: str, world: World) -> str:
    try:
        return f"done: {ATTEMPTS[name](world)}"
    except NotImplementedError as error:
        return f"not here: {error}"
    except MemoryError:
        return "refused: MemoryError"
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EAFNOSUPPORT):
            return f"refused: {errno.errorcode[error.errno]}"
        return f"refused: {errno.errorcode.get(error.errno or 0, str(error))}"
    except Exception as error:
        return f"refused: {type(error).__name__} {error}"


def main() -> None:
    with open(sys.argv[1]) as file:
        world = json.load(file)
    for name in sys.argv[2:]:
        print(json.dumps([name, tried(name, world)]), flush=True)


if __name__ == "__main__":
    main()
