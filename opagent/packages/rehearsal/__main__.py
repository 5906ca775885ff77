"""The stage of a probe: runs inside the sandbox, serves the scripted model, starts the agent, and looks what it left behind.

    python -I -S .../rehearsal/__main__.py agent PORT FOLDER -- PROGRAM ARGUMENT...
    python -I -S .../rehearsal/__main__.py marks FOLDER

In FOLDER stand `journal` (what model and tools were asked) and afterwards `left` (what outlived the agent). The agent has the
stage's own stdin, stdout and stderr. Standard library only: no site-packages are seen there.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from opagent.packages.rehearsal import marks, server  # the path comes first

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h
_LAST_WORD = 0.5  # seconds in which what an agent started may end with it


def main(words: list[str]) -> int:
    if words[0] == "marks":
        return _tools(Path(words[1]))
    port, folder, argv = int(words[1]), Path(words[2]), words[4:]
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    server.Model(port, str(folder / "journal")).begin()
    signal.signal(signal.SIGTERM, lambda *_: None)  # it goes to the whole group; a handler is not handed down to the agent
    agent = subprocess.Popen(argv)
    status = agent.wait()
    (folder / "left").write_text(json.dumps(_left()), "utf-8")
    return status if status >= 0 else 128 - status


def _tools(folder: Path) -> int:
    for line in sys.stdin:
        message = json.loads(line)
        with open(folder / "journal", "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": "mcp", "how": "stdio", "method": message.get("method")}) + "\n")
        if (said := marks.answer(message)) is not None:
            print(json.dumps(said), flush=True)
    return 0


def _left() -> list[str]:
    """Names of our descendants that still run after a moment: whoever loses its parent becomes our child."""
    deadline = time.monotonic() + _LAST_WORD
    while (found := _children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _children() -> list[str]:
    parents: dict[int, tuple[int, str]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                head, _, rest = Path(f"/proc/{entry}/stat").read_text("utf-8", "replace").rpartition(")")
            except OSError:
                continue
            state, parent = rest.split()[:2]
            if state != "Z":
                parents[int(entry)] = (int(parent), head.partition("(")[2])
    ours, found = {os.getpid()}, []
    while more := [pid for pid, (parent, _) in parents.items() if parent in ours and pid not in ours]:
        ours.update(more)
        found += [parents[pid][1] for pid in more]
    return sorted(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
