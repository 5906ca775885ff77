"""Who may tick and send in a file: owners, modes, groups, access lists and the user's own word, on real directories."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from opagent import paths
from opagent.daemon import filerights
from opagent.daemon.filerights import Rights, Writer
from opagent.errors import BindingInvalid
from tests.doubles import inside
from tests.doubles.terminal import run_json

UNSANDBOXED = "version: 1\napprovals: {in_file: unsandboxed}\n"


def configure(text: str) -> None:
    paths.user_config().parent.mkdir(parents=True, exist_ok=True)
    paths.user_config().write_text(text)


def judged(directory: Path, change: Callable[[Path], object] = lambda path: None) -> Rights:
    """Of a new conversation in a directory, after a change to its file."""

    async def look() -> Rights:
        async with inside.host() as host:
            conversation = await inside.talk(host, directory)
            change(Path(conversation.record.path))
            return filerights.now(conversation)

    return asyncio.run(look())


@pytest.fixture
def notes(home: Path) -> Path:
    directory = home / "notes"
    directory.mkdir(mode=0o755)
    return directory


def test_in_a_sandbox_no_agent_can_have_written_it(notes: Path) -> None:
    found = judged(notes)
    assert (found.writer, found.ticks, found.author) == (Writer.PERSON, True, f"human:{os.getuid()}")


def test_without_a_sandbox_an_agent_may_have_written_it(notes: Path) -> None:
    configure("version: 1\nsandbox: {level: off}\n")
    found = judged(notes)
    assert (found.writer, found.ticks, found.sends, found.author) == (Writer.AGENTS, False, True, "file")


def test_the_user_may_take_that_upon_themselves(notes: Path) -> None:
    configure(UNSANDBOXED)
    found = judged(notes)
    assert (found.writer, found.ticks, found.sends, found.author) == (Writer.PERSON, True, True, f"human:{os.getuid()}")


def test_the_configuration_counts_as_it_is_now(notes: Path) -> None:
    configure("version: 1\nsandbox: {level: off}\n")
    assert judged(notes, lambda path: configure(UNSANDBOXED + "sandbox: {level: off}\n")).ticks


def test_a_binding_may_not(notes: Path) -> None:
    (notes / ".agent.yaml").write_text("agent: echo\napprovals: {in_file: unsandboxed}\n")
    with pytest.raises(BaseExceptionGroup) as caught:
        judged(notes)
    (error,) = caught.value.exceptions
    assert isinstance(error, BindingInvalid) and "only in your own configuration" in str(error)


def test_a_binding_that_broke_meanwhile_lets_nothing_count(notes: Path) -> None:
    found = judged(notes, lambda path: (notes / ".agent.yaml").write_text("agent: ["))
    assert found.writer is Writer.OTHERS and ".agent.yaml" in found.reason


@pytest.mark.parametrize(("below", "mode"), [("", 0o606), ("", 0o666), ("..", 0o777), ("../..", 0o757)])
def test_what_others_can_write_speaks_for_nobody(notes: Path, below: str, mode: int) -> None:
    configure(UNSANDBOXED)
    found = judged(notes, lambda path: (path / below).resolve().chmod(mode))
    assert (found.writer, found.ticks, found.sends) == (Writer.OTHERS, False, False)
    assert "everybody can write" in found.reason


def test_another_owner_speaks_for_nobody(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(UNSANDBOXED)

    def hand_over(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, 4242, -1)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: 4242)

    found = judged(notes, hand_over)
    assert found.writer is Writer.OTHERS and "belongs to uid" in found.reason


def test_a_file_that_is_gone_speaks_for_nobody(notes: Path) -> None:
    configure(UNSANDBOXED)
    assert judged(notes, lambda path: path.unlink()).writer is Writer.OTHERS


def test_an_access_list_may_let_anybody_write(notes: Path) -> None:
    configure(UNSANDBOXED)
    # version 2: user::rw- user:4242:rw- group::r-- mask::rw- other::---
    entries = ((1, 6, 0xFFFFFFFF), (2, 6, 4242), (4, 4, 0xFFFFFFFF), (16, 6, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
    packed = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + who.to_bytes(4, "little") for tag, rights, who in entries
    )
    found = judged(notes, lambda path: os.setxattr(path, "system.posix_acl_access", packed))
    assert found.writer is Writer.OTHERS
    assert "access list" in found.reason or "group" in found.reason


def test_what_explain_shows_names_the_users_file(notes: Path) -> None:
    configure(UNSANDBOXED)
    (notes / ".agent.yaml").write_text("agent: echo\n")
    values = run_json("explain", str(notes))["values"]
    assert {"key": "approvals.in_file", "value": "unsandboxed", "origin": f"{paths.user_config()}:2"} in values
