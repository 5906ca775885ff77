"""`opagent conversations import`: a conversation file, a session of another tool or a Markdown text comes here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.cli.exporting import content_of
from opagent.cli.words import age, bytes_short
from opagent.errors import Conflict, FileRefused, NotFound, Usage

if TYPE_CHECKING:
    from opagent.document.imported import Talk
    from opagent.packages.sessions import Session

COLUMNS = {"ID": "id", "TOOL": "tool", "UPDATED": "when", "TITLE": "title"}
_TITLE = 80  # characters
_LARGE = 20 << 20  # bytes; it takes more than a second
_MARKDOWN = (".md", ".markdown", ".txt")


@click.command("import", cls=Command, example="opagent conversations import --list", exits=(0, 1, 2, 4, 5), only_here=True)
@click.argument("source", required=False)
@click.option("--list", "listed", is_flag=True, help="Show the sessions that other tools kept for this directory.")
@click.option("--agent", metavar="NAME", help="The agent that goes on with it.")
@pass_app
def import_(app: App, source: str | None, listed: bool, agent: str | None) -> None:
    """Take in a conversation: a conversation file, a session of another tool (by id or file), or Markdown with headings.

    Markdown counts where headings like `## User` and `## Assistant` name who speaks. Prints the new file.
    """
    if not app.is_here(source):
        raise Usage("a conversation is taken in on this machine only", "copy the file there", app.typed("opagent open FILE.md"))
    if listed == (source is not None):
        raise Usage("name a source, or say --list", hint="opagent conversations import --help")
    if source is None:
        _list(app)
        return
    path = app.path(source)
    if os.path.isfile(path) and path.endswith(_MARKDOWN):
        _markdown(app, path, agent)
        return
    session = None if os.path.exists(path) else _found(app, source)
    _session(app, session.file if session else path, session, agent)


def _list(app: App) -> None:
    rows = [
        {"id": one.id, "tool": one.runtime.title, "runtime": one.runtime.name, "title": one.title[:_TITLE], "updated": one.at,
         "file": one.file, **({"when": age(one.at) if one.at else "-"} if app.out.format == "text" else {})}
        for one in _sessions(app)
    ]  # fmt: skip
    app.out.records("sessions", rows, COLUMNS, "no sessions of other tools for this directory")


def _sessions(app: App) -> list[Session]:
    from opagent.packages import sessions  # not for the commands beside this one

    found, problems = sessions.found(os.path.realpath(app.path(None)))
    for problem in problems:
        app.out.talk(problem)
    return found


def _found(app: App, word: str) -> Session:
    """The session of this directory with this id, or a beginning of it that is the only one."""
    fits = [one for one in _sessions(app) if one.id.startswith(word)]
    if len(fits) > 1:
        raise Conflict(
            f"'{word}' fits several sessions", ", ".join(one.id for one in fits[:4]), "opagent conversations import --list"
        )
    if not fits:
        what = f"'{word}' is no file, and no session of this directory has that id"
        raise NotFound(what, hint="opagent conversations import --list")
    return fits[0]


def _markdown(app: App, path: str, agent: str | None) -> None:
    from opagent.document import frontmatter, imported, transcript

    content = content_of(path)
    if frontmatter.is_conversation(content):
        _take(app, path, agent, os.path.basename(path), path)
        return
    talk = imported.talk(transcript.records(content, _zone()))
    _write(app, talk, agent, "agent", Path(path).stem, path)


def _session(app: App, path: str, session: Session | None, agent: str | None) -> None:
    from opagent.document import imported
    from opagent.packages import sessions

    names: list[str] = []
    if os.path.isfile(path) and os.path.getsize(path) > _LARGE:
        app.out.talk(f"reading {bytes_short(os.path.getsize(path))} ...")

    def records() -> Iterator[Mapping[str, Any]]:
        for spec, record in sessions.read(path, session):
            names[:] = [spec.name]
            yield record

    talk = imported.talk(imported.hidden(records(), _hide()), os.path.realpath(app.path(None)))
    _write(app, talk, agent, "".join(names), session.title if session else "", f"{path}#{session.id}" if session else path)


def _write(app: App, talk: Talk, agent: str | None, who: str, title: str, origin: str) -> None:
    """The talk as a conversation file, and that taken in. `who` answered in it, `title` where it has none of its own."""
    from opagent.document import imported, names
    from opagent.document.excerpt import one_line

    if not talk.turns:
        why = "no heading like `## User` says who speaks, and no session is known in it"
        raise FileRefused(f"{origin} holds no conversation", why, "opagent conversations import --help")
    title = one_line(talk.title or title or talk.turns[0].text.strip().partition("\n")[0], imported.TITLE)
    sent = talk.turns[0].sent
    header = {"conversation": str(names.new_conversation(os.urandom(16))), "title": title, "created": sent}
    speakers = imported.Names(getuser(), who or "agent", _zone())
    content, left_out = imported.written(talk.turns, header, speakers, os.urandom)
    if talk.passed_over:
        app.out.talk(f"{talk.passed_over} records could not be read and are not in it")
    if left_out:
        app.out.talk(f"the {left_out} oldest of {len(talk.turns)} turns are not in it: the file would be too large")
    day = (datetime.fromisoformat(sent) if sent else datetime.now()).strftime("%Y-%m-%d")
    with _temporary(content) as path:
        _take(app, path, agent, names.file_name(day, title, lambda name: False), origin)


@contextmanager
def _temporary(content: bytes) -> Iterator[str]:
    import tempfile  # loads what no other command needs

    with tempfile.TemporaryDirectory(prefix="opagent-") as folder:
        path = Path(folder, "conversation.md")
        path.write_bytes(content)
        yield str(path)


def _take(app: App, source: str, agent: str | None, name: str, origin: str) -> None:
    said = {"path": app.path(None), "source": source, "name": name, "origin": origin, "agent": agent}
    taken = app.ask("conversation/import", **said, environment=app.environment())
    if app.out.json:
        app.out.result(taken)
    else:
        app.out.data(taken["conversation"]["id" if app.out.format == "ids" else "path"])
    if taken["merged"]:
        app.out.talk("it was here already; the turns of both are in it now")
    if taken["clashes"]:
        raise Conflict("both files changed the same", ", ".join(taken["clashes"]), f"$EDITOR {taken['conversation']['path']}")


def _hide() -> Callable[[str], str]:
    """What the daemon does with the words of an agent: without control characters, without secrets of known values and shapes."""
    from opagent.document.clean import clean
    from opagent.policy.redact import Secrets
    from opagent.policy.spellings import secret_values

    secrets = Secrets(secret_values(os.environ))
    return lambda text: secrets.redact(clean(text))


def _zone() -> Any:
    return datetime.now().astimezone().tzinfo
