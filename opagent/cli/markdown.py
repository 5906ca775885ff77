"""Markdown that comes in pieces: which top-level blocks are whole, and a block as it looks on the terminal."""

from __future__ import annotations

import io
import re

from opagent.cli.output import clean

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_LONGEST, _LARGEST = 400, 16_384  # lines and characters of one block; then it is shown as it is


class Blocks:
    """Collects text; a block is whole at a blank line outside a code fence."""

    def __init__(self) -> None:
        self.rest = ""

    def feed(self, text: str) -> list[str]:
        """The blocks that are whole now; the beginning of the next one stays in `rest`."""
        self.rest = (self.rest + text).replace("\r\n", "\n")
        found: list[str] = []
        while cut := _end_of_block(self.rest):
            block, self.rest = self.rest[:cut], self.rest[cut:]
            if block.strip():
                found.append(block)
        return found

    def finish(self) -> list[str]:
        """What is left, as the last block."""
        rest, self.rest = self.rest, ""
        return [rest] if rest.strip() else []


def _end_of_block(text: str) -> int:
    """The length of the first whole block, its blank line included; 0 when it goes on."""
    if len(text) > _LARGEST:
        return len(text)
    at, fence = 0, ""
    for number, line in enumerate(text.splitlines(keepends=True)):
        if not line.endswith("\n"):
            return 0
        at += len(line)
        mark = _FENCE.match(line)
        if fence:
            closing = mark is not None and mark[1].startswith(fence) and not line.strip().strip(fence[0])
            fence = "" if closing else fence
        elif mark is not None:
            fence = mark[1]
        if (not fence and not line.strip()) or number >= _LONGEST:
            return at
    return 0


def render(block: str, width: int, color: bool) -> str:
    """One block with the terminal's means; nothing of the agent's own escapes is left, links show their address."""
    from rich.console import Console
    from rich.markdown import Markdown

    target = io.StringIO()
    console = Console(
        file=target, width=width, force_terminal=color, no_color=not color, color_system="standard" if color else None
    )
    console.print(Markdown(clean(block), hyperlinks=False))
    return "".join(f"{line.rstrip()}\n" for line in target.getvalue().splitlines())
