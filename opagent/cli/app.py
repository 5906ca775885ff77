"""What every command works with: the global options, the output, and one connection to the daemon, made when first needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opagent.cli.output import Output, Style
from opagent.client import ASK_DEADLINE, Client
from opagent.errors import DeadlinePassed, Usage
from opagent.target import Target, machine, parse, typed_here


@dataclass(frozen=True, slots=True)
class Settings:
    """The global options, before or after the subcommand. `timeout` in seconds, None: no limit."""

    directory: str = ""
    host: str = ""
    style: Style = field(default_factory=Style)
    verbose: bool = False
    yes: bool = False
    no_input: bool = False
    timeout: float | None = None


class App:
    """One run of the command line."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.out = Output(settings.style)
        self._client: Client | None = None
        self.streams = False  # whether the result is a stream, in which the phases of a link have a place
        self.machine = machine(settings.host).machine if settings.host else ""
        self._base = settings.directory  # where relative targets begin; of the command's machine
        there = parse(self._base) if self._base and not os.path.lexists(self._base) else None
        if there is not None:  # also for a command that names no directory: it is about that machine
            self._base = self.go(there)

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = Client() if self.here else self._elsewhere()
        return self._client

    @property
    def here(self) -> bool:
        """Whether the command is about this machine."""
        return not self.machine

    def go(self, target: Target) -> str:
        """From now on the command is about that machine. Returns the path there. Raises Usage for a second machine."""
        if self.machine != target.machine and (self.machine or self._client is not None):
            raise Usage("one command, one machine", f"{self.machine or 'here'} and {target.machine}", "opagent --help")
        if self.here:
            self._base = ""  # a directory here is none there
        self.machine = target.machine
        return target.path or "~"

    def only_here(self, what: str, hint: str) -> None:
        """For what concerns this machine only. Raises Usage, with what is typed instead."""
        if not self.here:
            raise Usage(f"{what} on this machine only", f"the command is about {self.machine}", hint)

    def move(self, name: str) -> None:
        """From now on the command is about the machine of that name: the one here has said that it is there."""
        self.close()
        self._client, self.machine, self._base = None, name, ""

    def _elsewhere(self) -> Client:
        from opagent.cli.crossing import crossed

        return crossed(self)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """A request without the parameters that are None. Raises what Client.request raises."""
        given = {name: value for name, value in params.items() if value is not None}
        return self.client.request(method, given, self.settings.timeout or ASK_DEADLINE)

    def join(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """`workspace/join`. Raises what Client.request raises."""
        return self.client.join({**params, "environment": self.environment()}, self.settings.timeout or ASK_DEADLINE)

    def ask_about(self, method: str, path: str, **params: Any) -> dict[str, Any]:
        """A request about a directory; where that stands for one on another machine, about that one."""
        answer = self.ask(method, path=path, environment=self.environment(), **params)
        if "elsewhere" not in answer:
            return answer
        target = parse(self.lead(str(answer["elsewhere"]), path))
        assert target is not None
        return self.ask(method, path=self.go(target), environment=self.environment(), **params)

    def lead(self, word: str, path: str) -> str:
        """From now on the command is about the directory HOST:DIR, for which `path` here stands. Only this machine leads on.

        Raises Usage.
        """
        if not self.here or parse(word) is None:
            where = f"{self.machine}:{path}" if self.machine else path
            raise Usage(f"{where} leads on to {word}", "no second step to a machine is taken", "opagent open HOST:DIR")
        self.close()
        self._client = None
        return word

    def start_turn(
        self, conversation: Mapping[str, Any], text: str, agent: str | None = None, request: str | None = None
    ) -> dict[str, Any]:
        """Queue a turn; asked again after a lost connection it is still one turn. `{turn, place}`."""
        said = {"conversation": conversation["id"], "text": text, "agent": agent, "request": request or request_key()}
        return self.ask("turn/start", **said, environment=self.environment())

    @property
    def interactive(self) -> bool:
        """Whether a person can be asked: terminals on both ends, and nobody forbade it."""
        return not self.settings.no_input and not self.out.json and sys.stdin.isatty() and sys.stderr.isatty()

    def confirm(self, question: str) -> bool:
        """A harmless question; the default is no, `-y` says yes. Never for trust or approvals."""
        if self.settings.yes:
            return True
        return self.interactive and self.out.ask(f"{question} [y/N] ").lower() in ("y", "yes")

    def path(self, target: str | None) -> str:
        """The absolute path of a target, from -C or the current directory; links stay, the daemon resolves them.

        A target on another machine takes the command there: its path as it was written, which is looked at there.
        """
        stands = self.here and os.path.lexists(os.path.join(self._base, target or "."))
        there = parse(target) if target and not stands else None
        if there is not None:
            return self.go(there)
        if not self.here:
            return os.path.join(self._base, target) if target else self._base or "~"
        return os.path.abspath(os.path.join(self._base or ".", os.path.expanduser(target or ".")))

    def name(self, word: str) -> str:
        """As `spelled`, but a file or directory here that stands for one on another machine takes the command there."""
        path = self.spelled(word)
        stands = self.here and (os.path.isdir(path) or (path.endswith(".md") and os.path.isfile(path)))
        return self._followed(path) if stands else path

    def spelled(self, word: str) -> str:
        """An id, name or path for the daemon: a path that exists here becomes absolute, all else stays."""
        path = self.path(word)
        if not self.here:
            return path if parse(word) is not None or "/" in word or word.endswith(".md") else word
        return path if os.path.lexists(path) else word

    def _followed(self, path: str) -> str:
        """The path, or what it stands for on another machine: the id of a conversation, or a directory."""
        found = self.ask("conversation/where", path=path, environment=self.environment())
        if "elsewhere" not in found:
            return path
        there = parse(self.lead(str(found["elsewhere"]), path))
        assert there is not None
        path = self.go(there)
        return str(found.get("conversation") or path)

    def is_here(self, target: str | None) -> bool:
        """Whether a target is of this machine; one that is not takes the command where it leads."""
        self.path(target)
        return self.here

    def is_file(self, path: str) -> bool:
        """Whether it is a file; on another machine nothing is asked for that: a conversation's name tells."""
        return os.path.isfile(path) if self.here else path.endswith(".md")

    def is_directory(self, path: str, word: str | None = None) -> bool:
        """Whether it is a directory. On another machine: what `word` does not leave as an id."""
        if self.here:
            return os.path.isdir(path)
        return not path.endswith(".md") and (word is None or parse(word) is not None or "/" in word or word[:1] in (".", "~"))

    def environment(self) -> dict[str, str]:
        """What the daemon may choose from for the agent; the binding names what it takes."""
        return self.client.environment()

    def late(self, hint: str) -> DeadlinePassed:
        return DeadlinePassed("the time is over", f"waited {self.settings.timeout:g} s", self.typed(hint))

    def typed(self, hint: str) -> str:
        """A command about the command's machine, as one types it here."""
        return hint if self.here else typed_here(hint, self.machine)


def request_key() -> str:
    """What tells a request that is made again from another one (without `secrets`, whose import takes as long as a request)."""
    return os.urandom(16).hex()


def seconds(text: str, command: str = "opagent open .") -> float:
    """`90`, `90s`, `1.5m`, `2h` in seconds. Raises Usage with `command` in its hint."""
    factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    try:
        value = float(text[:-1] if factor else text) * (factor or 1)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise Usage(f"'{text}' is no length of time", "seconds, or a number with s, m or h", f"{command} --timeout 90s")
    return value
