"""Run by `ssh` when it needs a person (SSH_ASKPASS): hands the question to the daemon's socket, prints the answer.

`python -I -S askpass.py SOCKET HINT PROMPT`: a script of its own that imports nothing of ours. Status 1: nobody answered.
"""

from __future__ import annotations

import json
import os
import socket
import sys


def main(path: str, hint: str, prompt: str) -> int:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(path)
        stream.sendall(json.dumps({"prompt": prompt, "hint": hint}).encode() + b"\n")
        said = b""
        while part := stream.recv(65536):
            said += part
    answer = json.loads(said) if said else None
    if answer is None:
        return 1
    os.write(1, str(answer).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
