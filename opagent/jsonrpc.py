"""JSON-RPC 2.0, one message a line: bytes to messages and back, within limits of size, depth and number; does no I/O.

Tolerant of sloppy peers, safe against hostile ones:

    framer = Framer(limit=16 * 2**20)
    for line in framer.feed(block):        # whole lines; longer ones are dropped and counted
        message = decode(line)             # Request | Notification | Response | Failure | Noise; never raises
    writer.send(encode(Request(1, "initialize", {"protocolVersion": 1})))

What `decode` returned can always be written again: no NaN, infinity or lone surrogate is in it. Source: https://www.jsonrpc.org/specification
"""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeAlias

from opagent.jsonline import CONTROLS, encode_line, too_long_text, without_escapes

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
DEPTH = 200  # brackets inside brackets
VALUES = 250_000  # members and elements of one message: two bytes of JSON become seventy of memory
HEAD = 200  # characters of a line that `Noise` keeps

Id: TypeAlias = int | float | str  # floats because some languages know no integers; 1 and 1.0 are the same id


@dataclass(frozen=True, slots=True)
class Request:
    """Wants an answer with the same id. `extra` holds other keys of the root: traceparent, tracestate, baggage."""

    id: Id
    method: str
    params: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notification:
    """Wants no answer. `"id": null` beside a method means the same (JSON-RPC 1.0)."""

    method: str
    params: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    """The good answer to the request `id`; `result` is any JSON value."""

    id: Id
    result: Any = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """The bad answer; `id` is None when the peer could not say which request it means. `data` None is not written."""

    id: Id | None
    code: int
    message: str
    data: Any = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Noise:
    """A line that is no message: `why` in one phrase, `head` its first characters (unescaped), `answer` to send back if any."""

    why: str
    head: str
    answer: Failure | None = None


Message: TypeAlias = Request | Notification | Response | Failure | Noise


