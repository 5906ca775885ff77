"""What must hold after every fault (security.md, "Faults"): one checker, which reads database, files and processes by itself.

    checker = Checker(workspaces)
    checker.acknowledge(turn)             # what a client was told: must be in the journal for ever
    checker.check()                       # at any moment; `settled=True` once every turn has ended

It speaks no protocol and asks no daemon: it opens the database read-only beside it.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from opagent import paths
from opagent.document import parse
from opagent.store import audit
from opagent.store.blobs import Blobs
from opagent.store.opening import connect_reader
from tests.doubles import decoy
from tests.doubles.patience import PATIENCE

Key = tuple[str, str]  # conversation, turn: the short id of a turn is its conversation's own
_COMPARED = 50_000  # characters of an answer; of a flood the file shows a part
FINAL = {"done", "failed", "interrupted", "cancelled"}


class Checker:
    def __init__(self, *workspaces: Path) -> None:
        self.workspaces = workspaces
        self.turns: dict[Key, dict[str, Any]] = {}  # acknowledged to a client
        self.events: dict[tuple[str, int], str] = {}  # seen by a client: (conversation, seq) -> body
        self.allowed: set[str] = set()  # approvals that a person (the test) allowed
        self.removed: set[str] = set()  # turns that a person took out of the file
        self.decoy: decoy.Decoy | None = None  # files of the home that nobody may touch
        self.gap_expected = False  # the database lost rows, and has to say so
        self.checks = 0

    def acknowledge(self, turn: Mapping[str, Any]) -> None:
        self.turns[turn["conversation"], turn["id"]] = dict(turn)

    def saw(self, conversation: str, seq: int, body: Mapping[str, Any]) -> None:
        self.events[conversation, seq] = _canonical(body)

    def check(self, settled: bool = False) -> None:
        """Raises AssertionError with everything that is wrong."""
        self.checks += 1
        wrong = [*self._files_eventually(), *self._database(settled), *self._dead_agents()]
        wrong += self.decoy.changes() if self.decoy else []
        if settled:  # all that was written is read
            wrong += decoy.found(decoy.SECRET, paths.state(), *self.workspaces)
        assert not wrong, "\n".join(wrong)

    # ---- the journal: I1, I2, I3, I6, I11 ------------------------------------------------------------------------------

    def _database(self, settled: bool) -> list[str]:
        if not paths.database().exists():
            return ["I1: the database is gone"] if self.turns else []
        turns, events, heard = dict(self.turns), dict(self.events), self._heard()  # before the snapshot: others go on working
        written = list(self._written())
        connection = connect_reader(paths.database())
        try:
            connection.execute("begin")  # one snapshot for everything
            chain = audit.verify(connection, Blobs(paths.database_blobs(paths.database())))
            wrong = [f"I11: {chain.broken}"] if chain.broken else []
            gap = connection.execute("select body from journal where kind = 'audit.gap'").fetchall()
            if bool(gap) is not self.gap_expected or len(gap) > 1:
                wrong.append(f"I11: gaps are recorded: {gap}, and {int(self.gap_expected)} expected")
            journal = Snapshot(connection)
            wrong += [*_acknowledged(journal, turns, events), *self._journal(journal, settled)]
            wrong += _effects(connection, settled, written)
            return [*wrong, *_prompts(journal, heard, self._heard())]
        finally:
            connection.close()

    def _journal(self, journal: Snapshot, settled: bool) -> Iterator[str]:
        for name, numbers in journal.numbers.items():
            if numbers != list(range(1, len(numbers) + 1)):
                yield f"I2: the numbers of {name} have gaps or doubles: {numbers[:50]}"
        for key, states in journal.states.items():
            yield from _turn_history(key[1], states, journal.rows.get(key), settled)
        yield from self._approvals(journal)

    def _approvals(self, journal: Snapshot) -> Iterator[str]:
        for ident, (state, turn) in journal.approvals.items():
            said = journal.answers.get(ident, [])
            taken_back = len(said) == 2 and said[0] in ("allowed", "denied") and said[1] == "void"
            if len(said) > 1 and not taken_back:
                yield f"I6: {ident} was answered twice: {said}"
            if state != (said[-1] if said else "pending"):
                yield f"I6: {ident} is {state} in the table and {said} in the journal"
            if "allowed" in said and ident not in self.allowed:
                yield f"I6: {ident} was allowed and nobody did"
            if state in ("allowed", "denied") and journal.states[turn][-1] == "interrupted" and ident not in journal.delivered:
                yield f"I6: {ident} is {state} although its turn {turn[1]} was interrupted before the agent had the answer"
            if state == "pending" and journal.states[turn][-1] in FINAL:
                yield f"I6: {ident} is pending although its turn {turn[1]} has ended"

    def _written(self) -> Iterator[str]:
        """Files that `tests/faults/workers.py` has written through us."""
        return (os.path.realpath(file) for workspace in self.workspaces for file in workspace.glob("w*x*.txt"))

    def _heard(self) -> Counter[str]:
        return Counter(text for workspace in self.workspaces for text in heard_by(workspace))

    # ---- the files: I10 --------------------------------------------------------------------------------------------------

    def _files_eventually(self) -> list[str]:
        """The file follows the log by a moment."""
        if not paths.database().exists():
            return []
        deadline = time.monotonic() + PATIENCE
        while (wrong := self._files()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return wrong

    def _files(self) -> list[str]:
        connection = connect_reader(paths.database())
        try:
            connection.execute("begin")
            journal = Snapshot(connection)
            return [line for path, name in journal.files.items() for line in _file(Path(path), name, journal, self.removed)]
        finally:
            connection.close()

    # ---- the processes: I5 -----------------------------------------------------------------------------------------------

    def _dead_agents(self) -> list[str]:
        deadline = time.monotonic() + PATIENCE
        while (wrong := _orphans()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return wrong


def _acknowledged(
    journal: Snapshot, turns: Mapping[Key, Mapping[str, Any]], events: Mapping[tuple[str, int], str]
) -> Iterator[str]:
    for key, turn in turns.items():
        if journal.states.get(key, [""])[0] != "queued":
            yield f"I1: the acknowledged turn {key} ({turn['text'][:40]!r}) is not in the journal"
    for place, body in events.items():
        if journal.bodies.get(place) != body:
            yield f"I1: the event {place} that a client saw is not in the journal as it was"


def _effects(connection: sqlite3.Connection, settled: bool, written: list[str]) -> Iterator[str]:
    """Each effect has one record before it and at most one that ends it; what was written through us has a record."""
    ends: Counter[int] = Counter()
    heads = [json.loads(row[0]) for row in connection.execute("select head from journal where ref is not null")]
    for head in heads:
        ends[head["ref"]] += 1
    for seq, state, path, ended in connection.execute("select seq, state, path, ended from effect where state != 'seen'"):
        if ends[seq] > 1 or (ended is None) != (state in ("pending", "denied")) or ends[seq] != (ended is not None):
            yield f"I2: the effect {seq} on {path} is {state} and has {ends[seq]} ends"
        if settled and state == "pending":
            yield f"I4: nobody knows how the effect {seq} on {path} ended, and it is not unknown"
    known = {row[0] for row in connection.execute("select path from effect where kind = 'fs.write' and state != 'seen'")}
    for file in written:
        if file not in known:
            yield f"I3: {file} was written and no record says so"


def _prompts(journal: Snapshot, before: Counter[str], after: Counter[str]) -> Iterator[str]:
    """What the oracle agents received, just before and just after the snapshot, against what the journal says was sent."""
    texts = {turn["text"]: key for key, turn in journal.queued.items()}
    for text, count in after.items():
        if count > 1:
            yield f"I2: the prompt {text!r} reached an agent {count} times"
    for text in before:
        if text not in texts or "running" not in journal.states[texts[text]]:
            yield f"I3: the agent got {text!r}, which the journal never called running"
    for text, key in texts.items():
        if journal.agents.get(key[0]) == "oracle" and "done" in journal.states[key] and after[text] != 1:
            yield f"I2: {text!r} is done and was heard {after[text]} times"


def heard_by(workspace: Path) -> list[str]:
    """The prompts that oracle agents of a workspace received."""
    try:
        lines = (workspace / ".oracle/heard").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [said["text"] for line in lines if (said := json.loads(line))["what"] == "prompt"]


class Snapshot:
    """Everything of one snapshot that the checks compare."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.numbers: dict[str, list[int]] = {}
        self.bodies: dict[tuple[str, int], str] = {}
        self.states: dict[Key, list[str]] = {}
        self.texts: dict[Key, str] = {}
        self.answers: dict[str, list[str]] = {}
        self.delivered: set[str | None] = set()  # the approvals whose answers the agent has
        self.agents: dict[str, str] = dict(connection.execute("select id, agent from conversation"))
        self.files: dict[str, str] = dict(connection.execute("select path, id from conversation"))
        turns = connection.execute("select conversation, id, message, text, state from turn").fetchall()
        self.queued = {(row[0], row[1]): {"message": row[2], "text": row[3]} for row in turns}
        self.rows: dict[Key, str] = {(row[0], row[1]): row[4] for row in turns}
        rows = connection.execute("select id, state, conversation, turn from approval").fetchall()
        self.approvals: dict[str, tuple[str, Key]] = {row[0]: (row[1], (row[2], row[3])) for row in rows}
        blobs = Blobs(paths.database_blobs(paths.database()))
        query = "select conversation, n, kind, head, body from journal where n is not null order by seq"
        for conversation, number, kind, head, body in connection.execute(query):
            said = json.loads(head)
            content = json.loads(body if body is not None else blobs.get(said["cas"]) or b"{}")
            self._take(conversation, number, kind, said["who"].get("turn"), content)

    def _take(self, conversation: str, number: int, kind: str, turn: str | None, body: dict[str, Any]) -> None:
        self.numbers.setdefault(conversation, []).append(number)
        self.bodies[conversation, number] = _canonical(body)
        if turn and kind == "turn_state":
            self.states.setdefault((conversation, turn), []).append(body["state"])
            self.delivered.add(body.get("delivered"))
        elif turn and kind == "text":
            before = self.texts.get((conversation, turn), "")
            if len(before) < _COMPARED:  # all of a flood would take its square
                self.texts[conversation, turn] = before + body["text"]
        elif kind == "approval_answered":
            self.answers.setdefault(body["id"], []).append(body["state"])


