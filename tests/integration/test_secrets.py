"""Secrets of an agent: from every source, kept from it by the proxy where that can be, and found nowhere afterwards."""

from __future__ import annotations

import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from opagent import paths
from opagent.errors import OpAgentError
from tests.doubles import runtimes, webserver
from tests.doubles.patience import until
from tests.doubles.webserver import Server
from tests.integration.conftest import Talk

SECRET = "p1ant/d-K3y+0f=the.model"
CALLER = Path(__file__).parents[1] / "doubles/caller_agent.py"
MODEL = {"key": "MODEL_KEY", "base_url": "MODEL_BASE_URL", "path": "/v1", "usage": ["usage.in", "usage.out"]}


@pytest.fixture
def model(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A model behind TLS by an authority that the daemon's environment names."""

    def answer(handler: Any, _: bytes) -> None:
        handler.say(json.dumps({"path": handler.path, "usage": {"in": 11, "out": 7}}).encode(), "application/json")

    with webserver.running(answer, tls=home) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(home / "ca.pem"))
        yield server


def configure(**more: Any) -> None:
    paths.config().mkdir(parents=True, exist_ok=True)
    paths.user_config().write_text(yaml.safe_dump(more))


def caller(talk: Talk, secrets: dict[str, Any], name: str = "caller", **more: Any) -> dict[str, Any]:
    """A conversation with an agent that has these secrets."""
    runtimes.put(name, sys.executable, "-I", str(CALLER), model=MODEL, **more)
    runtimes.bind(talk.client, talk.directory, name, can={"secrets": secrets})
    return talk.create(name)


def here(server: Server) -> dict[str, Any]:
    """What lets an agent reach this server of the machine itself."""
    return {"network": {"allow": [f"127.0.0.1:{server.port}"]}}


def says(talk: Talk, conversation: dict[str, Any], text: str) -> str:
    turn = talk.say(conversation, text)
    assert turn["state"] == "done", turn
    return talk.answer(conversation, turn["id"])


def audited(*kinds: str) -> list[dict[str, Any]]:
    with sqlite3.connect(f"file:{paths.database()}?mode=ro", uri=True) as db:
        rows = db.execute("select head from journal order by seq").fetchall()
    return [head for (row,) in rows if (head := json.loads(row))["kind"] in kinds]


def found(home: Path) -> list[str]:
    """Where the secret stands: files of the home, the state and this directory, command lines, core files."""
    data = SECRET.encode()
    spellings = [SECRET, SECRET[:12], data.hex(), base64.b64encode(data).decode()[:-2], urllib.parse.quote(SECRET, safe="")]
    patterns = [word for spelling in spellings for word in ("-e", spelling)]
    grep = subprocess.run(["grep", "-rlaF", *patterns, str(home.parent)], capture_output=True, text=True)
    lines = []
    for process in psutil.process_iter():
        try:
            lines.append("\0".join(process.cmdline()))
        except psutil.Error:
            continue
    cores = [str(path) for path in home.parent.rglob("core*") if path.is_file()]
    return [*grep.stdout.splitlines(), *(line for line in lines if any(each in line for each in spellings)), *cores]


