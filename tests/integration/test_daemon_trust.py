"""Trust through the daemon: who may say yes, to what, and what stands in the journal afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from opagent import paths
from opagent.errors import Denied, NotTrusted
from tests.doubles.patience import PATIENCE
from tests.integration.conftest import Talk

BINDING = 'version: 1\nagent: w\nroles: {w: {runtime: echo, instructions: "Be brief."}}\n'


def bind(talk: Talk, text: str = BINDING) -> None:
    (talk.directory / ".agent.yaml").write_text(text)


def shown(talk: Talk) -> dict[str, object]:
    return talk.client.request("trust/show", {"path": str(talk.directory), "environment": dict(os.environ)})


def grant(talk: Talk, digest: object) -> None:
    talk.client.request("trust/grant", {"path": str(talk.directory), "digest": digest, "environment": dict(os.environ)})


def test_nothing_starts_before_a_yes_and_a_change_asks_again(talk: Talk) -> None:
    bind(talk)
    with pytest.raises(NotTrusted):
        talk.create(agent="")
    question = shown(talk)
    assert question["state"] == "unknown"
    assert any("--state=/" in line for line in question["question"] if "starts" in line)  # type: ignore[attr-defined]
    grant(talk, question["digest"])
    conversation = talk.create(agent="")
    turn = talk.say(conversation, "/context")
    assert "Be brief." in talk.answer(conversation, turn["id"])
    bind(talk, BINDING.replace("brief", "long"))
    with pytest.raises(NotTrusted, match="has changed"):
        talk.create(agent="")
    assert "+" in str(shown(talk)["difference"])


def test_a_yes_is_for_what_was_seen(talk: Talk) -> None:
    bind(talk)
    digest = shown(talk)["digest"]
    bind(talk, BINDING.replace("brief", "evil"))
    with pytest.raises(NotTrusted, match="changed while you looked"):
        grant(talk, digest)


def test_an_answer_stands_in_the_journal(talk: Talk) -> None:
    bind(talk)
    grant(talk, shown(talk)["digest"])
    talk.client.request("trust/revoke", {"path": str(talk.directory)})
    with pytest.raises(NotTrusted):
        talk.create(agent="")
    talk.stop_daemon()
    query = "select kind, head from journal where kind like 'trust.%' order by seq"
    code = "import sqlite3, sys, json; print(json.dumps([[k, json.loads(h)] for k, h in sqlite3.connect(sys.argv[1]).execute(sys.argv[2])]))"
    rows = json.loads(subprocess.check_output([sys.executable, "-c", code, str(paths.database()), query]))
    assert [row[0] for row in rows] == ["trust.ask", "trust.grant", "trust.revoke"]
    assert all(row[1]["obj"]["path"] == str(talk.directory) and row[1]["who"]["human"] == os.getuid() for row in rows)


def test_an_agent_cannot_say_yes_for_a_person(talk: Talk, tmp_path: Path) -> None:
    """The whole client, started by an agent: by its descent and by its marker it is no person."""
    bind(talk)
    digest = shown(talk)["digest"]
    code = f"""
import json, os, sys
from opagent.client import Client
from tests.doubles.patience import PATIENCE
from opagent.errors import OpAgentError
from tests.doubles.patience import PATIENCE
from tests.doubles.patience import PATIENCE
try:
    Client("agent").request("trust/grant", {{"path": {str(talk.directory)!r}, "digest": {digest!r}}})
    print("granted")
except OpAgentError as error:
    print(error.code)
"""
    environment = {**os.environ, "OPAGENT_PROCESS": "xabcd"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert said.stdout.strip() == Denied.code, said.stderr
    assert shown(talk)["state"] == "unknown"
