"""Traces of changed buffers: of editors that live, of ones that are gone, of other machines, and forged ones."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from opagent import paths
from opagent.watch.dirty import dirty

HOST = socket.gethostname()


@pytest.fixture
def file(home: Path) -> Path:
    path = home / "c.md"
    path.write_bytes(b"text\n")
    return path


def swap(pid: int, flag: bytes = b"U", program: bytes = b"VIM 9.0", host: str = HOST, magic: bytes = b"b0") -> bytes:
    """The first block of a swap file, as vim and nano write it."""
    head = bytearray(4096)
    head[0:2], head[2 : 2 + len(program)] = magic, program
    head[24:28] = pid.to_bytes(4, "little")
    head[68 : 68 + len(host)] = host.encode()
    head[1007:1008] = flag
    return bytes(head)


def beside(path: Path, suffix: str = "swp") -> Path:
    return path.with_name(f".{path.name}.{suffix}")


def gone() -> int:
    """The number of a process that has ended."""
    done = subprocess.Popen(["true"])
    done.wait()
    return done.pid


@pytest.mark.parametrize("suffix", ["swp", "swo", "swn"])
def test_a_swap_file_says_it(file: Path, suffix: str) -> None:
    assert not dirty(str(file))
    beside(file, suffix).write_bytes(swap(os.getpid()))
    assert dirty(str(file))
    beside(file, suffix).write_bytes(swap(os.getpid(), flag=b"\0"))
    assert not dirty(str(file))


@pytest.mark.parametrize("variable", ["XDG_STATE_HOME", "XDG_DATA_HOME"])
def test_a_swap_file_in_the_directory_of_the_editor(file: Path, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, str(file.parent / "there"))
    folder = file.parent / "there/nvim/swap"
    folder.mkdir(parents=True)
    assert folder in paths.editor_swaps()
    (folder / (str(file).replace("/", "%") + ".swp")).write_bytes(swap(os.getpid()))
    assert dirty(str(file))
    link = file.parent / "link"
    link.symlink_to(file.parent)
    assert dirty(str(link / file.name))


@pytest.mark.parametrize("pid", [0, -1 & 0xFFFFFFFF, 0x7FFFFFFF, "gone"])
def test_a_process_that_is_not_there(file: Path, pid: int | str) -> None:
    beside(file).write_bytes(swap(gone() if isinstance(pid, str) else pid))
    assert not dirty(str(file))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"b0", swap(os.getpid())[:1007], swap(os.getpid(), magic=b"b1"), swap(os.getpid(), host="elsewhere"),
        swap(os.getpid(), host=""), b"\xff" * 4096, swap(os.getpid(), flag=b"u"),
    ],
)  # fmt: skip
def test_what_is_no_swap_file_of_a_changed_buffer(file: Path, content: bytes) -> None:
    beside(file).write_bytes(content)
    assert not dirty(str(file))


def test_a_long_host_name_is_cut(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "a-host-with-a-very-long-name.in-a-long-domain.example"
    monkeypatch.setattr(socket, "gethostname", lambda: long)
    for kept in (31, 39):  # nano, vim
        beside(file).write_bytes(swap(os.getpid(), host=long[:kept]))
        assert dirty(str(file))
    beside(file).write_bytes(swap(os.getpid(), host=long[:20]))
    assert not dirty(str(file))


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.with_name("real").write_bytes(swap(os.getpid()))
    path.symlink_to(path.with_name("real"))


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 << 30)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("make", [_fifo, _link, _sparse, _socket, Path.mkdir])
def test_hostile_swap_files_are_harmless(file: Path, make: object) -> None:
    assert callable(make)
    make(beside(file))
    make(file.with_name(f".#{file.name}"))
    assert not dirty(str(file))


def test_nano_never_takes_it_back(file: Path) -> None:
    beside(file).write_bytes(swap(os.getpid(), program=b"nano 7.2"))
    now = time.time_ns()
    os.utime(file, ns=(now, now - 1_000_000_000))
    os.utime(beside(file), ns=(now, now))
    assert dirty(str(file))
    os.utime(file, ns=(now, now + 1))  # saved
    assert not dirty(str(file))
    os.utime(beside(file), ns=(now, now + 2))  # changed again
    assert dirty(str(file))
    file.unlink()  # not there to compare with
    assert dirty(str(file))


@pytest.mark.parametrize("owner", ["a@{host}.{pid}", "a@b@{host}.{pid}", "a@{host}.{pid}:1763624881"])
def test_a_link_of_emacs_says_it(file: Path, owner: str) -> None:
    link = file.with_name(f".#{file.name}")
    link.symlink_to(owner.format(host=HOST, pid=os.getpid()))
    assert dirty(str(file))
    link.unlink()
    link.symlink_to(owner.format(host=HOST, pid=gone()))
    assert not dirty(str(file))


@pytest.mark.parametrize(
    "owner",
    [
        "a@elsewhere.{pid}", "a", "a@{host}", "a@{host}.", "a@{host}.x", "a@{host}.-1", "a@{host}.0", "a@{host}." + "9" * 4000, "@.:",
        "a@{host}.²", "a@\udcff.1",
    ],
)  # fmt: skip
def test_what_is_no_link_of_an_editor_here(file: Path, owner: str) -> None:
    os.symlink(owner.format(host=HOST, pid=os.getpid()), file.with_name(f".#{file.name}"))
    assert not dirty(str(file))


def test_a_file_that_is_not_there(file: Path) -> None:
    assert not dirty(str(file.parent / "none/at/all.md"))
    assert not dirty(str(file.parent / ("x" * 300 + ".md")))
