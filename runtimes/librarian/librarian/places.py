"""Where the librarian keeps what it makes; never inside the workspace."""

import hashlib
import os


def state_directory() -> str:
    """$OPAGENT_STATE as the daemon sets it, else a directory of our own below the XDG state directory."""
    given = os.environ.get("OPAGENT_STATE")
    if given:
        return given
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "opagent-librarian")


def bytecode_directory() -> str:
    return os.path.join(state_directory(), "bytecode")


def index_stem(root: str, rules: str) -> tuple[str, str]:
    """(directory, file stem) of the index of one workspace under one set of read rules.

    The rules are part of the name: what one rule set may read is never seen through an index made under another.
    """
    workspace = hashlib.sha256(os.fsencode(root)).hexdigest()[:20]
    ruleset = hashlib.sha256(rules.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return os.path.join(state_directory(), "index"), f"{workspace}-{ruleset}"
