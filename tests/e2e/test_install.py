"""What strangers install: the wheel in an environment of its own, without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*argv: str | Path, cwd: Path | None = None, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in argv], cwd=cwd, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_answers_without_the_checkout(home: Path) -> None:
    wheels = home / "wheels"
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", wheels, ROOT)
    wheel = next(wheels.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "opagent/_bundled/runtimes/librarian/__main__.py", "opagent/_bundled/runtimes/echo/runtime.yaml",
        "opagent/_bundled/workspaces/docs/README.md", "opagent/binding/agent.schema.json", "opagent/py.typed",
    ):  # fmt: skip
        assert name in names
    assert not [name for name in names if "node_modules" in name or "conversations/" in name or "__pycache__" in name]
    run(sys.executable, "-m", "venv", home / "venv")
    run(home / "venv/bin/python", "-m", "pip", "install", "--quiet", wheel)
    notes = home / "notes"
    notes.mkdir()
    (notes / "cats.md").write_text("# Cats\n\n## Feeding\n\nCats are fed at seven in the morning.\n")
    opagent = home / "venv/bin/opagent"
    done = run(opagent, "open", "--agent", "librarian", "-m", "When are cats fed?", cwd=notes)
    assert "cats.md:5" in done.stdout and "seven in the morning" in done.stdout
    run(opagent, "init", "--template", "docs", home / "handbook")
    assert (home / "handbook/.agent.yaml").is_file()
    assert "style.md" in run(opagent, "open", home / "handbook", "-m", "How should headings be written?", cwd=home).stdout
    run(opagent, "daemon", "stop")
    assert os.listdir(notes / "conversations")
