"""Heads of the journal: a number and its link, sealed with a key and kept in the chain; made and checked here, sent by nobody.

A head says: up to this row the journal was this one. Kept elsewhere it shows one that was rewritten or cut. The seal is
weaker: its key lies beside the database (0600), open to every program of this user that no sandbox confines.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opagent import files
from opagent.store import chain
from opagent.store.chain import AuditKind, Draft, Head

_SIZE = 32
_SAID = re.compile(r"(?<![\w:])(?:(\d{1,15}):)?([0-9a-f]{64})(?![\w:])")


def key(path: Path) -> bytes:
    """The key of this state directory, made when there is none. Raises OSError, FileRefused."""
    try:
        found = files.read_file(path, 1024)
    except FileNotFoundError:
        found = secrets.token_bytes(_SIZE)
        files.private_directory(path.parent)
        files.write_whole(path, found)
    return found


def known_key(path: Path) -> bytes | None:
    """The key, where there is one that can be read; None makes none."""
    try:
        return files.read_file(path, 1024) or None
    except OSError:
        return None


def seal(secret: bytes, head: Head, at: str) -> str:
    return hmac.new(secret, f"{head.seq}:{head.link.hex()}:{at}".encode(), hashlib.sha256).hexdigest()


def draft(head: Head, at: str, secret: bytes | None) -> Draft:
    """The row that keeps a head: it is the next one after it."""
    obj = {"seq": head.seq, "link": head.link.hex(), "at": at}
    return Draft(
        AuditKind.AUDIT_HEAD,
        who={"daemon": os.getpid()},
        facts={"obj": obj | ({"mac": seal(secret, head, at)} if secret else {})},
    )


def problem(said: Mapping[str, Any], before: Head, secret: bytes | None) -> str | None:
    """What is wrong with the head in a row that follows `before`."""
    try:
        obj = said["obj"]
        head, at, mac = Head(int(obj["seq"]), bytes.fromhex(obj["link"])), str(obj["at"]), obj.get("mac")
    except (KeyError, TypeError, ValueError):
        return "it holds no head"
    if head != before:
        return f"its head is not the row before, {before.seq}"
    if secret is not None and mac is not None and not hmac.compare_digest(seal(secret, head, at), str(mac)):
        return "its seal does not fit: it was not made with the key of this state directory"
    return None


def read(text: str) -> list[tuple[int | None, str]]:
    """The heads in any text: `SEQ:LINK` or a bare LINK, as `audit verify` prints them and as a log has them."""
    return [(int(seq) if seq else None, link) for seq, link in _SAID.findall(text)]


def last(connection: sqlite3.Connection) -> Head:
    """The newest head that is kept in the chain."""
    query = "select head from journal where kind = ? and n is null order by seq desc limit 1"
    row = connection.execute(query, (AuditKind.AUDIT_HEAD.value,)).fetchone()
    if row is None:
        return Head(0, chain.START)
    obj = json.loads(row[0])["obj"]
    return Head(int(obj["seq"]), bytes.fromhex(obj["link"]))


def link_at(connection: sqlite3.Connection, seq: int) -> str | None:
    row = connection.execute("select link from journal where seq = ?", (seq,)).fetchone()
    return row[0].hex() if row else None


def keep(connection: sqlite3.Connection, machine: str, host: str, head: tuple[int, str], at: str) -> None:
    """The last head that another machine has said."""
    connection.execute("insert or replace into kept_head values(?, ?, ?, ?, ?)", (machine, host, *head, at))


def kept(connection: sqlite3.Connection, machine: str) -> tuple[str, int, str, str] | None:
    """Host id, number, link and when, of what another machine said last."""
    row = connection.execute("select host, seq, link, at from kept_head where machine = ?", (machine,)).fetchone()
    return tuple(row) if row else None


def forget(connection: sqlite3.Connection, machine: str) -> None:
    connection.execute("delete from kept_head where machine = ?", (machine,))
