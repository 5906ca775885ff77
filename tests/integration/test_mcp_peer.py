"""Our MCP server against the client of the official SDK, in both eras of the protocol, over the agent's own socket."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opagent import paths
from opagent.mcp.tools import TOOLS
from opagent.process import toolbox
from tests.doubles.patience import until
from tests.integration.conftest import Talk
from tests.integration.test_calls import bind

PEER = Path(__file__).resolve().parents[1] / "doubles/mcp_peer.py"


def peer(mode: str, server: list[str], *calls: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    lines = "".join(json.dumps(call) + "\n" for call in calls)
    done = subprocess.run(
        [sys.executable, "-P", str(PEER), mode, *server], input=lines, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def line(talk: Talk) -> list[str]:
    """The command of the MCP server of an agent that runs a turn, as it starts outside of its box."""
    bind(talk)
    talk.start(talk.create("writer"), "/wait")
    row = until(lambda: next((row for row in talk.client.request("process/list", {})["processes"] if row["turn"]), None))
    return [sys.executable, "-I", "-S", toolbox.__file__, str(paths.agent_sockets(row["id"])), "mcp"]


@pytest.mark.parametrize(("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25"), ("2026-07-28", "2026-07-28")])
def test_the_official_client_calls_our_tools(line: list[str], talk: Talk, mode: str, version: str) -> None:
    found = peer(
        mode,
        line,
        ("agent_list", {}),
        ("agent_call", {"to": "helper", "prompt": "hello"}),
        ("notes_write", {"path": "plan", "text": "Words"}),
        ("notes_read", {}),
        ("agent_call", {"to": "nobody", "prompt": "hello"}),
        ("agent_call", {"to": "helper"}),
        ("turn_status", {"text": "looks at chapter 2"}),
    )
    assert found["version"] == version
    assert found["tools"] == [tool.name for tool in TOOLS]
    listed, answer, written, notes, refused, misfit, status = found["results"]
    assert {each["to"] for each in listed["structured"]["agents"]} == {"helper", "third", "fourth"}
    assert (answer["text"], answer["structured"]["outcome"], answer["failed"]) == ("echo: hello", "answer", False)
    assert written["structured"] == {"path": "plan.md", "directory": str(talk.directory), "size": 5}
    assert notes["structured"]["notes"][0]["path"] == "plan.md"
    assert refused["failed"] and "no role or runtime 'nobody'" in refused["text"]
    assert "prompt is missing" in misfit["error"]
    assert status["structured"] == {"shown": "looks at chapter 2"}
    (row,) = [row for row in talk.client.request("process/list", {})["processes"] if row["agent"] == "writer"]
    assert row["sentence"] == "looks at chapter 2"


def test_a_client_hears_that_a_long_call_is_at_work(line: list[str]) -> None:
    found = peer("legacy", line, ("agent_call", {"to": "helper", "prompt": "/slow 12 0.5"}))
    assert found["results"][0]["structured"]["outcome"] == "answer"
    assert found["progress"][0] == "agent_call is at work, 5 s"
