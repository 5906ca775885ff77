"""The file in the middle of other things: stale editors, saves at the moment of a write, and what becomes of it on the disk."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from opagent.client import Client
from opagent.daemon import projection, versions
from opagent.daemon.turns import Prompt
from tests.doubles import inside, saver
from tests.doubles.daemons import environment
from tests.doubles.patience import PATIENCE, until
from tests.doubles.sheet import BOX, Sheet
from tests.integration.conftest import Talk
from tests.integration.test_saves import SLOW, cancel, running


@pytest.fixture
def sheet(talk: Talk) -> Sheet:
    return Sheet(talk, talk.create())


def spoken(sheet: Sheet, *texts: str) -> None:
    for text in texts:
        turn = sheet.talk.say(sheet.conversation, text)
        sheet.holds(f"/{turn['id']} done")


def taken(sheet: Sheet, words: str) -> None:
    """Words in the draft that the daemon has read: with them it was told something to do, and took that away."""
    sheet.type(f"{words}\n\n/compact")
    sheet.lacks("\n/compact")


def shown(text: str, *words: str) -> None:
    """Each stands in it exactly once."""
    assert {word: text.count(word) for word in words} == dict.fromkeys(words, 1)


# ---- editors that are behind -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchanges", [1, 2, 3])
def test_a_stale_overwrite_loses_nothing_and_sends_nothing_twice(sheet: Sheet, exchanges: int) -> None:
    sheet.type("typed first\n\n/send")
    sheet.sent(1)
    stale = sheet.text()
    texts = [f"said {number}" for number in range(exchanges)]
    spoken(sheet, *texts)
    sheet.save(stale.replace(BOX, f"typed later\n\n{BOX}"))
    sheet.told("restored", 2 * exchanges)
    text = sheet.holds("typed later", *(f"echo: {each}" for each in texts))
    shown(text, "typed later", "echo: typed first\n", *(f"echo: {each}" for each in texts))
    sheet.sent_only("typed first", *texts)
    assert "typed later" in sheet.draft()


@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_editor_that_never_loads_sends_each_draft_once(sheet: Sheet, times: int) -> None:
    """Its buffer holds all that was sent, with the gestures; a person types on below."""
    buffer = sheet.text().replace(f"\n{BOX}\n", "\n")
    sent = []
    for number in range(times):
        sent.append(f"cup {number}")
        buffer += f"cup {number}\n\n/send\n\n"
        sheet.save(buffer)
        sheet.sent(number + 1)
    sheet.save(buffer)
    sheet.sent_only(*sent)
    shown(sheet.text(), *(f"echo: {each}\n" for each in sent))


def test_a_stale_buffer_is_known_after_a_restart(sheet: Sheet) -> None:
    sheet.type("tea\n\n/send")
    stale = sheet.text()
    sheet.sent(1)
    sheet.talk.stop_daemon()
    sheet.queue()
    sheet.save(stale)
    sheet.told("restored", 2)
    sheet.sent_only("tea")
    shown(sheet.text(), "echo: tea\n")


@pytest.mark.parametrize("how", ["inplace", "vim", "rename"])
def test_saves_at_the_very_moment_of_a_write(sheet: Sheet, how: str) -> None:
    """A person's editor saves a line every few milliseconds while a reply streams as fast as it can be written."""
    turn = running(sheet)
    count = 300
    argv = [sys.executable, saver.__file__, str(sheet.path), how, str(count)]
    subprocess.run(argv, env=environment(), check=True, timeout=PATIENCE)
    cancel(sheet)
    sheet.talk.ended(sheet.conversation, turn["id"])
    text = sheet.holds(f"/{turn['id']} cancelled", f"P{count:05}")
    typed = re.findall(r"^P\d{5}$", text, re.M)
    assert sorted(typed) == [f"P{number:05}" for number in range(1, count + 1)]  # one that met a write may come after the next
    said = sheet.said(turn).split()
    assert sheet.region(turn["id"]).body.decode().split()[4 : 4 + len(said)] == said
    sheet.sent_only(SLOW)


