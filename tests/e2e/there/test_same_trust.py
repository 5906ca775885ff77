"""Trust on this machine and on another one: asked here, computed and kept where the directory is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from opagent import paths
from tests.doubles.places import Place, conversation

_OWN = "version: 1\nagent: own\nroles:\n  own: {runtime: echo}\ninstructions: Be brief.\n"


def _records(database: Path, folder: Path) -> list[str]:
    """What a database says about a directory; a database that is not there says nothing."""
    if not database.exists():
        return []
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return [state for (state,) in connection.execute("select state from trust where path = ?", (str(folder),))]
    finally:
        connection.close()


def test_nothing_of_a_directory_that_is_not_trusted_acts(place: Place) -> None:
    folder = place.directory("untrusted docs", _OWN)
    done = place.run("open", place.target(folder), "-m", "hi")
    assert (done.returncode, done.stdout) == (6, "")
    assert f"try: opagent trust '{place.target(folder)}'\n" in done.stderr
    assert not (folder / "conversations").exists()
    assert place.run("trust", place.target(folder), stdin="yes\n").returncode == 6


def test_a_yes_is_given_here_and_kept_there(place: Place, home: Path) -> None:
    folder = place.directory("asked", _OWN)
    asked = place.terminal("open", place.target(folder), "-m", "hi")
    asked.expect(f"{folder} asks to act")
    asked.expect(r"Trust this binding\? \[y/N\]")
    asked.type("y\r")
    asked.expect("echo: hi")
    assert asked.end() == 0
    state = Path(paths.database()).relative_to(paths.state())
    assert _records(place.home / ".local/state/opagent" / state, folder) == ["allowed"]
    if place.server is not None:
        assert _records(paths.database(), folder) == []
    shown = place.json("trust", "--show", place.target(folder))
    listed = [one for one in place.json("trust", "--list")["records"] if one["path"] == str(folder)]
    assert [(one["digest"], one["state"]) for one in listed] == [(shown["digest"], "allowed")]


def test_a_changed_binding_asks_again_and_a_no_stays(place: Place) -> None:
    folder = place.directory("changed", _OWN)
    target = place.target(folder)
    place.trust(folder)
    assert place.run("open", target, "-m", "one").stdout == "echo: one\n"
    (folder / paths.BINDING).write_text(_OWN.replace("brief", "long"))
    assert "long" in place.run("trust", "--diff", target).stdout
    again = place.run("open", target, "-m", "two")
    assert again.returncode == 6
    assert "has changed since it was trusted" in again.stderr
    assert place.run("trust", "--deny", target).returncode == 0
    assert "was denied" in place.run("open", target, "-m", "three").stderr
    assert place.run("trust", "--revoke", target).returncode == 0
    assert place.json("trust", "--show", target)["state"] == "unknown"
    assert "echo: two" not in conversation(folder).read_text()


def test_explain_says_where_each_value_was_written(place: Place) -> None:
    folder = place.directory("explained", _OWN)
    found = place.json("explain", place.target(folder))
    assert (found["workspace"], found["trust"]) == (str(folder), "unknown")
    value = next(one for one in found["values"] if one["key"] == "roles.own.runtime")
    assert value["origin"] == f"{folder}/{paths.BINDING}:4"
    assert f"opagent trust {place.target(folder)}" in place.run("explain", place.target(folder)).stdout
