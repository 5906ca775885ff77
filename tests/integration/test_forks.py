"""Forks with a real daemon: by command, by a line in the file, by a copy of the file, by another id written into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from opagent.document import frontmatter
from opagent.document.edit import Opening, load
from opagent.document.parse import Part, scan
from opagent.errors import FileRefused
from tests.doubles.patience import until
from tests.doubles.terminal import run, run_json
from tests.doubles.texts import ids
from tests.integration.conftest import Talk


@pytest.fixture
def talked(talk: Talk) -> dict[str, Any]:
    """A conversation of two turns."""
    (talk.directory / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    made = talk.create(title="Two words")
    for word in ("one", "two"):
        talk.say(made, word)
        talk.file(made, f"echo: {word}")
    until(lambda: scan(Path(made["path"]).read_bytes())[-2].finished)
    return made


def turns(path: str | Path) -> list[str]:
    return [region.id for region in scan(Path(path).read_bytes()) if region.part is Part.REPLY]


def documents(talk: Talk, conversation: Mapping[str, Any], what: str) -> list[dict[str, Any]]:
    return [e["body"] for e in talk.show(conversation)["events"] if e["kind"] == "document" and e["body"]["what"] == what]


def test_a_fork_goes_on_from_an_older_turn_and_remembers_it(talk: Talk, talked: dict[str, Any]) -> None:
    path = Path(talked["path"])
    before = path.read_bytes()
    first, second = turns(path)
    done = run("conversations", "fork", talked["id"], "--at", first)
    forked = Path(done.stdout.strip())
    assert (done.returncode, forked.name, forked.parent) == (0, f"{path.stem}-fork.md", path.parent)
    assert forked.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == before
    content = forked.read_bytes()
    assert turns(forked) == [first]
    assert frontmatter.get(content, "forked_from") == f"{talked['id']}#{first}"
    assert content.partition(b"<!-- op:")[2].startswith(before.partition(b"<!-- op:")[2].partition(b"\n")[0])
    (found,) = [c for c in run_json("conversations", "list", str(talk.directory))["conversations"] if c["path"] == str(forked)]
    assert found["id"].partition("-")[0] == talked["id"].partition("-")[0]
    (fact,) = documents(talk, found, "forked")
    assert fact | {"path": ""} == {"what": "forked", "from": f"{talked['id']}#{first}", "here": True, "path": ""}
    answer = run("open", str(forked), "-m", "/history")
    assert answer.returncode == 0, answer.stderr
    assert len(turns(forked)) == 2
    assert turns(path) == [first, second]


def test_a_gesture_in_a_fork_made_here_counts(talk: Talk, talked: dict[str, Any]) -> None:
    forked = Path(run("conversations", "fork", talked["path"]).stdout.strip())
    talk.client.request("workspace/open", {"path": str(forked), "environment": dict(os.environ)})
    forked.write_bytes(forked.read_bytes().replace(b"- [ ] **Send**", b"three\n\n- [x] **Send**"))
    until(lambda: b"echo: three" in forked.read_bytes())
    assert b"three" not in Path(talked["path"]).read_bytes()


def test_a_fork_of_a_fork_lives_here_too_but_not_with_turns_from_elsewhere(talk: Talk, talked: dict[str, Any]) -> None:
    first = run("conversations", "fork", talked["path"]).stdout.strip()
    second, third = (Path(run("conversations", "fork", first).stdout.strip()) for _ in range(2))
    talk.client.request("workspace/open", {"path": str(second), "environment": dict(os.environ)})
    at = "2099-01-01T00:00:00Z"
    there = load(third.read_bytes()).begin(Opening("uzzzz", "azzzz", "bob", "from git", "echo", at, at))
    foreign = there.put("azzzz", "an answer\n", ("done", at)).content()
    for path, content in ((second, second.read_bytes()), (third, foreign)):
        path.write_bytes(content.replace(b"- [ ] **Send**", b"three\n\n- [x] **Send**"))
    until(lambda: b"echo: three" in second.read_bytes())
    until(lambda: b"its last turn did not happen here" in third.read_bytes())
    assert b"echo: three" not in third.read_bytes()


def test_the_line_fork_in_a_draft_makes_one(talk: Talk, talked: dict[str, Any]) -> None:
    path = Path(talked["path"])
    first = turns(path)[0]
    path.write_bytes(path.read_bytes().replace(b"- [ ] **Send**", b"kept\n\n/fork " + first.encode()))
    forked = path.with_name(f"{path.stem}-fork.md")
    until(lambda: forked.exists() and turns(forked) == [first])
    until(lambda: b"/fork" not in path.read_bytes())
    assert b"kept" in path.read_bytes()
    assert b"kept" not in forked.read_bytes()


def test_a_wrong_turn_in_the_line_is_said_and_disturbs_nothing(talk: Talk, talked: dict[str, Any]) -> None:
    path = Path(talked["path"])
    path.write_bytes(path.read_bytes().replace(b"- [ ] **Send**", b"/fork a9999"))
    until(lambda: "> `/fork`: no turn a9999 is in the file" in path.read_text())
    assert talk.say(talked, "three")["state"] == "done"
    assert [name.name for name in path.parent.glob("*.md")] == [path.name]


def test_what_cannot_be_forked(talk: Talk, talked: dict[str, Any]) -> None:
    assert run("conversations", "fork", "nobody").returncode == 4
    assert run("conversations", "fork", talked["id"], "--at", "a9999").returncode == 4
    assert run("conversations", "fork", talk.create(title="Empty")["id"]).returncode == 1
    os.unlink(talked["path"])
    gone = run("conversations", "fork", talked["id"])
    assert (gone.returncode, "conversations rebuild" in gone.stderr) == (1, True)


def test_a_copy_becomes_a_fork_when_it_is_opened_and_not_before(talk: Talk, talked: dict[str, Any]) -> None:
    path, copy = Path(talked["path"]), Path(talked["path"]).with_name("copy.md")
    shutil.copyfile(path, copy)
    before = copy.read_bytes()
    shown = run("conversations", "show", str(copy))
    assert (shown.returncode, f"opagent open {copy}" in shown.stderr) == (1, True)
    with pytest.raises(FileRefused, match="is a copy"):
        talk.client.request("turn/start", {"conversation": str(copy), "text": "x", "request": "1"})
    assert copy.read_bytes() == before
    opened = run("open", str(copy), "-m", "three")
    assert (opened.returncode, opened.stdout) == (0, "echo: three\n"), opened.stderr
    content = copy.read_bytes()
    assert frontmatter.conversation_id(content) != talked["id"]
    assert frontmatter.get(content, "forked_from") == f"{talked['id']}#{turns(path)[-1]}"
    assert turns(copy)[:2] == turns(path)
    assert len(turns(copy)) == 3
    assert frontmatter.conversation_id(path.read_bytes()) == talked["id"]
    changed = {b"conversation", b"forked_from"}
    heads = [
        [line for line in text.partition(b"<!--")[0].splitlines() if line.split(b":")[0] not in changed]
        for text in (before, content)
    ]
    assert heads[0] == heads[1]
    again = run("send", str(copy), "four")
    assert again.returncode == 0
    assert len(turns(copy)) == 4
    assert len(run_json("conversations", "list", str(talk.directory))["conversations"]) == 2


def test_the_draft_of_a_copy_is_sent_by_command(talk: Talk, talked: dict[str, Any]) -> None:
    copy = Path(talked["path"]).with_name("copy.md")
    copy.write_bytes(Path(talked["path"]).read_bytes().replace(b"- [ ] **Send**", b"from the copy\n\n- [ ] **Send**"))
    done = run("send", str(copy))
    assert (done.returncode, done.stdout) == (0, "echo: from the copy\n"), done.stderr
    assert b"from the copy" not in Path(talked["path"]).read_bytes()


def test_a_file_that_moved_keeps_its_id(talk: Talk, talked: dict[str, Any]) -> None:
    moved = Path(talked["path"]).with_name("moved.md")
    os.rename(talked["path"], moved)
    assert run("open", str(moved), "-m", "three").returncode == 0
    assert frontmatter.conversation_id(moved.read_bytes()) == talked["id"]
    assert "forked_from" not in moved.read_text()


def test_another_id_in_the_file_is_a_fork_and_the_first_one_can_be_made_again(talk: Talk, talked: dict[str, Any]) -> None:
    path = Path(talked["path"])
    new = talked["id"].partition("-")[0] + "-zzzzzz"
    path.write_bytes(path.read_bytes().replace(talked["id"].encode(), new.encode(), 1))
    assert run("open", str(path), "-m", "three").returncode == 0
    shown = run_json("conversations", "show", str(path))["conversation"]
    assert (shown["id"], shown["path"]) == (new, str(path))
    (fact,) = documents(talk, shown, "forked")
    assert (fact["from"], fact["here"]) == (f"{talked['id']}#{turns(path)[1]}", True)
    again = run("conversations", "rebuild", talked["id"])
    assert (again.returncode, again.stdout) == (0, f"{path.with_name(path.stem + '-2.md')}\n")
    assert turns(again.stdout.strip()) == turns(path)[:2]
    assert len(ids(path.read_bytes())) == 8


def test_a_file_from_elsewhere_in_the_place_of_another_is_no_fork(talk: Talk, talked: dict[str, Any]) -> None:
    path = Path(talked["path"])
    path.write_bytes(b"---\nopagent: 1\nconversation: 9999-abcdef\nagent: echo\n---\n")
    assert run("open", str(path), "-m", "three").returncode == 0
    assert frontmatter.conversation_id(path.read_bytes()) == "9999-abcdef"
    assert documents(talk, {"id": "9999-abcdef"}, "imported")
    assert documents(talk, talked, "path")[-1]["path"] == str(path.with_name(path.stem + "-2.md"))
