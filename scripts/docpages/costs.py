"""What each core dependency costs to import as OpAgent does it, measured against an interpreter that imports nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib import metadata

from docpages.page import code, table
from docpages.tables import dependencies

MODULES = {"pyyaml": "yaml", "markdown-it-py": "markdown_it", "rich": "rich.markdown", "watchdog": "watchdog.observers.inotify"}
RUNS = 15


def measured() -> str:
    """A table: the quickest of several fresh interpreters, in milliseconds above an empty one."""
    empty = _quickest("pass")
    rows = []
    for name in dependencies():
        module = MODULES.get(name, name.replace("-", "_"))
        rows.append((code(name), metadata.version(name), f"{_quickest(f'import {module}') - empty:.0f} ms"))
    return f"an empty interpreter: {empty:.0f} ms\n\n" + table(("dependency", "version", "import"), rows)


def _quickest(statement: str) -> float:
    return min(_milliseconds(statement) for _ in range(RUNS))


def _milliseconds(statement: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", statement], check=True)
    return (time.perf_counter() - begun) * 1000
