"""Runs an agent and writes down every line that passes: `tee.py LOG PROGRAM ARGUMENT...`.

A line of LOG is `> ` or `< ` and the line: `>` came from the client, `<` from the agent. The bytes go on as they came; at the end of one stream the other one ends too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading


def copy(source: int, sink: int, sign: bytes, log: int, lock: threading.Lock) -> None:
    rest = b""
    while data := os.read(source, 1 << 16):
        *lines, rest = (rest + data).split(b"\n")
        with lock:
            os.write(log, b"".join(sign + line + b"\n" for line in lines))
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(sink, view) :]
        except BrokenPipeError:
            break
    os.close(sink)


def main() -> None:
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    child = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None and child.stdout is not None
    lock = threading.Lock()
    upwards = threading.Thread(target=copy, args=(0, os.dup(child.stdin.fileno()), b"> ", log, lock), daemon=True)
    child.stdin.close()
    upwards.start()
    copy(child.stdout.fileno(), 1, b"< ", log, lock)
    os._exit(child.wait() & 0xFF)


if __name__ == "__main__":
    main()
