"""`/links`: which relative links and anchors of the workspace lead nowhere. It reads, and looks at nothing outside."""

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from librarian import tree
from librarian.library import Library
from librarian.links import Link, Links, links_of
from librarian.quotes import code, link
from librarian.sections import is_markdown, split_lines
from librarian.slugs import anchors
from librarian.turn import Turn
from librarian.words import distance

SHOWN = 200
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//|/")
_LINE = re.compile(r"L\d+(?:C\d+)?(?:-L\d+(?:C\d+)?)?\Z")


@dataclass(frozen=True, slots=True)
class Broken:
    path: str
    line: int
    why: str  # Markdown


class Checker:
    """Links against the files that are there and the headings that the index holds."""

    def __init__(self, library: Library, root: int) -> None:
        self._library = library
        self._root = root
        self._known = set(library.paths())
        self._anchors: dict[str, set[str]] = {}
        self.checked = 0
        self.outside = 0

    def file(self, path: str) -> Iterator[Broken]:
        """The broken links of one Markdown file. Raises OSError, Unreadable."""
        text, _ = tree.read_text(self._root, path)
        links = links_of(split_lines(text))
        self._anchors[path] = self._of_headings(path) | links.anchors
        for one in links.links:
            why = self._why(path, one)
            if why:
                yield Broken(path, one.line, why)
        for one in links.undefined:
            yield Broken(path, one.line, f"{code('[' + one.target + ']')} is not defined in this file")

    def _why(self, path: str, one: Link) -> str:
        """What is wrong with a link; empty when it is fine or none of our business."""
        if not one.target or _ELSEWHERE.match(one.target):
            return ""
        self.checked += 1
        name, _, anchor = one.target.partition("#")
        name = unquote(name.partition("?")[0])
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), name)) if name else path
        if target == ".." or target.startswith("../"):
            self.checked -= 1
            self.outside += 1
            return ""
        if "\0" in target or not self._exists(target):
            return f"{code(one.target)}: there is no {code(target)}{self._near_file(target)}"
        if anchor and target in self._known and is_markdown(target):
            return self._why_anchor(target, one.target, unquote(anchor))
        return ""

    def _exists(self, target: str) -> bool:
        return target in self._known or target == "." or os.path.exists(os.path.join(self._library.turn.scope.root, target))

    def _near_file(self, target: str) -> str:
        if f"{target}.md" in self._known:
            return f"; there is {code(target + '.md')}"
        same = [path for path in self._known if posixpath.basename(path) == posixpath.basename(target)]
        return f"; there is {code(same[0])}" if len(same) == 1 else ""

    def _why_anchor(self, target: str, written: str, anchor: str) -> str:
        if anchor == "top" or _LINE.match(anchor):
            return ""
        known = self._of_file(target)
        if anchor in known or anchor.removeprefix("user-content-") in known:
            return ""
        limit = max(1, len(anchor) // 4)
        near = sorted((distance(anchor.lower(), other, limit), other) for other in known if other)
        hint = f"; there is {code('#' + near[0][1])}" if near and near[0][0] <= limit else ""
        return f"{code(written)}: {code(target)} has no heading {code('#' + anchor)}{hint}"

    def _of_file(self, path: str) -> set[str]:
        if path not in self._anchors:
            try:
                text, _ = tree.read_text(self._root, path)
                links = links_of(split_lines(text))
            except (OSError, tree.Unreadable):
                links = Links()
            self._anchors[path] = self._of_headings(path) | links.anchors
        return self._anchors[path]

    def _of_headings(self, path: str) -> set[str]:
        return set(anchors(heading.text for heading in self._library.headings(path)))


def check_links(turn: Turn, library: Library, argument: str) -> None:
    """`/links [FILE|DIR]`."""
    paths = [path for path in library.paths_at(argument) if is_markdown(path)]
    if not paths:
        turn.say(f"There is no Markdown file at {code(argument or '.')} that I may read.\n")
        return
    tool = turn.tool("search", f"Check the links of {len(paths):,} files")
    root = os.open(turn.scope.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    broken: list[Broken] = []
    checker = Checker(library, root)
    try:
        for path in paths:
            turn.check()
            try:
                broken += checker.file(path)
            except (OSError, tree.Unreadable):
                continue  # removed since the walk: it has no links any more
    finally:
        os.close(root)
    locations = [turn.location(one.path, one.line) for one in broken[:SHOWN]]
    tool.done(f"Check the links of {len(paths):,} files: {len(broken)} broken", locations=locations)
    turn.say(report(broken, checker, len(paths), turn.scope.base))


def report(broken: list[Broken], checker: Checker, number: int, base: str) -> str:
    beyond = f" {checker.outside:,} lead out of the workspace and were not checked." if checker.outside else ""
    seen = f"{checker.checked:,} relative links and anchors in {number:,} Markdown files"
    if not broken:
        return f"Nothing is broken: {seen}.{beyond}\n"
    lines = [f"- {link(one.path, one.line, base)} {one.why}" for one in broken[:SHOWN]]
    more = [f"- and {len(broken) - SHOWN:,} more"] if len(broken) > SHOWN else []
    count = "1 link is" if len(broken) == 1 else f"{len(broken):,} links are"
    return f"{count} broken, of {seen}.{beyond}\n\n" + "\n".join(lines + more) + "\n"
