"""Importers as the processes they are: sessions of other tools in, records out; and sessions that nobody should trust."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opagent.document.imported import Talk, talk
from opagent.errors import FileRefused
from opagent.model import Kind, TurnState
from opagent.packages import sessions
from tests.doubles import sessions as made


@pytest.fixture
def directory(home: Path) -> Path:
    folder = home / "my_project.x"
    folder.mkdir()
    return folder


def read(path: Path, session: sessions.Session | None = None, folder: Path = Path("/")) -> tuple[str, Talk]:
    """The runtime that knew the file, and what was said."""
    names: set[str] = set()

    def records() -> Any:
        for spec, record in sessions.read(str(path), session):
            names.add(spec.name)
            yield record

    found = talk(records(), str(folder))
    assert len(names) == 1
    return names.pop(), found


def said(found: Talk) -> list[tuple[str, str]]:
    """Message and answer of each turn."""
    return [(turn.text, "".join(body["text"] for kind, body, _ in turn.steps if kind is Kind.TEXT)) for turn in found.turns]


def calls(found: Talk, turn: int = 0) -> dict[str, dict[str, Any]]:
    """Tool calls of a turn by id, as they are in the end."""
    merged: dict[str, dict[str, Any]] = {}
    for kind, body, _ in found.turns[turn].steps:
        if kind is Kind.TOOL_CALL:
            merged[body["id"]] = merged.get(body["id"], {}) | body
    return merged


def output(call: dict[str, Any]) -> str:
    return "".join(part["content"]["text"] for part in call["content"] if part["type"] == "content")


# ---- what each tool keeps ------------------------------------------------------------------------------------------------


def test_claude(home: Path, directory: Path) -> None:
    path = made.lines(made.claude_place(home, directory), made.claude(directory))
    who, found = read(path, folder=directory)
    assert (who, found.title, found.passed_over) == ("claude", "Login made safe", 1)
    assert said(found) == [
        ("Fix the login\n\nplease", "I look.Done.\n\n```py\nnever closed"),
        ("/review all", "Reviewed."),
        ("And now stop", "I begin"),
    ]
    assert [turn.state for turn in found.turns] == [TurnState.DONE, TurnState.DONE, TurnState.CANCELLED]
    assert found.turns[0].model == "model-1"
    assert found.turns[0].sent == "2026-02-03T04:05:03Z"
    run, edit, read_, other = calls(found).values()
    assert (run["kind"], run["title"], run["status"]) == ("execute", "ls -l", "completed")
    assert output(run).endswith("17\n… 100 lines")
    assert edit["content"] == [{"type": "diff", "path": "login.py", "oldText": "a = 1", "newText": "a = 2"}]
    assert (read_["kind"], read_["locations"]) == ("read", [{"path": "a.py"}])
    assert (other["title"], other["status"], output(other)) == ("mcp__server__look", "failed", "no such thing")


def test_codex(home: Path, directory: Path) -> None:
    path = made.lines(made.codex_place(home), made.codex(directory))
    who, found = read(path)
    assert (who, found.passed_over) == ("codex", 0)
    assert said(found) == [("List the files", "There is one file."), ("Go on", "I go on")]
    assert found.turns[1].state is TurnState.CANCELLED
    assert found.turns[0].model == "model-2"
    listed, failed, patch = calls(found).values()
    assert (listed["kind"], listed["title"], listed["status"]) == ("execute", "find . -type f", "completed")
    assert output(listed).endswith("./a.txt")
    assert (failed["title"], failed["status"], output(failed)) == ("false", "failed", "oh no")
    assert (patch["title"], patch["status"], "+hello" in output(patch)) == ("new.txt", "completed", True)
    who, old = read(made.lines(home / "old.jsonl", made.codex_first_version()))
    assert (who, said(old)) == ("codex", [("Old question", "Old answer")])
    assert calls(old)["c1"]["title"] == "ls"


@pytest.mark.parametrize("make", [made.opencode_files, made.opencode_database])
def test_opencode(home: Path, directory: Path, make: Callable[[Path, Path], Path]) -> None:
    make(home, directory)
    (session,), problems = sessions.found(str(directory))
    assert (session.runtime.name, session.id, session.title, problems) == ("opencode", made.SESSION, "Blue", [])
    before = sorted(os.listdir(Path(session.file).parent))
    who, found = read(Path(session.file), session)
    assert who == "opencode"
    assert said(found) == [("Make it blue", "It is blue."), ("And green?", "")]
    assert (found.turns[1].state, found.turns[1].why) == (TurnState.FAILED, "overloaded")
    assert found.turns[0].sent.startswith("2026-02-0")
    run, edit, fetch = calls(found).values()
    assert (run["title"], output(run)) == ("ls", "a.css")
    assert edit["content"] == [{"type": "diff", "path": "/w/a.css", "oldText": "red", "newText": "blue"}]
    assert (fetch["status"], output(fetch)) == ("failed", "no network")
    assert sorted(os.listdir(Path(session.file).parent)) == before, "nothing was made beside it"


def test_a_database_in_use_is_read_with_what_was_written_last(home: Path, directory: Path) -> None:
    path = made.opencode_database(home, directory)
    with sqlite3.connect(path) as writer:
        writer.execute("update session set title = 'Newer', revert = null where id = ?", (made.SESSION,))
        writer.commit()
        (session,), _ = sessions.found(str(directory))
        assert session.title == "Newer"
        assert said(read(Path(session.file), session)[1])[2][0] == "taken back"
    writer.close()


def test_sessions_of_a_directory_are_found_newest_first_and_others_not(home: Path, directory: Path) -> None:
    assert sessions.found(str(directory)) == ([], [])
    for number, path in enumerate(
        (
            made.lines(made.claude_place(home, directory, "a"), made.claude(directory)),
            made.lines(made.codex_place(home, ident="b"), made.codex(directory)),
            made.lines(made.claude_place(home, directory, "c"), made.claude(directory)[:-1]),
        )
    ):
        os.utime(path, (1_700_000_000 + number,) * 2)
    made.lines(made.claude_place(home, directory, "agent-d"), made.claude(directory))
    made.lines(made.claude_place(home, directory, "e"), [{"type": "summary", "summary": "x", "leafUuid": "y"}])
    made.lines(made.claude_place(home, directory / "deeper", "f"), made.claude(directory))
    made.lines(made.codex_place(home, ident="g"), made.codex(Path("/elsewhere")))
    made.lines(made.codex_place(home, ident="h"), made.codex(directory, source={"subagent": "review"}))
    found, problems = sessions.found(str(directory))
    assert problems == []
    assert [(one.runtime.name, one.title) for one in found] == [
        ("claude", "Fix the login"), ("codex", "List the files"), ("claude", "Login made safe"),
    ]  # fmt: skip
    assert found[0].at == "2023-11-14T22:13:22Z"


def test_where_sessions_lie_can_be_said_by_the_tools_own_variables(
    home: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.lines(made.claude_place(home / "moved", directory), made.claude(directory))
    made.lines(made.codex_place(home / "moved"), made.codex(directory))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(home / "moved/.claude"))
    monkeypatch.setenv("CODEX_HOME", str(home / "moved/.codex"))
    assert {one.runtime.name for one in sessions.found(str(directory))[0]} == {"claude", "codex"}


def test_a_long_directory_is_found_by_the_start_of_its_name(home: Path) -> None:
    deep = home.joinpath(*["d" * 60] * 4)
    path = made.claude_place(home, deep)
    made.lines(path.parent.with_name(path.parent.name[:200] + "-abc123") / path.name, made.claude(deep))
    assert len(sessions.found(str(deep))[0]) == 1


# ---- what nobody should trust --------------------------------------------------------------------------------------------


def refused(path: Path) -> FileRefused:
    with pytest.raises(FileRefused) as caught:
        read(path)
    return caught.value


def test_what_is_no_session(home: Path) -> None:
    (home / "binary").write_bytes(os.urandom(5000))
    (home / "nul").write_bytes(b"\0" * 5000)
    (home / "empty").write_bytes(b"")
    (home / "text.jsonl").write_text("just words\n" * 50)
    (home / "other.json").write_text(json.dumps({"id": 5, "messages": []}))
    for name in ("binary", "nul", "empty", "text.jsonl", "other.json"):
        assert "is no session that can be read" in refused(home / name).what
    os.mkfifo(home / "fifo")
    (home / "folder").mkdir()
    for name in ("fifo", "folder", "missing", "binary/x"):
        assert refused(home / name)


def test_a_session_that_was_cut_off_in_the_middle(home: Path, directory: Path) -> None:
    path = made.lines(made.codex_place(home), made.codex(directory))
    path.write_bytes(path.read_bytes()[:-500])
    assert said(read(path)[1])[0] == ("List the files", "There is one file.")


def test_records_of_every_wrong_shape(home: Path, directory: Path) -> None:
    odd: list[Any] = [None, 5, "x", [], [[]], {}, {"type": 5}, True, {"x": None}]
    for good in (made.claude(directory), made.codex(directory)):
        bad: list[dict[str, Any] | str] = [json.dumps(each) for each in odd]
        for record in good:
            if isinstance(record, dict):
                for key in record:
                    bad += [record | {key: each} for each in odd]
                inner = record.get("message") or record.get("payload")
                for key in inner if isinstance(inner, dict) else ():
                    holder = "message" if "message" in record else "payload"
                    bad += [record | {holder: {**inner, key: each}} for each in odd]
        found = read(made.lines(home / "odd.jsonl", [*good, *bad]))[1]
        assert found.turns


def test_deep_records_long_lines_and_broken_text_are_passed_over(home: Path, directory: Path) -> None:
    deep = '{"type":"user","message":' + '{"content":' * 200_000 + "1" + "}" * 200_000 + "}"
    number = '{"type":"user","timestamp":' + "9" * 5000 + "}"
    long = json.dumps({"type": "user", "message": {"content": "x" * (33 << 20)}})
    half = '{"type":"user","message":{"content":"half \\ud83d pair"}}'
    path = made.lines(made.claude_place(home, directory), [deep, number, long, half, *made.claude(directory)])
    with path.open("ab") as file:
        file.write(b'{"type":"user","message":{"content":"\xff\xfe"}}\n')
    found = read(path)[1]
    assert found.passed_over == 5
    assert found.turns[0].text.startswith("half ")
    assert found.title == "Login made safe"


def test_a_hundred_megabytes(home: Path, directory: Path) -> None:
    filler = json.dumps({"type": "progress", "data": "x" * 100_000}) + "\n"
    path = made.lines(made.claude_place(home, directory), made.claude(directory))
    with path.open("a") as file:
        for _ in range(1000):
            file.write(filler)
    assert len(read(path)[1].turns) == 3


def test_a_session_without_times(home: Path, directory: Path) -> None:
    bare = [{key: value for key, value in r.items() if key != "timestamp"} for r in made.claude(directory) if isinstance(r, dict)]
    found = read(made.lines(home / "bare.jsonl", bare))[1]
    assert [turn.sent for turn in found.turns] == ["", "", ""]


def test_a_database_that_lies(home: Path, directory: Path) -> None:
    path = home / ".local/share/opencode/opencode.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"SQLite format 3\0" + os.urandom(5000))
    found, problems = sessions.found(str(directory))
    assert found == []
    assert "DatabaseError" in problems[0]
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("create table session (id)")
    database.close()
    assert "OperationalError" in sessions.found(str(directory))[1][0]
    assert "cannot be read" in refused(path).what


def test_an_importer_that_never_ends_is_ended(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view without an end in a database: the time is over, and nothing is left of the process."""
    path = made.opencode_database(home, home)
    with sqlite3.connect(path) as database:
        database.execute("drop table part")
        endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select x id, x message_id, x data from n"
        database.execute(f"create view part as {endless}")
    database.close()
    (session,), _ = sessions.found(str(home))
    monkeypatch.setattr(sessions, "LONGEST", 2.0)
    with pytest.raises(FileRefused, match="more than 2 s"):
        read(path, session)


