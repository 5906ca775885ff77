"""Processes as a tree: each conversation, its agent, what runs below that, and beneath it the conversations that it called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opagent.cli.words import home_short

HERE = "here"  # in the place of a machine's name
Row = Mapping[str, Any]
Key = tuple[str, str]  # machine, conversation


@dataclass(frozen=True, slots=True)
class Node:
    text: str
    below: Sequence[Node] = ()


def drawn(node: Node, indent: str = "") -> Iterator[str]:
    """A node and, as branches, what is below it."""
    yield node.text
    for each in node.below:
        last = each is node.below[-1]
        first, *rest = drawn(each, indent + ("   " if last else "│  "))
        yield f"{indent}{'└' if last else '├'}─ {first}"
        yield from rest


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """Of rows as they are shown to a person. One whose caller is not among them stands for itself, and so does a circle."""
    forest = _Forest(rows)
    for row in (*(row for row in rows if _caller(row) not in forest.known), *rows):
        if _key(row) not in forest.seen:
            yield from drawn(forest.conversation(row))


class _Forest:
    def __init__(self, rows: Sequence[Row]) -> None:
        self.known = {_key(row): row for row in rows}
        self.seen: set[Key] = set()
        self._called: dict[Key, list[Row]] = {}
        for row in rows:
            self._called.setdefault(_caller(row), []).append(row)

    def conversation(self, row: Row) -> Node:
        self.seen.add(_key(row))
        below = [
            *processes(row.get("children") or (), row["pid"]),
            *(self.conversation(each) for each in self._called.get(_key(row), ()) if _key(each) not in self.seen),
            *(Node(_line(each, each["agent"])) for each in row.get("calls") or () if _key(each) not in self.known),
        ]
        words = [row["agent"], row["id"] or "", row["state"], row["memory"], f"ports {row['ports']}" if row.get("ports") else ""]
        return Node(_line(row, _from(row, self.known)), (Node("  ".join(filter(None, words)), below),))


def processes(children: Sequence[Row], agent: Any) -> list[Node]:
    """Those below an agent; one whose parent has gone hangs below it, too."""
    known = {child["pid"] for child in children}

    def below(parent: Any) -> list[Node]:
        here = [child for child in children if child["parent"] == parent or (parent == agent and child["parent"] not in known)]
        return [Node(f"{child['pid']} {child['command']}", below(child["pid"])) for child in here]

    return below(agent)


def _key(row: Row) -> Key:
    return str(row.get("host") or HERE), str(row["conversation"])


def _caller(row: Row) -> Key:
    said = row.get("called_by")
    return (str(said["host"] or HERE), str(said["conversation"])) if said else ("", "")


def _line(row: Row, more: str) -> str:
    at = f"{row['host']}:" if row.get("host") not in (None, HERE) else ""
    return "  ".join(filter(None, (str(row["conversation"]), f"{at}{home_short(str(row['path']))}", more)))


def _from(row: Row, known: Mapping[Key, Row]) -> str:
    """Of one whose caller is not shown: who it is."""
    host, conversation = _caller(row)
    if not conversation or (host, conversation) in known:
        return ""
    return f"called by {conversation}" + (f" on the machine {host}" if host != HERE else "")
