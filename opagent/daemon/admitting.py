"""Whether one agent may call another: who is meant, what the rules say, and a person's word where they say ask; calls nobody."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from opagent.daemon import leading, wanting
from opagent.daemon import workspace as workspaces
from opagent.daemon.asking import Question
from opagent.daemon.calltree import Call, Spot
from opagent.daemon.workspace import Workspace
from opagent.errors import Denied, NotFound, Usage
from opagent.model import ApprovalState, Capabilities, Decision, Effect
from opagent.policy import loops, remembering, rules
from opagent.store import machines as rows
from opagent.store.machines import Machine
from opagent.target import Target as Place
from opagent.target import parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opagent.daemon.conversation import Conversation
    from opagent.daemon.host import Host
    from opagent.store.database import Database

KIND = "agents"
_SHOWN = 2000  # characters of a prompt that a person sees in the question


@dataclass(frozen=True, slots=True)
class Target:
    """Who is called. `request`: by which the rules know it: a role of the caller's directory, or another directory."""

    workspace: Workspace
    spot: Spot
    request: str


@dataclass(frozen=True, slots=True)
class Away:
    """Who is called on another machine. `request`: the words HOST:DIR; `spelled`: all by which the rules may know it."""

    there: Place
    spot: Spot
    request: str
    spelled: tuple[str, ...]


def spelled(database: Database, word: str) -> tuple[str, ...]:
    """How rules may speak of a directory of another machine: as it is, and from the home directory there. Raises Usage."""
    found = parse(word)
    if found is None:
        return (word,)
    return spellings(found, _home(database.read(lambda db: rows.get(db, found.machine))))


def spellings(found: Place, home: str) -> tuple[str, ...]:
    """The same where the home directory there is known; else (empty) it has one. Raises Usage."""
    there = _plain(found, home)
    if not home or os.path.commonpath([home, there.path]) != home:
        return (str(there),)
    path = posixpath.relpath(there.path, home)
    return str(there), str(replace(there, path="" if path == "." else path))


def _home(known: Machine | None) -> str:
    """The home directory there, as its machine told it; empty before it did."""
    home = known.facts.get("home") if known is not None else None
    return posixpath.normpath(home) if isinstance(home, str) and home.startswith("/") else ""


def _plain(there: Place, home: str) -> Place:
    """In full where the home directory is known. Raises Usage."""
    path = posixpath.normpath(re.sub("^/+", "/", there.path or "~")).removeprefix("~/")
    if path.startswith("../") or path in ("..", "."):
        raise Usage(f"{there} names no directory", "from the home directory there it leads out of it", "HOST:/DIR")
    path = "" if path == "~" else path
    return replace(there, path=path if path.startswith("/") or not home else posixpath.normpath(posixpath.join(home, path)))


def away(host: Host, c: Conversation, to: str, environment: Mapping[str, str]) -> Away | None:
    """None for who is on this machine. A directory here that stands for one elsewhere must not be denied by its own name.

    An agent leads this daemon to no machine that no person has reached. Raises Denied, NotTrusted, Usage.
    """
    there = parse(to)
    if there is None and rules.is_directory(to):
        path = os.path.realpath(os.path.join(c.workspace.path, os.path.expanduser(to)))
        led = leading.led(host, path, environment)
        if led is None:
            return None
        if (decision := c.workspace.decide(KIND, path)).effect is Effect.DENY:
            raise Denied(f"{to} may not be called", f"denied by {decision.rule}", "opagent explain")
        there = led.there
    if there is None:
        return None
    name = there.machine
    known = host.database.read(lambda db: rows.get(db, name))
    words, there = spellings(there, _home(known)), _plain(there, _home(known))
    if known is None:
        why = "no person here has reached it: an agent's call opens no way to a machine"
        raise Denied(f"{there} cannot be called from here", why, f"opagent host check {there.machine}")
    return Away(there, Spot(there.machine, str(there), ""), str(there), words)


