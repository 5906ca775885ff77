"""Reads the bytes of one `runtime.yaml` into a `RuntimeSpec`; it opens no other file and runs nothing."""

from __future__ import annotations

import difflib
import functools
import importlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from opagent import yamlfile
from opagent.errors import BindingInvalid, RuntimeInvalid
from opagent.model import RuntimeSpec
from opagent.yamlfile import Node

PLACEHOLDERS = ("package", "node", "python", "state")
DEFAULT_TIMEOUTS = {"ready": 60.0, "idle_stop": 900.0}  # seconds
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]*)\}")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

Keys = tuple[str | int, ...]
Finding = tuple[Keys, str, bool]  # key path, sentence, whether the place is the key's


def read(data: bytes, package: Path, source: str) -> RuntimeSpec:
    """The description in `data`, the content of `package/runtime.yaml`.

    Raises RuntimeInvalid whose `why` has one line `file:line:column: sentence` for every problem.
    """
    name = str(package / "runtime.yaml")
    hint = "$EDITOR " + name
    try:
        node = yamlfile.load(data, name)
    except BindingInvalid as error:
        raise RuntimeInvalid(error.what, error.why, hint) from error
    typed = _typed(node, schema())
    findings = list(_schema_findings(typed)) or list(_meaning_findings(typed, package.name))
    if findings:
        lines = (_line(name, node, finding) for finding in findings[: yamlfile.MAX_PROBLEMS])
        raise RuntimeInvalid(f"{name} cannot be used", "\n".join(lines), hint)
    return _spec(typed, package, source)


@functools.cache
def schema() -> dict[str, Any]:
    """The published JSON Schema of `runtime.yaml`."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("runtime.schema.json").read_text("utf-8"))
    return found


@functools.cache
def _validator(detailed: bool) -> Callable[[Any], Any]:
    """Without details it compiles in 5 ms, with them in 12: those are for files that are wrong."""
    fast = importlib.import_module("fastjsonschema")  # 6 ms; commands that start nothing never need it
    compiled: Callable[[Any], Any] = fast.compile(
        schema(), use_default=False, use_formats=False, detailed_exceptions=detailed, fast_fail=not detailed
    )
    return compiled


def _typed(node: Node, wanted: dict[str, Any]) -> Any:
    """The tree without places: scalars stay text, but for a plain true or false where the schema has a boolean."""
    if isinstance(node.value, dict):
        known = wanted.get("properties", {})
        return {key: _typed(value, known.get(key, {})) for key, value in node.value.items()}
    if isinstance(node.value, list):
        return [_typed(value, {}) for value in node.value]
    if node.plain and wanted.get("type") == "boolean" and node.value in ("true", "false"):
        return node.value == "true"
    return node.value


def _schema_findings(typed: Any) -> Iterator[Finding]:
    fast = importlib.import_module("fastjsonschema")
    try:
        _validator(detailed=False)(typed)
        return
    except fast.JsonSchemaException:
        pass
    try:
        _validator(detailed=True)(typed)
    except fast.JsonSchemaValuesException as error:
        for found in error.errors:
            keys: Keys = tuple(int(part) if part.isdigit() else part for part in found.path[1:])
            yield from _finding(found, keys)


def _finding(found: Any, keys: Keys) -> Iterator[Finding]:
    """What one deviation means to a person. `found` carries the part of the schema it breaks."""
    wanted: dict[str, Any] = found.definition
    if found.rule == "additionalProperties":
        patterns = wanted.get("patternProperties", {})
        known = list(wanted.get("properties", {}))
        for key in found.value:
            if key not in known and not any(re.search(pattern, key) for pattern in patterns):
                yield (*keys, key), _unknown(key, known, wanted), True
    elif found.rule == "required":
        missing = ", ".join(key for key in wanted["required"] if key not in found.value)
        yield keys, f"{missing} is missing", False
    else:
        yield keys, f"expected {wanted.get('description', wanted.get('type'))}, found {_shown(found.value)}", False


def _unknown(key: str, known: list[str], wanted: dict[str, Any]) -> str:
    if not known:
        return f"not allowed here: {wanted.get('description')}"
    near = difflib.get_close_matches(key, known, 1)
    return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; known are {', '.join(known)}"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def _meaning_findings(typed: dict[str, Any], folder: str) -> Iterator[Finding]:
    """What a schema cannot say."""
    if typed["name"] != folder:
        yield ("name",), f"the name must be that of the folder, {folder}", False
    for place, word in enumerate(typed["command"]):
        for unknown in set(_PLACEHOLDER.findall(word)) - set(PLACEHOLDERS):
            yield ("command", place), f"{{{unknown}}} is not substituted; known are {{{'} {'.join(PLACEHOLDERS)}}}", False
    program = typed["command"][0]
    if "/" in program and not program.startswith(("/", "{package}/")):
        yield ("command", 0), "a program with / must begin with / or {package}: the agent runs in the workspace", False
    for place, name in enumerate(typed.get("from_home", ())):
        if not any(f"{name}/".startswith(f"{each.rstrip('/')}/") for each in typed.get("state", ())):
            yield ("from_home", place), "what is copied must be kept: it lies in no directory of `state`", False
    if len({"npm", "pip", "archive", "git", "path"} & set(typed.get("install", {}))) > 1:
        yield ("install",), "only one of npm, pip, archive, git and path", False


def _line(name: str, root: Node, finding: Finding) -> str:
    keys, sentence, of_key = finding
    node = root
    for key in keys:
        if isinstance(node.value, dict) and key in node.value:
            node = node.value[str(key)]
        elif isinstance(node.value, list) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
    line, column = node.key if of_key and node.key else (node.line, node.column)
    path = ".".join(map(str, keys))
    return f"{name}:{line}:{column}: {path}: {sentence}" if path else f"{name}:{line}:{column}: {sentence}"


def _spec(typed: dict[str, Any], package: Path, source: str) -> RuntimeSpec:
    timeouts = {name: seconds(text) for name, text in typed.get("timeouts", {}).items()}
    install, tried = typed.get("install", {}), typed.get("tried", {})
    return RuntimeSpec(
        name=typed["name"],
        version=typed.get("version") or install.get("version") or tried.get("version") or "",
        command=tuple(typed["command"]),
        package=str(package),
        title=typed.get("title", typed["name"]),
        about=typed.get("about", ""),
        env={name: value.replace("{package}", str(package)) for name, value in typed.get("env", {}).items()},
        pass_env=tuple(typed.get("pass_env", ())),
        model=typed.get("model", {}),
        network=tuple(typed.get("network", ())),
        state=tuple(typed.get("state", ())),
        from_home=tuple(typed.get("from_home", ())),
        client=tuple(typed.get("client", ())),
        needs=typed.get("needs", {}),
        runs=tuple(typed.get("runs", ())),
        quirks=typed.get("quirks", {}),
        timeouts={**DEFAULT_TIMEOUTS, **timeouts},
        install=install,
        sessions=typed.get("sessions", {}),
        probe=typed.get("probe", {}),
        signin=typed.get("signin", ""),
        source=source,
    )


def seconds(text: str) -> float:
    """`500ms`, `20s`, `15m`, `1h` in seconds."""
    unit = text.lstrip("0123456789.")
    return float(text.removesuffix(unit)) * _UNITS[unit]
