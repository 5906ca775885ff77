"""`opagent runtime new`: a folder that can be bound, in every language; what stands there already is never touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opagent import paths
from opagent.errors import Conflict, FileRefused, Usage
from opagent.packages import catalog, starter
from tests.doubles.terminal import run


@pytest.mark.parametrize("language", starter.LANGUAGES)
def test_a_folder_that_the_catalogue_knows(home: Path, language: str) -> None:
    made = starter.write("my-agent", language, None)
    spec = catalog.find("my-agent")
    assert Path(spec.package) == made.folder == paths.runtime_directories()[0] / "my-agent"
    assert {"runtime.yaml", "README.md"} < set(made.files) == {path.name for path in made.folder.iterdir()}
    text = "".join(path.read_text() for path in made.folder.iterdir())
    assert f"minimal-{language}" not in text and "my-agent" in text
    assert "**Tried**" not in text and "$schema" not in text
    assert made.next.endswith("opagent runtime probe my-agent")
    assert made.next.startswith("(cd ") is (language == "go")


def test_elsewhere_it_has_to_be_installed(tmp_path: Path) -> None:
    made = starter.write("my-agent", "python", str(tmp_path / "new place"))
    assert made.next == f"opagent runtime install '{tmp_path}/new place/my-agent'"


@pytest.mark.parametrize("name", ["", "..", "a/b", "Agent", "-x", "1x", "x" * 80, "a b", "a.b"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(Usage, match="no runtime can be named"):
        starter.write(name, "python", None)


def test_nothing_that_stands_there_is_touched(home: Path, tmp_path: Path) -> None:
    starter.write("mine", "python", None)
    with pytest.raises(Conflict, match="there already"):
        starter.write("mine", "node", None)
    assert (paths.runtime_directories()[0] / "mine/agent.py").exists()
    with pytest.raises(Conflict, match="named librarian already"):
        starter.write("librarian", "python", None)
    (tmp_path / "other").symlink_to("nowhere")
    with pytest.raises(Conflict):
        starter.write("other", "python", str(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(FileRefused, match="cannot be written"):
        starter.write("mine", "python", str(tmp_path / "file"))
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_the_command_says_what_it_wrote_and_what_comes_next(home: Path) -> None:
    done = run("runtime", "new", "mine", "-l", "sh", cwd=home)
    assert done.returncode == 0
    folder = paths.runtime_directories()[0] / "mine"
    assert done.stdout.splitlines() == [str(folder / name) for name in ("README.md", "agent.sh", "runtime.yaml")]
    assert "now: opagent runtime probe mine" in done.stderr
    said = json.loads(run("runtime", "new", "other", str(home / "here"), "--json", cwd=home).stdout)
    assert said["folder"] == str(home / "here/other") and said["files"] == ["README.md", "agent.py", "runtime.yaml"]
    assert run("runtime", "new", "other", "--language", "cobol", cwd=home).returncode == 2
    assert "is there already" in run("runtime", "new", "mine", cwd=home).stderr
