"""From a target to an opened workspace and a conversation in it; asks about trust and a missing binding at a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from opagent.cli.app import App, request_key
from opagent.errors import NoBinding, NotFound, NotTrusted, Usage

_TITLE = 80  # characters


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the person said: a directory or a conversation file, and which conversation of the directory."""

    target: str | None = None
    agent: str | None = None
    new: bool = False
    last: bool = False
    conversation: str | None = None
    which: str = "new"  # where neither says it


@dataclass(frozen=True, slots=True)
class Joined:
    """An opened workspace (the daemon's facts), the conversation in it, and the turn that was started: `{turn, place}`."""

    workspace: Mapping[str, Any]
    conversation: Mapping[str, Any]
    machine: str = ""
    started: Mapping[str, Any] | None = None

    @property
    def file(self) -> str:
        """The conversation's file, short when it lies below the current directory; with its machine when that is another."""
        path = str(self.conversation["path"])
        if self.machine:
            return f"{self.machine}:{path}"
        here = os.getcwd() + os.sep
        return path.removeprefix(here)


def join(app: App, wanted: Wanted, text: str | None = None, follow: bool = False, guest: str | None = None) -> Joined:
    """Open the workspace, take or make the conversation, and say `text` in it, if any; a new one is called after its first line.

    A person at the terminal may trust or make the binding first. A directory that stands for one on another machine leads there.
    Raises NoBinding, NotTrusted, ConversationNotFound, Usage, HostUnreachable.
    """
    if sum((wanted.new, wanted.last, wanted.conversation is not None)) > 1:
        raise Usage("--new, --last and --conversation exclude each other", hint="opagent open --help")
    path, conversation = _target(app, wanted)
    which = "last" if wanted.last else wanted.which
    params = {
        "path": path, "conversation": conversation, "which": which, "agent": wanted.agent, "title": _title(text or ""),
        "text": text, "guest": guest, "follow": follow, "request": request_key() if text else None,
    }  # fmt: skip
    given = {name: value for name, value in params.items() if value is not None}
    answer = _agreed(app, path, wanted.agent, lambda: app.join(given))
    if "elsewhere" in answer:
        there = app.lead(str(answer["elsewhere"]), path)
        return join(app, replace(wanted, target=there, conversation=answer.get("conversation")), text, follow, guest)
    started = {name: answer[name] for name in ("turn", "place")} if "turn" in answer else None
    return Joined(answer["workspace"], answer["conversation"], app.machine, started)


def opened(app: App, wanted: Wanted) -> dict[str, Any]:
    """The daemon's facts of the workspace, as `join` would open it; nothing is said in it and no conversation made."""
    path, _ = _target(app, wanted)
    about = {"path": path, "agent": wanted.agent, "environment": app.environment()}
    return _agreed(app, path, wanted.agent, lambda: app.ask("workspace/open", **about))


def _agreed(app: App, path: str, agent: str | None, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is asked for, once a person at the terminal has trusted or made the binding, where that is missing."""
    try:
        return ask()
    except NotTrusted:
        if not app.interactive or not trusted(app, path, agent):
            raise
    except NoBinding:
        if not app.interactive or not _init(app, path):
            raise
    return ask()


def _title(text: str) -> str | None:
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first[:_TITLE] or None


def last_conversation(app: App, path: str) -> dict[str, Any] | None:
    """The conversation of the workspace that something happened in last."""
    found: list[dict[str, Any]] = app.ask_about("conversation/list", path)["conversations"]
    return max(found, key=lambda one: str(one.get("updated") or one.get("created") or ""), default=None)


def _target(app: App, wanted: Wanted) -> tuple[str, str | None]:
    """The directory, and the conversation that the target or the option names."""
    path = app.path(wanted.target)
    if app.is_file(path):
        if not path.endswith(".md"):
            raise Usage(f"{path} is no directory and no conversation", hint="opagent open --help")
        return path, path
    if not app.is_directory(path):
        raise NotFound(f"{path} does not exist", hint="opagent open --help")
    return path, app.spelled(wanted.conversation) if wanted.conversation is not None else None


def trusted(app: App, path: str, agent: str | None) -> bool:
    """Put the exact question of the binding to the person; nothing but the word itself is a yes."""
    shown = app.ask("trust/show", path=path, agent=agent, environment=app.environment())
    for line in shown["question"]:
        app.out.talk(str(line))
    if shown.get("difference"):  # last, next to the answer: a yes to it is a yes to what is new
        app.out.talk("\nThis binding has changed since you trusted it:")
        app.out.talk(str(shown["difference"]))
    if app.out.ask("Trust this binding? [y/N] ").lower() not in ("y", "yes"):
        return False
    app.ask("trust/grant", path=shown["path"], digest=shown["digest"], agent=agent, environment=app.environment())
    return True


def _init(app: App, path: str) -> bool:
    app.out.talk(f"no .agent.yaml at or above {path}")
    if not app.confirm("Write one with the agent that needs no model and no network?"):
        return False
    if app.here:
        from opagent.binding.making import create

        app.out.talk(f"wrote {create(path, None)}")
    else:
        app.out.talk(f"wrote {app.ask('binding/create', path=path)['binding']}")
    return True
