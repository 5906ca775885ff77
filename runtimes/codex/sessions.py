"""Sessions of Codex for `opagent conversations import`: `~/.codex/sessions/YYYY/MM/DD/rollout-TIME-ID.jsonl`, one record a line.

Runs inside opagent/packages/reading.py and imports nothing of OpAgent. The format is internal to its maker; what is relied on
here was seen in versions 0.20 to 0.154. What was said stands there twice or three times, as an event and as an item of the
model's context, in no fixed order.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

_HEAD = 60  # records in which a session shows what it is
_NEWEST = 300  # files that are looked at for those of a directory
_CONTEXT = (  # how a message begins that the program, not a person, put into the context
    "<environment_context", "<user_instructions", "<permissions", "<turn_aborted", "<user_shell_command", "<skill", "<apps_",
    "# AGENTS.md", "<INSTRUCTIONS", "<collaboration_mode", "<model_switch", "<subagent_notification",
)  # fmt: skip
_REQUEST = "## My request for Codex:"  # an editor's context stands before it
_SHELLS = ("shell", "shell_command", "exec_command", "local_shell", "container.exec", "write_stdin")
_KINDS = {"apply_patch": "edit", "view_image": "read", "web_search": "fetch", "spawn_agent": "think"}
_FILE = re.compile(r"^\*\*\* (?:Add|Update|Delete) File: (.+)$", re.MULTILINE)
_EXIT = re.compile(r"\A(?:Exit code|.*?Process exited with code):? (-?\d+)", re.DOTALL)


def find(files: Any, directory: str) -> Iterator[dict[str, Any]]:
    top = os.path.join(files.directory("CODEX_HOME", ".codex"), "sessions")
    paths = files.newest(os.path.join(top, "*/*/*/rollout-*.jsonl"), os.path.join(top, "rollout-*.jsonl"), limit=_NEWEST)
    for path in paths:
        meta = next((_meta(record) for record in files.lines(path, 1)), {})
        if meta.get("cwd") != directory or not isinstance(meta.get("source", ""), str):
            continue  # elsewhere, or what a session handed to another agent
        title = next((each["user"] for each in _said(files, path, 400) if "user" in each), "")
        if title:
            at = files.when(files.changed(path) * 1000)
            yield {"id": str(meta.get("id")), "file": path, "title": title.splitlines()[0], "at": at}


def mine(files: Any, path: str) -> bool:
    known = ("session_meta", "response_item", "event_msg")
    records = list(files.lines(path, _HEAD))
    return any((r.get("type") in known and "payload" in r) or ("instructions" in r and "timestamp" in r) for r in records)


def read(files: Any, path: str, ident: str) -> Iterator[dict[str, Any]]:
    meta = next((_meta(record) for record in files.lines(path, 1)), {})
    yield {"session": {"id": str(meta.get("id") or "")}}
    yield from _said(files, path)


def _meta(record: dict[str, Any]) -> dict[str, Any]:
    payload = record.get("payload")
    return payload if isinstance(payload, dict) else record  # the first versions had no payload


def _said(files: Any, path: str, limit: int = 0) -> Iterator[dict[str, Any]]:
    """What was said and done; the same words again, with nothing in between, are the same record once more."""
    model, last = "", ("", "")
    for record in files.lines(path, limit):
        item = _meta(record)
        if record.get("type") == "turn_context":
            model = str(item.get("model") or model)
        for each in _items(item):
            kind = next(iter(each))
            if kind in ("user", "text"):
                if last == (kind, each[kind]):
                    continue
                last = (kind, each[kind])
            else:
                last = ("", "")
            yield {"at": files.when(record.get("timestamp")), "model": model, **each}


def _items(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    kind = item.get("type")
    inner = item.get("item") if isinstance(item.get("item"), dict) else {}
    if kind == "message" and item.get("role") == "user":
        yield from _user(_text(item.get("content")))
    elif kind == "message" and item.get("role") == "assistant":
        yield from _agent(_text(item.get("content")))
    elif kind == "user_message":
        yield from _user(str(item.get("message", "")))
    elif kind == "agent_message":
        yield from _agent(str(item.get("message", "")))
    elif kind == "item_completed" and inner.get("type") == "UserMessage":
        yield from _user(_text(inner.get("content")))
    elif kind == "item_completed" and inner.get("type") == "AgentMessage":
        yield from _agent(_text(inner.get("content")) or str(inner.get("text", "")))
    elif kind in ("function_call", "custom_tool_call", "local_shell_call", "web_search_call"):
        yield {"tool": _call(item)}
    elif kind in ("function_call_output", "custom_tool_call_output"):
        yield {"tool": _output(item)}
    elif kind == "turn_aborted":
        yield {"end": "cancelled"}


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n\n".join(str(part.get("text", "")) for part in parts if isinstance(part, dict) and "text" in part)


def _user(text: str) -> Iterator[dict[str, Any]]:
    text = text.rpartition(_REQUEST)[2].strip()
    if text and not text.startswith(_CONTEXT):
        yield {"user": text}


def _agent(text: str) -> Iterator[dict[str, Any]]:
    if text.strip():
        yield {"text": text}


def _call(item: dict[str, Any]) -> dict[str, Any]:
    name = str(item.get("name") or str(item.get("type")).removesuffix("_call"))
    given = item.get("arguments", item.get("input", item.get("action", "")))
    words = _parsed(given)
    ident = str(item.get("call_id") or item.get("id") or "")
    call = {"id": ident, "kind": _KINDS.get(name, "other"), "title": name, "status": str(item.get("status") or "pending")}
    if name in _SHELLS:
        command = words.get("command", words.get("cmd", words.get("chars", "")))
        line = command[-1] if isinstance(command, list) and len(command) == 3 and command[1] in ("-c", "-lc") else command
        call |= {"kind": "execute", "title": " ".join(map(str, line)) if isinstance(line, list) else str(line)}
    elif name == "apply_patch" or "*** Begin Patch" in str(given):
        patch = str(given) if not words else str(words.get("input", words.get("patch", "")))
        paths = _FILE.findall(patch)
        call |= {"kind": "edit", "title": ", ".join(paths), "path": paths[0] if paths else "", "patch": patch}
    elif name == "web_search":
        call |= {"title": str(words.get("query") or words.get("url") or name)}
    return call


def _parsed(given: object) -> dict[str, Any]:
    """The arguments of a call, which are JSON in a text or an object already."""
    if isinstance(given, dict):
        return given
    try:
        found = json.loads(str(given))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _output(item: dict[str, Any]) -> dict[str, Any]:
    given = item.get("output")
    words = _parsed(given) if isinstance(given, str) else given if isinstance(given, dict) else {}
    text = str(words["output"]) if "output" in words else str(words.get("content", "")) if words else _text(given)
    text = text or (given if isinstance(given, str) else "")
    meta = words.get("metadata")
    code = meta.get("exit_code") if isinstance(meta, dict) else None
    if code is None and (found := _EXIT.match(text[:500])):
        code = int(found[1])
    failed = words.get("success") is False or (code or 0) != 0
    return {"id": str(item.get("call_id") or ""), "status": "failed" if failed else "completed", "output": text}
