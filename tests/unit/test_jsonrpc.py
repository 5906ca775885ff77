"""Lines and messages: hostile and sloppy ones, limits, and that whatever was read can be written again."""

from __future__ import annotations

import json
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent import jsonline, jsonrpc
from opagent.jsonrpc import Failure, Framer, Message, Noise, Notification, Request, Response, decode, encode, encode_line

MEBI = 2**20
text = st.text(st.characters(codec="utf-8"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(text, values, max_size=5)
ids = st.integers() | text | st.floats(allow_nan=False, allow_infinity=False)
extras = st.dictionaries(st.sampled_from(["traceparent", "tracestate", "baggage"]), text, max_size=3)
messages: st.SearchStrategy[Any] = st.one_of(
    st.builds(Request, ids, text, objects, extras),
    st.builds(Notification, text, objects, extras),
    st.builds(Response, ids, values, extras),
    st.builds(Failure, ids | st.none(), st.integers(), text, values, extras),
)


# ---- lines ---------------------------------------------------------------------------------------------------------


def lines_of(blocks: list[bytes], limit: int) -> tuple[list[bytes], Framer]:
    framer = Framer(limit)
    return [line for block in blocks for line in framer.feed(block)], framer


@given(st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"_")), max_size=12), st.integers(1, 25), st.data())
def test_lines_do_not_depend_on_the_blocks(lines: list[bytes], limit: int, data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    blocks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    found, framer = lines_of(blocks, limit)
    assert found == [line for line in lines if len(line) <= limit and line not in (b"", b"\r")]
    assert framer.dropped == sum(len(line) > limit for line in lines)
    assert framer.dropped_bytes == sum(len(line) for line in lines if len(line) > limit)
    assert framer.pending == 0


def test_the_unfinished_line_is_pending() -> None:
    found, framer = lines_of([b'{"a":1}\n{"half'], 100)
    assert (found, framer.pending) == ([b'{"a":1}'], 6)


@pytest.mark.parametrize("extra", [0, 1])
def test_the_limit_is_exact(extra: int) -> None:
    found, framer = lines_of([b"x" * (1000 + extra), b"\nnext\n"], 1000)
    assert found == ([b"next"] if extra else [b"x" * 1000, b"next"])
    assert framer.dropped == extra


def test_a_hundred_megabytes_in_one_line() -> None:
    framer, block, found = Framer(16 * MEBI), b"x" * 65536, []
    tracemalloc.start()
    for _ in range(1600):
        found += framer.feed(block)
    found += framer.feed(b'\n{"ok":1}\n')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [b'{"ok":1}']
    assert (framer.dropped, framer.dropped_bytes) == (1, 1600 * 65536)
    assert peak < 2 * 16 * MEBI


def test_a_line_of_the_limit_is_not_copied_around() -> None:
    framer, block = Framer(16 * MEBI), b"x" * 65536
    tracemalloc.start()
    for _ in range(256):
        assert framer.feed(block) == []
    (line,) = framer.feed(b"\n")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(line) == 16 * MEBI
    assert peak < 2 * 16 * MEBI


def test_one_byte_at_a_time_is_linear() -> None:
    """What is copied is not counted: a copy at each byte would be 500 GB, and not done before the time-out."""
    framer = Framer(MEBI)
    for _ in range(MEBI):
        framer.feed(b"x")
    assert len(framer.feed(b"\n")[0]) == MEBI


# ---- good messages -------------------------------------------------------------------------------------------------


@given(messages)
def test_what_is_written_is_read(message: Any) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line[:-1]) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1}}', Request(1, "m", {"a": 1})),
        (b'{"jsonrpc":"2.0","id":"a","method":"m"}', Request("a", "m")),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":null}', Request(1, "m")),
        (b'{"id":1.0,"method":"m"}', Request(1.0, "m")),
        (b'{"id":1180591620717411303424,"method":"m"}', Request(2**70, "m")),
        (b'{"jsonrpc":"2.0","method":"m","traceparent":"00-1"}', Notification("m", {}, {"traceparent": "00-1"})),
        (b'{"jsonrpc":"2.0","id":null,"method":"m"}', Notification("m")),
        (b'{"jsonrpc":"2.0","id":1,"result":null}', Response(1, None)),
        (b'{"jsonrpc":"2.0","id":1,"result":{"a":[]},"error":null}', Response(1, {"a": []})),
        (b'{"id":1,"error":{"code":-32000,"message":"no","data":{"x":1}}}', Failure(1, -32000, "no", {"x": 1})),
        (b'{"id":null,"error":{"code":-32700,"message":"no"}}', Failure(None, -32700, "no")),
        (b'{"id":1,"error":"went wrong"}', Failure(1, -32603, "went wrong")),
        (b'{"id":1,"error":{"code":"E1"}}', Failure(1, -32603, "no message")),
        (b' \t{"method":"m"} \r', Notification("m")),
        (b'\xef\xbb\xbf{"method":"m"}', Notification("m")),
        (b'{"method":"m","params":{"s":"\\u0000"}}', Notification("m", {"s": "\0"})),
        (
            b'{"method":"m","params":{"s":"\\ud800|\\ud83d\\ude00|\\\\ud800"}}',
            Notification("m", {"s": "\ufffd|\U0001f600|\\ud800"}),
        ),
        (b'{"method":"m","params":{"s":"\\\\\\udfff"}}', Notification("m", {"s": "\\\ufffd"})),
    ],
)
def test_good_messages(line: bytes, message: Message) -> None:
    assert decode(line) == message


