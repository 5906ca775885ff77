"""What is answered while a server decides whether to let us in: keys, passwords, and its questions, asked of a person.

Nothing is stored. When nobody is there to be asked, they are not asked again in this attempt.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import asyncssh

from opagent.remote import refusals
from opagent.remote.credentials import TRIES, Keys
from opagent.remote.seam import Ask, Question
from opagent.remote.sshconfig import HostConfig

PROMPTS = 20  # of one server, in one attempt


class Answers:
    """For one attempt at one server. `offered`: the methods that the server named."""

    def __init__(self, config: HostConfig, ask: Ask, agent: str | None) -> None:
        self._config, self._ask = config, ask
        self.keys = Keys(config, self.ask, agent)
        self._pairs: AsyncIterator[asyncssh.SSHKeyPair] = self.keys.pairs()
        self.offered: set[str] = set()
        self._nobody = config.yes("batchmode")
        self._passwords = self._rounds = 0
        self._tries = config.number("numberofpasswordprompts", TRIES)
        self._asked = 0

    async def ask(self, question: Question) -> str | None:
        """None for ever after the first question that nobody answered."""
        if self._nobody or self._asked >= PROMPTS:
            return None
        self._asked += 1
        answer = await self._ask(question)
        self._nobody = answer is None
        return answer

    async def key(self) -> asyncssh.SSHKeyPair | None:
        return await anext(self._pairs, None)

    async def password(self) -> str | None:
        if self._passwords >= self._tries:
            return None
        again = "That was wrong. " if self._passwords else ""
        self._passwords += 1
        return await self.ask(
            Question("password", f"{again}Password of {self._config.user} on {self._config.where}", secret=True)
        )

    def interactive(self) -> str | None:
        """Whether to let the server ask its questions, by any of its devices (an empty list of them); None: no more."""
        if self._nobody or self._rounds >= self._tries:
            return None
        self._rounds += 1
        return ""

    async def challenge(self, name: str, instructions: str, prompts: Sequence[tuple[str, bool]]) -> list[str] | None:
        """An answer to each prompt, in order. The words are the server's."""
        head = "\n".join(text for text in (refusals.clean(name), refusals.clean(instructions)) if text.strip())
        answers: list[str] = []
        for prompt, echo in prompts:
            lines = [f"{self._config.where} asks:", *([head] if head and not answers else []), refusals.clean(prompt).strip()]
            answer = await self.ask(Question("keyboard", "\n".join(lines), secret=not echo))
            if answer is None:
                return None
            answers.append(answer)
        return answers

    def close(self) -> None:
        self.keys.close()

    def explained(self) -> str:
        """Why none of it was enough."""
        tried = self.keys.tried
        parts = [f"it takes {', '.join(sorted(self.offered))}" if self.offered else "it takes no method that we have"]
        if "publickey" in self.offered:
            some = ", ".join(tried.offered[:5]) + (f" and {len(tried.offered) - 5} more" if len(tried.offered) > 5 else "")
            parts.append(f"it did not take {some}" if some else "there is no key to offer")
        parts += tried.left_out[:3]
        if self._nobody and self.offered & {"password", "keyboard-interactive"}:
            parts.append("BatchMode is set" if self._config.yes("batchmode") else "nobody answered a question")
        return "; ".join(refusals.sentence(part) for part in parts)
