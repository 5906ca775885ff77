"""The proofreader in its box, through the daemon and the command line: what it corrects, a person allows, in the file or by a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent.packages import catalog
from tests.doubles import libraries, runtimes
from tests.doubles.patience import PATIENCE, until
from tests.integration.conftest import Talk

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def proofreader() -> Iterator[Path]:
    with libraries.installed("proofreader") as folder:
        yield folder


@pytest.fixture
def desk(talk: Talk, proofreader: Path) -> Talk:
    libraries.lend(proofreader)
    (talk.directory / "README.md").write_text("# Teh guide\n")
    runtimes.bind(talk.client, talk.directory, "proofreader", sandbox={"level": "strict"})
    return talk


def opagent(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "opagent", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        argv, cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=4 * PATIENCE, check=False
    )  # fmt: skip


def test_it_corrects_what_a_command_allows(desk: Talk) -> None:
    done = opagent(desk.directory, "open", ".", "-m", "check README.md")
    assert done.returncode == 0, done.stderr
    assert "README.md:1" in done.stdout and "“Teh”" in done.stdout
    [process] = json.loads(opagent(desk.directory, "ps", "--json").stdout)["processes"]
    assert process["level"] == "strict"
    done = opagent(desk.directory, "open", ".", "--last", "-m", "check . and fix")
    assert done.returncode == 9, done.stderr
    [approval] = desk.approvals()
    assert "README.md" in approval["subject"] and "# The guide" in approval["subject"]
    assert opagent(desk.directory, "allow", approval["id"]).returncode == 0
    until(lambda: (desk.directory / "README.md").read_text() == "# The guide\n")
    assert opagent(desk.directory, "wait", approval["conversation"], "--timeout", "60s").returncode == 0


def test_it_corrects_what_is_ticked_in_the_file(desk: Talk) -> None:
    conversation = desk.create("proofreader")
    turn = desk.start(conversation, "fix README.md")
    until(desk.approvals)
    text = desk.file(conversation, "- [ ] Allow")
    Path(conversation["path"]).write_text(text.replace("- [ ] Allow", "- [x] Allow", 1))
    assert desk.ended(conversation, turn["id"])["state"] == "done"
    assert (desk.directory / "README.md").read_text() == "# The guide\n"


def test_it_corrects_where_only_such_files_may_be_written(desk: Talk) -> None:
    """Rules of files are mounts of files: no other file can be put in their place."""
    can = {"write": {"allow": ["**/*.md"], "default": "deny"}}
    runtimes.bind(desk.client, desk.directory, "proofreader", can=can, sandbox={"level": "strict"})
    done = opagent(desk.directory, "open", ".", "-m", "fix README.md")
    assert done.returncode == 0, done.stderr  # the rule that lets it write answers its question
    assert (desk.directory / "README.md").read_text() == "# The guide\n"


def test_without_its_libraries_it_says_how_to_install(talk: Talk) -> None:
    runtimes.bind(talk.client, talk.directory, "proofreader")
    done = opagent(talk.directory, "open", ".", "-m", "check")
    assert done.returncode == 4
    assert "the runtime proofreader is not installed" in done.stderr
    assert "lib/codespell_lib" in done.stderr
    command = catalog.install_command(catalog.find("proofreader"))
    assert command in done.stderr