def test_what_is_typed_into_a_reply_that_runs_moves_to_the_draft(sheet: Sheet) -> None:
    turn = running(sheet)
    sheet.holds("\n1 2 3 ")
    sheet.change("\n1 2 3 ", "\nmy words\n1 2 3 ")
    sheet.told("moved_to_draft")
    sheet.holds("What you typed into the reply stands here now, and nothing was sent")
    assert "my words" in sheet.draft()
    cancel(sheet)
    sheet.holds(f"/{turn['id']} cancelled")
    assert "my words" not in sheet.region(turn["id"]).body.decode()
    sheet.sent_only(SLOW)
    shown(sheet.text(), "my words")


def test_a_formatter_while_a_reply_streams_changes_nothing_of_it(sheet: Sheet) -> None:
    sheet.type("half a thought")
    turn = running(sheet)
    sheet.holds("\n1 2 3 ")
    before = sheet.text()
    sheet.save(before.replace("\n1 2 3 ", "\n- 1\n- 2\n- 3 ").replace("## ", "##  "))
    sheet.told("not_kept")
    sheet.holds("was not kept; your save is in .opagent/saves/")
    cancel(sheet)
    sheet.holds(f"/{turn['id']} cancelled")
    said = sheet.said(turn).split()
    assert sheet.region(turn["id"]).body.decode().split()[4 : 4 + len(said)] == said
    assert "1 2 3" not in sheet.draft() and "half a thought" in sheet.draft()
    assert list((sheet.talk.directory / ".opagent/saves").iterdir())


def test_all_is_deleted_and_put_back_while_a_reply_runs(sheet: Sheet) -> None:
    turn = running(sheet)
    head = sheet.text()[: sheet.text().index("<!-- op:")]
    sheet.save(head)
    sheet.told("restored", 2)
    cancel(sheet)
    assert SLOW in sheet.holds(f"/{turn['id']} cancelled")


# ---- a file that is none, or damaged ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "\n \n\n"])
def test_an_empty_file_is_left_alone_and_told(sheet: Sheet, content: str) -> None:
    sheet.type("tea\n\n/send")
    turn = sheet.sent(1)
    before = sheet.text()
    sheet.save(content)
    until(lambda: "empty" in str(sheet.listed().get("problem")))
    said = sheet.talk.say(sheet.conversation, "and more")
    assert sheet.path.read_text() == content
    sheet.save(before)
    sheet.holds(f"/{said['id']} done", f"/{turn['id']} done")
    until(lambda: "problem" not in sheet.listed())


def test_stripped_comments_are_damage_that_is_left_alone(sheet: Sheet) -> None:
    sheet.type("a long line about tea and nothing else\n\n/send")
    sheet.sent(1)
    before = sheet.text()
    damaged = re.sub(r"<!--.*?-->\n", "", before).replace(BOX, "more\n\n/send")
    sheet.save(damaged)
    until(lambda: "turns are gone" in str(sheet.listed().get("problem")))
    said = sheet.talk.say(sheet.conversation, "and more")
    assert sheet.path.read_text() == damaged
    saved = sheet.talk.directory / ".opagent/saves"
    assert damaged in [each.read_text() for each in saved.iterdir()]
    sheet.talk.client.request("conversation/rebuild", {"conversation": sheet.conversation["id"]})
    text = sheet.holds(f"/{said['id']} done")
    assert text.count("echo: a long line") == 1 and "problem" not in sheet.listed()
    assert "more" in sheet.draft() and "/send" not in sheet.draft()
    assert len(sheet.turns()) == 2


@pytest.mark.parametrize("make", ["fifo", "directory", "outside"])
def test_what_is_no_file_of_the_directory_is_refused(sheet: Sheet, make: str, home: Path) -> None:
    spoken(sheet, "one")
    before = sheet.bytes()
    sheet.path.unlink()
    outside = home / "outside.md"
    outside.write_bytes(before)
    if make == "fifo":
        os.mkfifo(sheet.path)
    elif make == "directory":
        sheet.path.mkdir()
    else:
        sheet.path.symlink_to(outside)
    until(lambda: "problem" in sheet.listed())
    said = sheet.talk.say(sheet.conversation, "two")
    assert outside.read_bytes() == before
    sheet.path.rmdir() if make == "directory" else sheet.path.unlink()
    sheet.save(before)
    assert "echo: two" in sheet.holds(f"/{said['id']} done")
    until(lambda: "problem" not in sheet.listed())


