"""What "the same again" means for an answer that is remembered: the exact action, or one step wider. Pure; remembers nothing.

A pattern is JSON: `[kind, what]`, or `[kind, what, "*"]` for the step wider, in which one place is left open. A request has at
most these two patterns, and an earlier answer counts where it was given for one of them. So nothing is matched, only compared,
and a pattern that no person was shown never applies. (Design: security.md, "Approvals" 4.)
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from opagent.policy import rules

NEVER = ("leave", "secrets", "trust", "install")  # kinds whose answers count once
OPEN = "*"
_CLAIM = "permission/"
_LEAST = 2  # words that stay fixed: a program alone is no narrower than everything it can do
_PLAIN = re.compile(r"[\w./:@%+=,-]+(?: +[\w./:@%+=,-]+)*")  # a command line that no shell reads otherwise than we do


def literal(kind: str, what: Any) -> str:
    """The pattern of exactly this; "" where an answer is never remembered."""
    if kind in NEVER or (kind == "network" and isinstance(what, str) and rules.is_private(what)):
        return ""
    return json.dumps([kind, what], ensure_ascii=False, sort_keys=True, default=str)


def claimed(kind: str, what: Any) -> str:
    """The same of what an agent says that it will do by itself: an answer to that must not count for what we do for it."""
    return literal(f"{_CLAIM}{kind}", what)


def wider(pattern: str) -> str:
    """The pattern one step wider than a literal one; "" where there is none that a person can judge."""
    if not pattern:
        return ""
    kind, what = json.loads(pattern)
    opened: Any = None
    if isinstance(what, Mapping):
        words = _opened_command(what.get("command"))
        opened = {**what, "command": words} if words else None
    elif isinstance(what, Sequence) and not isinstance(what, str):
        opened = [_opened_path(what[0])] if len(what) == 1 and isinstance(what[0], str) else None
    elif kind == "network":
        opened = _opened_host(what)
    elif kind == "mcp":
        opened = f"{what.partition('/')[0]}/{OPEN}"
    return json.dumps([kind, opened, OPEN], ensure_ascii=False, sort_keys=True) if opened else ""


def key(pattern: str) -> str:
    """What stands for a pattern in the store: its words may hold a secret."""
    return hashlib.sha256(pattern.encode("utf-8", "surrogatepass")).hexdigest()


def keys(pattern: str) -> tuple[str, ...]:
    """Those of the patterns that a request has: what an earlier answer is looked up by."""
    return tuple(key(each) for each in (pattern, wider(pattern)) if each)


def shown(pattern: str) -> str:
    """How a pattern reads."""
    kind, what, *_ = json.loads(pattern)
    kind = kind.removeprefix(_CLAIM)
    if isinstance(what, Mapping) and "command" in what:
        command = what["command"]
        more = {key: value for key, value in what.items() if key != "command"}
        line = " ".join(map(_word, command)) if isinstance(command, list) else _word(command, quoted=False)
        return line + (f" with {json.dumps(more, ensure_ascii=False)}" if more else "")
    if isinstance(what, Sequence) and not isinstance(what, str):
        return f"{kind} {' '.join(map(_word, what))}"
    return f"{kind} {what if isinstance(what, str) else json.dumps(what, ensure_ascii=False)}"


def _word(word: Any, quoted: bool = True) -> str:
    text = word if isinstance(word, str) else json.dumps(word, ensure_ascii=False)
    return text if not quoted or re.fullmatch(r"[^\s'\"]+", text) else json.dumps(text, ensure_ascii=False)


def words_of(command: Any) -> tuple[str, ...]:
    """The words of a command, as a list or as a plain line; () for what only a shell can take apart."""
    if isinstance(command, str):
        return tuple(command.split()) if _PLAIN.fullmatch(command) else ()
    if isinstance(command, Sequence) and all(isinstance(word, str) for word in command):
        return tuple(command)
    return ()


def _opened_command(command: Any) -> list[str]:
    """The same words but the last, which may be any word that is no option; never for a shell or a launcher."""
    words = words_of(command)
    if len(words) <= _LEAST or words[-1].startswith("-") or words[-1] == OPEN or rules.launches(words):
        return []
    return [*words[:-1], OPEN]


def _opened_path(path: str) -> str:
    """Another file of the same kind in the same directory."""
    folder, slash, name = path.rpartition("/")
    stem, dot, ending = name.rpartition(".")
    return f"{folder}{slash}{OPEN}{dot}{ending}" if stem and dot else f"{folder}{slash}{OPEN}"


def _opened_host(host: str) -> str:
    """Another host of the same domain, which is never a domain that everybody has a name in by itself."""
    name, port = rules.split_host(host)
    labels = name.split(".")
    if len(labels) < 3 or rules.is_private(host) or ":" in name or labels[-1].isdecimal():
        return ""
    return f"{OPEN}.{'.'.join(labels[1:])}:{port}"
