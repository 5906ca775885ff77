"""Lines that differ in their text only are read the short way: what comes out is what the long way gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opagent import jsonrpc
from opagent.acp import connection as core
from opagent.acp import stream
from opagent.acp.connection import Connection, Incoming, Noise, Update
from opagent.acp.stream import Stream

_SHAPES = (
    '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s1","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"@"}}}}',
    '{"method": "session/update", "params": {"update": {"content": {"text" : "@", "type": "text"}, "sessionUpdate": "agent_thought_chunk", "messageId": "m"}, "sessionId": "s2"}}',
    '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s1","_meta":{"text":"other"},"update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"@"}}}}',
    '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s1","update":{"sessionUpdate":"agent_message_chunk","text":"@","content":{"type":"text"}}}}',
    '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s1","update":{"sessionUpdate":"plan","entries":[{"content":"@"}]}}}',
    '{"jsonrpc":"2.0","id":5,"method":"session/update","params":{"sessionId":"s1","update":{"content":{"text":"@"}}}}',
)
_PIECES = (
    "a",
    "é",
    "\U0001f600",
    '\\"',
    "\\\\",
    "\\n",
    "\\u0041",
    "\\ud83d",
    "\\ude00",
    "\\ud83d\\ude00",
    "\\",
    '"',
    '","text":"x',
    "\t",
    "\\q",
    '"}}}}',
)
literals = st.lists(st.sampled_from(_PIECES), max_size=6).map("".join)


def _the_long_way(line: bytes) -> list[Incoming]:
    return Connection().receive(line + b"\n")


def _same(short: Incoming, long: Incoming) -> bool:
    return isinstance(long, Noise) if isinstance(short, Noise) else short == long


@settings(max_examples=600)
@given(st.lists(st.tuples(st.sampled_from(_SHAPES), literals), max_size=8))
def test_any_lines_mean_the_same(said: list[tuple[str, str]]) -> None:
    connection = Connection()
    for shape, literal in said:
        line = shape.replace("@", literal).encode()
        short = [found for found in connection.receive(line + b"\n") if not isinstance(found, Noise) or found.sentence]
        connection._theirs.clear()
        long = [found for found in _the_long_way(line) if not isinstance(found, Noise) or found.sentence]
        assert len(short) == len(long) and all(map(_same, short, long)), line


def _together(found: list[Incoming]) -> list[Incoming]:
    """The updates that differ in their text only, in one."""
    merged: list[Any] = []
    for each in found:
        before = merged[-1] if merged else None
        if isinstance(each, Update) and isinstance(before, Update) and _without_text(before) == _without_text(each):
            text = before.update["content"]["text"] + each.update["content"]["text"]
            each = merged.pop()
            each = Update(each.session, {**each.update, "content": {**each.update["content"], "text": text}})
        merged.append(each)
    return merged


def _without_text(update: Update) -> Any:
    content = update.update.get("content")
    bare = {**content, "text": ""} if isinstance(content, dict) and isinstance(content.get("text"), str) else object()
    return update.session, {**update.update, "content": bare}


@given(st.lists(st.tuples(st.sampled_from(_SHAPES[:2]), st.text()), min_size=1))
def test_texts_of_one_shape_come_out_in_order(said: list[tuple[str, str]]) -> None:
    lines = [shape.replace('"@"', json.dumps(text)).encode() for shape, text in said]
    found = Connection().receive(b"\n".join(lines) + b"\n")
    assert _together(found) == _together([each for line in lines for each in _the_long_way(line)])


def test_what_is_read_together_is_one_update_of_limited_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "TOGETHER", 10)
    connection = Connection()
    connection.receive(_line("first") + b"\n")
    found = connection.receive(b"\n".join([*(_line("1234") for _ in range(7)), b"{}", _line("end"), b""]))
    assert [each.update["content"]["text"] if isinstance(each, Update) else "noise" for each in found] == [
        "1234" * 3, "1234" * 3, "1234", "noise", "end"
    ]  # fmt: skip


def _line(text: str, session: str = "s1") -> bytes:
    return _SHAPES[0].replace("@", text).replace("s1", session).encode()


def test_what_was_learnt_is_read_without_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection()
    first = connection.receive(_line("one") + b"\n")

    def refuse(line: bytes) -> Any:
        raise AssertionError(line)

    monkeypatch.setattr(jsonrpc, "decode", refuse)
    second = connection.receive(_line("two \\u00e9\\n") + b"\n")
    assert [first[0].update["content"]["text"], second[0].update["content"]["text"]] == ["one", "two é\n"]  # type: ignore[union-attr]
    with pytest.raises(AssertionError):
        connection.receive(_line("three", "s2") + b"\n")


@pytest.mark.parametrize(
    "line", [_SHAPES[2], _SHAPES[3], _SHAPES[4], _SHAPES[5], _SHAPES[0].replace("@", "x" * stream.LONGEST), "{}", ""]
)
def test_what_cannot_be_learnt(line: str) -> None:
    learnt = Stream()
    learnt.learn(line.encode())
    assert not learnt.take(line.encode()) and learnt.said() is None


def test_an_update_does_not_change_with_the_next_one() -> None:
    connection = Connection()
    first, second, third = (connection.receive(_line(text) + b"\n")[0] for text in "123")
    assert isinstance(second, Update) and isinstance(third, Update)
    second.update["content"]["text"] = "changed"
    assert third.update["content"]["text"] == "3" and first.update["content"]["text"] == "1"  # type: ignore[union-attr]
