"""vim, nvim, Emacs and nano: each save is told once, what they put beside the file is not, and a changed buffer is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from opagent.watch.dirty import dirty
from tests.doubles.editors import EDITORS, Editor
from tests.doubles.watching import Watching, until


@pytest.mark.parametrize("name", EDITORS)
def test_saves_are_told_once_and_a_changed_buffer_is_known(name: str, home: Path) -> None:
    folder = home / "conversations"
    folder.mkdir()
    path = folder / "c.md"
    path.write_text("first line\n")
    editor = Editor(EDITORS[name], path, home, "first line")

    async def shown(condition: Callable[[], object], what: str) -> None:
        def drained() -> object:
            editor.drain()
            return condition()

        await until(drained, what)

    async def change(text: str) -> None:
        editor.type(text)
        await shown(lambda: dirty(str(path)), f"the buffer is changed: {text}")
        assert editor.traces()

    async def scene() -> None:
        async with Watching(folder) as watching:
            assert not dirty(str(path))
            for number in (1, 2, 3):
                await change(f"typed {number}")
                assert await watching.settle() == ({"c.md": number - 1} if number > 1 else {})
                editor.save()
                await shown(lambda: watching.told["c.md"] == number, "the save is told")  # noqa: B023
                assert f"typed {number}" in path.read_text().splitlines()
                await shown(lambda: not dirty(str(path)), "the buffer is clean")
                assert await watching.settle() == {"c.md": number}
            await change("never saved")
            editor.kill()
            assert editor.traces(), "a killed editor leaves them"
            assert not dirty(str(path))
            assert await watching.settle() == {"c.md": 3}

    try:
        asyncio.run(scene())
    finally:
        editor.kill()
