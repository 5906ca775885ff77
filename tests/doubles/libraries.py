"""Our runtimes that stand on libraries, installed as a person would: by the command that OpAgent prints, into a place of the test's.

Installing takes a few seconds: `installed` does it once for many tests, `lend` puts what came of it into the home of one.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opagent import paths
from opagent.packages import catalog
from tests.conftest import isolated

SECONDS = 240
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def installed(name: str) -> Iterator[Path]:
    """The folder of the package, to be started from."""
    folder = Path(tempfile.mkdtemp(prefix="oa-lib-", dir="/var/tmp"))
    try:
        with isolated() as home:
            command = catalog.install_command(catalog.find(name))
            command = (
                command.replace("opagent ", f"{shlex.quote(sys.executable)} -m opagent ", 1)
                if command.startswith("opagent ")
                else command
            )
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(home)}
            done = subprocess.run(
                ["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
            )
            if done.returncode:
                pytest.fail(f"{command}\n{done.stderr[-2000:]}", pytrace=False)
            package = Path(catalog.find(name).package).relative_to(paths.runtime_directories()[1])
            shutil.copytree(paths.runtime_directories()[1], folder / "all", symlinks=True)
        yield folder / "all" / package
    finally:
        shutil.rmtree(folder)


def lend(package: Path) -> None:
    """What was installed, in the home of this test."""
    source = next(parent for parent in package.parents if parent.name == "all")
    shutil.copytree(source, paths.runtime_directories()[1], symlinks=True, dirs_exist_ok=True)
