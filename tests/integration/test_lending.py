"""What the person's own machine does for one that it is linked to: it lends secrets by its own list, and tells of questions there.

A real sshd, two daemons, a model behind TLS. The secret is looked for in every file and process of the machine there.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from opagent import paths
from opagent.client import Client
from opagent.elsewhere import Elsewhere
from opagent.errors import OpAgentError
from tests.doubles import runtimes, webserver
from tests.doubles.patience import until
from tests.doubles.sshd import Sshd, sshd
from tests.doubles.webserver import Server
from tests.integration.conftest import Talk
from tests.integration.test_notifying import program, read
from tests.integration.test_secrets import CALLER, MODEL, SECRET, audited


@pytest.fixture
def model(home: Path) -> Iterator[Server]:
    def answer(handler: Any, _: bytes) -> None:
        handler.say(json.dumps({"path": handler.path}).encode(), "application/json")

    with webserver.running(answer, tls=home) as server:
        yield server


class There:
    """A directory there whose agent has a model, and this machine, which has the key."""

    def __init__(self, server: Sshd, model: Server, home: Path) -> None:
        self.server, self.model, self.home, self.directory = server, model, home, server.home / "docs"
        self.directory.mkdir()
        self.clients: list[Client] = []
        folder = server.home / ".config/opagent"
        (folder / "runtimes/caller").mkdir(parents=True)
        spec = {"name": "caller", "command": [sys.executable, "-I", str(CALLER)], "model": MODEL}
        (folder / "runtimes/caller/runtime.yaml").write_text(yaml.safe_dump(spec))
        (folder / "config.yaml").write_text(yaml.safe_dump({"can": {"network": {"allow": [self.model_host]}}}))
        binding = {"agent": "caller", "can": {"secrets": {"MODEL_KEY": {"from": "user:model", "to": self.model_host}}}}
        (self.directory / ".agent.yaml").write_text(yaml.safe_dump(binding))
        (home.parent / "key").write_text(SECRET + "\n")
        (home.parent / "key").chmod(0o600)

    @property
    def model_host(self) -> str:
        return f"127.0.0.1:{self.model.port}"

    def lend(self, **lent: str) -> None:
        paths.config().mkdir(parents=True, exist_ok=True)
        own = {
            "secrets": {"model": f"file:{self.home.parent}/key", "other": f"file:{self.home.parent}/key"},
            "lend": {"there": lent},
        }
        paths.user_config().write_text(yaml.safe_dump(own))

    def talk(self) -> Talk:
        local = Client("test")
        client = Elsewhere("there", local, None, lambda _: None, "test")
        self.clients += [client, local]
        runtimes.trust(client, self.directory)
        return Talk(client, self.directory)

    def found(self) -> list[str]:
        """Where the secret stands there: files, command lines and environments."""
        spellings = [SECRET, SECRET[:12], SECRET.encode().hex(), base64.b64encode(SECRET.encode()).decode()[:-2]]
        words = [word for spelling in spellings for word in ("-e", spelling)]
        grep = subprocess.run(["grep", "-rlaF", *words, str(self.server.folder)], capture_output=True, text=True, check=False)
        held = []
        for process in self.processes():
            try:
                said = "\0".join([*process.cmdline(), *process.environ().values()])
            except psutil.Error:
                continue
            held += [f"{process.pid} {process.name()}"] if any(each in said for each in spellings) else []
        return grep.stdout.splitlines() + held

    def processes(self) -> list[psutil.Process]:
        of_there = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("HOME") == str(self.server.home):
                    of_there += [process, *process.children(recursive=True)]
            except psutil.Error:
                continue
        return of_there


@pytest.fixture
def there(home: Path, model: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[There]:
    with sshd(home.parent / "there", {"SSL_CERT_FILE": str(home / "ca.pem")}) as server:
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", server.config)
        place = There(server, model, home)
        yield place
        for client in place.clients:
            client.close()


def says(talk: Talk, conversation: dict[str, Any], text: str) -> str:
    turn = talk.say(conversation, text)
    assert turn["state"] == "done", turn
    return talk.answer(conversation, turn["id"])


def begun(talk: Talk) -> dict[str, Any]:
    """Once the machine here attends: an agent without its secret does not start."""

    def tried() -> dict[str, Any] | None:
        conversation = talk.create("caller")
        return conversation if talk.say(conversation, "env HOME")["state"] == "done" else None

    return until(tried)


def test_the_key_stays_here_and_every_use_is_recorded_on_both_sides(there: There) -> None:
    there.lend(model=there.model_host)
    talk = there.talk()
    conversation = begun(talk)
    assert says(talk, conversation, "model /chat").startswith("200 ")
    assert there.model.heads[-1][2]["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in says(talk, conversation, "env MODEL_KEY") and there.found() == []
    here = audited("secret.use")
    assert [(row["obj"]["name"], row["obj"]["host"], row["obj"]["machine"]) for row in here] == [
        ("model", there.model_host, "there")
    ]
    (database,) = there.server.home.rglob("opagent.db")
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        kinds = [row[0] for row in db.execute("select kind from journal order by seq")]
    assert kinds.count("secret.use") == 1 and kinds.index("secret.use") < kinds.index("net.connect")
    talk.client.close()
    assert there.found() == []


def test_only_what_is_lent_and_only_for_its_host(there: There, home: Path) -> None:
    """The list here decides; what is asked for is asked as the daemon there would."""
    there.lend(model="api.example.com", other=there.model_host)
    talk = there.talk()
    refused = talk.say(talk.create("caller"), "env HOME")
    assert refused["state"] == "failed"
    (file,) = (there.directory / "conversations").glob("*.md")
    until(lambda: "nor does a machine of yours lend it" in " ".join(file.read_text().split()))
    assert audited("secret.use") == []


def test_a_list_that_got_shorter_counts_for_the_next_request(there: There) -> None:
    there.lend(model=there.model_host)
    talk = there.talk()
    conversation = begun(talk)
    assert says(talk, conversation, "model /a").startswith("200 ")
    there.lend(model="api.example.com")
    said = says(talk, conversation, "model /b")
    assert said.startswith("403 ") and f"user:model is not lent to there for {there.model_host}" in said
    assert len(there.model.heads) == 1


def test_without_its_machine_a_request_is_refused_and_with_it_goes_on(there: There) -> None:
    there.lend(model=there.model_host)
    talk = there.talk()
    conversation = begun(talk)
    socket = Path(talk.client.request("daemon/status", {})["socket"])
    talk.client.close()
    with Client("test") as here:
        here.request("daemon/stop", {})
    beside = Talk(_direct(socket), there.directory)
    there.clients.append(beside.client)
    said = says(beside, conversation, "model /a")
    assert said.startswith("403 ") and "is lent by a machine of yours that is not connected" in said
    again = there.talk()
    assert until(lambda: says(again, conversation, "model /b").startswith("200 "))
    assert there.found() == []


def _direct(socket: Path) -> Client:
    """Somebody who sits there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPAGENT_RUN_DIR", str(socket.parent))
        return Client("test", start=False)


