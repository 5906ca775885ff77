"""What is said between a person, a model and its tools, in one form for every interface of models. Pure values."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

Body = dict[str, Any]
CUT_OFF = "This was cut off before it ended; whether it had an effect is not known."


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that the model wants. `arguments` is the JSON text as it came: it may be broken."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """`role`: user, assistant or tool. `call`: for a tool's answer, the id of the call."""

    role: str
    text: str
    calls: tuple[Call, ...] = ()
    call: str = ""
    failed: bool = False

    def json(self) -> Body:
        return asdict(self)

    @classmethod
    def of(cls, body: Body) -> "Message":
        calls = tuple(Call(str(each["id"]), str(each["name"]), str(each["arguments"])) for each in body.get("calls", ()))
        return cls(str(body["role"]), str(body["text"]), calls, str(body.get("call", "")), bool(body.get("failed")))

    @property
    def size(self) -> int:
        """About how many tokens it takes: four characters each."""
        return (len(self.text) + sum(len(call.name) + len(call.arguments) for call in self.calls)) // 4 + 8


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `cached` of the input were read from the endpoint's cache; `known` is false where it said nothing."""

    input: int = 0
    output: int = 0
    cached: int = 0
    known: bool = False

    def __add__(self, other: "Usage") -> "Usage":
        known = self.known or other.known
        return Usage(self.input + other.input, self.output + other.output, self.cached + other.cached, known)


@dataclass(frozen=True, slots=True)
class Tool:
    """As the model is told of it. `schema` is the JSON Schema of its arguments."""

    name: str
    about: str
    schema: Body


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to a model."""

    model: str
    system: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    most_output: int = 8192


@dataclass(frozen=True, slots=True)
class Answer:
    """`stop`: end, tools, length or refusal."""

    text: str
    calls: tuple[Call, ...]
    usage: Usage
    stop: str


class BrokenAnswer(Exception):
    """The stream of an answer is not what the interface promises, or ended too early."""


class Assembly(Protocol):
    """Puts the events of one streamed answer together."""

    def feed(self, event: Body) -> Iterator[tuple[str, str]]:
        """What a person can be shown of this event: (text or thought, words). Raises BrokenAnswer, EndpointError."""

    def answer(self) -> Answer:
        """Raises BrokenAnswer when the end never came."""


class Api(Protocol):
    """An interface of models: where it is asked, how, and how its answer comes."""

    path: str

    def headers(self, key: str) -> dict[str, str]: ...

    def body(self, ask: Ask) -> Body: ...

    def assembly(self) -> Assembly: ...


@dataclass(slots=True)
class Pieces:
    """A call whose parts come one after the other."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def call(self, number: int) -> Call:
        return Call(self.id or f"call-{number}", self.name, "".join(self.arguments) or "{}")


def whole(messages: Iterable[Message]) -> list[Message]:
    """The same with an answer behind every call: a model refuses a conversation that has calls without one."""
    found: list[Message] = []
    waiting: dict[str, None] = {}
    for message in messages:
        if message.role == "tool":
            if message.call in waiting:
                del waiting[message.call]
                found.append(message)
            continue
        found += [Message("tool", CUT_OFF, call=each, failed=True) for each in waiting]
        waiting = dict.fromkeys(call.id for call in message.calls)
        found.append(message)
    return found + [Message("tool", CUT_OFF, call=each, failed=True) for each in waiting]


def number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12 else 0
