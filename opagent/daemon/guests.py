"""Lines that a mirror brought into a file, until its editor here is known to have loaded them; reads and writes nothing.

API: `Guests`. What an editor has not loaded it cannot have deleted; which version it loaded is told by what its save shows.
"""

from __future__ import annotations

from collections.abc import Iterable

from opagent.document.lines import lines

LOADING = 2.0  # seconds after lines came in which a save without them says nothing of them


class Guests:
    """One per file. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._came: list[tuple[float, list[bytes]]] = []

    def come(self, new: Iterable[bytes], content: bytes, now: float) -> list[bytes]:
        """They stand in `content` from now on. Returns all that wait and still stand there."""
        standing = set(lines(content))
        self._came = [(at, [line for line in old if line.strip() in standing]) for at, old in [*self._came, (now, list(new))]]
        return _all(self._came)

    def loaded(self, save: bytes) -> list[bytes]:
        """Those that the editor of a save had: what came with a line that it shows, or before that. They wait no longer."""
        shown = set(lines(save))
        had = [place for place, (_, new) in enumerate(self._came, 1) if any(line.strip() in shown for line in new)]
        return self._taken(max(had, default=0))

    def late(self, now: float) -> list[bytes]:
        """Those that it could have loaded by now: the next save without them deletes them. They wait no longer."""
        return self._taken(sum(now - at >= LOADING for at, _ in self._came))

    def _taken(self, count: int) -> list[bytes]:
        taken, self._came = self._came[:count], self._came[count:]
        return _all(taken)


def _all(came: list[tuple[float, list[bytes]]]) -> list[bytes]:
    return [line for _, new in came for line in new]
