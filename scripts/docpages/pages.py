"""Which pages and which parts of pages are generated, and what they would be now. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from docpages import commandline, faults, holding, keys, life, tables
from docpages.page import replace

ROOT = tables.ROOT

WHOLE: dict[str, Callable[[], str]] = {
    "docs/reference/command-line.md": commandline.reference,
    "docs/reference/agent-yaml.md": keys.binding,
    "docs/reference/runtime-yaml.md": keys.runtime,
    "docs/reference/errors.md": tables.errors,
    "docs/reference/environment.md": tables.environment,
    "docs/reference/files.md": tables.files,
    "docs/reference/control-protocol.md": tables.protocol,
    "docs/reference/events.md": tables.events,
    "docs/reference/runtimes.md": tables.runtimes,
    "docs/design/faults.md": faults.listed,
}
PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("docs/concepts/process-life.md", "states"): life.diagram,
    ("docs/concepts/process-life.md", "restarts"): life.restarts,
    ("docs/concepts/process-life.md", "deadlines"): life.deadlines,
    ("docs/concepts/limits.md", "limits"): holding.limits,
    ("docs/concepts/landlock.md", "gaps"): holding.gaps,
    ("docs/concepts/landlock.md", "versions"): holding.versions,
    ("docs/concepts/secrets.md", "shapes"): tables.shapes,
}


def made() -> dict[Path, str]:
    """Every generated page as it should be. Raises ValueError for a page without the place of its part."""
    found = {ROOT / name: make() for name, make in WHOLE.items()}
    for (name, part), make in PARTS.items():
        path = ROOT / name
        found[path] = replace(found.get(path) or path.read_text("utf-8"), part, make())
    return found


def stale() -> list[Path]:
    return [path for path, text in made().items() if not path.is_file() or path.read_text("utf-8") != text]
