"""What an agent may use of the machine: the numbers of a binding, how the kernel is told, what is over and how it is said."""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import fields

import pytest

from opagent.process import bounds
from opagent.process.bounds import SLACK, Hit
from opagent.process.profile import Level, Limits


def test_what_a_binding_says_counts_else_what_the_runtime_needs_else_the_default() -> None:
    assert bounds.of({}) == Limits()
    assert bounds.of({}, needed=3 << 30).memory == 3 << 30
    assert bounds.of({}, needed=1 << 20).memory == Limits().memory, "a runtime that needs less than the default has that"
    assert bounds.of({"memory": 1 << 20, "ports": 0, "of tomorrow": 1}, needed=3 << 30) == Limits(memory=1 << 20, ports=0)


def test_the_kernel_is_told_by_a_program_all_but_what_has_no_limit() -> None:
    assert bounds.prefix(Limits(), "") == ()
    said = bounds.prefix(Limits(processes=0, memory=5, file=0, files=7), "/bin/prlimit")
    assert said == ("/bin/prlimit", "--data=5", "--nofile=7", "--core=0")


def test_a_process_that_runs_is_given_them() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        bounds.put(child.pid, Limits(memory=1 << 30, file=1 << 20, files=0))
        assert resource.prlimit(child.pid, resource.RLIMIT_DATA) == (1 << 30, 1 << 30)
        assert resource.prlimit(child.pid, resource.RLIMIT_FSIZE) == (1 << 20, 1 << 20)
        assert resource.prlimit(child.pid, resource.RLIMIT_NOFILE) == resource.getrlimit(resource.RLIMIT_NOFILE)
        assert resource.prlimit(child.pid, resource.RLIMIT_CORE) == (0, 0)
        child.communicate(b"\n")


@pytest.mark.parametrize(
    ("memory", "processes", "ports", "what"),
    [
        (100, 10 + SLACK, 3, None),
        (101, 99, 99, "memory"),
        (0, 11 + SLACK, 99, "processes"),
        (0, 0, 4, "ports"),
    ],
)
def test_what_a_tree_goes_beyond(memory: int, processes: int, ports: int, what: str | None) -> None:
    hit = bounds.over(memory, processes, ports, Limits(memory=100, processes=10, ports=3))
    assert (hit.what if hit else None) == what


def test_no_limit_but_of_ports_is_zero() -> None:
    assert bounds.over(1 << 40, 1 << 20, 0, Limits(memory=0, processes=0, ports=0)) is None
    assert bounds.over(0, 0, 1, Limits(memory=0, processes=0, ports=0)) == Hit("ports", 1, 0)


def test_a_hit_is_said_with_its_place() -> None:
    assert Hit("memory", 3 << 29, 1 << 30).sentence("/w/.agent.yaml:4") == (
        "it took 1.5G of memory, and limits.memory allows 1G (/w/.agent.yaml:4)"
    )
    assert Hit("processes", 2000, 64).sentence("built-in") == (
        "it was 2,000 processes at once, and limits.processes allows 64 (built-in)"
    )


def test_sizes_are_said_as_a_binding_writes_them() -> None:
    assert [bounds.size(value) for value in (0, 1023, 1024, 1536, 512 << 20, 5 << 29)] == (
        ["0 bytes", "1023 bytes", "1k", "1.5k", "512M", "2.5G"]
    )


@pytest.mark.parametrize("level", Level)
def test_every_limit_says_how_it_is_held(level: Level) -> None:
    assert all(bounds.applied(field.name, level) for field in fields(Limits))
    with pytest.raises(KeyError):
        bounds.applied("time", level)
