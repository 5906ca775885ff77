"""Puts a portable Python on a machine that has none: an archive, hash-checked, in a directory of its own that is never changed.

There is only a shell there. One line looks for a base as stage 1 does, asks for the archive, unpacks it under a temporary name
and tries the interpreter (a base that is mounted noexec fails here, and the next one is taken), then renames.
"""

from __future__ import annotations

import asyncio
import bz2
import functools
import gzip
import hashlib
import lzma
import re
import secrets
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

from opagent.errors import HostUnfit, HostUnreachable, Usage
from opagent.remote.marks import Marks, Silent, harmless
from opagent.remote.seam import Connection, Phase, Tell

BASES = (
    '"$XDG_CACHE_HOME/opagent"; [ -n "$XDG_CACHE_HOME" ] || b="$HOME/.cache/opagent"',
    "/var/tmp/opagent-$u",
    "/tmp/opagent-$u",
    "/dev/shm/opagent-$u",
    '"$XDG_STATE_HOME/opagent"; [ -n "$XDG_STATE_HOME" ] || b="$HOME/.local/state/opagent"',
)
# a login shell may have none, or one that it does not pass on: then a Python does not know its own place
PATH = '[ -n "$PATH" ] || PATH=/usr/local/bin:/usr/bin:/bin; export PATH; '
_PUSHED = re.compile(r"(.*/opagent(?:-\d+)?)/py/[0-9a-f]{64}/.*")
ROOM = "make one of them yours alone, with room, or set XDG_CACHE_HOME there to one that is"
ARCHIVE_LIMIT = 256 * 2**20  # bytes
STALLED = 60.0  # seconds in which nothing was taken
_BLOCK = 64 * 1024
_WORKS = '"import sys,ctypes,sqlite3,select,fcntl,zlib;sys.exit(sys.version_info<(3,11))"'


async def push_python(connection: Connection, archive: Path, tell: Tell, name: str = "the host") -> str:
    """The path of the interpreter there. The archive: a tar (gz, xz, bz2 or plain), `bin/python3` in it two folders down at most.

    Raises Usage for what is no such archive, HostUnfit with what spoke against each base, HostRefused, HostUnreachable.
    """
    data = await asyncio.to_thread(_packed, archive, name)
    digest = hashlib.sha256(data).hexdigest()
    against: list[str] = []
    for base in BASES:
        tell(Phase("probing"))
        line = functools.partial(script, digest=digest, size=len(data), base=base)
        word, rest = await _tried(connection, line, data, tell, name)
        if word == "have":
            return rest
        if word == "unfit":
            what = f"the Python of {archive.name} does not run on {name}"
            raise HostUnfit(what, rest, f"opagent host add {name} --python ARCHIVE")
        against.append(rest)
    raise HostUnfit(f"{name} has no directory that takes this Python", "; ".join(filter(None, against)), ROOM)


async def _tried(connection: Connection, made: Callable[[str], str], data: bytes, tell: Tell, name: str) -> tuple[str, str]:
    """What the script, made for a nonce, says in the end. The other `sh` is asked where the first is something else."""
    silent = None
    for shell in ("sh", "/bin/sh"):
        nonce = secrets.token_hex(8)
        stream = await connection.run(f"{shell} -c '{made(nonce)}'")
        try:
            found = await _said(Marks(stream, nonce, name), data, tell)
        except Silent as error:
            found, silent = None, error
        finally:
            stream.close()
        await stream.ended()  # a server may allow one session
        if found is not None:
            return found
    assert silent is not None
    raise silent.explained(name)


async def _said(marks: Marks, data: bytes, tell: Tell) -> tuple[str, str]:
    """What it says in the end: `have`, `not` or `unfit`, and the rest of that line."""
    while True:
        word, _, rest = harmless(await marks.next()).partition(" ")
        if word == "need":
            await _send(marks, data, tell)
        else:
            return word, rest


def base_of(python: str) -> str:
    """The base that this interpreter was put into by us; "" for any other."""
    found = _PUSHED.fullmatch(python)
    return found[1] if found else ""


