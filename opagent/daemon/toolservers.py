"""The MCP servers that a session is told of: our own first, then what the binding names; starts none, the agent does.

servers = toolservers.servers(c, launch)          # `mcpServers` of session/new, once the launch has its line
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from opagent.acp import messages
from opagent.mcp.tools import SERVER

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.process.supervisor import Launch


def servers(c: Conversation, launch: Launch) -> tuple[messages.Body, ...]:
    """In the form of ACP; argv as the agent sees its files."""
    return (*_own(c, launch), *(each for name in c.workspace.binding.tools for each in _named(c, launch, name)))


def _own(c: Conversation, launch: Launch) -> tuple[messages.Body, ...]:
    return _entry(SERVER, launch, c.shared.lines.argv(launch.id, "mcp"))


def _named(c: Conversation, launch: Launch, name: str) -> tuple[messages.Body, ...]:
    """One of the binding; it runs in a box of its own, and the agent speaks to it through us (tooling.py)."""
    return _entry(name, launch, c.shared.lines.argv(launch.id, "mcp", name))


def _entry(name: str, launch: Launch, argv: tuple[str, ...]) -> tuple[messages.Body, ...]:
    if not argv:
        return ()
    # some clients of MCP start a server with an environment of their own: its end must still be found by the marker
    env = [{"name": name, "value": launch.env[name]} for name in ("OPAGENT_PROCESS", "PATH") if name in launch.env]
    return ({"name": name, "command": os.fspath(argv[0]), "args": list(argv[1:]), "env": env},)
