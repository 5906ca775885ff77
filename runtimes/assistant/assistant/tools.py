"""The tools of our own: one table. What changes something asks first; what a sandbox forbids comes back as its error."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from assistant import files, running
from assistant.edit import NotExact, replaced
from assistant.files import ToolFailed
from assistant.talk import Body, Tool

SHELL = "/bin/sh"
SECONDS, MOST_SECONDS = 120, 1800
Arguments = dict[str, Any]
# asks a person: what is shown (ACP content of a tool call). Raises ToolFailed where the answer is no.
May = Callable[[list[Body]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Hands:
    """What a tool works with. `limit`: characters of its answer."""

    root: str
    may: May
    limit: int


@dataclass(frozen=True, slots=True)
class Builtin:
    """`kind`: of ACP. `changes`: not offered in the mode `plan`. `title`: what a person sees of a call."""

    tool: Tool
    kind: str
    changes: bool
    title: Callable[[Arguments], str]
    work: Callable[[Hands, Arguments], Awaitable[str]]


def arguments(text: str) -> Arguments:
    """Raises ToolFailed."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise ToolFailed(f"the arguments are no valid JSON ({error}); send the call again") from error
    if not isinstance(found, dict):
        raise ToolFailed("the arguments are no JSON object")
    return found


def word(given: Arguments, name: str, default: str | None = None) -> str:
    value = given.get(name, default)
    if not isinstance(value, str):
        raise ToolFailed(f"`{name}` must be a text")
    return value


def count(given: Arguments, name: str, default: int, most: int) -> int:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 10**9:
        raise ToolFailed(f"`{name}` must be a number from 1 on")
    return min(int(value), most)


async def _read(hands: Hands, given: Arguments) -> str:
    path = files.resolve(hands.root, word(given, "path"))
    return files.numbered(files.text(path), count(given, "start", 1, 10**9), count(given, "lines", 2000, 10_000), hands.limit)


async def _list(hands: Hands, given: Arguments) -> str:
    folder = files.resolve(hands.root, word(given, "path", "."))
    found = await asyncio.to_thread(files.listed, hands.root, folder, word(given, "pattern", ""))  # a large tree takes a while
    return running.bounded(found, hands.limit)


async def _search(hands: Hands, given: Arguments) -> str:
    """grep: it takes no time without end for any pattern, and can be ended."""
    path = files.resolve(hands.root, word(given, "path", "."))
    skipped = [f"--exclude-dir={name}" for name in sorted(files.SKIPPED)]
    only = [f"--include={word(given, 'files')}"] if "files" in given else []
    argv = ["grep", "-rnIE", *skipped, *only, "-e", word(given, "pattern"), "--", files.shown(hands.root, path)]
    status, output = await running.run(argv, hands.root, 60, hands.limit)
    if status == 1:
        return "[nothing found]"
    if status:
        raise ToolFailed(output.strip() or f"grep ended with {status}")
    return output.replace("\n./", "\n").removeprefix("./")


async def _edit(hands: Hands, given: Arguments) -> str:
    path = files.resolve(hands.root, word(given, "path"))
    before = files.text(path)
    try:
        after = replaced(before, word(given, "old"), word(given, "new"), given.get("all") is True)
    except NotExact as error:
        raise ToolFailed(str(error)) from error
    await hands.may([_diff(path, before, after)])
    files.write(path, before, after)
    return f"{files.shown(hands.root, path)} is changed"


async def _write(hands: Hands, given: Arguments) -> str:
    path = files.resolve(hands.root, word(given, "path"))
    after = word(given, "text")
    before = files.text(path) if os.path.lexists(path) else None
    await hands.may([_diff(path, before, after)])
    files.write(path, before, after)
    return f"{files.shown(hands.root, path)} is written"


async def _run(hands: Hands, given: Arguments) -> str:
    command = word(given, "command")
    seconds = count(given, "seconds", SECONDS, MOST_SECONDS)
    await hands.may([])
    status, output = await running.run([SHELL, "-c", command], hands.root, seconds, hands.limit)
    return output if status == 0 and output else f"{output}\n[exit status {status}]".lstrip("\n")


def _diff(path: str, before: str | None, after: str) -> Body:
    return {"type": "diff", "path": path, "oldText": before, "newText": after}


def _tool(name: str, about: str, required: str, **properties: tuple[str, str]) -> Tool:
    fields = {key: {"type": kind, "description": text} for key, (kind, text) in properties.items()}
    schema = {"type": "object", "properties": fields, "required": required.split(), "additionalProperties": False}
    return Tool(name, about, schema)


_PATH = ("string", "relative to the workspace")
BUILTINS = (
    Builtin(
        _tool("read", "Lines of a text file, each with its number and a tab before it.", "path",
              path=_PATH, start=("integer", "first line, 1 when unsaid"), lines=("integer", "how many, 2000 when unsaid")),
        "read", False, lambda given: f"Read {given.get('path')}", _read,
    ),
    Builtin(
        _tool("list", "Names in a directory; with a pattern such as *.md all files below it whose name or path fits.", "",
              path=_PATH, pattern=("string", "shell pattern")),
        "search", False, lambda given: f"List {given.get('path', '.')} {given.get('pattern', '')}".strip(), _list,
    ),
    Builtin(
        _tool("search", "Lines of files that fit an extended regular expression (grep -E), as file:line:text.", "pattern",
              pattern=("string", "regular expression"), path=_PATH, files=("string", "only files of this pattern, such as *.py")),
        "search", False, lambda given: f"Search {given.get('pattern')} in {given.get('path', '.')}", _search,
    ),
    Builtin(
        _tool("edit", "Replaces a piece of a file. `old` must stand there exactly so, once; line numbers are not part of it.",
              "path old new", path=_PATH, old=("string", "the text as it is"), new=("string", "what it becomes"),
              all=("boolean", "replace every place")),
        "edit", True, lambda given: f"Edit {given.get('path')}", _edit,
    ),
    Builtin(
        _tool("write", "Writes a whole file, new or over an old one. To change a part of a file use edit.", "path text",
              path=_PATH, text=("string", "the whole content")),
        "edit", True, lambda given: f"Write {given.get('path')}", _write,
    ),
    Builtin(
        _tool("run", "Runs a shell command in the workspace; long output is cut in the middle. No input, no terminal.",
              "command", command=("string", "for /bin/sh"), seconds=("integer", "limit, 120 when unsaid")),
        "execute", True, lambda given: f"Run {given.get('command')}", _run,
    ),
)  # fmt: skip
BY_NAME = {builtin.tool.name: builtin for builtin in BUILTINS}
