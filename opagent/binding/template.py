"""The commented `.agent.yaml` that `opagent init` writes; writes nothing itself."""

from __future__ import annotations

import re
from pathlib import Path

from opagent.errors import Usage

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def text(agent: str) -> str:
    """A file that is valid as it stands, with `agent` filled in. Raises Usage for what is no name of a role."""
    if not _NAME.fullmatch(agent):
        raise Usage(f"{agent!r} is no name of an agent", "a name has letters, digits, _ . and -", "opagent init --agent NAME")
    return Path(__file__).with_name("template.yaml").read_text("utf-8").replace("@AGENT@", agent)
