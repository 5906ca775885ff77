"""The `.git` that an agent sees: a directory of ours with copies of HEAD and index, over which the real parts are mounted.

    launch = prepare(workspace, folder)       # None: nothing that can be shown so; .git is read-only then
    said = give_back(launch)                  # after a turn: HEAD and index of the agent become the person's, or why not
    launch = take_in(launch)                  # before a turn: what the person committed meanwhile is there for the agent

An agent that may write into the real `.git` decides what the person's next `git status` runs: hooks, config, gitlinks.
Everything the agent wrote is read as a stranger's. Starts no git. (Design: "`.git` is a private directory of the daemon".)
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from opagent import files
from opagent.errors import FileRefused, OpAgentError
from opagent.process import gitindex
from opagent.process.pins import GIT_FIXED, GIT_SHARED

_COPIED = ("HEAD", "index")
_EMPTY = ("hooks", "modules")  # directories that must not be made by the agent; packed-refs is such a file
_LIMIT = 256 * 2**20
_HEAD = re.compile(rb"(ref: refs/heads/[!-~]+|[0-9a-f]{40}|[0-9a-f]{64})\n?")
_NONE = hashlib.sha256(b"").hexdigest()
_BUSY = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply")


@dataclass(frozen=True, slots=True)
class Private:
    """`seen`: digests of HEAD and index when both sides were last the same; `links`: the repositories inside the index then."""

    workspace: str
    folder: str
    seen: tuple[str, ...]
    links: frozenset[bytes]


class NotGivenBack(Exception):
    """Why the person's HEAD and index stay as they are; a sentence."""


def prepare(workspace: str, folder: Path) -> Private | None:
    """Raises OSError when the disk does not take it."""
    with contextlib.ExitStack() as stack:
        try:
            top = stack.enter_context(_git(workspace))
            content = _both(top)
        except (OSError, FileRefused):
            return None  # no repository, one elsewhere (a file `.git`), or one that cannot be read
        shutil.rmtree(folder, ignore_errors=True)
        files.private_directory(folder)
        for name in (*GIT_SHARED, *GIT_FIXED):
            _mount_point(top, folder, name)
        here = stack.enter_context(files.directory(folder))
        _put(here, content)
        links = _links(content["index"])
    return Private(workspace, str(folder), _digests(content), links) if links is not None else None


def give_back(private: Private) -> Private:
    """With the digests as they are now. Raises NotGivenBack, OSError."""
    with files.directory(private.folder) as here:
        try:
            theirs = _both(here)
        except FileRefused as error:
            raise NotGivenBack(f"what the agent made of HEAD or index is no plain file: {error}") from error
    if _digests(theirs) == private.seen:
        return private
    _check(theirs, private)
    with _git(private.workspace) as top, _locked(top):
        if _digests(_both(top)) != private.seen:
            raise NotGivenBack("HEAD or index changed here while the agent worked: what it committed lies on its branches")
        busy = next((name for name in _BUSY if _there(top, name)), "")
        if busy:
            raise NotGivenBack(f"you are in the middle of something here ({busy})")
        _put(top, theirs)
    return replace(private, seen=_digests(theirs), links=_links(theirs["index"]) or frozenset())


def take_in(private: Private) -> Private:
    """Nothing happens where the agent has changes of its own. Raises OSError."""
    with files.directory(private.folder) as here, _git(private.workspace) as top:
        try:
            mine, theirs = _both(top), _both(here)
        except OpAgentError:
            return private
        if _digests(theirs) != private.seen or _digests(mine) == private.seen:
            return private
        _put(here, mine)
        return replace(private, seen=_digests(mine), links=_links(mine["index"]) or frozenset())


def _check(theirs: dict[str, bytes], private: Private) -> None:
    if not _HEAD.fullmatch(theirs["HEAD"]) or b"/../" in theirs["HEAD"] or b"//" in theirs["HEAD"]:
        raise NotGivenBack("what the agent made of HEAD names no branch and no commit")
    links = _links(theirs["index"])
    if not theirs["index"] and private.seen[1] != _NONE:
        raise NotGivenBack("the agent removed the index")
    if links is None:
        raise NotGivenBack("what the agent made of the index cannot be read")
    if new := links - private.links:
        names = ", ".join(sorted(name.decode("utf-8", "replace") for name in new)[:3])
        raise NotGivenBack(
            f"the agent added another repository to the index ({names}), and your git would run what its settings say"
        )


def _links(index: bytes) -> frozenset[bytes] | None:
    """The names of gitlinks, None for an index that is none or is split into several files."""
    try:
        return gitindex.gitlinks(index) if index else frozenset()
    except ValueError:
        return None


@contextlib.contextmanager
def _git(workspace: str) -> Iterator[int]:
    """The real directory, never a link. Raises OSError."""
    with files.directory(workspace) as top:
        fd = files.open_beneath(top, ".git", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, links=False)
        try:
            yield fd
        finally:
            os.close(fd)


def _both(top: int) -> dict[str, bytes]:
    """HEAD and index; an index that is missing is empty. Raises OSError, FileRefused."""
    found = {"HEAD": _read(top, "HEAD"), "index": b""}
    with contextlib.suppress(FileNotFoundError):
        found["index"] = _read(top, "index")
    return found


def _read(top: int, name: str) -> bytes:
    fd = files.open_beneath(top, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, links=False)
    try:
        return files.read_regular(fd, _LIMIT, name)
    finally:
        os.close(fd)


def _digests(content: dict[str, bytes]) -> tuple[str, ...]:
    return tuple(hashlib.sha256(content[name]).hexdigest() for name in _COPIED)


def _put(top: int, content: dict[str, bytes]) -> None:
    for name in _COPIED:
        if content[name]:
            files.write_whole_at(top, name, content[name], 0o644)


@contextlib.contextmanager
def _locked(top: int) -> Iterator[None]:
    """As git itself locks them: a lock that is there means that git is at work."""
    with contextlib.ExitStack() as stack:
        for name in _COPIED:
            try:
                os.close(os.open(f"{name}.lock", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=top))
            except FileExistsError as error:
                raise NotGivenBack("git is at work here") from error
            stack.callback(os.unlink, f"{name}.lock", dir_fd=top)
        yield


def _there(top: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=top, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _mount_point(top: int, folder: Path, name: str) -> None:
    try:
        mode = os.stat(name, dir_fd=top, follow_symlinks=False).st_mode
    except FileNotFoundError:
        mode = stat.S_IFDIR if name in _EMPTY else stat.S_IFREG if name == "packed-refs" else 0
    if stat.S_ISDIR(mode):
        (folder / name).mkdir()
    elif stat.S_ISREG(mode):
        (folder / name).touch()
