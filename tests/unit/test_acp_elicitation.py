"""Questions of agents: which can be asked, what counts as an answer, what the agent is told; whatever it sends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.acp import elicitation
from opagent.acp.elicitation import accepted, chosen, read_question

RED_OR_BLUE = [{"id": "r", "name": "Red"}, {"id": "b", "name": "Blue"}]


def form(required: list[Any] | None = None, **fields: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": fields}
    return {"mode": "form", "message": "Which?", "requestedSchema": schema | ({} if required is None else {"required": required})}


def test_the_field_that_counts_is_the_required_one() -> None:
    params = form(["b"], a={"type": "array"}, b={"type": "boolean", "title": "Really?", "description": "Which?"})
    found = read_question(params)
    assert (found.key, found.message) == ("b", "Which?\nReally?")
    assert [(option["id"], option["name"]) for option in found.options] == [("true", "Yes"), ("false", "No")]
    assert accepted(params, "false") == {"action": "accept", "content": {"b": False}}
    assert found.digest != read_question(form(["b"], b={"type": "boolean"})).digest


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"mode": "url", "url": "https://x"}, "no form"),
        ({}, "no form"),
        (form(["a", "b"], a={"type": "string"}, b={"type": "string"}), "2 fields"),
        (form(a={"type": "integer"}), "type integer"),
        (form(a=None), "type that it does not say"),
        (form(a={"type": "string", "enum": [str(number) for number in range(51)]}), "51 options"),
        (form(a={"type": "string", "oneOf": [{"const": "x"}, {"const": "x"}]}), "the same"),
    ],
)
def test_what_nobody_can_be_asked(params: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_question(params)


@pytest.mark.parametrize(("words", "ident"), [("r", "r"), (" Blue ", "b"), ("BLUE", "b"), ("R", "r")])
def test_an_option_is_named_by_its_id_or_name(words: str, ident: str) -> None:
    assert chosen(RED_OR_BLUE, words) == ident


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (RED_OR_BLUE, ""),
        (RED_OR_BLUE, "green"),
        ([*RED_OR_BLUE, {"id": "x", "name": "blue"}], "Blue"),
        ([], " "),
        ([], "x" * 20_001),
    ],
)
def test_what_is_no_answer(options: list[dict[str, str]], words: str) -> None:
    with pytest.raises(ValueError, match=r"it asks for|longer than"):
        chosen(options, words)


def test_a_plain_yes_is_enough_where_it_can_mean_one_thing() -> None:
    assert chosen(read_question(form(a={"type": "boolean"})).options, "") == "true"
    assert chosen(read_question(form()).options, "") == "seen"
    assert accepted(form(), "seen") == {"action": "accept", "content": {}}
    with pytest.raises(ValueError, match="one of: true, false"):
        chosen(read_question(form(a={"type": "string", "enum": ["true", "false", "perhaps"]})).options, "")


def test_a_choice_of_words_that_look_like_yes_and_no_stays_words() -> None:
    params = form(a={"type": "string", "enum": ["true", "false"]})
    assert accepted(params, "true")["content"] == {"a": "true"}


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["string", "boolean", "form", "enum"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "enum", "oneOf", "const", "title", "a", "b"]) | st.text(max_size=3), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(json, json, json, json)
def test_any_request_is_a_question_or_has_a_reason(fields: Any, required: Any, message: Any, answer: Any) -> None:
    params = {"mode": "form", "message": message, "requestedSchema": {"properties": fields, "required": required}}
    try:
        found = read_question(params)
    except ValueError as error:
        assert str(error)
        return
    assert found.message and len({option["id"] for option in found.options}) == len(found.options)
    told = accepted(params, found.options[0]["id"] if found.options else "text")
    assert told["action"] == "accept" and set(told["content"]) <= {found.key}
    assert elicitation.declined() == {"action": "decline"}
