"""Directories and files of strangers: one clear error or a question each, nothing executed, connected or looked up, little work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opagent.binding import question
from opagent.binding.load import Loaded, judge, load
from opagent.errors import BindingInvalid
from opagent.model import Trust, TrustRecord
from tests.doubles.catalogue import Catalogue, tree
from tests.doubles.steps import steps
from tests.hostile.bombs import BOMBS, mutations
from tests.hostile.directories import CASES, Case

FORBIDDEN = (
    "subprocess.",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "os.fork",
    "pty.",
    "socket.",
    "ctypes.dlopen",
    "urllib.",
)
_watching: list[list[str]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event.startswith(FORBIDDEN):
        _watching[-1].append(f"{event} {arguments!r:.200}")


sys.addaudithook(_hook)


@pytest.fixture(autouse=True)
def nothing_happens(home: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """No process, no connection, no lookup while a test of this file runs, and no payload has left its mark."""
    done: list[str] = []
    _watching.append(done)
    yield
    _watching.pop()
    assert not [event for event in done if not event.startswith("socket.__new__")]
    assert not list(home.parent.rglob("OWNED"))


def opened(target: Path, home: Path) -> Loaded:
    return load(str(target), home=str(home), runtimes=Catalogue())


def build(case: Case, home: Path) -> Path:
    at = home / "work" / "repo"
    at.mkdir(parents=True)
    before = len(_watching[-1])
    case.build(at)
    del _watching[-1][before:]  # what building a socket does is no business of ours
    return at


@pytest.fixture(scope="session", autouse=True)
def warm() -> None:
    """Imports, the C library and the two compiled validators are had once in the life of a daemon."""
    from opagent import files
    from opagent.binding import schema

    files._libc()
    for detailed in (False, True):
        schema._validator(detailed)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_hostile_directory(case: Case, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = build(case, home)
    monkeypatch.chdir(at)
    assert steps(lambda: _look(case, at, home)) < case.steps


def _look(case: Case, at: Path, home: Path) -> None:
    try:
        loaded = opened(at, home)
    except BindingInvalid as error:
        assert case.error and case.error in str(error)
        assert str(at) in str(error) and error.hint
    else:
        assert not case.error
        verdict = judge(loaded, lambda path: None)
        assert verdict.acts is case.acts
        assert verdict.state is (Trust.UNNEEDED if case.acts else Trust.UNKNOWN)
        assert verdict.binding.tools == {} and verdict.binding.instructions == () and verdict.binding.host is None
        assert verdict.binding.capabilities.env == () and not verdict.binding.capabilities.secrets
        assert all("\x1b" not in line and "\n" not in line for line in question.lines(loaded))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_in_a_directory(name: str, home: Path) -> None:
    data, said = BOMBS[name]
    (home / "repo").mkdir()
    (home / "repo/.agent.yaml").write_bytes(data)
    with pytest.raises(BindingInvalid) as caught:
        opened(home / "repo", home)
    said = "is too large" if said == "larger than 64 KiB" else said
    assert said in caught.value.why and f"{home}/repo/.agent.yaml:" in caught.value.why


def test_a_bomb_above_or_as_own_configuration_is_one_error_too(home: Path) -> None:
    tree(home, {"a": "agent: &x librarian\n", "a/b": "agent: librarian\n"})
    with pytest.raises(BindingInvalid, match="anchors and aliases"):
        opened(home / "a/b", home)


def test_two_thousand_mutations_raise_nothing_else(home: Path) -> None:
    at = home / "repo"
    at.mkdir()
    (at / "STYLE.md").touch()
    loaded = 0
    for data in mutations(2000, seed=3):
        (at / ".agent.yaml").write_bytes(data.replace(b"assistant", b"librarian"))
        try:
            found = opened(at, home)
            judge(found, lambda path: None)
            question.shown(found)
            loaded += 1
        except BindingInvalid as error:
            assert error.why and error.hint
    assert 20 < loaded < 1900


def test_a_twin_of_a_trusted_directory_is_not_trusted(home: Path) -> None:
    """Same bytes, a name that begins alike: the record is for one real path."""
    text = "agent: librarian\ntools: {x: {command: [server]}}\n"
    tree(home, {"code": text, "code-evil": text, "code/evil": text})
    loaded = opened(home / "code", home)
    record = TrustRecord(loaded.workspace, loaded.digest, Trust.ALLOWED, "now", "me")
    known = {loaded.workspace: record}.get
    assert judge(opened(home / "code", home), known).state is Trust.ALLOWED
    assert judge(opened(home / "code-evil", home), known).state is Trust.UNKNOWN
    below = judge(opened(home / "code/evil", home), known)
    assert below.state is Trust.UNKNOWN and below.binding.tools["x"]["base"] == str(home / "code"), (
        "the parent's, not the child's"
    )


def test_a_file_swapped_between_reading_and_answering_stays_untrusted(home: Path) -> None:
    """What was parsed is what was hashed: the digest a person agreed to is that of the bytes they saw."""
    tree(home, {"a": "agent: librarian\ntools: {x: {command: [good]}}\n"})
    shown = opened(home / "a", home)
    tree(home, {"a": "agent: librarian\ntools: {x: {command: [evil]}}\n"})
    record = TrustRecord(shown.workspace, shown.digest, Trust.ALLOWED, "now", "me")
    assert judge(shown, lambda path: record).binding.tools["x"]["command"] == ("good",)
    assert judge(opened(home / "a", home), lambda path: record).state is Trust.CHANGED


def test_a_directory_with_a_hostile_name_is_shown_harmlessly(home: Path) -> None:
    name = "a\x1b[2J\u202e\nsandbox: strict"
    tree(home, {f"{name}/.agent.yaml": "agent: librarian\ntools: {x: {command: [server]}}\n"})
    lines = question.lines(opened(home / name, home))
    assert all(character not in "".join(lines) for character in "\x1b\u202e\n")
    assert "<U+001B>" in lines[0] and "<U+000A>" in lines[0]


def test_nothing_in_the_environment_makes_trust(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(home, {"a": "agent: librarian\ntools: {x: {command: [server]}}\n"})
    for variable in ("CI", "OPAGENT_TRUST", "OPAGENT_YES", "TRUST"):
        monkeypatch.setenv(variable, "1")
    assert judge(opened(home / "a", home), lambda path: None).acts is False


def test_a_record_of_another_path_or_state_is_worth_nothing(home: Path) -> None:
    tree(home, {"a": "agent: librarian\ntools: {x: {command: [server]}}\n"})
    loaded = opened(home / "a", home)
    for record in (
        TrustRecord("/elsewhere", loaded.digest, Trust.ALLOWED, "now", "me"),
        TrustRecord(loaded.workspace, "", Trust.ALLOWED, "now", "me"),
        TrustRecord(loaded.workspace, loaded.digest, Trust.UNKNOWN, "now", "me"),
        TrustRecord(loaded.workspace, loaded.digest[:-1], Trust.ALLOWED, "now", "me"),
    ):
        assert judge(loaded, lambda path, record=record: record).acts is False


def test_a_file_of_another_user_is_refused(home: Path) -> None:
    """As root the file is given away; a plain user cannot do that, and looks at one that root can only have received."""
    tree(home, {"a": "agent: librarian\n"})
    if os.geteuid() == 0:
        os.chown(home / "a/.agent.yaml", 65534, 65534)
        with pytest.raises(BindingInvalid) as caught:
            opened(home / "a", home)
        assert "belongs to uid 65534" in caught.value.why
    else:
        assert opened(home / "a", home).chain[0].uid == os.geteuid()
