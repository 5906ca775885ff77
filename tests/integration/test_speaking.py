"""Who speaks for an agent: judged by another process, which is not above the judged ones, as the daemon would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

JUDGE = "import sys; from opagent.process import tree; print(tree.speaks_for_an_agent(int(sys.argv[1])))"
CHILD = "import os, sys; os.spawnve(os.P_WAIT, '/bin/sh', ['sh', '-c', 'echo $$; read line; exit 0'], {})"


def judged(pid: int) -> bool:
    words = subprocess.run([sys.executable, "-c", JUDGE, str(pid)], capture_output=True, text=True, check=True).stdout.strip()
    assert words in ("True", "False")
    return words == "True"


@pytest.fixture
def below(request: pytest.FixtureRequest) -> Iterator[int]:
    """A process that says nothing about itself, below one with a marker or without."""
    env = {**os.environ, **request.param}
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as parent:
        assert parent.stdout is not None
        yield int(parent.stdout.readline())
        parent.communicate(b"\n")


@pytest.mark.parametrize(("below", "agent"), [({"OPAGENT_PROCESS": "p1"}, True), ({}, False)], indirect=["below"])
def test_what_an_agent_started_speaks_for_it(below: int, agent: bool) -> None:
    assert judged(below) is agent


def test_a_person_does_not() -> None:
    assert judged(os.getpid()) is False


def test_what_is_gone_or_has_no_number_here_is_not_believed() -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert judged(gone.pid) is True
    assert judged(0) is True
