"""Reading settled, exchanging and looking at what came out: refusals, attributes, no save lost, no half file."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import functools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from opagent import files
from opagent.errors import Conflict, FileRefused, NotPrivate
from opagent.watch import swap as swapping
from opagent.watch import workfiles
from opagent.watch.exchange import Outcome, Result, create, release, write_version
from opagent.watch.settled import LIMIT, Place, locate, settled_read
from tests.doubles.patience import PATIENCE

T = TypeVar("T")
SAVER = Path(__file__).parent.parent / "doubles" / "saver.py"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "conversations").mkdir()
    (tmp_path / "conversations/a.md").write_bytes(b"old\n")
    return locate(tmp_path, Path("conversations/a.md"))


def run(work: Awaitable[T]) -> T:
    async def inner() -> T:
        return await asyncio.wait_for(work, PATIENCE)

    return asyncio.run(inner())


def _saves(place: Place) -> list[bytes]:
    return [path.read_bytes() for path in sorted((place.workspace / ".opagent/saves").iterdir())]


def _left(place: Place) -> list[Path]:
    return list((place.workspace / ".opagent/tmp").iterdir()) + list(place.path.parent.glob(".opagent-*"))


# ---- reading -----------------------------------------------------------------------------------------------------------


def test_a_file_is_read_as_it_is(place: Place) -> None:
    reading = run(settled_read(place))
    assert (reading.content, reading.torn, reading.links) == (b"old\n", False, 1)
    os.link(place.path, place.path.with_name("b.md"))
    assert run(settled_read(place)).links == 2


def test_links_inside_are_followed_and_others_refused(tmp_path: Path, place: Place) -> None:
    (tmp_path / "link.md").symlink_to(place.path)
    assert locate(tmp_path, tmp_path / "link.md") == place
    (tmp_path / "out.md").symlink_to("/etc/passwd")
    for path in ("out.md", "../x.md", "/etc/passwd", "."):
        with pytest.raises(FileRefused):
            locate(tmp_path, Path(path))
    later = locate(tmp_path, Path("conversations/later.md"))
    later.path.symlink_to("/etc/passwd")  # after it was looked up
    with pytest.raises(FileRefused):
        run(settled_read(later, 0.1))


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 << 30)


def _device(path: Path) -> None:
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero


def _utf16(path: Path) -> None:
    path.write_bytes("text\n".encode("utf-16"))


def _nul(path: Path) -> None:
    path.write_bytes(b"text\0\n")


@pytest.mark.parametrize("make", [_fifo, _socket, _sparse, _utf16, _nul, Path.mkdir, _device])
def test_what_is_no_text_file_is_refused_at_once_and_untouched(place: Place, make: Callable[[Path], None]) -> None:
    place.path.unlink()
    try:
        make(place.path)
    except PermissionError:
        assert os.geteuid() != 0 and make is _device  # only root makes devices
        return
    before = os.stat(place.path)
    with pytest.raises(FileRefused):
        run(settled_read(place, 0.05 if make in (_utf16, _nul) else 3600))  # NUL bytes are looked at again, a hole of a crash
    after = os.stat(place.path)
    assert (before.st_ino, before.st_size, before.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns)


def test_the_largest_file_is_read(place: Place) -> None:
    place.path.write_bytes(b"x" * LIMIT)
    assert len(run(settled_read(place)).content) == LIMIT
    with place.path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(FileRefused):
        run(settled_read(place))


def test_a_writer_is_waited_for(place: Place) -> None:
    async def scene() -> bytes:
        with place.path.open("wb", buffering=0) as file:
            file.write(b"first half, ")
            reading = asyncio.create_task(settled_read(place))
            await asyncio.sleep(0.05)
            assert not reading.done()
            file.write(b"second half\n")
        return (await reading).content

    assert run(scene()) == b"first half, second half\n"


def test_a_writer_that_never_ends_is_waited_for_so_long_and_no_longer(place: Place) -> None:
    with place.path.open("ab"):
        assert run(settled_read(place, 0.2)).content == b"old\n"


def test_a_missing_or_torn_file_is_looked_at_again(place: Place) -> None:
    async def scene() -> bytes:
        place.path.unlink()
        reading = asyncio.create_task(settled_read(place))
        await asyncio.sleep(0.02)
        place.path.write_bytes(b"")
        await asyncio.sleep(0.02)
        assert not reading.done()
        place.path.write_bytes(b"whole\n")
        return (await reading).content

    assert run(scene()) == b"whole\n"
    place.path.write_bytes(b" \n")
    assert run(settled_read(place, 0.05)).torn
    place.path.unlink()
    with pytest.raises(FileNotFoundError):
        run(settled_read(place, 0.05))


def test_a_lease_that_somebody_breaks_does_not_end_us(place: Place) -> None:
    """Opening for writing while we hold the lease raises a signal whose default action is the end of the process."""
    done = threading.Event()

    def opens() -> None:
        while not done.is_set():
            os.close(os.open(place.path, os.O_WRONLY))

    thread = threading.Thread(target=opens)
    thread.start()
    try:
        assert signal.getsignal(signal.SIGIO) is signal.SIG_DFL
        for _ in range(200):
            assert run(settled_read(place)).content == b"old\n"
    finally:
        done.set()
        thread.join()


# ---- writing -----------------------------------------------------------------------------------------------------------


def test_a_version_is_written_and_nothing_left(place: Place) -> None:
    outcome = run(write_version(place, b"new\n", b"old\n", sync=True))
    assert outcome.written and place.path.read_bytes() == b"new\n"
    assert _left(place) == [] and _saves(place) == []
    work = place.workspace / ".opagent"
    assert work.stat().st_mode & 0o777 == 0o700
    assert (work / ".gitignore").read_text() == "*\n"


def test_mode_owner_and_attributes_stay(place: Place) -> None:
    os.chmod(place.path, 0o640)
    if os.geteuid() == 0:
        os.chown(place.path, 12345, 54321)
    try:
        os.setxattr(place.path, "user.note", b"kept")
    except OSError as error:
        assert error.errno == errno.ENOTSUP
    names = os.listxattr(place.path)
    before = os.stat(place.path)
    assert run(write_version(place, b"new\n", b"old\n")).written
    after = os.stat(place.path)
    assert (before.st_mode, before.st_uid, before.st_gid) == (after.st_mode, after.st_uid, after.st_gid)
    assert os.listxattr(place.path) == names


def test_a_save_that_came_out_is_given_and_held_until_it_is_released(place: Place) -> None:
    place.path.write_bytes(b"theirs\n")
    outcome = run(write_version(place, b"new\n", b"old\n"))
    assert outcome.result is Result.FOREIGN and outcome.written and outcome.found == (b"theirs\n",)
    assert place.path.read_bytes() == b"new\n"
    assert [path.read_bytes() for path in outcome.held] == [b"theirs\n"] and _left(place) == list(outcome.held)
    release(outcome.held)
    assert _left(place) == [] and _saves(place) == []


def test_a_file_that_is_kept_open_for_writing_goes_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opagent.watch.exchange.PATIENCE", 0.1)
    with place.path.open("ab", buffering=0) as file:
        outcome = run(write_version(place, b"new\n", b"old\n"))
        file.write(b"more\n")
    assert outcome.result is Result.BUSY
    assert place.path.read_bytes() == b"old\nmore\n" and outcome.found == ()
    assert _left(place) == [] and _saves(place) == []


@pytest.mark.parametrize("torn", [b"", b" \n", b"half\0"])
def test_an_empty_or_damaged_file_is_put_back(place: Place, torn: bytes) -> None:
    place.path.write_bytes(torn)
    assert run(write_version(place, b"new\n", b"old\n")).result is Result.TORN
    assert place.path.read_bytes() == torn and _left(place) == []


def test_a_save_over_ours_while_an_older_file_is_kept_open(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who keeps it open has the name again; the save that came between is not lost."""
    monkeypatch.setattr("opagent.watch.exchange.PATIENCE", 0.2)

    async def scene() -> Outcome:
        with place.path.open("ab", buffering=0):
            writing = asyncio.create_task(write_version(place, b"new\n", b"old\n"))
            while place.path.read_bytes() != b"new\n":  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            place.path.with_name("b.md").write_bytes(b"saved over\n")
            os.rename(place.path.with_name("b.md"), place.path)
            return await writing

    outcome = run(scene())
    assert outcome.result is Result.BUSY and outcome.found == (b"saved over\n",)
    assert place.path.read_bytes() == b"old\n" and len(outcome.held) == 1


