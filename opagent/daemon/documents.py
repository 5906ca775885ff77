"""What conversation files hold, for their mirrors on other machines: who is told of a new version, and versions they may have.

API: `Documents`, one per daemon. Knows no method and reads no file.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING

from opagent import control, jsonrpc
from opagent.document.records import file_digest

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.server import Client

VERSIONS, VERSIONS_BYTES = 64, 32 * 2**20  # that are kept in memory because a mirror may name one as its base


class Documents:
    def __init__(self) -> None:
        self._watching: dict[Client, dict[str, str]] = {}  # client -> workspace -> its directory of conversations
        self._told: dict[str, tuple[str, str | None]] = {}  # conversation -> path and digest, as they were last told
        self._last: dict[str, bytes | None] = {}  # the content that the digest is of, while the conversation has it too
        self._versions: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    # ---- who is told -----------------------------------------------------------------------------------------------------

    def watch(self, client: Client, workspace: str, folder: str) -> None:
        """From now on the client hears of every version of a conversation file there."""
        for other in [other for other in self._watching if other.gone.is_set()]:
            self.leave(other)
        self._watching.setdefault(client, {})[workspace] = folder

    def leave(self, client: Client) -> None:
        self._watching.pop(client, None)
        if not self._watching:
            self._told.clear()
            self._last.clear()

    def look(self, c: Conversation) -> None:
        """The consumer of a conversation has done something: whoever watches hears it if the file holds something else now."""
        ident, content = c.record.id, c.versions.standing_content
        if not self._watching or c.versions.memory is None:
            self._last.pop(ident, None)
            return
        path, (known, digest) = c.record.path, self._told.get(ident, ("", None))
        if path == known and ident in self._last and self._last[ident] is content:
            return
        self._last[ident] = content
        before, digest = (known, digest), None if content is None else self.keep(content)
        if before == (path, digest) and ident in self._told:
            return
        self._told[ident] = path, digest
        for client, folders in list(self._watching.items()):
            if folder := folders.get(c.record.workspace):
                self._tell(client, {"conversation": ident, "path": os.path.relpath(path, folder), "digest": digest})

    def _tell(self, client: Client, note: dict[str, object]) -> None:
        """A mirror that reads nothing is told nothing: it lists again when it comes back."""
        if client.writer.is_closing() or client.unread > control.UNREAD_LIMIT:
            client.writer.close()
            self.leave(client)
        else:
            client.send(jsonrpc.encode(jsonrpc.Notification("document", note)))

    # ---- versions --------------------------------------------------------------------------------------------------------

    def keep(self, content: bytes) -> str:
        """Returns its digest, by which `version` gives it back for a while."""
        digest = file_digest(content)
        if digest in self._versions:
            self._versions.move_to_end(digest)
            return digest
        self._versions[digest] = content
        self._bytes += len(content)
        while len(self._versions) > VERSIONS or self._bytes > VERSIONS_BYTES:
            self._bytes -= len(self._versions.popitem(last=False)[1])
        return digest

    def version(self, digest: str) -> bytes | None:
        return self._versions.get(digest)
