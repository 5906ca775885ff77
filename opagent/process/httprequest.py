"""The head of one request as it reaches the proxy, taken apart strictly, and as it goes on; decides nothing. Pure.

What two servers may read in two ways (smuggling, RFC 9112 section 11.2) is refused: bare line ends, folded or doubled headers,
both lengths, odd spaces.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from opagent.policy import address

_LINE = re.compile(rb"([A-Z]{1,20}) ([^\x00-\x20\x7f]+) (HTTP/1\.[01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_SERVICE = re.compile(r"/-/([A-Z_][A-Z0-9_]*)(/[^#]*|\?[^#]*|)")
_HTTP = re.compile(r"http://([^/?#]*)([^#]*)", re.I)
_HOP = ("connection", "keep-alive", "te", "upgrade", "expect", "proxy-connection", "proxy-authorization", "proxy-authenticate")
LOOPBACK = "127.0.0.1"
_OURS = frozenset((*_HOP, "host", "accept-encoding"))


class Malformed(ValueError):
    """A request that is refused for its form; the sentence is for whoever sent it."""


class Way(enum.StrEnum):
    TUNNEL = "connect"  # the agent speaks through us with the host
    PLAIN = "http"
    SERVICE = "service"  # we speak TLS with the host and put a secret in


@dataclass(frozen=True, slots=True)
class Request:
    """`host` and `port` of a SERVICE are not said by the agent. `length` of the body; None: in chunks."""

    way: Way
    method: str
    host: str
    port: int
    path: str
    service: str
    headers: tuple[tuple[str, str], ...]  # names in lower case
    length: int | None

    def header(self, name: str) -> str:
        return next((value for each, value in self.headers if each == name), "")


def parse(head: bytes) -> Request:
    """`head` with its final empty line. Raises Malformed."""
    line, *rest = head[:-4].split(b"\r\n")
    found = _LINE.fullmatch(line)
    if found is None:
        raise Malformed("this is no HTTP request")
    method, version = found[1].decode(), found[3]
    try:
        target = found[2].decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("the target is no text") from error
    headers = tuple(_headers(rest))
    length = _length(headers, version)
    try:
        if method == "CONNECT":
            host, port = address.authority(target, 443)
            return Request(Way.TUNNEL, method, host, port, "", "", headers, 0)
        if service := _SERVICE.fullmatch(target):
            return Request(Way.SERVICE, method, "", 0, service[2], service[1], headers, length)
        if plain := _HTTP.fullmatch(target):
            host, port = address.authority(plain[1], 80)
            path = plain[2] if plain[2].startswith("/") else "/" + plain[2]
            if host == LOOPBACK and (service := _SERVICE.fullmatch(path)):  # a client that sends even this through the proxy
                return Request(Way.SERVICE, method, "", 0, service[2], service[1], headers, length)
            return Request(Way.PLAIN, method, host, port, path, "", headers, length)
    except ValueError as error:
        raise Malformed(str(error)) from error
    raise Malformed("only CONNECT host:port and http:// are passed on")


def onward(request: Request, host: str, path: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head as the host gets it: asked for one answer, not packed, then the end."""
    named = {each.strip().lower() for each in request.header("connection").split(",")}
    kept = [(name, value) for name, value in headers if name not in _OURS and name not in named]
    lines = [f"{request.method} {path} HTTP/1.1", f"host: {host}", "connection: close", "accept-encoding: identity"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in kept), "", ""]).encode("latin-1", "replace")


def swapped(headers: Iterable[tuple[str, str]], token: str, secret: str) -> tuple[list[tuple[str, str]], bool]:
    """The headers with the secret in place of the agent's token, also inside Basic; and whether it was there."""
    out = [(name, _swap(value, token, secret)) for name, value in headers]
    return out, any(new != old for (_, new), (_, old) in zip(out, headers, strict=True))


def _swap(value: str, token: str, secret: str) -> str:
    scheme, _, rest = value.partition(" ")
    if scheme.lower() == "basic":
        try:
            whole = base64.b64decode(rest, validate=True).decode("latin-1")
        except binascii.Error:
            return value
        if token in whole:
            return f"{scheme} {base64.b64encode(whole.replace(token, secret).encode('latin-1', 'replace')).decode()}"
    return value.replace(token, secret)


def _headers(lines: list[bytes]) -> Iterator[tuple[str, str]]:
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise Malformed("a header line is not well formed")
        yield found[1].decode().lower(), found[2].decode("latin-1")


def _length(headers: tuple[tuple[str, str], ...], version: bytes) -> int | None:
    lengths = [value for name, value in headers if name == "content-length"]
    codings = [value.lower() for name, value in headers if name == "transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        raise Malformed("the length of the body is said twice")
    if codings:
        if codings != ["chunked"] or version == b"HTTP/1.0":
            raise Malformed("an unknown transfer encoding")
        return None
    if not lengths:
        return 0
    if not re.fullmatch(r"[0-9]{1,15}", lengths[0]):
        raise Malformed("the length of the body is no number")
    return int(lengths[0])
