"""The files that a message names: `@path`, `@"a path"`, `@<a path>`, `![alt](image)`; looks at no file.

API: `mentions`, `Mention`.

Code, links and HTML are text, and so is what turns out not to exist: addresses, decorators. (Design: "The draft and sending".)
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

EXAMINED = 64 * 1024  # characters of a message; a parse of more would hold up everybody
MOST = 50
_NO_WORD = "\x01"  # stands for what is no text, so that nothing begins right behind it
_MENTION = re.compile(rf"""(?<![^\W_])(?<![@./+\-{_NO_WORD}])@(?:"([^"\n]+)"|<([^<>\n]+)>|([^\s"<{_NO_WORD}][^\s{_NO_WORD}]*))""")
_SENTENCE = ".,;:!?)]}'\"*_…"  # what may follow a path without belonging to it
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//")


@dataclass(frozen=True, slots=True)
class Mention:
    """One file. `paths`: as it may be meant, with the signs of the sentence behind it and without; the first that exists."""

    paths: tuple[str, ...]
    image: bool = False  # relative to the conversation's file, not to the workspace


def mentions(text: str) -> tuple[Mention, ...]:
    """In order, each once; at most `MOST` of the first `EXAMINED` characters."""
    text = text[:EXAMINED]
    if "@" not in text and "![" not in text:
        return ()
    found: dict[Mention, None] = {}
    for token in _parser().parse(text):
        if token.type == "inline":
            found |= dict.fromkeys(_images(token.children or ()))
            found |= dict.fromkeys(_named(_flat(token.children or ())))
    return tuple(found)[:MOST]


@functools.cache
def _parser() -> MarkdownIt:
    """Link definitions are quadratic in the parser."""
    from markdown_it import MarkdownIt  # slow to import, and a daemon that starts has nothing to parse yet

    return MarkdownIt("commonmark").disable("reference")


def _flat(children: Iterable[Token]) -> str:
    """The text of a paragraph. Signs of emphasis stay, for `@pkg/__init__.py` has some; HTML too: `@<intro>` looks like a tag."""
    return "".join(
        child.content
        if child.type in ("text", "html_inline")
        else "\n"
        if child.type in ("softbreak", "hardbreak")
        else child.markup
        if child.type.startswith(("em_", "strong_"))
        else _NO_WORD
        for child in children
    )


def _named(text: str) -> Iterable[Mention]:
    for found in _MENTION.finditer(text):
        path = found[1] or found[2]
        if path:
            yield Mention((path,))
            continue
        if bare := found[3].rstrip(_SENTENCE):
            yield Mention(tuple(dict.fromkeys((found[3], bare))))


def _images(children: Iterable[Token]) -> Iterable[Mention]:
    for child in children:
        source = str(child.attrGet("src") or "") if child.type == "image" else ""
        path = unquote(re.split("[?#]", source)[0])
        if path and not _SCHEME.match(source) and "\0" not in path:
            yield Mention((path,), image=True)
