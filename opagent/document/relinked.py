"""The relative links of a text that is quoted in another file: the same targets, seen from there. Pure."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import quote

_TARGET = re.compile(r"(?<=\]\()(?![A-Za-z][A-Za-z\d+.-]*:|[/#<])[^\s()]+(?=[\s)])")  # of an inline link that is relative


def relinked(text: str, way: str) -> str:
    """`way`: the relative path from the directory where it is quoted to the one where it was said. One with brackets stays."""
    folder = quote(way, errors="replace")
    return _TARGET.sub(lambda found: posixpath.normpath(posixpath.join(folder, found[0])), text)
