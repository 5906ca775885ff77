"""kill -9 of the daemon at random moments while agents call agents: each call has one outcome or is unknown, nobody works for nobody."""

from __future__ import annotations

import itertools
import json
import random
import re
import time
from pathlib import Path
from typing import Any

from opagent import paths
from opagent.store.opening import connect_reader
from tests.doubles.patience import until
from tests.faults.conftest import Place, trust
from tests.faults.workers import Worker

SEED = 20
BINDING = """version: 1
agent: oracle
roles: {oracle: {runtime: oracle}, helper: {runtime: oracle}, third: {runtime: oracle}}
can:
  agents: {allow: [helper, third, "../other"]}
  write: {default: allow}
  read: {default: allow}
"""
CALLS = ("helper {0}", "../other {0}", "helper /slow 6 0.05 | {0}", "helper /call third {0}", "../other /slow 3 0.05 | {0}")
NOTE = '/mcp opagent notes_write {{"path": "{0}", "text": "{0}"}}'

_numbers = itertools.count(1)


def calling(chance: random.Random, tag: str) -> str:
    """One or two calls, and perhaps a tool that writes; no two callees are told the same."""
    lines = [f"/call {chance.choice(CALLS).format(f'word {tag}y{next(_numbers)}')}" for _ in range(chance.randrange(1, 3))]
    lines += [NOTE.format(f"{tag}y{next(_numbers)}")] * chance.randrange(2)
    return "\n".join([*lines, f"word {tag}y{next(_numbers)}"])


def bound(place: Place) -> Path:
    """Two directories whose agents may be called; the second one."""
    other = place.directory.parent / "other"
    for folder, text in ((other, "version: 1\nagent: oracle\n"), (place.directory, BINDING)):
        (folder / ".oracle").mkdir(parents=True, exist_ok=True)
        (folder / ".agent.yaml").write_text(text)
        trust(place.client, folder)
    place.checker.workspaces = (*place.checker.workspaces, other)
    return other


def test_calls(place: Place, rounds: int) -> None:
    other = bound(place)
    workers = [Worker(place, seed, forgiving=True, prompt=calling) for seed in range(2)]
    chance = random.Random(SEED)
    for number in range(20 * rounds):
        time.sleep(chance.uniform(0.2, 1.5))
        place.kill_daemon()
        place.back()
        if number % (5 * rounds) == 0:
            place.checker.check()
    for worker in workers:
        worker.finish()
    place.settle()
    states = outcomes()
    assert "pending" not in states and states.count("done") > 3 and "unknown" in states, states
    assert not later(), "a callee whose caller was killed began to work all the same"
    mine = {worker.conversation["id"] for worker in workers}
    until(lambda: not [row for row in place.client.request("process/list", {})["processes"] if row["conversation"] not in mine])
    notes = place.directory / ".opagent/notes"
    recorded = set(_read("select path from effect where kind = 'fs.write' and state not in ('denied', 'seen')"))
    written = {str(note) for note in notes.glob("*.md")}
    assert written and written <= recorded, "a note was written and no record says so"
    for folder in (place.directory, other):
        for file in folder.glob("conversations/**/*.md"):
            text = until(lambda: not re.search(r"call <?`?.* · running", words := file.read_text()) and words)  # noqa: B023
            assert text


def outcomes() -> list[str]:
    """How every call that began has ended."""
    return _read("select state from effect where kind = 'call.start' and state != 'denied'")


def later() -> list[Any]:
    """Turns of callees that began under another daemon than the one that queued them."""
    starts = _read("select seq from journal where kind = 'daemon.start'")
    queued: dict[tuple[str, str], int] = {}
    wrong = []
    connection = connect_reader(paths.database())
    try:
        rows = connection.execute(
            "select seq, conversation, head, body from journal where kind = 'turn_state' order by seq"
        ).fetchall()
    finally:
        connection.close()
    for seq, conversation, head, content in rows:
        body, turn = json.loads(content or "{}"), json.loads(head)["who"].get("turn")
        if body.get("state") == "queued" and body.get("call"):
            queued[conversation, turn] = seq
        elif body.get("state") == "running" and (begun := queued.get((conversation, turn))):
            wrong += [(conversation, turn) for start in starts if begun < start < seq]
    return wrong


def _read(query: str) -> list[Any]:
    connection = connect_reader(paths.database())
    try:
        return [row[0] for row in connection.execute(query)]
    finally:
        connection.close()
