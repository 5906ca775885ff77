"""Text on its way to an editor: the bytes of events pass, and mean what the long way means."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent import control, jsonline
from opagent.acp.editor import Editor
from opagent.acp.passing import TOGETHER, Passing
from opagent.acp.shown import Shown
from opagent.daemon.server import encode_event
from opagent.model import ConversationId, Event, Kind, TurnId
from opagent.store import chain

TEXTS = st.text(max_size=20) | st.sampled_from(['"', "\\", '","body":{"text":"x', "\ud83d", "\udc00", "}}", "\n\t\x00", ""])
SAID = st.lists(st.tuples(st.sampled_from(["c1", "c2"]), st.sampled_from([Kind.TEXT, Kind.THOUGHT]), TEXTS), max_size=12)


def event(text: str, kind: Kind = Kind.TEXT, conversation: str = "c1") -> Event:
    body = {"text": text}
    return Event(ConversationId(conversation), 3, 4, TurnId("a1"), kind, "2026-11-20T10:00:00.000Z", body, chain.encode(body))


def read(line: bytes) -> Event:
    message, encoded = jsonline.read_line(line)
    return control.event_from_json(message["params"], encoded)


@given(TEXTS, st.sampled_from(list(Kind)))
def test_a_text_is_read_with_the_bytes_that_it_came_in(text: str, kind: Kind) -> None:
    said = event(text, kind)
    line = encode_event(said).rstrip(b"\n")
    found = read(line)
    assert found == said and json.loads(found.encoded) == {"text": text}
    assert jsonline.read_line(line)[0] == json.loads(line)


@pytest.mark.parametrize(
    "line",
    [
        '{"method":"event","params":{"seq":1,"body":{"text":"a","more":1}}}',
        '{"method":"event","params":{"seq":1,"body":{"text":"a"},"body":{"text":"b"}}}',
        '{"method":"event","params":{"é":1,"x":{"y":1,"body":{"text":"a"}},"body":{"text":"b"}}}',
        '{"method":"event","params":{"seq":1,"body":{"text":"a"}},"id":5}',
        '{"params":5,"x":{"seq":1,"body":{"text":"a"}}}',
        '[{"x":{"seq":1,"body":{"text":"a"}}}]',
        '{"method":"event","params":{"seq":"{\\"text\\":\\"","é":1,"body":{"text":"a\\u0041"}}}',
    ],
)
def test_what_is_shaped_otherwise_is_read_as_json(line: str) -> None:
    message, encoded = jsonline.read_line(line.encode())
    assert message == json.loads(line)
    assert not encoded or json.loads(encoded) == message["params"]["body"]


@pytest.mark.parametrize(
    "line", [b'{"params":{"x":1,"body":{"text":"a\tb"}}}', b'{"params":{"x":,"body":{"text":"a"}}}', b'{"a":"\xff"}']
)
def test_what_is_no_json_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        jsonline.read_line(line)


@given(SAID)
def test_what_passes_says_what_the_long_way_says(said: list[tuple[str, Kind, str]]) -> None:
    passing, lines = Passing(), []
    for conversation, kind, text in said:
        lines.append(passing.add(conversation, kind, event(text).encoded))
    lines.append(passing.taken())
    assert passing.taken() == b"" and passing.size == 0
    told = [json.loads(line)["params"] for line in lines if line]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines if line)
    long = [(conversation, Shown(Editor()).of(event(text, kind))[0]) for conversation, kind, text in said]
    assert _joined([(one["sessionId"], one["update"]) for one in told]) == _joined(long)


def _joined(updates: list[tuple[str, dict[str, object]]]) -> list[list[object]]:
    """Texts behind texts of their kind as one, as the JSON that says them."""
    found: list[list[object]] = []
    for session, update in updates:
        content = dict(update["content"])  # type: ignore[call-overload]
        text = json.dumps(content.pop("text"))[1:-1]
        head = [session, update["sessionUpdate"], content]
        if text and found and found[-1][:3] == head:
            found[-1][3] = f"{found[-1][3]}{text}"
        elif text:
            found.append([*head, text])
    return found


def test_one_update_holds_so_much() -> None:
    passing, piece = Passing(), event("x" * 1000).encoded
    lines = [passing.add("c1", Kind.TEXT, piece) for _ in range(200)]
    told = [json.loads(line)["params"]["update"]["content"]["text"] for line in lines if line]
    assert 2 <= len(told) <= 4 and all(TOGETHER <= len(text) <= TOGETHER + 1000 for text in told)
