"""The minimal agents: each in a copy of its own, made ready as its README says; nothing is built inside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from opagent import paths

LANGUAGES = ("python", "node", "go", "sh")


def build(folder: Path) -> None:
    """What `opagent runtime new` prints as the next step, where there is one."""
    if (folder / "go.mod").exists():
        cache = {"GOCACHE": str(folder.parent / "go-cache"), "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOTOOLCHAIN": "local"}
        argv = ["go", "build", "-o", "agent", "."]
        done = subprocess.run(
            argv, cwd=folder, env={**os.environ, **cache}, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr


def copied(directory: Path, language: str) -> Path:
    folder = directory / f"minimal-{language}"
    shutil.copytree(paths.bundled_runtimes() / folder.name, folder)
    build(folder)
    return folder
