"""The commands about runtimes as a table, and a process that does one of them for somebody at another machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opagent.daemon import installing, keeping
from opagent.daemon.consenting import Desk
from opagent.errors import OpAgentError

ACTS: dict[str, Callable[[Mapping[str, Any], Desk], dict[str, Any]]] = {
    "list": keeping.listed, "info": keeping.info, "install": installing.installed, "upgrade": installing.upgraded,
    "rollback": keeping.rolled_back, "pin": keeping.pinned, "remove": keeping.removed, "bundle": keeping.bundled,
}  # fmt: skip


@dataclass(slots=True)
class Beforehand:
    """The desk of somebody who is not there: what was not said beforehand cannot be asked, and what would be told is kept."""

    yes: bool
    env: Mapping[str, str]
    timeout: float = 3600.0
    told: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        self.told.append(text)

    def progress(self, text: str) -> None:
        pass

    def agrees(self, question: str) -> bool | None:
        return True if self.yes else None


def main() -> None:
    """One command on stdin, its result or error on stdout."""
    wanted = json.load(sys.stdin)
    desk = Beforehand(bool(wanted["given"].get("yes")), dict(os.environ))
    try:
        said: dict[str, Any] = {"result": ACTS[wanted["command"]](wanted["given"], desk), "told": desk.told}
    except OpAgentError as error:
        said = {"error": error.as_json()}
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
