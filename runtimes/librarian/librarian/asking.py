"""`/ask AGENT WORDS`: another agent of the directory has a look, by the command that OpAgent puts beside every agent."""

import os
import subprocess
import threading

from librarian.library import Library
from librarian.turn import Turn, content_text

LOOK = 0.05  # seconds between two looks whether the person wants no more of it


def ask(turn: Turn, library: Library, argument: str) -> None:
    """Raises Cancelled."""
    name, _, words = argument.partition(" ")
    command = os.path.join(os.environ.get("OPAGENT_TOOLS", ""), "opagent")
    if not name or not words.strip():
        turn.say("Whom, and what? For example: `/ask proofreader Look at intro.md.`\n")
        return
    if not os.path.isfile(command):
        turn.say("I cannot ask anybody here: OpAgent gave me no way to other agents.\n")
        return
    tool = turn.tool("other", f"ask {name}")
    status, text = _run(turn, [command, "call", name, words.strip()])
    if status:
        tool.failed(f"asked {name}")
        turn.say(f"{name} gave no answer: {text}")
    else:
        tool.done(f"asked {name}", content=content_text(text))
        turn.say(text)


def _run(turn: Turn, argv: list[str]) -> tuple[int, str]:
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(child.stdout.read() if child.stdout else b""), daemon=True)
    reader.start()
    try:
        while reader.is_alive():
            turn.check()
            reader.join(LOOK)
        return child.wait(), b"".join(read).decode("utf-8", "replace")
    finally:
        if child.poll() is None:
            child.terminate()  # its connection ends, and with it the call
            child.wait()
