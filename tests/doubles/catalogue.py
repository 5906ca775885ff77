"""A catalogue of runtimes in memory, and trees of bindings on disk, for tests of bindings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from opagent.binding.trust import RuntimeFacts


class Catalogue:
    """`librarian` and `assistant` are installed, `absent` is not.

    `runner` executes `.tool.json` and `hooks/` of a workspace, `silent` reports no usage, `foreign` is not ours.
    """

    def __init__(self) -> None:
        self.digests = {"librarian": "d1", "assistant": "d2", "absent": "d3", "runner": "d4", "silent": "d5", "foreign": "d6"}

    def names(self) -> Collection[str]:
        return self.digests

    def facts(self, name: str) -> RuntimeFacts:
        runs = (".tool.json", "hooks") if name == "runner" else ()
        return RuntimeFacts(
            name,
            (f"/usr/bin/{name}", "--acp"),
            runs=runs,
            installed=name != "absent",
            metered=name != "silent",
            ours=name != "foreign",
        )

    def digest(self, name: str) -> str:
        return self.digests[name]


def tree(root: Path, files: Mapping[str, str]) -> Path:
    """Writes files below a directory; a name without suffix is a directory and stands for its `.agent.yaml`."""
    for name, text in files.items():
        path = root / name
        if not path.suffix and not path.name.startswith("."):
            path = path / ".agent.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
