"""The echo agent as an oracle: it writes down every prompt it gets before it does anything: one sent twice shows.

Started in the workspace. `.oracle/heard` gets one JSON line per start and prompt; `.oracle/options` (JSON) holds options of the
echo agent for the next start, and `crash-first: N`: the first N starts end before they answer anything. A prompt that begins
with `/closed-input` makes it close its input and live on.
"""

from __future__ import annotations

import json
import os
import sys

PLACE = ".oracle"


def note(**facts: object) -> None:
    """One write to a file opened for appending: whole lines, whoever is killed."""
    fd = os.open(f"{PLACE}/heard", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, json.dumps({"pid": os.getpid(), **facts}).encode() + b"\n")
    os.close(fd)


def options() -> dict[str, str]:
    try:
        with open(f"{PLACE}/options", encoding="utf-8") as file:
            return {key: str(value) for key, value in json.load(file).items()}
    except FileNotFoundError:
        return {}


def starts() -> int:
    with open(f"{PLACE}/heard", encoding="utf-8") as file:
        return sum(json.loads(line)["what"] == "start" for line in file)


def main(echo: str, state: str) -> None:
    sys.path.insert(0, echo)
    import agent

    class Oracle(agent.Agent):
        def _prompt(self, request: object, params: dict[str, object]) -> None:
            blocks = params.get("prompt")
            texts = [block["text"] for block in blocks if block.get("type") == "text"] if isinstance(blocks, list) else []
            note(what="prompt", text=texts[-1] if texts else "", session=params.get("sessionId"), blocks=len(blocks or ()))
            if texts and texts[-1].startswith("/closed-input"):
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                self.loop.ignore_eof = True
            super()._prompt(request, params)

    note(what="start")
    wanted = options()
    if starts() <= int(wanted.pop("crash-first", "0")):
        sys.stderr.write("oracle: not today\n")
        sys.exit(3)
    agent.Agent = Oracle
    try:
        agent.start({"state": state, **wanted})
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
