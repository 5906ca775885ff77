"""What a person sees at a real terminal: the chat, questions of agents, trust, the offer of a first binding."""

from __future__ import annotations

from pathlib import Path

import pytest

from opagent import paths
from opagent.client import Client
from tests.doubles.daemons import end_all, kill
from tests.doubles.patience import until
from tests.doubles.terminal import Terminal, run, run_json

_OWN = "version: 1\nagent: own\nroles:\n  own: {runtime: echo}\ninstructions: Be brief.\n"


@pytest.fixture
def docs(home: Path) -> Path:
    folder = home / "docs"
    folder.mkdir()
    (folder / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    return folder


def _chat(docs: Path, *words: str, **variables: str) -> Terminal:
    terminal = Terminal("open", str(docs), *words, **variables)
    terminal.expect("›")
    return terminal


def _leave(terminal: Terminal) -> None:
    terminal.type("/quit\r")
    assert terminal.end() == 0


def _file(docs: Path) -> Path:
    (file,) = (docs / "conversations").glob("*.md")
    return file


def test_a_chat_names_the_file_answers_and_tells_the_way_back(docs: Path) -> None:
    terminal = _chat(docs)
    terminal.type("hello **world**\r")
    terminal.expect("echo: hello")
    terminal.expect("›")
    _leave(terminal)
    lines = terminal.text.splitlines()
    assert lines[0] == f"{_file(docs)} · echo"
    assert lines[-1] == f"Come back: opagent open {_file(docs)}"
    assert "echo: hello **world**" in _file(docs).read_text()
    assert "hello **world**" in paths.chat_history().read_text()


def test_the_way_back_leads_back(docs: Path) -> None:
    _leave(_chat(docs))
    file = _file(docs)
    terminal = _chat(file)
    terminal.type("again\r")
    terminal.expect("echo: again")
    _leave(terminal)
    assert _file(docs) == file


def test_several_lines_with_alt_enter(docs: Path) -> None:
    terminal = _chat(docs)
    terminal.type("one\x1b\rtwo\r")
    terminal.expect("echo: one")
    terminal.expect("two")
    _leave(terminal)
    assert "one\ntwo" in _file(docs).read_text()


def test_commands_of_the_chat(docs: Path) -> None:
    terminal = _chat(docs, VISUAL="", EDITOR="echo edit")
    terminal.type("/help\r")
    terminal.expect("/open-file")
    terminal.type("/queue\r")
    terminal.expect("nothing waits")
    terminal.type("/cancel\r")
    terminal.expect("nothing runs")
    terminal.type("/open-file\r")
    terminal.expect(f"edit {docs}/conversations")
    terminal.type("/wait\r")
    terminal.expect("working")
    terminal.type("second\r")
    terminal.expect("queued, 1 before it")
    terminal.type("/steer now this\r")
    terminal.expect("echo: now this")
    terminal.expect("echo: second")
    _leave(terminal)


def test_other_slash_words_go_to_the_agent(docs: Path) -> None:
    terminal = _chat(docs)
    terminal.type("/tool\r")
    terminal.expect("  · ")
    terminal.expect("›")
    _leave(terminal)
    assert "/tool" in _file(docs).read_text()


@pytest.mark.parametrize(("key", "said", "written"), [("o", "allowed", True), ("d", "denied", False)])
def test_an_approval_takes_one_line(docs: Path, key: str, said: str, written: bool) -> None:
    terminal = _chat(docs)
    terminal.type("/permission write new.txt content\r")
    terminal.expect("asks")
    ident = run_json("approvals")["approvals"][0]["id"]
    terminal.expect("o \\+ Enter = once, d \\+ Enter = deny")
    terminal.type(key + "\r")
    terminal.expect(f"{ident}: {said}")
    terminal.expect("›")
    _leave(terminal)
    assert (docs / "new.txt").exists() is written


@pytest.mark.parametrize(
    ("asked", "keys", "typed", "said", "told"),
    [
        ("red blue", "1 to 2 \\+ Enter = one of these, d", "2", "answered", "question: accept answer='blue'"),
        ("yes", "1 to 2 \\+ Enter = one of these, d", "d", "declined", "question: decline"),
        ("text", "/answer TEXT, d \\+ Enter = decline", "/answer green tea", "answered", "question: accept answer='green tea'"),
    ],
)
def test_a_question_is_answered_in_the_chat(docs: Path, asked: str, keys: str, typed: str, said: str, told: str) -> None:
    terminal = _chat(docs)
    terminal.type(f"/question {asked}\r")
    terminal.expect("Which tea")
    terminal.expect(keys)
    terminal.type(typed + "\r")
    terminal.expect(said)
    terminal.expect(told)
    _leave(terminal)


def test_a_sentence_is_no_answer(docs: Path) -> None:
    terminal = _chat(docs)
    terminal.type("/permission write new.txt content\r")
    terminal.expect("o \\+ Enter = once, d \\+ Enter = deny")
    terminal.type("oh no\r")
    terminal.expect("queued, 1 before it")
    assert run_json("approvals")["approvals"][0]["state"] == "pending"
    terminal.type("d\r")
    terminal.expect("echo: oh no")
    _leave(terminal)
    assert not (docs / "new.txt").exists()


def test_a_question_from_elsewhere_is_shown(docs: Path) -> None:
    terminal = _chat(docs)
    terminal.type("first\r")
    terminal.expect("echo: first")
    assert run("send", str(_file(docs)), "where is it?").returncode == 0
    terminal.expect(r"› where is it\?   \(from elsewhere: ")
    terminal.expect("echo: where is it")
    _leave(terminal)
    assert "› first   (from" not in terminal.text


def test_a_key_typed_before_the_question_is_no_answer(docs: Path) -> None:
    terminal = _chat(docs)
    terminal.type("/permission write new.txt content\ro")
    terminal.expect("o \\+ Enter = once, d \\+ Enter = deny")
    ident = run_json("approvals")["approvals"][0]["id"]
    terminal.expect("›")
    assert run_json("approvals")["approvals"][0]["state"] == "pending"
    assert run("deny", ident).returncode == 0
    terminal.expect(f"{ident}: denied by")
    terminal.type("\x15")
    _leave(terminal)
    assert not (docs / "new.txt").exists()


def test_ctrl_c_cancels_then_leaves(docs: Path) -> None:
    terminal = _chat(docs)
    terminal.type("/wait\r")
    terminal.expect("working")
    terminal.type("\x03")
    terminal.expect("cancelling")
    until(lambda: " cancelled " in _file(docs).read_text())
    terminal.type("\x03\x03")
    assert terminal.end() == 0


def test_leaving_stops_nothing(docs: Path) -> None:
    terminal = _chat(docs)
    terminal.type("/slow 20 0.1\r")
    terminal.expect("working")
    terminal.type("\x04")
    assert terminal.end() == 0
    assert terminal.text.splitlines()[-1].startswith("the turn goes on. Come back: opagent open ")
    assert run("wait", str(_file(docs)), "--until", "done").returncode == 0
    assert " done " in _file(docs).read_text()


def test_a_chat_survives_its_daemon(docs: Path) -> None:
    terminal = _chat(docs)
    terminal.type("one\r")
    terminal.expect("echo: one")
    with Client() as client:
        pid = client.greeting.daemon
    kill(pid)
    until(lambda: _other_daemon(pid))
    terminal.type("two\r")
    terminal.expect("echo: two")
    _leave(terminal)


def _other_daemon(pid: int) -> bool:
    with Client() as client:
        return client.greeting.daemon != pid


def test_the_same_chat_without_colours_and_on_a_dumb_terminal(docs: Path) -> None:
    terminal = _chat(docs, NO_COLOR="1")
    terminal.type("# plain\r")
    terminal.expect("echo: # plain")
    _leave(terminal)
    assert "\x1b[1m" not in terminal.seen
    dumb = Terminal("open", str(docs), TERM="dumb")
    dumb.expect("›")
    dumb.type("hi\r")
    dumb.expect("echo: hi")
    dumb.type("/quit\r")
    assert dumb.end() == 0


# ---- open -m at a terminal -------------------------------------------------------------------------------------------------


def test_one_turn_asks_inline(docs: Path) -> None:
    terminal = Terminal("open", str(docs), "-m", "/permission write new.txt content")
    terminal.expect("o \\+ Enter = once, d \\+ Enter = deny")
    terminal.type("oh no\r")
    terminal.expect("Enter = once")
    assert run_json("approvals")["approvals"][0]["state"] == "pending"
    terminal.type("o\r")
    terminal.expect("allowed")
    assert terminal.end() == 0
    assert (docs / "new.txt").exists()


@pytest.mark.parametrize(
    ("asked", "keys", "typed", "told"),
    [
        ("red blue", "1 to 2 \\+ Enter = one of these, d \\+ Enter = decline", "1", "question: accept answer='red'"),
        ("text", "the answer \\+ Enter, d \\+ Enter = decline", "green tea", "question: accept answer='green tea'"),
    ],
)
def test_one_turn_asks_a_question_inline(docs: Path, asked: str, keys: str, typed: str, told: str) -> None:
    terminal = Terminal("open", str(docs), "-m", f"/question {asked}")
    terminal.expect(keys)
    terminal.type("\r")
    terminal.expect(keys)
    terminal.type(typed + "\r")
    terminal.expect(told)
    assert terminal.end() == 0


def test_somebody_else_answers_first(docs: Path) -> None:
    terminal = Terminal("open", str(docs), "-m", "/permission")
    terminal.expect("o \\+ Enter = once, d \\+ Enter = deny")
    (approval,) = run_json("approvals")["approvals"]
    assert run("allow", approval["id"]).returncode == 0
    terminal.expect(f"{approval['id']}: allowed by ")
    assert terminal.end() == 0


def test_no_input_does_not_ask(docs: Path) -> None:
    terminal = Terminal("open", str(docs), "-m", "/permission", "--no-input")
    assert terminal.end() == 9


# ---- questions before anything starts -----------------------------------------------------------------------------------------


def test_trust_is_asked_and_the_default_is_no(docs: Path) -> None:
    (docs / ".agent.yaml").write_text(_OWN)
    terminal = Terminal("open", str(docs), "-m", "hi")
    terminal.expect(r"Trust this binding\? \[y/N\]")
    terminal.type("\r")
    assert terminal.end() == 6
    assert str(docs) in terminal.text
    assert run_json("ps")["processes"] == []


def test_a_yes_lets_the_binding_act(docs: Path) -> None:
    (docs / ".agent.yaml").write_text(_OWN)
    terminal = Terminal("trust", str(docs))
    terminal.expect(r"Trust this binding\? \[y/N\]")
    terminal.type("y\r")
    assert terminal.end() == 0
    assert run("open", str(docs), "-m", "hi").stdout == "echo: hi\n"
    (docs / ".agent.yaml").write_text(_OWN.replace("brief", "long"))
    assert "long" in run("trust", "--diff", str(docs)).stdout
    again = Terminal("trust", str(docs))
    again.expect("changed since you trusted it")
    again.expect("long")
    again.expect(r"Trust this binding\? \[y/N\]")
    again.type("\r")
    assert again.end() == 6


def test_a_yes_flag_is_no_trust(docs: Path) -> None:
    (docs / ".agent.yaml").write_text(_OWN.replace("{runtime: echo}", "{runtime: echo, mode: ask}"))
    terminal = Terminal("-y", "trust", str(docs))
    terminal.expect(r"\[y/N\]")
    terminal.type("\x04")
    assert terminal.end() == 6


def test_a_directory_without_a_binding_is_offered_one(home: Path) -> None:
    (home / "bare").mkdir()
    refused = Terminal("open", str(home / "bare"), "-m", "hi")
    refused.expect(r"\[y/N\]")
    refused.type("n\r")
    assert refused.end() == 4
    assert list((home / "bare").iterdir()) == []
    taken = Terminal("open", str(home / "bare"), "-m", "hi")
    taken.expect(r"\[y/N\]")
    taken.type("y\r")
    assert taken.end() == 0
    assert (home / "bare/.agent.yaml").exists()


def test_a_chat_of_the_fake_shows_no_escape_of_an_agent(home: Path) -> None:
    (home / "w").mkdir()
    try:
        terminal = Terminal("open", str(home / "w"), fake=True)
        terminal.expect("›")
        terminal.type("ask\r")
        terminal.expect("<U\\+001B>]0;x<U\\+0007> notes")
        terminal.type("\x04")
        assert terminal.end() == 0
    finally:
        end_all()
