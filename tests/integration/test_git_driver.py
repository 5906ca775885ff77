"""Real git with real branches of a conversation, and `opagent conversations merge` as its driver; no daemon is asked."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from opagent import paths
from opagent.document.edit import Document, Opening
from opagent.document.parse import Part, scan
from tests.doubles.daemons import environment
from tests.doubles.terminal import run, run_json
from tests.doubles.texts import document, ids

NAME = "conversations/2026-11-20-intro.md"
ATTRIBUTES = "conversations/**/*.md text eol=lf merge={}\n"
BASE = document(2)


class Repository:
    """A repository with one conversation, and a driver that git knows under the name `opagent`."""

    def __init__(self, folder: Path, merge: str = "opagent") -> None:
        self.folder, self.file = folder, folder / NAME
        (folder / "conversations").mkdir(parents=True)
        driver = f"{shlex.quote(sys.executable)} -m opagent conversations merge %O %A %B --path %P"
        self.git("init", "--quiet", "--initial-branch=main")
        for key, value in (("user.name", "n"), ("user.email", "a@example.com"), ("merge.opagent.driver", driver)):
            self.git("config", key, value)
        if merge:
            (folder / ".gitattributes").write_text(ATTRIBUTES.format(merge))
        self.commit(BASE)

    def git(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(["git", *words], cwd=self.folder, capture_output=True, text=True, env=environment(), check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def commit(self, document: Document) -> None:
        self.file.write_bytes(document.content())
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "x")

    def branches(self, ours: Document, theirs: Document) -> None:
        """`main` with ours, checked out, and `other` with theirs."""
        self.git("checkout", "--quiet", "-b", "other")
        self.commit(theirs)
        self.git("checkout", "--quiet", "main")
        self.commit(ours)

    @property
    def found(self) -> list[str]:
        return ids(self.file.read_bytes())


def talked(document: Document, name: str, minute: int, answer: str = "- one\n- two\n") -> Document:
    at = f"2026-11-21T09:{minute:02}:00Z"
    said = Opening(f"u{name}", f"a{name}", "alice", f"Question {name}\n\nwith a list:\n\n- one\n- two\n", "writer", at, at)
    return document.begin(said).put(f"a{name}", answer, ("done", at))


def drafted(document: Document, text: str) -> Document:
    return document.redraft("alice", text.encode() + b"\n")


OURS = talked(BASE, "x1", 5, "Answer to ours\n\n```py\nprint(1)\n```\n")
FIRST = talked(BASE, "y1", 6, "Answer to theirs\n\n```py\nprint(2)\n```\n")
THEIRS = talked(FIRST, "y2", 8)
BOTH = ["", "u0000", "a0000", "u0001", "a0001", "ux1", "ax1", "uy1", "ay1", "uy2", "ay2", "next"]


def intact(repository: Repository) -> int:
    """How many turns of both branches stand in the file as they were said."""
    found = {region.id: region.body for region in scan(repository.file.read_bytes())}
    sides = {r.id: r.body for side in (OURS, THEIRS) for r in scan(side.content()) if r.part in (Part.MESSAGE, Part.REPLY)}
    return sum(found.get(name) == body for name, body in sides.items())


def test_a_merge_keeps_both_talks(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    repository.branches(OURS, THEIRS)
    repository.git("merge", "other", "--message", "m")
    assert repository.found == BOTH
    assert intact(repository) == 10
    assert repository.git("status", "--porcelain") == ""
    assert not paths.socket().exists(), "no daemon was started"


def test_git_s_own_ways_do_not(tmp_path: Path) -> None:
    """Why there is a driver: the default merge ends in a conflict inside turns, union pulls exchanges apart."""
    default, union = Repository(tmp_path / "d", merge=""), Repository(tmp_path / "u", merge="union")
    for repository, code in ((default, 1), (union, 0)):
        repository.branches(OURS, THEIRS)
        repository.git("merge", "other", "--message", "m", code=code)
    assert b"<<<<<<<" in default.file.read_bytes()
    assert intact(default) < 10
    assert (union.found, intact(union)) != (BOTH, 10)


def test_a_driver_that_git_does_not_know_falls_back(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    repository.git("config", "--unset", "merge.opagent.driver")
    repository.branches(OURS, BASE.adopt({"tags": "x"}))
    repository.git("merge", "other", "--message", "m")
    assert repository.found == ids(OURS.content())


def test_a_rebase_puts_both_talks_in_one_file(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    repository.branches(OURS, THEIRS)
    repository.git("rebase", "other")
    assert repository.found == BOTH
    assert intact(repository) == 10


def test_a_stash_comes_back_beside_what_was_pulled(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    repository.branches(BASE.adopt({"tags": "x"}), THEIRS)
    repository.file.write_bytes(drafted(OURS, "not sent yet").content())
    repository.git("stash")
    repository.git("merge", "other")
    repository.git("stash", "pop")
    assert repository.found == BOTH
    assert repository.file.read_bytes().endswith(b"## Alice\n\nnot sent yet\n\n- [ ] **Send**\n")


def test_a_cherry_pick_brings_one_exchange(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    repository.branches(OURS, FIRST)
    repository.git("checkout", "--quiet", "other")
    repository.commit(THEIRS)
    repository.git("checkout", "--quiet", "main")
    repository.git("cherry-pick", "other")
    assert repository.found == [*BOTH[:7], "uy2", "ay2", "next"]
    repository.git("merge", "other", "--message", "m")  # and the merge that follows knows it
    assert [name for name in repository.found if name.startswith(("uy", "ay"))] == ["uy1", "ay1", "uy2", "ay2"]


def test_two_drafts_stop_the_merge_and_name_the_place(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    repository.branches(drafted(OURS, "mine"), drafted(THEIRS, "yours"))
    said = repository.git("merge", "other", code=1)
    assert NAME in said
    assert "draft" in said
    assert repository.git("status", "--porcelain", NAME) == f"UU {NAME}\n"
    assert repository.found == BOTH
    text = repository.file.read_text()
    assert "<<<<<<< ours\nmine\n=======\nyours\n>>>>>>> theirs\n" in text
    repository.file.write_text(text.replace("<<<<<<< ours\n", "").replace("=======\nyours\n>>>>>>> theirs\n", ""))
    repository.git("add", NAME)
    repository.git("commit", "--quiet", "--no-edit")
    assert repository.file.read_bytes().endswith(b"## Alice\n\nmine\n\n- [ ] **Send**\n")


def test_other_markdown_below_the_directory_is_merged_as_ever(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    note, lines = repository.folder / "conversations/note.md", [f"{number}\n" for number in range(20)]
    for branch, change in (("main", {}), ("other", {15: "fifteen\n"}), ("main", {3: "three\n"})):
        if branch != "main":
            repository.git("checkout", "--quiet", "-b", branch)
        else:
            repository.git("checkout", "--quiet", "main")
        note.write_text("".join(change.get(number, line) for number, line in enumerate(lines)))
        repository.git("add", "--all")
        repository.git("commit", "--quiet", "--message", "x")
    repository.git("merge", "other", "--message", "m")
    assert note.read_text().split()[3] == "three"
    assert note.read_text().split()[15] == "fifteen"


# ---- the command itself ----------------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path) -> list[str]:
    names = []
    for name, content in (("base", BASE), ("ours", OURS), ("theirs", THEIRS)):
        (tmp_path / name).write_bytes(content.content())
        names.append(str(tmp_path / name))
    return names


def test_the_command_writes_ours_and_keeps_its_mode(three: list[str]) -> None:
    os.chmod(three[1], 0o640)
    done = run("conversations", "merge", *three)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert ids(Path(three[1]).read_bytes()) == BOTH
    assert Path(three[1]).stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in Path(three[1]).parent.iterdir() if path.is_file()) == ["base", "ours", "theirs"]
    assert run_json("conversations", "merge", *three)["conflict"] is False


def test_missing_empty_binary_and_huge_files(three: list[str]) -> None:
    base, ours, theirs = map(Path, three)
    before = ours.read_bytes()
    assert run("conversations", "merge", str(base), str(ours), str(theirs) + "x").returncode == 4
    assert run("conversations", "merge", str(base), str(ours), str(theirs.parent)).returncode == 1
    assert run("conversations", "merge", str(base), str(ours)).returncode == 2
    theirs.write_bytes(b"\0\1" * 100)
    binary = run("conversations", "merge", *three, "--path", NAME)
    assert (binary.returncode, NAME in binary.stderr) == (1, True)
    os.truncate(theirs, 2 << 30)
    assert run("conversations", "merge", *three).returncode == 1
    assert ours.read_bytes() == before
    base.write_bytes(b"")
    theirs.write_bytes(THEIRS.content())
    assert run("conversations", "merge", *three).returncode == 0
    assert ids(ours.read_bytes()) == BOTH


def test_a_fork_is_no_version_of_what_it_was_forked_from(three: list[str]) -> None:
    theirs = Path(three[2])
    theirs.write_bytes(theirs.read_bytes().replace(b"k7q2-m4x8p3", b"k7q2-zzzzzz"))
    Path(three[1]).write_bytes(OURS.content().replace(b"writer\n", b"reader\n", 1))
    done = run("conversations", "merge", *three)
    assert done.returncode == 1
    assert b"<<<<<<< ours" in Path(three[1]).read_bytes()