def test_an_importer_that_says_too_much_is_ended(home: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made.lines(made.claude_place(home, directory), [*made.claude(directory)] * 20)
    monkeypatch.setattr(sessions, "MOST", 20_000)
    assert "too large" in refused(path).what


def test_nobody_waits_for_an_importer_whose_records_are_not_wanted(home: Path, directory: Path) -> None:
    path = made.lines(made.claude_place(home, directory), [*made.claude(directory)] * 2000)
    before = threading.active_count()
    first = next(iter(sessions.read(str(path))))
    assert first[1]["session"]["title"] == "Login made safe"
    assert threading.active_count() == before


def test_an_importer_gets_no_more_than_it_needs(home: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / ".config/opagent/runtimes/spy"
    folder.mkdir(parents=True)
    (folder / "runtime.yaml").write_text("name: spy\ncommand: [spy]\nsessions: {read: spy.py, env: [SPY_HOME]}\n")
    (folder / "spy.py").write_text(
        "import os, sys\n"
        "def find(files, directory):\n"
        "    seen = ' '.join(sorted(os.environ))\n"
        "    yield {'id': 's', 'file': 'f', 'title': seen, 'at': str(sys.flags.isolated)}\n"
    )
    for name in ("ANTHROPIC_API_KEY", "SPY_HOME", "PYTHONPATH"):
        monkeypatch.setenv(name, "x")
    (session,), _ = sessions.found(str(directory))
    assert set(session.title.split()) <= {"HOME", "LANG", "LC_ALL", "LC_CTYPE", "SPY_HOME"}
    assert session.at == "1"
    (folder / "spy.py").chmod(0o666)
    assert "everybody can write" in sessions.found(str(directory))[1][0]
