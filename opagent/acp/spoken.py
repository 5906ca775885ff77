"""The content blocks of an editor's prompt as the text of a turn, which a person can read in the conversation's file. Pure.

API: `pieces`, `joined`, `Image`. A link into the workspace becomes a mention (`@path`), which attaches the file; an embedded
text that is not just that file stands at the end; images are kept beside the conversation's file by whoever calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from opagent.acp.messages import as_dict, as_text
from opagent.errors import Usage

_PLAIN = re.compile(r"(?:[^\W_]|[./+-]|(?<=[^\W_])_+(?=[^\W_]))*[^\W_]")  # `_` within a word is no emphasis
_MARKUP = re.compile(r"([\\`*_&])")  # what Markdown would take for its own
_BESIDE_A_WORD = re.compile(r"[\w@./+\-]\Z")  # no mention begins behind one of these
_TICKS = re.compile(r"`{3,}")


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the prompt: its type, and its bytes in base64."""

    type: str
    data: str


@dataclass(frozen=True, slots=True)
class File:
    """A file of the workspace that is named in the middle of the words, relative to it."""

    path: str


@dataclass(frozen=True, slots=True)
class Behind:
    """A text that stands behind all words."""

    text: str


Piece: TypeAlias = str | Image | File | Behind
Same = Callable[[str, str], bool]  # whether the file at this path holds just this text


def pieces(blocks: Sequence[Any], workspace: str, same: Same) -> list[Piece]:
    """What the blocks say, in order; embedded texts at the end. Raises Usage for what no agent of ours is given."""
    found: list[Piece] = []
    behind: list[Piece] = []
    for said in map(as_dict, blocks):
        match said.get("type"):
            case "text":
                found.append(as_text(said.get("text")))
            case "image":
                found.append(Image(as_text(said.get("mimeType")), as_text(said.get("data"))))
            case "resource_link":
                found.append(_named(as_text(said.get("uri")), as_text(said.get("name")), workspace))
            case "resource":
                resource = as_dict(said.get("resource"))
                uri, text = as_text(resource.get("uri")), resource.get("text")
                named = _named(uri, "", workspace)
                found.append(named)
                whole = isinstance(named, File) and not urlsplit(uri).query and not urlsplit(uri).fragment
                if isinstance(text, str) and not (whole and same(_path(uri), text)):
                    behind.append(Behind(_embedded(uri, text, workspace)))
            case other:
                what = as_text(other) or "a block without a type"
                raise Usage(f"a prompt with {what} is not taken", "text, links, embedded texts and images are")
    return [*found, *behind]


def joined(found: Sequence[Piece], kept: Callable[[Image], str]) -> str:
    """The text of the turn. `kept`: where an image lies, from the directory of the conversation's file."""
    text = ""
    for place, piece in enumerate(found):
        follows = found[place + 1] if place + 1 < len(found) else ""
        match piece:
            case str():
                text += piece
            case File(path):
                free = not isinstance(follows, str) or not follows or follows[0].isspace()
                plain = bool(_PLAIN.fullmatch(path)) and free
                text += (" " if _BESIDE_A_WORD.search(text) else "") + _mention(path, plain)
            case Image():
                text += f"{_own_line(text)}![image]({kept(piece)})\n"
            case Behind(more):
                text += f"{_own_line(text)}{more}\n"
    return text.strip()


def _mention(path: str, plain: bool) -> str:
    return f"@{path}" if plain else '@"{}"'.format(_MARKUP.sub(r"\\\1", path))


def _own_line(text: str) -> str:
    return "" if not text else "\n" if text.endswith("\n") else "\n\n"


def _named(uri: str, name: str, workspace: str) -> Piece:
    """A mention of a file of the workspace, else a link as Markdown has it."""
    inside = _inside(uri, workspace)
    if inside and not set(inside) & set('"\n\r<>'):
        return File(inside)
    shown = name or uri.rpartition("/")[2] or uri
    return f"[{shown.replace('[', '(').replace(']', ')')}](<{uri}>)" if uri else shown


def _inside(uri: str, workspace: str) -> str:
    """The path of a file below the workspace, relative to it; empty for all else."""
    path, top = _path(uri), workspace.rstrip("/") + "/"
    return path.removeprefix(top) if workspace and path.startswith(top) and "/../" not in path + "/" else ""


def _path(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return unquote(parts.path)
    return uri if uri.startswith("/") else ""


def _embedded(uri: str, text: str, workspace: str) -> str:
    """A text of the editor, with where it comes from, in a fence that it cannot close."""
    parts = urlsplit(uri)
    where = _inside(uri, workspace) or _path(uri) or uri
    more = parts.fragment or parts.query
    fence = "`" * max([3, *(len(ticks) + 1 for ticks in _TICKS.findall(text))])
    ending = where.rpartition(".")[2] if "." in where.rpartition("/")[2] else ""
    kind = ending if ending.isalnum() else ""
    return f"From {where}{f' ({more})' if more else ''}:\n\n{fence}{kind}\n{text.rstrip()}\n{fence}"
