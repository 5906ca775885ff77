"""The words a person reads before a binding may act: exact, complete, and with no character that could hide something. Pure."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from opagent.binding.source import Source
from opagent.binding.trust import Facts
from opagent.model import Binding, Instruction, RuleList
from opagent.yamlfile import INVISIBLE

_KINDS = (
    ("read", "may read"),
    ("write", "may write"),
    ("exec", "may run"),
    ("network", "may connect to"),
    ("agents", "may call agents"),
    ("mcp", "may use tools"),
)


class Shown(Protocol):
    """What is asked about (load.Loaded)."""

    @property
    def binding(self) -> Binding: ...
    @property
    def chain(self) -> Sequence[Source]: ...
    @property
    def facts(self) -> Facts: ...


def lines(loaded: Shown) -> tuple[str, ...]:
    """The question, one fact a line. The answer that nothing means is no."""
    return tuple(visible(line) for line in _lines(loaded))


def shown(loaded: Shown) -> str:
    """What a record keeps: the question and the files it came from, so that a change can be shown line by line."""
    parts = ["\n".join(lines(loaded))]
    for file in loaded.facts.chain:
        parts.append(f"--- {file.path}\n" + "\n".join(visible(line) for line in file.content.decode("utf-8").splitlines()))
    return "\n".join(parts)


def visible(line: str) -> str:
    """The line with every control, zero-width and bidi character spelled as U+XXXX; so is the end of a line inside it."""
    return INVISIBLE.sub(_spelled, line.replace("\t", " ").replace("\r", "<U+000D>").replace("\n", "<U+000A>"))


def _spelled(found: Any) -> str:
    return f"<U+{ord(found[0]):04X}>"


def _lines(loaded: Shown) -> Iterator[str]:
    binding, facts = loaded.binding, loaded.facts
    yield f"{facts.path} asks to act"
    if facts.obstacle:
        yield f"  no answer      can be given: {facts.obstacle}"
    for doubt in facts.doubts:
        yield f"  because        {doubt}"
    for file in facts.chain:
        yield f"  file           {file.path} ({', '.join(file.needs_trust)})"
    yield f"  agent          {binding.agent or 'none named'}"
    yield from _programs(binding, facts)
    yield from _rules(binding)
    if binding.capabilities.env:
        yield f"  passes on      {' '.join(binding.capabilities.env)}"
    for name, secret in binding.capabilities.secrets.items():
        yield f"  secret         {name} -> {secret.get('to', 'the agent itself')} (from {secret['from']})"
    if binding.host:
        yield f"  other machine  {binding.host}"
    budget = ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in binding.budget.items()
    )
    yield f"  budget         {budget or 'none'}"
    yield f"  sandbox        {facts.level}"
    yield from _left_behind(loaded)


def _programs(binding: Binding, facts: Facts) -> Iterator[str]:
    for role in binding.roles.values():
        details = [f"runtime {role.runtime}", *(f"{key} {value}" for key in ("model", "mode") if (value := getattr(role, key)))]
        yield f"  role           {role.name}: {', '.join(details)}"
        if role.instructions:
            yield from _text(f"of {role.name}: {role.instructions}")
    for runtime in facts.runtimes:
        yield f"  starts         {shlex.join(runtime.argv) or runtime.name}"
        yield f"    in           {facts.path}"
    for name, tool in binding.tools.items():
        yield from _tool(name, tool, facts.path)
    for path, digest in facts.closure.items():
        yield f"  executes       {path} (sha256 {digest[:12]})"
    for instruction in binding.instructions:
        yield from _text(_instruction(instruction))


def _tool(name: str, tool: Mapping[str, Any], workspace: str) -> Iterator[str]:
    if "url" in tool:
        yield f"  connects to    {tool['url']}  (tool {name})"
        yield from (f"    header       {key}: {value}" for key, value in tool.get("headers", {}).items())
    else:
        yield f"  starts         {shlex.join(tool['command'])}  (tool {name})"
        yield f"    in           {tool['base'] if tool['base'].startswith(f'{workspace}/') else workspace}"
    given = [*tool.get("env", ()), *tool.get("secrets", ())]
    if given:
        yield f"    gets         {' '.join(given)}"


def _text(text: str) -> Iterator[str]:
    """Words of several lines, each under the first."""
    first, *rest = text.rstrip().split("\n")
    yield f"  instructions   {first}"
    for line in rest:
        yield f"                 {line}"


def _instruction(instruction: Instruction) -> str:
    if instruction.file is None:
        return instruction.text
    digest = hashlib.sha256(instruction.text.encode()).hexdigest()[:12]
    return f"the file {instruction.file} named by {instruction.origin} (sha256 {digest})"


def _rules(binding: Binding) -> Iterator[str]:
    """Allows and defaults only: what forbids needs no trust."""
    for kind, words in _KINDS:
        for layer in binding.capabilities.chain:
            rules = layer.kinds.get(kind, RuleList())
            if rules.allow:
                yield f"  {words:<14} {', '.join(_pattern(each) for each in rules.allow)}"
            if rules.default is not None:
                yield f"  {words:<14} otherwise: {rules.default.word}"


def _pattern(pattern: Any) -> str:
    if isinstance(pattern, str):
        return pattern
    return " ".join("|".join(word) if isinstance(word, tuple) else shlex.quote(word) for word in pattern)


def _left_behind(loaded: Shown) -> Iterator[str]:
    """What a `root: true` would cut off."""
    for each in loaded.chain[len(loaded.binding.chain) :]:
        limits = [f"can.{kind}" for kind in each.data.get("can", {})]
        limits += [key for key in ("budget", "limits", "sandbox") if key in each.data]
        yield f"  leaves behind  {each.path} ({', '.join(limits) or 'no limits'})"
