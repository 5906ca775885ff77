"""A real daemon for the contract tests of ACP, and a conversation with an agent that says anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent.client import Client
from tests.doubles.strings import FREE, Strings
from tests.integration.conftest import Talk


@pytest.fixture
def talk(home: Path) -> Iterator[Talk]:
    """A directory with a file, a file outside it, and a client."""
    directory = home / "notes"
    directory.mkdir()
    (directory / "a.md").write_text("one\ntwo\nthree\n")
    (home / "outside.md").write_text("private")
    with Client("test") as client:
        yield Talk(client, directory)


@pytest.fixture
def free(talk: Talk) -> Strings:
    """Reading and writing are allowed."""
    return Strings(talk, can=FREE)
