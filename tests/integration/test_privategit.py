"""The private .git by itself: what is taken in and given back, and what never is; as a hostile agent would leave it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from opagent.process import privategit
from opagent.process.privategit import NotGivenBack, Private


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def work(home: Path) -> Path:
    folder = home / "work"
    git(home, "init", "-q", "-b", "main", str(folder))
    (folder / "a").write_text("a")
    git(folder, "add", "a")
    git(folder, "commit", "-qm", "one")
    git(folder, "branch", "topic")
    return folder


@pytest.fixture
def private(work: Path, home: Path) -> Private:
    found = privategit.prepare(str(work), home / "state/git/x1")
    assert found is not None
    return found


def test_head_and_index_go_there_and_back(work: Path, private: Private) -> None:
    folder = Path(private.folder)
    assert (folder / "HEAD").read_text() == "ref: refs/heads/main\n" and (folder / "hooks").is_dir()
    assert privategit.give_back(private) == private
    (folder / "HEAD").write_text("ref: refs/heads/topic\n")
    after = privategit.give_back(private)
    assert git(work, "rev-parse", "--abbrev-ref", "HEAD") == "topic" and after.seen != private.seen
    git(work, "checkout", "-q", "main")
    assert privategit.take_in(after).seen == private.seen and (folder / "HEAD").read_text() == "ref: refs/heads/main\n"
    assert not list((work / ".git").glob("*.lock"))


def test_what_the_person_changed_meanwhile_stays(work: Path, private: Private) -> None:
    (work / "b").write_text("b")
    git(work, "add", "b")
    (Path(private.folder) / "HEAD").write_text("ref: refs/heads/topic\n")
    with pytest.raises(NotGivenBack, match="changed here"):
        privategit.give_back(private)
    assert git(work, "status", "--short") == "A  b"
    assert privategit.take_in(private) == private  # the agent's own changes stay, too


@pytest.mark.parametrize("head", ["ref: ../../evil\n", "ref: refs/heads/../../x\n", "gitdir: /evil\n", "", "x" * 40])
def test_a_head_that_is_none_is_not_given_back(work: Path, private: Private, head: str) -> None:
    (Path(private.folder) / "HEAD").write_text(head)
    with pytest.raises(NotGivenBack):
        privategit.give_back(private)
    assert (work / ".git/HEAD").read_text() == "ref: refs/heads/main\n"


def test_links_and_pipes_in_its_place_are_not_followed(work: Path, private: Private, home: Path) -> None:
    (home / "secret").write_text("ref: refs/heads/topic\n")
    head = Path(private.folder) / "HEAD"
    head.unlink()
    head.symlink_to(home / "secret")
    with pytest.raises((NotGivenBack, OSError)):
        privategit.give_back(private)
    head.unlink()
    os.mkfifo(head)
    with pytest.raises((NotGivenBack, OSError)):
        privategit.give_back(private)


@pytest.mark.parametrize("content", [b"", b"DIRC", b"DIRC\0\0\0\2\0\0\0\1" + b"x" * 30])
def test_an_index_that_is_none_is_not_given_back(work: Path, private: Private, content: bytes) -> None:
    (Path(private.folder) / "index").write_bytes(content)
    with pytest.raises(NotGivenBack):
        privategit.give_back(private)
    assert git(work, "status", "--short") == ""


def test_git_at_work_or_in_the_middle_of_something_is_left_alone(work: Path, private: Private) -> None:
    (Path(private.folder) / "HEAD").write_text("ref: refs/heads/topic\n")
    (work / ".git/index.lock").touch()
    with pytest.raises(NotGivenBack, match="at work"):
        privategit.give_back(private)
    (work / ".git/index.lock").unlink()
    (work / ".git/MERGE_HEAD").write_text("x")
    with pytest.raises(NotGivenBack, match="MERGE_HEAD"):
        privategit.give_back(private)


def test_what_is_no_repository_of_its_own_has_none(work: Path, home: Path) -> None:
    git(work, "worktree", "add", "-q", str(home / "tree"), "topic")
    (home / "link").mkdir()
    (home / "link/.git").symlink_to(work / ".git")
    for folder in (home / "tree", home / "link", home):
        assert privategit.prepare(str(folder), home / "state/git/x2") is None