def test_a_link_within_the_directory_is_written_through(sheet: Sheet) -> None:
    spoken(sheet, "one")
    real = sheet.talk.directory / "elsewhere.md"
    sheet.path.rename(real)
    sheet.path.symlink_to(real)
    sheet.type("two\n\n/send")
    sheet.sent(2)
    assert sheet.path.is_symlink() and "echo: two" in real.read_text()


# ---- a file that goes elsewhere --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("busy", [False, True])
def test_a_file_that_is_renamed_is_followed(sheet: Sheet, busy: bool) -> None:
    spoken(sheet, "one")
    if busy:
        running(sheet)
    moved = sheet.path.with_name("another name.md")
    sheet.path.rename(moved)
    until(lambda: sheet.listed()["path"] == str(moved))
    old, sheet.conversation = sheet.path, {**sheet.conversation, "path": str(moved)}
    sheet.type("two\n\n/send")
    if busy:
        sheet.holds("Sent when what runs has ended")
        cancel(sheet)
    sheet.sent(2 + busy)
    assert "echo: two" in sheet.text() and not old.exists()


def test_the_directory_of_conversations_is_moved_and_comes_back(sheet: Sheet) -> None:
    spoken(sheet, "one")
    folder, away = sheet.path.parent, sheet.path.parent.with_name("away")
    folder.rename(away)
    until(lambda: not sheet.listed()["exists"])
    away.rename(folder)
    sheet.type("two\n\n/send")
    assert sheet.sent(2)["text"] == "two"


def test_a_file_that_is_deleted_while_nothing_runs_stays_away(sheet: Sheet) -> None:
    spoken(sheet, "one")
    sheet.path.unlink()
    until(lambda: [row["state"] for row in _processes(sheet)] in ([], ["stopped"]))  # the conversation is closed
    assert not sheet.path.exists()
    sheet.talk.stop_daemon()
    sheet.queue()
    assert not sheet.path.exists()
    spoken(sheet, "two")
    shown(sheet.text(), "echo: one\n", "echo: two\n")


def _processes(sheet: Sheet) -> list[dict[str, Any]]:
    return list(sheet.talk.client.request("process/list", {})["processes"])


def test_a_file_that_is_deleted_while_a_turn_runs_is_made_again_once(sheet: Sheet) -> None:
    turn = running(sheet)
    taken(sheet, "a draft")
    sheet.path.unlink()
    sheet.told("made again")
    assert "a draft" in sheet.holds(f" {turn['id']} agent ")
    sheet.path.unlink()
    so_far = len(sheet.said(turn))
    until(lambda: len(sheet.said(turn)) > so_far + 1000)
    assert not sheet.path.exists()
    cancel(sheet)
    sheet.talk.ended(sheet.conversation, turn["id"])
    spoken(sheet, "two")
    assert sheet.path.exists()


def test_a_copy_is_a_conversation_of_its_own_when_it_sends(sheet: Sheet) -> None:
    spoken(sheet, "one")
    copy = sheet.path.with_name("copy.md")
    shutil.copy(sheet.path, copy)
    copy.write_text(copy.read_text().replace(BOX, f"two\n\n/send\n\n{BOX}"))
    until(lambda: "echo: two" in copy.read_text())
    sheet.sent_only("one")
    assert "echo: two" not in sheet.text() and sheet.conversation["id"] not in copy.read_text().split("---")[1].split("forked")[0]


def test_another_id_written_into_the_file_is_another_conversation(sheet: Sheet) -> None:
    spoken(sheet, "one")
    ident = sheet.conversation["id"]
    sheet.change(f"conversation: {ident}", f"conversation: {ident[:5]}zzzzzz")
    listed = lambda: {one["id"]: one for one in sheet.talk.client.request("conversation/list", {"all": True})["conversations"]}  # noqa: E731
    until(lambda: f"{ident[:5]}zzzzzz" in listed())
    other = Sheet(sheet.talk, listed()[f"{ident[:5]}zzzzzz"])
    assert other.path == sheet.path and listed()[ident]["path"] != str(sheet.path)
    other.type("two\n\n/send")
    until(lambda: "echo: two" in other.text())
    assert sheet.texts() == ["one"]


