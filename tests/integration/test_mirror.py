"""Conversations of another machine in a directory here: two real daemons, each with a home of its own, and real files."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent import control, files, paths
from tests.doubles.machines import Machine, Pair, paired
from tests.doubles.patience import PATIENCE, until
from tests.doubles.sheet import BOX, Sheet
from tests.doubles.unixline import unix_line
from tests.integration.conftest import Talk


@pytest.fixture
def pair(home: Path) -> Iterator[Pair]:
    with paired(home) as both:
        yield both


# ---- talking ---------------------------------------------------------------------------------------------------------------


def test_a_save_here_is_answered_there_and_the_answer_comes_here(pair: Pair) -> None:
    sheet = pair.create()
    sheet.type("one cup of tea\n\n/send")
    turn = sheet.sent(1)
    sheet.holds("echo: one cup of tea", f"/{turn['id']} done")
    pair.agree(sheet)
    sheet.sent_only("one cup of tea")


def test_text_streams_here_while_the_agent_talks_there(pair: Pair) -> None:
    sheet = pair.create()
    sheet.type("/slow 4000 0.02\n\n/send")
    until(lambda: re.search(r"\n/op:\w+ |agent echo", sheet.text()) and "running" in sheet.text())
    size = len(sheet.bytes())
    until(lambda: len(sheet.bytes()) > size)
    sheet.type("typed meanwhile")
    pair.agree(sheet, "typed meanwhile")
    sheet.type("/cancel")
    sheet.holds("cancelled")
    assert "typed meanwhile" in pair.agree(sheet, "cancelled")


def test_what_was_said_elsewhere_comes_here(pair: Pair) -> None:
    sheet = pair.create()
    pair.talk.say(sheet.conversation, "from the command line")
    sheet.holds("echo: from the command line", " done ")
    pair.agree(sheet)


# ---- both sides --------------------------------------------------------------------------------------------------------------


def test_both_sides_type_at_once_and_both_lines_stay(pair: Pair) -> None:
    sheet = pair.create()
    other = pair.other(sheet)
    for number in range(8):
        one, two = f"typed here {number}", f"typed there {number}"
        sheet.type(one)
        other.type(two)
        text = pair.agree(sheet, one, two)
        assert text.count(one) == text.count(two) == 1, text
    sheet.sent_only()


def test_a_line_that_is_deleted_here_is_gone_there(pair: Pair) -> None:
    sheet = pair.create()
    sheet.type("one\ntwo\nthree")
    pair.agree(sheet, "two")
    sheet.change("two\n", "")
    until(lambda: "two" not in pair.other(sheet).text())
    assert "one\nthree" in pair.agree(sheet)


def test_a_line_that_is_deleted_there_is_gone_here(pair: Pair) -> None:
    sheet = pair.create()
    sheet.type("one\ntwo\nthree")
    pair.agree(sheet, "two")
    pair.other(sheet).change("two\n", "")
    sheet.lacks("two")
    assert "one\nthree" in pair.agree(sheet)


# ---- offline -----------------------------------------------------------------------------------------------------------------


def test_what_is_typed_while_the_other_side_is_away_is_merged_on_its_return(pair: Pair) -> None:
    sheet = pair.create()
    sheet.type("before")
    pair.agree(sheet, "before")
    other = pair.other(sheet)
    pair.there.stop()
    sheet.type("typed here")
    other.type("typed there")
    pair.there.start()
    with pair.there.client() as client:
        sheet.talk.client = pair.talk.client = client
        text = pair.agree(sheet, "before", "typed here", "typed there")
        assert [text.count(words) for words in ("before", "typed here", "typed there")] == [1, 1, 1]
        sheet.sent_only()


def test_an_editor_here_that_never_reloads_takes_out_nothing_of_there(pair: Pair) -> None:
    sheet = pair.create()
    pair.agree(sheet)
    other = pair.other(sheet)
    pair.there.stop()
    other.type("typed there")
    sheet.type("typed here")
    buffer = sheet.text()
    pair.there.start()
    with pair.there.client() as client:
        sheet.talk.client = pair.talk.client = client
        pair.agree(sheet, "typed here", "typed there")
        for number in range(3):
            buffer = buffer.replace("typed here\n", f"typed here\nand more {number}\n")
            sheet.save(buffer)
            text = pair.agree(sheet, "typed here", "typed there", f"and more {number}")
        assert [text.count(words) for words in ("typed here", "typed there", "and more 0")] == [1, 1, 1]


def test_what_is_sent_while_the_other_side_is_away_is_sent_on_its_return_once(pair: Pair) -> None:
    sheet = pair.create()
    pair.there.stop()
    sheet.type("withdrawn\n\n/send")
    sheet.change("/send\n", "")
    sheet.change("withdrawn", "wanted")
    sheet.type("/send")
    pair.there.start()
    with pair.there.client() as client:
        sheet.talk.client = pair.talk.client = client
        sheet.holds("echo: wanted", " done ")
        pair.agree(sheet)
        sheet.sent_only("wanted")


def test_what_happens_while_the_daemon_here_is_away_is_found_when_it_comes_back(pair: Pair) -> None:
    sheet = pair.create()
    pair.here.stop()
    sheet.type("typed here\n\n/send")
    pair.talk.say(sheet.conversation, "said there")
    pair.here.start()
    sheet.holds("echo: typed here", "echo: said there")
    pair.agree(sheet)
    sheet.sent_only("said there", "typed here")


# ---- files -------------------------------------------------------------------------------------------------------------------


def test_a_new_file_here_that_is_to_be_sent_becomes_a_conversation_there(pair: Pair) -> None:
    pair.create()
    (pair.there.directory / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    path = pair.here.conversations / "about-coffee.md"
    path.write_text("one cup of coffee\n\n/send\n")
    until(lambda: "echo: one cup of coffee" in path.read_text() and " done " in path.read_text())
    (there,) = pair.there.conversations.glob("about-coffee*.md")
    until(lambda: there.read_text() == path.read_text())
    with pair.there.client() as client:
        assert len(client.request("conversation/list", {"all": True})["conversations"]) == 2


def test_a_file_that_is_renamed_here_is_followed(pair: Pair) -> None:
    sheet = pair.create()
    path = sheet.path.with_name("my-own-name.md")
    sheet.path.rename(path)
    renamed = Sheet(sheet.talk, {**sheet.conversation, "path": str(path)})
    renamed.type("one cup\n\n/send")
    renamed.holds("echo: one cup")
    pair.agree(renamed)
    assert [each.name for each in pair.here.conversations.glob("*.md")] == ["my-own-name.md"]


def test_a_file_that_is_deleted_here_stays_there_and_comes_back_with_the_next_turn(pair: Pair) -> None:
    sheet = pair.create()
    other = pair.other(sheet)
    sheet.type("a line, so that the watch has seen the file")
    pair.agree(sheet, "a line")
    sheet.path.unlink()
    until(lambda: "was taken away" in pair.here.log())
    other.type("a draft is no turn")
    until(lambda: "a draft" in pair.talk.client.request("queue/list", {"conversation": sheet.conversation["id"]}) or True)
    assert other.path.exists() and not sheet.path.exists()
    pair.talk.say(sheet.conversation, "hello")
    until(sheet.path.exists)
    pair.agree(sheet, "echo: hello")


def test_a_file_that_is_deleted_there_stays_here(pair: Pair) -> None:
    sheet = pair.create()
    pair.agree(sheet)
    text = sheet.text()
    pair.other(sheet).path.unlink()
    until(lambda: "it stays here" in pair.here.log())
    assert sheet.text() == text


def test_line_ends_of_either_side_stay_whole(pair: Pair) -> None:
    sheet = pair.create()
    sheet.save(sheet.bytes().replace(b"\n", b"\r\n").replace(BOX.encode(), b"one cup\r\n\r\n/send\r\n\r\n" + BOX.encode()))
    sheet.holds("echo: one cup", " done ")
    pair.agree(sheet)
    content = sheet.bytes()
    assert content.count(b"\r\n") == content.count(b"\n")
    sheet.sent_only("one cup")


def test_a_file_of_a_megabyte(pair: Pair) -> None:
    sheet = pair.create()
    sheet.type("\n".join(f"line {number} of a long text" for number in range(40_000)))
    pair.agree(sheet, "line 39999 of")
    pair.other(sheet).type("typed there")
    sheet.type("typed here")
    text = pair.agree(sheet, "typed here", "typed there")
    assert text.count("of a long text") == 40_000


# ---- two laptops ---------------------------------------------------------------------------------------------------------------


def test_two_mirrors_of_one_directory(pair: Pair, home: Path) -> None:
    sheet = pair.create()
    third = Machine(home, "c")
    third.mirror(pair.there)
    third.start()
    try:
        second = pair.mirrored(sheet.conversation, third)
        for number in range(4):
            one, two = f"first laptop {number}", f"second laptop {number}"
            sheet.type(one)
            second.type(two)
            text = pair.agree(sheet, one, two)
            until(lambda: second.text() == sheet.text())
            assert text.count(one) == text.count(two) == 1
        second.type("/send")
        sheet.holds("echo:", "second laptop 3", " done ")
        pair.agree(sheet)
        pair.agree(second)
    finally:
        third.stop()


# ---- losses in an awkward moment -----------------------------------------------------------------------------------------------


def test_what_is_typed_after_the_answer_to_a_new_file_was_lost(home: Path) -> None:
    """It was made there and sent; the file here has more by the time it is asked again."""
    here, there = Machine(home, "a"), Machine(home, "b")
    with unix_line(home / "line.sock", there.socket) as line:
        here.mirror(there, line.path)
        there.start()
        here.start()
        try:
            with there.client() as client:
                Pair(here, there, client).create()  # it is there: the watch has begun
            (there.directory / ".agent.yaml").write_text("version: 1\nagent: echo\n")
            line.lose_answer(b"document/create")
            path = here.conversations / "coffee.md"
            path.write_text("one cup\n\n/send\n")
            far = until(
                lambda: next((each for each in there.conversations.glob("*.md") if "echo: one cup" in each.read_text()), None)
            )
            path.write_text("one cup\nwith milk\n\n/send\n")
            line.up()
            until(lambda: far.read_text() == path.read_text() and "with milk" in far.read_text())
            assert far.read_text().count("with milk") == 1 and far.read_text().count("echo: one cup") == 1
        finally:
            here.stop()
            there.stop()


def test_a_new_text_that_was_saved_while_no_daemon_ran_here_asks_first(pair: Pair) -> None:
    """Nobody saw that a person saved it: it is noticed, and says how it is sent."""
    pair.create()  # the watch has begun
    (pair.there.directory / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    pair.here.stop()
    path = pair.here.conversations / "coffee.md"
    path.write_text("one cup\n\n/send\n")
    (pair.here.conversations / "shopping.md").write_text("one cup, no question\n")
    pair.here.start()
    until(lambda: "it was here before OpAgent looked" in path.read_text())
    far = pair.there.conversations / "coffee.md"
    assert "one cup\n" in far.read_text() and "echo:" not in far.read_text()
    path.write_text(path.read_text().replace("one cup", "two cups"))
    until(lambda: "echo: two cups" in path.read_text())
    assert not (pair.there.conversations / "shopping.md").exists()


def test_a_save_waits_until_the_file_there_is_mended(pair: Pair) -> None:
    sheet = pair.create()
    sheet.type("before")
    pair.agree(sheet, "before")
    other = pair.other(sheet)
    whole = other.text()
    other.save(whole + "<<<<<<< ours\none\n=======\ntwo\n>>>>>>> theirs\n")
    until(lambda: "git has it unmerged" in str(other.listed()))
    sheet.type("typed meanwhile")
    until(lambda: "is not written: git has it unmerged" in pair.here.log())
    other.save(whole)
    text = pair.agree(sheet, "before", "typed meanwhile")
    assert text.count("typed meanwhile") == 1


def test_a_directory_that_two_ask_for_at_once_has_one_mirror(talk: Talk, home: Path) -> None:
    """Two would write the same files."""
    folder = home / "copies"
    folder.mkdir()
    path = files.private_directory(paths.machine_socket("there").parent) / paths.machine_socket("there").name
    with socket.socket(socket.AF_UNIX) as far, socket.socket(socket.AF_UNIX) as wire:
        far.bind(str(path))
        far.listen()
        far.settimeout(PATIENCE)
        wire.connect(str(paths.socket()))
        said = {"directory": str(folder), "machine": "there", "path": "/srv/docs"}
        hello = {"client": "test", "version": "0", "protocol": control.PROTOCOL, "pid": 1}
        asked = [("hello", hello), ("mirror/open", said), ("mirror/open", said)]
        lines = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": body} for number, (method, body) in enumerate(asked)
        ]
        wire.sendall(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        first, _ = far.accept()
        with first:
            for _ in range(20):
                assert len(talk.client.request("mirror/list")["mirrors"]) == 1
            far.settimeout(0.2)
            with pytest.raises(TimeoutError):
                far.accept()


def test_a_directory_that_was_removed_is_not_made_again(talk: Talk, home: Path) -> None:
    folder = home / "copies"
    folder.mkdir()
    talk.client.request("mirror/open", {"directory": str(folder), "machine": "there", "path": "/srv/docs"})
    talk.stop_daemon()
    shutil.rmtree(folder)
    assert talk.client.request("daemon/status", {})["pid"]
    until(lambda: f"{folder} is gone" in paths.daemon_log().read_text())
    assert not folder.exists()


def test_what_stood_in_the_way_is_said_no_longer(pair: Pair) -> None:
    sheet = pair.create()
    pair.agree(sheet)
    whole = sheet.bytes()
    with pair.here.client() as client:

        def problems() -> list[str]:
            (mirror,) = client.request("mirror/list")["mirrors"]
            return [each["problem"] for each in mirror["problems"]]

        sheet.save(b"")
        until(lambda: problems() == [f"{sheet.path} is empty"])
        sheet.save(whole)
        until(lambda: not problems())
