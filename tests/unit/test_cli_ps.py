"""Processes as rows and as a tree."""

from __future__ import annotations

from opagent.cli.ps import _below, readable


def _child(pid: int, parent: int) -> dict[str, object]:
    return {"pid": pid, "parent": parent, "command": f"c{pid}"}


def test_branches() -> None:
    children = [_child(2, 1), _child(3, 1), _child(4, 2), _child(5, 4), _child(6, 2)]
    assert list(_below(children, 1, "   ")) == [
        "   ├─ 2 c2",
        "   │  ├─ 4 c4",
        "   │  │  └─ 5 c5",
        "   │  └─ 6 c6",
        "   └─ 3 c3",
    ]


def test_one_whose_parent_has_gone_hangs_below_the_agent() -> None:
    assert list(_below([_child(2, 1), _child(9, 7)], 1, "   ")) == ["   ├─ 2 c2", "   └─ 9 c9"]


def test_a_row_for_a_person() -> None:
    row = readable({"id": "x1", "state": "ready", "turn": "a1", "uptime": 90, "memory": 2_500_000, "ports": [80, 8080]})
    assert (row["state"], row["since"], row["memory"], row["ports"]) == ("● working", "1 min", "2.5 MB", "80 8080")
