"""Who is told of versions of a conversation file: mirrors that are there, and none that has left."""

from __future__ import annotations

import gc
import os
import weakref
from typing import Any, cast

from opagent.daemon.documents import Documents
from opagent.daemon.server import Client


def _client() -> Client:
    return Client(cast(Any, None), cast(Any, None), os.getpid(), os.geteuid())


def test_a_mirror_that_left_is_kept_no_longer_than_until_the_next_one_comes() -> None:
    """One whose line is bad comes again and again, while nothing changes here."""
    documents, left = Documents(), []
    for _ in range(3):
        client = _client()
        documents.watch(client, "/srv/docs", "/srv/docs/conversations")
        client.gone.set()
        left.append(weakref.ref(client))
        del client
    documents.watch(_client(), "/srv/docs", "/srv/docs/conversations")
    gc.collect()
    assert [each() for each in left] == [None] * 3