def test_an_agent_lends_nothing_and_takes_nothing(there: There) -> None:
    there.lend(model=there.model_host)
    talk = there.talk()
    begun(talk)
    with pytest.raises(OpAgentError, match="no secret is asked for"):
        talk.client.request("person/secret", {"id": "guessed", "value": "something-else"})
    for lends in ("model", {"model": 3}, {"a" * 400: "b"}):
        with pytest.raises(OpAgentError):
            talk.client.request("person/attend", {"lends": lends})


def test_a_question_there_is_told_here(there: There, home: Path) -> None:
    said = home / "said"
    there.lend(model=there.model_host)
    own = yaml.safe_load(paths.user_config().read_text())
    hook = program(home / "bin/hook", f"cat > {said}.tmp; mv {said}.tmp {said}")
    paths.user_config().write_text(yaml.safe_dump({**own, "notify": {"command": [str(hook)], "desktop": False}}))
    talk = there.talk()
    (there.directory / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    conversation = talk.create("echo")
    turn = talk.start(conversation, "/permission")
    waits = until(talk.approvals)[0]
    told = json.loads(read(said))
    assert (told["id"], told["host"], told["agent"], told["workspace"]) == (waits["id"], "there", "echo", str(there.directory))
    assert told["allow"] == f"opagent --host there allow {waits['id']}"
    talk.client.request("approval/answer", {"approval": waits["id"], "allow": True})
    assert talk.ended(conversation, turn["id"])["state"] == "done"
