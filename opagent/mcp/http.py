"""MCP over HTTP, the part of a server that answers each POST with one JSON object: heads in, heads out. Pure.

Nothing but `POST /mcp/NAME` with the bearer token is heard; a page of a browser, which says its origin, is refused.
(Source: https://modelcontextprotocol.io/specification, "Streamable HTTP".)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD_LIMIT = 64 * 1024  # bytes
_LINE = re.compile(rb"([A-Z]{1,16}) (/[!-~]{0,2000}) HTTP/1\.[01]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*?)[ \t]*")
_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
_PLACE = re.compile(r"/mcp/([A-Za-z0-9_.-]{1,100})/?")
_REASONS = {
    200: "OK", 202: "Accepted", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 411: "Length Required", 413: "Content Too Large",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Post:
    """A message of `length` bytes for the server `name`; `token`: what the client says it knows."""

    name: str
    length: int
    token: str


def read(head: bytes, limit: int) -> Post | int:
    """What a head asks for, or the status that refuses it. `head` ends with its empty line; `limit`: bytes of a body."""
    first, *rest = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    line, headers = _LINE.fullmatch(first), [_HEADER.fullmatch(each) for each in rest]
    found: dict[str, str] = {}
    for each in headers:
        name = each[1].decode().lower() if each is not None else ""
        if each is None or (name in found and name in ("content-length", "host", "origin", "authorization")):
            return 400
        found[name] = each[2].decode("latin-1")
    if line is None:
        return 400
    place = _PLACE.fullmatch(line[2].decode())
    if place is None:
        return 404
    if line[1] != b"POST":
        return 405
    if "origin" in found or not _LOOPBACK.fullmatch(found.get("host", "")):
        return 403
    if "transfer-encoding" in found or not found.get("content-length", "").isdecimal():
        return 411
    length = int(found["content-length"][:12])
    scheme, _, token = found.get("authorization", "").partition(" ")
    return 413 if length > limit else Post(place[1], length, token.strip() if scheme.lower() == "bearer" else "")


def answer(status: int, body: bytes = b"") -> bytes:
    """Head and body. A connection that was refused is closed behind it."""
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", f"content-length: {len(body)}"]
    lines += ["content-type: application/json"] if body else []
    lines += ["allow: POST"] if status == 405 else []
    lines += ["connection: close"] if status >= 400 else []
    return "\r\n".join([*lines, "", ""]).encode() + body
