"""`opagent audit` and `opagent why` as a person uses them: over the real daemon, with real files that change."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from pathlib import Path

import fastjsonschema
import pytest

from opagent import paths
from opagent.cli.schemas import of
from opagent.store import chain
from tests.doubles.patience import until
from tests.doubles.terminal import run, run_json


@pytest.fixture
def docs(home: Path) -> Path:
    """A directory in which an agent wrote a file by itself and one after a question."""
    folder = home / "docs"
    folder.mkdir()
    (folder / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    assert run("open", str(folder), "-m", "/write own.txt by myself").returncode == 0
    return folder


def asked(docs: Path) -> str:
    """A file that a person allowed; the id of the approval."""
    assert run("send", "--no-wait", str(docs), "/permission write asked.txt hello").returncode == 0
    ident = str(until(lambda: run_json("approvals")["approvals"])[0]["id"])
    assert run("allow", ident).returncode == 0
    assert run("wait", str(docs), "--until", "done").returncode == 0
    return ident


def test_records_are_listed_by_path_kind_state_agent_and_time(docs: Path) -> None:
    asked(docs)
    everything = run_json("audit")
    fastjsonschema.compile(of("audit list"))(everything)
    kinds = [row["kind"] for row in everything["records"]]
    assert {"daemon.start", "agent.spawn", "agent.ready", "fs.write", "approval_answered", "turn_state"} <= set(kinds)
    assert "text" not in kinds, "what was said is asked for by name"
    assert run_json("audit", "--kind", "text")["records"]
    mine = run_json("audit", "--path", str(docs / "own.txt"))["records"]
    assert [(row["state"], row["obj"]["how"], row["who"]["agent"]) for row in mine] == [("seen", "made", "echo")]
    below = run_json("audit", "--path", str(docs), "--kind", "fs.*")["records"]
    assert {Path(row["obj"]["path"]).name for row in below} == {"own.txt", "asked.txt"}
    assert [row["state"] for row in run_json("audit", "--state", "pending", "--kind", "fs.write")["records"]] == ["pending"]
    assert run_json("audit", "--agent", "nobody")["records"] == []
    assert run_json("audit", "--since", "1h", "-n", "2")["records"] == everything["records"][-2:]
    assert run_json("audit", "--until", "1h")["records"] == []
    table = run("audit", "--path", str(docs / "own.txt")).stdout.splitlines()
    assert table[0].split() == ["SEQ", "AT", "KIND", "STATE", "WHO", "WHAT", "RULE"] and "own.txt made" in table[1]
    assert len(run("audit", "--format", "ids").stdout.split()) == len(kinds)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["audit", "--kind", "fs.wrote"], 2, "no kind of record"),
        (["audit", "--since", "yesterday"], 2, "is no time"),
        (["audit", "--conversation", "zzzz"], 4, "zzzz"),
        (["why", "99999999"], 4, "99999999"),
        (["why", "./never.md"], 4, "nothing is known"),
        (["audit", "verify", "--head", "nonsense"], 2, "no head was found"),
        (["audit", "purge", "zzzz", "-y"], 4, "zzzz"),
    ],
)
def test_errors_say_what_and_what_to_type(docs: Path, words: list[str], code: int, said: str) -> None:
    done = run(*words, cwd=docs)
    assert done.returncode == code and said in done.stderr and "try: " in done.stderr


def test_follow_shows_what_comes(docs: Path) -> None:
    from tests.doubles.daemons import command, environment

    argv = command("audit", "-f", "--kind", "fs.write", "--format", "jsonl")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment()) as follower:
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["obj"]["path"] == str(docs / "own.txt")
        assert run("open", str(docs), "--last", "-m", "/write second.txt more").returncode == 0
        assert json.loads(follower.stdout.readline())["obj"]["path"] == str(docs / "second.txt")
        follower.terminate()


def test_why_goes_from_a_file_back_to_the_prompt(docs: Path) -> None:
    approval = asked(docs)
    told = run("why", "asked.txt", cwd=docs)
    assert told.returncode == 0
    places = [told.stdout.index(word) for word in ("  prompt ", "  call ", "  answered ", "  rule ", "  begun ", "  seen ")]
    assert places == sorted(places), told.stdout
    assert "/permission write asked.txt" in told.stdout and approval in told.stdout and f"human:{os.getuid()}" in told.stdout
    found = run_json("why", str(docs / "own.txt"))
    fastjsonschema.compile(of("why"))(found)
    assert found["state"] == "seen" and found["steps"][0]["text"].endswith("/write own.txt by myself")
    (docs / "own.txt").unlink()
    assert run("why", "own.txt", cwd=docs).returncode == 0, "also when it is gone"
    assert run("why", found["id"]).stdout == run("why", str(docs / "own.txt")).stdout
    assert run("open", str(docs), "--last", "-m", "/write own.txt again").returncode == 0
    assert f"opagent why {found['id']}" in run("why", str(docs / "own.txt")).stdout, "what was before"


def test_verify_says_whole_and_names_the_first_bad_row(docs: Path) -> None:
    before = run_json("audit", "verify")
    fastjsonschema.compile(of("audit verify"))(before)
    assert before["broken"] is None and before["rows"] > 5
    assert "head    " in run("audit", "verify").stdout
    assert run("daemon", "stop").returncode == 0
    whole = run("audit", "verify", "--head", before["head"])
    assert whole.returncode == 0 and " 1 heads" in whole.stdout, "one is taken when a daemon stops"
    assert run("daemon", "stop").returncode == 0
    connection = sqlite3.connect(paths.database())
    connection.execute('update journal set body = cast(\'{"text":"never said"}\' as blob) where seq = 3')
    connection.commit()
    connection.close()
    found = run("audit", "verify")
    assert found.returncode == 1 and found.stdout.startswith("broken  row 3: the content is not the one")
    assert json.loads(run("audit", "verify", "--json").stdout)["row"] == 3


def test_a_journal_that_was_made_anew_is_found_by_a_line_of_the_users_program(docs: Path, home: Path) -> None:
    program = paths.anchor_program()
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\ncat >> {home}/heads\n")
    program.chmod(0o700)
    assert run("daemon", "stop").returncode == 0
    kept = until(lambda: (home / "heads").read_text() if (home / "heads").exists() else "")
    assert run("audit", "verify", "--heads", str(home / "heads")).returncode == 0
    assert run("daemon", "stop").returncode == 0
    for path in paths.state().glob("opagent.db*"):
        path.unlink()
    assert run("open", str(docs), "-m", "all new").returncode == 0
    assert run("audit", "verify").returncode == 0, "by itself it looks whole"
    shown = run("audit", "verify", "--heads", "-", stdin=kept)
    assert shown.returncode == 1 and shown.stdout.startswith("broken ")


def test_an_export_can_be_verified_without_the_database(docs: Path) -> None:
    lines = [json.loads(line) for line in run("audit", "export").stdout.splitlines()]
    schema = fastjsonschema.compile(of("audit export"))
    link = chain.START
    for number, line in enumerate(lines, 1):
        schema(line)
        link = chain.next_link(link, line["head"].encode(), bytes.fromhex(line["sum"]))
        assert (line["seq"], line["link"]) == (number, link.hex())
    rest = run("audit", "export", "--after", str(len(lines) - 2)).stdout.splitlines()
    assert [json.loads(line)["seq"] for line in rest][:2] == [len(lines) - 1, len(lines)]


def test_purge_removes_contents_for_good_and_the_chain_stays_whole(docs: Path) -> None:
    canary = "canary-of-the-purge-17"
    assert run("open", str(docs), "--last", "-m", f"remember {canary}").returncode == 0
    ident = run_json("conversations", "list", str(docs))["conversations"][0]["id"]
    assert run("audit", "purge", ident, stdin="").returncode == 2, "nobody said yes"
    assert run("audit", "purge", ident, "-y").returncode == 1, "its agent still runs"
    assert run("stop", ident).returncode == 0
    early = run("audit", "purge", ident, "-y", "--before", "1h")
    assert early.stdout.startswith("0 records")
    copy = paths.database_copy(paths.database())
    copy.parent.mkdir(mode=0o700)
    assert run("audit", "backup", str(copy)).returncode == 0  # as the daemon does once a day
    purged = run("audit", "purge", ident, "-y")
    assert not copy.exists()
    assert purged.returncode == 0 and not purged.stdout.startswith("0 ")
    whole = run("audit", "verify")
    assert whole.returncode == 0 and " 0 without" not in whole.stdout
    assert run_json("audit", "--kind", "text", "--conversation", ident)["records"][-1]["body"] is None
    assert run_json("audit", "--kind", "audit.purge")["records"][-1]["who"] == {"human": os.getuid()}
    refused = run("conversations", "rebuild", ident)
    assert refused.returncode == 1 and "were purged" in refused.stderr
    assert run("daemon", "stop").returncode == 0
    agents = "--exclude-dir=agents"  # what an agent itself remembers is its own
    left = subprocess.run(["grep", "-rlaF", agents, canary, str(paths.state())], capture_output=True, text=True).stdout
    assert left == "" and canary in next((docs / "conversations").glob("*.md")).read_text()
    assert run("open", str(docs), "--last", "-m", "go on").stdout == "echo: go on\n"