def script(nonce: str, digest: str, size: int, base: str) -> str:
    """For one base. Its standard input is the archive, up to the end, when it has said `need`.

    In the end it says `have PATH`, `not REASON` (another base may do), or `unfit REASON` (none will).
    """
    verified = (
        's=$( (sha256sum || shasum -a 256 || openssl dgst -sha256 -r) <"$t/a" 2>/dev/null); '
        f'case $s in {digest}*|"") ;; *) no "what arrived is not what was sent";; esac; '
        f'[ $(($(wc -c <"$t/a"))) = {size} ] || no "the archive did not arrive whole"; '
    )
    return (
        f"n={nonce}; {PATH}"
        f'u=$(id -u); umask 077; b={base}; d="$b/py/{digest}"; t="$b/py/.tmp-$$-$n"; '
        'say() { echo; echo "OPA1 $n $*"; }; '
        'bye() { cd /; rm -rf "$t"; rmdir "$b/py" "$b" 2>/dev/null; say $1 "$b:" $2; exit 80; }; no() { bye not "$1"; }; '
        'gone() { trap "" 1 13 15; cd /; rm -rf "$t"; exit 80; }; trap gone 1 13 15; '
        "case $b in /opagent|/.cache/opagent|/.local/state/opagent) say not; exit 80;; /*) ;; *) say not; exit 80;; esac; "
        'e=$(mkdir -p "$b/py" 2>&1) || no "$e"; '
        'set -- $(ls -ldn "$b/."); case $1 in d????-??-*) ;; *) no "may be written by others";; esac; '
        '[ "$3" = "$u" ] || no "belongs to uid $3"; '
        'if [ -f "$d/.ok" ]; then say have "$d/$(cat "$d/.ok")"; exit 80; fi; '
        'e=$(mkdir "$t" 2>&1) || no "$e"; echo : >"$t/x"; chmod 700 "$t/x"; e=$("$t/x" 2>&1) || no "no program starts there"; '
        "say need; "
        'e=$(cat 2>&1 >"$t/a") || no "$e"; '
        f"{verified}"
        'mkdir "$t/p"; cd "$t/p"; e=$(gzip -dc ../a | tar xof - 2>&1) || no "$e"; '
        'chmod -R go-w .; i=; e="no bin/python3 lies there"; '
        f"for p in bin/python3 */bin/python3 */*/bin/python3; do "
        f'if [ -f "$t/p/$p" ]; then e=$("$t/p/$p" -I -S -c {_WORKS} 2>&1 </dev/null) && i=$p && break; fi; done; '
        '[ -n "$i" ] || bye unfit "$e"; echo "$i" >.ok; cd /; '
        '[ -f "$d/.ok" ] || { rm -rf "$d"; mv "$t/p" "$d"; }; rm -rf "$t"; '
        'find "$b/py" -name ".tmp-*" -prune -mtime +0 -exec rm -rf {} + 2>/dev/null; say have "$d/$i"; exit 80'
    )


async def _send(marks: Marks, data: bytes, tell: Tell) -> None:
    try:
        for start in range(0, len(data), _BLOCK):
            tell(Phase("uploading", "Python", start, len(data)))
            async with asyncio.timeout(STALLED):
                await marks.stream.write(data[start : start + _BLOCK])
        await marks.stream.end()
    except TimeoutError:
        raise HostUnreachable(f"{marks.name} takes no more bytes", f"none in {STALLED:g} s", "try again") from None
    except ConnectionError:
        return  # what was said before the end explains it
    tell(Phase("installing", "Python"))


def checked(archive: Path, name: str = "HOST") -> None:
    """Raises Usage for what is no archive with a Python in it."""
    hint = f"opagent host add {name} --python auto"
    try:
        if (size := archive.stat().st_size) > ARCHIVE_LIMIT:
            raise Usage(f"{archive} is too large", f"{size} bytes, the limit is {ARCHIVE_LIMIT}", hint)
        with tarfile.open(archive) as opened:
            if not any(f"/{found}".endswith("/bin/python3") for found in opened.getnames()):
                raise Usage(f"{archive} holds no Python", "there is no bin/python3 in it", hint)
    except (OSError, tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise Usage(f"{archive} is no archive of a Python", str(error), hint) from error


def _packed(archive: Path, name: str) -> bytes:
    """The archive as gzip, which is everywhere; the same bytes for the same file. Raises Usage."""
    checked(archive, name)
    data = archive.read_bytes()
    for begins, unpack in ((b"\xfd7zXZ", lzma.decompress), (b"BZh", bz2.decompress)):
        if data.startswith(begins):
            data = unpack(data)
    return data if data.startswith(b"\x1f\x8b") else gzip.compress(data, 6, mtime=0)
