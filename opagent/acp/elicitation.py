"""Questions of agents to people (`elicitation/create`): what is asked, which answers there are, what the agent is told. Pure.

API: `read_question`, `chosen`, `accepted`, `declined`, `cancelled`, `Form`.

One answer is taken, so a form must have one field that counts: a choice, yes or no, or a text. (ACP v1, "Elicitation".)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from opagent.acp.messages import Body, as_dict, as_list, as_text

MOST_OPTIONS = 50
MESSAGE_LIMIT = 4000  # characters
ANSWER_LIMIT = 20_000
_YES, _NO, _SEEN = "true", "false", "seen"


@dataclass(frozen=True, slots=True)
class Form:
    """One question. `options` hold id, name and kind; without any, the answer is a text. `key`: the field that it fills."""

    message: str
    options: tuple[Mapping[str, str], ...]
    key: str
    digest: str


def read_question(params: Mapping[str, Any]) -> Form:
    """Reads `elicitation/create`. Raises ValueError with the reason why nobody can be asked this."""
    if params.get("mode") != "form":
        raise ValueError("it is no form")
    schema = as_dict(params.get("requestedSchema"))
    fields = as_dict(schema.get("properties"))
    required = [name for name in map(as_text, as_list(schema.get("required"))) if name in fields]
    counting = required or list(fields)
    if len(counting) > 1:
        raise ValueError(f"it has {len(counting)} fields, and one can be answered")
    key = counting[0] if counting else ""
    field = as_dict(fields.get(key))
    options = _options(field) if key else (("OK", _SEEN),)
    if len(options) > MOST_OPTIONS:
        raise ValueError(f"it has {len(options)} options")
    lines = [as_text(params.get("message")), as_text(field.get("title")), as_text(field.get("description"))]
    message = "\n".join(dict.fromkeys(filter(None, lines))) or key or "(the agent does not say what)"
    canonical = json.dumps([params.get("message"), schema], sort_keys=True, default=str).encode("utf-8", "replace")
    offered = tuple({"id": value, "name": name, "kind": "answer"} for name, value in options)
    return Form(message[:MESSAGE_LIMIT], offered, key, hashlib.sha256(canonical).hexdigest())


def _options(field: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """(name, value) of each choice; () for a text. Raises ValueError."""
    match field.get("type"):
        case "boolean":
            return (("Yes", _YES), ("No", _NO))
        case "string":
            titled = [as_dict(one) for one in as_list(field.get("oneOf"))]
            pairs = [(as_text(one.get("title")) or as_text(one.get("const")), as_text(one.get("const"))) for one in titled]
            pairs = pairs or [(value, value) for value in as_list(field.get("enum")) if isinstance(value, str)]
            if len({value for _, value in pairs}) != len(pairs):
                raise ValueError("two of its options are the same")
            return tuple(pairs)
        case kind:
            raise ValueError(f"its field is of the type {as_text(kind) or 'that it does not say'}")


def chosen(options: Iterable[Mapping[str, str]], words: str) -> str:
    """The id of the option that `words` name (its id or its name, case and blanks aside), or the text itself where there are
    none. No words mean yes where one option can mean that. Raises ValueError."""
    known = list(options)
    said = words.strip()
    if not known:
        if not said:
            raise ValueError("it asks for a text")
        if len(said) > ANSWER_LIMIT:
            raise ValueError(f"the text is longer than {ANSWER_LIMIT} characters")
        return said
    ids = [option["id"] for option in known]
    if not said and ids in ([_SEEN], [_YES, _NO]):
        return ids[0]
    if said in ids:
        return said
    named = [option["id"] for option in known if _fold(said) in (_fold(option["name"]), _fold(option["id"]))]
    if len(named) != 1:
        raise ValueError("it asks for one of: " + ", ".join(option["name"] or option["id"] for option in known))
    return named[0]


def _fold(text: str) -> str:
    return " ".join(text.split()).casefold()


def accepted(params: Mapping[str, Any], answer: str) -> Body:
    """The result that tells the agent an answer: the text, or the id of an option."""
    form = read_question(params)
    if not form.key:
        return {"action": "accept", "content": {}}
    yes_or_no = {_YES: True, _NO: False}
    kind = as_dict(as_dict(as_dict(params.get("requestedSchema")).get("properties")).get(form.key)).get("type")
    return {"action": "accept", "content": {form.key: yes_or_no.get(answer, answer) if kind == "boolean" else answer}}


def declined() -> Body:
    return {"action": "decline"}


def cancelled() -> Body:
    return {"action": "cancel"}
