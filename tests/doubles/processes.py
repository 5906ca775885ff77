"""Small programs that misbehave: `python processes.py MODE [ARGUMENT]`. Standard library only, imports nothing of opagent."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

LONG = 600.0


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def echo() -> None:
    while data := os.read(0, 65536):
        os.write(1, data)


def ignore_eof() -> None:
    say("ready")
    time.sleep(LONG)


def ignore_term() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    say("ready")
    while True:
        time.sleep(LONG)


def leave_on_term() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    say("ready")
    while True:
        time.sleep(LONG)


def stop_itself() -> None:
    say("ready")
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(LONG)


def daemonise(how: str) -> None:
    """Double fork, setsid, all descriptors closed; `bare` also clears the environment. Says the pid of what is left, lives on."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, str(os.getpid()).encode())
            os.closerange(0, 256)
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            environment = {"PATH": "/usr/bin:/bin"} if how == "bare" else dict(os.environ)
            os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", f"import time; time.sleep({LONG})"], environment)
        os._exit(0)
    os.wait()
    say(os.read(reading, 20).decode())
    echo()


def children(count: str) -> None:
    for _ in range(int(count)):
        if os.fork() == 0:
            time.sleep(LONG)
    say("ready")
    echo()


def listen() -> None:
    """A child of it listens on a port, which is said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        if os.fork() == 0:
            time.sleep(LONG)
        port = server.getsockname()[1]
    say(str(port))
    echo()


def close_stdout() -> None:
    say("last words")
    os.close(1)
    time.sleep(LONG)


def deaf() -> None:
    say("ready")
    time.sleep(LONG)


def close_stdin() -> None:
    os.close(0)
    say("ready")
    time.sleep(LONG)


def shout(megabytes: str) -> None:
    block = b"x" * 1023 + b"\n"
    for _ in range(int(megabytes) * 1024):
        os.write(2, block)
    os.write(2, b"the end\n")


def talk(size: str) -> None:
    """Says so many bytes at once and leaves."""
    rest = memoryview(b"y" * int(size))
    while rest:
        rest = rest[os.write(1, rest) :]


def flood(count_file: str) -> None:
    """Writes blocks of 64 KiB for ever, the number of those written in a file."""
    block, count = b"z" * 65535 + b"\n", 0
    while True:
        os.write(1, block)
        count += 1
        with open(count_file + ".new", "w") as file:
            file.write(str(count))
        os.replace(count_file + ".new", count_file)


def leave_a_holder() -> None:
    """Leaves a child behind that keeps stdout and stderr open."""
    holder = subprocess.Popen([sys.executable, "-I", "-S", "-c", f"import time; time.sleep({LONG})"])
    say(str(holder.pid))
    os._exit(3)


def leave(code: str) -> None:
    os.write(2, b"leaving\n")
    os._exit(int(code))


def die(number: str) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), int(number))
    time.sleep(LONG)


def hop() -> None:
    """Forks and leaves again and again, so that it has another pid at each look, for at most 20 s."""
    say("ready")
    end = time.monotonic() + 20
    if os.fork() == 0:
        os.setsid()
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
            time.sleep(0.002)
    os._exit(0)


def facts() -> None:
    """What it inherited: descriptors, variables, umask, session."""
    descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1]  # the last one is the listing itself
    say(repr((descriptors, sorted(os.environ), os.umask(0), os.getsid(0) == os.getpid() == os.getpgrp())))
    echo()


MODES: dict[str, Callable[..., None]] = {
    mode.__name__: mode
    for mode in (
        listen, echo, ignore_eof, ignore_term, leave_on_term, stop_itself, daemonise, children, close_stdout, deaf, close_stdin, shout,
        talk, flood, leave_a_holder, leave, die, hop, facts,
    )
}  # fmt: skip

if __name__ == "__main__":
    MODES[sys.argv[1]](*sys.argv[2:])
