"""What a whole workspace holds before and after: every kind of change is seen, nothing else is, and it has a bound."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from opagent.watch import inventory
from opagent.watch.inventory import differences, digest, take


def changed(workspace: Path, before: inventory.Inventory) -> dict[str, str]:
    return {change.path: change.how for change in differences(before, take(str(workspace)))}


def test_every_kind_of_change_is_seen_and_nothing_else(tmp_path: Path) -> None:
    for name in ("same", "edited", "gone", "moved", "replaced", "back-dated", "mode"):
        (tmp_path / name).write_text("before")
    (tmp_path / "folder").mkdir()
    old = (tmp_path / "back-dated").stat()
    before = take(str(tmp_path))
    assert changed(tmp_path, before) == {}
    (tmp_path / "edited").write_text("after!")
    (tmp_path / "gone").unlink()
    (tmp_path / "moved").rename(tmp_path / "folder/moved")
    (tmp_path / "new").write_text("before")
    (tmp_path / "new").rename(tmp_path / "replaced")
    (tmp_path / "back-dated").write_text("beforE")
    os.utime(tmp_path / "back-dated", ns=(old.st_atime_ns, old.st_mtime_ns))
    (tmp_path / "mode").chmod(0o755)
    (tmp_path / "link").symlink_to("same")
    assert changed(tmp_path, before) == {
        "edited": "changed", "gone": "removed", "moved": "removed", "folder/moved": "made", "replaced": "changed",
        "back-dated": "changed", "mode": "changed", "link": "made",
    }  # fmt: skip


def test_a_directory_is_a_change_only_when_it_is_another_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    before = take(str(tmp_path))
    (tmp_path / "folder/a").write_text("")
    assert changed(tmp_path, before) == {"folder/a": "made"}
    (tmp_path / "nested/.git").mkdir(parents=True)
    assert changed(tmp_path, before) == {"folder/a": "made", "nested": "made", "nested/.git": "made"}


def test_objects_of_git_and_what_is_ours_are_named_and_not_looked_into(tmp_path: Path) -> None:
    for folder in (".git/objects/ab", ".git/hooks", "deep/.git/objects/ab", ".opagent/tmp"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").write_text("")
    found = take(str(tmp_path)).entries
    assert [path for path in sorted(found) if path.endswith("file")] == [".git/hooks/file"]
    assert {".opagent", "deep/.git/objects"} <= found.keys()


def test_links_are_not_followed_and_the_walk_ends(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/")
    (tmp_path / "loop").symlink_to(".")
    assert sorted(take(str(tmp_path)).entries) == ["loop", "out"]


def test_what_cannot_be_looked_at_whole_says_so_and_invents_nothing(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02}").write_text("")
    whole, part = take(str(tmp_path)), take(str(tmp_path), most=10)
    assert part.lacks == "more than 10 files" and len(part.entries) == 10
    assert differences(whole, part) == [] == differences(part, whole)
    (tmp_path / sorted(part.entries)[0]).write_text("x")
    assert [change.path for change in differences(part, take(str(tmp_path)))] == [sorted(part.entries)[0]]
    assert take(str(tmp_path / "missing")).entries == {}


def test_digests_are_of_plain_files_within_the_workspace_only(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    (workspace / "folder").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (workspace / "a").write_bytes(b"content")
    (workspace / "link").symlink_to("../secret")
    (workspace / "up").symlink_to("..")
    os.mkfifo(workspace / "pipe")
    assert digest(str(workspace), "a") == hashlib.sha256(b"content").hexdigest()
    assert digest(str(workspace), "a", limit=3) is None
    assert digest(str(workspace), "link") == hashlib.sha256(b"../secret").hexdigest()
    for path in ("up/secret", "pipe", "folder", "missing", "../secret"):
        assert digest(str(workspace), path) is None, path


NAMES = st.sampled_from(["a", "b", "folder/a", "folder/b", "\udce9"])
ACTS = st.tuples(st.sampled_from(["write", "remove", "nothing"]), NAMES, st.binary(max_size=3))


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTS, max_size=6), st.lists(ACTS, max_size=6))
def test_any_two_moments_differ_in_what_was_written_or_removed_between(
    first: list[tuple[str, str, bytes]], then: list[tuple[str, str, bytes]]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "folder").mkdir()
        _do(place, first)
        before = take(place)
        there = {path for path, entry in before.entries.items() if not entry.is_directory}
        written = _do(place, then)
        after = {path for path, entry in take(place).entries.items() if not entry.is_directory}
        found = {change.path: change.how for change in differences(before, take(place))}
        assert {path for path, how in found.items() if how == "made"} == after - there
        assert {path for path, how in found.items() if how == "removed"} == there - after
        assert {path for path, how in found.items() if how == "changed"} == written & there & after


def _do(place: str, acts: list[tuple[str, str, bytes]]) -> set[str]:
    written = set()
    for what, name, content in acts:
        path = os.path.join(place, name)
        if what == "write":
            with open(path, "wb") as file:
                file.write(content)
            written.add(name)
        elif what == "remove" and os.path.exists(path):
            os.unlink(path)
    return written
