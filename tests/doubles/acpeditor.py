"""An editor for tests of `opagent acp`: a person's words go in, every line that comes back is looked at by the oracle."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.doubles.acpschema import Line, checked
from tests.doubles.daemons import command, environment
from tests.doubles.patience import PATIENCE
from tests.doubles.stdio_agent import StdioAgent

ABLE = {
    "auth": {"terminal": True},
    "elicitation": {"form": {}},
    "session": {"configOptions": {"boolean": {}}, "notices": {}, "compaction": {}},
}
Message = dict[str, Any]


class AcpEditor(StdioAgent):
    """`able`: what it says it can. Everything that it was told is in `messages`, in order."""

    def __init__(self, *words: str, cwd: Path, able: Mapping[str, Any] | None = None, **variables: str) -> None:
        self.wire: list[Line] = []
        self.able = ABLE if able is None else able
        super().__init__(command("acp", *words), cwd, environment(**variables))
        self.cwd = cwd
        self._looked = 0

    def send(self, message: Mapping[str, Any]) -> None:
        self.wire.append(("ours", dict(message)))
        super().send(message)

    def _take(self, line: bytes) -> None:
        super()._take(line)
        self.wire.append(("theirs", json.loads(line)))

    def initialize(self) -> Any:
        said = {"protocolVersion": 1, "clientCapabilities": self.able, "clientInfo": {"name": "test", "version": "1"}}
        return self.call("initialize", **said)

    def open(self, cwd: Path | None = None) -> str:
        """initialize and session/new."""
        return self.begin(cwd or self.cwd)

    def load(self, session: str, cwd: Path | None = None) -> list[Message]:
        """session/load; the updates that came before its answer."""
        self.session, start = session, len(self.messages)
        answer = self.answer_to(self.post("session/load", sessionId=session, cwd=str(cwd or self.cwd), mcpServers=[]))
        assert "result" in answer, answer
        return self.updates(start, self.messages.index(answer))

    def error(self, method: str, **params: Any) -> Message:
        answer = self.answer_to(self.post(method, **params))
        assert "error" in answer, answer
        return dict(answer["error"])

    def asked(self, method: str = "session/request_permission", after: int = 0) -> Message:
        """The next question to the person."""
        return self.until(lambda message: message.get("method") == method, after=after)

    def choose(self, question: Message, option: str) -> None:
        self.reply(question, {"outcome": {"outcome": "selected", "optionId": option}})

    def reply(self, question: Message, result: Message) -> None:
        self.send({"jsonrpc": "2.0", "id": question["id"], "result": result})

    def update(self, kind: str, holds: str = "", after: int = 0) -> Message:
        """The first update of a kind whose JSON holds the words."""

        def wanted(message: Message) -> bool:
            update = message.get("params", {}).get("update", {})
            return update.get("sessionUpdate") == kind and holds in json.dumps(update)

        return dict(self.until(wanted, after=after)["params"]["update"])

    def said(self, kind: str, start: int = 0) -> str:
        """The text of all chunks of a kind."""
        return "".join(one["content"]["text"] for one in self.updates(start) if one["sessionUpdate"] == kind)

    def check(self) -> None:
        """All that `opagent acp` said is what both oracles take."""
        checked(self.wire, of=("theirs",))
        assert not self.noise, self.noise


@contextlib.contextmanager
def editor(*words: str, cwd: Path, able: Mapping[str, Any] | None = None, **variables: str) -> Iterator[AcpEditor]:
    """`opagent acp WORDS` for the length of a `with` block; it leaves by itself when the pipe is closed."""
    one = AcpEditor(*words, cwd=cwd, able=able, **variables)
    try:
        yield one
        one.check()
        if one.process.poll() is None:
            one.close_input()
            assert one.ended(PATIENCE) == 0, one.errors
    finally:
        one.kill()
