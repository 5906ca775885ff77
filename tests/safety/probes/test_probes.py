"""Some eighty ways out, tried as the agent: all refused at `strict`; at `landlock` exactly those get out that `explain` lists.

Twice where the tests run as root: as root, whom the kernel refuses less, and as a user without any rights. Each probe is seen to
succeed without a sandbox. What this machine has no way to try is skipped with its reason, and never passes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from opagent.process import landlock
from opagent.process.gaps import gaps
from opagent.process.profile import Level, Profile
from opagent.process.sandbox import BWRAP
from tests.safety.probes.attempts import ATTEMPTS
from tests.safety.probes.running import Result
from tests.safety.probes.table import PROBES, Probe

ROOT = Path(__file__).parents[3]
SYSTEM_PYTHON = "/usr/bin/python3"
Results = Mapping[str, Result]
USERS = ("root", "user") if os.geteuid() == 0 else ("user",)
every = pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)


@pytest.fixture(scope="module", params=USERS)
def user(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def strict(user: str) -> Results:
    if not os.access(BWRAP, os.X_OK):
        pytest.skip("not run: bubblewrap is not installed")
    return results(user, Level.STRICT)


@pytest.fixture(scope="module")
def weaker(user: str) -> Results:
    if not landlock.abi():
        pytest.skip("not run: this kernel has no Landlock")
    return results(user, Level.LANDLOCK)


@pytest.fixture(scope="module")
def bare(user: str) -> Results:
    return results(user, Level.OFF)


def results(user: str, level: Level) -> Results:
    """In a process of that user."""
    command, python = [], sys.executable
    if user == "user" and os.geteuid() == 0:
        python = SYSTEM_PYTHON
        command = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]
        if subprocess.run(
            [*command, python, "-c", f"import sys; sys.version_info >= (3, 11) or exit(1); open({__file__!r})"]
        ).returncode:
            pytest.skip(f"not run: a plain user has no Python 3.11 here, or cannot read {ROOT}")
    with tempfile.TemporaryDirectory(prefix="oa-", dir="/var/tmp") as home:
        Path(home).chmod(0o777)
        env = {"PATH": "/usr/bin:/bin", "HOME": home, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"}
        argv = [*command, python, "-m", "tests.safety.probes.running", level.value, "--json"]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, cwd=home)
    assert done.returncode == 0, done.stderr
    return {name: Result(*each) for name, each in json.loads(done.stdout).items()}


def excuse(probe: Probe, user: str) -> None:
    if user == "root" and probe.needs_user:
        pytest.skip(f"not run as root: {probe.needs_user}")


@every
def test_strict_refuses(strict: Results, probe: Probe, user: str) -> None:
    excuse(probe, user)
    assert not strict[probe.name].escaped, strict[probe.name].said


@every
def test_landlock_refuses_what_explain_does_not_list(weaker: Results, probe: Probe, user: str) -> None:
    listed = {gap.code for gap in gaps(Profile("/"), landlock.abi())}
    expected = (probe.landlock or {"cut": "truncate", "signal": "signals"}.get(probe.name)) in listed
    if expected and weaker[probe.name].missing:
        pytest.skip(f"not run: {weaker[probe.name].said}")
    assert weaker[probe.name].escaped == expected, weaker[probe.name].said


@every
def test_without_a_sandbox_it_gets_out(bare: Results, probe: Probe, user: str) -> None:
    if probe.bare:
        pytest.skip(f"not run without a sandbox: {probe.bare}")
    if probe.root and user != "root":
        pytest.skip("not run: the kernel refuses it to a plain user")
    if bare[probe.name].missing:
        pytest.skip(f"not run: {bare[probe.name].said}")
    assert bare[probe.name].escaped, bare[probe.name].said


def test_the_table_is_whole() -> None:
    names = [probe.name for probe in PROBES]
    assert sorted(names) == sorted(set(names))
    assert set(names) == set(ATTEMPTS)
    assert len(names) >= 50
    assert {probe.landlock for probe in PROBES} - {""} == {gap.code for gap in gaps(Profile("/"), 6)}


@pytest.fixture(autouse=True)
def home() -> Iterator[None]:
    """Their worlds are their own."""
    yield
