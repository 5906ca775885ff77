"""A portable Python out of the one that runs the tests: a directory that works wherever it is put, as small as the daemon allows.

`uv` is a small program of that name which gives it, or does something else, as the real one would.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_NOT = (
    "test", "site-packages", "dist-packages", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "unittest", "config-*",
    "__pycache__", "pydoc_data", "distutils", "cp[0-9]*", "mac_*", "iso8859*", "koi8*", "big5*", "_test*", "_ctypes_test*",
    "_tkinter*", "_codecs_*", "_curses*", "_dbm*", "_gdbm*", "xxlimited*", "audioop*", "ossaudiodev*", "nis.*", "readline*",
    "_ssl*", "_lzma*", "_bz2*", "_uuid*", "_elementtree*", "pyexpat*", "_decimal*",  # many are built without these
)  # fmt: skip


def lay(folder: Path) -> Path:
    """The directory: `bin/python3` and what it needs."""
    for name in ("bin", "lib"):
        (folder / name).mkdir(parents=True)
    library = sysconfig.get_config_var("INSTSONAME")
    prefix = Path(sys.base_prefix)
    program = Path(os.path.realpath(prefix / "bin" / _VERSION)).read_bytes()
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        was = f"{prefix}/lib".encode()
        program = program.replace(was, b"$ORIGIN/../lib".ljust(len(was), b"\0"))  # where it looks for its library
        shutil.copy(prefix / "lib" / library, folder / "lib" / library)
    (folder / "bin" / _VERSION).write_bytes(program)
    (folder / "bin" / _VERSION).chmod(0o755)
    (folder / "bin/python3").symlink_to(_VERSION)
    if strip := shutil.which("strip"):
        subprocess.run([strip, "-S", *(folder / "lib").glob("libpython*")], check=False, capture_output=True)
    shutil.copytree(sysconfig.get_path("stdlib"), folder / "lib" / _VERSION, ignore=shutil.ignore_patterns(*_NOT))
    return folder


def wrapper(folder: Path) -> Path:
    """The directory of one that is only the Python of the tests by another name."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python3").write_text(f'#!/bin/sh\nexec {os.path.realpath(sys.executable)} "$@"\n')
    (folder / "bin/python3").chmod(0o755)
    return folder


def uv(folder: Path, python: Path, then: str = "", status: int = 0) -> Path:
    """The program, in a `folder` for PATH. `then`: shell lines in the place of what it does after it understood its words."""
    folder.mkdir(exist_ok=True)
    installs = f"""\
case $5 in
  cpython-3.*-linux-*-gnu) ;;
  *) echo "error: No download found for request: $5" >&2; exit 1 ;;
esac
made=$4/$(echo "$5" | sed 's/-linux/.9-linux/')
cp -R "{python}" "$made" && ln -s "$made" "$4/$5"
echo "Installed Python 3.13.9 in 1.00s" >&2
"""
    program = folder / "uv"
    program.write_text(
        f"""\
#!/bin/sh
echo "$*" >>"{folder}/uv.log"
if [ "$1 $2 $3" != "python install --install-dir" ] || [ $# != 5 ] || [ "$UV_PYTHON_INSTALL_DIR" != "$4" ]; then
  echo "error: unexpected argument '$*' found" >&2; exit 2
fi
{then or installs}
exit {status}
"""
    )
    program.chmod(0o755)
    return program


def asked(folder: Path) -> list[str]:
    """What the program was started with, a line each time."""
    log = folder / "uv.log"
    return log.read_text().splitlines() if log.exists() else []