# ---- bad ones ------------------------------------------------------------------------------------------------------

LISTS = b'{"method":"m","params":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
MANY_KEYS = b'{"method":"m","params":{' + b",".join(b'"%d":1' % number for number in range(1_000_000)) + b"}}"


@pytest.mark.parametrize(
    ("line", "why", "answered"),
    [
        (b"", "not JSON", None),
        (b"Welcome to the agent!", "not JSON", None),
        (b"\x1b[2K{}", "not JSON", None),
        (b"null", "no object", None),
        (b"[1,2]", "no object", None),
        (b'[{"id":1,"method":"m"}]', "a batch", (None, -32600)),
        (b'{"method":"m"}{"method":"n"}', "something follows", None),
        (b'{"method":"m"', "not JSON", None),
        (b'{"id":7,"method":"\xff"}', "not UTF-8", (7, -32700)),
        (b'{"id":7,"method":"\xed\xa0\x80"}', "not UTF-8", (7, -32700)),
        (b'{"id":7,"method":"m\x00"}', "not JSON", (7, -32700)),
        (b'{"id":7,"method":"m","params":{"a":NaN}}', "NaN is no JSON", (7, -32700)),
        (b'{"id":7,"method":"m","params":{"a":-Infinity}}', "-Infinity is no JSON", (7, -32700)),
        (b'{"id":7,"method":"m","params":{"a":1e400}}', "a number too large", (7, -32700)),
        (b'{"id":7,"method":"m","params":{"a":1,"a":2}}', "a key twice", (7, -32700)),
        (b'{"id":7,"method":"m","params":{"a":' + b"9" * 5000 + b"}}", "not JSON", (7, -32700)),
        (b'{"id":' + b"9" * 5000 + b',"method":"m"}', "not JSON", None),
        (b'{"id":NaN,"method":"m"}', "NaN is no JSON", None),
        (b'{"id":1e999,"method":"m"}', "a number too large", None),
        (b'{"id":true,"method":"m"}', "the id is neither", None),
        (b'{"id":[1],"method":"m"}', "the id is neither", None),
        (b'{"id":{},"result":1}', "the id is neither", None),
        (b'{"jsonrpc":"1.0","id":7,"method":"m"}', "not JSON-RPC 2.0", (7, -32600)),
        (b'{"jsonrpc":2.0,"id":7,"method":"m"}', "not JSON-RPC 2.0", (7, -32600)),
        (b'{"id":7,"method":5}', "the method is no string", (7, -32600)),
        (b'{"id":7,"method":"m","params":[1]}', "params is no object", (7, -32602)),
        (b'{"method":"m","params":"x"}', "params is no object", None),
        (b'{"level":"info","msg":"started"}', "neither a request nor an answer", None),
        (b'{"id":null,"result":1}', "neither a request nor an answer", None),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply", None),
        (LISTS, "nested too deeply", None),
        (b'{"a":' * 50_000, "nested too deeply", None),
        (MANY_KEYS, "too many values", None),
        (b'{"method":"m","params":{"a":[' + b'"",' * 600_000 + b'""]}}', "too many values", None),
    ],
)
def test_noise(line: bytes, why: str, answered: tuple[Any, int] | None) -> None:
    found = decode(line)
    assert isinstance(found, Noise)
    assert found.why.startswith(why)
    assert len(found.head) <= jsonrpc.HEAD
    assert (found.answer and (found.answer.id, found.answer.code)) == answered
    if found.answer:
        json.loads(encode(found.answer))


