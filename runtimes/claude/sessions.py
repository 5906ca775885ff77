"""Sessions of Claude Code for `opagent conversations import`: `~/.claude/projects/DIRECTORY/SESSION.jsonl`, one record a line.

Runs inside opagent/packages/reading.py and imports nothing of OpAgent. The format is not documented by its maker; what is
relied on here was seen in versions 1.0 to 2.1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

_HEAD = 60  # records in which a session shows what it is
_SLUG = 200  # characters of a directory's name; longer ones end in a hash
_KINDS = {
    "Bash": "execute", "Read": "read", "Edit": "edit", "MultiEdit": "edit", "Write": "edit", "NotebookEdit": "edit",
    "Grep": "search", "Glob": "search", "WebFetch": "fetch", "WebSearch": "fetch", "Task": "think", "Agent": "think",
}  # fmt: skip
_SUBJECTS = ("command", "file_path", "notebook_path", "pattern", "url", "query", "description", "prompt")
_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>\s*", re.DOTALL)
_TAG = re.compile(r"<(command-name|command-args|bash-input)>(.*?)</\1>", re.DOTALL)
_PROGRAM = ("<command-", "<local-command-", "<bash-", "<task-notification")  # how a message of the program itself begins
_INTERRUPTED = "[Request interrupted by user"


def find(files: Any, directory: str) -> Iterator[dict[str, Any]]:
    slug = re.sub(r"[^a-zA-Z0-9]", "-", directory)
    name = slug if len(slug) <= _SLUG else slug[:_SLUG] + "-*"
    projects = os.path.join(files.directory("CLAUDE_CONFIG_DIR", ".claude"), "projects")
    for path in files.newest(os.path.join(projects, name, "*.jsonl")):
        if os.path.basename(path).startswith("agent-"):
            continue  # what a session handed to another agent
        title, _ = _survey(files.lines(path, 400))
        if title:
            yield {"id": _ident(path), "file": path, "title": title, "at": files.when(files.changed(path) * 1000)}


def mine(files: Any, path: str) -> bool:
    return any(_message(record) for record in files.lines(path, _HEAD))


def read(files: Any, path: str, ident: str) -> Iterator[dict[str, Any]]:
    title, last_prompt = _survey(files.lines(path))
    yield {"session": {"id": _ident(path), "title": title}}
    left: set[str] = set()  # records of a branch that was rewound: another prompt was given in its place
    for record in files.lines(path):
        parent, uuid = (str(record.get(key) or "") for key in ("parentUuid", "uuid"))
        if parent in left or (_prompt(record) and last_prompt.get(parent, uuid) != uuid):
            left.add(uuid)
            continue
        said = _from_user(record) if record.get("type") == "user" else _from_model(record)
        yield from ({"at": files.when(record.get("timestamp")), **each} for each in said)


def _ident(path: str) -> str:
    return os.path.basename(path).removesuffix(".jsonl")


def _survey(records: Iterable[dict[str, Any]]) -> tuple[str, dict[str, str]]:
    """The title that was given, that the program made, or the first line that was typed; and for each record that a prompt
    follows, the last one: an earlier one was taken back."""
    given = made = first = ""
    last_prompt: dict[str, str] = {}
    for record in records:
        given, made = str(record.get("customTitle") or given), str(record.get("aiTitle") or made)
        if text := _prompt(record):
            first = first or ("" if text.startswith(("/", "!")) else text.splitlines()[0])
            if record.get("parentUuid"):
                last_prompt[str(record["parentUuid"])] = str(record.get("uuid") or "")
    return given or made or first, last_prompt


def _message(record: dict[str, Any]) -> dict[str, Any]:
    """What a person or the model said; empty for records of the program, and for what other agents did."""
    message = record.get("message")
    hidden = record.get("isSidechain") or record.get("isMeta") or record.get("isCompactSummary")
    known = record.get("type") in ("user", "assistant") and isinstance(message, dict)
    return message if known and not hidden else {}


def _blocks(content: object) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _text(content: object, between: str) -> str:
    return between.join(str(block.get("text", "")) for block in _blocks(content) if block.get("type") == "text")


def _typed(record: dict[str, Any]) -> str:
    """The words of a person in a record, commands as they were typed; empty for what the program put there."""
    if record.get("type") != "user":
        return ""
    text = _REMINDER.sub("", _text(_message(record).get("content"), "\n\n")).strip()
    if not text.startswith(_PROGRAM):
        return text
    parts = {name: value.strip() for name, value in _TAG.findall(text)}
    command = " ".join(filter(None, (parts.get("command-name"), parts.get("command-args"))))
    return command or ("!" + parts["bash-input"] if "bash-input" in parts else "")


def _prompt(record: dict[str, Any]) -> str:
    text = _typed(record)
    return "" if text.startswith(_INTERRUPTED) else text


def _from_user(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for block in _blocks(_message(record).get("content")):
        if block.get("type") == "tool_result":
            status = "failed" if block.get("is_error") else "completed"
            output = _text(block.get("content"), "\n")
            yield {"tool": {"id": str(block.get("tool_use_id")), "status": status, "output": output}}
    text = _typed(record)
    if text.startswith(_INTERRUPTED):
        yield {"end": "cancelled"}
    elif text:
        yield {"user": text}


def _from_model(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    message = _message(record)
    model = str(message.get("model") or "")
    for block in _blocks(message.get("content")):
        if block.get("type") == "text":
            yield {"text": str(block.get("text", "")), "model": "" if model.startswith("<") else model}
        elif block.get("type") == "tool_use":
            yield {"tool": _call(block)}


def _call(block: dict[str, Any]) -> dict[str, Any]:
    name, given = str(block.get("name")), block.get("input")
    given = given if isinstance(given, dict) else {}
    subject = next((str(given[key]) for key in _SUBJECTS if given.get(key)), "")
    title = subject if name in _KINDS and subject else f"{name} {subject}".strip()
    call = {"id": str(block.get("id")), "kind": _KINDS.get(name, "other"), "title": title, "status": "pending"}
    path = str(given.get("file_path") or given.get("notebook_path") or "")
    edits = given["edits"] if isinstance(given.get("edits"), list) else [given]
    diffs = [_diff(path, edit) for edit in edits if call["kind"] == "edit" and isinstance(edit, dict)]
    return {**call, "path": path, "diffs": diffs}


def _diff(path: str, edit: dict[str, Any]) -> dict[str, str]:
    new = edit.get("new_string", edit.get("content", edit.get("new_source", "")))
    return {"path": path, "old": str(edit.get("old_string") or ""), "new": str(new)}
