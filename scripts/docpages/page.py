"""The few Markdown pieces that generated pages are made of; knows nothing of OpAgent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def page(title: str, source: str, *parts: str) -> str:
    """A whole page: a comment that says where it comes from, its title, its parts."""
    comment = f"<!-- Made by scripts/docs from {source}. Do not edit it: change the code, then run scripts/docs. -->"
    return "\n\n".join([comment, f"# {title}", *(part.strip("\n") for part in parts if part)]) + "\n"


def heading(level: int, text: str) -> str:
    return f"{'#' * level} {text}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar in a cell is escaped, a line end becomes a space."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def code(text: object) -> str:
    """Text as inline code, whatever backticks it holds."""
    longest = max((len(run) for run in re.findall("`+", str(text))), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def block(text: str, language: str = "") -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def replace(text: str, name: str, content: str) -> str:
    """The page with what stands between `<!-- made: NAME -->` and `<!-- /made -->` replaced. Raises ValueError without them."""
    start, end = f"<!-- made: {name} -->\n", "<!-- /made -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"no place for {name!r}")
    return f"{before}{start}{content.strip()}\n{end}{after}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
