"""`opagent call`: an agent gets one turn in a conversation of its own, and its answer is printed; agents have the same."""

from __future__ import annotations

import os
from typing import Any

import click

from opagent import paths
from opagent.cli.app import App
from opagent.cli.command import EXITS, TARGET, Command, pass_app
from opagent.cli.open import spoken
from opagent.errors import BY_CODE, AgentCrashed, BudgetReached, DeadlinePassed, OpAgentError, Usage, WaitingForApproval
from opagent.target import parse

_POLL = 20.0  # seconds of one request for the outcome
_RESULT = "result"
_ENDS: dict[str, type[OpAgentError]] = {"budget": BudgetReached, "timed_out": DeadlinePassed, "crashed": AgentCrashed}


@click.command(cls=Command, example='opagent call reviewer "Look at intro.md."', exits=tuple(EXITS))
@click.argument("to", metavar="TO|result", type=TARGET)
@click.argument("prompt", required=False, metavar="PROMPT|CALL")
@click.option("--no-wait", is_flag=True, help="Print the id of the call and leave; `opagent call result ID` fetches the answer.")
@pass_app
def call(app: App, to: str, prompt: str | None, no_wait: bool) -> None:
    """Give an agent a turn and print its answer. TO is a role of this directory, or a directory with an agent of its own.

    The callee works in a conversation of its own. PROMPT `-` is what is piped in. `opagent call result ID` waits for a call that
    was made with --no-wait.
    """
    words = spoken(None if prompt in (None, "-") else prompt)
    if words is None:
        raise Usage("nothing to say", "", f'opagent call {to} "..."')
    if os.environ.get(paths.TOOLS):
        raise click.exceptions.Exit(_as_agent(app, to, words, no_wait))
    if to == _RESULT:
        _tell(app, _waited(app, words))
        return
    started = _started(app, to, words)
    if no_wait:
        app.out.result(started) if app.out.json else app.out.data(str(started["call"]))
        return
    try:
        _tell(app, _waited(app, str(started["call"])))
    except KeyboardInterrupt:
        app.ask("call/stop", call=started["call"])
        app.out.talk("cancelled")
        raise


def _started(app: App, to: str, words: str) -> dict[str, Any]:
    away = app.here and not os.path.lexists(app.path(None) + "/" + to) and parse(to) is not None
    path, name = (app.path(to), ".") if away else (app.path(None), to)
    return app.ask_about("call/start", path, to=name if not away else "./", prompt=words, timeout=app.settings.timeout)


def _waited(app: App, ident: str) -> dict[str, Any]:
    """The outcome. Raises WaitingForApproval where only a person could end the wait, and nobody is here."""
    told = ""
    while True:
        found = app.client.request("call/result", {"call": ident, "within": _POLL if told else 1.0}, 2 * _POLL)
        if found["outcome"] != "running":
            return found
        asked = str(found.get("waits_for") or "")
        if asked and asked != told:
            hint = app.typed(f"opagent allow {asked}")
            if not app.interactive:
                raise WaitingForApproval(f"the call {ident} waits for an answer to {asked}", "", hint)
            app.out.talk(f"waits for an answer to {asked}: {hint}")
        told = asked or told or "-"


def _tell(app: App, found: dict[str, Any]) -> None:
    if app.out.json:
        app.out.result(found)
    if found["outcome"] == "answer":
        if not app.out.json:
            app.out.data(str(found["text"]))
            app.out.talk(f"{found.get('agent')}: {found.get('file')}")
        return
    reason = str(found.get("reason") or "")
    kind = _ENDS.get(found["outcome"]) or _ENDS.get(reason) or BY_CODE.get(reason, OpAgentError)
    what = f"the call of {found.get('agent') or 'an agent'} ended as {str(found['outcome']).replace('_', ' ')}"
    error = kind(what, str(found.get("text") or ""), app.typed(str(found.get("hint") or "")))
    if not app.out.json:
        raise error
    raise click.exceptions.Exit(error.exit)


def _as_agent(app: App, to: str, words: str, no_wait: bool) -> int:
    from opagent.process import toolbox

    options = [*(["--json"] if app.out.json else []), *(["--no-wait"] if no_wait else [])]
    options += ["--timeout", f"{app.settings.timeout:g}"] if app.settings.timeout else []
    return toolbox.main(os.environ[paths.TOOLS], ["call", *options, to, words])
