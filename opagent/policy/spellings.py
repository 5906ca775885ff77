"""Which variables of an environment hold secrets, and in which spellings their values turn up in text. Pure.

API: `secret_values(environment)`, `spellings(value)`.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
import urllib.parse
from collections.abc import Iterator, Mapping

SHORTEST = 8  # characters; anything shorter is found in ordinary text, too
PIECE = 128  # characters of a long value that are looked for as one
LINE = 32  # characters of a line of a long value that is looked for by itself

_SECRET = re.compile(
    r"KEY|TOKEN|SECRET|PASSW(OR)?D|PASSPHRASE|CREDENTIAL|BEARER|COOKIE|WEBHOOK"
    r"|(^|_)(PASS|PW|PWD|PAT|CREDS?|AUTH|JWT|DSN)(_|$|\d)"
)
# names that say where a secret lies, or which kind of it and how much there is
_OTHER = re.compile(
    r"^(OLD)?PWD$|^MAX_|KEYBOARD|KEYMAP|ASKPASS"
    r"|_(PATH|FILE|DIR|DIRECTORY|HOME|SOCK|SOCKET|NAME|TYPE|MODE|LIMIT|TTL|TIMEOUT|SIZE|COUNT|LAYOUT|BACKEND|PROVIDER|HELPER)$"
)
# what stands in such a variable and is no secret; it would take the word out of every text
_ORDINARY = re.compile(
    "true|false|(en|dis)abled|required|optional|default|production|development|password|changeme|postgres", re.I
)


def secret_values(environment: Mapping[str, str]) -> dict[str, str]:
    """Value -> name of the variables whose names say that they hold a secret, where it is long enough to be found."""
    return {
        value.strip(): name
        for name, value in environment.items()
        if _named(name.upper()) and len(value.strip()) >= SHORTEST and not _ORDINARY.fullmatch(value.strip())
    }


def _named(name: str) -> bool:
    return bool(_SECRET.search(name)) and not _OTHER.search(name)


def spellings(value: str) -> set[str]:
    """The texts to look for: the value as it is, encoded, escaped, as a part of something encoded; a long one in pieces."""
    return {piece for form in _forms(value) for piece in _pieces(form) if len(piece) >= SHORTEST}


def _forms(value: str) -> Iterator[str]:
    data = value.encode("utf-8", "surrogateescape")
    yield value
    yield "\n".join(value.splitlines())
    yield from (line for line in value.splitlines() if len(line) >= LINE and not re.search(r"\s", line))
    yield from (data.hex(), data.hex().upper())
    for before in range(3):  # a part of more that was encoded, as in `user:password`: what does not depend on its neighbours
        encoded = base64.b64encode(bytes(before) + data).decode()[(before * 8 + 5) // 6 :]
        for form in (encoded, encoded[: (before + len(data)) * 8 // 6 - (before * 8 + 5) // 6]):
            yield from (form, form.replace("+", "-").replace("/", "_"))
    yield from (urllib.parse.quote(data, safe=""), urllib.parse.quote(data), urllib.parse.quote_plus(data))
    yield from (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])
    yield shlex.quote(value).removeprefix("'").removesuffix("'")


def _pieces(form: str) -> Iterator[str]:
    count = max(1, -(-len(form) // PIECE))
    size = max(1, -(-len(form) // count))
    yield from (form[start : start + size] for start in range(0, len(form), size))