class Framer:
    """Cuts a byte stream into lines of at most `limit` bytes; a longer one is skipped up to the next newline.

    Holds at most the unfinished line (limit + 1/8) besides the block just fed; the work is linear however the bytes are cut.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.dropped = 0  # lines skipped, the unfinished one included
        self.dropped_bytes = 0
        self._part = io.BytesIO()  # its getvalue() hands the buffer over without a copy
        self._skipping = False

    @property
    def pending(self) -> int:
        """Bytes of the unfinished line that are kept; at the end of the stream: half a message."""
        return self._part.tell()

    def feed(self, block: bytes) -> list[bytes]:
        """The lines completed by this block, in order, without their newline; empty lines are left out."""
        first, *rest = block.split(b"\n")
        if not rest:
            self._keep(first)
            return []
        lines = [self._finish(first), *rest[:-1]]
        if len(block) > self.limit:
            lines = [line if len(line) <= self.limit else self._drop(line) for line in lines]
        self._keep(rest[-1])
        return [line for line in lines if line and line != b"\r"]

    def _keep(self, piece: bytes) -> None:
        if self._skipping:
            self.dropped_bytes += len(piece)
        elif self._part.tell() + len(piece) > self.limit:
            self._skipping = True
            self._drop(piece)
        else:
            self._part.write(piece)

    def _finish(self, piece: bytes) -> bytes:
        self._keep(piece)
        line, self._part, self._skipping = self._part.getvalue(), io.BytesIO(), False
        return line

    def _drop(self, piece: bytes) -> bytes:
        self.dropped += 1
        self.dropped_bytes += self._part.tell() + len(piece)
        self._part = io.BytesIO()
        return b""


class _Refused(ValueError):
    """JSON that the standard parser takes and nobody can write again, or that two readers understand differently."""


def decode(line: bytes) -> Message:
    """The message in one line, without newline. Never raises: what is no message comes back as `Noise`.

    A request that cannot be used but whose id is known is Noise with an `answer`; a response that cannot be read but whose
    id is known is a `Failure` of that id, so that nobody waits for it in vain.
    """
    size = len(line)  # doubling a byte and comparing lengths takes a third of the time of bytes.count
    large = size > VALUES or len(line.replace(b"{", b"{{").replace(b"[", b"[[")) > size + DEPTH
    if large and (why := _misshapen(line)):
        return _noise(why, line)
    if too_long_text(line):
        return _unreadable(line, _Refused("a text too long"))
    try:
        text = line.decode()
        if text.rfind("\\u") >= 0:  # rfind: a third of the time of `in`
            text = _SURROGATE.sub(_paired, text)
        if text[0] != "{":
            text = text.lstrip("\ufeff \t\r")
        message, end = _STRICT.raw_decode(text)
        if end != len(text) and text[end:].strip():
            return _noise("something follows the JSON value", line)
    except (ValueError, RecursionError, IndexError) as error:
        return _unreadable(line, error)
    if type(message) is not dict:
        return _no_object(message, line)
    version = message.pop("jsonrpc", "2.0")  # missing is tolerated: a well-known agent never sends it
    if version != "2.0":
        return _unusable("not JSON-RPC 2.0", message, line)
    return _message(message, line)


def decode_text(literal: bytes) -> str | None:
    """The text of a JSON string, given without its quotes; None for what `decode` would not take as one."""
    try:
        if b"\\" not in literal:  # to parse it takes twice as long
            strict = b'"' not in literal and len(literal.translate(None, CONTROLS)) == len(literal)
            return literal.decode() if strict else None
        text = literal.decode()
        if text.rfind("\\u") >= 0:
            text = _SURROGATE.sub(_paired, text)
        value, end = _STRICT.raw_decode(f'"{text}"')
    except ValueError:
        return None
    return value if end == len(text) + 2 else None


def encode(message: Request | Notification | Response | Failure) -> bytes:
    """One line of UTF-8 with its newline. ValueError for NaN and infinity; a lone surrogate is written as an escape."""
    return encode_line(_body(message))


def _body(message: Request | Notification | Response | Failure) -> dict[str, Any]:
    body: dict[str, Any] = {"jsonrpc": "2.0"}
    if isinstance(message, Request):
        body |= {"id": message.id, "method": message.method, "params": message.params}
    elif isinstance(message, Notification):
        body |= {"method": message.method, "params": message.params}
    elif isinstance(message, Response):
        body |= {"id": message.id, "result": message.result}
    else:
        error = {"code": message.code, "message": message.message}
        body |= {"id": message.id, "error": error if message.data is None else {**error, "data": message.data}}
    return message.extra | body if message.extra else body


def _message(message: dict[str, Any], line: bytes) -> Message:
    """Takes the known keys out of `message`; what is left over is `extra`."""
    ident = message.get("id")
    if ident is not None and type(ident) not in (int, str, float):
        return _unusable("the id is neither a number nor a string", message, line)
    if "method" not in message:
        return _answer(ident, message, line)
    params = message.get("params")
    if type(message["method"]) is not str:
        return _unusable("the method is no string", message, line)
    if params is None:
        params = {}
    elif type(params) is not dict:
        return _unusable("params is no object", message, line, INVALID_PARAMS)
    method = message.pop("method")
    message.pop("params", None)
    message.pop("id", None)
    return Notification(method, params, message) if ident is None else Request(ident, method, params, message)


def _answer(ident: Id | None, message: dict[str, Any], line: bytes) -> Message:
    error = message.pop("error", None)
    if error is None and (ident is None or "result" not in message):
        return _unusable("neither a request nor an answer", message, line)
    message.pop("id", None)
    result = message.pop("result", None)
    if error is None and ident is not None:
        return Response(ident, result, message)
    if type(error) is not dict:
        return Failure(ident, INTERNAL_ERROR, str(error), None, message)
    code, said = error.get("code"), error.get("message")
    code = code if type(code) is int else INTERNAL_ERROR
    return Failure(ident, code, said if type(said) is str else "no message", error.get("data"), message)


def _noise(why: str, line: bytes, answer: Failure | None = None) -> Noise:
    return Noise(why, line[: 4 * HEAD].decode(errors="replace")[:HEAD], answer)


def _unusable(why: str, message: dict[str, Any], line: bytes, code: int = INVALID_REQUEST) -> Message:
    """A request gets an answer, and whoever waits for this answer learns that none will come; else it is noise."""
    ident = message.get("id")
    if type(ident) not in (int, str, float) or (type(ident) is float and not math.isfinite(ident)):
        return _noise(why, line)
    if "method" in message:
        return _noise(why, line, Failure(ident, code, why))
    return Failure(ident, code, f"the answer cannot be used: {why}")


def _no_object(value: Any, line: bytes) -> Noise:
    batch = type(value) is list and value and type(value[0]) is dict
    return _noise("a batch" if batch else "no object", line, Failure(None, INVALID_REQUEST, "no batches") if batch else None)


def _unreadable(line: bytes, error: Exception) -> Message:
    """Reads the line again, closing both eyes, to learn whom the loss concerns."""
    why = str(error) if isinstance(error, _Refused) else "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"
    try:
        message = _LENIENT.decode(_SURROGATE.sub(_paired, line.decode(errors="replace")).lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return _noise(why, line)
    return _unusable(why, message, line, PARSE_ERROR) if type(message) is dict else _noise(why, line)


def _misshapen(line: bytes) -> str | None:
    """Why a line is not given to the parser. Only C loops: a line of 16 MiB is looked at in well under a second."""
    bare = without_escapes(line)
    if bare.count(b'"') > 4 * VALUES:
        return "too many values"
    outside = b"".join(bare.split(b'"')[::2])  # what is not inside a string
    if outside.count(b",") + outside.count(b"[") + outside.count(b"{") > VALUES:
        return "too many values"
    steps = outside.translate(_STEPS, _NO_BRACKETS)
    return "nested too deeply" if steps and max(accumulate(memoryview(steps).cast("b"))) > DEPTH else None


_STEPS, _NO_BRACKETS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff"), bytes(set(range(256)) - set(b"[{]}"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("a key twice in one object")
    return found


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _Refused("a number too large")
    return value


def _constant(name: str) -> Any:
    raise _Refused(f"{name} is no JSON")


def _paired(match: re.Match[str]) -> str:
    return match[0] if len(match[0]) != 6 or match[0][2] not in "dD" else "\\ufffd"


# A pair, a lone surrogate, or any other escape (so that `\\ud800`, a backslash and text, is left alone).
_HIGH, _LOW, _EITHER = r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F][0-9a-fA-F]{2}", r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
_SURROGATE = re.compile(rf"{_HIGH}{_LOW}|{_EITHER}|\\.", re.DOTALL)
_STRICT = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
_LENIENT = json.JSONDecoder(parse_int=lambda digits: int(digits) if len(digits) < 400 else None, strict=False)
