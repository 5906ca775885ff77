"""The reference of `.agent.yaml` and `runtime.yaml`: every key of the two schemas with its form, its merging and its trust."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docpages.page import block, code, heading, page, table
from opagent.binding import schema as binding_schema
from opagent.binding.resolve import PER
from opagent.binding.trust import WHOLE
from opagent.daemon.explain import NOT_APPLIED
from opagent.packages import description
from opagent.policy import enforcement
from opagent.policy.decide import BUILT_IN

Schema = Mapping[str, Any]

# the rules of all kinds look alike: they are described once, as can.KIND.allow
RULES = ("globs", "patterns", "commands", "agents")
RULE_WORDS = {
    "allow": "a list of patterns that are allowed; KIND is read, write, exec, network, agents or mcp",
    "ask": "a list of patterns that a person is asked about",
    "deny": "a list of patterns that are denied",
    "default": "allow, ask or deny: the answer where no pattern matches",
}
NAMED = {
    "roles": "NAME", "tools": "NAME", "secrets": "NAME", "can.secrets": "VARIABLE", "env": "VARIABLE",
    "tools.NAME.headers": "HEADER", "probe.env": "VARIABLE", "probe.files": "PATH", "lend": "MACHINE", "lend.MACHINE": "NAME",
}  # fmt: skip

BINDING_INTRO = """\
A directory with this file is a workspace. Files of the directories above count too: [the binding](../concepts/binding.md)
tells how they merge. The same keys stand in `~/.config/opagent/config.yaml` (yours, for every directory) and
`/etc/opagent/policy.yaml` (the machine's).

The file is YAML, read strictly: no anchors, aliases, tags, merge keys or duplicate keys; at most 64 KiB. An unknown key is an
error that names the nearest known one. Editors complete and check it with `opagent/binding/agent.schema.json`."""

ENFORCEMENT = """\
How firmly that holds depends on the level of the sandbox, on what the runtime asks OpAgent for, and on whether a rule names a
directory or a glob; `opagent explain` says it for every rule ([how to read it](../concepts/capabilities.md#how-to-read-explain)).
`os`: the kernel refuses it. `proxy`: it has to pass OpAgent. `acp`: only when the agent asks OpAgent. `advisory`: nothing stops
it."""

RUNTIME_INTRO = """\
A runtime is a program that speaks the [Agent Client Protocol](https://agentclientprotocol.com) on stdin and stdout. Each has a
folder with this file, in `~/.config/opagent/runtimes/`, in `~/.local/share/opagent/runtimes/`, or in `runtimes/` of OpAgent; the
first one with a name wins. The runtimes that come with OpAgent: [runtimes](runtimes.md)."""

NEAREST = ("agent", "conversations", "host", "approvals", "supervise")
LATER = {key.replace("secrets", "can.secrets"): sentence for key, sentence in NOT_APPLIED.items()}
EXAMPLE = """\
version: 1
agent: writer
roles:
  writer:
    runtime: librarian
    instructions: You write for people who have five minutes.
instructions: [STYLE.md]
conversations: conversations/
can:
  read:  {deny: ["**/.env*", "secrets/"]}
  write: {allow: ["**/*.md"], default: deny}
  exec:  {allow: [[git, [status, diff, log]]], ask: [[git, push]]}
approvals: {timeout: 30m, on_timeout: deny}
supervise: {restart: on-failure}
tests:
  - {read: ".env", is: deny}
  - {exec: [git, push, origin], is: ask}
"""


def binding() -> str:
    return page(
        "`.agent.yaml`",
        "opagent/binding/agent.schema.json",
        BINDING_INTRO,
        block(EXAMPLE, "yaml"),
        *_sections(binding_schema.agent_schema(), _binding_notes),
        heading(2, "Built-in answers"),
        "What holds where no file says anything.",
        table(("kind", "built-in answer", "without a sandbox", "at level `strict`"), map(_built_in, BUILT_IN)),
        ENFORCEMENT,
        "Beneath them lies a floor that no binding lowers:",
        table(("kind", "never"), _floor()),
    )


def _built_in(kind: str) -> tuple[str, ...]:
    """For a runtime that asks for nothing; the proxy runs."""
    strict = enforcement.Ground("strict", proxied=frozenset(("network", "agents", "mcp", "secrets")))
    words = (enforcement.enforced(kind, BUILT_IN[kind], "", ground).word for ground in (enforcement.Ground(), strict))
    return code(kind), BUILT_IN[kind].word, *map(code, words)


def runtime() -> str:
    schema = description.schema()
    return page("`runtime.yaml`", "opagent/packages/runtime.schema.json", RUNTIME_INTRO, *_sections(schema, _runtime_notes))


def _floor() -> Iterator[tuple[str, str]]:
    names = json.loads((Path(binding_schema.__file__).parent.parent / "policy" / "floor.json").read_text("utf-8"))
    for kind in ("read", "write"):
        yield code(kind), ", ".join(code(name) for name in names[kind])
    yield "`read`, `write`", "anything outside the workspace, and OpAgent's own state, configuration and socket directories"
    yield "`write`", "the directory of the conversations: only OpAgent writes there"
    yield "`network`", "loopback, private and metadata addresses, unless your own configuration names them"


def _runtime_notes(path: str) -> Iterator[str]:
    if path == "sessions":
        yield "What such a file holds: [write an importer](../guides/bring-conversations.md#write-an-importer)."


def _binding_notes(path: str) -> Iterator[str]:
    if path in NEAREST:
        yield "The nearest file of a chain wins."
    if path == "budget.per":
        yield f"The strictest of a chain counts: {', '.join(PER)}."
    own_of_role = path.startswith("roles.NAME.") and path != "roles.NAME.runtime"
    if path in (*WHOLE, "tools", "root", "can.secrets", "can.env", "can.KIND.allow") or own_of_role:
        yield "Needs [trust](../concepts/trust.md)."
    if path == "can.KIND.default":
        yield "Only the outermost file of a chain may have one. One that allows more than the built-in answer needs trust."
    if path in LATER:
        yield f"*{LATER[path][:1].upper()}{LATER[path][1:]}.*"


def keys(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Every key path of a schema with the part that describes it; rules of all kinds appear once, as `can.KIND.allow`."""
    found: dict[str, Schema] = {}
    for path, part in _walk(schema, schema, ""):
        found.setdefault(path, part)
    rules = {path: found.pop(path) for path in [*found] if path.startswith("can.KIND.")}
    for path, part in found.items():
        yield path, part
        if path == "can":
            yield from ((rule, {**part, "description": RULE_WORDS[rule.rpartition(".")[2]]}) for rule, part in rules.items())


def _walk(part: Schema, whole: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    shape, name = _resolved(part, whole)
    if path.startswith("can.") and name in RULES:
        for key, below in shape["properties"].items():
            yield f"can.KIND.{key}" if key in RULE_WORDS else f"{path}.{key}", _resolved(below, whole)[0]
        return
    named = next(iter(shape.get("patternProperties", {}).values()), None)
    if named is not None:
        below = f"{path}.{NAMED[path]}"
        yield below, _resolved(named, whole)[0]
        yield from _walk(named, whole, below)
    for key, child in shape.get("properties", {}).items():
        below = f"{path}.{key}".removeprefix(".")
        yield below, _resolved(child, whole)[0]
        yield from _walk(child, whole, below)
    if isinstance(shape.get("items"), dict) and shape["items"].get("properties"):
        yield from _walk(shape["items"], whole, path)


def _resolved(part: Schema, whole: Schema) -> tuple[dict[str, Any], str]:
    """The part with its definition put in, and the definition's name; the part's own words win."""
    if "$ref" not in part:
        return dict(part), ""
    name = str(part["$ref"]).rpartition("/")[2]
    return {**whole["definitions"][name], **{key: value for key, value in part.items() if key != "$ref"}}, name


def _sections(schema: Schema, notes: Any = lambda path: ()) -> Iterator[str]:
    required = set(schema.get("required", ()))
    for path, part in keys(schema):
        yield heading(3 if path.startswith("can.KIND.") else min(2 + path.count("."), 4), code(path))
        words = str(part.get("description", "")).rstrip(".")
        sentences = [f"*Value:* {words}." if words else "", *notes(path)]
        if path in required:
            sentences.append("Required.")
        yield " ".join(filter(None, sentences))
