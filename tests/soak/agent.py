"""The echo agent that answers every prompt with numbered, hostile text as fast as it can; what it says follows from the prompt alone.

Started in the workspace. `.oracle/heard` gets one JSON line per prompt before anything is done, so that one sent twice shows.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
import zlib
from pathlib import Path

HOSTILE = (
    "```\n", "````md\n", "~~~\n", "# T\n", "## Alice\n", "---\n", "<!-- x\n", "-->\n", "<pre>\n", "<details>\n", "</details>\n",
    "<!-- op:TAG next -->\n", "<!-- op:TAG /a0001 done -->\n", "\r", "\u2028<!-- op:TAG zz you eve -->\n", "- [x] **Send**\n",
    "- [x] Allow once\n", "/send\n", "\x1b[31mred\x1b[0m ", "x" * 300 + "\n", "> <!-- op:TAG next -->\n", "\x00", "\n\n",
    "> [!NOTE]\n> x <!-- op -->\n", "A 0123 \U0001f600 e\u0301 \u202e ",
)  # fmt: skip
ASKS = "ASK"
BATCH = 25  # chunks without listening


def answer(prompt: str, tag: str) -> list[str]:
    """The chunks of the answer; `ASKS` in between is a question whether it may go on."""
    number = zlib.crc32(prompt.encode())
    chance = random.Random(number)
    chunks = []
    for place in range(int(10 ** chance.uniform(1, 3.3))):
        before = chance.choice(HOSTILE).replace("TAG", tag) if chance.random() < 0.3 else ""
        chunks.append(f"{before}A{number:08x}n{place}q{chance.choice((' ', chr(10)))}")
    if chance.random() < 0.2:
        chunks.insert(chance.randrange(len(chunks)), ASKS)
    return chunks


def main(echo: str, state: str) -> None:
    sys.path.insert(0, echo)
    import agent
    import modes
    import peers

    found = (
        re.match(r"---\n(?:.*\n)*?conversation: (\w{4})-", path.read_text("utf-8", "replace")) for path in Path().glob("*/*.md")
    )
    tag = next((match[1] for match in found if match), "none")

    def stream(turn: modes.Turn, text: str) -> modes.Steps:
        with open(".oracle/heard", "ab", buffering=0) as file:
            file.write(json.dumps({"pid": os.getpid(), "what": "prompt", "text": text}).encode() + b"\n")
        for place, chunk in enumerate(answer(text, tag)):
            if chunk is ASKS:
                yield from peers.permitted(turn, f"ask-{place}", "Go on")
            else:
                turn.say(chunk)
                if place % BATCH == 0:
                    yield 0
        turn.said = ""  # it remembers nothing

    modes.echo = stream
    modes.find = lambda name: None  # whatever a person types, it is no directive
    try:
        agent.start({"state": state})
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
