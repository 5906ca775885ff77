"""Gives the scalars of a file the types its JSON Schema asks for and turns every deviation into a sentence with its place."""

from __future__ import annotations

import difflib
import functools
import importlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from opagent import yamlfile
from opagent.yamlfile import Node

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_KINDS = {"object": "a map", "array": "a list", "string": "a text", "integer": "a whole number", "boolean": "true or false"}

Keys = tuple[str | int, ...]


@functools.cache
def agent_schema() -> dict[str, Any]:
    """The published schema of `.agent.yaml`."""
    schema: dict[str, Any] = json.loads(Path(__file__).with_name("agent.schema.json").read_text("utf-8"))
    return schema


def check(node: Node, name: str) -> dict[str, Any]:
    """The typed data of a file. Raises BindingInvalid with every deviation as `name:line:column: key: sentence`."""
    schema = agent_schema()
    data = typed(node, schema)
    fast = importlib.import_module("fastjsonschema")
    try:
        _validator(detailed=False)(data)
    except fast.JsonSchemaException:
        raise yamlfile.invalid(name, _explain(node, data, schema, name)) from None
    checked: dict[str, Any] = data
    return checked


@functools.cache
def _validator(detailed: bool) -> Callable[[Any], Any]:
    """Two of them: without details it compiles in 8 ms, so nothing is kept on disk; with them in 30, for files that are wrong."""
    fast = importlib.import_module("fastjsonschema")
    compiled: Callable[[Any], Any] = fast.compile(
        agent_schema(), use_default=False, use_formats=False, detailed_exceptions=detailed, fast_fail=not detailed
    )
    return compiled


def typed(node: Node, schema: dict[str, Any]) -> Any:
    """The value of a node; an unquoted scalar becomes a number or a boolean only where the schema allows one."""
    schema = _resolved(schema)
    if isinstance(node.value, dict):
        return {key: typed(value, _below(schema, key)) for key, value in node.value.items()}
    if isinstance(node.value, list):
        return [typed(value, schema.get("items", {})) for value in node.value]
    kinds = _kinds(schema)
    if node.plain and "integer" in kinds and _INTEGER.fullmatch(node.value):
        return int(node.value)
    if node.plain and "boolean" in kinds and node.value in ("true", "false"):
        return node.value == "true"
    return None if node.plain and node.value in ("", "~", "null") else node.value


def place(node: Node, keys: Sequence[str | int], of_key: bool = False) -> tuple[int, int]:
    """Line and column of the value that `keys` lead to, as deep as they lead; `of_key`: of the key in front of it."""
    for key in keys:
        if isinstance(node.value, dict) and key in node.value:
            node = node.value[str(key)]
        elif isinstance(node.value, list) and str(key).isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
        else:
            break
    return node.key if of_key and node.key else (node.line, node.column)


def problem(node: Node, name: str, keys: Keys, sentence: str, of_key: bool = False) -> str:
    """One line of a BindingInvalid's `why`."""
    line, column = place(node, keys, of_key)
    return f"{name}:{line}:{column}: {dotted(keys)}: {sentence}" if keys else f"{name}:{line}:{column}: {sentence}"


def dotted(keys: Sequence[str | int]) -> str:
    return ".".join(map(str, keys))


def nearest(word: str, known: Sequence[str]) -> str:
    """` (did you mean X?)`, or nothing when no known word is near."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" (did you mean {found[0]}?)" if found else ""


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A `$ref` followed; what stands beside it (a description) wins."""
    while reference := schema.get("$ref"):
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        schema = agent_schema()["definitions"][reference.rsplit("/", 1)[1]] | rest
    return schema


def _kinds(schema: dict[str, Any]) -> Sequence[str]:
    kinds = schema.get("type", ())
    return (kinds,) if isinstance(kinds, str) else tuple(kinds)


def _below(schema: dict[str, Any], key: str) -> dict[str, Any]:
    found: dict[str, Any] | None = schema.get("properties", {}).get(key)
    if found is None:
        found = next((value for pattern, value in schema.get("patternProperties", {}).items() if re.search(pattern, key)), {})
    return found


def _explain(node: Node, data: Any, schema: dict[str, Any], name: str) -> list[str]:
    """Asks the detailed validator for the places, the schema for the words; in the order of the file."""
    fast = importlib.import_module("fastjsonschema")
    try:
        _validator(detailed=True)(data)
    except fast.JsonSchemaValuesException as error:
        found = sorted({tuple(each.path[1:]) for each in error.errors}, key=lambda keys: (place(node, keys), keys))
        return [line for keys in found[: yamlfile.MAX_PROBLEMS] for line in _sentences(node, data, schema, name, keys)]
    raise AssertionError("the two validators disagree")


def _sentences(node: Node, data: Any, schema: dict[str, Any], name: str, keys: Keys) -> Iterator[str]:
    for key in keys:
        schema = _resolved(schema)
        if isinstance(data, list):
            data, schema = data[int(key)], schema.get("items", {})
        else:
            data, schema = data[str(key)], _below(schema, str(key))
    schema = _resolved(schema)
    if not isinstance(data, dict) or "object" not in _kinds(schema):
        yield problem(node, name, keys, f"expected {_expected(schema)}, found {_found(data)}")
        return
    known, patterns = tuple(schema.get("properties", ())), tuple(schema.get("patternProperties", ()))
    unknown = [key for key in data if key not in known and not any(re.search(pattern, key) for pattern in patterns)]
    missing = [key for key in schema.get("required", ()) if key not in data]
    for key in unknown[: yamlfile.MAX_PROBLEMS]:
        what = f"{key!r} is no valid name" if patterns else f"unknown key{nearest(key, known)}"
        yield problem(node, name, (*keys, key), what, of_key=True)
    for key in missing:
        yield problem(node, name, keys, f"{key} is missing")
    if not unknown and not missing:
        yield problem(node, name, keys, f"expected {_expected(schema)}")


def _expected(schema: dict[str, Any]) -> str:
    kinds = " or ".join(_KINDS[kind] for kind in _kinds(schema))
    return str(schema.get("description") or kinds)


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a map" if isinstance(value, dict) else "a list" if value else "an empty list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"
