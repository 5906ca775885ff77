"""The oracle of ACP: every line of a wire against the official JSON Schema and the models of the Python SDK."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import acp.schema
import jsonschema
import pydantic

SCHEMA = json.loads((Path(__file__).parents[1] / "contract/schemas/acp-v1.schema.json").read_text())
Line = tuple[str, dict[str, Any]]  # "ours" or "theirs", and the message


def by_method(ending: str) -> dict[str, str]:
    """Method -> name of the definition of its request, response or notification."""
    return {found["x-method"]: name for name, found in SCHEMA["$defs"].items() if "x-method" in found and name.endswith(ending)}


REQUESTS, RESPONSES, NOTIFICATIONS = by_method("Request"), by_method("Response"), by_method("Notification")
NEWER = {"notice", "compaction_update"}  # in the schema, not in the SDK yet; only sent to editors that ask for them
TOLERATED = {"session/set_model"}  # left the schema; only sent to agents that name models


def checked(lines: Iterable[Line], of: tuple[str, ...] = ("ours", "theirs")) -> set[str]:
    """Validates each line of these sides; the names of all definitions that were met. Methods of somebody's own are theirs."""
    methods: dict[tuple[str, Any], str] = {}
    met: set[str] = set()
    for side, message in lines:
        assert message["jsonrpc"] == "2.0"
        if "method" in message:
            method = message["method"]
            if "id" in message:
                methods[side, message["id"]] = method
            if side not in of or method in TOLERATED or method.startswith("_"):
                continue
            name = (REQUESTS if "id" in message else NOTIFICATIONS)[method]
            fits(name, message["params"])
        elif side not in of:
            continue
        elif "result" in message:
            asked = methods["theirs" if side == "ours" else "ours", message["id"]]
            if asked in TOLERATED or asked.startswith("_"):
                continue
            name = RESPONSES[asked]
            fits(name, message["result"])
        else:
            name = "Error"
            fits(name, message["error"])
        met.add(f"{side} {name}")
    return met


def fits(name: str, body: Any) -> None:
    """Both oracles take it."""
    validator = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]})
    problems = [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(body)]
    assert not problems, (name, problems, body)
    model = getattr(acp.schema, name, None)
    newer = name == "SessionNotification" and body["update"]["sessionUpdate"] in NEWER
    if model is not None and not newer:
        pydantic.TypeAdapter(model).validate_python(body)  # some are a union of models
