"""The chat at a terminal, with an agent of this machine and of another one."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.doubles.patience import until
from tests.doubles.places import HERE, Place, conversation
from tests.doubles.terminal import Terminal


def _chat(place: Place, docs: Path) -> Terminal:
    terminal = place.terminal("open", place.target(docs))
    terminal.expect("›")
    return terminal


def _leave(terminal: Terminal) -> None:
    terminal.type("/quit\r")
    assert terminal.end() == 0


def test_it_names_the_file_answers_and_tells_the_way_back(place: Place, docs: Path) -> None:
    terminal = _chat(place, docs)
    terminal.type("hello **world**\r")
    terminal.expect("echo: hello")
    _leave(terminal)
    lines = terminal.text.splitlines()
    file = place.target(conversation(docs))
    back = f"Come back: opagent open {file}"
    assert any(line.endswith(f"{file} · echo") for line in lines)  # behind what was said on the way, which is wiped
    assert lines[-1] == back
    again = place.terminal(*shlex.split(back.removeprefix("Come back: opagent ")))
    again.expect("›")
    again.type("again\r")
    again.expect("echo: again")
    _leave(again)
    assert "echo: hello **world**" in conversation(docs).read_text()


@pytest.mark.parametrize(("key", "said", "written"), [("o", "allowed", True), ("d", "denied", False)])
def test_an_approval_takes_one_key(place: Place, key: str, said: str, written: bool) -> None:
    folder = place.directory(f"chat-approval-{key}")
    terminal = _chat(place, folder)
    terminal.type("/permission write new.txt content\r")
    terminal.expect("o \\+ Enter = once, d \\+ Enter = deny")
    terminal.type(key + "\r")
    terminal.expect(f": {said}")
    _leave(terminal)
    until(lambda: f" {said}" in conversation(folder).read_text())
    assert (folder / "new.txt").exists() is written


def test_a_failure_is_told_with_a_command_that_works_here(place: Place, docs: Path) -> None:
    terminal = _chat(place, docs)
    terminal.type("/crash 3\r")
    terminal.expect("exit status 3")
    _leave(terminal)


def test_a_link_that_is_lost_comes_back(place: Place, docs: Path) -> None:
    if place.server is None:
        assert place.home.parent.name != HERE  # nothing to lose here
        return
    terminal = _chat(place, docs)
    terminal.type("one\r")
    terminal.expect("echo: one")
    terminal.expect("›")
    place.server.stop()
    terminal.expect("the link to there is lost")
    terminal.type("meanwhile\r")
    terminal.expect("it is sent when the link is there again")
    place.server.start()
    terminal.expect("the link to there is there again")
    terminal.expect("echo: meanwhile")
    terminal.type("two\r")
    terminal.expect("echo: two")
    _leave(terminal)
    text = conversation(docs).read_text()
    assert [text.count(f"echo: {word}") for word in ("one", "meanwhile", "two")] == [1, 1, 1]


def test_a_chat_without_its_link_can_be_left(place: Place, docs: Path) -> None:
    terminal = _chat(place, docs)
    if place.server is not None:
        place.server.stop()
        terminal.expect("the link to there is lost")
    _leave(terminal)
    assert terminal.text.splitlines()[-1].endswith(f"Come back: opagent open {place.target(conversation(docs))}")
    if place.server is not None:
        place.server.start()
