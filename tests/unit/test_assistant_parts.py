"""The pure parts of the assistant: exact replacement, answers put together from pieces, what is kept of a conversation, waits, prices."""

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles import scripted_model

sys.path.insert(0, str(Path(__file__).parents[2] / "runtimes" / "assistant"))

from assistant import compaction, endpoint, files, running, waits
from assistant.chatapi import ChatApi
from assistant.edit import NotExact, replaced
from assistant.messagesapi import MessagesApi
from assistant.talk import Ask, BrokenAnswer, Call, Message, Usage, whole

TEXT = st.text("ab\n\r ", max_size=60)
APIS = {"chat": (ChatApi, scripted_model.chat_events), "messages": (MessagesApi, scripted_model.message_events)}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["type", "choices", "delta", "tool_calls", "function", "index", "usage", "content", "message", "content_block", "stop_reason",
         "error", "finish_reason", "partial_json", "prompt_tokens_details"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


# ---- exact replacement -------------------------------------------------------------------------------------------------------


@given(TEXT, st.text("xyz", min_size=1, max_size=8), TEXT, st.text("ab", max_size=8))
def test_what_stands_there_once_is_replaced_and_nothing_else(before: str, old: str, after: str, new: str) -> None:
    assert replaced(before + old + after, old, new) == before + new + after


@given(TEXT, st.text("ab\n", min_size=1, max_size=4), TEXT)
def test_what_is_not_there_once_changes_nothing(text: str, old: str, new: str) -> None:
    places = [at for at in range(len(text)) if text.startswith(old, at)]
    if len(places) == 1 and old != new:
        at = places[0]
        assert replaced(text, old, new) == text[:at] + new + text[at + len(old) :]
    elif old == new or len(places) > 1 or "\r\n" not in text:
        with pytest.raises(NotExact):
            replaced(text, old, new)


@given(st.lists(st.text("ab", max_size=4), min_size=1, max_size=6), st.text("ab\n", max_size=6))
def test_every_place_where_all_is_said(parts: list[str], new: str) -> None:
    text = "X".join(parts)
    if len(parts) == 1:
        with pytest.raises(NotExact):
            replaced(text, "X", new, every=True)
    else:
        assert replaced(text, "X", new, every=True) == new.join(parts)


def test_line_ends_of_the_file_are_kept() -> None:
    assert replaced("a\r\nb\r\nc\r\n", "a\nb", "x\ny\nz") == "x\r\ny\r\nz\r\nc\r\n"
    assert replaced("a\r\nb\r\n", "b", "c\nd") == "a\r\nc\nd\r\n"  # it stands there as it was written: nothing is guessed
    with pytest.raises(NotExact, match="lines 1, 1"):
        replaced("aaa", "aa", "b")


# ---- answers -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
@given(
    text=st.text(max_size=40), thought=st.text(max_size=10), stop=st.sampled_from(["", "length"]),
    called=st.lists(st.tuples(st.sampled_from(["read", "run"]), st.dictionaries(st.text(max_size=3), st.text(max_size=9))), max_size=3),
)  # fmt: skip
def test_pieces_make_the_whole(api: str, text: str, thought: str, stop: str, called: list[tuple[str, Any]]) -> None:
    kind, events = APIS[api]
    step = scripted_model.calls(*called, text=text)
    step = scripted_model.Step(step.text, step.calls, thought=thought, stop=stop)
    assembly, shown = kind().assembly(), []
    for event in events(step):
        if isinstance(event, dict):
            shown += list(assembly.feed(event))
    answer = assembly.answer()
    assert answer.text == text == "".join(words for what, words in shown if what == "text")
    assert "".join(words for what, words in shown if what == "thought") == thought
    assert [(call.name, call.arguments) for call in answer.calls] == list(step.calls)
    assert len({call.id for call in answer.calls}) == len(called)
    assert answer.usage == Usage(scripted_model.INPUT, scripted_model.OUTPUT, scripted_model.CACHED, True)
    assert answer.stop == ("length" if stop else "tools" if called else "end")


@pytest.mark.parametrize("api", APIS)
@given(
    events=st.lists(st.dictionaries(st.sampled_from(["type", "choices", "usage", "error", "message", "delta", "index"]), JSON))
)
def test_whatever_comes_is_an_answer_or_broken(api: str, events: list[Any]) -> None:
    """Type and attribute errors are what `asking` takes for broken, too."""
    assembly = APIS[api][0]().assembly()
    try:
        for event in events:
            list(assembly.feed(event))
        assembly.answer()
    except (BrokenAnswer, TypeError, AttributeError):
        pass


@pytest.mark.parametrize("api", APIS)
def test_an_answer_without_its_end_is_broken(api: str) -> None:
    kind, events = APIS[api]
    all_events = [event for event in events(scripted_model.say("some words")) if isinstance(event, dict)]
    for end in range(len(all_events) - (2 if api == "chat" else 1)):
        assembly = kind().assembly()
        for event in all_events[:end]:
            list(assembly.feed(event))
        with pytest.raises(BrokenAnswer):
            assembly.answer()


def test_calls_of_servers_that_count_none() -> None:
    """Some leave out the index, some the ids."""
    assembly = ChatApi().assembly()
    for function in ({"name": "a", "arguments": '{"x"'}, {"arguments": ": 1}"}, {"name": "b", "arguments": "{}"}):
        list(assembly.feed({"choices": [{"delta": {"tool_calls": [{"function": function}]}}]}))
    list(assembly.feed({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
    answer = assembly.answer()
    assert answer.calls == (Call("call-0", "a", '{"x": 1}'), Call("call-1", "b", "{}"))
    assert (answer.stop, answer.usage.known) == ("tools", False)


def messages_of(words: list[tuple[str, int]]) -> list[Message]:
    found: list[Message] = []
    for number, (role, count) in enumerate(words):
        calls = tuple(Call(f"c{number}-{each}", "read", "{}") for each in range(count)) if role == "assistant" else ()
        found.append(Message(role, f"{role} {number}", calls, call=f"c{number - 1}-0" if role == "tool" else ""))
    return found


CONVERSATIONS = st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), st.integers(0, 3)), max_size=12).map(
    messages_of
)


@given(CONVERSATIONS)
def test_every_call_has_one_answer_behind_it(messages: list[Message]) -> None:
    found = whole(messages)
    waiting: list[str] = []
    for message in found:
        if message.role == "tool":
            waiting.remove(message.call)
        else:
            assert waiting == []
            waiting = [call.id for call in message.calls]
    assert waiting == []
    assert [each for each in found if each.role != "tool"] == [each for each in messages if each.role != "tool"]
    assert whole(found) == found


@given(CONVERSATIONS)
def test_roles_take_turns_in_the_interface_that_wants_it(messages: list[Message]) -> None:
    body = MessagesApi().body(Ask("m", "s", tuple(whole([Message("user", "hi"), *messages]))))
    roles = [message["role"] for message in body["messages"]]
    assert roles[0] == "user" and all(one != two for one, two in itertools.pairwise(roles))
    assert all(message["content"] for message in body["messages"])
    called = {part["id"] for message in body["messages"] for part in message["content"] if part["type"] == "tool_use"}
    answered = [
        part["tool_use_id"] for message in body["messages"] for part in message["content"] if part["type"] == "tool_result"
    ]
    assert called == set(answered) and len(answered) == len(called)


@given(CONVERSATIONS, st.integers(20, 400))
def test_what_is_kept_of_a_conversation_is_its_end_and_whole(messages: list[Message], context: int) -> None:
    messages = whole(messages)
    older, kept = compaction.split(messages, context)
    assert older + kept == messages
    assert not kept or kept[0].role != "tool"
    assert older or len(messages) < 2
    assert whole(kept) == kept


# ---- bounds, waits, prices, places -------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=50)), st.integers(2, 60))
def test_bounded_output_has_both_ends(pieces: list[bytes], limit: int) -> None:
    output, data = running.Bounded(limit), b"".join(pieces)
    for piece in pieces:
        output.add(piece)
    half = limit // 2
    if len(data) <= 2 * half:
        assert output.text() == data.decode("utf-8", "replace")
    else:
        gap = f"\n[{len(data) - 2 * half} bytes left out]\n".encode()
        assert output.text() == (data[:half] + gap + data[-half:]).decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("", None), ("soon", None), ("nan", None),
     ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("inf", float("inf"))],
)  # fmt: skip
def test_retry_after(text: str, seconds: float | None) -> None:
    assert waits.retry_after(text, now=60.0) == seconds


