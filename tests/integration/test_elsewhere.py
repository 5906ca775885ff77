"""A directory of another machine: a real sshd, nothing of ours on it before, and the command line as at home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.sshd import Sshd, sshd
from tests.doubles.terminal import run


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    with sshd(home.parent / "there") as server:
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", server.config)
        yield server


def test_a_turn_on_a_machine_that_has_nothing_of_ours(there: Sshd) -> None:
    (there.home / "docs").mkdir()
    done = run("open", f"there:{there.home}/docs", "--agent", "echo", "-m", "hello")
    assert (done.returncode, done.stdout) == (0, "echo: hello\n"), done.stderr
