"""Commands and groups with the global options, one example and exit codes in each help, and the lazy table. Runs nothing."""

from __future__ import annotations

import functools
import importlib
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from opagent.cli.app import App, seconds
from opagent.errors import HostUnreachable, Usage

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

P = ParamSpec("P")
R = TypeVar("R")

EXITS = {
    0: "done",
    1: "error",
    2: "usage or invalid binding",
    3: "time-out",
    4: "not found",
    5: "denied by policy",
    6: "not trusted",
    7: "host unreachable",
    8: "budget reached",
    9: "waiting for approval",
    10: "agent crashed",
    70: "bug",
    130: "interrupted",
}
_NEAR, _NEARER = 0.75, 0.85  # of difflib: one slip of a finger; a word only a bit like `stop` must not lead there
_ACT = ("stop", "restart")
_MEANT = {"approve": "allow", "reject": "deny", "list": "conversations", "chat": "open", "start": "open", "status": "ps"}
FORMATS = ("text", "json", "jsonl", "ids")


# what an option says about Settings or its Style, where its own name and value do not
_MEANS: dict[str, tuple[str, Any]] = {"json": ("format", "json"), "no_color": ("color", False)}


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Global options are kept at the root, so that their place on the line does not matter; unsaid ones change nothing."""
    if value is None or value is False:
        return
    root, settings = context.find_root(), context.find_root().obj
    name, value = _MEANS.get(str(parameter.name), (str(parameter.name), value))
    if name == "timeout":
        value = seconds(value, context.command_path if context.parent else "opagent open .")
    if name in ("format", "color", "quiet"):
        root.obj = replace(settings, style=replace(settings.style, **{name: value}))
    else:
        root.obj = replace(settings, **{name: value})


def _options() -> list[click.Parameter]:
    flags = (["-q", "--quiet"], ["-v", "--verbose"], ["--json"], ["--no-color"], ["-y", "--yes"], ["--no-input"])
    values: tuple[tuple[list[str], dict[str, Any]], ...] = (
        (["-C", "directory"], {"type": TARGET}),
        (["--host"], {"shell_complete": machines}),
        (["--timeout"], {}),
        (["--format"], {"type": click.Choice(FORMATS)}),
    )
    wanted = [(names, {"is_flag": True}) for names in flags] + list(values)
    return [click.Option(names, expose_value=False, is_eager=True, hidden=True, callback=_keep, **more) for names, more in wanted]


def machines(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`shell_complete` of what names a machine."""
    return _machines(incomplete, "")


