"""By how much directories grew while turns of a conversation ran; looks only, and often no further than at the file system.

What a directory holds is counted file by file, which takes 0.1 s for 50,000 of them: only at the start of a turn, every half
minute, and when its file system has filled by much. Beyond MOST files it is what the file system holds. In memory: a daemon
that starts anew begins at nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field

from opagent.model import ConversationId, TurnId

MOST = 200_000  # files
EVERY = 30.0  # seconds
FEW = 1 << 20  # bytes that a file system fills by are no reason to count


@dataclass(slots=True)
class _Grown:
    before: int = 0  # in earlier turns
    turn: TurnId | None = None
    start: int = 0  # size when the turn began, or when the last one ended
    size: int = 0
    counted: float = 0.0  # when, monotonic
    filled: int = 0  # by the file system then
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def total(self) -> int:
        return self.before + (self.size - self.start if self.turn else 0)


class Growth:
    """Of all conversations of a daemon."""

    def __init__(self) -> None:
        self._known: dict[ConversationId, _Grown] = {}

    async def of(self, conversation: ConversationId, path: str, turn: TurnId | None, allowed: int) -> int:
        """Bytes so far, with the turn that runs now, if one does. 0 for a directory that is gone."""
        known = self._known.get(conversation)
        if known is None:
            if turn is None:
                return 0
            known = self._known[conversation] = _Grown()
        async with known.lock:
            try:
                if turn != known.turn:
                    await _turned(known, path, turn)
                elif turn is not None and _due(known, path, allowed):
                    await _count(known, path)
            except OSError:
                return 0
            return known.total

    async def earlier(self, conversation: ConversationId, path: str, allowed: int) -> int:
        """Bytes of earlier turns that are still there, while no turn runs; counted only where they are more than allowed."""
        known = self._known.get(conversation)
        if known is None:
            return 0
        async with known.lock:
            try:
                if known.total > allowed:
                    await _turned(known, path, None)
            except OSError:
                return 0
            return known.total


async def _turned(known: _Grown, path: str, turn: TurnId | None) -> None:
    """A turn ended, or began, or both. What is removed between two turns is room again."""
    last = known.size
    await _count(known, path)
    if known.turn is not None:
        known.before += known.size - known.start
    else:
        known.before -= max(0, last - known.size)
    known.before = max(0, known.before)
    known.turn, known.start = turn, known.size


def _due(known: _Grown, path: str, allowed: int) -> bool:
    """Whether it is long ago, or the file system has filled by a good part of what is left."""
    room = max(FEW, (allowed - known.total) // 4)
    return time.monotonic() - known.counted > EVERY or _filled(path) - known.filled > room


async def _count(known: _Grown, path: str) -> None:
    known.size, known.filled = await asyncio.to_thread(lambda: (size(path), _filled(path)))
    known.counted = time.monotonic()


def _filled(path: str) -> int:
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def size(path: str) -> int:
    """Bytes on the disk of what lies in a directory; no link is followed, and no other file system entered. For a thread."""
    total, files, todo = 0, 0, [path]
    try:
        device = os.stat(path).st_dev
    except FileNotFoundError:
        return 0
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    files += 1
                    total += found.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False) and found.st_dev == device:
                        todo.append(entry.path)
        except OSError:  # removed meanwhile, or not ours to read
            continue
        if files > MOST:
            return _filled(path)
    return total