def test_the_agent_never_holds_the_key_of_its_model(
    model: Server, talk: Talk, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_OWN_NAME", SECRET)
    configure(can=here(model), secrets={"model": "env:MY_OWN_NAME"})
    conversation = caller(talk, {"MODEL_KEY": {"from": "user:model", "to": f"127.0.0.1:{model.port}"}})
    assert json.loads(says(talk, conversation, "model /chat").partition(" ")[2])["path"] == "/v1/chat"
    assert model.heads[0][2]["authorization"] == f"Bearer {SECRET}"
    held = says(talk, conversation, "env MODEL_KEY\nenv MODEL_BASE_URL\nenv MY_OWN_NAME").splitlines()
    assert held[1].startswith("http://127.0.0.1:")
    assert held[2] == "(not set)"
    used = until(lambda: audited("secret.use"))
    assert used[0]["obj"]["name"] == "MODEL_KEY"
    assert used[0]["obj"]["host"] == f"127.0.0.1:{model.port}"
    assert len(used[0]["obj"]["hmac"]) == 16
    connected = until(lambda: (rows := audited("net.connect")) and rows[-1]["state"] == "done" and rows)
    assert connected[-1]["obj"]["received"] > 0
    assert "chat" not in json.dumps(connected)
    assert found(home) == []
    talk.stop_daemon()
    assert found(home) == []


def test_the_proxy_is_there_again_after_it_was_killed(model: Server, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_OWN_NAME", SECRET)
    configure(can=here(model), secrets={"model": "env:MY_OWN_NAME"})
    conversation = caller(talk, {"MODEL_KEY": {"from": "user:model", "to": f"127.0.0.1:{model.port}"}})
    assert says(talk, conversation, "model /a").startswith("200 ")
    before = proxies()
    os.kill(before[0], signal.SIGKILL)
    until(lambda: (now := proxies()) and now != before)
    assert until(lambda: says(talk, conversation, "model /b").startswith("200 ")), "at the same port, with the same key"


def proxies() -> list[int]:
    """Of this test: on the machine there may be others."""
    found = [
        each for each in psutil.process_iter(["cmdline"]) if "opagent.process.network" in " ".join(each.info["cmdline"] or ())
    ]
    return [each.pid for each in found if each.environ().get("HOME") == os.environ["HOME"]]


def test_where_no_address_can_be_given_the_agent_holds_the_secret(
    talk: Talk, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = home / "key"
    kept.write_text(SECRET + "\n")
    kept.chmod(0o600)
    configure(secrets={"other": f"file:{kept}", "third": "cmd:cat ~/key"})
    (home / "cat").symlink_to("/bin/false")
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")
    conversation = caller(talk, {"OTHER_TOKEN": {"from": "user:other"}})
    assert says(talk, conversation, "env OTHER_TOKEN") == "«redacted:OTHER_TOKEN»"
    kept.write_text("x")
    assert found(home) == []


@pytest.mark.parametrize(
    ("source", "code", "why"),
    [
        ("user:nothing", "not_found", "has no such name"),
        ("user:unset", "not_found", "is not set"),
        ("user:short", "denied", "too short"),
        ("user:open", "denied", "not yours alone"),
        ("user:missing", "not_found", "No such file"),
        ("user:fails", "not_found", "exit status 1"),
        ("user:lines", "denied", "line ends"),
        ("keyring:model", "not_found", "keyring"),
    ],
)
def test_an_agent_does_not_start_without_a_secret_that_is_promised(
    talk: Talk, home: Path, monkeypatch: pytest.MonkeyPatch, source: str, code: str, why: str
) -> None:
    (home / "open").write_text(SECRET)
    (home / "open").chmod(0o644)
    configure(secrets={"unset": "env:NO_SUCH_NAME", "short": "cmd:echo 1234567", "open": f"file:{home}/open",
                       "missing": f"file:{home}/none", "fails": "cmd:false", "lines": "cmd:printf 'a12345678\\nb'"})  # fmt: skip
    conversation = caller(talk, {"OTHER_TOKEN": {"from": source}})
    turn = talk.say(conversation, "env OTHER_TOKEN")
    assert (turn["state"], turn["reason"]) == ("failed", code)
    assert why in json.dumps(talk.show(conversation)["events"])


def test_only_the_own_configuration_says_where_secrets_are(talk: Talk) -> None:
    (talk.directory / ".agent.yaml").write_text("agent: echo\nsecrets: {model: 'cmd:id'}\n")
    with pytest.raises(OpAgentError, match="only in your own configuration"):
        talk.create()
    (talk.directory / ".agent.yaml").write_text("agent: echo\ncan: {secrets: {A_KEY: {from: 'cmd:id', to: a.example}}}\n")
    with pytest.raises(OpAgentError, match="expected keyring:NAME or user:NAME"):
        talk.create()


def test_a_keyring_that_is_there_is_used(talk: Talk, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`secret-tool` is a program with the arguments and the behaviour of libsecret's: the service itself needs a desktop."""
    folder = home / "bin"
    folder.mkdir()
    tool = folder / "secret-tool"
    tool.write_text(
        f'#!/bin/sh\n[ "$*" = "lookup service opagent username model" ] || exit 1\nprintf %s "{SECRET[::-1]}" | rev\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    conversation = caller(talk, {"OTHER_TOKEN": {"from": "keyring:model"}})
    assert says(talk, conversation, "env OTHER_TOKEN") == "«redacted:OTHER_TOKEN»"
    conversation = caller(talk, {"OTHER_TOKEN": {"from": "keyring:another"}}, "second")
    turn = talk.say(conversation, "env OTHER_TOKEN")
    assert turn["reason"] == "not_found"
    assert found(home) == []


KEYRING = """\
#!/bin/sh
# what libsecret's program does, with a file in place of the desktop's service
case "$1" in
  store) [ "$2" = "--label=opagent model" ] && [ "$*" = "store $2 service opagent username model" ] && cat > "$HOME/ring" ;;
  lookup) [ "$*" = "lookup service opagent username model" ] && [ -f "$HOME/ring" ] && cat "$HOME/ring" ;;
  clear) rm "$HOME/ring" ;;
esac
"""


def test_the_command_keeps_checks_and_forgets_and_shows_no_value(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = home / "bin/secret-tool"
    tool.parent.mkdir()
    tool.write_text(KEYRING)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("MY_OWN_NAME", SECRET)
    configure(secrets={"own": "env:MY_OWN_NAME", "gone": "env:NO_SUCH_NAME"})
    said = []

    def command(*words: str, given: str = "") -> int:
        argv = [sys.executable, "-m", "opagent.cli.main", "secrets", *words]
        done = subprocess.run(argv, input=given, capture_output=True, text=True)
        said.append(done.stdout + done.stderr)
        return done.returncode

    assert command("check", "keyring:model") == 4
    assert command("set", "model", given=SECRET + "\n") == 0
    assert (home / "ring").read_text() == SECRET
    assert command("check", "keyring:model", "user:own") == 0
    assert command("check") == 4
    assert "NO_SUCH_NAME is not set" in said[-1]
    assert command("list", "--json") == 0
    assert {row["name"] for row in json.loads(said[-1])["secrets"]} == {"user:own", "user:gone", "keyring:…"}
    assert command("set", "model", given="short") == 5
    assert command("forget", "model") == 0
    assert command("check", "keyring:model") == 4
    assert SECRET not in "".join(said)
    assert found(home) == []
    tool.unlink()
    assert command("set", "model", given=SECRET) == 4
    assert "neither the package keyring nor the program secret-tool is installed" in said[-1]


def test_explain_says_where_each_secret_goes(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(secrets={"model": "env:MY_OWN_NAME"})
    secrets = {
        "MODEL_KEY": {"from": "user:model", "to": "api.example.com"},
        "OTHER_TOKEN": {"from": "user:nothing", "to": "b.example"},
    }
    caller(talk, secrets)
    launch = talk.client.request("binding/explain", {"path": str(talk.directory), "environment": dict(os.environ)})["launch"]
    model, other = launch["secrets"]
    assert (model["enforcement"], model["how"]) == (
        "proxy",
        "put in by the proxy for api.example.com:443 only; the agent does not hold it",
    )
    assert (other["enforcement"], "is not enforced" in other["how"]) == ("advisory", True)
    assert "has no such name" in other["problem"]
    assert launch["network"]["enforcement"] == "proxy"


def test_a_secret_is_in_no_process_of_the_agent(model: Server, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_OWN_NAME", SECRET)
    configure(can=here(model), secrets={"model": "env:MY_OWN_NAME"})
    conversation = caller(talk, {"MODEL_KEY": {"from": "user:model", "to": f"127.0.0.1:{model.port}"}})
    assert says(talk, conversation, "model /chat").startswith("200 ")
    ident = talk.client.request("process/list", {})["processes"][0]["id"]
    seen = 0
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if environment.get("OPAGENT_PROCESS") == ident:
            seen += 1
            assert SECRET not in json.dumps(environment)
            assert SECRET.encode() not in memory(process.pid)
    assert seen


def memory(pid: int) -> bytes:
    """What can be written of a process's memory: where a secret that it had would be."""
    found = b""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            where, rights, *_ = line.split()
            start, end = (int(each, 16) for each in where.split("-"))
            if rights.startswith("rw") and end - start < 64 * 2**20:
                try:
                    mem.seek(start)
                    found += mem.read(end - start)
                except (OSError, ValueError):
                    continue
    return found
