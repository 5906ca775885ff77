"""What the daemon is compared with: a bare asyncio loop that speaks just enough ACP to one agent and keeps nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

LIMIT = 16 * 2**20
Heard = Callable[[str], None]


class Bare:
    """One agent process; `heard` is called with the text of each chunk."""

    def __init__(self, argv: Sequence[str], cwd: str) -> None:
        self._argv, self._cwd = argv, cwd
        self._last = 0
        self._session = ""

    async def __aenter__(self) -> Bare:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*self._argv, cwd=self._cwd, stdin=pipe, stdout=pipe, limit=LIMIT)
        await self.request("initialize", {"protocolVersion": 1, "clientCapabilities": {}})
        self._session = (await self.request("session/new", {"cwd": self._cwd, "mcpServers": []}))["sessionId"]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def prompt(self, text: str, heard: Heard) -> None:
        """One turn."""
        await self.request("session/prompt", {"sessionId": self._session, "prompt": [{"type": "text", "text": text}]}, heard)

    async def request(self, method: str, params: Mapping[str, Any], heard: Heard | None = None) -> dict[str, Any]:
        """The result; what comes meanwhile is given to `heard`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._last += 1
        self._process.stdin.write(
            json.dumps({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params}).encode() + b"\n"
        )
        while line := await self._process.stdout.readline():
            message = json.loads(line)
            if message.get("method") == "session/update":
                update = message["params"]["update"]
                if heard and update["sessionUpdate"] == "agent_message_chunk":
                    heard(update["content"]["text"])
            elif message.get("id") == self._last:
                result: dict[str, Any] = message["result"]
                return result
        raise ConnectionError("the agent ended")
