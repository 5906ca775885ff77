"""What the proxy reads in the answers of a model counts against the budget, whatever the agent says of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from opagent import paths
from tests.doubles import runtimes, webserver
from tests.doubles.patience import until
from tests.doubles.webserver import Server
from tests.integration.conftest import Talk

CALLER = Path(__file__).parents[1] / "doubles/caller_agent.py"
MODEL = {"key": "MODEL_KEY", "base_url": "MODEL_BASE_URL", "path": "/v1", "usage": ["usage.in", "usage.out"]}


@pytest.fixture
def model(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Each of its answers costs 18 tokens."""

    def answer(handler: Any, _: bytes) -> None:
        handler.say(json.dumps({"usage": {"in": 11, "out": 7}}).encode(), "application/json")

    with webserver.running(answer, tls=home) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(home / "ca.pem"))
        monkeypatch.setenv("MY_OWN_NAME", "a-key-of-the-model")
        yield server


def test_the_proxy_counts_what_the_agent_does_not_report(model: Server, talk: Talk) -> None:
    paths.config().mkdir(parents=True, exist_ok=True)
    own = {"can": {"network": {"allow": [f"127.0.0.1:{model.port}"]}}, "secrets": {"model": "env:MY_OWN_NAME"}}
    paths.user_config().write_text(yaml.safe_dump(own))
    runtimes.put("caller", sys.executable, "-I", str(CALLER), model=MODEL)
    secrets = {"MODEL_KEY": {"from": "user:model", "to": f"127.0.0.1:{model.port}"}}
    runtimes.bind(talk.client, talk.directory, "caller", can={"secrets": secrets}, budget={"tokens": 54, "per": "total"})
    conversation = talk.create("caller")
    where = {"path": str(talk.directory), "environment": dict(os.environ)}
    shown = lambda: talk.client.request("budget/show", where)["limits"][0]  # noqa: E731
    assert shown()["enforcement"] == "proxy"
    assert talk.say(conversation, "model /one\nmodel /two")["state"] == "done"
    line = until(lambda: (line := shown())["metered"] == 36 and line)
    assert (line["used"], line["reported"]) == (36, None)
    assert talk.say(conversation, "model /three")["state"] == "done"
    until(lambda: shown()["used"] == 54)
    refused = talk.say(conversation, "model /four")
    assert (refused["state"], refused["reason"]) == ("cancelled", "budget")
    (row,) = talk.client.request("usage/list", {})["usage"]
    assert (row["tokens"], row["metered_input"], row["metered_output"], row["reported_input"]) == (54, 33, 21, None)