@pytest.mark.parametrize(
    "line", [b'{"id":3,"result":{"a":1e400}}', b'{"id":3,"result":{"a":1,"a":1}}', b'{"id":3,"result":"\xff"}']
)
def test_who_waits_for_an_answer_that_cannot_be_read_hears_so(line: bytes) -> None:
    found = decode(line)
    assert isinstance(found, Failure)
    assert (found.id, found.code) == (3, -32700)


def test_who_waits_for_an_answer_without_result_hears_so() -> None:
    assert decode(b'{"jsonrpc":"2.0","id":3}') == Failure(3, -32600, "the answer cannot be used: neither a request nor an answer")


@pytest.mark.parametrize(("depth", "good"), [(jsonrpc.DEPTH, True), (jsonrpc.DEPTH + 1, False)])
def test_depth_is_exact_and_brackets_in_strings_do_not_count(depth: int, good: bool) -> None:
    inner: Any = '[[[{{{\\"' * 100
    for _ in range(depth - 2):
        inner = [inner]
    found = decode(json.dumps({"method": "m", "params": {"a": inner}}).encode())
    assert isinstance(found, Notification) is good


def test_a_large_flat_message_is_fine() -> None:
    params = {"text": "[{\n" * 2_000_000, "list": [{} for _ in range(1000)]}
    assert decode(json.dumps({"method": "m", "params": params}).encode()) == Notification("m", params)


@pytest.mark.parametrize("length", [jsonline.STRING, jsonline.STRING + 1])
def test_a_text_has_an_end(length: int) -> None:
    """Who asked with one too long hears so, and who waits for an answer."""
    text = "x" * length
    asked = decode(json.dumps({"id": 3, "method": "m", "params": {"a": text}}).encode())
    answered = decode(json.dumps({"id": 3, "result": text}).encode())
    if length <= jsonline.STRING:
        assert isinstance(asked, Request)
        assert isinstance(answered, Response)
    else:
        assert isinstance(asked, Noise)
        assert (asked.why, asked.answer) == ("a text too long", Failure(3, -32700, "a text too long"))
        assert isinstance(answered, Failure)


@pytest.mark.parametrize(
    "line",
    [
        b'"\\' * (4 * MEBI),
        b'"' * (8 * MEBI),
        b"\\" * (8 * MEBI),
        b"[]," * (3 * MEBI),
        b'{"a":"' + b'\\"' * (4 * MEBI),
        b"9" * (8 * MEBI),
    ],
)
def test_hostile_lines_are_noise(line: bytes) -> None:
    """Whatever takes more than linear time on them would not end before the time-out."""
    assert isinstance(decode(line), Noise)


@given(st.binary(max_size=200))
def test_no_bytes_raise(line: bytes) -> None:
    assert isinstance(decode(line), Noise)


def test_a_lone_surrogate_in_the_id_of_a_damaged_answer_can_be_written() -> None:
    found = decode(b'{"jsonrpc":"2.0","id":"\\ud800\xff","result":null}')
    assert isinstance(found, Failure) and decode(encode(found)[:-1]) == found


@given(messages, st.data())
def test_no_damaged_message_raises_and_the_rest_can_be_written(message: Any, data: st.DataObject) -> None:
    line = bytearray(encode(message)[:-1])
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(line) - 1))
        line[where : where + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from([b"", b"[", b"}", b'"', b"\\ud800", b"\xff", b"NaN", b"1e999", b"\0", b","])
        )
        if not line:
            break
    found = decode(bytes(line))
    if not isinstance(found, Noise):
        assert decode(encode(found)[:-1]) == found


# ---- writing -------------------------------------------------------------------------------------------------------


def test_a_lone_surrogate_can_always_be_written() -> None:
    line = encode(Notification("m", {"path": "a\udcff"}))
    assert line == b'{"jsonrpc":"2.0","method":"m","params":{"path":"a\\udcff"}}\n'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_is_never_written(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(Response(1, value))


def test_extra_never_overrides() -> None:
    line = encode(Request(1, "m", {}, {"id": 2, "method": "n", "jsonrpc": "1.0", "baggage": "b"}))
    assert json.loads(line) == {"jsonrpc": "2.0", "id": 1, "method": "m", "params": {}, "baggage": "b"}


def test_any_object_as_a_line() -> None:
    assert encode_line({"opagent": {"text": "a\nb\u2028ü"}}) == '{"opagent":{"text":"a\\nb\u2028ü"}}\n'.encode()