def mirrors(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`shell_complete` of what names a mirror."""
    from click.shell_completion import CompletionItem

    from opagent.cli import hostnames

    return [CompletionItem(path) for path in hostnames.mirrors(incomplete)]


def _machines(incomplete: str, after: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from opagent.cli import hostnames

    return [CompletionItem(name + after) for name in hostnames.known() if name.startswith(incomplete)]


class _Target(click.Path):
    """A path, or one on another machine: where something else fits too, a shell that completes paths itself would not show it.

    `what`: also the ids of conversations, or of processes (a list method of the daemon's).
    """

    def __init__(self, what: str = "") -> None:
        super().__init__()
        self._what = what

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if set(incomplete) & set("/:.~"):
            return super().shell_complete(ctx, param, incomplete)
        found = (_ids(ctx, self._what, incomplete) if self._what else []) + (_machines(incomplete, ":") if incomplete else [])
        if not found:
            return super().shell_complete(ctx, param, incomplete)
        from click.shell_completion import CompletionItem

        here = sorted(name for name in os.listdir() if name.startswith(incomplete)) if incomplete else []
        return found + [CompletionItem(name + "/" * os.path.isdir(name)) for name in here]


def _ids(context: click.Context, what: str, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from opagent.cli import hostnames

    said = context.find_root().obj
    found = hostnames.known_ids(what, said.host, said.directory)
    return [CompletionItem(ident, help=line) for ident, line in found if ident.startswith(incomplete)]


TARGET = _Target()
CONVERSATION, PROCESS = _Target("conversation/list"), _Target("process/list")
_GLOBAL = "-C DIR  --host HOST  -q  -v  --json  --format text|json|jsonl|ids  --no-color  -y  --no-input  --timeout 90s"


class Command(click.Command):
    """A command; `example` is one line that works, `exits` the codes it can end with, without those of the way elsewhere.

    `only_here`: it concerns this machine only.
    """

    def __init__(
        self, *args: Any, example: str = "", exits: tuple[int, ...] = (0, 1, 2), only_here: bool = False, **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self.example, self.exits = example, exits if only_here else tuple(sorted({*exits, HostUnreachable.exit}))
        self.params += _options()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _ending(formatter, self.example, self.exits)


class Group(click.Group):
    """A noun with subcommands: `ls` is `list`; without a subcommand the one named `default` runs."""

    command_class = Command

    def __init__(self, *args: Any, default: str = "", example: str = "", **more: Any) -> None:
        super().__init__(*args, **more)
        self.default, self.example = default, example
        self.params += _options()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, "list" if cmd_name == "ls" else cmd_name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        known = ctx.resilient_parsing or not args or args[0].startswith("-") or self.get_command(ctx, args[0]) is not None
        if not known:
            raise unknown(args[0], self.list_commands(ctx), f"{ctx.command_path} --help")
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = any(arg in self.commands or arg in ("ls", "--help", "-h") for arg in args)
        if self.default and not ctx.resilient_parsing and not named and (not args or args[0].startswith("-")):
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _ending(formatter, self.example, (0, 1, 2, 4))


class Later(dict[str, click.Command]):
    """Commands of a group by name -> (module below opagent.cli, attribute); a module is imported when its command is used."""

    def __init__(self, table: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(dict.fromkeys(table, click.Command("")))
        self._table = table

    def __getitem__(self, name: str) -> click.Command:
        return _imported(*self._table[name])

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401  # `dict.get` would not import

    def items(self) -> Any:
        return [(name, self[name]) for name in self]

    def values(self) -> Any:
        return [self[name] for name in self]


def _imported(module: str, attribute: str) -> click.Command:
    found = getattr(importlib.import_module(f"opagent.cli.{module}"), attribute)
    assert isinstance(found, click.Command)
    return found


class Table(Group):
    """The top level: name -> (module, attribute, one line); a module is imported when its command is used."""

    def __init__(self, table: Mapping[str, tuple[str, str, str]], aliases: Mapping[str, str], **more: Any) -> None:
        super().__init__("opagent", **more)
        self.table, self.aliases = table, aliases

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.table.get(self.aliases.get(cmd_name, cmd_name))
        if entry is None:
            return None
        return _imported(entry[0], entry[1])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        from click.shell_completion import CompletionItem

        return [CompletionItem(name, help=line) for name, (_, _, line) in self.table.items() if name.startswith(incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in self.table.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _ending(formatter, self.example, tuple(EXITS))


def unknown(word: str, known: list[str], help_command: str) -> Usage:
    """The error for a word that is no command, with the nearest one."""
    near = _close(word, known, _NEAR)
    meant = _MEANT.get(word, "")
    near = [meant] if meant in known else near if not near or near[0] not in _ACT else _close(word, near, _NEARER)
    if os.path.exists(word):
        return Usage(f"no command '{word}'", "a directory is opened with a command", f"opagent open {shlex.quote(word)}")
    return Usage(f"no command '{word}'" + (f". Did you mean '{near[0]}'?" if near else ""), hint=help_command)


def _close(word: str, known: list[str], near: float) -> list[str]:
    import difflib  # only for a word that is wrong

    return difflib.get_close_matches(word, known, 1, near)


def _ending(formatter: click.HelpFormatter, example: str, exits: tuple[int, ...]) -> None:
    formatter.write_paragraph()
    formatter.write_text(f"Everywhere: {_GLOBAL}")
    if example:
        formatter.write_paragraph()
        formatter.write(f"Example: {example}\n")
    formatter.write_paragraph()
    formatter.write_text("Exit codes: " + ", ".join(f"{code} {EXITS[code]}" for code in exits))


def app_of(context: click.Context) -> App:
    """The App of this run; made from the global options once all of them are known."""
    root = context.find_root()
    app = root.meta.get("opagent.app")
    if app is None:
        app = root.meta["opagent.app"] = App(root.obj)
        root.call_on_close(app.close)
    assert isinstance(app, App)
    return app


def pass_app(function: Callable[Concatenate[App, P], R]) -> Callable[P, R]:
    """The App as the first argument of a command."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(app_of(click.get_current_context()), *args, **kwargs)

    return call
