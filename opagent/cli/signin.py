"""`opagent acp --sign-in`: the command by which the agent of a directory wants a person to sign in, in that person's terminal."""

from __future__ import annotations

import os
import shlex
import shutil

from opagent.cli.app import App
from opagent.errors import SignInNeeded, Usage
from opagent.packages import catalog


def sign_in(app: App, path: str, agent: str | None) -> None:
    """Becomes that command. Raises SignInNeeded, with what has to be done instead, where there is none that could be run."""
    app.only_here("an agent is signed in to", f"ssh {app.machine}")
    if not app.interactive:
        raise Usage("only a person at a terminal can sign in", "", app.typed(f"opagent acp --sign-in {shlex.quote(path)}"))
    opened = app.ask("workspace/open", path=path, agent=agent, environment=app.environment())
    spec = catalog.find(str(opened["runtime"]))
    words = shlex.split(spec.signin)
    program = shutil.which(words[0]) if words else None
    if program is None:
        why = "that is no program here" if words else "its description names no way to sign in"
        raise SignInNeeded(
            f"{spec.name} cannot be signed in to from here", why, spec.signin or f"opagent runtime info {spec.name}"
        )
    app.out.talk(f"runs: {spec.signin}")
    os.execv(program, words)  # noqa: S606  # argv from a description that the person installed
