"""Agents that call agents through a real daemon: every call ends with one clear outcome, and nothing is left running."""

from __future__ import annotations

from pathlib import Path

from tests.integration.conftest import Talk

BINDING = """
version: 1
agent: writer
roles:
  writer: {runtime: echo}
  helper: {runtime: echo}
can:
  agents: {allow: [helper, writer]}
"""


def bind(talk: Talk, text: str = BINDING, directory: Path | None = None) -> None:
    """A binding that a person has trusted."""
    folder = directory or talk.directory
    folder.mkdir(exist_ok=True)
    (folder / ".agent.yaml").write_text(text)
    asked = talk.client.request("trust/show", {"path": str(folder)})
    talk.client.request("trust/grant", {"path": str(folder), "digest": asked["digest"]})


def test_an_agent_calls_another_and_both_files_show_it(talk: Talk) -> None:
    bind(talk)
    caller = talk.create("writer")
    turn = talk.say(caller, "/call helper hello there")
    assert turn["state"] == "done", turn
    assert talk.answer(caller, turn["id"]) == "[echo: hello there]\n"
