"""Who calls whom at this moment, as `ps` shows it: what a conversation works for, and its calls on other machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from opagent.daemon.calltree import Call
from opagent.model import ConversationId

if TYPE_CHECKING:
    from opagent.daemon.host import Host


def told(host: Host, conversation: ConversationId) -> dict[str, Any]:
    """`called_by`, see `by`, and of calls elsewhere `calls [{call, host, agent, conversation, path}]`."""
    said: dict[str, Any] = {}
    calls = host.calls.all()
    works = [each for each in calls if each.conversation == conversation and _stands(host, each)]
    if works:
        said["called_by"] = by(host, works[-1])
    if away := [_away(each) for each in calls if each.caller == conversation and each.there is not None and not each.over.done()]:
        said["calls"] = away
    return said


def _stands(host: Host, call: Call) -> bool:
    """Whether its caller is there still; of one elsewhere, and of a person, nothing more is known once the call is over."""
    return bool(call.caller) and not call.left and (call.by.host == host.host or not call.over.done())


def by(host: Host, call: Call) -> dict[str, Any]:
    """`{host, conversation, turn, call}`. `host`: null for this machine, else the identity of the other, which has those ids."""
    there = call.by.host if call.by.host != host.host else None
    conversation, turn = (str(each).removeprefix(f"{there}/") for each in (call.caller, call.working))
    return {"host": there, "conversation": conversation, "turn": turn, "call": call.key or call.id}


def _away(call: Call) -> dict[str, Any]:
    assert call.there is not None
    there = call.there
    return {
        "call": call.id, "host": there.machine, "agent": call.to.role if call.to else "", "conversation": there.conversation,
        "path": there.file,
    }  # fmt: skip


def linked(host: Host, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of other machines: `called_by` speaks of this one only where a call of ours says the same, else of that machine."""
    ours = {(each.caller, each.there.conversation): each for each in host.calls.all() if each.there is not None}
    for row in rows:
        if (said := row.pop("called_by", None)) is None:
            yield row
            continue
        call = ours.get((said["conversation"], row["conversation"])) if said["host"] == host.host else None
        if call is not None and not call.over.done():
            row["called_by"] = by(host, call)
        elif said["host"] != host.host:
            row["called_by"] = {**said, "host": said["host"] or row["host"]}
        yield row
