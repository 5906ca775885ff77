"""Contents too large for a row of the journal, one file each, named by their sha256; knows nothing of events."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from opagent import files

LARGE = 256 * 1024  # bytes; a larger body goes here


class Blobs:
    """`cas/ab/cdef...` beside the database. A content that is there already is not written again."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        return self.root / digest[:2] / digest[2:]

    def put(self, content: bytes) -> str:
        """Durable when it returns (fsync of the file and of both directories): the row that names it is committed later."""
        digest = hashlib.sha256(content).hexdigest()
        path = self.path(digest)
        if path.exists():
            return digest
        files.private_directory(self.root)
        files.private_directory(path.parent)
        files.write_whole(path, content)
        for folder in (path.parent, self.root):
            with files.directory(folder) as fd:
                os.fsync(fd)
        return digest

    def get(self, digest: str) -> bytes | None:
        """The content, or None when it was purged."""
        try:
            return self.path(digest).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)
