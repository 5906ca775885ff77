"""What every command prints with `--json` is what `opagent schema` says."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import fastjsonschema
import pytest

from opagent.cli.main import COMMANDS
from opagent.cli.run import root
from opagent.cli.schemas import OUTPUTS, of
from opagent.client import Client
from tests.doubles import packages, runtimes
from tests.doubles.sshd import sshd
from tests.doubles.terminal import run

NO_OBJECT = {"acp", "mcp", "completion", "schema", "daemon stop", "daemon run"}
Said = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def said(home: Path) -> Said:
    """Runs a command, holds each object it printed against the schema of that command, and gives them."""

    def run_one(command: str, *words: str, fails: bool | None = False) -> list[dict[str, Any]]:
        done = run(*command.split(), *words, "--json", cwd=home)
        found = list(_objects(done.stdout))
        assert found and (fails is None or (done.returncode != 0) == fails), done.stdout + done.stderr
        check = fastjsonschema.compile(of(command))
        for value in found:
            check(value)
            assert ("error" in value) == (fails is True and value is found[-1]), value
        seen.add(command)
        return found

    seen: set[str] = set()
    run_one.seen = seen  # type: ignore[attr-defined]
    return run_one


def tools(said: Said, folder: Path) -> None:
    """The commands about the tools of a server that has changed one."""
    doubles = Path(__file__).parents[1] / "doubles"
    runtimes.put("user", sys.executable, "-I", "-S", str(doubles / "mcp_agent.py"))
    folder.mkdir()
    with Client("test") as client:
        command = [sys.executable, "-I", "-S", str(doubles / "mcp_server.py")]
        runtimes.bind(client, folder, "user", tools={"box": {"command": command}})
    for description in ("one", "another"):
        (folder / "tools.json").write_text(json.dumps([["echo", description]]))
        said("open", str(folder), "-m", json.dumps([{"server": "box", "method": "tools/list"}]))
    said("tools list", str(folder))
    said("tools show", "box/echo", "-C", str(folder))
    said("tools allow", "box", "-C", str(folder))
    said("tools forget", "box", "-C", str(folder))


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder, place = json.JSONDecoder(), 0
    while text[place:].strip():
        value, place = decoder.raw_decode(text, place + len(text[place:]) - len(text[place:].lstrip()))
        yield value


def test_every_command_says_what_its_schema_says(said: Said, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = home / "docs"
    said("init", str(docs))
    (docs / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    said("explain", str(docs))
    said("trust", str(docs))
    said("trust", "--list")
    opened, *events = said("open", str(docs), "-m", "hello")
    assert opened["type"] == "opened" and events[-1]["body"]["state"] == "done"
    ident = opened["conversation"]
    said("send", ident, "again")
    said("send", ident, "again", "--no-wait")
    said("wait", ident)
    said("ps", "--tree", "--ports")
    said("logs", ident)
    (path,) = {one["path"] for one in said("conversations list", "-C", str(docs))[0]["conversations"]}
    said("conversations show", ident)
    said("conversations queue", ident)
    said("conversations new", str(docs))
    said("conversations fork", ident)
    said("conversations rebuild", ident)
    said("conversations export", ident)
    said("conversations merge", path, path, path)
    said("conversations import", "--list", "-C", str(docs))
    for answer in (["allow"], ["deny", "--binding"]):
        said("open", str(docs), "-m", "/permission", fails=True)
        (approval,) = said("approvals list")[0]["approvals"]
        said(*answer, approval["id"])
        said("why", approval["id"])
    (kept,) = said("approvals list", "--remembered")[0]["remembered"]
    said("approvals forget", kept["id"])
    (docs / ".agent.yaml").write_text("version: 1\nagent: echo\nbudget: {turns: 99, cost: 5 USD}\n")
    said("open", str(docs), "-m", "/spend 5 0.5")
    said("budget", ident)
    said("usage", "--by", "day")
    said("call", "-C", str(docs), "echo", "hello")
    said("call", "-C", str(docs), "echo", "/crash", fails=None)
    said("notes write", "-C", str(docs), "plan", "Words")
    said("notes read", "-C", str(docs))
    said("notes read", "-C", str(docs), "plan")
    said("restart", ident)
    said("stop", ident)
    tools(said, home / "tooled")
    said("doctor", fails=None)  # it depends on the machine
    said("audit list", "-n", "3")
    said("audit verify")
    said("audit export", "--after", "5")
    said("audit backup", str(home / "copy.db"))
    said("audit purge", ident, "--yes")
    said("secrets list")
    said("secrets check")
    said("secrets set", "nothing", fails=True)  # no value
    said("secrets forget", "nothing", fails=True)
    own = packages.own(home / "own", "mine", "1.0")
    said("runtime new", "fresh")
    said("runtime probe", "fresh")
    said("runtime install", str(own))
    said("runtime upgrade", "mine")
    said("runtime list", "--all")
    said("runtime info", "mine")
    said("runtime pin", "mine")
    said("runtime pin", "mine", "--off")
    said("runtime rollback", "mine", fails=True)
    said("runtime bundle", "mine", "--output", str(home / "mine.tar"))
    said("runtime remove", "mine", "--yes")
    said("daemon start")
    said("daemon status")
    said("wait", "nobody", fails=True)
    with sshd(home.parent / "there") as server:
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", server.config)
        said("host add", "there")
        said("host check", "there")
        said("host list")
        said("host upgrade", "there")
        (home / "mirrored").mkdir()
        with Client("test") as client:
            client.request("mirror/open", {"directory": str(home / "mirrored"), "machine": "there", "path": "/srv/docs"})
        said("host mirrors")
        said("host unmirror", str(home / "mirrored"))
        said("host forget", "there")
    assert said.seen == set(OUTPUTS)  # type: ignore[attr-defined]


def test_every_command_has_a_schema_or_prints_no_object() -> None:
    names = set()
    with click.Context(root()) as context:
        for name in COMMANDS:
            command = root().get_command(context, name)
            names |= {f"{name} {below}" for below in command.commands} if isinstance(command, click.Group) else {name}
    assert names == OUTPUTS.keys() | NO_OBJECT


def test_one_schema_or_those_of_a_noun_or_all(home: Path) -> None:
    assert json.loads(run("schema", "ps").stdout) == of("ps")
    assert set(json.loads(run("schema", "daemon").stdout)) == {"daemon start", "daemon status"}
    assert set(json.loads(run("schema").stdout)) == set(OUTPUTS)
    assert run("schema", "completion").returncode == 4
    assert not os.path.exists(home / ".local/state/opagent")
