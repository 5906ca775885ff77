"""Heads of MCP over HTTP: what is heard and what is refused, whatever bytes come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.mcp import http

GOOD = b"POST /mcp/opagent HTTP/1.1\r\nHost: 127.0.0.1:3129\r\nContent-Length: 5\r\nAuthorization: Bearer abc\r\n\r\n"


def test_a_post_is_heard() -> None:
    assert http.read(GOOD, 100) == http.Post("opagent", 5, "abc")
    assert http.read(GOOD.replace(b"HTTP/1.1\r\nHost: 127.0.0.1:3129", b"HTTP/1.1\r\nHOST: localhost"), 100) == http.Post(
        "opagent", 5, "abc"
    )


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"POST", b"GET", 405), (b"POST", b"DELETE", 405), (b"/mcp/opagent", b"/", 404), (b"/mcp/opagent", b"/mcp/../x", 404),
        (b"Host:", b"Origin: http://evil.example\r\nHost:", 403), (b"Host:", b"Origin: null\r\nHost:", 403),
        (b"127.0.0.1:3129", b"evil.example", 403), (b"Content-Length: 5\r\n", b"", 411),
        (b"Content-Length: 5", b"Transfer-Encoding: chunked", 411), (b"Content-Length: 5", b"Content-Length: 101", 413),
        (b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: 6", 400), (b"HTTP/1.1", b"HTTP/3", 400),
    ],
)  # fmt: skip
def test_all_else_is_refused(old: bytes, new: bytes, status: int) -> None:
    assert http.read(GOOD.replace(old, new, 1), 100) == status


@given(st.binary(max_size=400))
def test_no_head_breaks_it(head: bytes) -> None:
    found = http.read(head + b"\r\n\r\n", 100)
    assert isinstance(found, http.Post) or http.answer(found).startswith(b"HTTP/1.1 4")
