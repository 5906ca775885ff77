"""The puppet agent as one that gives away a secret of its environment: `{{1:5}}` in what it says is so much of API_TOKEN.

A line `2> TEXT` goes to stderr; `exit N` ends the process. What it gets from us is said as JSON at the end of the turn.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import json

from puppet import Puppet

SECRET = os.environ["API_TOKEN"]


def filled(text: str) -> str:
    return re.sub(r"\{\{(-?\d*):(-?\d*)\}\}", lambda part: SECRET[int(part[1] or 0) : int(part[2] or len(SECRET))], text)


class Leaky(Puppet):
    def play(self, text: str) -> None:
        for line in text.splitlines():
            if line.startswith("2> "):
                sys.stderr.write(filled(line[3:]) + "\n")
                sys.stderr.flush()
            elif line.startswith("exit "):
                sys.exit(int(line[5:]))
            else:
                super().play(filled(line))


if __name__ == "__main__":
    leaky = Leaky()
    for incoming in sys.stdin:
        leaky.take(json.loads(incoming))
