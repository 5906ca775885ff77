"""The reference of the command line, from the lazy table of commands and what click knows of each; runs no command."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from docpages.page import block, code, heading, page, table
from opagent.cli.command import EXITS, Command, Group
from opagent.cli.main import ALIASES, COMMANDS
from opagent.cli.run import root

# the options of every command say nothing about themselves in --help: there is one line for all of them
EVERYWHERE = {
    "-C": ("`-C DIR`", "Paths on the command line count from DIR, as in `git -C`."),
    "--host": ("`--host HOST`", "The command is about that machine: ids, and paths from the home directory there."),
    "--quiet": ("`-q`, `--quiet`", "No progress and no notices on stderr."),
    "--verbose": ("`-v`, `--verbose`", "More: `explain` shows the built-in rules, a bug of ours its trace."),
    "--json": ("`--json`", "stdout holds JSON only, errors too; streams are one object a line."),
    "--format": ("`--format FORMAT`", "`text`, `json`, `jsonl` (one object a line) or `ids`."),
    "--no-color": ("`--no-color`", "No colours."),
    "--yes": ("`-y`, `--yes`", "Yes to harmless questions. Never to trust, never to approvals."),
    "--no-input": ("`--no-input`", "Ask nothing, as if there were no terminal."),
    "--timeout": ("`--timeout TIME`", "Longest wait: `90`, `90s`, `1.5m`, `2h`. After it: exit code 3."),
}

INTRO = """\
Every command takes a target where it needs one: a directory, or the Markdown file of a conversation. Without one it is the
current directory. `HOST:DIR` and `ssh://[user@]host[:port]/dir` are on [another machine](../concepts/remote.md). An id may
be shortened as long as it stays unique; a conversation may also be named by its file.

The result goes to stdout, everything else to stderr. Errors are three lines: what, why, the command that helps. What the
exit codes mean stands in [errors and exit codes](errors.md)."""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and subcommand with its full name, in the order of the table."""
    table_of_commands = root()
    context = click.Context(table_of_commands, info_name="opagent")
    for name in COMMANDS:
        command = table_of_commands.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, Group):
            yield from ((f"{name} {sub}", found) for sub, found in command.commands.items())


def reference() -> str:
    found = dict(commands())
    overview = table(("command", "does"), ((f"[{code(name)}](#opagent-{name})", line) for name, (_, _, line) in COMMANDS.items()))
    return page(
        "Command line",
        "the table of commands (opagent/cli/)",
        INTRO,
        overview,
        heading(2, "Options of every command"),
        "They stand before or after the command's name.",
        table(("option", "means"), EVERYWHERE.values()),
        f"`opagent --version` prints the version, `opagent COMMAND --help` one screen about a command. {_other_names()}",
        *(part for name, command in found.items() for part in _command(name, command)),
    )


def _other_names() -> str:
    names = ", ".join(f"{code(other)} is {code(name)}" for other, name in ALIASES.items())
    return f"Other names: {names}; `ls` is `list`."


def _command(name: str, command: click.Command) -> Iterator[str]:
    yield heading(3 if " " in name else 2, code(f"opagent {name}"))
    yield inspect.cleandoc(command.help or "")
    context = click.Context(command, info_name=f"opagent {name}")
    if not isinstance(command, Group):
        yield block(" ".join([context.info_name or "", *command.collect_usage_pieces(context)]))
    elif command.default:
        yield f"Without a subcommand: {code(command.default)}."
    if rows := list(_options(command)):
        yield table(("option", "means"), rows)
    if isinstance(command, (Command, Group)) and command.example:
        yield f"Example: {code(command.example)}"
    if isinstance(command, Command):
        yield "Exit codes: " + ", ".join(f"[{exit}](errors.md#exit-code-{exit}) {EXITS[exit]}" for exit in command.exits) + "."


def _options(command: click.Command) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        if not isinstance(parameter, click.Option) or parameter.hidden:
            continue
        values = f"{'|'.join(parameter.type.choices)}" if isinstance(parameter.type, click.Choice) else parameter.metavar or "N"
        value = "" if parameter.is_flag else f" {values}"
        if parameter.metavar is None and parameter.type is click.STRING and value:
            value = f" {str(parameter.name).upper()}"
        default = f" Default: {code(parameter.default)}." if parameter.show_default and not parameter.is_flag else ""
        yield (
            ", ".join(code(f"{option}{value}") for option in (*parameter.opts, *parameter.secondary_opts)),
            (parameter.help or "") + default,
        )
