"""The client of the official SDK of MCP, in a process of its own: `python mcp_peer.py MODE ARGV...` with calls as JSON on stdin.

Each line of stdin is `[tool, arguments]`; at the end it says what it got as one JSON object. MODE is the SDK's: auto, legacy or a
revision. An ARGV that begins with http is the address of a server, with its token behind it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client


async def main(mode: str, argv: list[str]) -> dict[str, Any]:
    progress: list[str | None] = []

    async def heard(done: float, total: float | None, message: str | None) -> None:
        progress.append(message)

    server: Any = StdioServerParameters(command=argv[0], args=argv[1:], env=dict(os.environ))
    if argv[0].startswith("http"):
        headers = {"Authorization": f"Bearer {argv[1]}"}
        server = streamable_http_client(argv[0], http_client=httpx2.AsyncClient(headers=headers, timeout=60))
    async with Client(server, mode=mode) as client:
        tools = (await client.list_tools()).tools
        results = []
        for line in sys.stdin:
            name, arguments = json.loads(line)
            try:
                found = await client.call_tool(name, arguments, progress_callback=heard)
                results.append({"text": found.content[0].text, "structured": found.structured_content, "failed": found.is_error})
            except Exception as error:
                results.append({"error": str(error)})
        version = client.session.protocol_version
    return {"version": version, "tools": [tool.name for tool in tools], "results": results, "progress": progress}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2:]))) + "\n")
