"""Files that hurt a YAML loader, and mutations of a usual binding; data for tests, loaded by nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator

_LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [" + ",".join([f"*{chr(97 + i)}"] * 9) + "]\n" for i in range(8)
)

# name -> (content, what the one clear error says)
BOMBS: dict[str, tuple[bytes, str]] = {
    "billion laughs": (_LAUGHS.encode(), "anchors and aliases are not allowed"),
    "2,000 aliases of 60 kB": (
        ("a: &a '" + "x" * 60000 + "'\nb: [" + ",".join(["*a"] * 1500) + "]\n").encode()[:65536],
        "anchors and aliases are not allowed",
    ),
    "a tag that calls": (b"agent: !!python/object/apply:os.system ['touch OWNED']\n", "the tag"),
    "a tag that names": (b"agent: !!python/name:os.system\n", "the tag"),
    "a tag of one's own": (b"agent: !run 'touch OWNED'\n", "the tag !run is not allowed"),
    "2,000 nested lists": (b"agent: " + b"[" * 2000 + b"]" * 2000, "deeper than 20"),
    "50,000 nested lists": (b"agent: " + b"[" * 50000 + b"]" * 50000, "larger than 64 KiB"),
    "65,000 opened, none closed": (b"[" * 65000, "deeper than 20"),
    "65,000 maps opened": (b"{a: " * 16000, "deeper than 20"),
    "30,000 dashes": (b"- " * 30000, "deeper than 20"),
    "a key twice": (b"agent: a\nagent: b\n", "the key 'agent' is here twice (first in line 1)"),
    "merge key": (b"<<: {agent: x}\n", "merge keys are not allowed"),
    "recursive alias": (b"&a [*a]\n", "anchors and aliases are not allowed"),
    "two documents": (b"agent: a\n---\nagent: b\n", "one document only"),
    "escaped control characters": (b'agent: "\\x00\\x85"\n', "the character U+0000 is not allowed"),
    "a raw bell": (b"agent: a\x07\n", "the character U+0007 is not allowed"),
    "200,000 keys": ("\n".join(f"k{i}: 1" for i in range(200000)).encode(), "larger than 64 KiB"),
    "6,000 items": (b"tests: [" + b"a," * 6000 + b"]", "more than 5000 nodes"),
    "bidi override": ("agent: 'a\u202eb'\n".encode(), "the character U+202E is not allowed"),
    "bidi in a comment": ("agent: a # \u2066 b\n".encode(), "the character U+2066 is not allowed"),
    "zero width": ("agent: a\u200bb\n".encode(), "the character U+200B is not allowed"),
    "escaped bidi": (b'agent: "a\\u202eb"\n', "the character U+202E is not allowed"),
    "complex key": (b"? [a, b]\n: 1\n", "a key must be one line of text"),
    "a key of two lines": (b'"a\\nb": 1\n', "a key must be one line of text"),
    "Latin-1": ("agent: café\n".encode("latin-1"), "not UTF-8"),
    "UTF-16": ("agent: a\n".encode("utf-16"), "not UTF-8"),
    "a tag directive": (b"%TAG ! tag:evil,2000:\n---\nagent: a\n", "directives are not allowed"),
    "a version directive": (b"%YAML 9.9\n---\nagent: a\n", "found incompatible YAML document"),
    "a tab": (b"can:\n\tread: {}\n", "found character that cannot start any token"),
    "a line end of YAML 1.1": ("agent: a\u2028root: true\n".encode(), "the character U+2028 is not allowed"),
}

USUAL = b"""version: 1
agent: writer
roles:
  writer: {runtime: assistant, instructions: "write well"}
can:
  read: {deny: ["**/.env*", "secrets/"]}
  write: {allow: ["**/*.md"], default: deny}
  exec: {allow: [[git, [status, diff, log]]], ask: [[git, push]]}
  network: {allow: ["api.example.com"], default: deny}
budget: {cost: 5 USD, tokens: 2M, wall: 2h, per: day}
tests:
  - {read: .env, is: deny}
"""
_PIECES = (
    b"&a ", b"*a", b"!!", b"<<: ", b"[", b"{", b"]", b"}", b"\t", b"---\n", b"\x00", b"\xff", b"? ", b": ", b"|\n", b">\n",
    b"%YAML 9\n", b"\xe2\x80\xae", b"'", b'"', b"\\x", b"#", b"- " * 30, b"[" * 40, b"-", b"\n", b"0", b"~", b"a.b: ", b"[0]",
    b"null", b"true", b"1e999", b"..", b"/", b"!", b"**", b"{a,b}", b"{" * 9, b"\\n", b"0x7f.1", b"9" * 30,
)  # fmt: skip


def mutations(number: int, seed: int = 0) -> Iterator[bytes]:
    """The usual binding, damaged in one to six places; the same ones every time."""
    chance = random.Random(seed)
    for _ in range(number):
        data = bytearray(USUAL)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data))
            action = chance.randrange(4)
            if action == 0:
                data[at:at] = chance.choice(_PIECES)
            elif action == 1:
                del data[at : at + chance.randint(1, 20)]
            elif action == 2:
                data[at] = chance.randrange(256)
            else:
                word = chance.choice((b"writer", b"deny", b"allow", b"git", b"5 USD", b"2h", b"day", b"secrets/"))
                data[:] = data.replace(word, chance.choice(_PIECES), 1)
            data = data or bytearray(b" ")
        yield bytes(data)
