"""`/toc`: the headings of a file, a directory or the whole workspace, each with its line."""

from dataclasses import dataclass

from librarian.answer import files
from librarian.library import Library
from librarian.quotes import code, escape, link
from librarian.sections import Heading, plain
from librarian.turn import Turn

SHOWN = 300  # lines


@dataclass(frozen=True, slots=True)
class Page:
    path: str
    headings: tuple[Heading, ...]

    @property
    def title(self) -> str:
        """The first heading of the first level, else the first heading, else the name of the file."""
        first = next((one for one in self.headings if one.level == 1), None) or next(iter(self.headings), None)
        return (plain(first.text) if first else "") or self.path.rpartition("/")[2]


def pages(library: Library, argument: str) -> list[Page]:
    """Files with headings at a path, in its order: a directory's own files before those below it."""
    found = [Page(path, tuple(library.headings(path))) for path in library.paths_at(argument)]
    return sorted((page for page in found if page.headings), key=lambda page: order(page.path))


def order(path: str) -> tuple[tuple[int, str, str], ...]:
    """README and index first, then files by name, then directories."""
    *directories, name = path.split("/")
    first = 0 if name.lower().split(".")[0] in ("readme", "index") else 1
    return (*((2, one.lower(), one) for one in directories), (first, name.lower(), name))


def contents(turn: Turn, library: Library, argument: str) -> None:
    found = pages(library, argument)
    if not found:
        turn.say(f"There is no heading at {code(argument or '.')} in any Markdown file that I may read.\n")
        return
    depth = next((level for level in range(6, 0, -1) if _size(found, level) <= SHOWN), 0)
    lines: list[str] = []
    for page in found[:SHOWN]:
        lines += _page(page, depth, turn.scope.base)
    notes = []
    if len(found) > SHOWN:
        notes.append(f"the first {SHOWN} of {files(len(found))}")
    if any(heading.level > depth for page in found for heading in page.headings):
        notes.append(f"headings down to level {depth}" if depth else "titles only")
    turn.say("\n".join(lines) + (f"\n\n*Shown: {', '.join(notes)}. `/toc FILE` shows more.*" if notes else "") + "\n")


def _size(found: list[Page], level: int) -> int:
    return sum(1 + sum(heading.level <= level for heading in page.headings) for page in found)


def _page(page: Page, depth: int, base: str) -> list[str]:
    first = page.headings[0]
    lines = [f"- {link(page.path, first.line, base)} **{escape(page.title)}**"]
    top = min(heading.level for heading in page.headings)
    for heading in page.headings:
        text = plain(heading.text)
        if heading.level <= depth and not (heading is first and text == page.title):
            indent = "  " * max(1, heading.level - top + (0 if top == 1 else 1))
            lines.append(f"{indent}- {link(page.path, heading.line, base)} {escape(text)}")
    return lines
