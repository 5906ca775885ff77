"""Turns on this machine and on another one: what is said, what comes back, where it stands afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doubles.patience import until
from tests.doubles.places import Place, conversation, files


def test_one_turn_is_the_answer_on_stdout_and_a_file_there(place: Place, docs: Path) -> None:
    done = place.run("open", place.target(docs), "-m", "hello there")
    assert (done.returncode, done.stdout) == (0, "echo: hello there\n"), done.stderr
    assert done.stderr.splitlines()[0] == f"{place.target(conversation(docs))} · echo"
    assert "echo: hello there" in conversation(docs).read_text()


def test_conversations_are_new_or_taken_up_again(place: Place, docs: Path) -> None:
    target = place.target(docs)
    assert place.run("open", target, "-m", "one").stdout == "echo: one\n"
    assert place.run("open", target, "--last", "-m", "two").stdout == "echo: two\n"
    first = conversation(docs)
    assert place.run("open", target, "--new", "-m", "three").stdout == "echo: three\n"
    assert len(files(docs)) == 2
    assert place.run("open", place.target(first), "-m", "four").stdout == "echo: four\n"
    ident = place.json("conversations", "show", place.target(first))["conversation"]["id"]
    assert place.run("open", target, "--conversation", ident[:6], "-m", "five").stdout == "echo: five\n"
    text = first.read_text()
    assert [word for word in ("one", "two", "three", "four", "five") if f"echo: {word}" in text] == ["one", "two", "four", "five"]


def test_piped_text_is_a_turn(place: Place, docs: Path) -> None:
    target = place.target(docs)
    assert place.run("open", target, stdin="line one\nline two\n").stdout == "echo: line one\nline two\n"
    assert place.run("open", target, "-m", "what?", "--stdin", stdin="a file\n").stdout == "echo: what?\n\na file\n"


def test_the_stream_of_json(place: Place, docs: Path) -> None:
    lines = place.lines("open", place.target(docs), "-m", "hello")
    assert all({"schema", "seq", "host", "conversation", "type"} <= set(line) for line in lines)
    assert (lines[0]["type"], lines[0]["path"]) == ("opened", str(conversation(docs)))
    assert [line["seq"] for line in lines] == list(range(len(lines)))
    assert len({line["host"] for line in lines}) == len({line["conversation"] for line in lines}) == 1
    assert "".join(line["body"]["text"] for line in lines if line["type"] == "text") == "echo: hello"
    assert (lines[-1]["type"], lines[-1]["body"]["state"]) == ("turn_state", "done")


def test_an_agent_named_without_a_binding(place: Place) -> None:
    bare = place.directory("bare", binding=None)
    assert place.run("open", place.target(bare), "--agent", "echo", "-m", "hi").stdout == "echo: hi\n"
    assert not (bare / ".agent.yaml").exists()


def test_send_by_directory_file_and_id(place: Place, docs: Path) -> None:
    assert place.run("send", place.target(docs), "one").stdout == "echo: one\n"
    file = conversation(docs)
    assert place.run("send", place.target(file), "two").stdout == "echo: two\n"
    ident = place.json("conversations", "list", place.target(docs))["conversations"][0]["id"]
    assert place.run("send", ident, "three").stdout == "echo: three\n"
    assert files(docs) == [file]


def test_the_queue_waiting_and_steering(place: Place, docs: Path) -> None:
    assert place.run("open", place.target(docs), "-m", "/wait", "--no-wait").returncode == 0
    file = place.target(conversation(docs))
    assert place.run("send", file, "after", "--no-wait").stdout.split()[1:] == ["place", "1"]
    until(lambda: place.json("conversations", "queue", file)["turns"][0]["state"] == "running")
    assert place.json("send", file, "this instead", "--steer")["how"] == "restarted"
    assert place.run("wait", file, "--until", "done").returncode == 0
    text = conversation(docs).read_text()
    assert text.index("echo: this instead") < text.index("echo: after")
    assert place.json("conversations", "queue", file)["turns"] == []


@pytest.mark.parametrize(("verb", "state", "written"), [("allow", "allowed", True), ("deny", "denied", False)])
def test_an_approval_is_answered_from_here(place: Place, verb: str, state: str, written: bool) -> None:
    docs = place.directory(f"approvals-{verb}")
    done = place.run("open", place.target(docs), "-m", "/permission write new.txt content")
    assert done.returncode == 9
    (asked,) = [one for one in place.json("approvals")["approvals"] if one["workspace"] == str(docs)]
    hint = " ".join(("opagent", *place.option, "allow", asked["id"]))
    assert f"try: {hint}\n" in done.stderr
    assert place.json(verb, asked["id"])["approval"]["state"] == state
    assert place.run("wait", place.target(conversation(docs))).returncode == 0
    assert (docs / "new.txt").exists() is written


def test_the_life_of_an_agent(place: Place, docs: Path) -> None:
    assert place.run("open", place.target(docs), "-m", "/stderr a word on stderr").returncode in (0, 1)
    file = place.target(conversation(docs))

    def row() -> dict[str, object]:
        (found,) = [one for one in place.json("ps", "-a")["processes"] if one["workspace"] == str(docs)]
        return dict(found)

    assert row()["state"] == "ready"
    ident = str(row()["id"])
    assert place.json("restart", ident)["process"]["conversation"] == row()["conversation"]
    assert str(row()["id"]) != ident
    assert place.run("stop", file).returncode == 0
    assert not [one for one in place.json("ps")["processes"] if one["workspace"] == str(docs)]
    assert place.run("logs", ident).returncode == 0
