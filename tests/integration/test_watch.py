"""Saves are noticed, each once: every way to save, real programs, directories that come and go, lost events, no events."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from opagent import files, mounts
from opagent.daemon import doctor
from opagent.watch import observer, survey, swap
from opagent.watch.changes import BATCH, MOST, REST
from opagent.watch.events import Events
from opagent.watch.survey import PROBE, How
from tests.doubles.patience import PATIENCE
from tests.doubles.watching import Exhausted, Gate, Watching, until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(home: Path) -> Path:
    """Not below /tmp: vim skips its backup and rename there. The dot directory above is none of the watched ones."""
    made = home / ".notes/conversations"
    made.mkdir(parents=True)
    return made


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def program(*argv: str, cwd: Path) -> None:
    assert shutil.which(argv[0]), f"{argv[0]} is not installed: scripts/system-packages installs it"
    subprocess.run(argv, cwd=cwd, check=True, capture_output=True, timeout=PATIENCE)


# ---- every way to save ---------------------------------------------------------------------------------------------------


def in_place(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def in_small_pieces(path: Path, content: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(content), 3):
            file.write(content[start : start + 3])


def appended(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def like_vim(path: Path, content: bytes) -> None:
    """`4913` shows whether files can be made; rename away, create, fsync, unlink."""
    path.with_name("4913").touch()
    path.with_name("4913").unlink()
    backup = path.with_name(path.name + "~")
    path.rename(backup)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    backup.unlink()


def like_emacs(path: Path, content: bytes) -> None:
    path.with_name(f".#{path.name}").symlink_to("somebody@somewhere.1")
    path.with_name(f"#{path.name}#").write_bytes(content)
    path.rename(path.with_name(path.name + "~"))
    path.write_bytes(content)
    path.open("ab").close()
    path.with_name(f"#{path.name}#").unlink()
    path.with_name(f".#{path.name}").unlink()


def like_nano(path: Path, content: bytes) -> None:
    shutil.copy2(path, path.with_name(path.name + "~"))
    path.with_name(f".{path.name}.swp").write_bytes(b"b0")
    path.write_bytes(content)
    path.with_name(f".{path.name}.swp").unlink()


def renamed_over(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.rename(path)


def moved_in(path: Path, content: bytes) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.write_bytes(content)
    elsewhere.rename(path)


def made_anew(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def exchanged(path: Path, content: bytes) -> None:
    """As we do it."""
    temporary = path.parent.parent / "version"
    temporary.write_bytes(content)
    files.exchange(temporary, path)


def exchanged_by_names(path: Path, content: bytes) -> None:
    temporary = path.parent.parent / "version"
    temporary.write_bytes(content)
    swap.by_names(temporary, path)


WAYS = [
    in_place, in_small_pieces, appended, like_vim, like_emacs, like_nano, renamed_over, moved_in, made_anew, exchanged,
    exchanged_by_names,
]  # fmt: skip


@pytest.mark.parametrize("save", WAYS)
def test_every_way_to_save_is_told_once(folder: Path, save: Callable[[Path, bytes], None]) -> None:
    async def scene() -> None:
        path = folder / "c.md"
        path.write_bytes(b"before\n")
        async with Watching(folder) as watching:
            for number in (1, 2):
                await asyncio.to_thread(save, path, b"typed by a person, %d\n" % number)
                assert await watching.settle() == {"c.md": number}
            assert watching.watch.state.how is How.EVENTS
            assert doctor.watching(watching.observer)[0]["ok"] is True

    run(scene())


@pytest.mark.parametrize("save", [in_place, like_vim, renamed_over])
def test_a_save_right_after_an_exchange_is_no_secret(folder: Path, save: Callable[[Path, bytes], None]) -> None:
    async def scene() -> None:
        path = folder / "c.md"
        path.write_bytes(b"before\n")
        async with Watching(folder) as watching:
            exchanged(path, b"ours\n")
            await until(lambda: watching.told["c.md"] == 1, "ours")
            save(path, b"theirs\n")
            assert await watching.settle() == {"c.md": 2}

    run(scene())


def test_a_slow_save_is_told_when_its_writer_is_done(folder: Path) -> None:
    async def scene() -> None:
        async with Watching(folder) as watching:
            with (folder / "c.md").open("wb") as file:
                file.write(b"half")
                file.flush()
                await asyncio.sleep(4 * REST)  # longer than a file is waited for that is closed
                assert watching.told["c.md"] == 0
                file.write(b" and half")
            assert await watching.settle() == {"c.md": 1}

    run(scene())


def test_coming_going_and_other_names(folder: Path) -> None:
    async def scene() -> None:
        path = folder / "c.md"
        path.write_bytes(b"text\n")
        async with Watching(folder) as watching:
            path.rename(folder / "d.md")
            assert await watching.settle() == {"c.md": 1, "d.md": 1}
            (folder / "d.md").rename(folder.parent / "d.md")
            assert await watching.settle() == {"c.md": 1, "d.md": 2}
            (folder.parent / "d.md").rename(folder / "d.md")
            assert await watching.settle() == {"c.md": 1, "d.md": 3}
            (folder / "d.md").unlink()
            assert await watching.settle() == {"c.md": 1, "d.md": 4}

    run(scene())


def test_what_is_no_save_is_not_told(folder: Path) -> None:
    async def scene() -> None:
        (folder / "c.md").write_bytes(b"text\n")
        async with Watching(folder) as watching:
            for name in ("c.md~", "4913", ".c.md.swp", ".#c.md", "#c.md#", "sedAbCdEf", f".opagent-c.md.{1}", "c.tmp", "x.txt"):
                (folder / name).write_bytes(b"x")
            (folder / ".hidden").mkdir()
            (folder / ".hidden/c.md").write_bytes(b"x")
            (folder / "c.md").read_bytes()
            (folder / "c.md").open("ab").close()
            os.chmod(folder / "c.md", 0o600)
            assert await watching.settle() == {}

    run(scene())


def test_odd_names_come_as_they_are(folder: Path) -> None:
    names = [
        "line\nbreak.md",
        os.fsdecode(b"\xff\xfe.md"),
        "-rf.md",
        "x" * 252 + ".md",
        "e\u0301.md",
        "\u00e9.md",
        "A.md",
        "a.md",
        "sedabc.md",
    ]

    async def scene() -> None:
        async with Watching(folder) as watching:
            for name in names:
                (folder / name).write_bytes(b"text\n")
            assert await watching.settle() == dict.fromkeys(names, 1)

    run(scene())


def test_parts_beneath_a_conversation(folder: Path) -> None:
    async def scene() -> None:
        (folder / "c").mkdir()
        async with Watching(folder) as watching:
            (folder / "c/part-1.md").write_bytes(b"text\n")
            (folder / "d/e").mkdir(parents=True)
            (folder / "d/e/part-1.md").write_bytes(b"text\n")
            assert await watching.settle() == {"c/part-1.md": 1, "d/e/part-1.md": 1}
            (folder / "d").rename(folder / "f")
            assert await watching.settle() == {"c/part-1.md": 1, "d/e/part-1.md": 2, "f/e/part-1.md": 1}
            (folder / "f").rename(folder.parent / "f")
            assert await watching.settle() == {"c/part-1.md": 1, "d/e/part-1.md": 2, "f/e/part-1.md": 2}
            (folder.parent / "f").rename(folder / "d")
            assert await watching.settle() == {"c/part-1.md": 1, "d/e/part-1.md": 3, "f/e/part-1.md": 2}
            (folder / "d/e/part-1.md").write_bytes(b"more text\n")
            assert (await watching.settle())["d/e/part-1.md"] == 4

    run(scene())


def test_where_a_link_leads(folder: Path) -> None:
    """No event tells of it, the look at it all does."""

    async def scene() -> None:
        target = folder.parent / "target.md"
        target.write_bytes(b"text\n")
        (folder / "c.md").symlink_to(target)
        async with Watching(folder) as watching:
            target.write_bytes(b"more text\n")
            await until(lambda: watching.told["c.md"] == 1, "a save of what the link leads to")
            (folder / "c.md").unlink()
            await until(lambda: watching.told["c.md"] == 2, "the link is gone")
            (folder / "c.md").symlink_to(folder / "c.md")
            await until(lambda: watching.told["c.md"] == 3, "a link that leads nowhere")

    run(scene())


# ---- real programs -------------------------------------------------------------------------------------------------------


def by_vim(folder: Path) -> None:
    program("vim", "-es", "-u", "NONE", "-N", "-c", "$put ='typed'", "-c", "wq", "c.md", cwd=folder)


def by_sed(folder: Path) -> None:
    program("sed", "-i", "s/$/ typed/", "c.md", cwd=folder)


def by_git(folder: Path) -> None:
    program("git", "checkout", "-q", "-", cwd=folder)


def by_rsync(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / "c.md").write_text(f"{time.time_ns()}\n")
    program("rsync", "-aI", f"{elsewhere}/c.md", f"{folder}/", cwd=folder)


@pytest.mark.parametrize("save", [by_vim, by_sed, by_git, by_rsync])
def test_saves_of_programs_are_told_once(folder: Path, save: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    (folder / "c.md").write_bytes(b"before\n")
    git = ("git", "-c", "user.name=A", "-c", "user.email=a@b")
    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "1"), ("checkout", "-qb", "other")):
        program(*git, *words, cwd=folder)
    (folder / "c.md").write_bytes(b"before, on another branch\n")
    program(*git, "commit", "-qam", "2", cwd=folder)

    async def scene() -> None:
        async with Watching(folder) as watching:
            for number in (1, 2):
                await asyncio.to_thread(save, folder)
                assert await watching.settle() == {"c.md": number}

    run(scene())


# ---- directories that come and go ----------------------------------------------------------------------------------------


def test_a_directory_that_comes_later(folder: Path) -> None:
    async def scene() -> None:
        later = folder / "later"
        async with Watching(later) as watching:
            assert watching.watch.state.how is How.ABSENT
            assert watching.watch.state.why == "No such file or directory"
            later.mkdir()
            (later / "c.md").write_bytes(b"text\n")
            assert await watching.settle() == {"c.md": 1}
            assert watching.watch.state.how is How.EVENTS

    run(scene())


def removed(folder: Path) -> None:
    shutil.rmtree(folder)


def moved_away(folder: Path) -> None:
    folder.rename(folder.with_name("old"))


@pytest.mark.parametrize("leave", [removed, moved_away])
@pytest.mark.parametrize("seen", [False, True], ids=["at once", "after a while"])
def test_a_directory_that_leaves_and_is_made_anew(folder: Path, leave: Callable[[Path], None], seen: bool) -> None:
    async def scene() -> None:
        (folder / "c.md").write_bytes(b"text\n")
        (folder / "same.md").write_bytes(b"text\n")
        async with Watching(folder) as watching:
            os.link(folder / "same.md", folder.parent / "same")
            leave(folder)
            if seen:
                await until(lambda: watching.watch.state.how is How.ABSENT, "it is gone")
                await until(lambda: watching.told["c.md"] == 1, "what was in it is gone")
            folder.mkdir()
            os.link(folder.parent / "same", folder / "same.md")
            (folder / "d.md").write_bytes(b"text\n")
            told = await watching.settle()
            assert told["c.md"] == 1, told
            assert told["d.md"] == 1, told
            if seen:
                assert told["same.md"] == 2, told
            assert watching.watch.state.how is How.EVENTS
            (folder / "d.md").write_bytes(b"more text\n")
            assert (await watching.settle())["d.md"] == 2

    run(scene())


def test_a_directory_that_is_a_link_and_leads_elsewhere(folder: Path) -> None:
    async def scene() -> None:
        one, two, link = folder / "one", folder / "two", folder / "link"
        for each in (one, two):
            each.mkdir()
        (two / "other.md").write_bytes(b"text\n")
        link.symlink_to(one)
        async with Watching(link) as watching:
            (one / "c.md").write_bytes(b"text\n")
            assert await watching.settle() == {"c.md": 1}
            link.unlink()
            link.symlink_to(two)
            await until(lambda: watching.told["other.md"] == 1, "what the link leads to now")
            (two / "c.md").write_bytes(b"text\n")
            assert await watching.settle() == {"c.md": 3, "other.md": 1}  # made, gone with the link, made
            assert watching.watch.state.how is How.EVENTS

    run(scene())


def test_a_file_in_the_place_of_the_directory(folder: Path) -> None:
    async def scene() -> None:
        async with Watching(folder) as watching:
            folder.rmdir()
            folder.write_bytes(b"text\n")
            await until(lambda: watching.watch.state.how is How.ABSENT, "it is no directory")
            folder.unlink()
            folder.mkdir()
            (folder / "c.md").write_bytes(b"text\n")
            assert await watching.settle() == {"c.md": 1}

    run(scene())


def test_one_directory_is_watched_once_by_any_name(folder: Path) -> None:
    async def scene() -> None:
        async with Watching(folder) as watching:
            assert watching.observer.watch(f"{folder}/../{folder.name}/") is watching.watch
            link = folder.parent / "link"
            link.symlink_to(folder)
            second = watching.observer.watch(str(link))
            await second.ready.wait()
            (folder / "c.md").write_bytes(b"text\n")
            assert await watching.settle() == {"c.md": 1, "../link/c.md": 1, "../link/fence-0.md": 1}
            watching.observer.unwatch(str(link))
            (folder / "c.md").write_bytes(b"more text\n")
            assert (await watching.settle())["c.md"] == 2
            assert watching.told["../link/c.md"] == 1
            assert watching.observer.watches() == (watching.watch,)

    run(scene())


def test_nothing_is_told_of_what_is_not_watched_any_more(folder: Path) -> None:
    async def scene() -> None:
        other = folder / "other"
        other.mkdir()
        async with Watching(folder) as watching:
            await watching.observer.watch(str(other)).ready.wait()
            (folder / "c.md").write_bytes(b"text\n")
            watching.observer.unwatch(str(folder))
            watching.observer.unwatch(str(folder))
            (folder / "c.md").write_bytes(b"more text\n")
            (other / "d.md").write_bytes(b"text\n")
            await until(lambda: watching.told["other/d.md"], "the other directory")
            assert watching.told["c.md"] == 0
            watching.watch = watching.observer.watch(str(folder))
            await watching.watch.ready.wait()
            (folder / "c.md").write_bytes(b"text\n")
            assert (await watching.settle())["c.md"] == 1

    run(scene())


# ---- many files, many events ---------------------------------------------------------------------------------------------


def test_ten_thousand_files(folder: Path) -> None:
    async def scene() -> None:
        for number in range(10_000):
            (folder / f"{number}.md").touch()
        async with Watching(folder) as watching:
            assert len(watching.watch.state.files) == 10_000
            (folder / "77.md").write_bytes(b"text\n")
            assert await watching.settle() == {"77.md": 1}

    run(scene())


def test_more_files_than_are_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "MOST", 20)
    (folder / "below").mkdir()
    for number in range(30):
        (folder / f"{number}.md").touch()
        (folder / f"below/{number}.md").touch()

    async def scene() -> None:
        async with Watching(folder) as watching:
            assert len(watching.watch.state.files) == 20
            for number in range(30):
                (folder / f"{number}.md").write_bytes(b"text\n")
            await until(lambda: len(watching.told) == 30, "events tell of the others")

    run(scene())


def test_a_time_ahead_of_the_clock_is_told_once(folder: Path) -> None:
    async def scene() -> None:
        async with Watching(folder) as watching:
            (folder / "c.md").write_bytes(b"text\n")
            os.utime(folder / "c.md", (2_000_000_000, 2_000_000_000))
            for _ in range(2):
                assert await watching.settle() == {"c.md": 1}

    run(scene())


def test_more_events_than_are_kept(folder: Path) -> None:
    """The loop is busy meanwhile; what is not kept is found by a look at it all."""
    count = 2 * MOST + 3 * BATCH

    async def scene() -> None:
        async with Watching(folder) as watching:
            for number in range(count):
                (folder / f"{number}.md").touch()
            await until(lambda: len(watching.told) >= count, "all of them")
            assert await watching.settle() == {f"{number}.md": 1 for number in range(count)}

    run(scene())


def test_the_queue_of_the_kernel_overflows(folder: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    gate = Gate()

    async def scene() -> None:
        one, two = folder / "one.txt", folder / "two.txt"
        one.touch()
        async with Watching(folder, Events(gate.observer)) as watching:
            gate.open.clear()
            for _ in range(limit // 4 + 2000):  # four events each
                one.rename(two)
                two.rename(one)
            (folder / "c.md").write_bytes(b"nobody heard of it\n")
            gate.open.set()
            assert await watching.settle() == {"c.md": 1}
            (folder / "c.md").write_bytes(b"heard again\n")
            assert await watching.settle() == {"c.md": 2}
            assert watching.watch.state.how is How.EVENTS

    run(scene())


# ---- no events -----------------------------------------------------------------------------------------------------------


def test_without_watches_left_it_is_polled(folder: Path) -> None:
    async def scene() -> None:
        (folder / "c.md").write_bytes(b"text\n")
        async with Watching(folder, Events(Exhausted)) as watching:
            assert (watching.watch.state.how, watching.watch.state.why) == (How.POLLING, "inotify watch limit reached")
            assert doctor.watching(watching.observer)[0]["hint"] == "sysctl fs.inotify"
            for number in (1, 2):
                like_vim(folder / "c.md", b"typed %d\n" % number)
                await until(lambda: watching.told["c.md"] == number, "a save")  # noqa: B023
            (folder / "c.md").unlink()
            assert await watching.settle() == {"c.md": 3}

    run(scene())


def test_the_real_limit(folder: Path) -> None:
    """A user namespace of its own with no inotify watch at all."""
    script = 'echo 0 > /proc/sys/user/max_inotify_watches; exec "$@"'
    argv = ["unshare", "-Ur", "sh", "-c", script, "sh", sys.executable, "-m", "tests.doubles.watching", str(folder)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "polling inotify watch limit reached\n"
        (folder / "c.md").write_bytes(b"text\n")
        assert process.stdout.readline() == "told c.md\n"
        process.stdin.close()


def test_a_watch_that_tells_nothing_is_found_out(folder: Path) -> None:
    gate = Gate()

    async def scene() -> None:
        gate.open.clear()
        async with Watching(folder, Events(gate.observer)) as watching:
            assert watching.watch.state.how is How.POLLING
            assert watching.watch.state.why == "a file that was written there was not told of"
            (folder / "c.md").write_bytes(b"text\n")
            assert await watching.settle() == {"c.md": 1}
            assert not (folder / PROBE).exists()
            [check] = doctor.watching(watching.observer)
            assert check["ok"] is None
            assert str(folder) in check["sentence"] and watching.watch.state.why in check["sentence"]
            gate.open.set()

    run(scene())


def test_a_watch_that_falls_silent_is_found_out(folder: Path) -> None:
    gate = Gate()

    async def scene() -> None:
        async with Watching(folder, Events(gate.observer)) as watching:
            assert watching.watch.state.how is How.EVENTS
            gate.open.clear()
            (folder / "c.md").write_bytes(b"text\n")
            await until(lambda: watching.told["c.md"] == 1, "by the look at it all")
            await until(lambda: watching.watch.state.how is How.POLLING, "the watch was tried")
            gate.open.set()

    run(scene())


def test_an_active_conversation_is_polled_more_often(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer, "ACTIVE", 0.0)
    monkeypatch.setattr(observer, "POLL_IDLE", 3600.0)

    async def scene() -> None:
        async with Watching(folder, Events(Exhausted)) as watching:
            (folder / "c.md").write_bytes(b"text\n")
            watching.watch.active()
            await until(lambda: watching.told["c.md"] == 1, "a look, an hour too early")

    run(scene())


@pytest.mark.parametrize("rounds", range(4))
def test_a_watch_that_is_woken_ends_all_the_same(folder: Path, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Watching` waits for its task at the end."""
    monkeypatch.setattr(observer, "ACTIVE", -1.0)

    async def scene() -> None:
        async with Watching(folder) as watching:
            await asyncio.sleep(0.01)  # it pauses
            watching.watch.active()
            for _ in range(rounds):
                await asyncio.sleep(0)

    run(scene())


