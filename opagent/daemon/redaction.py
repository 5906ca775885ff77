"""What agents say on its way to the log: cleaned, and without the secrets that the daemon knows; what people type stays as typed.

`Known` is the host's: values from every environment that a client brought and an agent got, in memory only. `Redaction` is one
conversation's: `drafts` stands in front of the journal and carries the ends of streamed text over from chunk to chunk.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opagent.document.clean import Cleaner, clean
from opagent.model import Kind, Turn, TurnId, TurnState
from opagent.policy.redact import Redactor, Secrets
from opagent.policy.spellings import SHORTEST, secret_values
from opagent.store.events import AuditKind, Draft

if TYPE_CHECKING:
    from opagent.daemon.asking import Question

MOST = 100  # values
_STREAMS = (Kind.TEXT, Kind.THOUGHT)
_BESIDE = (Kind.USAGE, Kind.AGENT_STATE)  # show nothing where they stand: text goes on around them, and so may a secret
_TYPED = (Kind.DOCUMENT, Kind.APPROVAL_ANSWERED)  # a person's words, and what was redacted when it was asked


class Known:
    """The secrets of this host as far as they are known."""

    def __init__(self) -> None:
        self.secrets = Secrets()

    def learn(self, environment: Mapping[str, str]) -> Secrets:
        """Add what an environment holds. The newest MOST values are kept: one may have changed that an agent still knows."""
        known = self.secrets.values
        if not (found := secret_values(environment)).keys() <= known.keys():
            self.secrets = Secrets(dict(itertools.islice((found | known).items(), MOST)))
        return self.secrets

    def keep(self, values: Mapping[str, str]) -> None:
        """Add values that are known to be secrets, each with its name."""
        self.secrets = Secrets(dict(itertools.islice((dict(values) | self.secrets.values).items(), MOST)))

    def hide(self, text: str) -> str:
        """Without secrets, and otherwise as it is; where control characters hide one, without those."""
        if len(text) < SHORTEST:
            return text
        text = self.secrets.redact(text)
        bare = clean(text)
        if bare == text:
            return text
        hidden = self.secrets.redact(bare)
        return text if hidden == bare else hidden

    def hidden(self, value: Any) -> Any:
        """The same for all text in a JSON value."""
        match value:
            case str():
                return self.hide(value)
            case Mapping():
                return {self.hide(str(key)): self.hidden(each) for key, each in value.items()}
            case list() | tuple():
                return [self.hidden(each) for each in value]
        return value


class Redaction:
    """Used by the consumer of its conversation only."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._run: _Run | None = None  # the text that an agent is saying

    def drafts(self, drafts: Iterable[Draft]) -> list[Draft]:
        """What may be logged of these by now; anything that a reader sees between texts ends the text before it."""
        out: list[Draft] = []
        for draft in drafts:
            if draft.kind in _STREAMS:
                out += self._said(draft)
                continue
            if draft.kind not in _BESIDE:
                out += self._rest()
            out.append(self._told(draft))
        return out

    def hide(self, text: str) -> str:
        return self._known.hide(text)

    def question(self, question: Question) -> Question:
        """As a person is asked; what it is bound to stays as it is."""
        subject, options, shown = self._known.hidden([question.subject, question.options, question.shown])
        return replace(question, subject=subject, options=tuple(options), shown=shown)

    def warning(self, turn: Turn) -> list[Draft]:
        """A note for the turn of a message that holds secrets: they were sent and stay where they were typed."""
        if not (names := self._known.secrets.named(turn.text)):
            return []
        text = f"The message holds a secret ({', '.join(names)}). It stays as it was typed, in the file and in the log."
        return [Draft(Kind.NOTE, turn.id, {"text": text, "severity": "warning"})]

    def _said(self, draft: Draft) -> list[Draft]:
        out: list[Draft] = []
        if self._run is None or (self._run.kind, self._run.turn) != (draft.kind, draft.turn):
            out += self._rest()
            self._run = _Run(draft.kind, draft.turn, self._known.secrets)
        text = self._run.feed(str(draft.body["text"]))
        return [*out, Draft(draft.kind, draft.turn, {"text": text})] if text else out

    def _rest(self) -> list[Draft]:
        run, self._run = self._run, None
        text = run.finish() if run is not None else ""
        return [Draft(run.kind, run.turn, {"text": text})] if run is not None and text else []

    def _told(self, draft: Draft) -> Draft:
        queued = draft.kind is Kind.TURN_STATE and draft.body.get("state") == TurnState.QUEUED.value
        return draft if queued or draft.kind in _TYPED else replace(draft, body=self._known.hidden(draft.body))


class _Run:
    """Text of one kind without anything between."""

    def __init__(self, kind: Kind | AuditKind, turn: TurnId | None, secrets: Secrets) -> None:
        self.kind, self.turn = kind, turn
        self._cleaner, self._redactor = Cleaner(), Redactor(secrets)

    def feed(self, text: str) -> str:
        return self._redactor.feed(self._cleaner.feed(text))

    def finish(self) -> str:
        return self._redactor.feed(self._cleaner.finish()) + self._redactor.finish()


class Formatter(logging.Formatter):
    """Of the daemon's own log: an error may quote an agent."""

    def __init__(self, form: str, known: Known) -> None:
        super().__init__(form)
        self._known = known

    def format(self, record: logging.LogRecord) -> str:
        return self._known.hide(super().format(record))
