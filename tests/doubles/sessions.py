"""Sessions as other tools keep them, made by hand after the shapes that their files have; no line is from a real one."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

IDENT = "0f0e0d0c-1111-4222-8333-444455556666"
AT = "2026-02-03T04:05:{:02}.123Z"


def lines(path: Path, records: Iterable[Mapping[str, Any] | str]) -> Path:
    """A file with one record a line; a text is written as it stands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in records))
    return path


# ---- claude --------------------------------------------------------------------------------------------------------------


def claude_place(home: Path, directory: Path, ident: str = IDENT) -> Path:
    return home / ".claude/projects" / re.sub(r"[^a-zA-Z0-9]", "-", str(directory)) / f"{ident}.jsonl"


class Claude:
    """Records of one session; each follows the one before unless it says whom it follows."""

    def __init__(self, directory: Path) -> None:
        self.records: list[dict[str, Any] | str] = []
        self._base = {"isSidechain": False, "userType": "external", "cwd": str(directory), "version": "2.1.173"}
        self.last: str | None = None

    def add(self, kind: str, content: object, after: str | None = None, **more: Any) -> str:
        uuid = f"id-{len(self.records)}"
        message: dict[str, Any] = {"role": kind, "content": content}
        if kind == "assistant":
            message |= {"model": "model-1", "id": f"msg_{uuid}", "usage": {"input_tokens": 1}}
        self.records.append(
            {**self._base, "type": kind, "uuid": uuid, "parentUuid": after or self.last, "message": message,
             "timestamp": AT.format(len(self.records)), **more}
        )  # fmt: skip
        self.last = uuid
        return uuid

    def says(self, *blocks: Mapping[str, Any]) -> str:
        return self.add("assistant", list(blocks))

    def result(self, call: str, content: object, **more: Any) -> str:
        return self.add("user", [{"type": "tool_result", "tool_use_id": call, "content": content, **more}])


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def use(ident: str, name: str, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": ident, "name": name, "input": given}


def claude(directory: Path) -> list[dict[str, Any] | str]:
    """A session with tools, a rewound prompt, a command, what other agents did, an interruption, records of the program."""
    made = Claude(directory)
    made.records.append({"type": "summary", "summary": "Of another session", "leafUuid": "elsewhere"})
    made.records.append({"type": "file-history-snapshot", "messageId": "m", "snapshot": {}})
    made.add("user", "<local-command-caveat>Caveat</local-command-caveat>", isMeta=True)
    made.add("user", "Fix the login\n\n<system-reminder>\nnot typed\n</system-reminder>\nplease")
    made.says({"type": "thinking", "thinking": "secret thought"}, text("I look."))
    made.says(use("t1", "Bash", command="ls -l"))
    made.says(use("t2", "Edit", file_path=f"{directory}/login.py", old_string="a = 1", new_string="a = 2"))
    made.result("t1", "".join(f"{number}\n" for number in range(100)))
    made.result("t2", [text("The file was updated")])
    made.says(use("t3", "Read", file_path=f"{directory}/a.py"), use("t4", "mcp__server__look", what="x"))
    made.result("t3", "content")
    made.result("t4", "no such thing", is_error=True)
    end = made.says(text("Done.\n\n```py\nnever closed"))
    made.add("user", "a handed over task", isSidechain=True)
    made.add("user", "a question that was taken back", after=end)
    made.says(text("an answer that was taken back"))
    made.add(
        "user", "<command-message>review</command-message>\n<command-name>/review</command-name>\n<command-args>all</command-args>",
        after=end,
    )  # fmt: skip
    made.add("user", "<local-command-stdout>ok</local-command-stdout>")
    made.says(text("Reviewed."))
    made.add("user", "This session is being continued", isCompactSummary=True)
    made.add("user", "And now stop")
    made.says(text("I begin"))
    made.add("user", [text("[Request interrupted by user]")])
    made.records += ["{cut off", {"type": "ai-title", "aiTitle": "Login made safe", "sessionId": IDENT}]
    return made.records


# ---- codex ---------------------------------------------------------------------------------------------------------------


def codex_place(home: Path, day: str = "2026/02/03", ident: str = IDENT) -> Path:
    return home / ".codex/sessions" / day / f"rollout-{day.replace('/', '-')}T04-05-06-{ident}.jsonl"


def codex(directory: Path, **meta: Any) -> list[dict[str, Any] | str]:
    """A session as versions around 0.100 write it: each thing that is said stands there as an event and as an item."""
    said: list[tuple[str, dict[str, Any]]] = [
        ("session_meta", {"id": IDENT, "cwd": str(directory), "cli_version": "0.144.1", "source": "cli", **meta}),
        ("response_item", _message("developer", "<permissions instructions>none</permissions instructions>")),
        ("response_item", _message("user", f"# AGENTS.md instructions for {directory}\n\nbe brief")),
        ("response_item", _message("user", "<environment_context>\n  <cwd>x</cwd>\n</environment_context>")),
        ("turn_context", {"cwd": str(directory), "model": "model-2"}),
        ("response_item", _message("user", "List the files")),
        ("event_msg", {"type": "user_message", "message": "List the files", "kind": "plain"}),
        ("event_msg", {"type": "agent_reasoning", "text": "secret thought"}),
        ("response_item", {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}),
        ("response_item", _call("c1", "exec_command", {"cmd": "find . -type f", "workdir": str(directory)})),
        ("response_item", _output("c1", "Chunk ID: 1\nProcess exited with code 0\nOutput:\n./a.txt\n")),
        ("response_item", _call("c2", "shell", {"command": ["bash", "-lc", "false"]})),
        ("response_item", _output("c2", json.dumps({"output": "oh no", "metadata": {"exit_code": 1}}))),
        ("response_item", {"type": "custom_tool_call", "status": "completed", "call_id": "c3", "name": "apply_patch",
                           "input": "*** Begin Patch\n*** Add File: new.txt\n+hello\n*** End Patch"}),
        ("response_item", {"type": "custom_tool_call_output", "call_id": "c3", "output": [{"type": "output_text", "text": "Done!"}]}),
        ("event_msg", {"type": "agent_message", "message": "There is one file."}),
        ("response_item", _message("assistant", "There is one file.", "output_text")),
        ("event_msg", {"type": "token_count", "info": None}),
        ("compacted", {"message": "", "replacement_history": [_message("user", "List the files")]}),
        ("event_msg", {"type": "item_completed", "item": {"type": "UserMessage", "content": [text("## My request for Codex:\nGo on")]}}),
        ("event_msg", {"type": "user_message", "message": "# Context from my IDE\n\n## My request for Codex:\nGo on"}),
        ("event_msg", {"type": "item_completed", "item": {"type": "AgentMessage", "content": [text("I go on")]}}),
        ("event_msg", {"type": "turn_aborted", "reason": "interrupted"}),
        ("a_record_of_the_future", {"what": "ever"}),
    ]  # fmt: skip
    return [{"timestamp": AT.format(number), "type": kind, "payload": payload} for number, (kind, payload) in enumerate(said)]


def codex_first_version() -> list[dict[str, Any] | str]:
    """Without payloads, as the first versions wrote it."""
    return [
        {"id": IDENT, "timestamp": AT.format(0), "instructions": None},
        _message("user", "<environment_context>x</environment_context>"),
        {"record_type": "state"},
        _message("user", "Old question"),
        {"type": "local_shell_call", "call_id": "c1", "status": "completed", "action": {"type": "exec", "command": ["ls"]}},
        _message("assistant", "Old answer", "output_text"),
    ]


def _message(role: str, words: str, kind: str = "input_text") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": kind, "text": words}]}


def _call(ident: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function_call", "name": name, "arguments": json.dumps(given), "call_id": ident}


def _output(ident: str, words: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": ident, "output": words}


# ---- opencode ------------------------------------------------------------------------------------------------------------

SESSION = "ses_4d585107dffeO9bO3HvMdvLYyC"
_MS = 1_770_000_000_000


def _opencode() -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Messages with their parts, in order."""
    done = {"status": "completed", "title": "made", "metadata": {}, "time": {"start": _MS, "end": _MS}}
    return [
        ({"role": "user", "time": {"created": _MS}}, [{"type": "text", "text": "Make it blue"},
                                                      {"type": "text", "text": "hidden", "synthetic": True}]),
        ({"role": "assistant", "time": {"created": _MS + 1000}, "modelID": "model-3", "providerID": "p"}, [
            {"type": "step-start"},
            {"type": "reasoning", "text": "secret thought", "time": {"start": _MS}},
            {"type": "tool", "callID": "c1", "tool": "bash", "state": {**done, "input": {"command": "ls"}, "output": "a.css\n"}},
            {"type": "tool", "callID": "c2", "tool": "edit", "state": {
                **done, "input": {"filePath": "/w/a.css", "oldString": "red", "newString": "blue"}, "output": "ok"}},
            {"type": "tool", "callID": "c3", "tool": "webfetch", "state": {
                "status": "error", "input": {"url": "https://example.com"}, "error": "no network", "time": {"start": _MS}}},
            {"type": "text", "text": "It is blue."},
            {"type": "step-finish", "reason": "stop", "cost": 0.1, "tokens": {"input": 1, "output": 2}},
        ]),
        ({"role": "user", "time": {"created": _MS + 5000}}, [{"type": "text", "text": "And green?"}]),
        ({"role": "assistant", "time": {"created": _MS + 6000}, "modelID": "model-3",
          "error": {"name": "APIError", "data": {"message": "overloaded"}}}, []),
        ({"role": "user", "time": {"created": _MS + 7000}}, [{"type": "text", "text": "taken back"}]),
    ]  # fmt: skip


UNDONE = "msg_004"  # the message that the session took back


def opencode_files(home: Path, directory: Path) -> Path:
    """As versions before 1.2 kept it. Gives the session's file."""
    storage = home / ".local/share/opencode/storage"
    info = {"id": SESSION, "projectID": "global", "directory": str(directory), "title": "Blue", "version": "1.1.0",
            "time": {"created": _MS, "updated": _MS + 9000}, "revert": {"messageID": UNDONE}}  # fmt: skip
    for number, (message, parts) in enumerate(_opencode()):
        name = f"msg_{number:03}"
        _json(storage / "message" / SESSION / f"{name}.json", {"id": name, "sessionID": SESSION, **message})
        for place, part in enumerate(parts):
            _json(storage / "part" / name / f"prt_{place:03}.json", {"id": f"prt_{place:03}", "messageID": name, **part})
    return _json(storage / "session/global" / f"{SESSION}.json", info)


def _json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def opencode_database(home: Path, directory: Path) -> Path:
    """As versions from 1.2 on keep it; with a session of another directory, and one that a session handed over."""
    path = home / ".local/share/opencode/opencode.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as database:
        database.executescript(
            """pragma journal_mode = wal;
            create table session (id text primary key, project_id text not null, parent_id text, slug text not null,
              directory text not null, title text not null, version text not null, revert text,
              time_created integer not null, time_updated integer not null);
            create table message (id text primary key, session_id text not null, time_created integer not null,
              time_updated integer not null, data text not null);
            create table part (id text primary key, message_id text not null, session_id text not null,
              time_created integer not null, time_updated integer not null, data text not null);"""
        )
        for ident, parent, where in (
            (SESSION, None, directory),
            ("ses_child", SESSION, directory),
            ("ses_other", None, "/other"),
        ):
            revert = json.dumps({"messageID": UNDONE})
            row = (ident, "p", parent, "slug", str(where), "Blue", "1.18.33", revert, _MS, _MS + 9000)
            database.execute("insert into session values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        for number, (message, parts) in enumerate(_opencode()):
            name, at = f"msg_{number:03}", _MS + number
            database.execute("insert into message values (?, ?, ?, ?, ?)", (name, SESSION, at, at, json.dumps(message)))
            for place, part in enumerate(parts):
                row = (f"prt_{number:03}{place:03}", name, SESSION, at, at, json.dumps(part))
                database.execute("insert into part values (?, ?, ?, ?, ?, ?)", row)
    database.close()
    return path
