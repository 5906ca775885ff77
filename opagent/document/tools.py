"""One tool call of a reply: its fields as they arrived, its line, its folded body; decides nothing about other calls.

API: `ToolCall` (`merge`, `markdown`, `line`, `lookup`, `blobs`), `lookups` (several reads in one line).
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote as percent

from opagent.document.clean import clean
from opagent.document.excerpt import DIFF_LINES, Change, code, diff, excerpt, fence, inert, one_line, quote

_WORDS = {"execute": "run", "think": "think", "switch_mode": "mode", "other": "tool"}
_LOOKUPS = {"read": ("read", "file", "files"), "search": ("searched", "time", "times"), "fetch": ("fetched", "page", "pages")}
_RUNNING = ("pending", "in_progress")


class ToolCall:
    """`merge` takes the event bodies of one call id, the first and all later ones; absent fields stay as they were."""

    def __init__(self, fold: str, blobs: str) -> None:
        self._fold = fold
        self._link = blobs  # relative path of the directory of whole outputs; empty: no links
        self._fields: dict[str, Any] = {}
        self._shown: str | None = None
        self._diffs: list[tuple[str, Change]] = []
        self._blobs: dict[str, str] = {}

    def merge(self, body: Mapping[str, Any]) -> None:
        self._fields |= {key: value for key, value in body.items() if value is not None}
        self._shown = None
        if "content" in body:
            self._diffs = self._changes()

    def stop(self) -> None:
        """The turn is over: whatever still ran does so no longer."""
        if self.running:
            self.merge({"status": "stopped"})

    @property
    def running(self) -> bool:
        return self._fields.get("status", "pending") in _RUNNING

    @property
    def lookup(self) -> str:
        """The kind, if this call may share a line with others of its sort; else empty."""
        kind = str(self._fields.get("kind", ""))
        return kind if kind in _LOOKUPS and self._fields.get("status") != "failed" else ""

    def blobs(self) -> dict[str, str]:
        """Name -> whole output, for those of a finished call that were cut."""
        self.markdown()
        return self._blobs

    def markdown(self) -> str:
        if self._shown is None:
            self._shown = self._render()
        return self._shown

    def _render(self) -> str:
        bodies = [] if self._fold == "none" or (self._kind() == "read" and self.lookup) else self._bodies()
        if not bodies:
            return self.line() + "\n"
        body = "\n".join(bodies)
        if self._fold == "callout":
            return quote(f"[!example]- {self.line()}\n\n{body}")
        return f"<details>\n<summary>{self._summary()}</summary>\n\n{body}\n</details>\n"

    def line(self) -> str:
        """The call in one line of Markdown, without its body."""
        return self._words(code)

    def _summary(self) -> str:
        """The same as HTML; inside it no Markdown is read."""
        return self._words(lambda text: f"<code>{html.escape(text, quote=False)}</code>" if text else "")

    def _words(self, shown: Any) -> str:
        name, subject = self._subject()
        parts = [" ".join(filter(None, (name, shown(subject), self._count())))]
        status = str(self._fields.get("status", "pending"))
        if self.running:
            parts.append("running")
        elif status != "completed":
            parts.append(one_line(status, 20) if status in ("failed", "stopped") else "ended")
        seconds = self._fields.get("seconds")
        if isinstance(seconds, int | float) and not self.running:
            parts.append(f"{seconds:.1f} s")
        approval = self._call().get("approval")
        if approval:
            parts.append(f"waits for a person: {shown('opagent allow ' + one_line(str(approval), 80))}")
        return " · ".join(parts)

    def _kind(self) -> str:
        return str(self._fields.get("kind", "other"))

    def _call(self) -> Mapping[str, Any]:
        found = self._fields.get("call")
        return found if isinstance(found, Mapping) else {}

    def _subject(self) -> tuple[str, str]:
        if self._call():
            return "call", one_line(str(self._call().get("agent", "")))
        kind = self._kind()
        known = kind in (*_LOOKUPS, *_WORDS, "edit", "delete", "move")
        return (_WORDS.get(kind, kind) if known else "tool"), one_line(self._object(kind))

    def _object(self, kind: str) -> str:
        """What the call is about: the command, the place, or the title as the agent gave it."""
        title = str(self._fields.get("title", ""))
        raw = self._fields.get("rawInput")
        if kind == "execute" and isinstance(raw, Mapping) and isinstance(raw.get("command"), str):
            return str(raw["command"])
        changed = [str(part.get("path")) for part in self._content() if part.get("type") == "diff" and part.get("path")]
        places = changed or [_place(place) for place in self._list("locations") if place.get("path")]
        if kind in ("read", "edit", "delete", "move") and places:
            more = len(set(places)) - 1
            return f"{places[0]} and {more} more" if more else places[0]
        bare = title.strip()
        return bare[1:-1] if len(bare) > 2 and bare[0] == bare[-1] == "`" and "`" not in bare[1:-1] else bare

    def _list(self, key: str) -> list[Mapping[str, Any]]:
        found = self._fields.get(key)
        return [part for part in found if isinstance(part, Mapping)] if isinstance(found, list | tuple) else []

    def _content(self) -> list[Mapping[str, Any]]:
        return self._list("content")

    def _changes(self) -> list[tuple[str, Change]]:
        return [
            (
                one_line(str(part.get("path", ""))),
                diff(clean(str(part.get("oldText") or "")), clean(str(part.get("newText") or ""))),
            )
            for part in self._content()
            if part.get("type") == "diff"
        ]

    def _count(self) -> str:
        changes = [change for _, change in self._diffs]
        if not changes:
            return ""
        return f"+{sum(change.added for change in changes)} −{sum(change.removed for change in changes)}"

    def _bodies(self) -> list[str]:
        changes = self._diffs
        bodies = [fence(_cut(path if len(changes) > 1 else "", change), "diff") for path, change in changes if change.lines]
        for text in (_text(part) for part in self._content()):
            if text.strip():
                bodies += self._output(clean(text))
        call = self._call()
        if call.get("file"):
            bodies.append(f"[the conversation]({percent(str(call['file']), errors='replace')})\n")
        elif call.get("place"):
            bodies.append(f"the conversation: {code(one_line(str(call['place']), 600))}\n")
        paragraph = clean(str(call.get("text", ""))).strip().split("\n\n")[-1]
        return [*bodies, quote(inert(one_line(paragraph, 600)))] if paragraph else bodies

    def _output(self, text: str) -> list[str]:
        cut = excerpt(text)
        if not cut.whole:
            return [fence(cut.text)]
        if self.running:  # each look would make another file
            return [fence(cut.text), f"({cut.lines} lines so far)\n"]
        self._blobs[cut.name] = cut.whole
        note = f"the whole output, {cut.lines} lines"
        return [fence(cut.text), f"[{note}]({self._link}{cut.name})\n" if self._link else f"({note}, is in the log)\n"]


def _text(part: Mapping[str, Any]) -> str:
    """The text of one piece of content: an ACP content block, or the output of a terminal that the daemon filled in."""
    inner = part.get("content")
    if part.get("type") == "content" and isinstance(inner, Mapping):
        return str(inner.get("text", "")) if inner.get("type", "text") == "text" else ""
    return str(part.get("output", "")) if part.get("type") == "terminal" else ""


def _place(place: Mapping[str, Any]) -> str:
    line = place.get("line")
    return f"{place['path']}:{line}" if isinstance(line, int) and line > 0 else str(place["path"])


def _cut(path: str, change: Change) -> str:
    lines = [f"# {path}"] if path else []
    lines += change.lines[:DIFF_LINES]
    if len(change.lines) > DIFF_LINES:
        lines.append(f"… {len(change.lines) - DIFF_LINES} lines more")
    return "\n".join(line[:1000] for line in lines)


def lookups(calls: Iterable[ToolCall]) -> str:
    """Reads, searches and fetches that follow one another, as one line: `read 7 files, searched 2 times`."""
    counts: dict[str, int] = {}
    running = False
    for call in calls:
        counts[call.lookup] = counts.get(call.lookup, 0) + 1
        running = running or call.running
    parts = [f"{_LOOKUPS[kind][0]} {number} {_LOOKUPS[kind][1 if number == 1 else 2]}" for kind, number in counts.items()]
    return ", ".join(parts) + (" · running" if running else "") + "\n"