def _turn_history(ident: str, states: list[str], row: str | None, settled: bool) -> Iterator[str]:
    ends = [state for state in states if state in FINAL]
    if states.count("queued") != 1 or len(ends) > 1 or (ends and states[-1] not in FINAL):
        yield f"I2: the turn {ident} went {states}"
    sent = [before for before, state in itertools.pairwise(states) if state == "running" and before != "waiting"]
    if len(sent) > 1:
        yield f"I2: the turn {ident} was sent {len(sent)} times: {states}"
    if row != states[-1]:
        yield f"I2: the turn {ident} is {row} in its table and {states[-1]} in the journal"
    if settled and not ends:
        yield f"I1: the turn {ident} never ended: {states}"


def _file(path: Path, name: str, journal: Snapshot, removed: set[str]) -> Iterator[str]:
    """The file parses, shows every turn that has begun with the state of the log, and the words of the agent."""
    regions: dict[str, parse.Region] = {}
    shown: Counter[str] = Counter()
    opening = re.compile(rf"<!-- op:{name.split('-')[0]} (\w+) ".encode())
    for part in (*sorted(path.parent.glob(f"{path.stem}/part-*.md")), path):
        try:
            content = part.read_bytes()
        except FileNotFoundError:
            yield f"I10: {part} is missing"
            return
        shown.update(ident.decode() for ident in opening.findall(content))
        found = parse.scan(content, name.split("-")[0])
        if parse.join(found) != content or (part == path and parse.tag_of(content) != name.split("-")[0]):
            yield f"I10: {part} does not parse to what it is"
        regions |= {region.id: region for region in found}
    for (conversation, turn), facts in journal.queued.items():
        states = journal.states.get((conversation, turn), [])
        if conversation == name and shown[turn] > 1:
            yield f"I10: {path.name} shows {turn} {shown[turn]} times"
        begun = any(state not in ("queued", "cancelled") for state in states)
        if conversation != name or not begun or turn in removed:
            continue
        reply, message = regions.get(turn), regions.get(facts["message"])
        if reply is None or message is None:
            yield f"I10: {path.name} lacks the turn {turn} ({facts['text'][:30]!r}), which is {states[-1]}"
            continue
        if states[-1] in FINAL and reply.state != states[-1]:
            yield f"I10: {path.name} shows {turn} as {reply.state or 'open'}, the log says {states[-1]}"
        text = journal.texts.get((conversation, turn), "")
        words = text.split() if len(text) < _COMPARED else []
        if states[-1] in FINAL and len(words) < 200 and not _holds(reply.body.decode("utf-8", "replace"), words):
            yield f"I10: {path.name} does not hold what was said in {turn}: {words[:20]}"


