"""Writes the folder of a new runtime: a copy of a minimal agent under another name; all of it or nothing, and it runs nothing."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from opagent import paths
from opagent.errors import Conflict, FileRefused, Usage
from opagent.packages import catalog

LANGUAGES = ("python", "node", "go", "sh")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
# what is true of the minimal agent only: how it was tried, what it is for, where its schema lies
_LEFT_OUT = re.compile(r"(- \*\*Tried\*\*|about:|# yaml-language-server:)")
_BUILDS = {"go": "go build -o agent ."}


@dataclass(frozen=True, slots=True)
class Written:
    """`build`: what makes the program of it, "" where it runs as it is; `found`: whether the catalogue knows it by its name."""

    folder: Path
    files: tuple[str, ...]
    build: str
    found: bool

    @property
    def next(self) -> str:
        """The command to type now."""
        then = f"opagent runtime probe {self.folder.name}"
        if not self.found:
            then = f"opagent runtime install {shlex.quote(str(self.folder))}"
        return f"(cd {shlex.quote(str(self.folder))} && {self.build}) && {then}" if self.build else then


def write(name: str, language: str, parent: str | None) -> Written:
    """`parent/NAME`; without a parent where your own runtimes are found. Raises Usage, Conflict, FileRefused."""
    if not _NAME.fullmatch(name) or language not in LANGUAGES:
        why = f"a name has small letters, digits and -; languages are {', '.join(LANGUAGES)}"
        raise Usage(f"no runtime can be named {name!r} in {language!r}", why, "opagent runtime new my-agent --language python")
    own = paths.runtime_directories()[0]
    folder = Path(parent or own) / name
    if os.path.lexists(folder):
        raise Conflict(f"{folder} is there already", "it is not changed", "opagent runtime new OTHER-NAME")
    if not parent and name in catalog.names():
        why = f"your own one would stand in front of {catalog.find(name).package}"
        raise Conflict(f"a runtime is named {name} already", why, "opagent runtime new OTHER-NAME")
    temporary = folder.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        os.makedirs(folder.parent, exist_ok=True)
        names = _fill(temporary, name, language)
        os.rename(temporary, folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        hint = f"ls -ld {shlex.quote(str(folder.parent))}"
        raise FileRefused(f"{folder} cannot be written", error.strerror or str(error), hint) from error
    return Written(folder, names, _BUILDS.get(language, ""), str(folder.parent) in map(str, paths.runtime_directories()[:2]))


def _fill(folder: Path, name: str, language: str) -> tuple[str, ...]:
    """Every file of the minimal agent, with the new name in the place of the old one."""
    model = f"minimal-{language}"
    source = paths.bundled_runtimes() / model
    folder.mkdir()
    names = sorted(
        entry.name for entry in source.iterdir() if entry.suffix and entry.is_file()
    )  # no program that was built there
    for file in names:
        lines = (source / file).read_text("utf-8").replace(model, name).splitlines(keepends=True)
        text = "".join(line for line in lines if not _LEFT_OUT.match(line))
        (folder / file).write_text(text, "utf-8")
        (folder / file).chmod((source / file).stat().st_mode & 0o755)
    return tuple(names)
