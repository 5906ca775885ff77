"""Permission requests: options chosen by kind whatever they are called, the exact action in words, nothing raises."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.acp import permission as core
from opagent.acp.permission import read_permission, subject
from opagent.policy import remembering
from tests.doubles.steps import steps
from tests.unit.test_acp_connection import JSON

YES = {"optionId": "y", "name": "No!", "kind": "allow_once"}
ALWAYS = {"optionId": "a", "name": "Cancel", "kind": "allow_always"}
NO = {"optionId": "n", "name": "Yes", "kind": "reject_once"}
NEVER = {"optionId": "v", "name": "Allow", "kind": "reject_always"}


def asked(*options: Any, **call: Any) -> core.Permission | None:
    return read_permission({"toolCall": {"toolCallId": "t", **call}, "options": list(options)}, {})


def usable(*options: Any, **call: Any) -> core.Permission:
    found = asked(*(options or (YES, NO)), **call)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("options", "allow", "deny"),
    [
        ([ALWAYS, NEVER, NO, YES], "y", "n"),
        ([YES, NEVER], "y", "v"),
        ([ALWAYS, NO], None, "n"),
        ([YES], "y", None),
        ([{**YES, "optionId": "reject"}, {**NO, "optionId": "allow"}], "reject", "allow"),
    ],
)
def test_options_are_chosen_by_kind(options: list[Any], allow: str | None, deny: str | None) -> None:
    found = usable(*options)
    assert (found.option(True), found.option(False)) == (allow, deny)


@pytest.mark.parametrize(
    "options",
    [
        [],
        [{"optionId": "a", "name": "Perhaps", "kind": "allow_on_sundays"}],
        [{"optionId": "", "name": "x", "kind": "allow_once"}],
        [{"optionId": 5, "name": "x", "kind": "allow_once"}],
        [{"optionId": "a", "kind": ["allow_once"]}],
        [YES, {**NO, "optionId": "y"}],
        [YES, {"optionId": "y", "name": "x", "kind": "allow_everything"}],  # which of the two would "y" mean?
        [{**YES, "optionId": f"o{n}"} for n in range(500)],
        [YES, *({"optionId": f"o{n}", "kind": "x"} for n in range(500))],
        ["text", None, 7],
    ],
)
def test_malformed_options_are_no_question(options: list[Any]) -> None:
    assert asked(*options) is None


def test_what_the_tool_call_said_before_counts_where_the_request_is_silent() -> None:
    known = {"id": "t", "title": "Run it", "kind": "execute", "rawInput": {"command": "make"}}
    found = read_permission({"toolCall": {"toolCallId": "t", "title": None, "kind": None}, "options": [YES]}, known)
    assert found is not None
    assert (found.kind, found.title, found.subject) == ("execute", "Run it", "Run it\nmake")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"title": "make", "rawInput": {"command": "make all", "description": "builds"}}, "make all"),
        ({"rawInput": {"command": ["rm", "-rf", "a b", "$x"]}}, "rm -rf 'a b' '$x'"),
        ({"rawInput": {"command": "make", "cwd": "/", "env": {"A": "1"}}}, 'make\n{"cwd": "/", "env": {"A": "1"}}'),
        ({"rawInput": {"command": {"odd": 1}}}, '{"odd": 1}'),
        ({"rawInput": {"url": "http://x"}, "title": "Fetch"}, 'Fetch\n{"url": "http://x"}'),
        ({"title": "Make tea"}, "Make tea"),
        ({}, "(the agent does not say what)"),
        ({"title": 5, "rawInput": "x", "content": "y"}, "(the agent does not say what)"),
        (
            {"content": [{"type": "diff", "path": "/w/a", "oldText": "1\n2\n", "newText": "1\n3\n"}], "rawInput": {"file": "a"}},
            "write /w/a\n@@ -1,2 +1,2 @@\n 1\n-2\n+3",
        ),
    ],
)
def test_the_exact_action_in_words(call: dict[str, Any], words: str) -> None:
    assert subject(call) == words


def test_a_long_action_is_cut_and_says_so() -> None:
    found = subject({"rawInput": {"command": "x" * 10_000}})
    assert found.endswith("[6000 more characters]")
    words = subject({"rawInput": {"command": "word " * 799 + "p1ant-" * 300}})
    assert words.endswith("word\n[1801 more characters]")  # half a secret would not be known as one
    assert len(found) < core.SUBJECT_LIMIT + 50


def test_a_reading_that_holds_a_change_is_a_change() -> None:
    diff = {"type": "diff", "path": "/w/a", "oldText": None, "newText": "x"}
    assert usable(kind="read", content=[diff]).kind == "edit"
    assert usable(kind="execute", content=[diff]).kind == "execute"
    assert usable(kind="delete", content=[diff]).kind == "delete"
    assert usable(kind="read").kind == "read"
    assert usable().kind == "other"


def test_paths_are_those_of_changes_and_locations_once() -> None:
    content = [{"type": "diff", "path": "/w/a", "newText": ""}, {"type": "content"}, 7]
    assert usable(content=content, locations=[{"path": "/w/b"}, {"path": "/w/a"}, {"path": 5}, "x"]).paths == ("/w/a", "/w/b")


def pattern(**call: Any) -> str:
    found = usable(**call)
    return remembering.claimed(found.kind, found.same)


def test_the_same_again_is_the_same_command_in_the_same_place() -> None:
    first = pattern(kind="execute", rawInput={"command": "make", "description": "first"})
    assert first == pattern(kind="execute", rawInput={"description": "again", "command": "make"}, title="T")
    others = [
        pattern(kind="execute", rawInput={"command": "make all"}),
        pattern(kind="execute", rawInput={"command": "make", "cwd": "/"}),
        pattern(kind="edit", rawInput={"command": "make"}),
        pattern(kind="execute", title="make"),
    ]
    assert len({first, *others}) == 5
    both = [{"path": "a"}, {"path": "b"}]
    assert pattern(kind="edit", locations=both) == pattern(kind="edit", title="x", locations=both[::-1])


def test_an_action_is_told_beside_its_changes() -> None:
    change = {"type": "diff", "path": "a.md", "oldText": "one\n", "newText": "two\n"}
    found = usable(title="Edit", content=[change], rawInput={"x": 1})
    assert (found.action, found.changes) == ("Edit\nwrite a.md", [change])
    assert found.subject == "Edit\nwrite a.md\n@@ -1 +1 @@\n-one\n+two"
    assert usable(content=[change | {"newText": "x" * core.CHANGES_LIMIT}]).changes == []
    assert usable(kind="write", rawInput={"command": "write a.md"}, content=[change]).action == "write a.md"


def test_any_difference_in_the_arguments_changes_the_digest() -> None:
    one, two = usable(rawInput={"a": 1, "b": 2}), usable(rawInput={"b": 2, "a": 1})
    assert one.digest == two.digest
    assert one.digest != usable(rawInput={"a": 1, "b": 3}).digest


def test_comparing_costs_little_even_if_somebody_wants_it_to_cost_much() -> None:
    chance = random.Random(1)

    def cost(count: int) -> int:
        old, new = ("\n".join(chance.choices("abc", k=count)) for _ in range(2))
        return steps(lambda: subject({"content": [{"type": "diff", "path": "x", "oldText": old, "newText": new}]}))

    assert max(cost(count) for count in (50, 100, core.DIFF_LINES // 2)) < core.DIFF_LINES**2
    assert cost(100_000) < core.DIFF_LINES**2


@given(JSON, st.sampled_from(["rawInput", "content", "locations", "title", "kind", "toolCallId"]), JSON)
def test_no_request_raises(said: Any, field: str, inner: Any) -> None:
    read_permission({"options": said, "toolCall": inner}, {})
    read_permission({"options": [said, YES], "toolCall": said}, {})
    calls = [{field: said}, {field: [said]}, {field: {"command": said, "type": inner}}]
    calls += [{"content": [{"type": "diff", "path": said, "oldText": inner, "newText": said}]}]
    for call in calls:
        found = read_permission({"options": [YES, NO], "toolCall": call}, {"title": "known"})
        assert found is not None
        assert found.subject
        assert found.subject.splitlines() or found.subject.isspace()
        assert all(remembering.keys(remembering.claimed(found.kind, found.same)))
        assert remembering.shown(remembering.claimed(found.kind, found.same))
        assert found.action and isinstance(found.changes, list)
        assert found.option(True) == "y"