def test_a_file_with_another_name_says_once_that_it_is_split(sheet: Sheet) -> None:
    other = sheet.talk.directory / "other.md"
    os.link(sheet.path, other)
    sheet.type("one\n\n/send")
    sheet.sent(1)
    os.link(sheet.path, sheet.talk.directory / "third.md")
    sheet.type("two\n\n/send")
    sheet.sent(2)
    assert len(sheet.facts("linked")) == 1 and "echo: " not in other.read_text()


def test_streamed_text_is_written_once_a_second_at_most(sheet: Sheet) -> None:
    """The end of each second may have a version, and the turn one at its start, with its first text, and at its end."""
    turn = sheet.talk.say(sheet.conversation, "/slow 250 0.01")
    sheet.holds(f"/{turn['id']} done")
    events = sheet.talk.show(sheet.conversation)["events"]
    places = [place for place, event in enumerate(events) if event["kind"] == "turn_state"]
    during = events[places[0] : places[-1] + 1]
    chunks = sum(event["kind"] == "text" for event in during)
    versions_then = sum(event["body"].get("what") == "version" for event in during)
    lasted = datetime.fromisoformat(during[-1]["at"]) - datetime.fromisoformat(during[0]["at"])
    assert chunks > 20 and 2 <= versions_then <= lasted.total_seconds() / projection.EVERY + 3, (chunks, versions_then, lasted)


# ---- files that cannot be written ------------------------------------------------------------------------------------------


def test_a_read_only_file_is_not_written_and_sends_once(sheet: Sheet) -> None:
    sheet.type("tea")
    content = sheet.text().replace("\ntea\n", "\ntea\n\n/send\n")
    beside = sheet.path.with_suffix(".tmp")
    beside.write_text(content)
    beside.chmod(0o400)
    beside.rename(sheet.path)
    turn = sheet.talk.ended(sheet.conversation, until(sheet.turns)[0]["id"])
    assert turn["text"] == "tea" and sheet.path.read_text() == content
    until(lambda: "can only be read" in str(sheet.listed().get("problem")))
    versions_so_far = len(sheet.facts("version"))
    sheet.talk.say(sheet.conversation, "more")
    assert len(sheet.facts("version")) <= versions_so_far + 8  # one for each step of the turn, none for each try
    sheet.path.chmod(0o600)
    sheet.holds(f"/{turn['id']} done", "echo: more")
    until(lambda: "problem" not in sheet.listed())
    sheet.sent_only("tea", "more")
    shown(sheet.text(), "echo: tea\n")


def test_two_daemons_on_one_directory(sheet: Sheet, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoken(sheet, "one")
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "other"))
    with Client("other") as client:
        other = Talk(client, sheet.talk.directory)
        client.request("workspace/open", {"path": str(sheet.path), "environment": dict(os.environ)})
        there = Sheet(other, client.request("conversation/show", {"conversation": str(sheet.path)})["conversation"])
        turn = other.say(there.conversation, "from the other")
        assert turn["state"] == "failed" and turn["reason"] == "conflict"
        assert other.answer(there.conversation, turn["id"]) == ""
        until(lambda: "another daemon works in" in str(there.listed().get("problem")))
        sheet.type("two\n\n/send")
        sheet.sent(2)
        assert len(there.turns()) == 1 and "from the other" not in sheet.text()
        shown(sheet.text(), "echo: two\n")


# ---- length, memory, own writes --------------------------------------------------------------------------------------------


def test_a_part_is_split_off_while_an_editor_holds_the_old_file(sheet: Sheet) -> None:
    lines = "\n".join(f"line {number} of a long message" for number in range(6000))
    spoken(sheet, f"first\n{lines}")
    taken(sheet, "old draft")
    stale = sheet.text()
    for number in range(2):
        sheet.talk.say(sheet.conversation, f"number {number}\n{lines}")
    [part] = until(lambda: list(sheet.path.parent.glob("*/part-1.md")))
    sheet.holds("## Earlier")
    sheet.save(stale.replace("old draft", "new draft\n\n/send"))
    turn = sheet.sent(4)
    assert turn["text"] == "new draft"
    text = sheet.holds(f"/{turn['id']} done")
    assert "echo: first" in part.read_text() and "echo: first" not in text and "## Earlier" in text
    assert text.count("new draft") == 2


