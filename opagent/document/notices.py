"""What a reply says besides the words of its agent: alerts, plans, thoughts; makes every text in it inert first.

API: `alert`, `ending`, `plan`, `thoughts`, `moment`, `second`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

from opagent.document.excerpt import code, fence, inert, one_line, quote
from opagent.model import TurnState

# (state, reason) -> what happened and what to do, where the daemon gives no sentence of its own
_ENDINGS = {
    ("failed", ""): "Failed. Send again to try once more.",
    ("failed", "crashed"): "The agent crashed. Send again to go on.",
    ("cancelled", "budget"): "The budget is used up. Raise it with `opagent budget --raise`, then send again.",
    ("cancelled", "loop"): "This looked like a loop. Send again to go on.",
    ("done", "limit"): "The agent stopped at its limit. Send `go on` to continue.",
    ("done", "refusal"): "The agent refuses to go on with this. Say it another way.",
    ("interrupted", ""): "Interrupted. Send again to go on.",
    ("cancelled", ""): "Cancelled. Send again to go on.",
    ("cancelled", "steered"): "",
    ("done", ""): "",
}


def moment(at: str, zone: tzinfo = UTC) -> tuple[str, str]:
    """ISO 8601 -> the day and HH:MM in a zone; two empty texts where it is no time."""
    try:
        local = datetime.fromisoformat(at).astimezone(zone)
    except (ValueError, OverflowError):
        return "", ""
    return local.strftime("%Y-%m-%d"), local.strftime("%H:%M")


def second(at: str) -> str:
    """A time of the log without its fraction, as markers carry it."""
    return re.sub(r"\.\d+", "", at)


def alert(kind: str, *sentences: str) -> str:
    """`> [!WARNING]` and one quoted line a sentence."""
    return f"> [!{kind}]\n" + "".join(f"> {inert(sentence)}\n" for sentence in sentences if sentence)


def ending(state: TurnState, body: Mapping[str, Any]) -> str:
    """The alert of a turn that did not simply finish; empty for one that did. `error` holds the agent's own words."""
    reason = str(body.get("reason") or "")
    usual = _ENDINGS.get((state.value, reason), _ENDINGS.get((state.value, ""), ""))
    sentence = one_line(str(body.get("sentence") or ""), 400) or usual
    own = one_line(str(body.get("error") or ""), 400)
    if not sentence or not state.final:
        return ""
    words = f"The agent said: {code(own)}" if own else ""
    return alert("NOTE" if state in (TurnState.CANCELLED, TurnState.DONE) else "WARNING", sentence, words)


def plan(entries: Iterable[Any]) -> str:
    """The plan as a task list; what runs now is marked."""
    lines = []
    for entry in entries:
        if isinstance(entry, Mapping):
            status = entry.get("status")
            text = inert(one_line(str(entry.get("content", "")), 300))
            lines.append(f"- [{'x' if status == 'completed' else ' '}] {text}{' · now' if status == 'in_progress' else ''}\n")
    return "".join(lines)


def thoughts(text: str, fold: str) -> str:
    """Folded, in a fence: nothing in it can close what folds it."""
    body = fence(text.strip("\n"))
    if fold == "details":
        return f"<details>\n<summary>thoughts</summary>\n\n{body}\n</details>\n"
    return quote(f"[!quote]- thoughts\n\n{body}") if fold == "callout" else ""
