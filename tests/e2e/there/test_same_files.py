"""Conversation files on this machine and on another one: their commands, edits by hand, large answers, strange names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doubles.patience import until
from tests.doubles.places import Place, conversation, files

ROOT = Path(__file__).resolve().parents[3]


def test_the_commands_of_conversations(place: Place, docs: Path) -> None:
    target = place.target(docs)
    made = Path(place.run("conversations", "new", target, "--title", "First").stdout.strip())
    assert made == conversation(docs)
    assert place.run("open", place.target(made), "-m", "one").stdout == "echo: one\n"
    shown = place.json("conversations", "show", place.target(made))
    assert [turn["text"] for turn in shown["turns"]] == ["one"]
    forked = Path(place.run("conversations", "fork", place.target(made)).stdout.strip())
    assert sorted([made, forked]) == files(docs)
    made.write_text("nothing of it is left\n")
    rebuilt = place.json("conversations", "rebuild", shown["conversation"]["id"])
    assert "echo: one" in made.read_text()
    assert "nothing of it is left" in Path(rebuilt["saved"]).read_text()
    listed = {one["path"] for one in place.json("conversations", "list", target)["conversations"]}
    assert {str(made), str(forked)} <= listed


def test_a_conversation_is_exported_to_here(place: Place, docs: Path, tmp_path: Path) -> None:
    place.run("open", place.target(docs), "-m", "one")
    file = place.target(conversation(docs))
    goal = tmp_path / "out.md"
    assert place.run("conversations", "export", file, "-o", str(goal)).returncode == 0
    assert place.run("conversations", "export", file).stdout.strip() == goal.read_text().strip()
    assert "echo: one" in goal.read_text()
    assert [turn["text"] for turn in place.json("conversations", "export", file)["turns"]][:1] == ["one"]


def test_what_is_written_into_the_file_is_answered_in_it(place: Place, docs: Path) -> None:
    place.run("open", place.target(docs), "-m", "one")
    file = conversation(docs)
    before = file.read_text()
    file.write_text(before.rstrip("\n") + "\n\nby hand\n\n/send\n")
    until(lambda: "echo: by hand" in file.read_text())


def test_the_draft_of_a_file_is_sent(place: Place, docs: Path) -> None:
    place.run("open", place.target(docs), "-m", "one")
    file = conversation(docs)
    file.write_text(file.read_text().rstrip("\n") + "\n\na draft\n")
    assert place.run("send", place.target(file)).stdout == "echo: a draft\n"


def test_a_megabyte_comes_whole(place: Place, docs: Path) -> None:
    text = ("x" * 999 + " ") * 1000
    done = place.run("open", place.target(docs), stdin=text)
    assert (done.returncode, len(done.stdout)) == (0, len(f"echo: {text}\n")), done.stderr[-500:]


@pytest.mark.parametrize("name", ["zwölf Ordner", 'it\'s "quoted"', "a\nb", "-dash", "$(touch x)", "日本: b"])
def test_strange_names_of_directories(place: Place, name: str) -> None:
    folder = place.directory(f"names/{name}")
    done = place.run("open", place.target(folder), "-m", "hi")
    assert (done.returncode, done.stdout) == (0, "echo: hi\n"), done.stderr
    assert place.json("conversations", "list", place.target(folder))["conversations"][0]["workspace"] == str(folder)


def test_a_path_is_from_the_home_directory_there(place: Place, docs: Path) -> None:
    relative = str(docs.relative_to(place.home))
    if place.server is None:
        assert place.run("open", relative, "-m", "hi", cwd=place.home).stdout == "echo: hi\n"
        return
    for words in (["open", f"there:{relative}"], ["open", f"there:~/{relative}"], ["--host", "there", "open", relative],
                  ["-C", f"there:{docs.parent}", "open", docs.name]):  # fmt: skip
        done = place.run(*words, "-m", "hi")
        assert (done.returncode, done.stdout) == (0, "echo: hi\n"), (words, done.stderr)


def test_a_binding_is_written_there(place: Place) -> None:
    folder = place.directory("fresh", binding=None)
    done = place.run("init", place.target(folder), "--agent", "echo")
    assert done.stdout.strip() == f"{folder}/.agent.yaml", done.stderr
    assert place.run("open", place.target(folder), "-m", "hi").stdout == "echo: hi\n"
    again = place.run("init", place.target(folder))
    assert again.returncode == 1
    assert f"try: opagent explain {place.target(folder)}\n" in again.stderr


def test_the_question_of_the_readme_has_the_same_answer(place: Place) -> None:
    folder = place.copy(ROOT / "workspaces/docs", "shipped")
    done = place.run("open", place.target(folder), "-m", "How should headings be written?")
    assert done.returncode == 0, done.stderr
    assert "style.md:7" in done.stdout
