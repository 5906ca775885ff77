"""What a mirror remembers of one file over a restart, as a file of `.opagent/mirror/`; merges nothing, asks nobody.

API: `State`, `load`, `store`, `known`. One file a conversation: a line of JSON, then the versions that it names. A version
whose digest is another one than the line says counts as unknown: then nothing is taken for deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from opagent import files, paths
from opagent.document import frontmatter
from opagent.document.delta import shared_ends
from opagent.document.records import file_digest
from opagent.errors import OpAgentError

DIRECTORY = "mirror"  # beneath `.opagent/`
PAST = 4  # versions that are kept besides
_LIMIT = 64 << 20  # bytes of a file of ours


@dataclass(slots=True)
class State:
    """`path` beneath the directory of conversations. Of the versions, an empty one is none.

    `base`: what both sides had last; `past`: what stood in the file before it, newest first; `seen`: the last one that some
    editor is known to have loaded; `coming`: one that is about to be put into the file.
    """

    path: str
    base: bytes = b""
    seen: bytes = b""
    coming: bytes = b""
    past: tuple[bytes, ...] = ()
    refused: str = ""  # digest of a save that was not taken there
    left: bool = False  # somebody took the file away here
    new: bool = False  # it was begun here, and nobody there knows it yet


def folder(workspace: Path) -> Path:
    """Made where it is missing. Raises NotPrivate."""
    return files.private_directory(workspace / paths.WORK / DIRECTORY)


def store(directory: Path, ident: str, state: State) -> None:
    """Whole or not at all; for a crash of the daemon, not for a power cut: then digests tell."""
    others = [state.seen, state.coming, *state.past]
    ends = [shared_ends(state.base, content) for content in others]
    between = [content[head : len(content) - tail] for content, (head, tail) in zip(others, ends, strict=True)]
    facts = zip(ends, between, others, strict=True)
    said = {
        "path": state.path, "refused": state.refused, "left": state.left, "new": state.new,
        "base": [len(state.base), _digest(state.base)],
        "others": [[head, tail, len(part), _digest(content)] for (head, tail), part, content in facts],
    }  # fmt: skip
    files.write_whole(directory / ident, b"".join((json.dumps(said).encode(), b"\n", state.base, *between)), sync=False)


def _digest(content: bytes) -> str:
    return file_digest(content) if content else ""


def load(directory: Path, ident: str) -> State | None:
    """None where there is none that can be read."""
    try:
        head, _, rest = files.read_file(directory / ident, _LIMIT).partition(b"\n")
        said = json.loads(head)
        state = State(str(said["path"]), refused=str(said["refused"]), left=bool(said["left"]), new=bool(said["new"]))
        size, digest = said["base"]
        base, rest = rest[:size], rest[size:]
        state.base = base if _digest(base) == digest else b""
        others = []
        for start, end, length, digest in said["others"]:
            content, rest = base[:start] + rest[:length] + base[len(base) - end :], rest[length:]
            others.append(content if _digest(content) == digest else b"")
        state.seen, state.coming, *past = others
        state.past = tuple(filter(None, past))
    except (OSError, OpAgentError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return state


def known(directory: Path) -> Iterator[tuple[str, State]]:
    """All of them."""
    for path in sorted(directory.iterdir()):
        if frontmatter.is_id(path.name) and (state := load(directory, path.name)):
            yield path.name, state
