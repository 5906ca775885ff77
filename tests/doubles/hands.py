"""An agent that does what it is told: the prompt is Python, run in its process; what that prints is the answer, errors too.

For tests of what confines it: it is as hostile as the prompt. `session/cancel` is not heeded while the prompt runs.
"""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import json

from puppet import Puppet


class Hands(Puppet):
    def play(self, text: str) -> None:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            try:
                exec(compile(text, "prompt", "exec"), {"__name__": "prompt"})
            except Exception:
                traceback.print_exc(file=said)
        self.answers.append({"said": said.getvalue()})


if __name__ == "__main__":
    hands = Hands()
    for incoming in sys.stdin:
        hands.take(json.loads(incoming))
