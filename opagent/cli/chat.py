"""The chat on a terminal: what is typed becomes turns, what the agent says appears above the line. Leaving stops nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from typing import Any

from prompt_toolkit.patch_stdout import patch_stdout

from opagent import paths
from opagent.cli import turn as turns
from opagent.cli.app import App, request_key
from opagent.cli.budget import limits_said
from opagent.cli.markdown import Blocks, render
from opagent.cli.output import clean
from opagent.cli.prompt import Hooks, session
from opagent.cli.telling import Teller, keys, understood
from opagent.cli.workspace import Joined
from opagent.errors import HostUnreachable, OpAgentError
from opagent.model import Event, Kind

COMMANDS = {
    "/help": "these words",
    "/answer": "TEXT: answer what the agent asks",
    "/cancel": "cancel the turn that runs",
    "/steer": "TEXT: cancel the running turn and begin with this",
    "/queue": "the turns that wait",
    "/usage": "what may be used here, and what is left",
    "/open-file": "the conversation's file in your editor",
    "/quit": "leave; the agent works on",
}
_TEXT = "/answer TEXT"
_READ_FIRST = 0.4  # seconds an approval must have stood there before a line answers it: the line was meant for it
_PAGES = 20  # of the log that are read for what the agent said before
_LIVE_LINES = 8  # of the block that is still coming
_AGAIN = 2.0  # seconds in which a second Ctrl-C leaves


def chat(app: App, joined: Joined) -> None:
    """Talk until the person leaves. Raises what the daemon raises when it cannot be reached any more."""
    out = app.out
    out.data(f"{joined.file} · {joined.conversation['agent']}")
    for notice in joined.workspace.get("notices") or ():
        out.talk(str(notice))
    talk = Chat(app, joined)
    app.client.subscribe(talk.id, None)
    try:
        asyncio.run(talk.run())
    finally:
        going = "the turn goes on. " if talk.running else ""
        out.talk(f"{going}Come back: opagent open {shlex.quote(joined.file)}")


class Chat:
    """One conversation at a terminal. All methods run in the one loop; requests are short and block it."""

    def __init__(self, app: App, joined: Joined) -> None:
        self.app, self.joined = app, joined
        self.id = str(joined.conversation["id"])
        self.teller = Teller(str(joined.conversation["agent"]), app.typed)
        self.blocks = Blocks()
        self.running: str | None = None
        self.commands = dict(COMMANDS)
        self._mine: set[str] = set()  # turns that were typed here
        self._interrupted = 0.0
        self._asked_at = 0.0
        self._fd, self._connection = app.client.fileno(), 0
        self._failure: OpAgentError | None = None
        self._lost = False  # the connection: it is made anew in a thread, for as long as that takes
        self._held: list[tuple[str, str]] = []  # what was typed meanwhile, and the keys of those requests
        hooks = Hooks(self._above, lambda: self.commands, self._interrupt)
        self._color = app.out.colored(sys.stdout)
        workspace = str(joined.workspace.get("workspace") or joined.conversation.get("workspace") or ".")
        self.prompt = session(workspace if app.here else None, paths.chat_history(), self._color, hooks)

    async def run(self) -> None:
        with patch_stdout(raw=True):
            self._catch_up()
            if not self.app.here:  # the prompt lives while the link is down, and nothing else may be asked at it
                self.app.client.returns = False
                self.app.client.alone()
            self._watch()
            try:
                while self._failure is None:
                    text = (await self.prompt.prompt_async()).strip()
                    if text == "/quit":
                        return
                    if text:
                        self._typed(text)
            except EOFError:  # Ctrl-D, or Ctrl-C twice
                pass
            finally:
                asyncio.get_running_loop().remove_reader(self._fd)
        if self._failure is not None:
            raise self._failure

    def _catch_up(self) -> None:
        """A conversation that goes on: what runs in it, and what waits for a person."""
        shown = self.app.ask("conversation/show", conversation=self.id, limit=0)
        for one in shown["turns"]:
            if one["state"] in ("running", "waiting"):
                self.running = one["id"]
                self._say(self.teller.question(one))
        self._learn_back()
        for approval in self.app.ask("approval/list", conversation=self.id)["approvals"]:
            self._asked_now()
            self._say(self.teller.ask(approval))

    # ---- from the daemon ---------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Read whatever has come; the descriptor changes when the connection had to be made anew."""
        if self._lost:
            return
        loop = asyncio.get_running_loop()
        try:
            while (event := self.app.client.next_event(0)) is not None:
                self._show(event)
        except ConnectionError:
            self._lose()
            return
        except OpAgentError as error:
            self._fail(error)
            return
        if self.app.client.connections != self._connection:
            loop.remove_reader(self._fd)
            self._connection, self._fd = self.app.client.connections, self.app.client.fileno()
            loop.add_reader(self._fd, self._watch)
        self.prompt.app.invalidate()

    def _fail(self, error: OpAgentError) -> None:
        self._failure = error
        asyncio.get_running_loop().remove_reader(self._fd)
        if self.prompt.app.is_running:
            self.prompt.app.exit(exception=EOFError)

    def _lose(self) -> None:
        """A thread waits for the connection: here a person goes on typing, and may leave."""
        loop = asyncio.get_running_loop()
        if self._lost:
            return
        self._lost = True
        loop.remove_reader(self._fd)

        def renew() -> None:
            failure = None
            try:
                self.app.client.renew()
            except (OpAgentError, OSError) as error:
                failure = error if isinstance(error, OpAgentError) else HostUnreachable("the link is lost", str(error))
            with contextlib.suppress(RuntimeError):  # the person has left
                loop.call_soon_threadsafe(self._found, failure)

        threading.Thread(target=renew, name="renew", daemon=True).start()

    def _found(self, failure: OpAgentError | None) -> None:
        self._lost, self._connection = False, 0
        if failure is not None:
            self._fail(failure)
            return
        held, self._held = self._held, []
        for text, key in held:
            self._typed(text, key)
        self._watch()

    def _show(self, event: Event) -> None:
        body = event.body
        if event.kind is Kind.TEXT:
            self._print(self.blocks.feed(str(body.get("text", ""))))
            return
        if event.kind is Kind.APPROVAL_ASKED:
            self._asked_now()
        if event.kind is Kind.AGENT_STATE:
            self._learn(body.get("commands"))
        lines = self.teller.lines(event, event.turn)
        if event.kind is Kind.TURN_STATE:
            lines += self._turn_state(event)
        if lines:
            self._print(self.blocks.finish())
            self._say(lines)

    def _asked_now(self) -> None:
        """The keys count, and are named, when the question has stood there for a moment."""
        self._asked_at = time.monotonic()
        asyncio.get_running_loop().call_later(_READ_FIRST + 0.01, self._name_keys)

    def _name_keys(self) -> None:
        if self._may_answer():
            self._say([keys(self.teller.oldest, _TEXT)])
            self.prompt.app.invalidate()

    def _turn_state(self, event: Event) -> list[str]:
        state = str(event.body.get("state"))
        if state == "queued" and event.turn not in self._mine:
            return self.teller.question(event.body)
        if state == "running":
            self.running = event.turn
        if state in turns.FINAL:
            self.running = None if event.turn == self.running else self.running
            self._print(self.blocks.finish())
            error = turns.ending(self.app, event.body, self.id)
            if error is not None:
                return [str(error), *([f"  try: {error.hint}"] if error.hint and state == "failed" else [])]
        return []

    def _learn_back(self) -> None:
        """The agent said its commands before we came."""
        after = 0
        for _ in range(_PAGES):
            page = self.app.ask("conversation/show", conversation=self.id, after=after, turns=0)
            for event in page.get("events") or ():
                if event["kind"] == Kind.AGENT_STATE.value:
                    self._learn(event["body"].get("commands"))
            if not page.get("more") or not page["events"]:
                return
            after = page["events"][-1]["seq"]

    def _learn(self, commands: Any) -> None:
        """The agent's own commands; ours win where the names meet."""
        named = {
            f"/{one['name']}": str(one.get("description") or "")
            for one in commands or ()
            if isinstance(one, dict) and one.get("name")
        }
        self.commands = named | COMMANDS if named else self.commands

    # ---- to the person -----------------------------------------------------------------------------------------------

    def _print(self, blocks: list[str]) -> None:
        for block in blocks:
            self.app.out.raw(render(block, min(shutil.get_terminal_size().columns, 100), self._color) + "\n")

    def _say(self, lines: list[str]) -> None:
        if lines:
            self.app.out.talk("\n".join(lines))

    def _above(self) -> str:
        """What stands above the line: the end of the block that is still coming, and whether a turn runs."""
        live = clean(self.blocks.rest).rstrip().splitlines()[-_LIVE_LINES:]
        if self._may_answer():
            live.append(f"? {next(iter(self.teller.asked))} waits: {keys(self.teller.oldest, _TEXT).strip()}")
        elif self.running:
            live.append("● working, Ctrl-C cancels")
        return "\n".join(live)

    # ---- from the person ---------------------------------------------------------------------------------------------

    def _typed(self, text: str, key: str = "") -> None:
        """`key`: of the request, when it is made again."""
        word, _, rest = text.partition(" ")
        key = key or request_key()
        if self._lost:
            self._hold(text, key)
            return
        if self._may_answer() and (said := understood(self.teller.oldest, text)):  # the whole line: a sentence is a sentence
            self._answer(said)
            return
        try:
            match word:
                case "/help":
                    self._say([f"{name:12} {about}" for name, about in self.commands.items()])
                case "/answer":
                    self._answer({"allow": True, "answer": rest}) if self.teller.asked else self._say(["nothing waits"])
                case "/cancel":
                    self._cancel()
                case "/steer":
                    self._mine.add(self._ask("turn/steer", text=rest, request=key)["turn"]["id"])
                case "/queue":
                    queue = self._ask("queue/list")["turns"]
                    self._say(
                        [f"{one['id']}  {one['state']:9} {one['text'].splitlines()[0][:80]}" for one in queue]
                        or ["nothing waits"]
                    )
                case "/usage":
                    self._say(limits_said(self._ask("budget/show")["limits"]) or ["no budget limits this conversation"])
                case "/open-file":
                    self._edit()
                case _:
                    started = self.app.start_turn(self.joined.conversation, text, request=key)
                    self._mine.add(str(started["turn"]["id"]))
                    if started.get("place"):
                        self._say([f"queued, {started['place']} before it"])
        except ConnectionError:
            self._lose()
            self._hold(text, key)
        except OpAgentError as error:
            self.app.out.error(error)
        self._watch()

    def _hold(self, text: str, key: str) -> None:
        """Words are sent when the connection is there again; an answer to what may be over by then is not."""
        if self._may_answer() and understood(self.teller.oldest, text):
            self._say(["not answered: the link is lost"])
            return
        self._held.append((text, key))
        self._say(["it is sent when the link is there again"])

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self.app.ask(method, conversation=self.id, **params)

    def _cancel(self) -> None:
        if self.running is None:
            self._say(["nothing runs"])
            return
        self._ask("turn/cancel", turn=self.running)
        self._say(["cancelling"])

    def _edit(self) -> None:
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
        path = str(self.joined.conversation["path"])
        if not self.app.here:  # what is at this path here is another file
            self._say([f"it lies on {self.app.machine}: {self.joined.file}"])
            return
        if not editor:
            self._say([f"open it in your editor: {shlex.quote(path)}"])
            return
        subprocess.run([*shlex.split(editor), path], check=False)

    def _may_answer(self) -> bool:
        return bool(self.teller.asked) and time.monotonic() - self._asked_at > _READ_FIRST

    def _answer(self, said: dict[str, Any]) -> None:
        try:
            self._say(self.teller.answer(self.app, said))
        except ConnectionError:
            self._lose()
            self._say(["not answered: the link is lost"])
        except OpAgentError as error:
            self.app.out.error(error)
        self._watch()

    def _interrupt(self) -> bool:
        """Ctrl-C: cancels what runs, or says how to leave; false at the second one."""
        now = time.monotonic()
        again, self._interrupted = now - self._interrupted < _AGAIN, now
        if again:
            return False
        try:
            if self.running is not None and not self._lost:
                self._cancel()
            self._say(["Ctrl-C again leaves"])
        except ConnectionError:
            self._lose()
            self._say(["not cancelled: the link is lost. Ctrl-C again leaves"])
        except OpAgentError as error:
            self.app.out.error(error)
        return True
