"""Git brought a save or it did not: real repositories, work trees and submodules, and what only looks like one."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from opagent.watch.gitstate import brought, moment, switched

SECOND = 1_000_000_000


@pytest.fixture
def work(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two branches and a stash with different texts of `talk/c.md`, last touched an hour ago."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    folder = home / "work"
    (folder / "talk").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    for branch, text in (("main", "one\n"), ("other", "two\n")):
        git(folder, "checkout", "-q", "-B", branch)
        (folder / "talk/c.md").write_text(text)
        git(folder, "add", ".")
        git(folder, "commit", "-qm", branch)
    (folder / "talk/c.md").write_text("three\n")
    git(folder, "stash", "-q")
    age(folder / ".git")
    return folder


def git(folder: Path, *words: str) -> None:
    told = ["git", "-c", "user.name=A", "-c", "user.email=a@b", "-c", "protocol.file.allow=always", *words]
    subprocess.run(told, cwd=folder, check=True, capture_output=True, timeout=30)


def age(folder: Path, seconds: float = 3600) -> None:
    past = time.time_ns() - int(seconds * SECOND)
    for path in (folder, *folder.rglob("*")):
        os.utime(path, ns=(past, past), follow_symlinks=False)


def saved(path: Path) -> int:
    return path.stat().st_mtime_ns


OPERATIONS = {
    "checkout": ("checkout", "-q", "main"),
    "detach": ("checkout", "-q", "HEAD~1"),
    "reset": ("reset", "-q", "--hard", "HEAD~1"),
    "revert": ("revert", "--no-edit", "HEAD"),
    "stash pop": ("stash", "pop", "-q"),
    "merge": ("merge", "-q", "stash@{0}"),
    "cherry-pick": ("cherry-pick", "stash@{0}", "-m", "1", "-n"),
    "pull": ("pull", "-q", "--no-rebase", "-X", "theirs", "--no-edit", "../upstream", "main"),
    "rebase": ("rebase", "-q", "--force-rebase", "main"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_that_bring_files(work: Path, name: str) -> None:
    path = work / "talk/c.md"
    git(work.parent, "clone", "-q", "work", "upstream", "-b", "main")
    (work.parent / "upstream/talk/c.md").write_text("four\n")
    git(work.parent / "upstream", "commit", "-qam", "4")
    age(work / ".git")
    assert not brought(str(path), time.time_ns())
    git(work, *OPERATIONS[name])
    assert brought(str(path), time.time_ns())


@pytest.mark.parametrize("words", [("status",), ("diff",), ("log", "--oneline"), ("add", "-A"), ("update-index", "--refresh")])
def test_what_editors_do_brings_nothing(work: Path, words: tuple[str, ...]) -> None:
    path = work / "talk/c.md"
    path.write_text("typed by a person\n")
    if words[0] == "update-index":
        git(work, "add", "-A")
    git(work, *words)
    assert not brought(str(path), saved(path))


def test_only_what_happened_since_shortly_before_the_save_counts(work: Path) -> None:
    path = work / "talk/c.md"
    git(work, "checkout", "-q", "main")
    touched = moment(str(path)).changed_ns
    assert brought(str(path), touched)
    assert brought(str(path), touched + 2 * SECOND - 1)
    assert not brought(str(path), touched + 2 * SECOND)
    assert brought(str(path), touched + 2 * SECOND, before=3.0)


def test_a_switch_and_a_commit(work: Path) -> None:
    path = work / "talk/c.md"
    git(work, "checkout", "-q", "main")
    path.write_text("five\n")
    at = switched(str(path), saved(path))
    assert abs(at - time.time()) < 60
    git(work, "commit", "-qam", "5")
    assert switched(str(path), saved(path)) == at
    assert switched(str(path), saved(path) + 3 * SECOND) == 0
    git(work, "reset", "-q", "--hard", "HEAD~1")
    assert switched(str(path), saved(path)) >= at


@pytest.mark.parametrize("name", ["plain", "work/talk/c.md"])
def test_a_commit_is_no_switch(work: Path, name: str) -> None:
    path = work.parent / name
    path.write_text("six\n")
    (work / ".git/logs/HEAD").unlink()
    git(work, "commit", "--allow-empty", "-qam", "6")
    assert switched(str(path), saved(path)) == 0


def test_a_lock_is_git_at_work(work: Path) -> None:
    path = work / "talk/c.md"
    (work / ".git/index.lock").touch()
    assert moment(str(path)).locked
    assert brought(str(path), time.time_ns())
    (work / ".git/index.lock").unlink()
    assert not brought(str(path), time.time_ns())


def test_a_work_tree_is_asked_for_its_own_moments(work: Path) -> None:
    git(work, "worktree", "add", "-q", "../tree", "main")
    age(work / ".git")
    path = work.parent / "tree/talk/c.md"
    assert moment(str(path)).directory == str(work / ".git/worktrees/tree")
    git(work, "checkout", "-q", "--detach", "HEAD")
    assert not brought(str(path), time.time_ns())
    git(work.parent / "tree", "checkout", "-q", "HEAD~0")
    assert brought(str(path), time.time_ns())


def test_a_submodule_is_a_repository_of_its_own(work: Path) -> None:
    git(work.parent, "clone", "-q", "work", "upstream")
    git(work, "submodule", "add", "-q", str(work.parent / "upstream"), "sub")
    age(work / ".git")
    path = work / "sub/talk/c.md"
    assert os.path.realpath(moment(str(path)).directory) == str(work / ".git/modules/sub")
    assert not brought(str(path), time.time_ns())
    git(work / "sub", "checkout", "-q", "HEAD~1")
    assert brought(str(path), saved(path))
    assert not brought(str(work / "talk/c.md"), time.time_ns())


def test_no_repository(home: Path) -> None:
    found = moment(str(home / "c.md"))
    assert (found.directory, found.locked, found.changed_ns) == ("", False, 0)
    assert not brought(str(home / "c.md"), 0)
    assert not brought(str(home / "none/at/all.md"), time.time_ns())


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 << 30)


def _wrong(path: Path) -> None:
    path.write_bytes(b"gitdir: \0\xff\n")


def _long(path: Path) -> None:
    path.write_text("gitdir: " + "a/" * 2000 + "\n")


def _other(path: Path) -> None:
    path.write_text("something else\n")


def _loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [_fifo, _sparse, _wrong, _long, _other, _loop, Path.mkdir])
def test_what_only_looks_like_a_repository_is_passed_by(work: Path, make: object) -> None:
    """The one above it counts, as for git."""
    assert callable(make)
    make(work / "talk/.git")
    assert moment(str(work / "talk/c.md")).directory == str(work / ".git")
