"""`opagent conversations export`: a conversation as plain Markdown or as JSON, out of its file; the log is not asked."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opagent import files
from opagent.cli.app import App
from opagent.cli.command import CONVERSATION, Command, pass_app
from opagent.errors import ConversationNotFound, FileRefused

if TYPE_CHECKING:
    from opagent.document.export import Read

_LIMIT = 16 << 20  # bytes


@click.command(cls=Command, example="opagent conversations export k7q2 -o intro.md", exits=(0, 1, 2, 4))
@click.argument("conversation", metavar="ID", type=CONVERSATION)
@click.option("-o", "--output", metavar="FILE", help="Write it there instead of to stdout; an older file is replaced.")
@pass_app
def export(app: App, conversation: str, output: str | None) -> None:
    """Print a conversation as Markdown without markers, or its turns with --json.

    What stands in the file and its parts is exported: turns as you edited them, without your draft and your notes between turns.
    """
    from opagent.document import frontmatter  # not for the commands beside this one
    from opagent.document.export import markdown

    path, content, read = _local(app, conversation) if app.is_here(conversation) else _distant(app, conversation)
    if not frontmatter.is_conversation(content):
        raise ConversationNotFound(f"{path} is no conversation", "its front matter names none", "opagent conversations")

    described = _described(content, read) if app.out.json else {}
    if output is not None:
        text = json.dumps(described, indent=2, ensure_ascii=False) + "\n" if described else markdown(content, read)
        _write(os.path.abspath(os.path.join(app.settings.directory if app.here else "", output)), text.encode("utf-8", "replace"))
        app.out.talk(f"wrote {output}")
    elif described:
        app.out.result(described)
    else:
        app.out.data(markdown(content, read).rstrip("\n"))


def _local(app: App, word: str) -> tuple[str, bytes, Read]:
    path = app.path(word)
    if not os.path.isfile(path):
        path = app.ask("conversation/show", conversation=word, limit=0, turns=0)["conversation"]["path"]

    def read(part: str) -> bytes | None:
        older = os.path.join(os.path.dirname(path), part)
        return content_of(older) if os.path.isfile(older) else None

    return path, content_of(path), read


def _distant(app: App, word: str) -> tuple[str, bytes, Read]:
    """The daemon there reads: a path from another machine is no path here."""

    def text(part: str | None) -> dict[str, Any]:
        return app.ask("conversation/text", conversation=app.name(word), part=part)

    def read(part: str) -> bytes | None:
        found = text(part)["text"]
        return None if found is None else str(found).encode()

    whole = text(None)
    return str(whole["path"]), str(whole["text"]).encode(), read


def _described(content: bytes, read: Read) -> dict[str, object]:
    from opagent.document import frontmatter
    from opagent.document.export import entries

    keys = ("conversation", "title", "agent", "created", "forked_from")
    facts = {key: value for key in keys if (value := frontmatter.get(content, key))}
    return {**facts, "turns": list(entries(content, read))}


def content_of(path: str) -> bytes:
    """The bytes of a conversation's file. Raises FileRefused."""
    try:
        return files.read_file(path, _LIMIT)
    except FileNotFoundError as error:
        raise FileRefused(f"{path} is gone", "", f"opagent conversations rebuild {shlex.quote(path)}") from error
    except OSError as error:
        raise FileRefused(f"{path} cannot be read", error.strerror or str(error), f"ls -l {shlex.quote(path)}") from error


def _write(path: str, content: bytes) -> None:
    try:
        files.write_whole(Path(path), content, 0o666, sync=False)
    except OSError as error:
        raise FileRefused(f"{path} cannot be written", error.strerror or str(error), f"ls -ld {shlex.quote(path)}") from error
