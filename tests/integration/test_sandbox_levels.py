"""A machine that allows no namespaces: what runs there, what is refused, and what a person is told. A real kernel says no."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from opagent import paths
from opagent.client import Client
from opagent.process import landlock, probe
from tests.doubles import runtimes
from tests.doubles.patience import PATIENCE

OPAGENT = (sys.executable, "-m", "opagent")
HANDS = Path(__file__).parents[1] / "doubles/hands.py"
# in a namespace of our own we may say that there are no more of them
WITHOUT = ("unshare", "-Ur", "sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces; cd "$1"; shift; exec "$@"', "sh")


@pytest.fixture
def notes(home: Path) -> Path:
    folder = home / "notes"
    folder.mkdir()
    (folder / "a.md").write_text("The answer is forty-two.\n")
    return folder


def there(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command where no namespaces can be made, and the end of the daemon that it started."""
    script = '"$@"; status=$?; "$0" -m opagent daemon stop >&2; exit $status'
    command = [*WITHOUT, str(folder), "sh", "-c", script, sys.executable, *OPAGENT, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)


def test_without_namespaces_it_is_landlock_and_one_line_says_so(notes: Path) -> None:
    assert landlock.abi(), "the kernel of the gate has Landlock"
    done = there(notes, "open", ".", "--agent", "librarian", "-m", "what is the answer?")
    assert done.returncode == 0 and "forty-two" in done.stdout
    [line] = [line for line in done.stderr.splitlines() if "held at level" in line]
    assert "landlock" in line and "sysctl" in line


def test_a_required_level_that_is_not_to_be_had_is_refused(notes: Path) -> None:
    (notes / ".agent.yaml").write_text("agent: librarian\nsandbox: {level: strict}\n")
    done = there(notes, "open", ".", "-m", "what is the answer?")
    assert done.returncode != 0 and "forty-two" not in done.stdout
    assert "strict is required" in done.stderr and ".agent.yaml:2" in done.stderr and "try: " in done.stderr


def test_doctor_says_what_the_machine_can_do_and_what_helps(notes: Path) -> None:
    checks = json.loads(there(notes, "doctor", "--json").stdout)["checks"]
    [found] = [each for each in checks if each["name"] == "sandbox" and "level" in each["sentence"]]
    assert found["ok"] is None and "landlock" in found["sentence"] and "sysctl" in found["hint"]


def test_what_was_found_out_is_kept_until_the_program_changes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_known", {})  # another test of this process may have asked
    assert probe.strict()
    kept = json.loads(paths.sandbox_probe().read_text())
    assert kept["program"] == probe.strict().program and len(kept["key"]) == 6
    again = subprocess.run([sys.executable, "-c", "from opagent.process import probe; probe._try = None; print(bool(probe.strict()))"],
                           capture_output=True, text=True, check=True)  # fmt: skip
    assert again.stdout == "True\n"


def test_off_in_a_binding_is_a_mistake(notes: Path) -> None:
    runtimes.put("hands", sys.executable, "-I", "-S", str(HANDS))
    (notes / ".agent.yaml").write_text("agent: hands\nsandbox: {level: off}\n")
    done = subprocess.run([*OPAGENT, "explain", str(notes)], capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.returncode == 2 and "only in your own configuration" in done.stderr


def test_what_a_killed_daemon_left_of_a_probe_is_ended(home: Path) -> None:
    left = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={"OPAGENT_PROCESS": probe.mark()}, start_new_session=True
    )
    with left, Client("test"):
        try:
            assert left.wait(PATIENCE) == -signal.SIGKILL
        finally:
            left.kill()
