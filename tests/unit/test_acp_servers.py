"""MCP servers of an editor, as entries of a binding that can be pasted there."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from opagent.acp import servers

JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda e: st.lists(e, max_size=3) | st.dictionaries(st.text(max_size=5), e, max_size=3),
)


@pytest.mark.parametrize(
    ("server", "entry"),
    [
        ({"name": "a", "command": "/bin/x", "args": ["--port", "1"], "env": []}, {"command": ["/bin/x", "--port", "1"]}),
        ({"name": "a", "command": "x", "env": [{"name": "TOKEN", "value": "secret"}]}, {"command": ["x"], "env": ["TOKEN"]}),
        (
            {"type": "http", "name": "a", "url": "https://x/mcp", "headers": [{"name": "A", "value": "secret"}]},
            {"url": "https://x/mcp"},
        ),
        ({"type": "sse", "name": "a", "url": "https://x/sse"}, None),
    ],
)
def test_what_is_pasted_means_the_same_and_holds_no_secret(server: dict[str, Any], entry: dict[str, Any] | None) -> None:
    said = servers.tools({"mcpServers": [server]})
    assert yaml.safe_load(said) == ({"tools": {"a": entry}} if entry else None)
    assert "secret" not in said
    assert servers.named({"mcpServers": [server]}) == ["a"]


def test_a_name_is_not_taken_for_something_else() -> None:
    said = servers.tools({"mcpServers": [{"name": 'on: "x"\ny', "command": "é\n: {}"}]})
    assert yaml.safe_load(said) == {"tools": {'on: "x"\ny': {"command": ["é\n: {}"]}}}


@given(JSON)
def test_whatever_an_editor_says(said: Any) -> None:
    for params in ({"mcpServers": said}, {"mcpServers": [said]}):
        servers.named(params)
        servers.tools(params)
