"""How servers of tools reach other machines: by the rules, by a question that says whose it is, by HTTP with a key put in."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from opagent import paths
from tests.doubles import runtimes, webserver
from tests.doubles.patience import until
from tests.doubles.webserver import Server
from tests.integration.conftest import Talk
from tests.integration.test_secrets import configure, here
from tests.integration.test_tool_servers import DOUBLES, LIST, Tooled, call, names, recorded, words

KEY = "the-real-key-0123456789"
TOOLS = [{"name": "look", "description": "Look.", "inputSchema": {"type": "object"}}]


@pytest.fixture
def web() -> Iterator[Server]:
    with webserver.running() as server:
        yield server


def test_a_server_reaches_the_hosts_of_the_rules_and_no_other(talk: Talk, web: Server) -> None:
    configure(can=here(web))
    tooled = Tooled(talk, can={"mcp": {"allow": ["box/*"]}, "network": {"allow": [f"127.0.0.1:{web.port}"], "default": "deny"}})
    tooled.has(("get", ""))
    got, other = tooled.do(call("get", url=f"http://127.0.0.1:{web.port}/x"), call("get", url="http://other.example/"))
    assert words(got) == "200 hello from /x"
    assert "403" in words(other)


def test_without_a_rule_about_hosts_a_server_has_no_way_out(talk: Talk, web: Server) -> None:
    tooled = Tooled(talk)
    tooled.has(("get", ""))
    assert "failed" in words(tooled.do(call("get", url=f"http://127.0.0.1:{web.port}/x"))[0])
    assert not web.heads


def test_a_question_about_a_host_says_that_a_server_wants_it(talk: Talk, web: Server) -> None:
    configure(can=here(web))
    tooled = Tooled(talk, can={"mcp": {"allow": ["box/*"]}, "network": {"ask": [f"127.0.0.1:{web.port}"]}})
    tooled.has(("get", ""))
    turn = tooled.start(call("get", url=f"http://127.0.0.1:{web.port}/x"))
    [waits] = until(talk.approvals)
    assert waits["kind"] == "network" and "for a server of its tools (x" in waits["subject"]
    talk.client.request("approval/answer", {"approval": waits["id"], "allow": True})
    assert words(tooled.answers(turn)[0]) == "200 hello from /x"


class Remote:
    """A server of MCP by HTTP, as bad as a test wants it."""

    def __init__(self) -> None:
        self.session, self.bad, self.authorized = "s1", "", 0

    def answer(self, handler: Any, body: bytes) -> None:
        if handler.headers.get("authorization") == f"Bearer {KEY}":
            self.authorized += 1
        if handler.command == "GET":
            handler.say(b"no stream", status=405)
            return
        message = json.loads(body) if body else {}
        method, ident = message.get("method"), message.get("id")
        if method == "initialize":
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "r", "version": "1"}}
            self._say(handler, ident, result, **{"mcp-session-id": self.session})
        elif handler.headers.get("mcp-session-id") != self.session:
            handler.say(b"gone", status=404)
        elif ident is None:
            handler.say(b"", status=202)
        elif method == "tools/list":
            self._say(handler, ident, {"tools": TOOLS})
        else:
            self._called(handler, ident, message)

    def _called(self, handler: Any, ident: Any, message: dict[str, Any]) -> None:
        match self.bad:
            case "moved":
                handler.say(b"", status=307, location="http://127.0.0.1:1/steal")
            case "broken":
                handler.say(b"<html>oops</html>", "text/html", 500)
            case "silent":
                handler.stream(b": nothing\n\n")
            case "huge":
                handler.say(b'"' + b"x" * (17 * 2**20) + b'"', "application/json")
            case "streamed":
                progress = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "half"}}
                answer = {"jsonrpc": "2.0", "id": ident, "result": {"content": [{"type": "text", "text": "streamed"}]}}
                handler.stream(
                    *[b"event: message\ndata: " + json.dumps(each).encode() + b"\r\n\r\n" for each in (progress, answer)]
                )
            case _:
                self._say(handler, ident, {"content": [{"type": "text", "text": "looked"}]})

    def _say(self, handler: Any, ident: Any, result: dict[str, Any], **headers: str) -> None:
        handler.say(json.dumps({"jsonrpc": "2.0", "id": ident, "result": result}).encode(), "application/json", **headers)


class Reached(Tooled):
    """A directory whose agent has the server `box` by HTTP, with a key."""

    def __init__(self, talk: Talk, web: Server, to: str = "", level: str = "strict") -> None:
        self.talk, self.folder = talk, talk.directory
        place = f"127.0.0.1:{web.port}"
        paths.user_config().parent.mkdir(parents=True, exist_ok=True)
        paths.user_config().write_text(
            yaml.safe_dump({"version": 1, "can": {"network": {"allow": [place]}}, "secrets": {"box": "env:BOX_KEY_HERE"}})
        )
        runtimes.put("user", sys.executable, "-I", "-S", str(DOUBLES / "mcp_agent.py"))
        box = {"url": f"http://{place}/mcp", "headers": {"Authorization": "Bearer {BOX_KEY}"}, "secrets": ["BOX_KEY"]}
        can = {"mcp": {"allow": ["box/*"]}, "secrets": {"BOX_KEY": {"from": "user:box", "to": to or place}}}
        runtimes.bind(talk.client, talk.directory, "user", tools={"box": box}, can=can, sandbox={"level": level})
        self.conversation = talk.create("user")


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Remote, Server]]:
    monkeypatch.setenv("BOX_KEY_HERE", KEY)
    remote = Remote()
    with webserver.running(remote.answer) as server:
        yield remote, server


@pytest.mark.parametrize("level", ["strict", "landlock"])
def test_the_key_is_put_in_on_the_way_and_stands_nowhere(talk: Talk, remote: tuple[Remote, Server], level: str) -> None:
    there, web = remote
    reached = Reached(talk, web, level=level)
    there.bad = "streamed"
    listed, looked = reached.do(LIST, call("look"))
    assert names(listed) == ["look"] and words(looked) == "streamed"
    assert there.authorized >= 4 and all(KEY not in json.dumps(each) for each in reached.do({"servers": True}))
    environments = [path for path in os.listdir("/proc") if path.isdigit()]
    assert environments and KEY not in json.dumps(recorded(talk, "mcp.call"))


def test_bad_answers_are_errors_and_the_next_call_works(talk: Talk, remote: tuple[Remote, Server]) -> None:
    there, web = remote
    reached = Reached(talk, web)
    for bad, word in {"moved": "HTTP 307", "broken": "HTTP 500", "silent": "did not answer", "huge": "16 MiB"}.items():
        there.bad = bad
        assert word in reached.do(call("look"))[0]["error"]["message"], bad
    there.bad = ""
    assert words(reached.do(call("look"))[0]) == "looked"
    there.session = "s2"
    lost, again = reached.do(call("look"), call("look"))
    assert "session is over" in lost["error"]["message"] and words(again) == "looked"


def test_a_key_for_another_host_does_not_go_out(talk: Talk, remote: tuple[Remote, Server]) -> None:
    there, web = remote
    reached = Reached(talk, web, to="api.example.com")
    answer = reached.do(LIST)[0]
    assert "does not go to 127.0.0.1" in answer["error"]["message"]
    assert not web.heads and not there.authorized