def test_a_directory_that_nothing_can_be_written_to(folder: Path) -> None:
    """It cannot be tried; here because something else has the name of the file that would be written."""

    async def scene() -> None:
        (folder / PROBE).mkdir()
        async with Watching(folder) as watching:
            assert watching.watch.state.how is How.EVENTS
            (folder / "c.md").write_bytes(b"text\n")
            assert await watching.settle() == {"c.md": 1}

    run(scene())


def test_what_stands_there_before_is_not_told(folder: Path) -> None:
    async def scene() -> None:
        (folder / "c.md").write_bytes(b"text\n")
        async with Watching(folder) as watching:
            assert list(watching.watch.state.files) == ["c.md"]
            assert await watching.settle() == {}

    run(scene())


# ---- file systems --------------------------------------------------------------------------------------------------------

TABLE = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 27 0:30 / /mnt/a\\040b rw,nosuid shared:2 master:1 - {kind} host:/x rw,vers=4.2
31 30 0:31 / /mnt/a\\040b rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse", "fuse.sshfs", "9p", "virtiofs", "drvfs"])
def test_the_types_that_do_not_tell(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = mounts.kind_of(TABLE.format(kind=kind), "pos:\t0\nflags:\t012\nmnt_id:\t30\nino:\t2\n")
    assert found == kind
    monkeypatch.setattr(mounts, "file_system", lambda _: found)
    assert mounts.untold("/") == kind


@pytest.mark.parametrize(("ident", "kind"), [("27", "ext4"), ("31", "tmpfs"), ("22", "proc"), ("3", ""), ("99", "")])
def test_a_directory_lies_on_the_mount_that_hides_others(ident: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = mounts.kind_of(TABLE.format(kind="fuseblk"), f"mnt_id:\t{ident}\n")
    assert found == kind
    monkeypatch.setattr(mounts, "file_system", lambda _: found)
    assert mounts.untold("/") == ""


def test_real_file_systems(folder: Path) -> None:
    assert mounts.file_system("/proc") == "proc"
    assert mounts.file_system("/dev/shm") == "tmpfs"
    assert mounts.untold(str(folder)) == ""
    with pytest.raises(FileNotFoundError):
        mounts.untold(str(folder / "none"))
