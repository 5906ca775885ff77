"""What comes out of a proxy between an agent and an MCP server: lines for either of them, and what has to be decided. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, TypeAlias

from opagent.mcp import inventory
from opagent.mcp.inventory import Tool


@dataclass(frozen=True, slots=True)
class ToAgent:
    line: bytes


@dataclass(frozen=True, slots=True)
class ToServer:
    """`number`: of our request, whose answer has a deadline; 0 for what gets none."""

    line: bytes
    number: int = 0


@dataclass(frozen=True, slots=True)
class Tools:
    """The whole list of the server's tools, of all pages. `more`: there was more than is read."""

    items: tuple[Any, ...]
    more: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that has to be decided. `tool`: None where it reads (`name` is one of READS)."""

    number: int
    name: str
    arguments: Any
    tool: Tool | None = None

    @property
    def digest(self) -> str:
        """Of what is done exactly: the tool as it was described, and its arguments."""
        said = [self.name, self.tool.digest if self.tool else "", self.arguments]
        return hashlib.sha256(inventory.canonical(said).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answered:
    """How a call ended. `error`: in words, "" where it went well; `digest`, `size`: of its result. `lost`: nobody knows."""

    number: int
    error: str = ""
    digest: str = ""
    size: int = 0
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The agent does not want the answer any more."""

    number: int


@dataclass(frozen=True, slots=True)
class Broken:
    """The server cannot be used as it is."""

    why: str


Out: TypeAlias = ToAgent | ToServer | Tools | Wanted | Answered | Withdrawn | Broken