def test_a_missing_file_is_waited_for_and_then_reported(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> Result:
        place.path.unlink()
        writing = asyncio.create_task(write_version(place, b"new\n", b"old\n"))
        await asyncio.sleep(0.05)
        place.path.write_bytes(b"old\n")
        return (await writing).result

    assert run(scene()) is Result.WRITTEN
    monkeypatch.setattr("opagent.watch.exchange.PATIENCE", 0.05)
    place.path.unlink()
    outcome = run(write_version(place, b"new\n", b"old\n"))
    assert outcome.result is Result.GONE and not place.path.exists() and _left(place) == []


def test_a_read_only_file_stays(place: Place) -> None:
    os.chmod(place.path, 0o444)
    outcome = run(write_version(place, b"new\n", b"old\n"))
    assert outcome.result is Result.READ_ONLY and outcome.why == f"{place.path} can only be read: its mode is -r--r--r--"
    assert place.path.read_bytes() == b"old\n"


@pytest.mark.parametrize(
    ("number", "result"),
    [(errno.ENOSPC, Result.NO_SPACE), (errno.EDQUOT, Result.NO_SPACE), (errno.EIO, Result.FAILED), (errno.EFBIG, Result.FAILED)],
    ids=["no room", "no quota", "a bad disk", "too large"],
)
def test_a_disk_that_refuses_leaves_the_old_file_whole(
    place: Place, monkeypatch: pytest.MonkeyPatch, number: int, result: Result
) -> None:
    def refuse(fd: int, content: bytes) -> None:
        os.write(fd, content[:2])
        raise OSError(number, os.strerror(number))

    workfiles.prepare(place.workspace)
    monkeypatch.setattr(files, "write_all", refuse)
    outcome = run(write_version(place, b"new\n", b"old\n"))
    assert (outcome.result, outcome.why) == (result, f"{place.path} could not be written: {os.strerror(number)}")
    assert place.path.read_bytes() == b"old\n" and _left(place) == []


def test_what_is_no_file_is_not_replaced(place: Place) -> None:
    place.path.unlink()
    os.mkfifo(place.path)
    with pytest.raises(FileRefused):
        run(write_version(place, b"new\n", b"old\n"))


def test_a_work_directory_of_somebody_else(place: Place) -> None:
    (place.workspace / ".opagent").symlink_to("/var/tmp")
    with pytest.raises(NotPrivate):
        run(write_version(place, b"new\n", b"old\n"))
    assert place.path.read_bytes() == b"old\n"


def test_cancelling_waits_for_the_end_of_the_exchange(place: Place) -> None:
    async def scene() -> None:
        for number in range(30):
            old = place.path.read_bytes()
            writing = asyncio.create_task(write_version(place, b"%d\n" % number, old, sync=True))
            await asyncio.sleep(0.0001 * number)
            writing.cancel()
            await asyncio.wait({writing})
            assert _left(place) == []

    run(scene())


def test_long_names_and_other_places(tmp_path: Path) -> None:
    name = "é" * 126 + ".md"
    place = locate(tmp_path, Path("deep/er") / name)
    run(create(place, b"a\n"))
    assert run(write_version(place, b"b\n", b"a\n")).written
    outcome = run(write_version(place, b"c\n", b"a\n"))
    assert outcome.result is Result.FOREIGN and outcome.found == (b"b\n",) and outcome.held[0].exists()


def test_create_is_exclusive_and_private(place: Place) -> None:
    fresh = locate(place.workspace, Path("conversations/new/part-1.md"))
    run(create(fresh, b"first\n"))
    assert fresh.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict):
        run(create(fresh, b"second\n"))
    assert fresh.path.read_bytes() == b"first\n" and _left(place) == []


