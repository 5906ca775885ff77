"""The demonstration: a writing directory whose agent has the proofreader look at its texts, two at once; strict, no account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles import libraries, runtimes, scripted_model
from tests.doubles.scripted_model import Model, calls, say
from tests.integration.conftest import Talk
from tests.integration.test_assistant import configure


@pytest.fixture(scope="module")
def installed() -> Iterator[list[Path]]:
    with libraries.installed("assistant") as assistant, libraries.installed("proofreader") as proofreader:
        yield [assistant, proofreader]


@pytest.fixture
def model() -> Iterator[Model]:
    with scripted_model.running() as serving:
        yield serving


def test_a_writer_has_its_texts_proofread(
    talk: Talk, installed: list[Path], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in installed:
        libraries.lend(package)
    configure(model)
    for name, value in model.environment("chat").items():
        monkeypatch.setenv(name, value)
    (talk.directory / "README.md").write_text("# Teh guide\n")
    (talk.directory / "more.md").write_text("All is well.\n")
    roles = {"writer": {"runtime": "assistant"}, "proofreader": {"runtime": "proofreader"}}
    can = {"agents": {"allow": ["proofreader"]}}
    runtimes.bind(talk.client, talk.directory, "writer", roles=roles, can=can, sandbox={"level": "strict"})
    ask = "opagent__agent_call"
    model.then(
        calls((ask, {"to": "proofreader", "prompt": "check README.md"}), (ask, {"to": "proofreader", "prompt": "check more.md"})),
        say("One word is wrong in README.md."),
    )
    conversation = talk.create("writer")
    turn = talk.say(conversation, "have it checked")
    assert (turn["state"], talk.answer(conversation, turn["id"])) == ("done", "One word is wrong in README.md.")
    assert ask in model.asked[0].tools
    results = "\n".join(model.asked[1].texts[-2:])
    assert "“Teh”: “The”? (spelling)" in results
    assert "Nothing to remark on 1 file." in results
