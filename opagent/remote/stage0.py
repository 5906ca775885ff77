"""The one line that starts everything on another machine: a shell looks for a Python, and that runs stage 1. Sends nothing.

It is the command of an unknown login shell, so it is `sh -c '...'` without newline, `'`, `!`, backslash or `${`; that form is
read alike by bash, dash, zsh, ksh, mksh, yash, busybox, rbash, fish, tcsh, csh, rc and xonsh. The nonce stands in the text only
as the value of a variable: a shell that repeats its command is no answer.
"""

from __future__ import annotations

import ast
import base64
import functools
import zlib
from pathlib import Path

from opagent.remote import place, pythons, stage1

NAMES = ("python3.14", "python3.13", "python3.12", "python3.11", "python3")
PLACES = (
    *(f"/usr/bin/{name}" for name in NAMES),
    *(f"/usr/local/bin/{name}" for name in NAMES),
    "/opt/homebrew/bin/python3",
    "/home/linuxbrew/.linuxbrew/bin/python3",
    "/opt/conda/bin/python3",
    "/usr/local/python*/bin/python3",
    "/opt/python*/bin/python3",
)
AT_HOME = (
    ".local/bin/python3",
    ".local/share/uv/python/cpython-3*/bin/python3",
    ".pyenv/versions/3*/bin/python3",
    "miniconda3/bin/python3",
    "miniforge3/bin/python3",
    "mambaforge/bin/python3",
    "anaconda3/bin/python3",
    "micromamba/bin/python3",
)
OTHERS = ("python", "python2")  # only to be named when nothing else is there

# one that we put there counts only while its directory is ours alone: in /tmp it may have gone, and another stand in its place
_OURS = 'q="{python}"; case $(ls -ld "{base}/." 2>/dev/null) in d????-??-*) [ -O "{base}/." ] || q=;; *) q=;; esac; '
_RUN = '"import sys,zlib,base64;exec(zlib.decompress(base64.urlsafe_b64decode(sys.argv[1])))"'
_RUN_PLAIN = '"import sys,base64;exec(base64.urlsafe_b64decode(sys.argv[1]))"'


def line(nonce: str, digest: str, verb: str = "open", python: str = "", shell: str = "sh", plain: bool = False) -> str:
    """The command. `python`: an interpreter to be tried first; `plain`: for Pythons that were built without zlib."""
    return f"{shell} -c '{script(nonce, digest, verb, python, plain)}'"


def script(nonce: str, digest: str, verb: str, python: str, plain: bool) -> str:
    """Between the quotes. Marked lines: `python STATUS PATH: VERSION` of each that was not taken, then `none SYSTEM [MUSL]`."""
    first, guard = (f'"{python}" ', "") if python and speakable(python) else ("", "")
    if first and (base := pythons.base_of(python)):
        first, guard = '"$q" ', _OURS.format(python=python, base=base)
    candidates = " ".join((*NAMES, *PLACES, *(f'"$HOME"/{place}' for place in AT_HOME), *OTHERS))
    taken = "|".join(str(status) for status in (stage1.DONE, 129, 130, 137, 143))
    return (
        f"n={nonce}; {pythons.PATH}{guard}"
        f'for p in {first}{candidates}; do command -v "$p" >/dev/null 2>&1 || continue; '
        f'command "$p" -I -S -c {_RUN_PLAIN if plain else _RUN} {text(plain)} $n {digest} {verb}; r=$?; '
        f"case $r in {taken}) exit $r;; esac; "
        'echo; v=$(command "$p" -V 2>&1 </dev/null); echo "OPA1 $n python $r $p: $v"; done; '
        'echo; echo "OPA1 $n none" $(command uname -sm 2>/dev/null) $(ls -d /lib/ld-musl-* 2>/dev/null); exit 97'
    )


def speakable(path: str) -> bool:
    """Whether it can stand inside double quotes inside single quotes in every shell."""
    return path.isprintable() and not set(path) & set("'\"!\\$`")


@functools.cache
def text(plain: bool) -> str:
    """Stage 1 without its comments, ready to be an argument."""
    return encoded(_bare() + "\nmain()\n", plain)


def encoded(program: str, plain: bool) -> str:
    source = program.encode()
    return base64.urlsafe_b64encode(source if plain else zlib.compress(source, 9)).decode()


def _bare() -> str:
    """Stage 1 behind what it imports of ours."""
    return "\n".join(_without_words(Path(str(module.__file__)).read_text("utf-8")) for module in (place, stage1))


def _without_words(source: str) -> str:
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not (isinstance(node, ast.ImportFrom) and node.module == place.__name__)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.unparse(tree)
