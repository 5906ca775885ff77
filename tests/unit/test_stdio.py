"""The pipe to an editor never blocks, whatever it is, and is never made to look otherwise to those who share it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent.cli.stdio import Stdio

MUCH = bytes(range(256)) * 4096  # more than any pipe holds


@pytest.fixture(params=["pipe", "socket", "terminal"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Where is written, and where it comes out."""
    if request.param == "pipe":
        out, there = os.pipe()
    elif request.param == "socket":
        left, right = socket.socketpair()
        there, out = left.detach(), right.detach()
    else:
        import tty

        out, there = os.openpty()
        tty.setraw(there)
    yield there, out
    for fd in (there, out):
        os.close(fd)


def test_all_of_it_comes_out_in_order_and_nothing_waits_for_it(ends: tuple[int, int]) -> None:
    there, out = ends
    stdio, heard = Stdio(0, there), b""
    pieces = [MUCH[start : start + 777] for start in range(0, len(MUCH) // 2, 777)] + [MUCH]
    for piece in pieces:
        stdio.write(piece)
    while stdio.waiting:
        stdio.flush()  # returns, although nobody reads
        assert os.get_blocking(there)
        heard += os.read(out, 1 << 20)
    total = b"".join(pieces)
    while len(heard) < len(total):
        heard += os.read(out, 1 << 20)
    assert heard == total
    stdio.close()
    assert os.fstat(there)


def test_an_editor_that_left_is_noticed() -> None:
    out, there = os.pipe()
    stdio = Stdio(0, there)
    os.close(out)
    stdio.write(b"x")
    with pytest.raises(BrokenPipeError):
        stdio.flush()
    stdio.close()
    os.close(there)


def test_a_file_takes_all(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        stdio = Stdio(0, file.fileno())
        stdio.write(MUCH)
        stdio.flush()
        assert not stdio.waiting
    assert (tmp_path / "out").read_bytes() == MUCH
