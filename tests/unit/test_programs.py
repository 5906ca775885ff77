"""What is mounted for a program: its own directories by habit, its interpreter, never what holds private things."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from opagent.process.programs import Programs


def program(path: Path, text: str = "\x7fELF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "home/package").mkdir(parents=True)
    return tmp_path


def shown(top: Path, *argv: str | Path, search_path: str = "/usr/bin") -> tuple[tuple[str, ...], list[str]]:
    private = (str(top / "home"), str(top / "home/.local/share/keys"))
    words, mounts = Programs(search_path, private, str(top / "ws")).show([str(word) for word in argv], str(top / "home/package"))
    assert all(each.source == each.place and not each.writable for each in mounts)
    places = [each.place for each in mounts if each.place != str(top / "home/package")]
    return words, [os.path.relpath(place, top) if place.startswith(str(top)) else place for place in places]


def test_a_program_of_the_system_needs_nothing(top: Path) -> None:
    assert shown(top, "/usr/bin/env") == (("/usr/bin/env",), [])


def test_a_prefix_is_shown_whole(top: Path) -> None:
    found = program(top / "tool/bin/x")
    (top / "tool/lib").mkdir()
    assert shown(top, found)[1] == ["tool"]


def test_a_prefix_with_private_things_is_not(top: Path) -> None:
    found = program(top / "home/.local/bin/x")
    (top / "home/.local/lib").mkdir()
    assert shown(top, found)[1] == ["home/.local/bin/x"]


def test_a_link_is_called_by_what_it_leads_to(top: Path) -> None:
    real = program(top / "home/modules/node_modules/x/cli.js", "#!/usr/bin/env node\n")
    node = program(top / "node/bin/node")
    (top / "node/lib").mkdir()
    link = top / "home/.local/bin/x"
    link.parent.mkdir(parents=True)
    link.symlink_to(os.path.relpath(real, link.parent))
    words, places = shown(top, link, search_path=str(node.parent))
    assert words == (str(real),) and places == ["node", "home/modules/node_modules"]


def test_an_environment_of_python_keeps_its_name_and_sees_what_it_came_from(top: Path) -> None:
    words, places = shown(top, sys.executable)
    assert words == (sys.executable,)
    for needed in (sys.prefix, sys.base_prefix):
        assert needed == "/usr" or any(os.path.commonpath([needed, place]) == place for place in places), needed


def test_what_the_arguments_name_is_seen(top: Path) -> None:
    script = program(top / "scripts/run.py")
    (top / "data").mkdir()
    alone = program(top / "home/own.py")
    assert shown(top, "/usr/bin/env", script, top / "data", alone, "/nowhere")[1] == ["data", "scripts", "home/own.py"]


def test_the_workspace_is_there_already(top: Path) -> None:
    assert shown(top, "/usr/bin/env", program(top / "ws/x"))[1] == []
