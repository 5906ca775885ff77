"""`/index [FILE]`: writes a table of contents into a file of the workspace, after asking, between its own markers."""

import os
import posixpath
import re
from urllib.parse import quote

from librarian import tree
from librarian.contents import Page, order, pages
from librarian.library import Library
from librarian.quotes import code, escape, link
from librarian.sections import is_markdown, outline, split_lines
from librarian.turn import Cancelled, Turn

OPENING, CLOSING = "<!-- toc -->", "<!-- /toc -->"
DEFAULT = "INDEX.md"


class NotPossible(Exception):
    """The file cannot be written; the sentence says why (Markdown)."""


def write_index(turn: Turn, library: Library, argument: str) -> None:
    path = posixpath.normpath(argument or DEFAULT)
    root = os.open(turn.scope.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _permitted(turn, path)
        before = _before(root, path)
        after = _after(before, block(pages(library, ""), path))
        if before is not None and after == before:
            turn.say(f"{link(path, None, turn.scope.base)} is up to date; nothing was written.\n")
            return
        _ask_and_write(turn, root, path, before, after)
    except NotPossible as error:
        turn.say(f"{error}\n")
    finally:
        os.close(root)


def _permitted(turn: Turn, path: str) -> None:
    if path.startswith(("/", "../")) or path in (".", "..") or "\0" in path:
        raise NotPossible(f"{code(path)} is not a file of this workspace.")
    if not is_markdown(path):
        raise NotPossible(f"{code(path)} is no Markdown file; the name must end in `.md`.")
    if turn.scope.hides(path):
        raise NotPossible(f"{code(path)} is hidden, a conversation, or not readable by the rules; I do not write there.")


def _before(root: int, path: str) -> bytes | None:
    try:
        return tree.read_bytes(root, path)[0]
    except FileNotFoundError:
        parent = posixpath.dirname(path)
        try:
            os.close(tree.open_directory(root, parent))
        except OSError:
            raise NotPossible(f"There is no directory {code(parent)}.") from None
        return None
    except (OSError, tree.Unreadable) as error:
        raise NotPossible(f"{code(path)} cannot be read: {escape(getattr(error, 'strerror', None) or str(error))}.") from error


def block(found: list[Page], target: str) -> list[str]:
    """The lines between the markers: titles with links relative to the file they stand in, nested by directory."""
    lines = []
    shown: list[str] = []
    for page in sorted(found, key=lambda page: order(page.path)):
        if page.path == target:
            continue
        *directories, _ = page.path.split("/")
        for depth, name in enumerate(directories):
            if shown[: depth + 1] != directories[: depth + 1]:
                lines.append(f"{'  ' * depth}- {escape(name)}/")
                shown = directories[: depth + 1]
        shown = directories
        where = quote(posixpath.relpath(page.path, posixpath.dirname(target) or "."), safe="/.-_~")
        lines.append(f"{'  ' * len(directories)}- [{escape(page.title)}]({where})")
    return lines


def _after(before: bytes | None, lines: list[str]) -> bytes:
    """The new content of the file: only what stands between the markers changes, line ends stay as they are."""
    body = [OPENING, *lines, CLOSING]
    if before is None:
        return "\n".join(["# Index", "", *body, ""]).encode()
    try:
        text = before.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotPossible("The file is not UTF-8; I do not change it.") from error
    end = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    new = end.join(body)
    place = _markers(text)
    if place is not None:
        return (text[: place[0]] + new + text[place[1] :]).encode()
    gap = "" if not text else end if text.endswith("\n") else end * 2
    return (text + gap + new + end).encode()


def _markers(text: str) -> tuple[int, int] | None:
    """Where our block stands, from its opening to the end of its closing marker; markers in code do not count."""
    code_lines = outline(split_lines(text)).code
    opening = None
    for number, found in enumerate(re.finditer(r"[^\n]*(?:\n|\Z)", text), 1):
        line = found[0].rstrip("\r\n").strip("\ufeff")
        if number in code_lines or line.rstrip() not in (OPENING, CLOSING):
            continue
        if line.rstrip() == OPENING and opening is None:
            opening = found.start() + found[0].index(OPENING)
        elif line.rstrip() == CLOSING and opening is not None:
            return opening, found.start() + found[0].index(CLOSING) + len(CLOSING)
    if opening is not None:
        raise NotPossible(f"The file has `{OPENING}` without `{CLOSING}`; I cannot tell which lines are mine.")
    return None


def _ask_and_write(turn: Turn, root: int, path: str, before: bytes | None, after: bytes) -> None:
    name = link(path, None, turn.scope.base)
    difference = {
        "type": "diff",
        "path": os.path.join(turn.scope.root, path),
        "oldText": None if before is None else before.decode(),
        "newText": after.decode(),
    }
    title = f"{'Write' if before is None else 'Update'} {path}"
    tool = turn.tool("edit", title, content=[difference], locations=[turn.location(path)])
    try:
        allowed = turn.permission(tool, [difference], path)
    except Cancelled:
        tool.failed(f"{title}: cancelled")
        raise
    if not allowed:
        tool.failed(f"{title}: rejected")
        turn.say(f"{name} was not written: the permission was not given.\n")
        return
    try:
        tree.write_file(root, path, after, before)
    except tree.Changed:
        tool.failed(f"{title}: changed meanwhile")
        turn.say(f"{name} was not written: somebody changed it while I asked. `/index` again takes the new text.\n")
        return
    except OSError as error:
        tool.failed(f"{title}: {error.strerror}")
        turn.say(f"{name} was not written: {escape(error.strerror or str(error))}.\n")
        return
    tool.done(title)
    turn.say(f"{name} is written.\n")
