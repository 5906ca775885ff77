"""What an agent says that it will do, in the words of the policy, and what a rule may answer for a person."""

from __future__ import annotations

from typing import Any

import pytest

from opagent.acp.permission import read_permission
from opagent.daemon import claims

OPTIONS = [{"optionId": "y", "name": "Yes", "kind": "allow_once"}]


def said(**call: Any) -> tuple[claims.Claim, ...]:
    found = read_permission({"toolCall": call, "options": OPTIONS}, {})
    assert found is not None
    return claims.of(found, "/w")


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ({"kind": "execute", "rawInput": {"command": ["git", "push"]}}, (("exec", ("git", "push")),)),
        ({"kind": "execute", "rawInput": {"command": "git push"}}, (("exec", ("git", "push")),)),
        ({"kind": "execute", "rawInput": {"command": "git push; rm x"}}, (("exec", ("sh", "-c", "git push; rm x")),)),
        ({"kind": "execute", "rawInput": {"command": ["git", 1]}}, (("exec", ("sh", "-c", "['git', 1]")),)),
        ({"kind": "execute", "title": "push"}, ()),
        ({"kind": "edit", "locations": [{"path": "a.md"}, {"path": "/x"}]}, (("write", "/w/a.md"), ("write", "/x"))),
        ({"kind": "read", "locations": [{"path": "a.md"}]}, (("read", "/w/a.md"),)),
        ({"kind": "read", "content": [{"type": "diff", "path": "a.md", "newText": "x"}]}, (("write", "/w/a.md"),)),
        ({"kind": "fetch", "rawInput": {"url": "https://E.org/x"}}, (("network", "e.org:443"),)),
        ({"kind": "fetch", "rawInput": {"url": "http://[::1]:80/"}}, (("network", "[::1]:80"),)),
        ({"kind": "fetch", "rawInput": {"url": "http://e.org:99999/"}}, ()),
        ({"kind": "fetch", "rawInput": {"url": 5}}, ()),
        ({"kind": "think", "title": "x"}, ()),
    ],
)
def test_claims(call: dict[str, Any], expected: tuple[claims.Claim, ...]) -> None:
    assert said(**call) == expected
