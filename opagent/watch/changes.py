"""Which files of a watched directory matter, and when one has come to rest and looks new; touches no file, reads no clock.

API: `relevant`, `Quiet` (many raw events -> one look at a path), `Signature` and `Sightings` (whether a look shows something).
(Design: "Watching".)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

REST = 0.05  # seconds without an event
LIMIT = 0.5  # seconds after the first event
BATCH = 256  # paths of one round: what follows the round waits behind it
MOST = 4096  # paths that wait; whoever adds more looks at the whole directory instead
_COARSE = 20_000_000  # ns; two writes within a tick of the file system's clock have the same time


def relevant(path: str) -> bool:
    """Whether a path (relative to the watched directory) may be a conversation: a visible `*.md` in visible directories.

    That leaves out all that editors and we put beside one: `c.md~`, `4913`, `.c.md.swp`, `.#c.md`, `#c.md#`, `sedXXXXXX`,
    `.c.md.XXXXXX`, `.opagent-*`, `*.tmp`.
    """
    return path.endswith(".md") and not path.startswith(".") and "/." not in path


class Quiet:
    """Paths that something happened to, each until nothing more has happened for a moment. `now`: monotonic seconds."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[float, float]] = {}  # path -> its first event, when it is due

    def __contains__(self, path: str) -> bool:
        return path in self._waiting

    @property
    def full(self) -> bool:
        return len(self._waiting) >= MOST

    def event(self, path: str, now: float, unfinished: bool = False) -> None:
        """`unfinished`: a file was made and its writer has yet to close it (vim calls fsync in between)."""
        first, _ = self._waiting.get(path, (now, now))
        self._waiting[path] = first, min(now + (LIMIT if unfinished else REST), first + LIMIT)

    def due(self, now: float) -> tuple[str, ...]:
        """What has come to rest or waited long enough, in the order of first events, and is forgotten here; at most BATCH."""
        found = [path for path, (_, due) in self._waiting.items() if due <= now][:BATCH]
        for path in found:
            del self._waiting[path]
        return tuple(found)

    def next_deadline(self) -> float | None:
        """When `due` has something; None while nothing waits."""
        return min((due for _, due in self._waiting.values()), default=None)


class Signature(NamedTuple):  # not a dataclass: 10,000 of them every two seconds
    """What tells two states of a file apart without reading it."""

    mtime_ns: int
    size: int
    inode: int


class Sightings:
    """What every file looked like when it was last told of, by path; `None` stands for no file."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Signature, bool]] = {}  # the bool: whether the same signature means the same content
        self._gone: dict[str, None] = {}  # whose end was told last

    def start(self, files: Mapping[str, Signature]) -> None:
        """What was there before anybody watched is no news."""
        self._seen = {path: (signature, True) for path, signature in files.items()}

    def differs(self, path: str, signature: Signature | None) -> bool:
        """Also for one that came and went between two looks: whoever made it knows it."""
        seen = self._seen.get(path)
        return signature is not None or path not in self._gone if seen is None else seen != (signature, True)

    def changed(self, files: Mapping[str, Signature]) -> Iterable[str]:
        """The paths where a whole look at the directory shows something else."""
        gone = self._seen.keys() - files.keys()
        return [*sorted(gone), *(path for path, signature in files.items() if self.differs(path, signature))]

    def note(self, path: str, signature: Signature | None, now_ns: int) -> None:
        """It is told of now; `now_ns` by the clock that stamps files."""
        if signature is None:
            self._seen.pop(path, None)
            self._gone[path] = None
            if len(self._gone) > MOST:
                del self._gone[next(iter(self._gone))]
        else:
            self._gone.pop(path, None)
            self._seen[path] = signature, abs(now_ns - signature.mtime_ns) > _COARSE
