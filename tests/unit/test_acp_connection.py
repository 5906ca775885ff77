"""Bytes of an agent to what they mean and back: order, noise, answers that nobody waits for, limits; no process, no clock."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent import jsonrpc
from opagent.acp import connection as core
from opagent.acp.connection import Asked, Closed, Connection, Incoming, Noise, Refusal, Reply, Told, Update, Withdrawn

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def line(**body: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **body}).encode() + b"\n"


def update(text: str) -> bytes:
    chunk = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
    return line(method="session/update", params={"sessionId": "s", "update": chunk})


def waiting(*methods: str) -> Connection:
    """A connection whose requests 1, 2, ... wait for an answer."""
    connection = Connection()
    for method in methods:
        connection.request(method, {})
    return connection


def test_a_request_is_answered_once() -> None:
    connection = Connection()
    number, data = connection.request("initialize", {"protocolVersion": 1})
    assert json.loads(data) == {"jsonrpc": "2.0", "id": number, "method": "initialize", "params": {"protocolVersion": 1}}
    assert data.endswith(b"\n")
    assert connection.receive(line(id=number, result={"a": 1})) == [Reply(number, "initialize", {"a": 1})]
    [again] = connection.receive(line(id=number, result={"a": 2}))
    assert isinstance(again, Noise)
    assert "nobody waits for" in again.sentence


@pytest.mark.parametrize("ident", [1.0, 1])
def test_an_agent_whose_language_has_only_floats_is_understood(ident: float) -> None:
    assert waiting("session/prompt").receive(line(id=ident, result={})) == [Reply(1, "session/prompt", {})]


@pytest.mark.parametrize("ident", ["1", 1.5, 2, -1, 0, 2**70, 1e300, "", "x" * 1000])
def test_answers_with_another_id_are_noise_and_ours_still_counts(ident: Any) -> None:
    connection = waiting("session/prompt")
    [noise] = connection.receive(line(id=ident, result={}))
    assert isinstance(noise, Noise)
    assert len(noise.sentence) < 200
    [failed] = connection.receive(line(id=ident, error={"code": 1, "message": "no"}))
    assert isinstance(failed, Noise)
    assert connection.receive(line(id=1, result={})) == [Reply(1, "session/prompt", {})]


@pytest.mark.parametrize("result", [None, [], "text", 7, True])
def test_a_result_that_is_no_object_is_an_empty_one(result: Any) -> None:
    assert waiting("session/set_mode").receive(line(id=1, result=result)) == [Reply(1, "session/set_mode", {})]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        ({"code": -32000, "message": "Authentication required"}, -32000, "Authentication required"),
        ({"code": -32603, "message": "Internal error", "data": {"details": "no model"}}, -32603, "Internal error: no model"),
        ({"code": -32603, "message": "Internal error", "data": "no model"}, -32603, "Internal error: no model"),
        ({"code": -32603, "message": "no model", "data": {"message": "no model"}}, -32603, "no model"),
        ({"code": -32603, "message": "x", "data": {"details": ["a"], "error": 5}}, -32603, "x"),
        ({"code": "much", "message": ["odd"]}, jsonrpc.INTERNAL_ERROR, "no message"),
        ("just text", jsonrpc.INTERNAL_ERROR, "just text"),
        ([1], jsonrpc.INTERNAL_ERROR, "[1]"),
    ],
)
def test_an_error_is_told_in_the_agents_words(error: Any, code: int, words: str) -> None:
    assert waiting("session/new").receive(line(id=1, error=error)) == [Refusal(1, "session/new", code, words)]


def test_long_details_of_an_error_are_cut() -> None:
    [refusal] = waiting("a").receive(line(id=1, error={"code": 1, "message": "m", "data": "x" * 10**6}))
    assert isinstance(refusal, Refusal)
    assert len(refusal.message) < 2100


METHODS = [
    "session/request_permission", "fs/read_text_file", "fs/write_text_file", "terminal/create", "terminal/output",
    "terminal/wait_for_exit", "terminal/kill", "terminal/release", "elicitation/create", "mcp/message", "_own/thing", "nonsense",
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ident", [0, 1, -3, "a", 2.5, 2**70, ""])
def test_every_request_comes_out_and_is_answered_with_its_own_id(method: str, ident: Any) -> None:
    connection = Connection()
    assert connection.receive(line(id=ident, method=method, params={"a": [1]})) == [Asked(ident, method, {"a": [1]})]
    assert json.loads(connection.answer(ident, {"b": 2})) == {"jsonrpc": "2.0", "id": ident, "result": {"b": 2}}
    assert connection.receive(line(id=ident, method=method)) == [Asked(ident, method, {})]
    refused = json.loads(connection.refuse(ident, -32601, "no"))
    assert refused == {"jsonrpc": "2.0", "id": ident, "error": {"code": -32601, "message": "no"}}


def test_requests_are_understood_before_anything_was_initialized() -> None:
    assert Connection().receive(line(id=1, method="fs/read_text_file")) == [Asked(1, "fs/read_text_file", {})]


def test_an_id_that_is_in_use_is_not_taken_twice() -> None:
    connection = Connection()
    connection.receive(line(id=5, method="session/request_permission"))
    for again in (5, 5.0):
        [noise] = connection.receive(line(id=again, method="fs/read_text_file"))
        assert isinstance(noise, Noise)
        assert not noise.answer  # it would answer the first one
    connection.answer(5, {})
    assert isinstance(connection.receive(line(id=5, method="fs/read_text_file"))[0], Asked)


def test_an_agent_cannot_have_more_than_so_many_requests_open() -> None:
    connection = Connection()
    asked = connection.receive(b"".join(line(id=n, method="x") for n in range(core.OPEN_REQUESTS + 2)))
    assert [isinstance(one, Asked) for one in asked] == [True] * core.OPEN_REQUESTS + [False] * 2
    last = asked[-1]
    assert isinstance(last, Noise)
    assert json.loads(last.answer)["id"] == core.OPEN_REQUESTS + 1
    connection.refuse(3, -32601, "no")
    assert isinstance(connection.receive(line(id="next", method="x"))[0], Asked)


@pytest.mark.parametrize("ident", [4, "four", 4.5])
def test_an_agent_can_take_its_request_back(ident: Any) -> None:
    assert Connection().receive(line(method="$/cancel_request", params={"requestId": ident})) == [Withdrawn(ident)]


@pytest.mark.parametrize("params", [{}, {"requestId": None}, {"requestId": True}, {"requestId": [1]}])
def test_taking_back_nothing_is_only_told(params: dict[str, Any]) -> None:
    assert Connection().receive(line(method="$/cancel_request", params=params)) == [Told("$/cancel_request", params)]


def test_notifications_that_are_no_updates_are_told() -> None:
    params = {"elicitationId": "e"}
    assert Connection().receive(line(method="elicitation/complete", params=params)) == [Told("elicitation/complete", params)]


@given(JSON, JSON)
def test_an_update_comes_out_whatever_is_in_it(session: Any, body: Any) -> None:
    found = Connection().receive(line(method="session/update", params={"sessionId": session, "update": body}))
    assert found == [Update(session if isinstance(session, str) else "", body if isinstance(body, dict) else {})]


# ---- noise -----------------------------------------------------------------------------------------------------------------

NOISE = [
    b"Welcome to the agent!", b"\x1b[31mred\x1b[0m", b"{", b"[]", b"7", b'"text"', b"\xff\xfe", b"\x00", b"null",
    b'{"jsonrpc":"1.0","method":"x"}', b'{"jsonrpc":"2.0"}', b'{"method":"x","method":"y"}', b'{"method":"x","params":{"n":NaN}}',
    b'{"method":"x","params":{"n":1e400}}', b"[" * 100_000, b'{"a":' * 1000, b'{"method":"x","params":[1]}', b'{"method":7}',
    b'{"method":"x","params":{"n":' + b"9" * 5000 + b"}}",
]  # fmt: skip


@pytest.mark.parametrize("noise", NOISE)
def test_what_is_no_message_is_noise_and_the_next_line_counts(noise: bytes) -> None:
    found = Connection().receive(update("a") + noise + b"\r\n" + update("b"))
    assert [type(one) for one in found] == [Update, Noise, Update]


@pytest.mark.parametrize("prefix", [b"\xef\xbb\xbf", b"  ", b"\t"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b" \r\n"])
def test_line_ends_and_byte_order_marks_do_not_matter(prefix: bytes, end: bytes) -> None:
    assert [type(one) for one in Connection().receive(prefix + update("a").rstrip() + end)] == [Update]


@pytest.mark.parametrize(
    ("request_line", "code"),
    [
        (b'{"jsonrpc":"1.0","id":3,"method":"x"}', jsonrpc.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":3,"method":"x","params":[1]}', jsonrpc.INVALID_PARAMS),
        (b'{"jsonrpc":"2.0","id":3,"method":7}', jsonrpc.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":3,"method":"x","params":{"n":NaN}}', jsonrpc.PARSE_ERROR),
    ],
)
def test_a_spoilt_request_gets_an_answer(request_line: bytes, code: int) -> None:
    [noise] = Connection().receive(request_line + b"\n")
    assert isinstance(noise, Noise)
    answer = json.loads(noise.answer)
    assert (answer["id"], answer["error"]["code"]) == (3, code)


def test_a_batch_is_refused() -> None:
    [noise] = Connection().receive(b'[{"jsonrpc":"2.0","id":1,"method":"x"}]\n')
    assert isinstance(noise, Noise)
    assert json.loads(noise.answer) == {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no batches"}}


def test_an_answer_that_cannot_be_read_ends_the_waiting() -> None:
    [refusal] = waiting("session/prompt").receive(b'{"jsonrpc":"2.0","id":1,"result":{"n":NaN}}\n')
    assert isinstance(refusal, Refusal)
    assert refusal.method == "session/prompt"


def test_the_first_noises_are_shown_and_too_many_in_a_row_are_fatal() -> None:
    connection = Connection()
    shown = connection.receive(b"noise\n" * core.NOISE_FATAL)
    assert len(shown) == core.NOISE_SHOWN
    assert not any(isinstance(one, Noise) and one.fatal for one in shown)
    [fatal] = connection.receive(b"noise\n")
    assert isinstance(fatal, Noise)
    assert fatal.fatal


def test_a_message_between_noises_starts_the_count_anew() -> None:
    connection = Connection()
    for _ in range(3):
        found = connection.receive(b"noise\n" * core.NOISE_FATAL + update("x"))
        assert not any(isinstance(one, Noise) and one.fatal for one in found)
        assert isinstance(found[-1], Update)


def test_spoilt_requests_are_answered_also_when_no_more_noise_is_shown() -> None:
    connection = Connection()
    connection.receive(b"noise\n" * (core.NOISE_SHOWN + 1))
    [silent] = connection.receive(b'{"jsonrpc":"2.0","id":3,"method":7}\n')
    assert isinstance(silent, Noise)
    assert silent.sentence == ""
    assert silent.answer


def test_a_line_over_the_limit_is_dropped_and_the_next_one_counts() -> None:
    connection = Connection(line_limit=1000)
    found = [each for block in (b"x" * 700, b"y" * 700, b"\n" + update("a")) for each in connection.receive(block)]
    assert sorted(type(one).__name__ for one in found) == ["Noise", "Update"]
    assert "1000 bytes" in str(next(one for one in found if isinstance(one, Noise)).sentence)
    exactly = update("a" * (1000 - len(update("")) + 1))
    assert len(exactly) == 1001  # 1000 and the newline
    assert [type(one) for one in connection.receive(exactly)] == [Update]


def test_the_end_names_what_is_still_open_and_half_a_line() -> None:
    connection = waiting("initialize", "session/prompt")
    connection.receive(line(id=1, result={}) + b'{"jsonrpc":"2.0","id":2,"res')
    half, closed = connection.receive(b"")
    assert isinstance(half, Noise)
    assert closed == Closed(("session/prompt",))
    assert Connection().receive(b"") == [Closed(())]


# ---- order -----------------------------------------------------------------------------------------------------------------


def _stream(pieces: list[int]) -> bytes:
    kinds = [
        update("a"), line(id=1, result={}), line(id="q", method="fs/read_text_file"), b"noise\n", line(method="x/y"),
        line(id=2, error={"code": 1, "message": "no"}), b"\n", update("über \U0001f600"), line(id=77, result={}),
        line(method="$/cancel_request", params={"requestId": "q"}), b'[{"id":1}]\n',
    ]  # fmt: skip
    return b"".join(kinds[piece % len(kinds)] for piece in pieces)


@given(st.lists(st.integers(0, 100), max_size=30), st.lists(st.integers(1, 40), max_size=60))
def test_the_order_is_the_wires_however_the_bytes_are_cut(pieces: list[int], cuts: list[int]) -> None:
    stream, at = _stream(pieces), 0
    whole, cut = waiting("a", "b"), waiting("a", "b")
    expected: list[Incoming] = whole.receive(stream) if stream else []
    found: list[Incoming] = []
    for size in [*cuts, len(stream) + 1]:
        block = stream[at : at + size]
        at += size
        if block:
            found += cut.receive(block)
    assert _joined(found) == _joined(expected)


def _joined(messages: list[Incoming]) -> list[Any]:
    """Texts that follow each other as one: those that come in one read are."""
    found: list[Any] = []
    for each in messages:
        text = each.update["content"]["text"] if isinstance(each, Update) else None
        if text is not None and found and isinstance(found[-1], str):
            found[-1] += text
        else:
            found.append(each if text is None else text)
    return found


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    connection = waiting("a")
    for incoming in connection.receive(data or b"\n"):
        assert isinstance(incoming, Incoming)
    assert isinstance(connection.receive(b"")[-1], Closed)


@given(JSON, JSON, JSON, JSON, JSON)
def test_no_json_in_any_place_raises(ident: Any, method: Any, params: Any, result: Any, error: Any) -> None:
    members = {"id": ident, "method": method, "params": params, "result": result, "error": error}
    for left_out in (set[str](), {"method"}, {"id"}, {"method", "error"}, {"method", "result"}, {"error", "result"}):
        connection = waiting("a", "b")
        for incoming in connection.receive(line(**{key: value for key, value in members.items() if key not in left_out})):
            if isinstance(incoming, Asked):  # what was read can be written
                connection.answer(incoming.id, incoming.params)
