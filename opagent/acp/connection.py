"""One agent's side of the wire: bytes in, what they mean out; calls in, bytes out. Pure: no process, no clock, no waiting.

::

    connection = Connection()
    number, data = connection.request("initialize", messages.initialize(()))
    for incoming in connection.receive(block):      # b"" says that the stream ended
        ...

Every answer, update and request comes out in wire order, so that one consumer sees them as the agent sent them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from opagent import jsonrpc
from opagent.acp.messages import as_dict, as_text
from opagent.acp.stream import Stream

LINE_LIMIT = 16 * 2**20  # bytes; a longer line is dropped and the next one still counts
NOISE_SHOWN = 20  # lines that are no messages, kept for the person
NOISE_FATAL = 1000  # so many in a row: this is no agent
TOGETHER = 64 * 1024  # characters of text that one update says of chunks that were read together
OPEN_REQUESTS = 64  # of the agent, that we have not answered
WORDS = 2000  # characters of an error's `data` that are told


@dataclass(frozen=True, slots=True)
class Reply:
    """The good answer to our request `number`."""

    number: int
    method: str
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The bad answer to our request `number`, in the agent's own words: its message and what its `data` says in text."""

    number: int
    method: str
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Update:
    """`session/update`; chunks of text that came together may be one."""

    session: str
    update: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of the agent; answered with `answer` or `refuse` and this id. `number` tells it from others with the same id."""

    id: jsonrpc.Id
    method: str
    params: dict[str, Any]
    number: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """`$/cancel_request`: the agent no longer wants the answer to its request `id`; it still gets one (-32800)."""

    id: jsonrpc.Id


@dataclass(frozen=True, slots=True)
class Told:
    """A notification other than these two."""

    method: str
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Noise:
    """Something on stdout that is no message; `sentence` is empty when enough were shown. `fatal` after too many in a row.

    `answer` is what JSON-RPC 2.0 section 5.1 wants sent back, so that an agent never waits for a request it spoilt.
    """

    sentence: str
    fatal: bool = False
    answer: bytes = b""


@dataclass(frozen=True, slots=True)
class Closed:
    """The end of the stream; `open` are our requests without an answer."""

    open: tuple[str, ...]


Incoming: TypeAlias = Reply | Refusal | Update | Asked | Withdrawn | Told | Noise | Closed


class Connection:
    """JSON-RPC bookkeeping of one agent process."""

    def __init__(self, line_limit: int = LINE_LIMIT) -> None:
        self._framer = jsonrpc.Framer(line_limit)
        self._stream = Stream()
        self._ours: dict[int, str] = {}  # requests that wait for the agent
        self._theirs: set[jsonrpc.Id] = set()  # requests that wait for us
        self._next = 0
        self._asked_before = 0
        self._noise = 0
        self._noise_in_a_row = 0
        self._dropped = 0

    # ---- saying ------------------------------------------------------------------------------------------------------

    def request(self, method: str, params: Mapping[str, Any]) -> tuple[int, bytes]:
        """A request and its number, which the `Reply` or `Refusal` will carry."""
        self._next += 1
        self._ours[self._next] = method
        return self._next, jsonrpc.encode(jsonrpc.Request(self._next, method, dict(params)))

    def notify(self, method: str, params: Mapping[str, Any]) -> bytes:
        return jsonrpc.encode(jsonrpc.Notification(method, dict(params)))

    def answer(self, ident: jsonrpc.Id, result: Any) -> bytes:
        self._theirs.discard(ident)
        return jsonrpc.encode(jsonrpc.Response(ident, result))

    def refuse(self, ident: jsonrpc.Id, code: int, message: str) -> bytes:
        self._theirs.discard(ident)
        return jsonrpc.encode(jsonrpc.Failure(ident, code, message))

    # ---- hearing -----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Incoming]:
        """What these bytes complete, in wire order; b"" is the end of the stream."""
        if not data:
            return self._end()
        found: list[Incoming] = []
        for line in self._framer.feed(data):
            if self._stream.take(line):
                if self._stream.size >= TOGETHER:
                    self._streamed(found)
                continue
            self._streamed(found)
            if (incoming := self._read(line)) is not None:
                found.append(incoming)
        self._streamed(found)
        dropped, self._dropped = self._framer.dropped - self._dropped, self._framer.dropped
        notices = (self._noticed(f"a line of more than {self._framer.limit} bytes was dropped") for _ in range(dropped))
        return [*found, *filter(None, notices)]

    def _streamed(self, found: list[Incoming]) -> None:
        """What was said in lines that are all alike, as one update in its place."""
        if (said := self._stream.said()) is not None:
            self._noise_in_a_row = 0
            found.append(Update(*said))

    def _end(self) -> list[Incoming]:
        half = self._noticed("the stream ended in the middle of a line") if self._framer.pending else None
        left, self._ours = tuple(self._ours.values()), {}
        return [half, Closed(left)] if half else [Closed(left)]

    def _read(self, line: bytes) -> Incoming | None:
        message = jsonrpc.decode(line)
        match message:
            case jsonrpc.Noise(why, head, answer):
                return self._noticed(f"not a message ({why}): {head}", answer)
            case jsonrpc.Request(ident, method, params):
                incoming = self._asked(ident, method, params)
            case jsonrpc.Notification("session/update", params):
                incoming = Update(as_text(params.get("sessionId")), as_dict(params.get("update")))
                if type(incoming.update.get("content")) is dict:
                    self._stream.learn(line)
            case jsonrpc.Notification("$/cancel_request", {"requestId": ident}) if type(ident) in (str, int, float):
                incoming = Withdrawn(ident)
            case jsonrpc.Notification(method, params):
                incoming = Told(method, params)
            case jsonrpc.Response() | jsonrpc.Failure():
                incoming = self._answered(message)
        if not isinstance(incoming, Noise):
            self._noise_in_a_row = 0
        return incoming

    def _asked(self, ident: jsonrpc.Id, method: str, params: dict[str, Any]) -> Incoming | None:
        if ident in self._theirs:  # an answer to the second would be taken for one to the first
            return self._noticed(f"the request id {str(ident)[:40]!r} is in use; {method[:80]!r} was ignored")
        if len(self._theirs) >= OPEN_REQUESTS:
            words = f"more than {OPEN_REQUESTS} requests wait for an answer"
            return self._noticed(words, jsonrpc.Failure(ident, jsonrpc.INTERNAL_ERROR, words))
        self._theirs.add(ident)
        self._asked_before += 1
        return Asked(ident, method, params, self._asked_before)

    def _answered(self, message: jsonrpc.Response | jsonrpc.Failure) -> Incoming | None:
        """The first answer to a request of ours; any other, and one with an id that we never used, is noise."""
        ident = message.id
        method = self._ours.pop(int(ident), None) if isinstance(ident, int | float) and ident == int(ident) else None
        if method is None or ident is None:
            return self._noticed(f"an answer that nobody waits for, with the id {str(ident)[:40]!r}")
        if isinstance(message, jsonrpc.Response):
            return Reply(int(ident), method, as_dict(message.result))
        return Refusal(int(ident), method, message.code, _in_words(message))

    def _noticed(self, sentence: str, answer: jsonrpc.Failure | None = None) -> Noise | None:
        self._noise += 1
        self._noise_in_a_row += 1
        data = jsonrpc.encode(answer) if answer else b""
        if self._noise_in_a_row > NOISE_FATAL:
            return Noise(f"the agent's last {NOISE_FATAL} lines were no messages", True, data)
        if self._noise <= NOISE_SHOWN or data:
            return Noise(sentence if self._noise <= NOISE_SHOWN else "", False, data)
        return None


def _in_words(failure: jsonrpc.Failure) -> str:
    """The message, and what `data` adds to it: many agents say "Internal error" and put what happened into `data`."""
    data = failure.data
    more = data if isinstance(data, str) else next((as_dict(data).get(key) for key in _DETAILS if as_dict(data).get(key)), "")
    more = as_text(more).strip()
    return f"{failure.message}: {more[:WORDS]}" if more and more not in failure.message else failure.message


_DETAILS = ("details", "detail", "message", "error", "reason")
