"""The MCP server that a probe offers an agent: one tool without arguments; its journal shows who started and called it. Pure."""

from __future__ import annotations

from typing import Any

TOOL = "leave_a_mark"
_VERSION = "2025-06-18"


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    """The response to one JSON-RPC message; None to a notification."""
    if "id" not in message:
        return None
    method, params = message.get("method"), message.get("params") or {}
    result: dict[str, Any] = {}
    if method == "initialize":
        version = params.get("protocolVersion", _VERSION)
        result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "probe", "version": "1"}}
    elif method == "tools/list":
        schema = {"type": "object", "properties": {}}
        result = {"tools": [{"name": TOOL, "description": "Leaves a mark.", "inputSchema": schema}]}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": "a mark was left"}]}
    elif method != "ping":
        return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "not offered"}}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}
