"""The tables of the database as an append-only list of steps; a step that was released is never edited, only followed."""

from __future__ import annotations

import sqlite3

from opagent.errors import StoreFailed

APPLICATION = 0x4F504147  # "OPAG" in the file's header: another program's database is refused, not migrated

_FIRST = (
    # head: the exact JSON bytes of who, what, when; body: the content, may be purged; sum = sha256(content) and stays;
    # link = sha256(link before || head || sum). security.md, "Audit and journal".
    """create table journal(
         seq integer primary key, conversation text, n integer, kind text not null, ref integer,
         head blob not null, body blob, sum blob not null, link blob not null) strict""",
    "create unique index journal_conversation on journal(conversation, n) where conversation is not null",
    """create table conversation(
         id text primary key, workspace text not null, path text not null, agent text not null, title text not null,
         created text not null, acp_session text, state text not null) strict""",
    "create index conversation_path on conversation(path)",
    "create index conversation_workspace on conversation(workspace)",
    """create table turn(
         number integer primary key, id text not null, conversation text not null, message text not null, author text not null,
         text text not null, state text not null, queued_at text not null, ended_at text, reason text, usage text not null,
         request text) strict""",
    "create unique index turn_id on turn(conversation, id)",
    "create unique index turn_request on turn(conversation, request) where request is not null",
    "create index turn_open on turn(state) where state in ('queued', 'running', 'waiting')",
    "create index turn_short_id on turn(id)",
    """create table approval(
         id text primary key, conversation text not null, turn text, process text not null, rpc_id text not null,
         kind text not null, subject text not null, digest text not null, options text not null, asked_at text not null,
         expires_at text, state text not null, answer text, answered_by text, answered_at text, reason text, rule text) strict""",
    "create unique index approval_request on approval(process, rpc_id)",
    "create index approval_pending on approval(asked_at) where state = 'pending'",
    "create index approval_conversation on approval(conversation)",
    """create table trust(
         path text primary key, digest text not null, state text not null, at text not null, by text not null,
         shown text not null) strict""",
    """create table process(
         id text primary key, pid integer not null, started real not null, boot text not null, conversation text,
         workspace text not null, runtime text not null, agent text not null, state text not null, since text not null,
         restarts integer not null, reason text) strict""",
    "create index process_live on process(state) where state not in ('stopped', 'failed')",
    """create table remembered(
         number integer primary key, binding text not null, conversation text, agent text not null, kind text not null,
         pattern text not null, effect text not null, at text not null, by text not null) strict""",
    "create unique index remembered_key on remembered(binding, agent, kind, pattern, ifnull(conversation, ''))",
)

_SECOND = ("alter table turn add column agent text",)  # of a turn that another agent than the conversation's takes

_THIRD = (  # other machines
    """create table machine(
         name text primary key, target text not null, settings text not null, identity text not null, facts text not null,
         transport text not null, seen_at text not null, rows text not null) strict""",
    "create index turn_of_request on turn(request) where request is not null",
)

_FOURTH = (  # directories whose conversations live on another machine
    """create table mirror(
         directory text primary key, machine text not null, path text not null, conversations text not null,
         at text not null) strict""",
)

_REMEMBERED = (  # which answer it was, of which directory, and how its pattern reads: people look at these rows
    "alter table remembered add column approval text",
    "alter table remembered add column workspace text not null default ''",
    "alter table remembered add column shown text not null default ''",
)


_EFFECTS = (  # what was done or granted: `seq` and `ended` are numbers of the journal
    """create table effect(
         id integer primary key, seq integer not null, kind text not null, state text not null, conversation text, turn text,
         agent text, process text, path text, call text, approval text, at text not null, ended integer) strict""",
    "create index effect_seq on effect(seq)",
    "create index effect_ended on effect(ended) where ended is not null",
    "create index effect_pending on effect(seq) where state = 'pending'",
    "create index effect_path on effect(path) where path is not null",
    "create index effect_turn on effect(conversation, turn)",
    # where the journals of other machines ended when they said it
    """create table kept_head(
         machine text primary key, host text not null, seq integer not null, link text not null, at text not null) strict""",
    # of the rows that are audit only: an event costs no more than before
    "create index journal_audit on journal(kind, seq) where n is null",
)


_BUDGETS = (
    # source: `counted` stands against a limit, `reported` and `metered` say where it comes from; amounts as in policy/budget.py
    """create table ledger(
         per text not null, name text not null, window text not null, metric text not null, source text not null,
         used integer not null, primary key (per, name, window, metric, source)) strict""",
    """create table reservation(
         turn text not null, per text not null, name text not null, window text not null, metric text not null,
         amount integer not null, primary key (turn, per, name, window, metric)) strict""",
    "create index reservation_key on reservation(per, name, window, metric)",
    """create table raised(
         number integer primary key, per text not null, name text not null, window text not null, metric text not null,
         amount integer not null, at text not null, by text not null) strict""",
    "create index raised_key on raised(per, name, window, metric)",
    # a turn; without `ended` it runs. null: nobody said. estimated: metrics of which nobody said anything, doubts: why numbers
    # were not taken as they came
    """create table spent(
         turn text primary key, conversation text not null, workspace text not null, agent text not null, model text not null,
         session text not null, day text not null, begun text not null, ended text, wall integer not null default 0,
         tool_calls integer not null default 0, tokens integer not null default 0, cost integer not null default 0,
         currency text not null default '', reported_input integer, reported_output integer, reported_cost integer,
         metered_input integer, metered_output integer, metered_cost integer, estimated text not null default '',
         doubts text not null default '') strict""",
    "create index spent_begun on spent(begun)",
    "create index spent_workspace on spent(workspace, begun)",
    "create index spent_session on spent(session)",
    "create index spent_open on spent(turn) where ended is null",
)

# of MCP servers. agreed, content: as a person agreed to it; seen, now: as the server said it last, '' once it is gone
_TOOLS: tuple[str, ...] = (
    """create table tool_server(
         workspace text not null, server text not null, at text not null, primary key (workspace, server)) strict""",
    """create table tool(
         workspace text not null, server text not null, name text not null, agreed text not null, content text not null,
         seen text not null, now text not null, state text not null, at text not null, by text not null,
         primary key (workspace, server, name)) strict""",
)

STEPS: tuple[tuple[str, ...], ...] = (_FIRST, _SECOND, _THIRD, _FOURTH, _REMEMBERED, _EFFECTS, _BUDGETS, _TOOLS)


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("pragma user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, steps: tuple[tuple[str, ...], ...] = STEPS) -> None:
    """Take every step the file has not seen, each in a transaction of its own; a crash between two of them is harmless.

    Raises StoreFailed for a file of a newer version or of another program, sqlite3.Error as it comes.
    """
    present = version(connection)
    if present > len(steps):
        raise StoreFailed(
            "the database was written by a newer OpAgent",
            f"its version is {present}, this one knows {len(steps)}",
            "upgrade opagent, or set OPAGENT_STATE_DIR to another directory",
        )
    owner = int(connection.execute("pragma application_id").fetchone()[0])
    if owner != APPLICATION and (present or connection.execute("select 1 from sqlite_schema").fetchone()):
        raise StoreFailed("the database belongs to another program", f"application id {owner:#x}", "set OPAGENT_STATE_DIR")
    for number in range(present, len(steps)):
        connection.execute("begin immediate")
        try:
            for statement in steps[number]:
                connection.execute(statement)
            connection.execute(f"pragma application_id={APPLICATION}")
            connection.execute(f"pragma user_version={number + 1}")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("rollback")
            raise
        connection.execute("commit")
