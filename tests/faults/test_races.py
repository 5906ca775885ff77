"""A directory that becomes a link to the outside and back, as fast as the kernel can: nothing outside is read or written, ever."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent.daemon import beneath
from opagent.errors import OpAgentError

ROUNDS = 5_000
SWAPPER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.chdir(sys.argv[1])
print(flush=True)
while True:
    for _ in range(100):
        if libc.renameat2(-100, b"inside", -100, b"link", 2):
            sys.exit(os.strerror(ctypes.get_errno()))
"""


@pytest.fixture
def workspace(home: Path) -> Iterator[Path]:
    """With `inside/file`, which is at any moment the one of the workspace or one of outside."""
    workspace, outside = home / "notes", home / "outside"
    for folder in (workspace / "inside", outside):
        folder.mkdir(parents=True)
        (folder / "file").write_text(folder.name)
    (workspace / "link").symlink_to(outside)
    with subprocess.Popen([sys.executable, "-c", SWAPPER, workspace], stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout is not None and swapper.stdout.readline()
        yield workspace
        assert swapper.poll() is None
        swapper.kill()


def test_nothing_outside_is_reached(workspace: Path, rounds: int) -> None:
    """F2, as an agent's `fs/read_text_file` and `fs/write_text_file` are served."""
    top, read, refused = str(workspace), 0, 0
    for number in range(ROUNDS * rounds):
        try:
            real = beneath.real_path(top, "inside/file", last=True)
            if number % 10:
                assert beneath.read(top, real, 1000) in (b"inside", b"written")
            else:
                beneath.write(top, real, b"written")
            read += 1
        except (OSError, OpAgentError, ValueError):
            refused += 1
    outside = workspace.parent / "outside"
    assert os.listdir(outside) == ["file"] and (outside / "file").read_text() == "outside"
    assert read > 0 and refused > 0, (read, refused)
