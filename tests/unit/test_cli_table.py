"""The table of commands: every command exists, helps on one screen, and the words around it behave."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from opagent.cli.command import Command, Group
from opagent.cli.main import ALIASES, COMMANDS, main
from opagent.cli.run import root
from opagent.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
SCREEN = 40  # lines


def _all() -> list[list[str]]:
    found: list[list[str]] = []
    with click.Context(root()) as context:
        for name in COMMANDS:
            command = root().get_command(context, name)
            found.append([name])
            found += [[name, below] for below in command.commands] if isinstance(command, click.Group) else []
    return found


@pytest.mark.parametrize("words", _all(), ids=" ".join)
def test_help_fits_a_screen_and_has_an_example_and_exit_codes(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) <= SCREEN
    assert f"opagent {' '.join(words)}" in out
    assert "Example: " in out
    assert "Exit codes: 0 done" in out


@pytest.mark.parametrize("words", _all(), ids=" ".join)
def test_the_example_is_a_command_line_of_this_command(words: list[str]) -> None:
    with click.Context(root()) as context:
        command = root().get_command(context, words[0])
        if len(words) > 1:
            assert isinstance(command, click.Group)
            command = command.commands[words[1]]
    assert isinstance(command, Command | Group)
    assert f"opagent {words[0]}" in command.example


def test_the_top_level_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in COMMANDS)


def test_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"opagent {VERSION}\n"
    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["opne"], "no command 'opne'. Did you mean 'open'?"),
        (["conversations", "lst"], "no command 'lst'. Did you mean 'list'?"),
        (["What", "is", "missing?"], "no command 'What'"),
        (["ps", "--al"], "No such option '--al'"),
        (["ps", "extra"], "unexpected extra argument"),
        (["allow"], "Missing argument 'ID'"),
        (["ps", "--timeout", "soon"], "'soon' is no length of time"),
        (["ps", "--format", "xml"], "'xml' is not one of"),
    ],
)
def test_wrong_words_are_exit_2_with_a_hint(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert says in said.err
    assert said.err.startswith("error: ")
    assert "\n  try: opagent " in said.err


def test_wrong_words_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "opne"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


def test_aliases_name_commands() -> None:
    assert set(ALIASES.values()) <= set(COMMANDS)


_LOADED = (
    "import sys; from opagent.cli.main import main; main(sys.argv[2:]); "
    "print([name for name in sys.argv[1].split() if name in sys.modules])"
)
_HEAVY = "asyncio rich prompt_toolkit yaml psutil subprocess sqlite3 ctypes tempfile opagent.model opagent.jsonrpc"


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        (["--version"], f"click json {_HEAVY}"),
        (["ps", "--help"], _HEAVY),
        (["explain", "--help"], _HEAVY),
        (["daemon", "status"], _HEAVY),
        (["send", "--help"], _HEAVY),
    ],
)
def test_a_start_imports_no_more_than_it_needs(words: list[str], unwanted: str) -> None:
    run = subprocess.run([sys.executable, "-c", _LOADED, unwanted, *words], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_a_bug_is_70_names_the_log_and_shows_no_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from opagent import paths
    from opagent.cli.app import App

    def broken(app: App) -> None:
        raise ValueError("a very odd thing")

    monkeypatch.setattr(App, "client", property(broken))
    assert main(["ps"]) == 70
    said = capsys.readouterr()
    assert str(paths.client_log()) in said.err
    assert "Traceback" not in said.err
    assert "a very odd thing" in paths.client_log().read_text()
    assert main(["-v", "ps"]) == 70
    assert "Traceback" in capsys.readouterr().err