def test_waits_grow_and_end() -> None:
    assert all(0.5 * min(30, 2 ** (n - 1)) <= waits.back_off(n) <= min(30, 2 ** (n - 1)) for n in range(1, 12))


@pytest.mark.parametrize(
    "prices",
    ["", "no", "[]", "{}", '{"m": 3}', '{"m": {"input": 1}}', '{"m": {"input": -1, "output": 1}}', '{"*": {"input": "x", "output": 1}}',
     '{"m": {"input": Infinity, "output": 1}}'],
)  # fmt: skip
def test_a_price_that_cannot_be_read_is_none(prices: str) -> None:
    assert endpoint.price({"ASSISTANT_PRICES": prices}, "m") is None


def test_prices() -> None:
    prices = {
        "ASSISTANT_PRICES": '{"m": {"input": 2, "output": 10, "cached": 1, "currency": "EUR"}, "*": {"input": 1, "output": 1}}'
    }
    found = endpoint.price(prices, "m")
    assert found is not None and (found.of(Usage(1_000_000, 500_000, 250_000, True)), found.currency) == (1.5 + 0.25 + 5, "EUR")
    other = endpoint.price(prices, "n")
    assert other is not None and other.of(Usage(1_000_000, 0, 500_000)) == 1.0


@pytest.mark.parametrize(
    ("environment", "wanted", "found"),
    [
        ({"OPENAI_API_KEY": "k", "OPENAI_MODEL": "m"}, "", ("https://api.openai.com/v1/chat/completions", "m")),
        ({"OPENAI_BASE_URL": "http://h/v1/"}, "vendor/m", ("http://h/v1/chat/completions", "vendor/m")),
        ({"OPENAI_BASE_URL": "http://h/v1"}, "anthropic/m", ("http://h/v1/chat/completions", "anthropic/m")),
        ({"ANTHROPIC_API_KEY": "k"}, "m", ("https://api.anthropic.com/v1/messages", "m")),
        ({"ANTHROPIC_BASE_URL": "http://h/v1", "ANTHROPIC_MODEL": "m"}, "", ("http://h/v1/messages", "m")),
        ({"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k"}, "anthropic/m", ("https://api.anthropic.com/v1/messages", "m")),
        ({"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k"}, "m", ("https://api.openai.com/v1/chat/completions", "m")),
    ],
)
def test_where_the_model_is(environment: dict[str, str], wanted: str, found: tuple[str, str]) -> None:
    endpoint_found = endpoint.find(environment, wanted)
    assert (endpoint_found.url, endpoint_found.model) == found


def test_paths_stay_in_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "desk").mkdir()
    (tmp_path / "desk2").mkdir()
    (tmp_path / "desk/out").symlink_to(tmp_path / "desk2")
    root = str(tmp_path / "desk")
    assert files.resolve(root, "a/../b") == f"{root}/b"
    for path in ("..", "../desk2/x", "out/x", "/etc/passwd", "", "a\0b"):
        with pytest.raises(files.ToolFailed):
            files.resolve(root, path)
