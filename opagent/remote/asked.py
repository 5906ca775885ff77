"""The questions of the system's `ssh`: a socket in a private directory, and the program that `ssh` calls to ask on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from opagent.remote import refusals
from opagent.remote.seam import Ask, Phase, Question, Tell

_QUESTION_MAX = 64 * 1024


class Asked:
    """Serves while it is open. `busy` is called when a question begins and when it is answered, with how many are open."""

    def __init__(self, folder: Path, ask: Ask, tell: Tell, busy: Callable[[int], None]) -> None:
        self._folder, self._ask, self._tell, self._busy = folder, ask, tell, busy
        self._server: asyncio.Server | None = None
        self._open = 0
        self.unanswered = False

    async def start(self) -> dict[str, str]:
        """The variables that `ssh` needs."""
        path = self._folder / "ask"
        self._server = await asyncio.start_unix_server(self._serve, str(path), limit=_QUESTION_MAX)
        script = self._folder / "askpass"
        words = [sys.executable, "-I", "-S", str(Path(__file__).with_name("askpass.py")), str(path)]
        script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "${{SSH_ASKPASS_PROMPT:-}}" "$1"\n')
        script.chmod(0o700)
        # DISPLAY: before OpenSSH 8.4 it asked nobody without one
        return {"SSH_ASKPASS": str(script), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": "none:0"}

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            said = json.loads(await reader.readline())
            answer = await self._answer(str(said["prompt"]), str(said["hint"]))
            writer.write(json.dumps(answer).encode())
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        except (ValueError, KeyError):  # not our own helper
            return
        finally:
            writer.close()

    async def _answer(self, prompt: str, hint: str) -> str | None:
        text = refusals.clean(prompt, 4096).strip()
        if hint == "none":  # a note: touch the key
            self._tell(Phase("authenticating", refusals.sentence(text)))
            return ""
        self._open += 1
        self._busy(self._open)
        try:
            answer = await self._ask(question(text, hint))
        finally:
            self._open -= 1
            self._busy(self._open)
        self.unanswered = self.unanswered or answer is None
        return answer


def question(prompt: str, hint: str = "") -> Question:
    """The kind of question behind the words of `ssh`. It does not say what may be echoed, so nothing may but a yes."""
    low = prompt.lower()
    if "continue connecting" in low or "or the fingerprint" in low:
        return Question("host_key", prompt)
    if hint == "confirm":
        return Question("confirm", prompt)
    if "passphrase" in low or "pin for" in low:
        return Question("passphrase", prompt, secret=True)
    return Question("password" if low.rstrip().endswith("password:") else "keyboard", prompt, secret=True)