def _holds(body: str, words: list[str]) -> bool:
    """Whether the words stand in the body in this order; the file may escape, wrap and add."""
    bare, place = _letters(body), 0
    return all((place := bare.find(_letters(word), place)) >= 0 for word in words)


def _letters(text: str) -> str:
    return "".join(letter for letter in text if letter.isalnum())


def _orphans() -> list[str]:
    """Processes of agents whose row says that they have ended, of agents that no row knows, and of agents without a daemon."""
    if not paths.database().exists():
        return []
    connection = connect_reader(paths.database())
    try:
        query = "select id from process where state not in ('stopped', 'failed')"
        live = {row[0] for row in connection.execute(query)}
    finally:
        connection.close()
    return [
        f"I5: {pid} ({command}) of the agent process {owner}" for pid, owner, command in of_test() if owner and owner not in live
    ]


PROXY = "opagent.process.network"  # the daemon's own, and nobody's agent


def of_test() -> list[tuple[int, str, str]]:
    """The processes of this test that live (a zombie does not): pid, OPAGENT_PROCESS or empty, command."""
    found, agents = [], _processes()
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            command = process.cmdline()
            owner = "" if PROXY in command else environment.get("OPAGENT_PROCESS", "")
            ours = environment.get("HOME") == os.environ["HOME"] or owner in agents  # in a sandbox the home is another one
            if ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append((process.pid, owner, " ".join(command)[-80:]))
        except (psutil.Error, OSError):
            continue
    return found


def _processes() -> set[str]:
    """Every agent process that the database ever knew."""
    if not paths.database().exists():
        return set()
    connection = connect_reader(paths.database())
    try:
        return {row[0] for row in connection.execute("select id from process")}
    finally:
        connection.close()


def _canonical(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, ensure_ascii=True)
