"""One file of the chain, or the user's, or the machine's: bytes, data, places, and what is wrong with it alone; no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from opagent import yamlfile
from opagent.binding import schema, units
from opagent.binding.schema import Keys
from opagent.model import Effect, Layer, Origin, RuleList
from opagent.policy import address, rules
from opagent.yamlfile import Node

WORKSPACE, HOME, USER, MACHINE = "workspace", "home", "user", "machine"
MACHINE_KEYS = ("version", "can", "budget", "limits", "sandbox", "tests")

# names that change which program runs, where it talks to, or what it loads: never taken from a binding
FORBIDDEN_ENV = re.compile(
    "(LD|DYLD|GIT|DBUS|OPAGENT)_.*|PERL5.*|GCONV_PATH|BASH_ENV|ENV|IFS|PROMPT_COMMAND|PYTHON(PATH|STARTUP|HOME|INSPECT|BREAKPOINT)"
    "|NODE_OPTIONS|NODE_PATH|RUBYOPT|_?JAVA_(TOOL_)?OPTIONS|SSH_AUTH_SOCK|SSH_ASKPASS|XDG_RUNTIME_DIR|DISPLAY|WAYLAND_DISPLAY"
    "|.*_BASE_URL|.*_API_BASE|.*_ENDPOINT|.*_PROXY"
)
_CHANGES = "it changes what runs or where it talks to"


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed file. `kind` is workspace, home, user or machine; `base` the directory its globs are relative to."""

    path: str
    base: str
    kind: str
    content: bytes
    uid: int
    mode: int
    data: Mapping[str, Any]
    node: Node
    layer: Layer

    @property
    def own(self) -> bool:
        """Written by the user or the administrator for all directories, not lying in one."""
        return self.kind in (USER, MACHINE)

    @property
    def directory(self) -> str:
        """Where the file lies; for a file of the chain the same as `base`."""
        return self.path.rpartition("/")[0]

    def origin(self, *keys: str | int) -> Origin:
        return Origin(self.path, schema.place(self.node, keys, of_key=True)[0])

    def problem(self, keys: Keys, sentence: str, of_key: bool = False) -> str:
        return schema.problem(self.node, self.path, keys, sentence, of_key)


class Bytes(Protocol):
    """A file that was read (find.Found)."""

    @property
    def content(self) -> bytes: ...
    @property
    def uid(self) -> int: ...
    @property
    def mode(self) -> int: ...


def parse(path: str, base: str, kind: str, found: Bytes, home: str) -> Source:
    """Read one file strictly. Raises BindingInvalid with all its problems."""
    node = yamlfile.load(found.content, path)
    data = schema.check(node, path)
    layer = _layer(path, base, kind, data, node, home)
    source = Source(path, base, kind, found.content, found.uid, found.mode, data, node, layer)
    if problems := list(_problems(source)):
        raise yamlfile.invalid(path, problems)
    return source


def _layer(path: str, base: str, kind: str, data: Mapping[str, Any], node: Node, home: str) -> Layer:
    kinds = {name: _rules(name, said, node, home) for name, said in data.get("can", {}).items() if name in rules.KINDS}
    return Layer(kind if kind in (USER, MACHINE) else path, base, kinds, path)


def _rules(kind: str, said: Mapping[str, Any], node: Node, home: str) -> RuleList:
    if kind == "secrets":
        lines = {f"allow.{index}": schema.place(node, ("can", kind, name), True)[0] for index, name in enumerate(said)}
        return RuleList(allow=tuple(said), lines=lines)
    lists = {effect.word: tuple(_frozen(each, home) for each in said.get(effect.word, ())) for effect in Effect}
    lines = {
        f"{word}.{index}": schema.place(node, ("can", kind, word, index))[0]
        for word, patterns in lists.items()
        for index in range(len(patterns))
    }
    default = Effect[said["default"].upper()] if "default" in said else None
    if default is not None:
        lines["default"] = schema.place(node, ("can", kind, "default"))[0]
    return RuleList(lists["allow"], lists["ask"], lists["deny"], default, lines)


def _frozen(pattern: Any, home: str) -> Any:
    if isinstance(pattern, str):
        bang = "!" if pattern.startswith("!") else ""
        return f"{bang}{home}{pattern[len(bang) + 1 :]}" if pattern[len(bang) :].startswith("~/") else pattern
    return tuple(tuple(word) if isinstance(word, list) else word for word in pattern)


def _problems(source: Source) -> Iterator[str]:
    for kind, where, sentence in rules.form_problems(source.layer, source.own):
        word, index = where.split(".")
        yield source.problem(("can", kind, word, int(index)), sentence)
    yield from _where_it_may_stand(source)
    yield from _names(source)
    yield from _values(source)


