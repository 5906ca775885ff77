"""Every command about directories and agents but `open` and `send`, against the real daemon: what it prints, its JSON, its exit code."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from opagent import paths
from opagent.errors import Usage
from tests.doubles.daemons import command, environment
from tests.doubles.patience import PATIENCE, until
from tests.doubles.terminal import Terminal, run, run_json


@pytest.fixture
def docs(home: Path) -> Path:
    folder = home / "docs"
    folder.mkdir()
    (folder / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    return folder


def _file(docs: Path) -> Path:
    (file,) = (docs / "conversations").glob("*.md")
    return file


# ---- init, explain, trust ------------------------------------------------------------------------------------------------


def test_init_writes_a_binding_that_works(home: Path) -> None:
    made = run("init", str(home / "new"))
    assert (made.returncode, made.stdout) == (0, f"{home}/new/.agent.yaml\n")
    assert run_json("explain", str(home / "new"))["agent"] == "librarian"
    assert stat.S_IMODE((home / "new/.agent.yaml").stat().st_mode) & 0o022 == 0


def test_init_with_an_agent(home: Path) -> None:
    assert run("init", str(home / "new"), "--agent", "echo").returncode == 0
    assert run("open", str(home / "new"), "-m", "hi").stdout == "echo: hi\n"


def test_init_never_overwrites(docs: Path) -> None:
    before = (docs / ".agent.yaml").read_bytes()
    done = run("init", str(docs))
    assert (done.returncode, done.stdout) == (1, "")
    assert (docs / ".agent.yaml").read_bytes() == before
    assert sorted(os.listdir(docs)) == [".agent.yaml"]


@pytest.mark.parametrize(
    "words", [["--agent", "a b"], ["--agent", "../x"], ["--template", "nope"], ["--agent", "echo", "--template", "docs"]]
)
def test_init_leaves_nothing_behind_when_it_fails(home: Path, words: list[str]) -> None:
    assert run("init", str(home / "new"), *words).returncode in (2, 4)
    assert not (home / "new").exists()


def test_init_copies_a_template(home: Path) -> None:
    assert run("init", str(home / "new"), "--template", "docs").returncode == 0
    copied, source = home / "new", paths.bundled_workspaces() / "docs"
    assert (copied / ".agent.yaml").read_bytes() == (source / ".agent.yaml").read_bytes()
    assert (copied / "style.md").read_bytes() == (source / "style.md").read_bytes()
    assert not list(copied.glob("conversations/2*"))


def test_a_template_replaces_no_file(docs: Path) -> None:
    (docs / ".agent.yaml").unlink()
    (docs / "style.md").write_text("mine")
    assert run("init", str(docs), "--template", "docs").returncode == 1
    assert os.listdir(docs) == ["style.md"]


def test_init_in_a_git_work_tree_adds_two_lines_once_and_nothing_else(home: Path) -> None:
    (home / "new/deep").mkdir(parents=True)
    (home / "new/.git").write_text("gitdir: elsewhere\n")
    (home / "new/deep/.gitignore").write_bytes(b"*.pyc\r\nlast")
    plain = run("init", str(home / "new"))
    assert (plain.returncode, plain.stdout) == (0, f"{home}/new/.agent.yaml\n")
    assert not (home / "new/.gitattributes").exists(), "nobody was asked"
    done = run("init", str(home / "new/deep"), "--git")
    deep = home / "new/deep"
    assert done.stdout.split() == [f"{deep}/.agent.yaml", f"{deep}/.gitattributes", f"{deep}/.gitignore"]
    assert 'git config merge.opagent.driver "opagent conversations merge %O %A %B --path %P"' in done.stderr
    assert (deep / ".gitattributes").read_text() == "conversations/**/*.md text eol=lf merge=opagent\n"
    assert (deep / ".gitignore").read_bytes() == b"*.pyc\r\nlast\r\n.opagent/\r\n"
    again = run_json("init", str(deep), "--git")
    assert again == {"schema": 1, "binding": f"{deep}/.agent.yaml", "git": []}
    assert run("init", str(deep)).returncode == 1


def test_init_takes_the_directory_of_conversations_from_the_binding(docs: Path) -> None:
    with (docs / ".agent.yaml").open("a") as file:
        file.write("conversations: my [talks]/x/\n")
    subprocess.run(["git", "init", "--quiet", str(docs)], check=True)
    before = (docs / ".agent.yaml").read_bytes()
    assert run("init", str(docs), "--git").returncode == 0
    assert (docs / ".agent.yaml").read_bytes() == before
    words = ["git", "check-attr", "merge", "eol", "--", "my [talks]/x/a.md", "my [talks]/x/a/part-1.md", "my t/x/a.md"]
    said = subprocess.run(words, cwd=docs, capture_output=True, text=True, check=True).stdout
    assert [line.rpartition(" ")[2] for line in said.splitlines()] == ["opagent", "lf", "opagent", "lf", *["unspecified"] * 2]
    ignored = subprocess.run(["git", "check-ignore", "-v", ".opagent/tmp"], cwd=docs, capture_output=True, text=True, check=True)
    assert ignored.stdout.startswith(".gitignore:1:")


def test_init_asks_about_git_at_a_terminal_only(home: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(home / "new")], check=True)
    terminal = Terminal("init", str(home / "new"))
    terminal.expect(r"merge conversations by turns\? \[y/N\]")
    terminal.type("y\r")
    assert terminal.end() == 0
    assert (home / "new/.gitattributes").exists()
    terminal = Terminal("init", str(home / "new/other"), "--no-git")
    assert terminal.end() == 0
    assert "?" not in terminal.text


def test_init_for_git_outside_a_work_tree_or_through_a_link(home: Path) -> None:
    done = run("init", str(home / "new"), "--git")
    assert (done.returncode, (home / "new").exists()) == (1, False)
    subprocess.run(["git", "init", "--quiet", str(home / "new")], check=True)
    (home / "new/.gitattributes").symlink_to(home / "elsewhere")
    assert run("init", str(home / "new"), "--git").returncode == 1
    assert not (home / "elsewhere").exists()


def test_explain_names_file_and_line_from_anywhere(docs: Path) -> None:
    (docs / "deep/er").mkdir(parents=True)
    (docs.parent / "link").symlink_to(docs / "deep")
    ways = (
        ["explain", str(docs)],
        ["explain", str(docs / "deep/er")],
        ["-C", str(docs.parent / "link"), "explain"],
        ["explain", "-C", str(docs), "deep"],
    )
    for words in ways:
        done = run(*words)
        assert done.returncode == 0, done.stderr
        assert "~/docs/.agent.yaml:2" in done.stdout
        assert str(docs) in done.stdout.splitlines()[0]


def test_explain_in_json_is_what_the_daemon_says(docs: Path) -> None:
    found = run_json("explain", str(docs))
    values = {value["key"]: value for value in found["values"]}
    assert values["agent"]["origin"] == f"{docs}/.agent.yaml:2"
    assert {kind["enforcement"] for kind in found["capabilities"]} <= {"os", "proxy", "acp", "advisory"}
    assert found["launch"]["argv"]


def test_one_request_is_decided_layer_by_layer(docs: Path) -> None:
    (docs / ".agent.yaml").write_text("version: 1\nagent: echo\ncan:\n  write: {ask: ['*.md']}\n  exec: {deny: [[rm]]}\n")
    (docs / "link.md").symlink_to("/etc/hostname")
    asked = lambda *words: run_json("explain", str(docs), "--decide", *words)  # noqa: E731
    found = asked("write", "a.md")
    assert (found.get("by_rule", found["effect"]), found["rule"]) == ("ask", f"{docs}/.agent.yaml:4")
    assert found["effect"] == "ask" or "nobody can be asked" in found["reason"], "in a sandbox, where nothing can ask"
    assert [(word["layer"], word["effect"]) for word in found["layers"]] == [("built-in", None), (f"{docs}/.agent.yaml", "ask")]
    assert asked("write", ".git/config")["effect"] == "deny" and asked("write", "a.txt")["effect"] == "allow"
    assert asked("write", "link.md")["rule"] == "built-in floor: outside the workspace", "it is decided where it leads"
    assert asked("exec", "rm -rf x")["effect"] == "deny" and asked("exec", "/bin/rm x")["effect"] == "deny"
    assert asked("network", "10.0.0.1")["effect"] == "deny"
    done = run("explain", str(docs), "--decide", "write", "a.md")
    assert done.stdout.startswith(f"write a.md: {found['effect']}   by ~/docs/.agent.yaml:4")
    for words in (("sing", "x"), ("exec", "a 'b"), ("write", " ")):
        assert run("explain", str(docs), "--decide", *words).returncode == 2


def test_what_an_answer_is_remembered_for_is_shown_and_forgotten(docs: Path) -> None:
    assert run("open", str(docs), "-m", "/permission write a.md x").returncode == 9
    [waits] = run_json("approvals")["approvals"]
    assert run("allow", waits["id"], "--wider").returncode == 2
    assert run("allow", waits["id"], "--binding", "--wider").returncode == 0
    listed = run("approvals", "list", "--remembered")
    [kept] = run_json("approvals", "list", "--remembered")["remembered"]
    assert kept["id"] in listed.stdout and "*.md" in kept["pattern"] and kept["approval"] == waits["id"]
    assert run("open", str(docs), "-m", "/permission write b.md x").returncode == 0
    told = run("why", waits["id"])
    assert "remembered" in told.stdout and f"opagent approvals forget {kept['id']}" in told.stdout
    assert run("approvals", "forget").returncode == 2 and run("approvals", "forget", "r99").returncode == 4
    assert f"{kept['id']}: " in run("approvals", "forget", "--all").stderr
    assert run_json("approvals", "list", "--remembered")["remembered"] == []
    assert run("why", "nothing").returncode == 4
    assert run("open", str(docs), "-m", "/permission write b.md x").returncode == 9
    run("deny", run_json("approvals")["approvals"][0]["id"])


def test_a_broken_binding_is_2_and_names_the_place(docs: Path) -> None:
    (docs / ".agent.yaml").write_text("version: 1\nagnet: echo\n")
    for words in (["explain", str(docs)], ["open", str(docs), "-m", "hi"]):
        done = run(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert ".agent.yaml:2:1" in done.stderr
        assert "agent" in done.stderr


def test_trust_shows_denies_and_forgets(docs: Path) -> None:
    (docs / ".agent.yaml").write_text("version: 1\nagent: own\nroles:\n  own: {runtime: echo, mode: ask}\n")
    shown = run("trust", "--show", str(docs))
    assert shown.returncode == 0
    assert "own" in shown.stdout
    assert run_json("trust", str(docs))["state"] == "unknown"
    assert "denied" in run("trust", "--deny", str(docs)).stderr
    assert "denied" in run("trust", "--list").stdout
    assert run("trust", "--revoke", str(docs)).returncode == 0
    assert run_json("trust", "--list")["records"] == []


# ---- processes -----------------------------------------------------------------------------------------------------------


def test_ps_with_nothing_and_with_something(docs: Path) -> None:
    empty = run("ps")
    assert (empty.returncode, empty.stdout) == (0, "")
    run("open", str(docs), "-m", "/stderr 3")
    heading, line = run("ps").stdout.splitlines()
    assert heading.split()[:3] == ["ID", "AGENT", "STATE"]
    assert line.split()[1:4] == ["echo", "○", "ready"]
    (process,) = run_json("ps")["processes"]
    assert run("ps", "--format", "ids").stdout == process["id"] + "\n"
    assert process["memory"] > 0


def test_ps_as_a_tree_with_ports(docs: Path) -> None:
    assert run("ps", "--tree").stderr == "no agent is running\n"
    run("open", str(docs), "-m", "hello")
    (process,) = run_json("ps", "--tree", "--ports")["processes"]
    assert process["children"] == process["ports"] == []
    first, second = run("ps", "--tree", "--ports").stdout.splitlines()
    assert first.startswith(process["conversation"]) and first.endswith(_file(docs).name)
    assert second.split()[:4] == ["└─", "echo", process["id"], "○"]
    assert run("ps", "--ports").stdout.splitlines()[0].endswith("PORTS")


def test_ps_again_and_again_until_somebody_has_seen_enough(docs: Path) -> None:
    run("open", str(docs), "-m", "hello")
    done = run("ps", "--watch")
    assert done.returncode == 2 and "--watch is for a terminal" in done.stderr
    terminal = Terminal("ps", "--watch")
    terminal.expect("ready")
    terminal.expect("ready")
    terminal.child.sendintr()
    assert terminal.end() == 130
    assert terminal.seen.endswith("\x1b[?25h") or "\x1b[?25h" in terminal.seen[-200:]


def test_logs_by_id_prefix_conversation_and_file(docs: Path) -> None:
    run("open", str(docs), "-m", "/stderr 5")
    (process,) = run_json("ps")["processes"]
    whole = run("logs", process["id"]).stdout
    assert len(whole.splitlines()) >= 5
    for name in (process["id"][:4], process["conversation"], str(_file(docs))):
        assert run("logs", name).stdout == whole
    assert len(run("log", process["id"], "-n", "2").stdout.splitlines()) == 2
    assert run("logs", "nobody").returncode == 4


def test_logs_follow(docs: Path) -> None:
    run("open", str(docs), "-m", "/stderr 1")
    following = subprocess.Popen(
        command("logs", "-f", str(_file(docs))), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert following.stdout is not None
    first = following.stdout.readline()
    run("send", str(_file(docs)), "/stderr 2")
    assert [following.stdout.readline() for _ in range(2)] != [first, first]
    following.send_signal(2)
    _, said = following.communicate(timeout=PATIENCE)
    assert following.returncode == 130
    assert "Traceback" not in said


def test_stop_and_restart(docs: Path) -> None:
    run("open", str(docs), "-m", "hi")
    (before,) = run_json("ps")["processes"]
    assert run("restart", str(_file(docs))).returncode == 0
    until(lambda: [one["state"] for one in run_json("ps")["processes"]] == ["ready"])
    assert run_json("ps")["processes"][0]["pid"] != before["pid"]
    assert run("stop", before["conversation"]).returncode == 0
    assert run_json("ps")["processes"] == []
    assert run("send", str(_file(docs)), "again").stdout == "echo: again\n"
    assert run("stop", "--all").returncode == 0
    assert run_json("ps")["processes"] == []
    assert run("stop").returncode == 2
    assert run("stop", "nobody").returncode == 4


# ---- approvals, wait ------------------------------------------------------------------------------------------------------


def test_an_approval_is_listed_and_answered(docs: Path) -> None:
    assert run("approvals").stderr == "nothing waits for you\n"
    asked = run("open", str(docs), "-m", "/permission write new.txt content")
    assert (asked.returncode, asked.stdout) == (9, "")
    ident = run("approvals", "--format", "ids").stdout.strip()
    assert f"try: opagent allow {ident}" in asked.stderr
    assert ident in run("approval", "ls").stdout
    assert run_json("ps")["processes"][0]["waiting_for"] == [ident]
    assert run("wait", str(_file(docs))).returncode == 9
    assert run("wait", str(_file(docs)), "--until", "waiting").returncode == 0
    assert run("allow", ident[:4]).returncode == 0
    assert run("wait", str(_file(docs))).returncode == 0
    assert (docs / "new.txt").read_text().strip() == "content"
    assert run("allow", ident).returncode == 1
    assert run("deny", "p0000").returncode == 4
    assert [one["state"] for one in run_json("approvals", "-a")["approvals"]] == ["allowed"]


def test_a_no_with_its_reason(docs: Path) -> None:
    run("open", str(docs), "-m", "/permission write new.txt content")
    (approval,) = run_json("approvals")["approvals"]
    denied = run_json("deny", approval["id"], "--reason", "not there")["approval"]
    assert (denied["state"], denied["reason"]) == ("denied", "not there")
    assert run("wait", str(_file(docs))).returncode == 0
    assert not (docs / "new.txt").exists()


def test_a_question_is_listed_and_answered(docs: Path) -> None:
    asked = run("open", str(docs), "-m", "/question red blue")
    (approval,) = run_json("approvals")["approvals"]
    assert (approval["kind"], approval["subject"]) == ("question", "Which tea?")
    assert [option["name"] for option in approval["options"]] == ["red", "blue"]
    assert f"try: opagent allow {approval['id']} --answer TEXT" in asked.stderr
    wrong = run("allow", approval["id"], "--answer", "green")
    assert wrong.returncode == 2 and "it asks for one of: red, blue" in wrong.stderr
    answered = run("allow", approval["id"], "--answer", "Blue")
    assert (answered.returncode, answered.stderr) == (0, f"{approval['id']}: answered\n")
    until(lambda: "question: accept answer='blue'" in _file(docs).read_text())
    (approval,) = run_json("approvals", "-a")["approvals"]
    assert (approval["state"], approval["answer"]) == ("allowed", "blue")
    run("open", str(docs), "-m", "/question text")
    declined = run("deny", run("approvals", "--format", "ids").stdout.strip())
    assert declined.stderr.endswith(": declined\n")


def test_wait_gives_the_exit_code_of_the_turn(docs: Path) -> None:
    run("open", str(docs), "-m", "/slow 5 0.1", "--no-wait")
    assert run("wait", str(_file(docs)), "--until", "done").returncode == 0
    run("send", str(_file(docs)), "/crash", "--no-wait")
    assert run("wait", str(_file(docs)), "--until", "done").returncode == 10
    run("send", str(_file(docs)), "/wait", "--no-wait")
    assert run("wait", str(_file(docs)), "--timeout", "0.3").returncode == 3


# ---- conversations ---------------------------------------------------------------------------------------------------------


def test_conversations(docs: Path) -> None:
    assert run("conversations", "list", str(docs)).stderr == "no conversations yet\n"
    made = run("conversations", "new", str(docs), "--title", "A plan")
    assert "a-plan" in made.stdout
    run("send", made.stdout.strip(), "hello")
    (listed,) = run_json("conversations", "ls", str(docs))["conversations"]
    assert (listed["turns"], listed["path"]) == (1, made.stdout.strip())
    assert listed["id"] in run("conversation", "-a").stdout
    shown = run_json("conversations", "show", listed["id"][:7])
    assert [turn["text"] for turn in shown["turns"]] == ["hello"]
    assert "hello" in run("conversations", "show", listed["path"]).stdout
    assert run("conversations", "show", "zzzz").returncode == 4


def test_rebuild_writes_the_file_again(docs: Path) -> None:
    run("open", str(docs), "-m", "hello")
    file = _file(docs)
    before = file.read_text()
    file.unlink()
    assert run("conversations", "rebuild", str(file)).returncode == 0
    assert "echo: hello" in file.read_text()
    assert file.read_text().splitlines()[:6] == before.splitlines()[:6]


def test_the_queue_and_taking_out_of_it(docs: Path) -> None:
    run("open", str(docs), "-m", "/wait", "--no-wait")
    run("send", str(_file(docs)), "second", "--no-wait")
    states = {turn["text"]: turn for turn in run_json("conversations", "queue", str(_file(docs)))["turns"]}
    assert states["second"]["state"] == "queued"
    assert run("conversations", "queue", str(_file(docs)), "--remove", states["second"]["id"]).returncode == 0
    assert [turn["text"] for turn in run_json("conversations", "queue", str(_file(docs)))["turns"]] == ["/wait"]


def test_closed_streams_are_no_bug(home: Path) -> None:
    argv = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command("ps")]
    assert subprocess.run(argv, env=environment(), timeout=PATIENCE, check=False).returncode == 0


def test_words_that_are_no_commands(home: Path) -> None:
    assert "'allow'" in run("approve").stderr
    assert "'conversations'" in run("list").stderr
    assert "'restart'" in run("restrat").stderr
    assert "Did you mean" not in run("shop").stderr
    assert json.loads(run("nosuch", "--json").stdout)["error"]["code"] == Usage.code


def test_help_has_three_ways(home: Path) -> None:
    for words in (("help", "ps"), ("ps", "-h"), ("ps", "--help")):
        assert run(*words).stdout.startswith("Usage: opagent ps ")
    assert "Commands:" in run("help").stdout


def test_a_length_of_time_is_shown_with_its_command(home: Path) -> None:
    assert "try: opagent open --timeout 90s" in run("open", "--timeout", "abc").stderr


def test_the_list_has_titles_and_the_last_at_its_end(docs: Path) -> None:
    for words in ("first words", "second words"):
        run("open", str(docs), "-m", words)
    first = min((docs / "conversations").glob("*first-words*"))
    run("send", str(first), "again")
    lines = run("conversations", "-C", str(docs)).stdout.splitlines()
    assert "TITLE" in lines[0]
    assert "second words" in lines[1]
    assert "first words" in lines[2]
