"""Folders of files: a git repository at a revision, an archive with a hash, a directory here. Runs nothing of them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from opagent.errors import HashMismatch, InstallFailed, Usage
from opagent.packages import tree
from opagent.packages.fetching import Fetched, Part, Tools
from opagent.packages.origin import Origin

MAX_BYTES = 4 << 30  # of an archive, packed and unpacked
MAX_FILES = 200_000
_CHUNK, _SILENCE = 1 << 20, 60.0  # bytes, seconds
# hooks, monitors and transports of a repository or a template are programs
_GIT = (
    "git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.ext.allow=never",
    "-c", "submodule.recurse=false", "-c", "filter.lfs.smudge=cat", "-c", "filter.lfs.process=",
    "-c", "filter.lfs.required=false", "-c", "advice.detachedHead=false",
)  # fmt: skip
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


def git(origin: Origin, package: Path, tools: Tools) -> Fetched:
    """The files of one commit. Raises InstallFailed, HashMismatch."""
    tools.find("git", "apt-get install git")
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_TEMPLATE_DIR": ""}
    place = package / ".fetched"
    place.mkdir()
    tools.run([*_GIT, "init", "--quiet", "--template=", str(place)], place, **quiet)
    fetch, head = [*_GIT, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules"], "FETCH_HEAD"
    try:
        tools.run([*fetch, "--depth=1", origin.place, origin.version], place, **quiet)
    except InstallFailed:  # a server that gives no single commit: everything, then the commit
        tools.run([*fetch, origin.place, "+refs/*:refs/fetched/*"], place, **quiet)
        head = origin.version
    commit = tools.run([*_GIT, "rev-parse", "--verify", "--end-of-options", f"{head}^{{commit}}"], place, **quiet).strip()
    if _COMMIT.fullmatch(origin.version) and commit != origin.version:
        raise HashMismatch(
            "the repository gave another commit", f"{commit} for {origin.version}", f"git ls-remote {origin.place}"
        )
    tools.run([*_GIT, "checkout", "--quiet", "--detach", commit], place, **quiet)
    shutil.rmtree(place / ".git")
    _lift(place, package)
    return Fetched("", (Part(origin.place, commit[:12], f"git:{commit}"),), origin={"commit": commit})


def folder(origin: Origin, package: Path) -> Fetched:
    tree.copy(Path(origin.place), package)
    _inside(package)
    return Fetched("")


def archive(origin: Origin, package: Path) -> Fetched:
    """The files of a .tar.gz, .tar.bz2, .tar.xz or .zip whose bytes have that sha256. Raises InstallFailed, HashMismatch."""
    packed = package / ".fetched.archive"
    found = _download(origin.place, packed)
    if found != origin.version:
        why = f"sha256 {found}, and {origin.version} was asked for"
        raise HashMismatch("the archive is not what its hash says", why, "ask who published it for the hash")
    unpacked = package / ".fetched"
    unpacked.mkdir()
    if origin.run and not zipfile.is_zipfile(packed) and not tarfile.is_tarfile(packed):  # the program itself
        os.rename(packed, unpacked / os.path.basename(origin.run[0]))
    else:
        unpack(packed, unpacked)
        packed.unlink()
    below = list(unpacked.iterdir())
    only = below[0] if len(below) == 1 and below[0].is_dir() and not below[0].is_symlink() else unpacked
    _lift(only, package)
    if unpacked.exists():
        tree.remove(unpacked)
    return Fetched("", (Part(origin.place, found[:12], f"sha256:{found}"),))


def _download(url: str, target: Path) -> str:
    """Raises InstallFailed."""
    digest, size = hashlib.sha256(), 0
    request = urllib.request.Request(url, headers={"User-Agent": "opagent"})  # noqa: S310  # https:// only: origin.parse
    try:
        with urllib.request.urlopen(request, timeout=_SILENCE) as answer, open(target, "wb") as file:  # noqa: S310
            while chunk := answer.read(_CHUNK):
                size += len(chunk)
                if size > MAX_BYTES:
                    raise InstallFailed(
                        f"{url} is too large", f"more than {MAX_BYTES >> 30} GiB", "opagent runtime install --help"
                    )
                digest.update(chunk)
                file.write(chunk)
    except urllib.error.URLError as error:
        raise InstallFailed(f"{url} cannot be fetched", str(error.reason), f"curl -I {url}") from error
    return digest.hexdigest()


def unpack(packed: Path, target: Path) -> None:
    """Everything beneath the target or nothing at all. Raises InstallFailed."""
    try:
        if zipfile.is_zipfile(packed):
            _unzip(packed, target)
        else:
            _untar(packed, target)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, UnicodeError) as error:
        raise InstallFailed("the archive cannot be unpacked", str(error), f"file {packed.name}") from error
    _inside(target)


def _untar(packed: Path, target: Path) -> None:
    if not hasattr(tarfile, "data_filter"):  # 3.11.0 to 3.11.3
        raise InstallFailed("this Python cannot unpack an archive safely", "tarfile has no filters", "python3 --version")
    with tarfile.open(packed) as tar:
        count = size = 0
        for member in tar:
            count, size = count + 1, size + member.size
            _bounded(count, size)
            tar.extract(member, target, filter="data")


def _unzip(packed: Path, target: Path) -> None:
    with zipfile.ZipFile(packed) as file:
        _bounded(len(file.infolist()), sum(each.file_size for each in file.infolist()))
        for each in file.infolist():
            mode = each.external_attr >> 16
            if stat.S_ISLNK(mode):
                raise InstallFailed("the archive cannot be unpacked", f"{each.filename} is a link", "use a .tar.gz")
            path = file.extract(each, target)
            if mode & 0o111 and not each.is_dir():
                os.chmod(path, 0o700)


def _bounded(count: int, size: int) -> None:
    if count > MAX_FILES or size > MAX_BYTES:
        raise _large("the archive")


def _large(what: str) -> InstallFailed:
    why = f"more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB"
    return InstallFailed(f"{what} is too large", why, "opagent runtime install --help")


def _inside(package: Path) -> None:
    if link := tree.leaving(package):
        raise Usage(f"{link} leads out of the folder", "a package may link only to what it holds", f"ls -l {link}")


def _lift(source: Path, package: Path) -> None:
    """The content of a folder to the top of the package."""
    for each in list(source.iterdir()):
        os.rename(each, package / each.name)
    source.rmdir()
    _inside(package)
