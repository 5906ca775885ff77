"""Tells the person that a question waits: a notification on their desktop, and the command of their own configuration.

Nothing of a directory decides what is run here, and nothing that is run here answers: it descends from the daemon, as agents do.
"""

from __future__ import annotations

import asyncio
import html
import json
import logging
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent.binding import surroundings
from opagent.document.excerpt import visible
from opagent.errors import OpAgentError
from opagent.process import environment
from opagent.process.supervisor import Launch, Process

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.shared import Shared

log = logging.getLogger(__name__)

WITHIN = 10.0  # seconds a command has
MOST = 4  # that run at the same time; what waits is seen all the same
_LINES, _LONG = 4, 200  # of the action, on a desktop
_FACTS = ("type", "id", "kind", "agent", "subject", "rule", "expires_at", "workspace", "path", "conversation")
_LONGEST = 64 * 1024  # characters of what another machine says
_DESKTOP = ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY")


class Notifier:
    """One per daemon."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._running = 0
        self._processes: set[Process] = set()

    async def close(self) -> None:
        """What runs still ends with the daemon."""
        await asyncio.gather(*(process.stop(stdin=0.0, term=0.0) for process in self._processes))

    def tell(self, conversation: Conversation, body: Mapping[str, Any]) -> None:
        """A question was committed. Starts what is to be run and waits for nothing."""
        try:
            said = self._shared.look_again(conversation.record).binding.notify
        except OpAgentError:  # what the files say at this moment cannot be read: nobody is told twice, and the question waits
            said = {}
        given = environment.plain(conversation.workspace.client_environment, conversation.workspace.path)
        told = _told(conversation, body)
        self._shared.attended.tell(told)
        if command := said.get("command"):
            self._start(tuple(command), given, json.dumps(told).encode() + b"\n")
        if said.get("desktop", True) and (shown := desktop(given, conversation.workspace.client_environment)):
            argv, seen = shown
            self._start((*argv, *_words(conversation.role, told)), seen, b"")

    async def relay(self, machine: str, facts: Mapping[str, Any], environment_: Mapping[str, str]) -> None:
        """A question waits on another machine, whose words these are: told as one of this machine is."""
        told = {name: text[:_LONGEST] for name in _FACTS if isinstance(text := facts.get(name), str)} | {"host": machine}
        if not re.fullmatch(r"[a-z0-9]{1,32}", told.get("id", "")):
            return
        told |= {verb: f"opagent --host {shlex.quote(machine)} {verb} {told['id']}" for verb in ("allow", "deny")}
        try:
            said = surroundings.user_notify()
        except OpAgentError as error:
            log.warning("nobody is told what waits on %s: %s", machine, error)
            return
        given = environment.plain(environment_, os.path.expanduser("~"))
        if command := said.get("command"):
            self._start(tuple(command), given, json.dumps(told).encode() + b"\n")
        if said.get("desktop", True) and (shown := desktop(given, environment_)):
            argv, seen = shown
            self._start((*argv, *_words(f"{told.get('agent', 'an agent')} on {machine}", told)), seen, b"")

    def _start(self, argv: tuple[str, ...], env: Mapping[str, str], said: bytes) -> None:
        if self._running >= MOST:
            log.warning("%s is not run: %d of its kind run still", argv[0], MOST)
            return
        self._running += 1
        self._shared.spawn(self._run(argv, env, said), f"notify-{os.path.basename(argv[0])}")

    async def _run(self, argv: tuple[str, ...], env: Mapping[str, str], said: bytes) -> None:
        process = None
        try:
            process = await Process.start(Launch(self._shared.new_process(), argv, env["HOME"], dict(env), Path(os.devnull)))
            self._processes.add(process)
            async with asyncio.timeout(WITHIN):
                if said:
                    await process.send(said)
                await process.close_stdin()
                while await process.read():
                    pass
                report = await process.wait()
            if report.code:
                log.warning("%s: %s", argv[0], report.sentence())
        except (OpAgentError, TimeoutError) as error:
            log.warning("%s: %s", argv[0], str(error) or f"it took more than {WITHIN:g} s and was ended")
        finally:
            self._running -= 1
            if process is not None:
                self._processes.discard(process)
                await process.stop(stdin=0.0, term=0.0)


def desktop(plain: Mapping[str, str], client: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, str]] | None:
    """The program that shows a notification and what it needs to find the desktop; None where there is no such thing."""
    program = shutil.which("notify-send", path=plain["PATH"])
    env = {**plain, **{name: client[name] for name in _DESKTOP if name in client}}
    bus = f"/run/user/{os.getuid()}/bus"
    if "DBUS_SESSION_BUS_ADDRESS" not in env and os.path.exists(bus):
        env["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={bus}"
    if program is None or "DBUS_SESSION_BUS_ADDRESS" not in env:
        return None
    return (program, "--app-name=OpAgent", "--category=im", "--"), env


def _words(who: str, told: Mapping[str, Any]) -> tuple[str, str]:
    """Title and text. A server may take them for markup, and they are an agent's words."""
    lines = [line[:_LONG] for line in str(told.get("subject") or "").splitlines()[:_LINES]]
    text = visible("\n".join([*lines, str(told["allow"]), str(told["deny"])]))
    return html.escape(visible(f"{who} asks"), quote=False), html.escape(text, quote=False)


def _told(conversation: Conversation, body: Mapping[str, Any]) -> dict[str, Any]:
    """What the command reads, as one JSON object on a line, and what the daemons of people's own machines are told."""
    ident = body.get("id")
    said = {key: body.get(key) for key in ("id", "kind", "agent", "subject", "rule", "expires_at")}
    where = {"workspace": conversation.workspace.path, "path": conversation.record.path, "conversation": conversation.record.id}
    answers = {"allow": f"opagent allow {ident}", "deny": f"opagent deny {ident}"}
    return {"type": "approval", **said, **where, **answers}