def test_create_is_durable_when_asked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def noted(real: Callable[[int], None], fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, functools.partial(noted, getattr(os, name)))
    fresh = locate(place.workspace, Path("conversations/new/part-1.md"))
    run(create(fresh, b"first\n", sync=True))
    assert ".opagent/tmp" in synced[0]
    assert synced[1:] == [str(fresh.path.parent), str(fresh.path.parent.parent), str(place.workspace)]


def test_the_other_device(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.opagent/` on another file system: the new version lies hidden beside its target."""
    exchange, tried = files.exchange, []

    def across(first: str | Path, second: str | Path) -> None:
        tried.append(str(first))
        if ".opagent/tmp" in str(first):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        exchange(first, second)

    monkeypatch.setattr(files, "exchange", across)
    assert run(write_version(place, b"new\n", b"old\n")).written
    assert re.search(r"conversations/\.opagent-a\.md", tried[-1]) and _left(place) == []


# ---- without the exchange ----------------------------------------------------------------------------------------------


@pytest.fixture
def no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(first: str | Path, second: str | Path) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(files, "exchange", unknown)


@pytest.mark.usefixtures("no_exchange")
def test_by_names(place: Place) -> None:
    assert run(write_version(place, b"new\n", b"old\n")).written
    outcome = run(write_version(place, b"newer\n", b"old\n"))
    assert outcome.result is Result.FOREIGN and place.path.read_bytes() == b"newer\n"
    assert outcome.found == (b"new\n",) and _left(place) == list(outcome.held)


def test_by_names_takes_out_what_was_made_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    link, made = os.link, []

    def late(first: Path, second: Path) -> None:
        if not made:
            made.append(second)
            place.path.write_bytes(b"anew\n")
        link(first, second)

    monkeypatch.setattr(os, "link", late)
    temporary = place.path.with_name("t")
    temporary.write_bytes(b"new\n")
    (older,) = swapping.by_names(temporary, place.path)
    assert (older.read_bytes(), temporary.read_bytes(), place.path.read_bytes()) == (b"old\n", b"anew\n", b"new\n")


def test_by_names_without_links(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(first: Path, second: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    temporary = place.path.with_name("t")
    temporary.write_bytes(b"new\n")
    assert swapping.by_names(temporary, place.path) == ()
    assert (temporary.read_bytes(), place.path.read_bytes()) == (b"old\n", b"new\n")


# ---- races and crashes -------------------------------------------------------------------------------------------------


def _lines(content: bytes) -> list[bytes]:
    return content.split(b"\n")


async def _race(place: Place, saver: subprocess.Popen[bytes], came_out: list[bytes]) -> tuple[bytes, int]:
    """Our lines go in one by one beside a saver's; a stale save of the saver may drop ours, never ours the saver's."""
    number = 0
    while saver.poll() is None:
        content = (await settled_read(place)).content
        new = content + b"A%05d\n" % number
        outcome = await write_version(place, new, content)
        came_out += outcome.found
        release(outcome.held)
        number += 1
        await asyncio.sleep(0.001)
    return (await settled_read(place)).content, number


@pytest.mark.parametrize("how", ["inplace", "vim", "rename"])
def test_no_save_is_lost_beside_a_saver(place: Place, how: str) -> None:
    count = 250
    place.path.write_bytes(b"x" * 20_000 + b"\n")
    saver = subprocess.Popen([sys.executable, str(SAVER), str(place.path), how, str(count)])
    try:
        came_out: list[bytes] = []
        content, written = run(_race(place, saver, came_out))
    finally:
        saver.kill()
        assert saver.wait() == 0
    kept = set(_lines(content))
    for each in came_out:
        kept |= set(_lines(each))
    assert written > 20
    assert [number for number in range(1, count + 1) if b"P%05d" % number not in kept] == []
    assert b"\0" not in content and _left(place) == []


@pytest.mark.usefixtures("no_exchange")
def test_no_save_is_lost_without_the_exchange(place: Place) -> None:
    test_no_save_is_lost_beside_a_saver(place, "inplace")


WRITER = """
import asyncio, sys
from pathlib import Path
from typing import TypeVar
from opagent.watch.exchange import write_version
from opagent.watch.settled import locate, settled_read
from tests.doubles.patience import PATIENCE
from tests.doubles.patience import PATIENCE

async def main():
    place = locate(Path(sys.argv[1]), Path("conversations/a.md"))
    content = (await settled_read(place)).content
    number = 0
    while True:
        number += 1
        new = b"%07d" % number * 3000 + b"\\n"
        assert (await write_version(place, new, content, sync=number % 7 == 0)).written
        content = new
        if number == 3:
            print("going", flush=True)

asyncio.run(main())
"""


def test_kill_at_any_moment_leaves_a_whole_file(place: Place) -> None:
    for attempt in range(12):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(place.workspace)], stdout=subprocess.PIPE)
        assert writer.stdout is not None and writer.stdout.readline() == b"going\n"
        time.sleep(0.003 * attempt)  # the moment of the kill is what varies
        writer.kill()
        writer.wait()
        writer.stdout.close()
        content = place.path.read_bytes()
        assert len(content) == 21_001 and content == content[:7] * 3000 + b"\n"
    assert sorted(workfiles.leftovers(place.workspace, place.path)) == sorted(_left(place))


def test_what_another_process_left_is_found_and_what_this_one_writes_is_not(place: Place) -> None:
    workfiles.prepare(place.workspace)
    ours = workfiles.temporary(place.workspace, place.path, beside=False)
    ours.write_bytes(b"x")
    (place.workspace / ".opagent/tmp/a.md.1.deadbeef.1").write_bytes(b"a person's")
    place.path.with_name(".opagent-a.md.1.deadbeef.2").write_bytes(b"another's")
    (place.workspace / ".opagent/tmp/b.md.1.deadbeef.1").write_bytes(b"of another conversation")
    found = workfiles.leftovers(place.workspace, place.path)
    assert [path.read_bytes() for path in found] == [b"a person's", b"another's"]


def test_blobs(place: Place) -> None:
    path = workfiles.store_blob(place.workspace, "7d0c41aa.txt", "whole\n")
    assert path.read_text() == "whole\n" and path.parent.name == "blobs"
    for name in ("../x.txt", "x/../../y.txt", "a.md", ""):
        with pytest.raises(FileRefused):
            workfiles.store_blob(place.workspace, name, "x")


def test_the_exchange_is_there_on_this_machine(tmp_path: Path) -> None:
    """Else the tests above would all have taken the fallback without anybody noticing."""
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    assert ctypes.CDLL(None).renameat2
    files.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").read_text() == "b"
