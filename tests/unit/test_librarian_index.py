"""The index as a cache: it follows the files, survives damage and company, and never shows what the rules deny."""

import fcntl
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "runtimes" / "librarian"))

from librarian import index as index_module
from librarian import tree
from librarian.globs import parse_rules
from librarian.index import Index, State
from librarian.walk import Scope


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPAGENT_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "a.md").write_text("# A\n\napple\n")
    (root / "b.txt").write_text("banana\n")
    return root


def scope(root: Path, **rules: Any) -> Scope:
    return Scope(str(root), parse_rules(rules), "conversations")


def quiet(done: int, total: int) -> None:
    pass


def update(root: Path, **rules: Any) -> tuple[State, dict[str, str]]:
    """One turn's look: how the update went, and the passages of the index by path."""
    index = Index(scope(root, **rules), lambda: None)
    try:
        state = index.update(quiet)
        return state, content(index)
    finally:
        index.close()


def content(index: Index) -> dict[str, str]:
    rows = index.db.execute("SELECT path, group_concat(body, '|') FROM words GROUP BY path ORDER BY path")
    return dict(rows.fetchall())


def test_it_follows_new_changed_and_deleted_files(root: Path) -> None:
    assert update(root)[1] == {"a.md": "# A\n\napple", "b.txt": "banana"}
    assert update(root)[0].changed == 0
    (root / "a.md").write_text("# A\n\ncherry\n")
    (root / "b.txt").unlink()
    (root / "c.md").write_text("date")
    state, after = update(root)
    assert state.changed == 3
    assert after == {"a.md": "# A\n\ncherry", "c.md": "date"}


def test_a_change_that_keeps_size_and_modification_time_is_seen(root: Path) -> None:
    update(root)
    before = (root / "b.txt").stat()
    (root / "b.txt").write_text("bandit\n")
    os.utime(root / "b.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert update(root)[1]["b.txt"] == "bandit"


def test_binaries_and_other_encodings(root: Path) -> None:
    (root / "binary.md").write_bytes(b"abc\0def")
    (root / "noise.bin").write_bytes(bytes(range(128, 256)) * 20)
    (root / "latin.txt").write_bytes("caf\xe9 au lait, every morning\n".encode("latin-1"))
    (root / "utf16.txt").write_bytes("Überschrift\n".encode("utf-16"))
    (root / "bom.md").write_bytes(b"\xef\xbb\xbf# Title\n")
    (root / "control.md").write_bytes(b"one\x02two\x03\n")
    (root / "empty.md").write_bytes(b"")
    _, passages = update(root)
    assert set(passages) == {"a.md", "b.txt", "latin.txt", "utf16.txt", "bom.md", "control.md"}
    assert passages["bom.md"] == "# Title"
    assert passages["control.md"] == "one two"
    assert passages["latin.txt"] == "caf\ufffd au lait, every morning"


def test_what_the_rules_deny_is_in_no_index_that_they_use(root: Path) -> None:
    assert "b.txt" in update(root)[1]
    assert set(update(root, deny=["*.txt"])[1]) == {"a.md"}
    assert "b.txt" in update(root)[1]


def test_conversations_are_left_out(root: Path) -> None:
    (root / "conversations").mkdir()
    (root / "conversations" / "x.md").write_text("apple")
    assert set(update(root)[1]) == {"a.md", "b.txt"}


@pytest.mark.parametrize("damage", [b"this is no database" * 100, b""])
def test_a_damaged_index_is_made_anew(root: Path, damage: bytes) -> None:
    update(root)
    path = Path(Index.path_of(scope(root)))
    for name in (f"{path}-wal", f"{path}-shm"):
        Path(name).unlink(missing_ok=True)
    path.write_bytes(damage)
    assert set(update(root)[1]) == {"a.md", "b.txt"}


def test_without_a_state_directory_the_index_lives_in_memory(root: Path, state: Path) -> None:
    state.write_text("a file where the directory should be")
    assert set(update(root)[1]) == {"a.md", "b.txt"}


def test_while_another_holds_the_lock_the_index_is_read_as_it_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update(root)
    (root / "c.md").write_text("cherry")
    monkeypatch.setattr(index_module, "MOMENT", 0.1)
    lock = Path(Index.path_of(scope(root)).removesuffix(".db") + ".lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        state, passages = update(root)
    assert state.shared and state.complete
    assert set(passages) == {"a.md", "b.txt"}
    assert set(update(root)[1]) == {"a.md", "b.txt", "c.md"}


def test_the_first_index_of_another_is_waited_for_and_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "MOMENT", 0.05)
    monkeypatch.setattr(index_module, "FIRST_INDEX", 0.3)
    index = Index(scope(root), lambda: None)
    told: list[tuple[int, int]] = []
    lock = Path(Index.path_of(scope(root)).removesuffix(".db") + ".lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        state = index.update(lambda done, total: told.append((done, total)))
    index.close()
    assert state.shared and not state.complete
    assert told == [(0, 0)]


def test_a_cancelled_update_keeps_what_it_read(root: Path) -> None:
    class Stop(Exception):
        pass

    reading = 0

    def check() -> None:
        nonlocal reading
        if sys._getframe(1).f_code.co_name == "_write":
            reading += 1
            if reading == 2:
                raise Stop

    index = Index(scope(root), check)
    with pytest.raises(Stop):
        index.update(quiet)
    assert set(content(index)) == {"a.md"}
    index.close()
    state, passages = update(root)
    assert state.changed == 1
    assert set(passages) == {"a.md", "b.txt"}


def test_a_file_that_vanishes_or_turns_into_a_pipe_while_it_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = index_module.walk

    def walk_then_change(*arguments: Any) -> Any:
        survey = original(*arguments)
        (root / "a.md").unlink()
        (root / "b.txt").unlink()
        os.mkfifo(root / "b.txt")
        return survey

    monkeypatch.setattr(index_module, "walk", walk_then_change)
    assert update(root)[1] == {}
    monkeypatch.setattr(index_module, "walk", original)
    (root / "a.md").write_text("again")
    assert update(root)[1] == {"a.md": "again"}


def test_a_directory_swapped_for_a_link_is_not_followed(tmp_path: Path, root: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.md").write_text("secret")
    (root / "sub").symlink_to(tmp_path / "outside")
    fd = os.open(root, os.O_RDONLY)
    try:
        for path in ("sub/x.md", "../outside/x.md", "/etc/hostname"):
            with pytest.raises(OSError):
                tree.read_bytes(fd, path)
    finally:
        os.close(fd)


def test_the_index_is_private_and_outside_the_workspace(root: Path, state: Path) -> None:
    update(root)
    assert sorted(path.name for path in root.iterdir()) == ["a.md", "b.txt"]
    assert (state / "index").stat().st_mode & 0o077 == 0


def test_indexes_of_earlier_rules_are_removed_when_stale(root: Path) -> None:
    update(root, deny=["x"])
    old = Path(Index.path_of(scope(root, deny=["x"])))
    update(root)
    assert old.exists()
    os.utime(old, (0, 0))
    update(root)
    assert not old.exists()
    assert sqlite3.connect(Index.path_of(scope(root))).execute("SELECT count(*) FROM files").fetchone() == (2,)
