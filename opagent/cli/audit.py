"""`opagent audit list|verify|export|backup|purge`: the record of what was done, granted and decided, and whether it is whole."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import CONVERSATION, Group, pass_app
from opagent.cli.words import home_short, state_word
from opagent.errors import Usage

COLUMNS = {"SEQ": "seq", "AT": "when", "KIND": "kind", "STATE": "said", "WHO": "by", "WHAT": "what", "RULE": "rule"}
STATES = ("pending", "done", "failed", "unknown", "seen", "denied")
_AGAIN = 1.0  # seconds between two looks of --follow
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@click.group(cls=Group, default="list", example="opagent audit list --path ./notes.md")
def audit() -> None:
    """What was done, granted and decided: by whom, by which rule, and how it ended."""


@audit.command("list", example="opagent audit list --since 2h --state unknown", exits=(0, 1, 2, 4))
@click.option("--conversation", metavar="ID", type=CONVERSATION, help="Of one conversation.")
@click.option("--agent", metavar="NAME", help="Of one agent.")
@click.option("--kind", "kinds", metavar="KIND", multiple=True, help="fs.write, fs.*, approval_answered ...; may be said again.")
@click.option("--since", metavar="TIME", help="2h, 3d, or a date.")
@click.option("--until", metavar="TIME", help="The same.")
@click.option("--path", metavar="PATH", help="Effects on a file, or on what is below a directory.")
@click.option("--state", type=click.Choice(STATES), help="How it stands.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many, the newest.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@pass_app
def list_(app: App, /, follow: bool, **said: Any) -> None:
    """List records, the newest last. Without --kind: not what was said in conversations."""
    asked = _asked(app, said)
    answer = app.ask("audit/query", **asked)
    _show(app, answer["records"], first=True, stream=follow)
    while follow:
        time.sleep(_AGAIN)
        asked |= {"after": answer["last"], "limit": 1000}
        answer = app.ask("audit/query", **asked)
        _show(app, answer["records"], first=False, stream=True)
        if answer["more"]:
            answer["last"] = answer["records"][-1]["seq"]


def _asked(app: App, said: Mapping[str, Any]) -> dict[str, Any]:
    moments = {name: moment(said[name]) for name in ("since", "until") if said[name]}
    named = {"conversation": app.name(said["conversation"])} if said["conversation"] else {}
    path = {"path": app.path(said["path"])} if said["path"] else {}
    if path and app.here:
        path["path"] = os.path.realpath(path["path"])
    rest = {name: said[name] for name in ("agent", "state", "limit") if said[name] is not None}
    return {**named, **path, **moments, **rest, **({"kinds": list(said["kinds"])} if said["kinds"] else {})}


def _show(app: App, rows: list[dict[str, Any]], first: bool, stream: bool) -> None:
    if app.out.format != "text":
        if stream:
            for row in rows:
                app.out.item(row)
        else:
            app.out.records("records", [{"id": row["seq"], **row} for row in rows], COLUMNS, "no records")
    elif stream and not first:
        for row in map(readable, rows):
            app.out.data("  ".join(str(row[key] or "-").replace("\n", " ") for key in COLUMNS.values()))
    else:
        app.out.records("records", [readable(row) for row in rows], COLUMNS, "no records")


def readable(row: Mapping[str, Any]) -> dict[str, Any]:
    """A record as a person reads it in one line."""
    who, decision, body = row.get("who") or {}, row.get("decision") or {}, row.get("body") or {}
    state = row.get("state") or body.get("state")
    by = who.get("agent") or who.get("human") or ("daemon" if "daemon" in who else "")
    rule = " ".join(str(decision[key]) for key in ("rule", "approval") if decision.get(key))
    return {
        "seq": row["seq"], "when": str(row["at"])[:19].replace("T", " "), "kind": row["kind"],
        "said": state_word(str(state)) if state else "", "by": str(by), "what": home_short(_what(row)), "rule": home_short(rule),
    }  # fmt: skip


def _what(row: Mapping[str, Any]) -> str:
    obj, body = row.get("obj") or {}, row.get("body") or {}
    command = body.get("command")
    words = " ".join(map(str, command)) if isinstance(command, list) else command
    named = (obj.get("path"), words, body.get("subject"), body.get("text"), obj.get("host"), obj.get("name"), obj.get("session"))
    first = str(next((each for each in named if each), "") or "").split("\n")[0]
    more = [str(obj[key]) for key in ("how", "code", "reason", "lacks") if obj.get(key) not in (None, "")]
    error = f"({row['error']})" if row.get("error") else ""
    ref = f"of {row['ref']}" if row.get("ref") and not first else ""
    return " ".join(filter(None, [first, *more, ref, error]))


@audit.command("verify", example="journalctl --identifier=opagent | opagent audit verify --heads -", exits=(0, 1, 2))
@click.option("--head", "heads", metavar="SEQ:LINK", multiple=True, help="A head from before; the journal must still hold it.")
@click.option("--heads", "file", type=click.File("r", errors="replace"), help="A text with such heads; - is stdin.")
@pass_app
def verify(app: App, heads: tuple[str, ...], file: Any) -> int:
    """Check that no record was changed, taken out or put in. Exit code 1 with the first bad row."""
    texts = [*heads, *([file.read(2**20)] if file is not None else [])]
    found = app.ask("audit/verify", heads=texts or None)
    if texts and not found["compared"]:
        raise Usage(
            "no head was found in what was given", "a head is SEQ:LINK, as this command prints it", "opagent audit verify"
        )
    if app.out.json:
        app.out.result(found)
    elif found["broken"]:
        app.out.data(f"broken  {found['broken']}")
        app.out.talk("Records before it are whole. The conversation files do not depend on it.")
    else:
        app.out.data(f"whole   {found['rows']} records, {found['purged']} without their contents, {found['heads']} heads")
        app.out.data(f"head    {found['head']}")
        if not texts:
            app.out.talk("Compared with no head from outside: who can write the database could have made all of it anew.")
    return 1 if found["broken"] else 0


@audit.command("export", example="opagent audit export > record.jsonl", exits=(0, 1, 2))
@click.option("--after", metavar="SEQ", type=click.IntRange(0), default=0, help="Only what follows this record.")
@pass_app
def export(app: App, after: int) -> None:
    """Write every record as it is stored, one JSON object a line."""
    for row in _all(app, after):
        app.out.item(row)


@audit.command("backup", example="opagent audit backup ~/opagent.db", exits=(0, 1, 2))
@click.argument("file", metavar="FILE")
@pass_app
def backup(app: App, file: str) -> None:
    """Copy the database as it is at this moment, while everything goes on. FILE must not be there.

    With --host it is a file of that machine. Contents above 256 KiB lie beside the database, in cas/: copy that, too.
    """
    found = app.ask("audit/backup", path=app.path(file))
    if app.out.json:
        app.out.result(found)
    else:
        app.out.data(f"{home_short(found['path'])}   {found['size']:,} bytes")


def _all(app: App, after: int) -> Iterator[dict[str, Any]]:
    while True:
        answer = app.ask("audit/query", exact=True, after=after)
        yield from answer["records"]
        if not answer["more"]:
            return
        after = answer["records"][-1]["seq"]


@audit.command("purge", example="opagent audit purge k7q2 --before 2026-01-01", exits=(0, 1, 2, 4))
@click.argument("conversation", metavar="ID", type=CONVERSATION)
@click.option("--before", metavar="TIME", help="Only what is older: 90d, or a date.")
@pass_app
def purge(app: App, conversation: str, before: str | None) -> None:
    """Remove what a conversation's records hold, for good. Who, what and when stay, and the chain stays whole."""
    word = app.name(conversation)
    if not app.confirm(f"Remove the contents of {conversation} from the record for good?"):
        raise Usage("nothing was removed", "it cannot be undone, so it must be said", f"opagent audit purge {conversation} --yes")
    found = app.ask("audit/purge", conversation=word, before=moment(before) if before else None)
    if app.out.json:
        app.out.result(found)
        return
    app.out.data(f"{found['purged']} records of {found['conversation']} have no contents any more")
    app.out.talk(f"The conversation's file is yours and stays: {home_short(found['path'])}. So does what its agent remembers.")


def moment(text: str) -> str:
    """A time as the records have it, from `2h`, `3d` or a date. Raises Usage."""
    unit = _UNITS.get(text[-1:])
    try:
        if unit is not None:
            at = datetime.now(UTC) - timedelta(**{unit: float(text[:-1])})
        else:
            at = datetime.fromisoformat(text)
            at = (at if at.tzinfo else at.astimezone()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Usage(f"'{text}' is no time", "2h, 3d, 2026-11-29 or 2026-11-29T10:00", "opagent audit list --since 2h") from error
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
