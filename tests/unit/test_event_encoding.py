"""The line of an event is the same, whether its body comes from the journal's bytes or is encoded for it."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from opagent.daemon.server import encode_event
from opagent.model import ConversationId, Event, Kind, TurnId
from opagent.store.chain import encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters()),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4), st.sampled_from([None, TurnId("a1")]))
def test_one_line_either_way(body: dict[str, object], turn: TurnId | None) -> None:
    event = Event(ConversationId("k7q2-x"), 3, 7, turn, Kind.TEXT, "2026-01-01T00:00:00.000Z", body)
    line = encode_event(replace(event, encoded=encode(body)))
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert json.loads(line) == json.loads(encode_event(event))


@given(st.text(st.characters() | st.sampled_from('\\"\n\t\r\0\x1f\x7f\ud800\u2028')))
def test_a_text_alone_is_the_same_bytes_as_in_any_object(text: str) -> None:
    assert encode({"text": text}) == b'{"text":' + encode([text]).removeprefix(b"[").removesuffix(b"]") + b"}"


def test_what_was_encoded_is_no_part_of_an_events_value() -> None:
    event = Event(ConversationId("k7q2-x"), 3, 7, None, Kind.TEXT, "", {})
    assert replace(event, encoded=b"{}") == event
