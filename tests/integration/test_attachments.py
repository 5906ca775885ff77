"""Files that a message names reach the agent as links and images; what lies elsewhere does not. Real daemon, real files."""

from __future__ import annotations

import ast
import base64
import os
import re
from pathlib import Path
from typing import Any

import pytest

from opagent.daemon.attachments import IMAGE_LIMIT
from tests.doubles import runtimes
from tests.integration.conftest import Talk

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def blocks(talk: Talk, text: str, conversation: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The blocks of the prompt but the texts, as the agent got them."""
    conversation = conversation or talk.create()
    turn = talk.say(conversation, f"/context\n{text}")
    said = talk.answer(conversation, turn["id"])
    return [ast.literal_eval(found) for found in re.findall(r"^block \d+: (\{.*\})$", said, re.M)]


def notes(talk: Talk, conversation: dict[str, Any]) -> list[str]:
    return [event["body"]["text"] for event in talk.show(conversation)["events"] if event["kind"] == "note"]


def test_files_and_directories_are_linked(talk: Talk) -> None:
    (talk.directory / "my book").mkdir()
    (talk.directory / "my book/intro.md").write_text("It was a dark night.\n")
    (talk.directory / "plain").write_text("x")
    found = blocks(talk, 'Shorten @"my book/intro.md", see @plain. and @<my book>; write to a@plain, use @property or `@plain`')
    top = os.path.realpath(talk.directory)
    assert found == [
        {"type": "resource_link", "name": "my book/intro.md", "uri": f"file://{top}/my%20book/intro.md",
         "mimeType": "text/markdown", "size": 21},
        {"type": "resource_link", "name": "plain", "uri": f"file://{top}/plain", "size": 1},
        {"type": "resource_link", "name": "my book", "uri": f"file://{top}/my%20book"},
    ]  # fmt: skip


def test_images_go_along_where_the_agent_takes_them(talk: Talk) -> None:
    conversation = talk.create()
    folder = Path(conversation["path"]).parent
    (folder / "a b.png").write_bytes(PNG)
    (talk.directory / "large.png").write_bytes(PNG + bytes(IMAGE_LIMIT))
    (talk.directory / "drawing.svg").write_text("<svg/>")
    found = blocks(talk, "![a](a%20b.png) @large.png @drawing.svg ![b](missing.png)", conversation)
    assert [(block["type"], block.get("mimeType")) for block in found] == [
        ("image", "image/png"), ("resource_link", "image/png"), ("resource_link", "image/svg+xml"),
    ]  # fmt: skip
    assert base64.b64decode(found[0]["data"]) == PNG
    assert found[0]["uri"].endswith("/conversations/a%20b.png")


def test_an_agent_that_takes_no_images_gets_a_link(talk: Talk) -> None:
    name = runtimes.echo("blind", "--without=image")
    runtimes.bind(talk.client, talk.directory, name)
    (talk.directory / "a.png").write_bytes(PNG)
    found = blocks(talk, "@a.png", talk.create(name))
    assert [(block["type"], block["name"]) for block in found] == [("resource_link", "a.png")]


def test_what_lies_outside_or_is_denied_is_not_attached_and_said(talk: Talk, home: Path) -> None:
    (home / "secret.md").write_text("secret")
    (talk.directory / "out.md").symlink_to(home / "secret.md")
    (talk.directory / "in.md").write_text("x")
    (talk.directory / "link.md").symlink_to("in.md")
    (talk.directory / ".env").write_text("KEY=1")
    os.mkfifo(talk.directory / "pipe")
    runtimes.bind(talk.client, talk.directory, "echo", can={"read": {"default": "allow", "deny": [".env"]}})
    conversation = talk.create()
    text = "@/etc/passwd @../secret.md @out.md @link.md @.env @pipe @/no/such @../nothing.md"
    assert [block["name"] for block in blocks(talk, text, conversation)] == ["in.md"]
    said = notes(talk, conversation)
    outside = [f"{path} was not attached: it lies outside the directory" for path in ("/etc/passwd", "../secret.md", "out.md")]
    assert said[:3] == outside
    assert said[3].startswith(".env was not attached: reading it is denied by ")
    assert said[4:] == ["pipe was not attached: pipe is neither a file nor a directory"]
    shown = talk.file(conversation, "pipe is neither")
    assert "out.md was not attached" in shown and "secret" not in shown.replace("secret.md", "")


@pytest.mark.parametrize("text", ["@in.md", "two lines\n\n@in.md"])
def test_a_queued_turn_attaches_what_is_there_when_it_starts(talk: Talk, text: str) -> None:
    conversation = talk.create()
    first = talk.start(conversation, "/slow 20 0.02")
    second = talk.start(conversation, f"/context\n{text}")
    (talk.directory / "in.md").write_text("x")
    assert talk.ended(conversation, first["id"])["state"] == "done"
    talk.ended(conversation, second["id"])
    assert "'name': 'in.md'" in talk.answer(conversation, second["id"])
