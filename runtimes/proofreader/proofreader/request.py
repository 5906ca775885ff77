"""What a prompt asks for: which files, or which text, and whether to correct. It looks which names exist; it reads nothing."""

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from proofreader.files import is_prose
from proofreader.wire import Message

_FIX = re.compile(r"\b(fix|correct|repair|apply|amend)(es|s|ed)?\b", re.IGNORECASE)
_NOT = re.compile(r"\b(do ?n[o']t|don’t|without|never|no)\s+(\w+ing|fix|correct|repair|apply|amend|changes?)", re.IGNORECASE)
_QUOTED = re.compile(r"""["“”'‘’`]{1,3}""")
_AROUND = "\"'`“”‘’()<>,;:!?"
_HELP = re.compile(r"\s*/?(help|hello|hi)\W*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Request:
    """`paths` are relative to the workspace; `missing` were named and are not there; `passage` is a text of the prompt itself."""

    paths: tuple[str, ...]
    missing: tuple[str, ...]
    passage: str
    fix: bool
    help: bool


def read(blocks: Any, root: str) -> Request:
    """Reads the content blocks of a prompt."""
    texts, paths, passages = [], [], []
    for block in blocks if isinstance(blocks, list) else []:
        if not isinstance(block, dict):
            continue
        if isinstance(block.get("text"), str):
            texts.append(block["text"])
        resource = block["resource"] if isinstance(block.get("resource"), dict) else {}
        uri = block.get("uri") or resource.get("uri")
        if isinstance(uri, str) and uri.startswith("opagent://"):
            continue  # what OpAgent tells every agent: instructions, the conversation so far
        path = _below(root, uri)
        if path is not None:
            paths.append(path)
        elif isinstance(resource.get("text"), str):
            passages.append(resource["text"])
    words = "\n".join(texts)
    first, _, rest = words.strip().partition("\n")
    named, missing = _named(first if rest.strip() else words, root)
    if not (named or paths or missing) and rest.strip():
        named = tuple(path for path in _named(rest, root)[0] if "/" in path or is_prose(path))
    if not (named or paths or passages or missing):
        passages += [rest.strip("\r\n")] if rest.strip() else _quoted(first)
    fix = bool(_FIX.search(first)) and not _NOT.search(first)
    found = tuple(dict.fromkeys([*named, *paths]))
    return Request(found, missing, "\n".join(passages), fix, bool(_HELP.fullmatch(words)))


def _below(root: str, uri: object) -> str | None:
    """A file of the workspace as a path in it."""
    if not isinstance(uri, str) or not uri.startswith("file://") or "\0" in uri:
        return None
    return inside(root, unquote(urlsplit(uri).path))


def inside(root: str, path: str) -> str | None:
    """A path relative to the workspace ("" for itself); None for one outside it."""
    relative = os.path.relpath(os.path.join(root, path), root)
    return None if relative.split("/")[0] == ".." else "" if relative == "." else relative


def _named(words: str, root: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found, missing = [], []
    for word in _candidates(words):
        path = inside(root, word)
        if path is not None and (os.path.lexists(os.path.join(root, path)) and (word != "." or path == "")):
            found.append(path)
        elif path is None or "/" in word.strip("/") or (is_prose(word) and "." in word):
            missing.append(word)
    return tuple(dict.fromkeys(found)), tuple(dict.fromkeys(missing))


def _candidates(words: str) -> Iterator[str]:
    for number, word in enumerate(words.split()):
        if number == 0 and word.startswith("/"):
            continue  # a command
        bare = word.strip(_AROUND)
        bare = bare if bare in (".", "..") else bare.rstrip("." + _AROUND)
        bare = bare.removeprefix("@") or bare
        if bare and "://" not in bare and "\0" not in bare:
            yield posixpath.normpath(bare) if bare.startswith("./") else bare


def _quoted(line: str) -> list[str]:
    """A text that stands in quotation marks in the only line, or behind a colon."""
    marks = list(_QUOTED.finditer(line))
    if len(marks) >= 2 and marks[-1].start() - marks[0].end() > 2:
        return [line[marks[0].end() : marks[-1].start()]]
    _, colon, rest = line.partition(": ")
    return [rest] if colon and len(rest.split()) > 2 else []


_HINT = {"hint": "[FILE or DIRECTORY ...]"}
COMMANDS: tuple[Message, ...] = (
    {"name": "check", "description": "Spelling and style, each with file and line", "input": _HINT},
    {"name": "fix", "description": "The same, and corrections of spelling after asking", "input": _HINT},
)
