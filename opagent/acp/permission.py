"""Permission requests of agents: what a person is shown, and which of the agent's options means yes or no. Pure.

Options are chosen by their *kind*, never by id or name: a label "Cancel" may well mean allow_always.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from opagent.acp.messages import as_dict, as_list, as_text

MOST_OPTIONS = 20
SUBJECT_LIMIT = 4000  # characters; more is cut with a word that says so
_WORD = 300
DIFF_LINES = 400  # lines on both sides; comparing more could take seconds when somebody wants it to
CHANGES_LIMIT = 256 * 1024  # characters of old and new text that are shown whole in the file
KINDS = ("allow_once", "allow_always", "reject_once", "reject_always")
_HARMLESS = ("", "read", "search", "think", "other")  # kinds that a change is never shown as


@dataclass(frozen=True, slots=True)
class Permission:
    """One request. `paths` are those the agent names (a claim); `options` hold id, name and kind."""

    kind: str
    title: str
    subject: str
    paths: tuple[str, ...]
    options: tuple[Mapping[str, str], ...]
    digest: str
    tool_call: Mapping[str, Any]

    @property
    def changes(self) -> list[dict[str, Any]]:
        """The diffs, to be shown whole; none where they are so large that only their size is told."""
        found = _diffs(self.tool_call)
        size = sum(len(as_text(part.get("oldText"))) + len(as_text(part.get("newText"))) for part in found)
        return found if size <= CHANGES_LIMIT else []

    @property
    def action(self) -> str:
        """The subject without its diffs."""
        return _subject(self.tool_call, hunks=False)

    @property
    def same(self) -> Any:
        """What "the same again" means beside the kind: the same command with the same arguments, directory and environment, or
        the same paths; the agent's own words where it names neither.
        """
        raw = as_dict(self.tool_call.get("rawInput"))
        arguments = {key: value for key, value in raw.items() if key not in _WORDS_ONLY} if raw.get("command") else None
        return arguments or sorted(self.paths) or self.subject

    def option(self, allow: bool) -> str | None:
        return choose(self.options, allow)


def choose(options: Iterable[Mapping[str, str]], allow: bool) -> str | None:
    """The id that says yes or no once. What is remembered is ours, so `always` is only the last resort for a no.

    None where the agent offers no such option; then it is told `cancelled`.
    """
    kinds = ("allow_once",) if allow else ("reject_once", "reject_always")
    known = list(options)
    return next((option["id"] for kind in kinds for option in known if option["kind"] == kind), None)


def read_permission(params: Mapping[str, Any], known: Mapping[str, Any]) -> Permission | None:
    """Reads `session/request_permission`; None when it is malformed (no usable option, twice the same id, too many).

    `known` is what the tool call with the same id said before, since the request may hold changed fields only.
    """
    offered = [as_dict(option) for option in as_list(params.get("options"))]
    ids = [as_text(option.get("optionId")) for option in offered]
    usable = [option for option in offered if as_text(option.get("optionId")) and option.get("kind") in KINDS]
    if not usable or len(offered) > MOST_OPTIONS or len(set(ids)) != len(ids):
        return None
    call = {**known, **{key: value for key, value in as_dict(params.get("toolCall")).items() if value is not None}}
    canonical = json.dumps(call, sort_keys=True, separators=(",", ":"), default=str).encode("utf-8", "replace")
    return Permission(
        kind=_kind(call),
        title=as_text(call.get("title")),
        subject=subject(call),
        paths=_paths(call),
        options=tuple({"id": one["optionId"], "name": as_text(one.get("name")), "kind": one["kind"]} for one in usable),
        digest=hashlib.sha256(canonical).hexdigest(),
        tool_call=call,
    )


def subject(call: Mapping[str, Any]) -> str:
    """The exact action in words: title, the command or the change, and every other argument; cut at a length that is told."""
    return _subject(call, hunks=True)


def _subject(call: Mapping[str, Any], hunks: bool) -> str:
    raw = dict(as_dict(call.get("rawInput")))
    lines: list[str] = []
    if raw.get("command"):
        lines.append(_command(raw.pop("command")))
        raw = {key: value for key, value in raw.items() if key not in _WORDS_ONLY}
    for block in _diffs(call):
        what = f"write {as_text(block.get('path'))}"
        lines += [*([] if what in lines else [what]), *(_change(block) if hunks else ())]
        raw = {}  # the same change in the words of the agent's own tool
    if raw:
        lines.append(json.dumps(raw, ensure_ascii=False, default=str))
    title = as_text(call.get("title"))
    if title and not any(title in line for line in lines):
        lines.insert(0, title)
    text = "\n".join(lines) or "(the agent does not say what)"
    return text if len(text) <= SUBJECT_LIMIT else _cut(text)


def _cut(text: str) -> str:
    """At the end of a word where one is near: half a secret is not known as one."""
    blank = max(text.rfind(" ", 0, SUBJECT_LIMIT), text.rfind("\n", 0, SUBJECT_LIMIT))
    place = blank if blank > SUBJECT_LIMIT - _WORD else SUBJECT_LIMIT
    return f"{text[:place]}\n[{len(text) - place} more characters]"


_WORDS_ONLY = ("description", "title")  # arguments of a command that change nothing of what it does


def _command(command: Any) -> str:
    if isinstance(command, list):
        return shlex.join(word if isinstance(word, str) else json.dumps(word, default=str) for word in command)
    return command if isinstance(command, str) else json.dumps(command, ensure_ascii=False, default=str)


def _kind(call: Mapping[str, Any]) -> str:
    """The agent's word for it, unless it holds a change: "read" with a diff is a change."""
    kind = as_text(call.get("kind"))
    return "edit" if kind in _HARMLESS and _diffs(call) else kind or "other"


def _diffs(call: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [as_dict(part) for part in as_list(call.get("content")) if as_dict(part).get("type") == "diff"]


def _change(block: Mapping[str, Any]) -> list[str]:
    old, new = as_text(block.get("oldText")).splitlines(), as_text(block.get("newText")).splitlines()
    if len(old) + len(new) > DIFF_LINES:
        return [f"({len(old)} lines become {len(new)})"]
    return list(difflib.unified_diff(old, new, lineterm="", n=1))[2:]


def _paths(call: Mapping[str, Any]) -> tuple[str, ...]:
    found = [as_text(as_dict(part).get("path")) for part in as_list(call.get("content"))]
    found += [as_text(as_dict(place).get("path")) for place in as_list(call.get("locations"))]
    return tuple(dict.fromkeys(filter(None, found)))
