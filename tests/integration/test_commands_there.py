"""Every command about another machine, by `--host`, `-C HOST:DIR` and HOST:PATH: it works there, or says in words why not.

One machine for all of them. There is a conversation here too: what a command about the other machine shows or stops is never ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from opagent.cli.run import root
from opagent.client import Client
from tests.conftest import isolated
from tests.doubles import packages
from tests.doubles.patience import until
from tests.doubles.places import THERE, Place, conversation, place
from tests.doubles.terminal import run, run_json


@dataclass(frozen=True)
class Both:
    """A conversation there and one here: their files and ids."""

    there: Place
    file: Path
    ident: str
    here: Path
    ident_here: str

    def words(self, line: str) -> list[str]:
        """`{file}`, `{dir}`, `{id}`: of the conversation there."""
        return [word.format(file=self.file, dir=self.file.parents[1], id=self.ident) for word in line.split()]


@pytest.fixture(autouse=True, scope="module")
def home() -> Iterator[Path]:
    with isolated() as folder:
        yield folder


@pytest.fixture(scope="module")
def both(home: Path) -> Iterator[Both]:
    with place(THERE, home) as there:
        docs = there.directory("docs")
        here = home / "here"
        here.mkdir()
        (here / ".agent.yaml").write_text("version: 1\nagent: echo\n")
        assert run("open", there.target(docs), "-m", "from there").returncode == 0
        assert run("open", str(here), "-m", "from here").returncode == 0
        (mine,) = run_json("conversations", "list", "-a")["conversations"]
        (theirs,) = run_json("conversations", "list", "-a", "--host", "there")["conversations"]
        yield Both(there, conversation(docs), theirs["id"], conversation(here), mine["id"])


WORKS = [
    # command, what stands in its output
    ("open --host there docs -m hi", "echo: hi"),
    ("call there:docs hi", "echo: hi"),
    ("call -C there:docs echo hi", "echo: hi"),
    ("call --host there -C docs echo hi", "echo: hi"),
    ("notes write -C there:docs plan Words", "plan.md: 5 bytes"),
    ("notes read -C there:docs plan", "Words"),
    ("notes read --host there -C docs", "plan.md"),
    ("tools --host there -C docs", "the binding names no tools"),
    ("acp there:docs", ""),
    ("tools list -C there:docs", "the binding names no tools"),
    ("open -C there:docs --last -m hi", "echo: hi"),
    ("open -C there: docs -m hi", "echo: hi"),
    ("open there:{file} -m hi", "echo: hi"),
    ("open there:docs --conversation {id} -m hi", "echo: hi"),
    ("open ssh://there{dir} -m hi", "echo: hi"),
    ("send --host there {id} hi", "echo: hi"),
    ("send -C there:docs . hi", "echo: hi"),
    ("send -C there:docs {id} hi", "echo: hi"),
    ("send there:{file} hi", "echo: hi"),
    ("send there:docs hi --no-wait", "place 0"),
    ("wait --host there {id}", ": done"),
    ("wait -C there:docs .", ": done"),
    ("wait there:{file}", ": done"),
    ("ps --host there", "{id}"),
    ("ps -a --tree --ports --host there", "{id}"),
    ("ps -C there:docs", "{id}"),
    ("logs --host there {id}", ""),
    ("logs -C there:docs {id}", ""),
    ("logs there:{file}", ""),
    ("restart --host there {id}", "echo"),
    ("restart there:{file}", "echo"),
    ("explain --host there docs", "{dir}"),
    ("explain -C there:docs", "{dir}"),
    ("explain there:docs", "{dir}"),
    ("runtime list --host there", "librarian"),
    ("runtime info librarian --host there", "librarian 0.1.0"),
    ("runtime probe echo --host there", "asks before it writes"),
    ("trust --host there --list", "no binding has been judged yet"),
    ("trust -C there:docs", "{dir}"),
    ("trust there:docs --show", "{dir}"),
    ("trust there:docs --diff", "nothing has changed"),
    ("init --host there one --agent echo", "/home/one/.agent.yaml"),
    ("init -C there:two", "/home/two/.agent.yaml"),
    ("init there:three --template docs", "/home/three/.agent.yaml"),
    ("approvals --host there", "nothing waits for you"),
    ("approvals list -a -C there:docs", "nothing waits for you"),
    ("usage --host there", "echo"),
    ("usage -C there:docs", "echo"),
    ("budget -C there:docs", ""),
    ("budget there:docs", ""),
    ("audit list --host there", "turn_state"),
    ("audit list -C there:docs", "turn_state"),
    ("audit verify --host there", "whole"),
    ("audit export --host there", '"seq"'),
    ("audit backup --host there copy.db", "bytes"),
    ("conversations list --host there -a", "{id}"),
    ("conversations list -C there:docs", "{id}"),
    ("conversations list there:docs", "{id}"),
    ("conversations show --host there {id}", "{dir}"),
    ("conversations show there:{file}", "{dir}"),
    ("conversations show -C there:docs {id}", "{dir}"),
    ("conversations new --host there docs", "{dir}/conversations/"),
    ("conversations new there:docs", "{dir}/conversations/"),
    ("conversations fork --host there {id}", "{dir}/conversations/"),
    ("conversations fork there:{file}", "{dir}/conversations/"),
    ("conversations rebuild --host there {id}", "{file}"),
    ("conversations rebuild there:{file}", "{file}"),
    ("conversations queue --host there {id}", "no turns"),
    ("conversations queue there:{file}", "no turns"),
    ("conversations export --host there {id}", "exported: {id}"),
    ("conversations export there:{file} --json", '"{id}"'),
    ("daemon start --host there", "on there is running"),
    ("daemon status --host there", "there/home"),
    ("daemon status -C there:docs", "there/home"),
    ("doctor --host there", "there/home"),
    ("doctor -C there:docs", "there/home"),
    ("completion bash --host there", "_opagent_completion"),
    ("schema ps --host there", '"title": "opagent ps --json"'),
    ("stop --host there {id}", "stopped"),
    ("stop there:{file}", "stopped"),
    ("stop -a -C there:docs", ""),
]

REFUSED = [
    # command, status, what it says, what to type instead
    ("allow --host there p5t2w", 4, "there is no approval p5t2w", "opagent --host there approvals"),
    ("deny -C there:docs p5t2w", 4, "there is no approval p5t2w", "opagent --host there approvals"),
    ("approvals forget --host there zzzzz", 4, "no remembered answer zzzzz", "opagent --host there approvals list --remembered"),
    ("why --host there p5t2w", 4, "nothing is known as 'p5t2w'", "opagent --host there audit"),
    ("audit purge --host there zzzzz --yes", 4, "zzzzz", "opagent --host there"),
    ("secrets list --host there", 2, "on this machine only", "opagent secrets list"),
    ("secrets check x --host there", 2, "on this machine only", "opagent secrets check x"),
    ("secrets set x -C there:docs", 2, "on this machine only", "opagent secrets set x"),
    ("secrets forget x --host there", 2, "on this machine only", "opagent secrets forget x"),
    ("runtime new x --host there", 2, "on this machine", "opagent runtime new x"),
    ("runtime install nobody --host there", 4, "no runtime is named 'nobody'", "opagent --host there runtime list --all"),
    ("runtime upgrade nobody --host there", 4, "nobody is not installed", "opagent --host there runtime install nobody"),
    ("runtime rollback nobody --host there", 4, "no version of 'nobody'", "opagent --host there runtime list"),
    ("runtime pin nobody --host there", 4, "no version of 'nobody'", "opagent --host there runtime list"),
    ("runtime remove nobody --yes --host there", 4, "no version of 'nobody'", "opagent --host there runtime list"),
    ("runtime bundle nobody -o x.tar --host there", 4, "no version of 'nobody'", "opagent --host there runtime list"),
    ("mcp --host there", 2, "on this machine only", "opagent call --help"),
    ("call --host there -C docs nobody hi", 4, "no role or runtime 'nobody'", "opagent --host there doctor"),
    ("notes read --host there -C docs nothing", 4, "there is no note nothing.md", "opagent --host there notes read"),
    ("tools show x --host there -C docs", 4, "x", "opagent --host there tools"),
    ("tools allow x/y --host there -C docs", 4, "x", "opagent --host there tools"),
    ("tools forget x --host there -C docs", 4, "x", "opagent --host there tools"),
    ("logs --host there zzzzz", 4, "zzzzz", "opagent --host there ps --all"),
    ("wait --host there zzzzz", 4, "zzzzz", "opagent --host there"),
    ("init there:docs", 1, "is there already", "opagent explain there:{dir}"),
    ("conversations import --host there x.md", 2, "on this machine only", "opagent --host there open FILE.md"),
    ("conversations import there:x.md", 2, "on this machine only", "opagent --host there open FILE.md"),
    ("conversations merge there:a b c", 2, "on this machine only", "opagent conversations merge --help"),
    ("conversations merge --host there a b c", 2, "on this machine only", "opagent conversations merge --help"),
    ("daemon run --host there", 2, "on this machine only", "opagent --host there daemon start"),
    ("host list --host there", 2, "on this machine only", "opagent host list"),
    ("host add x -C there:docs", 2, "on this machine only", "opagent host add x"),
    ("host check there --host there", 2, "on this machine only", "opagent host check there"),
    ("host upgrade there --host there", 2, "on this machine only", "opagent host upgrade there"),
    ("host mirrors --host there", 2, "on this machine only", "opagent host mirrors"),
    ("host unmirror docs --host there", 2, "on this machine only", "opagent host unmirror docs"),
    ("host forget there --host there", 2, "on this machine only", "opagent host forget there"),
    ("open --host there elsewhere:docs -m hi", 2, "one command, one machine", "opagent --help"),
    ("open --host elsewhere -C there:docs -m hi", 2, "one command, one machine", "opagent --help"),
    ("ps --host a/b", 2, "names no machine", "opagent open ./DIR"),
]


@pytest.mark.parametrize(("line", "wanted"), WORKS, ids=[line for line, _ in WORKS])
def test_it_works_there(both: Both, line: str, wanted: str) -> None:
    done = run(*both.words(line))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert all(word in said for word in both.words(wanted)), said
    assert both.ident_here not in said and str(both.here) not in said


@pytest.mark.parametrize(("line", "status", "what", "hint"), REFUSED, ids=[case[0] for case in REFUSED])
def test_it_refuses_in_words(both: Both, line: str, status: int, what: str, hint: str) -> None:
    done = run(*both.words(line))
    assert done.returncode == status and not done.stdout, done
    assert what in done.stderr, done.stderr
    assert f"try: {' '.join(both.words(hint))}" in done.stderr, done.stderr


@pytest.mark.parametrize("place", [("--host", "there"), ("-C", "there:docs")], ids=" ".join)
def test_the_daemon_there_is_stopped_and_ours_goes_on(both: Both, place: tuple[str, str]) -> None:
    before = run_json("daemon", "status", *place)["pid"]
    with Client("test") as client:
        done = run("daemon", "stop", *place)
        assert done.returncode == 0 and f"daemon {before} on there stops" in done.stderr, done.stderr
        ours = client.request("daemon/status")["pid"]
    assert run_json("daemon", "status", *place)["pid"] not in (before, ours)
    assert run_json("daemon", "status")["pid"] == ours
    assert run_json("ps")["processes"]


def test_a_runtime_is_installed_there_and_not_here(both: Both, tmp_path: Path) -> None:
    own = packages.own(tmp_path / "own", "mine", "1.0")
    row = run_json("runtime", "install", str(own), "--host", "there")["runtime"]
    assert row["active"] == row["version"] and row["package"].startswith(str(both.there.home))
    assert run_json("runtime", "info", "mine", "--verify", "--host", "there")["problem"] == ""
    assert run("runtime", "info", "mine").returncode == 4
    assert run_json("runtime", "remove", "mine", "--yes", "--host", "there")["runtime"]["versions"] == []


def test_no_command_is_forgotten() -> None:
    table = root()
    context = click.Context(table)
    lines = [*(case[0] for case in WORKS), *(case[0] for case in REFUSED), "daemon stop"]
    for name in table.list_commands(context):
        command = table.get_command(context, name)
        below = command.list_commands(context) if isinstance(command, click.Group) else [""]
        for each in below:
            wanted = f"{name} {each}".strip()
            assert any(line.startswith(wanted) or (each == "list" and line.startswith(name)) for line in lines), wanted


# ---- completion ----------------------------------------------------------------------------------------------------------


def completed(line: str) -> set[str]:
    """What a shell is offered for the last word of a line."""
    words = line.split(" ")
    said = run(_OPAGENT_COMPLETE="bash_complete", COMP_WORDS="\n".join(words), COMP_CWORD=str(len(words) - 1))
    assert said.returncode == 0 and not said.stderr, said
    return {value for kind, _, value in (row.partition(",") for row in said.stdout.splitlines()) if kind == "plain"}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("opagent --host th", "there"),
        ("opagent ps --host th", "there"),
        ("opagent host check th", "there"),
        ("opagent host forget th", "there"),
        ("opagent -C th", "there:"),
        ("opagent trust th", "there:"),
        ("opagent conversations show th", "there:"),
        ("opagent stop th", "there:"),
        ("opagent --host there wait ", "{id}"),
        ("opagent -C there:docs conversations show ", "{id}"),
        ("opagent send --host there ", "{id}"),
        ("opagent open there:docs --host there --conversation ", "{id}"),
    ],
)
def test_the_shell_completes_what_is_there(both: Both, line: str, wanted: str) -> None:
    assert run("ps", "--host", "there").returncode == 0  # the link stands
    found = completed(line)
    assert set(both.words(wanted)) <= found
    assert both.ident_here not in found


def test_the_shell_completes_what_is_here(both: Both) -> None:
    assert completed("opagent wait ") == {both.ident_here}
    (process,) = run_json("ps")["processes"]
    assert completed("opagent logs ") == {process["id"]}
    assert completed(f"opagent stop {process['id'][:2]}") >= {process["id"]}


def test_the_shell_dials_no_machine(both: Both) -> None:
    """Not one that was never reached, not one whose link was given back, and not one whose link was lost."""
    assert both.there.server is not None
    log = both.there.server.log
    with Client("test") as client:
        client.request("host/forget", {"machine": "there"})
        before = log.read_text().count("Connection from")
        assert completed("opagent --host there wait ") == set()
        assert run("ps", "--host", "there").returncode == 0
        both.there.server.cut()
        until(lambda: client.request("host/list")["hosts"][0]["state"] != "connected")
        assert completed("opagent --host there wait ") == set()
        assert client.request("host/list")["hosts"][0]["state"] == "idle"
    assert log.read_text().count("Connection from") == before + 1


def test_each_command_says_when_the_machine_cannot_be_reached(both: Both) -> None:
    """One line of each command; exit code 7, a sentence, and with --json an object."""
    assert both.there.server is not None
    both.there.server.stop()
    with Client("test") as client:
        until(lambda: client.request("host/list")["hosts"][0]["state"] != "connected")
    lines = {" ".join(word for word in line.split()[:2] if word.isalpha()): line for line, _ in WORKS}
    for name, line in lines.items():
        done = run(*both.words(line))
        if name.split()[0] in ("completion", "schema", "acp"):  # acp: an editor hears it as the answer to what it asks
            assert done.returncode == 0
        else:
            said = done.stdout if "--json" in line else done.stderr
            assert done.returncode == 7 and done.stdout + done.stderr == said, (line, done)
            assert "there cannot be reached" in said and "ssh there true" in said, (line, done)
