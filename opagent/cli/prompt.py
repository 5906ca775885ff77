"""The chat's input line: history, several lines, completion, Ctrl-C. Knows nothing of the daemon."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth

_MOST_PATHS = 50


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the chat lends to the line: what stands above it, the words, and what keys do."""

    above: Callable[[], str]
    commands: Callable[[], dict[str, str]]
    interrupt: Callable[[], bool]  # false: leave


class Words(Completer):
    """`/commands` at the beginning, `@paths` of the workspace anywhere; None: it is on another machine, and not looked at."""

    def __init__(self, workspace: str | None, commands: Callable[[], dict[str, str]]) -> None:
        self.workspace, self.commands = workspace, commands

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        if text.startswith("/") and " " not in text:
            for name, about in self.commands().items():
                if name.startswith(text):
                    yield Completion(name, -len(text), display_meta=about)
            return
        word = text.split()[-1] if text and not text[-1].isspace() else ""
        if word.startswith("@"):
            for path in self._paths(word[1:]):
                yield Completion(path, 1 - len(word))

    def _paths(self, begun: str) -> list[str]:
        folder, _, begin = begun.rpartition("/")
        if self.workspace is None or begun.startswith("/") or ".." in folder.split("/"):
            return []
        try:
            with os.scandir(os.path.join(self.workspace, folder)) as entries:
                names = [entry.name + ("/" if entry.is_dir() else "") for entry in entries]
        except OSError:
            return []
        wanted = sorted(name for name in names if name.startswith(begin) and (begin or not name.startswith(".")))
        return [f"{folder}/{name}" if folder else name for name in wanted[:_MOST_PATHS]]


def session(workspace: str | None, history: Path, color: bool, hooks: Hooks) -> PromptSession[str]:
    """Enter sends, Alt-Enter begins a line; the text above the line disappears when it is sent."""
    found: PromptSession[str] = PromptSession(
        history=FileHistory(str(history)),
        completer=Words(workspace, hooks.commands),
        complete_while_typing=True,
        key_bindings=_keys(hooks),
        multiline=False,
        enable_suspend=True,
        color_depth=None if color else ColorDepth.DEPTH_1_BIT,
    )

    def message() -> str:
        above = "" if found.app.is_done else hooks.above()
        return f"{above}\n› " if above else "› "

    found.message = message
    return found


def _keys(hooks: Hooks) -> KeyBindings:
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def _interrupt(event: KeyPressEvent) -> None:
        event.current_buffer.reset()
        if not hooks.interrupt():
            event.app.exit(exception=EOFError)

    return keys