def _where_it_may_stand(source: Source) -> Iterator[str]:
    data = source.data
    if not source.own:
        said = "only in your own configuration"
        for key in ("hardlinks", "lend", "notify", "secrets"):
            if key in data:
                yield source.problem((key,), said, of_key=True)
        if "in_file" in data.get("approvals", {}):
            yield source.problem(("approvals", "in_file"), said, of_key=True)
        if data.get("sandbox", {}).get("level") == "off":
            yield source.problem(("sandbox", "level"), f"off {said}")
        return
    for key in data:
        if key in ("host", "seal", "root") or (source.kind == MACHINE and key not in MACHINE_KEYS):
            yield source.problem((key,), f"not in the {source.kind}'s file: it speaks for all directories", of_key=True)


def _names(source: Source) -> Iterator[str]:
    can = source.data.get("can", {})
    for index, name in enumerate(can.get("env", ())):
        if FORBIDDEN_ENV.fullmatch(name):
            yield source.problem(("can", "env", index), f"{name} is never passed on: {_CHANGES}")
    for machine, lent in source.data.get("lend", {}).items():
        for name, host in lent.items():
            try:
                address.authority(host, 443)
            except ValueError as error:
                yield source.problem(("lend", machine, name), f"expected one host or host:port, found {host} ({error})")
    for name, secret in can.get("secrets", {}).items():
        keys = ("can", "secrets", name)
        if FORBIDDEN_ENV.fullmatch(name):
            yield source.problem(keys, f"{name} is never set: {_CHANGES}", of_key=True)
        if not source.own and not secret["from"].startswith(("keyring:", "user:")):
            said = "expected keyring:NAME or user:NAME; other sources only in your own configuration"
            yield source.problem((*keys, "from"), said)
        try:
            address.authority(secret.get("to", "api.example.com"), 443)
        except ValueError as error:
            yield source.problem((*keys, "to"), f"expected one host or host:port, found {secret['to']} ({error})")
    for name, tool in source.data.get("tools", {}).items():
        yield from _tool(source, ("tools", name), tool)


def _tool(source: Source, keys: tuple[str, ...], tool: Mapping[str, Any]) -> Iterator[str]:
    if ("command" in tool) == ("url" in tool):
        yield source.problem(keys, "expected a command or a url, and not both")
    elif "command" in tool:
        if not tool["command"][0].strip():
            yield source.problem((*keys, "command", 0), "the program is empty")
        if "headers" in tool:
            yield source.problem((*keys, "headers"), "only a url has headers", of_key=True)
    else:
        if said := _url_problem(tool["url"]):
            yield source.problem((*keys, "url"), said)
        used = {name for value in tool.get("headers", {}).values() for name in re.findall(r"\{([A-Z_][A-Z0-9_]*)\}", value)}
        if unknown := sorted(used - set(tool.get("secrets", ()))):
            yield source.problem((*keys, "headers"), f"{unknown[0]} is none of the tool's secrets")
        if len(tool.get("secrets", ())) > 1:
            yield source.problem((*keys, "secrets"), "a url has one secret at most")


def _url_problem(url: str) -> str:
    """Plain http is for this machine: there nobody listens in between."""
    found = re.fullmatch(r"(https?)://([^/?#@\s]+)(/[!-~]*)?", url)
    try:
        host, port = address.authority(found[2], 443 if found[1] == "https" else 80) if found else ("", 0)
    except ValueError:
        host = ""
    if not host or "#" in url:
        return "expected https://host/path"
    plain = found is not None and found[1] == "http" and not rules.is_private(address.shown(host, port))
    return "expected https: plain http only to this machine or a private network" if plain else ""


def _values(source: Source) -> Iterator[str]:
    data = source.data
    timeout = data.get("approvals", {}).get("timeout")
    if timeout and not 60 <= units.seconds(timeout) <= 86400:
        yield source.problem(("approvals", "timeout"), f"expected a duration from 1m to 24h, found {timeout}")
    if "conversations" in data and (said := _conversations_problem(data["conversations"])):
        yield source.problem(("conversations",), said)


def _conversations_problem(directory: str) -> str | None:
    parts = directory.removesuffix("/").split("/")
    outside = directory.startswith(("/", "~")) or any(part in ("", ".", "..") for part in parts)
    if outside or set(directory) & set("*?{}[]\n\\!"):
        return "expected a directory of its own below the workspace, for example conversations/"
    if any(part in (".git", ".opagent", ".agent.yaml") for part in parts):
        return "this directory has another use"
    return None
