"""The slash commands: one table, and the line that says which exist."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from librarian.answer import HELLO, answer
from librarian.asking import ask
from librarian.contents import contents
from librarian.finding import find
from librarian.index import IndexFailed
from librarian.indexfile import write_index
from librarian.library import Library, with_library
from librarian.linkcheck import check_links
from librarian.turn import Prompt, Turn
from librarian.wire import Message

_SLASH = re.compile(r"/([A-Za-z][\w-]*)((?:\s.*)?)\Z", re.DOTALL)

Work = Callable[[Turn, Library, str], None]


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    argument: str
    about: str
    work: Work


COMMANDS = (
    Command("find", "WORDS", "The lines that hold words, with file and line", find),
    Command("toc", "[FILE or DIRECTORY]", "The headings, with file and line", contents),
    Command("links", "[FILE or DIRECTORY]", "Relative links and anchors that lead nowhere", check_links),
    Command("ask", "AGENT WORDS", "Has another agent of this directory look, for example a proofreader", ask),
    Command("index", "[FILE]", "Write a table of contents into a file (INDEX.md), after asking", write_index),
)


def available() -> list[Message]:
    """For available_commands_update."""
    return [{"name": one.name, "description": one.about, "input": {"hint": one.argument}} for one in COMMANDS]


def overview() -> str:
    return "".join(f"- `/{one.name} {one.argument}`: {one.about}\n" for one in COMMANDS)


def run(turn: Turn, prompt: Prompt) -> None:
    """Does what was asked. Raises Cancelled, OSError, sqlite3.Error."""
    text = prompt.text.strip()
    if not text:
        turn.say(HELLO + "\n" + overview())
        return
    try:
        _dispatch(turn, text, prompt)
    except IndexFailed as error:
        turn.say(f"I cannot search here: {error}.\n")


def _dispatch(turn: Turn, text: str, prompt: Prompt) -> None:
    slash = _SLASH.match(text)
    if slash is None:  # a path such as /etc/hosts begins a question like any other text
        with_library(turn, lambda library: answer(turn, library, prompt))
        return
    name, argument = slash[1], slash[2].strip()
    command = next((one for one in COMMANDS if one.name == name), None)
    if command is not None:
        work = command.work
        with_library(turn, lambda library: work(turn, library, argument))
        return
    turn.say(f"There is no command `/{name[:40]}`. These are:\n\n{overview()}")
