"""Runs one command line: click for the words, and the outer edge where every error becomes three lines and a status."""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import replace

import click

from opagent import paths
from opagent.cli.app import Settings
from opagent.cli.command import Table
from opagent.cli.main import ALIASES, COMMANDS
from opagent.cli.output import Output, Style, close_stdout
from opagent.errors import Bug, OpAgentError, Usage
from opagent.version import VERSION

INTERRUPTED = 130
_EXTRA = re.compile(r"extra arguments? \((.*)\)", re.DOTALL)


def root() -> Table:
    return Table(
        COMMANDS,
        ALIASES,
        help="Opens a directory with the agent that its .agent.yaml names; the conversation is a Markdown file in it.",
        params=[
            click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="The version.")
        ],
        example='opagent open ./docs -m "How should headings be written?"',
    )


def run(argv: list[str]) -> int:
    """The exit status of one command line."""
    table = root()
    context: click.Context | None = None
    try:
        if instruction := os.environ.get(paths.COMPLETION_VARIABLE):
            from opagent.cli.completion import answer

            answer(Output(Style()), table, instruction)
            return 0
        context = click.Context(table, info_name="opagent", obj=Settings(), help_option_names=["-h", "--help"])
        with context:
            words = [*argv[1:], "--help"] if argv[:1] == ["help"] else list(argv) or ["--help"]
            table.parse_args(context, words)
            status = table.invoke(context)
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _interrupted()
    except BrokenPipeError:
        close_stdout()
        return 0
    except click.ClickException as error:
        return _failed(context, argv, _usage(error))
    except OpAgentError as error:
        return _failed(context, argv, error)
    except Exception as error:  # the outer edge of the process: a bug of ours, kept in a file instead of shown
        return _failed(context, argv, _bug(context, error))


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        Output(context.find_root().obj.style).data(f"opagent {VERSION}")
        context.exit(0)


def _usage(error: click.ClickException) -> Usage:
    where = getattr(error, "ctx", None)
    command = where.command_path if where is not None else "opagent"
    if where is not None and where.info_name == "open" and (extra := _EXTRA.search(error.format_message())):
        spoken = shlex.quote(extra[1]) if set(extra[1]) & set('"$`\\!') else f'"{extra[1]}"'
        hint = f"opagent open {shlex.quote(where.params.get('target') or '.')} -m {spoken}"
        return Usage("what you say to an agent follows -m", hint=hint)
    return Usage(error.format_message().rstrip(".").replace("\n", " "), hint=f"{command} --help")


def _failed(context: click.Context | None, argv: list[str], error: OpAgentError) -> int:
    style = context.obj.style if context is not None else Style()
    if isinstance(error, Usage) and "--json" in argv:  # the words before it were wrong, and it was never looked at
        style = replace(style, format="json")
    try:
        output = Output(style)
        output.end_line()
        output.error(error)
    except BrokenPipeError:
        close_stdout()
    return error.exit


def _interrupted() -> int:
    sys.stderr.write("\n")
    return INTERRUPTED


def _bug(context: click.Context | None, error: Exception) -> Bug:
    """Appends the trace to the client's log and says where; with -v the trace is shown as well."""
    import traceback
    from datetime import UTC, datetime

    trace = "".join(traceback.format_exception(error))
    log = paths.client_log()
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(f"{datetime.now(UTC).isoformat()} opagent {VERSION} {sys.argv[1:2]}\n{trace}\n")
    except OSError:
        pass  # a full disk must not hide the bug itself
    if context is not None and context.obj.verbose:
        sys.stderr.write(trace)
    return Bug("something that should not happen happened", f"{type(error).__name__}: {error}; the details are in {log}")
