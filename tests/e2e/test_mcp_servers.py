"""Servers that others published, installed from their registry as a person does it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles import runtimes
from tests.integration.conftest import Talk, talk
from tests.integration.test_tool_servers import DOUBLES, Tooled, call, names, tools, words

__all__ = ["talk"]
PACKAGES = ("@modelcontextprotocol/server-everything@2026.8.31", "@modelcontextprotocol/server-filesystem@2026.8.31")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of their programs."""
    assert shutil.which("npm"), "these servers are programs of Node: install Node and npm"
    folder = tmp_path_factory.mktemp("servers")
    subprocess.run(["npm", "install", "--silent", "--prefix", str(folder), *PACKAGES], check=True, capture_output=True)
    return folder / "node_modules/.bin"


class Published(Tooled):
    def __init__(self, talk: Talk, *command: str) -> None:
        self.talk, self.folder = talk, talk.directory
        runtimes.put("user", sys.executable, "-I", "-S", str(DOUBLES / "mcp_agent.py"))
        can = {"mcp": {"allow": ["box/*"], "deny": ["box/write_*", "box/get-env"]}}
        runtimes.bind(talk.client, talk.directory, "user", tools={"box": {"command": [*command]}}, can=can)
        self.conversation = talk.create("user")


LIST = {"server": "box", "method": "tools/list"}


def test_files_are_read_by_the_rules_of_the_directory(talk: Talk, installed: Path) -> None:
    (talk.directory / "deadlines.md").write_text("On Monday.\n")
    published = Published(talk, str(installed / "mcp-server-filesystem"), ".")
    listed, read, outside, refused = published.do(
        LIST,
        call("read_text_file", path="deadlines.md"),
        call("read_text_file", path="/etc/passwd"),
        call("write_file", path="a", content="b"),
    )
    assert "read_text_file" in names(listed) and "write_file" not in names(listed)
    assert words(read) == "On Monday.\n"
    assert outside["result"]["isError"] and "denied by" in words(refused)
    assert not (talk.directory / "a").exists()


def test_the_server_that_does_everything(talk: Talk, installed: Path) -> None:
    published = Published(talk, str(installed / "mcp-server-everything"))
    listed, echo, total, hidden = published.do(LIST, call("echo", message="hello"), call("get-sum", a=20, b=22), call("get-env"))
    found = names(listed)
    assert "echo" in found and "get-env" not in found and len(found) >= 5
    assert "hello" in words(echo) and "42" in words(total) and "denied by" in words(hidden)
    resources, prompts = published.do(
        {"server": "box", "method": "resources/list"}, {"server": "box", "method": "prompts/list"},
    )  # fmt: skip
    assert resources["result"]["resources"] and prompts["result"]["prompts"]
    uri = resources["result"]["resources"][0]["uri"]
    assert published.do({"server": "box", "method": "resources/read", "params": {"uri": uri}})[0]["result"]["contents"]
    assert all(each["state"] in ("allowed", "denied") for each in tools(published)), json.dumps(tools(published))
