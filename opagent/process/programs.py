"""Which directories a program needs to see of this machine: its own, its interpreter's, and those its links lead to.

Nothing that holds the user's own things is ever shown whole: then the file alone is. Starts nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence

from opagent.process.pins import beneath
from opagent.process.profile import Mount
from opagent.process.system import SYSTEM

_LINKS = 40  # as the kernel
_SHOWN = (*SYSTEM, "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/dev")


class Programs:
    """`private`: absolute paths that no mount may hold. `search_path`: where `#!/usr/bin/env NAME` looks."""

    def __init__(self, search_path: str, private: Iterable[str], workspace: str) -> None:
        self._search_path, self._workspace = search_path, workspace
        self._private = tuple(private)
        self._found: dict[str, None] = {}

    def show(self, argv: Sequence[str], package: str, also: Iterable[str] = ()) -> tuple[tuple[str, ...], tuple[Mount, ...]]:
        """The argv as it works inside, and what has to be mounted read-only for it. `also`: names of programs that it starts."""
        program = self._program(argv[0])
        for name in also:
            if found := shutil.which(name, path=self._search_path):
                self._program(found)
        self._directory(package)
        if sys.executable in argv:
            self._directory(sys.base_prefix)
            self._directory(sys.prefix)
        for word in argv[1:]:
            if word.startswith("/") and os.path.isfile(word) and os.access(word, os.X_OK):
                self._program(word)  # one that the other starts
            if word.startswith("/") and os.path.exists(word):
                known = self._directory(word if os.path.isdir(word) else os.path.dirname(word))
                if not known and os.path.isfile(word):
                    self._add(word)
        return (program, *argv[1:]), tuple(Mount(path, path) for path in self._outermost())

    def _program(self, path: str, depth: int = 0) -> str:
        """Show a program; what to call it inside: its link where that is shown, else what the link leads to."""
        called = path
        for _ in range(_LINKS):
            known = self._tree(path)
            if not os.path.islink(path):
                if not known:
                    self._add(path)
                break
            target = os.path.normpath(os.path.join(os.path.realpath(os.path.dirname(path)), os.readlink(path)))
            if called == path and not self._shown(path):
                called = target
            path = target
        if depth < 3 and (interpreter := self._interpreter(path)):
            self._program(interpreter, depth + 1)
        return called

    def _tree(self, path: str) -> bool:
        """Show the directories that belong to a program by the usual habits; whether there are any."""
        folder = os.path.dirname(path)
        prefix = os.path.dirname(folder)
        before, modules, _ = path.partition("/node_modules/")
        if modules and self._directory(f"{before}/node_modules"):
            return True
        habit = os.path.isfile(f"{prefix}/pyvenv.cfg") or os.path.isdir(f"{prefix}/lib")
        return os.path.basename(folder) == "bin" and habit and self._directory(prefix)

    def _directory(self, path: str) -> bool:
        """Show a whole directory, by its real name too; false where it holds private things."""
        real = os.path.realpath(path)
        if any(beneath(private, place) for private in self._private for place in (path, real)) or real == "/":
            return False
        self._add(path)
        self._add(real)
        return True

    def _add(self, path: str) -> None:
        if os.path.lexists(path) and not self._shown(path):
            self._found[path] = None

    def _shown(self, path: str) -> bool:
        return any(beneath(path, place) for place in (*_SHOWN, *self._found, self._workspace))

    def _interpreter(self, path: str) -> str:
        """What the first line of a script names; "" for none."""
        try:
            with open(path, "rb") as file:
                line = file.read(256).split(b"\n")[0]
        except OSError:
            return ""
        words = os.fsdecode(line.removeprefix(b"#!")).split() if line.startswith(b"#!") else []
        if words and os.path.basename(words[0]) == "env":
            words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
            return (shutil.which(words[0], path=self._search_path) or "") if words else ""
        return words[0] if words else ""

    def _outermost(self) -> list[str]:
        kept = [path for path in self._found if not any(path != other and beneath(path, other) for other in self._found)]
        return sorted(kept, key=lambda path: (path.count("/"), path))
