"""Our runtimes that stand on libraries, installed as a person would: by the command that OpAgent prints, into this test's home."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opagent import paths
from opagent.packages import catalog

SECONDS = 240


@contextmanager
def installed(name: str) -> Iterator[Path]:
    """The folder of the installed runtime, for many tests: installing takes a few seconds. `lend` puts it into one test's home."""
    folder = Path(tempfile.mkdtemp(prefix="oa-lib-", dir="/var/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        command = catalog.install_command(catalog.find(name))
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        shutil.rmtree(folder)
        pytest.fail(f"{command}\n{done.stderr[-2000:]}", pytrace=False)
    yield folder / "data/opagent/runtimes" / name
    shutil.rmtree(folder)


def lend(folder: Path) -> str:
    """The installed runtime in the home of this test; its name. Links instead of copies would change its digest, not its code."""
    place = paths.runtime_directories()[1]
    place.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, place / folder.name, copy_function=os.link)
    return folder.name
