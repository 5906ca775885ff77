"""What the commands print with `--json`, as a table, and the JSON Schema made of it. Prints nothing.

A field is `name: type`, `name?: type` where it may be missing. Types: str, int, number, bool, object, any, a name of THINGS, and
`[type]`, `type|null`. More fields than these may come: a reader ignores what it does not know. A change that removes or
renames one raises `output.SCHEMA`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opagent.cli.output import SCHEMA

THINGS = {
    "error": "code: str, message: str, why?: str, hint?: str, exit: int",
    "conversation": "id: str, workspace: str, path: str, agent: str, title: str, created: str, state: str, "
                    "turns?: int, updated?: str, exists?: bool",
    "turn": "id: str, message: str, conversation: str, author: str, text: str, state: str, queued_at: str, ended_at: str|null, "
            "reason: str|null, usage: object",
    "event": "conversation: str, seq: int, journal: int, turn: str|null, kind: str, at: str, body: object",
    "approval": "id: str, conversation: str, turn: str|null, process: str, kind: str, subject: str, options: [option], "
                "asked_at: str, expires_at: str|null, state: str, answered_by: str|null, answered_at: str|null, "
                "reason: str|null, rule: str|null, same?: str, wider?: str, remembered?: [remembered], "
                "workspace?: str, path?: str, agent?: str, host?: str|null",
    "remembered": "id: str, effect: str, kind: str, pattern: str, agent: str, scope: str, conversation: str|null, "
                  "workspace: str, approval: str|null, at: str, by: str",
    "step": "at: str, what: str, text: str, there?: object, here?: bool",
    "option": "id: str, name: str, kind: str",
    "process": "id: str|null, pid: int|null, conversation: str, path: str, workspace: str, agent: str, runtime: str, state: str, "
               "since: str, turn: str|null, queued: int, level?: str|null, restarts: int, sentence: str, "
               "memory?: int, cpu?: number, "
               "processes?: int, waiting_for?: [str], stuck?: str, ports?: [int], children?: [child], host?: str|null, "
               "stale?: str, called_by?: caller, calls?: [call]",
    "caller": "host: str|null, conversation: str, turn: str, call: str",
    "call": "call: str, host: str, agent: str, conversation: str, path: str",
    "asked": "name: str, answered: bool, seen: str, why?: str",
    "child": "pid: int, parent: int, command: str",
    "check": "name: str, ok: bool|null, sentence: str, hint?: str",
    "host": "name: str, target: str, settings: object, identity: str, transport: str, seen: str, facts: object, state?: str, "
            "since?: str, why?: str, journal?: str",
    "mirror": "directory: str, machine: str, path: str, connected: bool, files: int, waiting: [str], problems: [object]",
    "note": "path: str, directory: str, size: int",
    "runtime": "name: str, version: str, state: str, others: [str], pin: str, source: str, about: str",
    "installed": "name: str, version: str, active: str, before: str, digest: str, origin: str, package: str, scripts: [str], "
                 "skipped: [str], confined: str, node: str, packages: int, bytes: int",
    "counts": "name: str, version: str, pin: str, before: [str], versions: [str]",
    "secret": "name: str, from: str, state: str, ok?: bool",
    "said": "id: str, role: str, author: str, at: str, text: str",
    "session": "id: str, tool: str, runtime: str, title: str, updated: str, file: str",
    "entry": "seq: int, at: str, kind: str, host: str, who: object, link: str, body: object|null, obj?: object, "
             "decision?: object, state?: str, ref?: int, error?: str, ms?: number, conversation?: str",
    "server": "name: str, bound: bool, started: bool, origin: str, command?: [str], url?: str, problem?: str, running: [str], "
              "tools: [tool], "
              "reads: [read]",
    "tool": "name: str, state: str, effect: str, rule: str, enforcement: str, digest: str, agreed: str, by: str, at: str, "
            "description: str, difference?: [str]",
    "read": "name: str, effect: str, rule: str, enforcement: str",
    "record": "path: str, state: str, digest: str, at: str, by: str",
    "file": "path: str, needs_trust: [any], trusted: bool",
    "value": "key: str, value: any, origin: str, enforcement?: str",
    "capability": "kind: str, default: str, enforcement: str, really?: str, reason?: str, rules: [rule]",
    "rule": "effect: str, pattern: any, origin: str, enforcement: str, really?: str, reason?: str",
    "word": "layer: str, effect: str|null, rule: str, counts: bool",
    "used": "name: str, turns: int, wall: number, tool_calls: int, tokens: int, cost: number, currency: str, "
            "reported_input: int|null, reported_output: int|null, reported_cost: number|null, metered_input: int|null, "
            "metered_output: int|null, metered_cost: number|null, estimated: int, doubtful: int, last: str, host?: str|null",
    "limit": "metric: str, per: str, scope: str, window: str, limit: number, raised: number, used: number, running: number, "
             "reserved: number, left: number, unit: str, enforcement: str, origin: str, reported?: number|null, "
             "metered?: number|null, question?: str",
}  # fmt: skip
_STARTED = "seq: int, host: str, conversation: str, type: str, path: str, workspace: object"
_TOLD = "seq: int, host: str, conversation: str, type: str, journal: int, turn: str|null, at: str, body: object"
_QUEUED = "conversation: str, type: str, turn: turn, place: int"
_COUNTS = "runtime: counts"
_STEERED = "turn: turn, how: str"
_CONVERSATION = "conversation: conversation, saved?: str|null"

# command -> the forms of its object; a command that streams prints one object a line, each in one of them
OUTPUTS: dict[str, tuple[str, ...]] = {
    "open": (_STARTED, _TOLD, _QUEUED),
    "init": ("binding: str, git: [str]",),
    "explain": ("workspace: str, focus: str, agent: str, trust: str, chain: [file], values: [value], capabilities: [capability], "
                "launch: object, sandbox: object, notices: [str]",
                "workspace: str, kind: str, request: str, effect: str, by_rule?: str, rule: str, enforcement: str, reason: str, "
                "layers: [word]"),
    "trust": ("path: str, state: str, digest: str, question: [str], difference?: str", "records: [record]"),
    "send": (_STARTED, _TOLD, _QUEUED, _STEERED),
    "call": ("call: str, outcome: str, text?: str, reason?: str, hint?: str, usage?: object, agent?: str, conversation?: str, "
             "turn?: str, file?: str, waits_for?: str",),
    "notes read": ("notes: [note]", "path: str, directory: str, text: str"),
    "notes write": ("path: str, directory: str, size: int",),
    "ps": ("processes: [process], hosts?: [asked]",),
    "host list": ("hosts: [host]",),
    "host add": ("host: host",),
    "host check": ("steps: [check]",),
    "host upgrade": ("report: any",),
    "host forget": ("forgotten: bool, report: any",),
    "host mirrors": ("mirrors: [mirror]",),
    "host unmirror": ("closed: bool, waiting: [str]",),
    "runtime list": ("runtimes: [runtime]",),
    "runtime info": ("name: str, title: str, about: str, version: str, source: str, package: str, command: [str], pin: str, "
                     "before: [str], versions: [object], env: object, signin: str, installs: bool, "
                     "seen?: object, lock?: object, problem?: str",),
    "runtime new": ("folder: str, files: [str], next: str",),
    "runtime probe": ("runtime: str, version: str, digest: str, program: str, at: str, level: str, agent: str, "
                      "protocol: int|null, ready_ms: int|null, asks: bool|null, keeps_to_no: bool|null, "
                      "answers_while_asking: bool|null, cancel: bool|null, cancel_ms: int|null, works_after_cancel: bool|null, "
                      "again: str, resume: bool|null, usage: str|null, context: bool|null, mcp: str|null, "
                      "calls_mcp: bool|null, ends_at_eof: bool|null, ends_at_term: bool|null, left: any, notes: [str], "
                      "problem: str, can: object, lines: [any], seconds: number",),
    "runtime install": ("runtime: installed",),
    "runtime upgrade": ("runtimes: [installed]",),
    "runtime rollback": (_COUNTS,),
    "runtime pin": (_COUNTS,),
    "runtime remove": (_COUNTS,),
    "runtime bundle": ("name: str, version: str, file: str, bytes: int, digest: str",),
    "logs": ("process: str, path: str, text: str",),
    "stop": ("process: process",),
    "restart": ("process: process",),
    "wait": ("conversation: str, turn: turn|null",),
    "approvals list": ("approvals: [approval]", "remembered: [remembered]"),
    "approvals forget": ("forgotten: [remembered]",),
    "allow": ("approval: approval",),
    "deny": ("approval: approval",),
    "audit list": ("records: [entry]", "seq: int, at: str, kind: str, host: str, who: object"),
    "audit verify": ("rows: int, purged: int, head: str, heads: int, broken: str|null, row: int|null, compared: int, "
                     "sealed: bool, host: str",),
    "audit export": ("seq: int, conversation: str|null, n: int|null, kind: str, ref: int|null, head: str, body: str|null, "
                     "sum: str, link: str",),
    "audit backup": ("path: str, size: int, host: str",),
    "audit purge": ("conversation: str, path: str, purged: int",),
    "usage": ("usage: [used], hosts?: [asked]",),
    "budget": ("workspace: str, per: str, limits: [limit]",),
    "why": ("id: str, kind: str, state: str, title: str, steps: [step]",),
    "conversations list": ("conversations: [conversation]",),
    "conversations show": ("conversation: conversation, turns: [turn], events: [event], more: bool",),
    "conversations new": (_CONVERSATION,),
    "conversations fork": (_CONVERSATION,),
    "conversations rebuild": (_CONVERSATION,),
    "conversations queue": ("turns: [turn]",),
    "conversations import": ("sessions: [session]", _CONVERSATION),
    "conversations export": ("conversation: str, title?: str, agent?: str, created?: str, forked_from?: str, turns: [said]",),
    "conversations merge": ("path: str, conflict: bool",),
    "secrets list": ("secrets: [secret]",),
    "secrets check": ("secrets: [secret]",),
    "secrets set": ("name: str",),
    "secrets forget": ("name: str",),
    "tools list": ("workspace: str, trust: str, servers: [server]",),
    "tools show": ("tool: tool",),
    "tools allow": ("allowed: [str]",),
    "tools forget": ("forgotten: int",),
    "doctor": ("checks: [check]",),
    "daemon start": ("pid: int, version: str, host: str",),
    "daemon status": ("pid: int, version: str, protocol: int, started: str, socket: str, database: str, clients: int, "
                      "conversations: int, processes: int, running: int",),
}  # fmt: skip
_PLAIN = {"str": "string", "int": "integer", "number": "number", "bool": "boolean", "object": "object"}


def of(command: str) -> dict[str, Any]:
    """The schema of what one command prints, whole: draft 7, with the definitions it needs. KeyError for one that prints none."""
    used: dict[str, Any] = {}
    forms = [_form(f"schema: int, {form}", used) for form in (*OUTPUTS[command], "error: error")]
    for form in forms:
        form["properties"]["schema"] = {"const": SCHEMA}
    title = f"opagent {command} --json"
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": title, "anyOf": forms, "definitions": used}


def _form(fields: str, used: dict[str, Any]) -> dict[str, Any]:
    """An object; the things its fields are made of are added to `used`."""
    named = [field.partition(": ") for field in fields.split(", ")]
    properties = {name.removesuffix("?"): _type(kind, used) for name, _, kind in named}
    return {"type": "object", "required": [name for name, _, _ in named if not name.endswith("?")], "properties": properties}


def _type(kind: str, used: dict[str, Any]) -> dict[str, Any]:
    if kind.endswith("|null"):
        return {"anyOf": [_type(kind.removesuffix("|null"), used), {"type": "null"}]}
    if kind.startswith("["):
        return {"type": "array", "items": _type(kind[1:-1], used)}
    if kind == "any":
        return {}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if kind not in used:
        used[kind] = {}  # a thing may hold itself
        used[kind] |= _form(THINGS[kind], used)
    return {"$ref": f"#/definitions/{kind}"}


def all_of(commands: Iterable[str]) -> dict[str, Any]:
    """Command -> schema."""
    return {command: of(command) for command in commands}
