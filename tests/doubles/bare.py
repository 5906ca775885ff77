"""A directory as a payload leaves it on another machine: our package and its pure dependencies, nothing compiled, no metadata.

`lay` copies the installed distributions; `python` gives an argv that sees that directory and nothing else.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from tests.doubles.daemons import ROOT

PURE = ("click", "yaml", "watchdog", "markdown_it", "mdurl", "fastjsonschema")
ABSENT = ("psutil", "asyncssh", "cryptography", "rich", "prompt_toolkit", "yaml._yaml", "watchdog_fsevents")
_NOT = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "_bundled", "node_modules")


def lay(directory: Path) -> Path:
    for name in PURE:
        shutil.copytree(Path(str(import_module(name).__file__)).parent, directory / name, ignore=_NOT)
    shutil.copytree(ROOT / "opagent", directory / "opagent", ignore=_NOT)
    for name in ("runtimes", "workspaces"):
        shutil.copytree(ROOT / name, directory / "opagent/_bundled" / name, ignore=_NOT)
    return directory


def python(directory: Path, code: str, *words: str) -> list[str]:
    """Runs `code` there; `words` are its sys.argv[1:]."""
    return [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(directory)!r}); {code}", *words]


def daemon(directory: Path, *words: str) -> list[str]:
    return python(directory, "from opagent.daemon.main import main; sys.exit(main())", *words)


def start(directory: Path, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A daemon of that directory, ready when this returns; its log goes where a daemon's log goes."""
    from opagent import files, paths

    files.private_directory(paths.state())
    with paths.daemon_log().open("ab") as log:
        process = subprocess.Popen(
            daemon(directory, "--ready-fd", "1"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd="/",
            env=environment, start_new_session=True,
        )  # fmt: skip
    assert process.stdout is not None
    with process.stdout as ready:
        assert ready.read(1) == b"!", paths.daemon_log().read_text()
    return process
