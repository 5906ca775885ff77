"""What an agent signs in with, copied from a home that holds more, to a directory in which a stranger wrote before."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from opagent.process import homecopy


@pytest.fixture
def kept(home: Path) -> Path:
    folder = home.parent / "kept"
    (folder / ".tool").mkdir(parents=True, mode=0o700)
    return folder


def put(path: Path, text: str, time: int = 1_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time, time))
    return path


def copy(home: Path, kept: Path, *names: str) -> homecopy.Copied:
    return homecopy.copy(str(home), kept, names or (".tool/auth", ".tool/skills"))


def test_it_copies_what_is_named_and_nothing_beside_it(home: Path, kept: Path) -> None:
    put(home / ".tool/auth", "token").chmod(0o640)
    put(home / ".tool/skills/a/run", "#!").chmod(0o755)
    put(home / ".tool/sessions/other", "private")
    assert copy(home, kept).new == [".tool/auth", ".tool/skills/a/run"]
    assert sorted(str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()) == [
        ".tool/auth",
        ".tool/skills/a/run",
    ]
    assert stat.S_IMODE((kept / ".tool/auth").stat().st_mode) == 0o600
    assert stat.S_IMODE((kept / ".tool/skills/a/run").stat().st_mode) == 0o700


def test_the_newer_one_counts(home: Path, kept: Path) -> None:
    put(home / ".tool/auth", "first", 1_000)
    copy(home, kept)
    put(kept / ".tool/auth", "renewed by the agent", 2_000)
    assert copy(home, kept) == homecopy.Copied() and (kept / ".tool/auth").read_text() == "renewed by the agent"
    put(home / ".tool/auth", "signed in again", 3_000)
    assert copy(home, kept) == homecopy.Copied() and (kept / ".tool/auth").read_text() == "signed in again"


def test_what_is_not_there_is_nothing_to_speak_of(home: Path, kept: Path) -> None:
    put(home / ".other", "")
    assert copy(home, kept, ".tool/auth", "missing", ".other/below") == homecopy.Copied()


def test_links_count_as_long_as_they_stay_in_the_home(home: Path, kept: Path) -> None:
    put(home / "dotfiles/auth", "mine")
    put(home.parent / "outside", "not mine")
    (home / ".tool").mkdir()
    (home / ".tool/auth").symlink_to("../dotfiles/auth")
    (home / ".tool/skills").symlink_to("../../outside")
    said = copy(home, kept)
    assert said.new == [".tool/auth"] and (kept / ".tool/auth").read_text() == "mine"
    assert said.left == [".tool/skills: a link that leads out of your home directory"]


def test_what_is_no_file_is_left_out_and_told(home: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skills = put(home / ".tool/skills/plain", "x").parent
    (skills / "link").symlink_to("plain")
    os.mkfifo(skills / "pipe")
    monkeypatch.chdir(skills)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("door")
    said = copy(home, kept)
    assert said.new == [".tool/skills/plain"]
    assert {line.split(":")[0].split()[0].rpartition("/")[2] for line in said.left} == {"link", "pipe", "door"}


@pytest.mark.parametrize("many", [True, False])
def test_more_than_sign_in_and_settings_is_not_copied_at_all(home: Path, kept: Path, many: bool) -> None:
    put(home / ".tool/auth", "token")
    for number in range(homecopy.MOST + 1 if many else 1):
        put(home / f".tool/skills/{number}", "x")
    if not many:
        os.truncate(home / ".tool/skills/0", homecopy.BYTES + 1)
    said = copy(home, kept, ".tool/skills", ".tool/auth")
    assert said.new[-1:] == [".tool/auth"] and not (kept / ".tool/skills").exists()
    assert "too large" in said.left[0]


@pytest.mark.parametrize("trap", ["the file", "a directory above it", "a directory in its place", "a pipe"])
def test_nothing_is_written_through_what_the_agent_left(home: Path, kept: Path, trap: str) -> None:
    put(home / ".tool/skills/a/run", "yours", 9_000)
    decoy = put(home.parent / "decoy/run", "untouched", 1_000)
    match trap:
        case "the file":
            (kept / ".tool/skills/a").mkdir(parents=True)
            (kept / ".tool/skills/a/run").symlink_to(decoy)
        case "a directory above it":
            (kept / ".tool/skills").mkdir()
            (kept / ".tool/skills/a").symlink_to(decoy.parent)
        case "a directory in its place":
            put(kept / ".tool/skills/a/run/x", "")
        case "a pipe":
            (kept / ".tool/skills/a").mkdir(parents=True)
            os.mkfifo(kept / ".tool/skills/a/run")
    copy(home, kept)
    assert decoy.read_text() == "untouched" and sorted(os.listdir(decoy.parent)) == ["run"]
    assert not list(kept.rglob(".*.tmp"))


def test_an_unreadable_file_keeps_no_other_from_being_copied(home: Path, kept: Path) -> None:
    put(home / ".tool/auth", "token")
    put(home / ".tool/other", "x")
    os.remove(home / ".tool/other")
    (home / ".tool/other").symlink_to("other")
    said = copy(home, kept, ".tool/other", ".tool/auth")
    assert said.new == [".tool/auth"] and len(said.left) == 1
