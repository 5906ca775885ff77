"""MCP servers that an editor names in a request, as a person would write them into a binding. Pure; starts none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from opagent.acp.messages import as_dict, as_list, as_text


def named(params: Mapping[str, Any]) -> list[str]:
    return [as_text(server.get("name")) or "?" for server in _servers(params)]


def tools(params: Mapping[str, Any]) -> str:
    """The entries of `tools:` that mean the same, without values of variables and headers; empty where there are none."""
    lines = [
        f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps(entry, ensure_ascii=False)}"
        for server in _servers(params)
        if (name := as_text(server.get("name"))) and (entry := _entry(server))
    ]
    return "\n".join(["tools:", *lines]) if lines else ""


def _servers(params: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [as_dict(server) for server in as_list(params.get("mcpServers"))]


def _entry(server: Mapping[str, Any]) -> dict[str, Any]:
    if command := as_text(server.get("command")):
        words = [command, *map(as_text, as_list(server.get("args")))]
        names = [as_text(as_dict(variable).get("name")) for variable in as_list(server.get("env"))]
        return {"command": words} | ({"env": names} if names else {})
    return {"url": server["url"]} if server.get("type") == "http" and as_text(server.get("url")) else {}
