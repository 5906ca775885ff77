"""Processes as rows and as a tree."""

from __future__ import annotations

from opagent.cli import pstree
from opagent.cli.ps import readable


def _child(pid: int, parent: int) -> dict[str, object]:
    return {"pid": pid, "parent": parent, "command": f"c{pid}"}


def _drawn(children: list[dict[str, object]]) -> list[str]:
    return list(pstree.drawn(pstree.Node("agent", pstree.processes(children, 1))))


def test_branches() -> None:
    children = [_child(2, 1), _child(3, 1), _child(4, 2), _child(5, 4), _child(6, 2)]
    assert _drawn(children) == ["agent", "├─ 2 c2", "│  ├─ 4 c4", "│  │  └─ 5 c5", "│  └─ 6 c6", "└─ 3 c3"]


def test_one_whose_parent_has_gone_hangs_below_the_agent() -> None:
    assert _drawn([_child(2, 1), _child(9, 7)]) == ["agent", "├─ 2 c2", "└─ 9 c9"]


def _row(conversation: str, host: str | None = None, **more: object) -> dict[str, object]:
    row = {"conversation": conversation, "host": host, "path": f"/{conversation}.md", "agent": "a", "id": "x", "pid": 1}
    return readable(row | {"state": "ready"} | more)


def _by(conversation: str, host: str | None = None) -> dict[str, object]:
    return {"host": host, "conversation": conversation, "turn": "t", "call": "c"}


def test_who_was_called_stands_beneath_who_called() -> None:
    away = [{"call": "c", "host": "far", "agent": "echo", "conversation": name, "path": f"/{name}.md"} for name in ("f1", "f2")]
    rows = [
        _row("b", called_by=_by("a")), _row("a", children=[_child(2, 1)], calls=away), _row("c", called_by=_by("b")),
        _row("f1", "far", called_by=_by("a")), _row("g", "far", called_by=_by("f1", "far")),
    ]  # fmt: skip
    agent = "a  x  ○ ready  -"
    assert list(pstree.lines(rows)) == [
        "a  /a.md", f"└─ {agent}", "   ├─ 2 c2", "   ├─ b  /b.md", f"   │  └─ {agent}", "   │     └─ c  /c.md",
        f"   │        └─ {agent}", "   ├─ f1  far:/f1.md", f"   │  └─ {agent}", "   │     └─ g  far:/g.md",
        f"   │        └─ {agent}", "   └─ f2  far:/f2.md  echo",
    ]  # fmt: skip


def test_one_whose_caller_is_not_shown_says_who_it_is() -> None:
    rows = [_row("b", called_by=_by("a", "1234")), _row("c", called_by=_by("c"))]
    assert list(pstree.lines(rows))[::2] == ["b  /b.md  called by a on the machine 1234", "c  /c.md"]


def test_a_row_for_a_person() -> None:
    row = readable({"id": "x1", "state": "ready", "turn": "a1", "uptime": 90, "memory": 2_500_000, "ports": [80, 8080]})
    assert (row["state"], row["since"], row["memory"], row["ports"]) == ("● working", "1 min", "2.5 MB", "80 8080")
