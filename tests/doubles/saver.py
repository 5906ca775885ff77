"""A person's editor that saves as fast as it can: appends its own numbered lines to whatever it loads. Its own process.

python saver.py PATH HOW COUNT        # HOW: inplace, vim (rename away, create), rename (temporary name over it)
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path


def save(path: Path, how: str, content: bytes) -> None:
    if how == "rename":
        beside = path.with_name("." + path.name + ".edit")
        beside.write_bytes(content)
        beside.rename(path)
        return
    if how == "vim":
        path.rename(f"{path}~")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for start in range(0, len(content), 4096):
        os.write(fd, content[start : start + 4096])
    os.close(fd)
    if how == "vim":
        os.unlink(f"{path}~")


def main(path: Path, how: str, count: int) -> None:
    chance = random.Random(7)
    number = 0
    while number < count:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        if not content.endswith(b"\n"):
            continue  # half of somebody's save: a person would load it again
        number += 1
        save(path, how, content + f"P{number:05}\n".encode())
        time.sleep(chance.random() * 0.004)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
