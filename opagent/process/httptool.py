"""In a box: an MCP server of streamable HTTP, spoken to over stdin and stdout. One file; standard library only.

    python -I -S httptool.py URL 'Header: value'...

It goes out as any program in a box does, by the proxy that the variables name. `{NAME}` in a header stands for a variable; where
OPAGENT_TOOL_BASE is set, requests go there, and the proxy puts the secret in and knows the host. It follows no redirection.
(Source: MCP, "Transports", 2025-11-25 and 2026-07-28.)
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from typing import IO, Any

BASE = "OPAGENT_TOOL_BASE"
LIMIT = 16 * 2**20  # bytes of a message
PATIENCE = 600.0  # seconds without a byte
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_VERSION = "io.modelcontextprotocol/protocolVersion"

Message = dict[str, Any]


class _Stays(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None


class Bridge:
    def __init__(self, url: str, headers: list[str]) -> None:
        base = os.environ.get(BASE, "")
        parts = urllib.parse.urlsplit(url)
        self._url = base + urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, "")) if base else url
        proxies = urllib.request.ProxyHandler({} if base else None)
        self._opener = urllib.request.build_opener(proxies, _Stays)
        self._headers = dict(_header(each) for each in headers)
        self._session = self._version = ""
        self._writing = threading.Lock()
        self._requests = threading.BoundedSemaphore(64)

    def run(self, lines: IO[bytes]) -> None:
        """One line after the other; requests wait for their answers apart, but for the first, whose answer names the session."""
        for line in lines:
            message = json.loads(line)
            if "id" not in message or message.get("method") == "initialize":
                self._send(message)
                if message.get("method") == "notifications/initialized":
                    threading.Thread(target=self._listen, daemon=True).start()
            else:
                self._requests.acquire()
                threading.Thread(target=self._apart, args=(message,), daemon=True).start()
        self._leave()

    def _apart(self, message: Message) -> None:
        try:
            self._send(message)
        finally:
            self._requests.release()

    def _send(self, message: Message) -> None:
        """A message, and what comes back for it. A request gets an answer, whatever happens."""
        ident, why, answered = message.get("id"), "", False
        try:
            with self._open("POST", self._said(message), json.dumps(message).encode()) as response:
                if message.get("method") == "initialize":
                    self._session = response.headers.get("mcp-session-id", "")
                for each in _messages(response):
                    answered = answered or (each.get("id") == ident and "method" not in each)
                    if message.get("method") == "initialize":
                        self._version = str((each.get("result") or {}).get("protocolVersion", ""))
                    self._say(each)
        except urllib.error.HTTPError as error:
            why, body = f"HTTP {error.code} {error.reason}", error.read(LIMIT)
            if error.code == 404 and self._session:
                sys.stderr.write("the session is over\n")
                sys.stderr.flush()
                os._exit(0)  # whoever waits hears of the end; the next process begins another session
            told = _json(body)
            if told is not None and "error" in told:
                self._say({**told, "id": ident})
                return
            why += f": {body[:300].decode('utf-8', 'replace').strip()}" if body else ""
        except (OSError, ValueError) as error:
            why = str(getattr(error, "reason", error)) or type(error).__name__
        if ident is not None and not answered:
            self._say({"jsonrpc": "2.0", "id": ident, "error": {"code": -32000, "message": why or "it did not answer"}})

    def _said(self, message: Message) -> dict[str, str]:
        """The headers that say again what stands in the message; the later era wants them, the earlier does not mind."""
        params = message.get("params") or {}
        version = str((params.get("_meta") or {}).get(_VERSION) or self._version)
        said = {"MCP-Protocol-Version": version} if version else {}
        if (params.get("_meta") or {}).get(_VERSION) and "method" in message:
            said["Mcp-Method"] = str(message["method"])
            if (key := _NAMED.get(message["method"], "")) in params:
                said["Mcp-Name"] = _plain(str(params[key]))
        return said

    def _listen(self) -> None:
        """What the server says by itself, where it keeps a stream for that."""
        try:
            with self._open("GET", {"MCP-Protocol-Version": self._version} if self._version else {}) as response:
                for each in _messages(response):
                    self._say(each)
        except (OSError, ValueError):
            pass  # most have none

    def _leave(self) -> None:
        if self._session:
            try:
                self._open("DELETE", {}, within=1.0).close()
            except (OSError, ValueError):
                pass

    def _open(self, method: str, headers: dict[str, str], data: bytes | None = None, within: float = PATIENCE) -> Any:
        session = {"Mcp-Session-Id": self._session} if self._session else {}
        body = {"Content-Type": "application/json"} if data is not None else {}
        accept = {"Accept": "application/json, text/event-stream" if method == "POST" else "text/event-stream"}
        said = {"User-Agent": "opagent", **accept, **body, **session, **headers, **self._headers}
        return self._opener.open(urllib.request.Request(self._url, data, said, method=method), timeout=within)  # noqa: S310

    def _say(self, message: Message) -> None:
        with self._writing:
            sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
            sys.stdout.buffer.flush()


def _header(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    return name.strip(), re.sub(r"\{([A-Z_][A-Z0-9_]*)\}", lambda found: os.environ.get(found[1], ""), value.strip())


def _plain(value: str) -> str:
    """As a header can carry it (2026-07-28, "Value encoding")."""
    if re.fullmatch(r"[\x20-\x7e]*", value) and value == value.strip() and not value.startswith("=?base64?"):
        return value
    return f"=?base64?{b64encode(value.encode()).decode()}?="


def _messages(response: Any) -> Iterator[Message]:
    """Of a body of JSON, or of a stream of events. Raises OSError, ValueError."""
    if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
        body = response.read(LIMIT + 1)
        if len(body) > LIMIT:
            raise ValueError(f"an answer of more than {LIMIT // 2**20} MiB")
        if (message := _json(body)) is not None:
            yield message
        return
    data: list[bytes] = []
    size = 0
    while line := response.readline(LIMIT + 1):
        size += len(line)
        if size > LIMIT:
            raise ValueError(f"an event of more than {LIMIT // 2**20} MiB")
        line = line.rstrip(b"\r\n")
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line:
            if (message := _json(b"\n".join(data))) is not None:
                yield message
            data, size = [], 0


def _json(body: bytes) -> Message | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


if __name__ == "__main__":
    Bridge(sys.argv[1], sys.argv[2:]).run(sys.stdin.buffer)