def test_an_idle_conversation_gives_its_memory_back_and_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = home / "notes"
    directory.mkdir()
    monkeypatch.setattr("opagent.daemon.projection.REST", 0.0)

    async def body() -> None:
        async with inside.host() as host:
            c = await inside.talk(host, directory)
            path = Path(c.record.path)
            path.write_text(path.read_text().replace(BOX, f"one\n\n/send\n\n{BOX}"))
            await inside.until(lambda: "echo: one" in path.read_text() and not c.busy)
            host.tidy()
            await inside.until(lambda: c.versions.memory is None)
            path.write_text(path.read_text().replace(BOX, f"two\n\n/send\n\n{BOX}"))
            await inside.until(lambda: "echo: two" in path.read_text() and not c.busy)
            assert path.read_text().count("echo: one") == 1

    asyncio.run(body())


def test_what_we_wrote_is_not_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its stamp, which was taken before anybody could see it; a save of the same size is none of ours."""
    directory = home / "notes"
    directory.mkdir()
    read: list[float] = []
    settled_read = versions.settled_read

    async def counted(*words: Any) -> Any:
        read.append(time.monotonic())
        return await settled_read(*words)

    monkeypatch.setattr(versions, "settled_read", counted)

    async def body() -> None:
        async with inside.host() as host:
            c = await inside.talk(host, directory)
            path = Path(c.record.path)
            await c.enqueue(Prompt("one", "human:0", "cli"))
            await inside.until(lambda: "echo: one" in path.read_text() and not c.busy)
            await inside.until(lambda: time.time_ns() - path.stat().st_mtime_ns > 50_000_000)
            read.clear()
            for _ in range(20):
                await c.versions.read()
            assert not read
            path.write_text(path.read_text().replace("echo: one", "ECHO: one"))
            await inside.until(lambda: read)
            await inside.until(lambda: c.versions.memory and b"ECHO" in c.versions.memory.content())

    asyncio.run(body())


def test_notes_are_in_one_place_and_go_again(sheet: Sheet) -> None:
    sheet.path.chmod(0o622)
    for number in range(3):
        sheet.type(f"cup {number}\n\n/send")
        sheet.told("draft", number + 1)
    sheet.holds("Not sent: ", "cup 2")
    assert sheet.text().count("<!-- op -->") == 1
    sheet.talk.stop_daemon()
    sheet.path.chmod(0o600)
    sheet.queue()
    spoken(sheet, "one")
    assert sheet.text().count("<!-- op -->") == 1
    sheet.save(sheet.text().replace("/send\n", ""))
    sheet.lacks("<!-- op -->")
    sheet.sent_only("one")


def test_a_file_that_somebody_keeps_open_for_writing_is_let_alone(sheet: Sheet) -> None:
    with sheet.path.open("r+b") as file:
        said = sheet.talk.say(sheet.conversation, "one")  # and the daemon tries to write it
        file.write(sheet.bytes().replace(BOX.encode(), b"half a\n\n/send"))
        file.flush()
        second = sheet.talk.say(sheet.conversation, "two")
        file.write(b"thought\n")
    sheet.holds(f"/{said['id']} done", f"/{second['id']} done")
    sheet.sent_only("one", "two")
    assert "half a\n\n/send\nthought" in sheet.draft()


def test_a_daemon_is_wanted_for_hours_after_the_last_turn(home: Path) -> None:
    directory = home / "notes"
    directory.mkdir()

    async def body() -> None:
        async with inside.host() as host:
            c = await inside.talk(host, directory)
            assert not host.watching.wanted()
            await c.enqueue(Prompt("one", "human:0", "cli"))
            await inside.until(lambda: not c.busy)
            assert host.watching.wanted()
            old = "2020-01-01T00:00:00.000Z"
            await host.database.write(lambda db: db.execute("update turn set queued_at = ?, ended_at = ?", (old, old)))
            assert not host.watching.wanted()

    asyncio.run(body())
