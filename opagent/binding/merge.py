"""The values gathered so far, each with its origin and with what it narrowed; knows no key by name. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from opagent.model import Origin


@dataclass(slots=True)
class Merge:
    """Filled from the outermost file to the nearest. Keys are dotted paths."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    narrowed: dict[str, tuple[Origin, ...]] = field(default_factory=dict)

    def put(self, key: str, value: Any, origin: Origin) -> None:
        """The nearest wins."""
        self.values[key], self.origins[key] = value, origin

    def least(self, key: str, value: Any, origin: Origin) -> None:
        """A number only gets smaller."""
        if key not in self.values or value < self.values[key]:
            self.narrow(key, value, origin)

    def strictest(self, key: str, value: str, origin: Origin, order: Sequence[str]) -> None:
        """A word only moves on in `order`."""
        if key not in self.values or order.index(value) > order.index(self.values[key]):
            self.narrow(key, value, origin)

    def narrow(self, key: str, value: Any, origin: Origin) -> None:
        """The nearest wins and notes whose value it replaced."""
        if key in self.origins:
            self.narrowed[key] = (*self.narrowed.get(key, ()), self.origins[key])
        self.put(key, value, origin)

    def forget(self, start: str) -> None:
        """Drops the origins below a key whose whole entry is replaced."""
        for key in [key for key in self.origins if key.startswith(start)]:
            del self.origins[key]

    def section(self, name: str) -> dict[str, Any]:
        """The values below a key."""
        start = f"{name}."
        return {key[len(start) :]: value for key, value in self.values.items() if key.startswith(start)}
