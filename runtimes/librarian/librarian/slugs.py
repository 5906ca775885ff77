"""The anchors that a Markdown file's headings get, by GitHub's rules. Pure.

Source: the behaviour of the `github-slugger` package and of GitHub's TOC filter: lower case, everything but letters,
marks, digits, `_`, `-` and spaces removed, spaces to hyphens, duplicates numbered from 1.
"""

import re
import unicodedata
from collections.abc import Iterable

from librarian.sections import plain

_IMAGE = re.compile(r"!\[[^\[\]]*\](?:\([^()]*\)|\[[^\[\]]*\])?")


def slug(heading: str) -> str:
    """The anchor of one heading as it is written in the file, before duplicates are numbered."""
    text = plain(_IMAGE.sub("", heading)).lower()
    kept = [char for char in text if char in " -_" or unicodedata.category(char) in _KEPT]
    return "".join(kept).replace(" ", "-")


_KEPT = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "Pc"})


def anchors(headings: Iterable[str]) -> list[str]:
    """The anchors of a file's headings in their order."""
    used: dict[str, int] = {}
    result = []
    for heading in headings:
        base = anchor = slug(heading)
        while anchor in used:
            used[base] += 1
            anchor = f"{base}-{used[base]}"
        used[anchor] = 0
        result.append(anchor)
    return result
