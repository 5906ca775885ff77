"""Sessions of opencode for `opagent conversations import`: `~/.local/share/opencode/opencode.db`, and before version 1.2
`storage/session/PROJECT/ses_ID.json` with `storage/message/ses_ID/msg_ID.json` and `storage/part/msg_ID/prt_ID.json`.

Runs inside opagent/packages/reading.py and imports nothing of OpAgent. Session, message and part are the same in both.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

_KINDS = {
    "bash": "execute", "read": "read", "edit": "edit", "write": "edit", "patch": "edit", "apply_patch": "edit",
    "multiedit": "edit", "grep": "search", "glob": "search", "list": "search", "webfetch": "fetch", "websearch": "fetch",
    "task": "think",
}  # fmt: skip
_STATUS = {"completed": "completed", "error": "failed", "running": "stopped", "pending": "stopped"}
_SESSIONS = "select id, directory, title, parent_id, time_updated from session order by time_updated desc limit 2000"
_MESSAGES = "select id, data, time_created from message where session_id = ? order by time_created, id"
_PARTS = "select data from part where message_id = ? order by id"
_MAGIC = b"SQLite format 3\0"


def find(files: Any, directory: str) -> Iterator[dict[str, Any]]:
    top = os.path.join(files.directory("XDG_DATA_HOME", ".local", "share"), "opencode")
    database, seen = os.path.join(top, "opencode.db"), set()
    for session in _in_database(database) if os.path.isfile(database) else ():
        seen.add(session["id"])
        if session["directory"] == directory and not session["parent"]:
            yield {"id": session["id"], "file": database, "title": session["title"], "at": files.when(session["at"])}
    for path in files.newest(os.path.join(top, "storage", "session", "*", "ses_*.json")):
        info = files.load(path)
        if info.get("directory") == directory and not info.get("parentID") and info.get("id") not in seen:
            at = files.when(_times(info).get("updated"))
            yield {"id": str(info.get("id")), "file": path, "title": str(info.get("title") or ""), "at": at}


def mine(files: Any, path: str) -> bool:
    return _is_database(files, path) or str(files.load(path).get("id", "")).startswith("ses_")


def read(files: Any, path: str, ident: str) -> Iterator[dict[str, Any]]:
    if not _is_database(files, path):
        info = files.load(path)
        yield {"session": {"id": str(info.get("id")), "title": str(info.get("title") or "")}}
        yield from _said(files, _undone(info.get("revert")), _from_files(files, path, str(info.get("id"))))
        return
    with closing(_connected(path)) as database:
        query = "select title, revert from session where id = ?"
        title, revert = database.execute(query, (ident,)).fetchone() or ("", None)
        yield {"session": {"id": ident, "title": str(title or "")}}
        undone = _undone(files.parse(revert, path)) if revert else ""
        yield from _said(files, undone, _from_database(files, path, database, ident))


def _is_database(files: Any, path: str) -> bool:
    with files.open(path) as file:
        return bool(file.read(len(_MAGIC)) == _MAGIC)


def _connected(path: str) -> sqlite3.Connection:
    """For reading; without a log of writes beside it nothing is made there either."""
    way = "mode=ro" if os.path.exists(path + "-wal") else "immutable=1"
    database = sqlite3.connect(f"file:{quote(path)}?{way}", uri=True)
    database.execute("pragma trusted_schema=off")
    return database


def _in_database(path: str) -> Iterator[dict[str, Any]]:
    with closing(_connected(path)) as database:
        for ident, directory, title, parent, at in database.execute(_SESSIONS):
            yield {"id": str(ident), "directory": directory, "title": str(title or ""), "parent": parent, "at": at}


def _from_database(files: Any, path: str, database: sqlite3.Connection, session: str) -> Iterator[tuple[str, Any, list[Any]]]:
    for ident, data, _ in database.execute(_MESSAGES, (session,)):
        parts = [files.parse(row[0], path) for row in database.execute(_PARTS, (ident,))]
        yield str(ident), files.parse(data, path), parts


def _from_files(files: Any, path: str, session: str) -> Iterator[tuple[str, Any, list[Any]]]:
    storage = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(path))))
    if "/" in session or session.startswith("."):
        return
    for name in _names(os.path.join(storage, "message", session), "msg_"):
        message = files.load(os.path.join(storage, "message", session, name))
        folder = os.path.join(storage, "part", name.removesuffix(".json"))
        yield name.removesuffix(".json"), message, [files.load(os.path.join(folder, part)) for part in _names(folder, "prt_")]


def _names(folder: str, start: str) -> list[str]:
    """Ids grow with time, so their order is that of the names."""
    try:
        return sorted(name for name in os.listdir(folder) if name.startswith(start) and name.endswith(".json"))
    except OSError:
        return []


def _undone(revert: object) -> str:
    """The first message that was taken back with `/undo`, or empty."""
    return str(revert.get("messageID") or "") if isinstance(revert, dict) else ""


def _said(files: Any, undone: str, messages: Iterator[tuple[str, Any, list[Any]]]) -> Iterator[dict[str, Any]]:
    for ident, message, parts in messages:
        if undone and ident >= undone:
            return
        at, model = files.when(_times(message).get("created")), str(message.get("modelID") or "")
        for part in parts:
            yield from ({"at": at, "model": model, **each} for each in _from_part(message.get("role"), part))
        error = message.get("error")
        if isinstance(error, dict):
            data = error.get("data")
            why = str(data.get("message") or "") if isinstance(data, dict) else ""
            yield {"at": at, "end": "cancelled" if "Abort" in str(error.get("name")) else "failed", "why": why}


def _times(info: dict[str, Any]) -> dict[str, Any]:
    times = info.get("time")
    return times if isinstance(times, dict) else {}


def _from_part(role: object, part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    text = str(part.get("text") or "")
    if part.get("type") == "text" and text.strip() and not part.get("synthetic") and not part.get("ignored"):
        yield {"user" if role == "user" else "text": text}
    elif part.get("type") == "tool" and isinstance(part.get("state"), dict):
        yield {"tool": _call(part, part["state"])}


def _call(part: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    name, given = str(part.get("tool")), state.get("input")
    given = given if isinstance(given, dict) else {}
    subject = next((str(given[key]) for key in ("command", "filePath", "pattern", "url", "query") if given.get(key)), "")
    path = str(given.get("filePath") or "")
    kind = _KINDS.get(name, "other")
    diff = {"path": path, "old": str(given.get("oldString") or ""), "new": str(given.get("newString", given.get("content", "")))}
    return {
        "id": str(part.get("callID") or part.get("id") or ""), "kind": kind, "title": subject or str(state.get("title") or name),
        "status": _STATUS.get(str(state.get("status")), "stopped"), "path": path,
        "diffs": [diff] if kind == "edit" and (diff["old"] or diff["new"]) else [], "patch": str(given.get("patchText") or ""),
        "output": str(state.get("output") or state.get("error") or ""),
    }  # fmt: skip
