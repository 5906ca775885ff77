"""The catalogue of runtimes as bindings ask it: what is installed, what comes with us, what is hashed; starts nothing."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from opagent import paths
from opagent.binding.trust import RuntimeFacts
from opagent.errors import OpAgentError
from opagent.packages import catalog


class Runtimes:
    """The catalogue as the binding asks it; what is slow to find is kept for this look."""

    def __init__(self, search_path: str, workspace: str) -> None:
        self._path, self._workspace = search_path, workspace
        self._facts: dict[str, RuntimeFacts] = {}
        self._names = frozenset(catalog.names())

    def names(self) -> Collection[str]:
        return self._names

    def facts(self, name: str) -> RuntimeFacts:
        if name not in self._facts:
            self._facts[name] = self._find(name)
        return self._facts[name]

    def _find(self, name: str) -> RuntimeFacts:
        spec = catalog.find(name)
        metered = bool(spec.model) or spec.quirks.get("usage") is not None
        ours = spec.source == "bundled" and not spec.install
        try:
            argv = catalog.installed(spec, self._path, (self._workspace,), "{state}")
        except OpAgentError:
            return RuntimeFacts(name, runs=spec.runs, installed=False, metered=metered, ours=ours)
        return RuntimeFacts(name, argv, "", spec.runs, True, metered, ours)

    def digest(self, name: str) -> str:
        return catalog.digest(catalog.find(name))


def nearest(target: str) -> str:
    """The directory whose binding will count, before anything was read: where a runtime keeps its data depends on it."""
    start = target if os.path.isdir(target) else os.path.dirname(target)
    above = (start, *map(str, Path(start).parents))
    return next((folder for folder in above if os.path.lexists(os.path.join(folder, paths.BINDING))), start)
