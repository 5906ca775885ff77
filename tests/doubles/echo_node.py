"""Installs the Node echo agent as its README says: a copy of the folder, and `npm ci` in it; never inside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "runtimes/echo-node"


def install(directory: Path) -> Path:
    """A ready package in `directory/echo-node`. npm reads the configuration of the real home: call it from a session fixture."""
    package = directory / "echo-node"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=package, capture_output=True, text=True, timeout=100, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    return package
