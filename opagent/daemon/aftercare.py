"""What is looked at around a turn of a confined agent: its mounts, what it made of the repository, files that run by themselves.

    await aftercare.before(c)      # what the person committed meanwhile is there for the agent
    await aftercare.after(c)       # notes of the turn; whether the agent goes on as it is, is started anew, or is ended at once

(Design: "A mount on a file is gone when the host renames a new file over it"; "Missing protected names".)
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from typing import TYPE_CHECKING

from opagent import paths
from opagent.daemon import ownwill
from opagent.policy import reach
from opagent.process import privategit
from opagent.process.sandbox import Bwrap

if TYPE_CHECKING:
    from opagent.daemon.agent import Agent
    from opagent.daemon.conversation import Conversation
    from opagent.watch.inventory import Inventory

log = logging.getLogger(__name__)

_SHOWN = 8  # names in a note


async def before(c: Conversation) -> None:
    """At the beginning of a turn."""
    agent = c.agent
    if agent is None or agent.box is None:
        return
    agent.began = time.time_ns()
    notices, agent.notices = agent.notices, ()
    for sentence in notices:
        await c.note(sentence)
    if agent.git is not None:
        try:
            agent.git = await asyncio.to_thread(privategit.take_in, agent.git)
        except OSError as error:
            await c.note(f"the agent does not see what you committed: {error}", {"severity": "warning"})


async def after(c: Conversation) -> None:
    """At the end of a turn, while it is still the current one."""
    agent = c.agent
    if agent is None or agent.box is None or not agent.began:
        return
    if agent.git is not None:
        try:
            agent.git = await asyncio.to_thread(privategit.give_back, agent.git)
        except (privategit.NotGivenBack, OSError) as error:
            await c.note(f"git: {error}", {"severity": "warning"})
    found = await c.aftermath.look()
    for sentence in await asyncio.to_thread(_new, c, agent, found):
        await c.note(sentence, {"severity": "warning"})
    look(agent)


def look(agent: Agent) -> bool:
    """Compare the mounts with those of the launch; true when one that hides something is gone: the agent must end at once."""
    missing = gone(agent)
    if missing:
        agent.stale = True  # the next turn gets another process
        log.info("%s: no longer mounted: %s", agent.id, ", ".join(missing))
    return isinstance(agent.box, Bwrap) and bool(set(missing) & set(agent.box.hidden))


def gone(agent: Agent) -> list[str]:
    """Places that were mounted at the launch and are not any more: somebody here put another file under the name."""
    box, process = agent.box, agent.process
    if not isinstance(box, Bwrap) or process is None or process.ended:
        return []
    present = process.mounted()
    return [place for place in box.mounted if place not in present] if present else []


def forget(agent: Agent) -> None:
    """The private repository of an agent that ended. For a thread."""
    if agent.git is not None:
        shutil.rmtree(agent.git.folder, ignore_errors=True)


def _new(c: Conversation, agent: Agent, found: Inventory) -> list[str]:
    names = reach.floor_basenames(c.workspace.binding.capabilities) - {paths.WORK}
    changed = ownwill.changed(c.workspace.path, found.entries, names, agent.began)
    scripts = ownwill.scripts(c.workspace.path, found.entries)
    changed += [name for name, digest in scripts.items() if agent.scripts.get(name, "") != digest]
    agent.scripts = scripts
    said = []
    if own := [name for name in changed if name.rpartition("/")[2] == paths.BINDING]:
        said.append(f"may have been written by {c.role}, and is not trusted before you say so: {_listed(own)}")
    if other := [name for name in changed if name not in own]:
        said.append(f"runs by itself, and was made or changed in this turn: {_listed(other)}")
    return said


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(sorted(names)[:_SHOWN]) + more
