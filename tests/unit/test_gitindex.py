"""Gitlinks in indexes that git wrote, of all versions and both hashes; whatever is no index is refused and nothing worse."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.process.gitindex import gitlinks


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
@pytest.mark.parametrize("version", [2, 3, 4])
def test_what_git_wrote(tmp_path: Path, version: int, kind: str) -> None:
    git(tmp_path, "init", "-q", f"--object-format={kind}")
    for name in ("a", "b" * 200, "dir/c", "dir/d d"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    git(tmp_path, "add", "-A")
    git(tmp_path, "update-index", "--index-version", str(version))
    index = tmp_path / ".git/index"
    assert gitlinks(index.read_bytes()) == frozenset()
    inner = tmp_path / "dir/inner"
    git(tmp_path, "init", "-q", f"--object-format={kind}", str(inner))
    git(inner, "commit", "-q", "--allow-empty", "-m", "x")
    git(tmp_path, "add", "-A")
    assert gitlinks(index.read_bytes()) == {b"dir/inner"}


def test_a_split_index_is_refused(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").touch()
    git(tmp_path, "add", "a")
    git(tmp_path, "update-index", "--split-index")
    with pytest.raises(ValueError, match="several files"):
        gitlinks((tmp_path / ".git/index").read_bytes())


@given(st.binary(max_size=300), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_anything_else_is_refused_or_empty(rest: bytes, version: int, count: int) -> None:
    for content in (rest, b"DIRC" + version.to_bytes(4, "big") + count.to_bytes(4, "big") + rest):
        try:
            assert len(gitlinks(content)) <= len(content)
        except ValueError:
            pass
