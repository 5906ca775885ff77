"""`scripts/bench` measures everything it names, prints every row and leaves nothing running; no test asserts a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.__main__ import MEASURES
from tests.bench.rows import Row, Target, interleaved, table

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = [
    "--version", "ps", "explain", "send --no-wait", "open -m, no daemon", "open -m, daemon runs", "open -m --last, agent runs",
    "python agent, start to answer, strict", "node agent, start to answer, strict", "200 agents start and answer, strict",
    "what agent_call adds",
    "a GET through the proxy", "bytes through the proxy",
    "1000 byte chunks", "1000 byte chunks, processor time", "delay at 1000/s, p50", "delay at 1000/s, p99",
    "acp, start to the answer of initialize", "acp, an update of 1000 bytes in a flood", "acp, delay at 1000/s, p50",
    "acp, delay at 1000/s, p99", "memory, 0 idle conversations",
    "memory, 1 idle conversations", "memory, 2 idle conversations", "memory of one idle conversation", "a turn, first 2",
    "a turn, last 2 of 8", "a turn, processor time, worst 2 of 8", "a turn beside two floods", "a turn beside two floods, slowest",
    "a usual file, read strictly", "the worst hostile file", "a binding of four levels", "one decision, 4 levels of 200 rules",
    "redaction, a flood of 1 kB chunks", "redaction, prose", "redaction, code", "redaction, a secret in every chunk", "journal, 1 kB events", "journal, one barrier", "exchange, 100 kB",
    "exchange and sync, 100 kB", "read, put a reply, exchange, 100 kB", "exchange, 1 MB", "exchange and sync, 1 MB",
    "read, put a reply, exchange, 1 MB", "exchange, 10 MB", "exchange and sync, 10 MB", "read, put a reply, exchange, 10 MB",
    "watching beside 100 files, until ready", "watching beside 100 files, memory",
    "watching beside 100 files, idle processor time", "a save beside 100 files, until told", "a look at 500 files",
    "a draft saved, until the agent has it",
    "regions of 1 MB", "regions of 1 MB, the end changed", "merge of a save, draft typed, 1 MB",
    "merge of a save, first message edited, 1 MB", "a reply put and the bytes, 1 MB",
]  # fmt: skip


FAR = [
    "ssh HOST true", "ssh HOST true with ControlMaster", "open -m, nothing of ours there", "link/open, the daemon runs there",
    "link/open, our code is there", "open -m, the link is held", "ps --host, the link is held",
    "Zed's shape: master, 4 probes, proxy, ping", "Mutagen's shape: nothing there, 5 MB", "Mutagen's shape: the agent is there",
    "mitogen: connect, first call",
]  # fmt: skip


def _bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tests.bench", *words], cwd=ROOT, capture_output=True, text=True, timeout=280)


def test_everything_is_measured() -> None:
    done = _bench("--quick", "--json", *(name for name in MEASURES if name != "remote"))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [row["name"] for row in said["rows"]] == NAMES
    assert all(row["base"] > 0 and row["against"] for row in said["rows"])
    assert said["machine"]["quick"] is True


def test_another_machine() -> None:
    """With loss only where there are real packets."""
    done = _bench("--quick", "--json", "remote")
    assert done.returncode == 0, done.stderr
    names = [row["name"] for row in json.loads(done.stdout)["rows"] if "loss" not in row["name"]]
    assert names == [f"{name}, {line}" for line in ("loopback", "100 ms") for name in FAR]


def test_some_can_be_chosen() -> None:
    done = _bench("journal", "--quick")
    assert done.returncode == 0, done.stderr
    assert "journal, one barrier" in done.stdout and "open -m" not in done.stdout
    assert "load before" in done.stdout


def test_an_unknown_name_is_a_usage_error() -> None:
    done = _bench("nothing")
    assert done.returncode == 2 and "no measure nothing" in done.stderr


@pytest.mark.parametrize(
    ("target", "value", "base", "met"),
    [
        (None, 5, 1, None),
        (Target(80, "ms"), 80, 1, True),
        (Target(80, "ms"), 81, 100, False),
        (Target(0.25, least=True), 26, 100, True),
        (Target(0.25, least=True), 24, 100, False),
        (Target(4), 41, 10, False),
    ],
)
def test_a_row_knows_its_verdict(target: Target | None, value: float, base: float, met: bool | None) -> None:
    row = Row("one", "other", value, base, "ms", target)
    assert row.met is met
    assert ("NOT MET" in table([row])) is (met is False)


def test_a_row_says_what_was_not_run() -> None:
    row = Row("one", "other", 0, 0, "ms", note="not run: it cannot be installed here")
    assert row.as_json()["ratio"] is None
    assert table([row]).splitlines()[1].split() == ["one", "other", "-", "-", "-", "-", *row.note.split()]


def test_measures_take_turns_and_the_first_round_is_dropped() -> None:
    calls: list[str] = []

    def measure(name: str) -> float:
        calls.append(name)
        return len(calls)

    assert interleaved(2, lambda: measure("a"), lambda: measure("b")) == [[3, 5], [4, 6]]
    assert calls == ["a", "b"] * 3
