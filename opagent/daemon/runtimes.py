"""The catalogue of runtimes as bindings ask it: what is installed, what comes with us, what is hashed; starts nothing."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from opagent import paths
from opagent.binding.trust import RuntimeFacts
from opagent.errors import OpAgentError, RuntimeNotInstalled
from opagent.model import RuntimeSpec
from opagent.packages import catalog


class Runtimes:
    """The catalogue as the binding asks it; what is slow to find is kept for this look."""

    def __init__(self, search_path: str, workspace: str) -> None:
        self._path, self._workspace = search_path, workspace
        self._facts: dict[str, RuntimeFacts] = {}
        self._names = Names(catalog.names())

    def names(self) -> Collection[str]:
        return self._names

    def facts(self, name: str) -> RuntimeFacts:
        if name not in self._facts:
            self._facts[name] = self._find(name)
        return self._facts[name]

    def _find(self, name: str) -> RuntimeFacts:
        spec, missing = _described(name)
        metered = bool(spec.model) or spec.quirks.get("usage") is not None
        ours = spec.source == "bundled" and not spec.install
        try:
            if missing:
                raise missing
            argv = catalog.installed(spec, self._path, (self._workspace,), "{state}")
        except OpAgentError:
            return RuntimeFacts(name, runs=spec.runs, installed=False, metered=metered, ours=ours)
        if spec.origin:  # the version that counts changes when a person upgrades: what was trusted is where it comes from
            argv = tuple(word.replace(spec.package, f"{{{spec.origin}}}") for word in argv)
        return RuntimeFacts(name, argv, "", spec.runs, True, metered, ours)

    def digest(self, name: str) -> str:
        return catalog.digest(_described(name)[0])


class Names(frozenset[str]):
    """The names of the catalogue; `name@version` is one of them where `name` is: whether it is installed is told later."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.partition("@")[0])


def _described(name: str) -> tuple[RuntimeSpec, RuntimeNotInstalled | None]:
    """What the catalogue says of a runtime; of a version that is not installed, what it says of the usual one."""
    try:
        return catalog.find(name), None
    except RuntimeNotInstalled as error:
        return catalog.find(name.partition("@")[0]), error


def nearest(target: str) -> str:
    """The directory whose binding will count, before anything was read: where a runtime keeps its data depends on it."""
    start = target if os.path.isdir(target) else os.path.dirname(target)
    above = (start, *map(str, Path(start).parents))
    return next((folder for folder in above if os.path.lexists(os.path.join(folder, paths.BINDING))), start)
