"""What one look at a workspace finds: names, and files that are also named elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from opagent.daemon import census, ownwill
from opagent.watch import inventory


def test_names_and_links_out(tmp_path: Path) -> None:
    work = tmp_path / "w"
    (work / "sub/.git/hooks").mkdir(parents=True)
    (work / "a").touch()
    (tmp_path / "outside").touch()
    os.link(tmp_path / "outside", work / "sub/out")
    os.link(work / "a", work / "b")  # both names lie inside: nothing outside is reached
    (work / "away").symlink_to(tmp_path)
    found = census.take(str(work))
    assert found.tree == {"a": None, "b": None, "away": None, "sub": {".git": {}, "out": None}}
    assert found.linked == ["sub/out"] and found.whole
    assert census.take(str(work), links=False).linked == []


def test_a_large_tree_is_not_looked_at_to_its_end(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / str(number)).touch()
    census_most, census.MOST = census.MOST, 20
    try:
        assert not census.take(str(tmp_path)).whole
    finally:
        census.MOST = census_most


def test_what_changed_since(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "node_modules/x").mkdir(parents=True)
    (tmp_path / ".git/hooks").mkdir(parents=True)
    for name in ("conftest.py", "sub/x.pth", "other.txt", ".envrc", "node_modules/x/Makefile", ".git/hooks/Makefile"):
        (tmp_path / name).touch()
    tree = census.take(str(tmp_path)).names
    newest = max(os.lstat(tmp_path / name).st_ctime_ns for name in ("conftest.py", "sub/x.pth", ".envrc"))
    names = frozenset((".envrc",))
    for found in (tree, inventory.take(str(tmp_path)).entries):
        assert sorted(ownwill.changed(str(tmp_path), found, names, newest - 10**9)) == [".envrc", "conftest.py", "sub/x.pth"]
    assert ownwill.changed(str(tmp_path), tree, names, newest + 10**9) == []


def test_scripts_are_compared_and_not_the_rest(tmp_path: Path) -> None:
    def scripts(text: str) -> dict[str, str]:
        (tmp_path / "package.json").write_text(text)
        return ownwill.scripts(str(tmp_path), census.take(str(tmp_path)).names)

    first = scripts('{"scripts": {"test": "x"}, "version": "1"}')
    assert first and scripts('{"version": "2", "scripts": {"test": "x"}}') == first
    assert scripts('{"scripts": {"test": "y"}}') != first
    assert scripts("[") == scripts('{"scripts": {}}') == scripts("[1]") == {}