def target(host: Host, base: str, to: str, environment: Mapping[str, str], fallback: str | None = None) -> Target:
    """Of a role of the directory `base`, or a directory as seen from it. `fallback`: the agent of a directory without a binding.

    Raises NotFound, Usage, NoBinding, BindingInvalid, NotTrusted.
    """
    known = dict(environment)
    if not rules.is_directory(to):
        if parse(to) is not None:
            raise _elsewhere(to)
        own = Workspace.resolve(base, None, known, host.database, default_agent=fallback)
        return _trusted(host, own, own.role_name(to), to)
    path = os.path.realpath(os.path.join(base, os.path.expanduser(to)))
    if to.startswith("ssh://") or leading.led(host, path, known) is not None:
        raise _elsewhere(to)
    if not os.path.isdir(path):
        raise NotFound(f"there is no directory {to}", f"seen from {base}", "opagent call --help")
    there = Workspace.resolve(path, None, known, host.database)
    role = there.role_name(None)
    return _trusted(host, there, role, role if there.path == os.path.realpath(base) else there.path)


def _elsewhere(to: str) -> Usage:
    return Usage(f"{to} is on another machine", "name that machine and its directory", "opagent call HOST:DIR PROMPT")


def _trusted(host: Host, workspace: Workspace, role: str, request: str) -> Target:
    workspace.require_trust(role)
    return Target(workspace, Spot(host.host, workspace.path, role), request)


def within_bounds(call: Call, found: Target | Away, most: int) -> None:
    """Depth, circles, and agents that talk to each other without end. Raises Denied."""
    chain = call.chain
    names = [_shown(each, found.spot) for each in (*chain, found.spot)]
    why = loops.circle([str(each) for each in chain], str(found.spot), names)
    why = why or call.tree.pairs.message(str(call.by), str(found.spot), call.depth, most)
    if why:
        raise Denied(f"{found.request} cannot be called from here", why, "opagent ps --tree")


def _shown(one: Spot, target: Spot) -> str:
    if one.host != target.host:
        return f"{one.role or 'an agent'} in {one.workspace} on another machine"
    return one.role if one.workspace == target.workspace else one.workspace


def deepest(capabilities: Capabilities) -> int:
    """How deep calls may go for an agent and all that called it."""
    return min(each.max_depth for each in (capabilities, *capabilities.within))


async def allowed(c: Conversation, found: Target | Away, prompt: str) -> tuple[Decision, str | None]:
    """The decision that lets it happen, and the approval where a person gave one. Raises Denied."""
    asked = found.spelled if isinstance(found, Away) else found.request
    decision = replace(c.workspace.decide(KIND, asked), enforcement="proxy")
    if decision.effect is Effect.ASK:
        pattern = remembering.literal(KIND, found.request)
        earlier = c.shared.approvals.remembered(c, KIND, pattern)
        if earlier is None:
            return await _by_person(c, found, prompt, decision, pattern)
        decision = replace(workspaces.earlier(earlier), enforcement="proxy")
    if decision.effect is Effect.DENY:
        raise Denied(f"{found.request} may not be called", f"denied by {decision.rule}", "opagent explain")
    return decision, None


async def _by_person(
    c: Conversation, found: Target | Away, prompt: str, decision: Decision, pattern: str
) -> tuple[Decision, str | None]:
    subject = f"call {found.request}\n{prompt[:_SHOWN]}{' ...' if len(prompt) > _SHOWN else ''}"
    digest = hashlib.sha256(f"{KIND} {found.request}\0{prompt}".encode("utf-8", "surrogatepass")).hexdigest()
    answer = await wanting.person(c, Question(KIND, subject, digest, (), decision, pattern))
    if isinstance(answer, str):
        raise Denied(f"{found.request} may not be called", answer, "opagent approvals")
    if answer.state is not ApprovalState.ALLOWED:
        who = answer.reason if answer.answered_by == "opagent" else f"by {answer.answered_by}"
        why = f": {answer.reason}" if answer.reason and answer.answered_by != "opagent" else ""
        what = f"{answer.state.value} {who}{why} (asked by {decision.rule})"
        raise Denied(f"{found.request} may not be called", what, f"opagent why {answer.id}")
    return replace(decision, effect=Effect.ALLOW), answer.id
