"""An agent whose MCP client is the official Python SDK's; run with that SDK installed. The prompt is JSON: {"server", "mode", "calls"}.

It says, as JSON, the names of the tools, and of each call [whether it is an error, its text]; a call that raises is ["raised", words].
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from mcp import Client, StdioServerParameters, stdio_client


def say(**more: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **more}), flush=True)


async def play(entry: dict[str, Any], mode: str, calls: list[list[Any]]) -> dict[str, Any]:
    env = {each["name"]: each["value"] for each in entry["env"]}
    params = StdioServerParameters(command=entry["command"], args=entry["args"], env=env)
    async with Client(stdio_client(params), mode=mode) as client:
        listed = await client.list_tools()
        said: dict[str, Any] = {"tools": [tool.name for tool in listed.tools], "version": client.protocol_version, "calls": []}
        for name, arguments in calls:
            try:
                if name == "resources/read":
                    text = (await client.read_resource(arguments["uri"])).contents[0].text
                    said["calls"].append([False, text])
                    continue
                result = await client.call_tool(name, arguments)
                said["calls"].append([bool(result.is_error), result.content[0].text])
            except Exception as error:
                said["calls"].append(["raised", str(error)])
        return said


def main() -> None:
    entries: dict[str, Any] = {}
    for line in sys.stdin:
        message = json.loads(line)
        method, ident = message.get("method"), message.get("id")
        if method == "initialize":
            say(id=ident, result={"protocolVersion": 1, "agentCapabilities": {}})
        elif method == "session/new":
            entries = {each["name"]: each for each in message["params"]["mcpServers"]}
            say(id=ident, result={"sessionId": "s"})
        elif method == "session/prompt":
            wanted = json.loads(message["params"]["prompt"][-1]["text"])
            said = asyncio.run(play(entries[wanted["server"]], wanted["mode"], wanted["calls"]))
            content = {"type": "text", "text": json.dumps(said)}
            say(
                method="session/update",
                params={"sessionId": "s", "update": {"sessionUpdate": "agent_message_chunk", "content": content}},
            )
            say(id=ident, result={"stopReason": "end_turn"})


if __name__ == "__main__":
    main()
