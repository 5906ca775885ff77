"""An agent made ready before anybody says a word, and what a person sets in its session; begins no turn.

API: `do`, `prepare`, `put`, `ready`, `told`, `unheard`, `facts`. Called by the consumer only. What is set is kept while the
daemon lives and set again in the agent's next process. Both are told by events `agent_state`: `session` is what the session says
of itself, `set` the request that somebody's wish came with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opagent.acp import messages
from opagent.acp.connection import Refusal, Reply
from opagent.daemon import lifecycle
from opagent.errors import CrashLoop, OpAgentError
from opagent.model import Kind, ProcessState
from opagent.store.events import Draft

if TYPE_CHECKING:
    from opagent.daemon.agent import Agent
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.inbox import Do

METHODS = ("session/set_mode", "session/set_model", "session/set_config_option")
_SAID = ("modes", "models", "configOptions")  # of a session's facts, what concerns whoever shows it
_NAMES = {
    "session/set_mode": ("modeId",),
    "session/set_model": ("modelId",),
    "session/set_config_option": ("configId", "value", "type"),
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to set; `request` is their key."""

    request: str
    method: str
    params: Mapping[str, Any]

    @property
    def setting(self) -> messages.Setting:
        return self.method, {name: self.params[name] for name in _NAMES[self.method] if name in self.params}


@dataclass(slots=True)
class Settings:
    """Wishes of one conversation: those that wait for its agent, those it was asked for, and what it has taken."""

    waiting: list[Wish] = field(default_factory=list)
    sent: dict[int, Wish] = field(default_factory=dict)  # by the number of our request
    taken: dict[str, messages.Setting] = field(default_factory=dict)

    def kept(self, guest: str | None) -> tuple[messages.Setting, ...]:
        """What a new process is asked for again; nothing of one that is here as another agent."""
        return tuple(self.taken.values()) if guest is None else ()


async def do(c: Conversation, item: Do) -> None:
    try:
        await item.work(c)
    except Exception as error:  # whoever waits hears of it, whatever it is
        if not item.done.done():
            item.done.set_exception(error)
        return
    if not item.done.done():
        item.done.set_result(None)


async def prepare(c: Conversation) -> None:
    """Start the agent, if nothing runs or waits. Raises what `lifecycle.start` raises, and CrashLoop."""
    if c.agent is not None or c.queue or c.process_state is ProcessState.BACKOFF:
        return
    if c.given_up:
        raise CrashLoop(f"{c.role} is not started any more", c.sentence, f"opagent restart {c.record.id}")
    c.guest = None
    try:
        await lifecycle.start(c)
    except OpAgentError as error:
        await lifecycle.fail(c, error)
        raise
    c.idle_since = c.shared.clock()


async def put(c: Conversation, wish: Wish) -> None:
    """Ask the agent for it, as soon as there is one. Raises as `prepare`."""
    if c.agent is not None and c.agent.ready:
        _ask(c, c.agent, wish)
        return
    await prepare(c)
    c.settings.waiting.append(wish)


async def ready(c: Conversation, agent: Agent) -> None:
    """The handshake is over: what the session says, and what was wished for meanwhile."""
    await c.append([Draft(Kind.AGENT_STATE, None, {"session": facts(agent)})])
    waiting, c.settings.waiting = c.settings.waiting, []
    for wish in waiting:
        _ask(c, agent, wish)


def _ask(c: Conversation, agent: Agent, wish: Wish) -> None:
    method, params = wish.setting
    c.settings.sent[agent.request(method, {"sessionId": agent.session, **params})] = wish


async def told(c: Conversation, answer: Reply | Refusal) -> None:
    """The agent took it, or says why not."""
    wish, agent = c.settings.sent.pop(answer.number), c.agent
    body: dict[str, Any] = {"set": wish.request}
    if isinstance(answer, Refusal):
        body["refused"] = {"code": answer.code, "message": answer.message}
    elif agent is not None:
        method, params = wish.setting
        c.settings.taken[f"{method} {params.get('configId', '')}"] = wish.setting
        agent.session_facts = messages.after_setting(agent.session_facts, wish.setting, answer.result)
        if isinstance(answer.result.get("configOptions"), list):
            body["configOptions"] = answer.result["configOptions"]
        if method == "session/set_mode":
            body["currentModeId"] = params.get("modeId")
    await c.append([Draft(Kind.AGENT_STATE, None, body)])


async def unheard(c: Conversation) -> None:
    """The process is gone: nobody will answer any more."""
    left, c.settings.sent, c.settings.waiting = [*c.settings.sent.values(), *c.settings.waiting], {}, []
    refused = {"code": messages.REQUEST_CANCELLED, "message": "the agent ended"}
    if left:
        await c.append([Draft(Kind.AGENT_STATE, None, {"set": wish.request, "refused": refused}) for wish in left])


def facts(agent: Agent) -> dict[str, Any]:
    """What the agent and its session said of themselves, as far as it concerns whoever shows it."""
    said = {name: agent.session_facts[name] for name in _SAID if agent.session_facts.get(name)}
    able = {"image": agent.facts.image, "embeddedContext": agent.facts.embedded_context}
    ways = [dict(way) for way in agent.facts.auth_methods]
    return {**said, "prompt": able, "agent": {"name": agent.facts.name, "version": agent.facts.version}, "auth": ways}
