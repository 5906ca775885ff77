"""In what order the files of the archive are needed on another machine, read from their import lines; imports and runs nothing.

They are compiled there while the rest is on its way (`remote/stage1.py`): what comes first is ready when the daemon starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

# what runs there, and first; then what `daemon/main.py` imports behind its start
STARTS = ("opagent.landing", "opagent.daemon.main", "markdown_it", "opagent.daemon.toolsession", "opagent.process.httptool")
# at the beginning of a line only: what stands in a function or below `if TYPE_CHECKING:` is not needed for a start
_IMPORT = re.compile(r"^(?:from (\.*)([\w.]*) import (\([^)]*\)|.*)|import (.*))", re.M)
_COMMENT = re.compile(r"#.*")


def needed(contents: Mapping[str, bytes]) -> list[str]:
    """Names of the files that a start imports, as it comes to them."""
    found: dict[str, None] = {}
    waiting = list(reversed(STARTS))
    while waiting:
        module = waiting.pop()
        parts = module.split(".")
        for count in range(1, len(parts) + 1):
            file = _file(contents, "/".join(parts[:count]))
            if file and file not in found:
                found[file] = None
                waiting += reversed(list(_imports(file, contents[file].decode())))
    return list(found)


def _file(contents: Mapping[str, bytes], path: str) -> str:
    return next((name for name in (f"{path}.py", f"{path}/__init__.py") if name in contents), "")


def _imports(file: str, source: str) -> Iterator[str]:
    """Names of modules, and some that are names in a module: no file has those."""
    for dots, module, names, plain in _IMPORT.findall(source):
        if plain:
            yield from _words(plain)
        else:
            package = file.split("/")[: -len(dots)] if dots else []
            base = ".".join([*package, *filter(None, [module])])
            yield base
            yield from (f"{base}.{name}" for name in _words(names))


def _words(names: str) -> Iterator[str]:
    """`a, b as c`, also in brackets and over several lines."""
    for part in _COMMENT.sub("", names).strip("()").split(","):
        if words := part.split():
            yield words[0]
