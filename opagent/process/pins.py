"""What a box mounts over names of a workspace: each is opened beneath the workspace first and mounted by its descriptor.

Decides nothing about which names: a profile says that. Names that are not there are left out, a link is told and its target
mounted in its place. (Design: "The profile of level `strict`".)
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping

from opagent import files
from opagent.process import verified
from opagent.process.profile import Mount, Profile
from opagent.process.system import high

GIT_SHARED = ("objects", "refs", "logs")  # a commit writes them
GIT_FIXED = ("config", "config.worktree", "hooks", "info", "modules", "packed-refs", "shallow")


class Pins:
    """Options in the order in which they must be given, and the descriptors they name; `close` when bwrap has inherited them.

    Raises OSError for a workspace that cannot be opened, NotTrusted for a file that is not the trusted one any more.
    """

    def __init__(self, profile: Profile) -> None:
        self.fds: list[int] = []
        self.options: list[str] = []
        self.mounted: list[str] = []  # places over names of the workspace that must stay mounted
        self.hidden: list[str] = []  # those of them that hide something
        self.warnings: list[str] = []
        self._workspace = profile.workspace
        self._top = high(os.open(profile.workspace, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
        self.fds.append(self._top)
        try:
            self._mount(profile)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())

    def _mount(self, profile: Profile) -> None:
        bind = "--ro-bind-fd" if profile.read_only else "--bind-fd"
        self.options += [bind, str(self._top), profile.workspace]
        writable = dict.fromkeys(profile.protected, False) | dict.fromkeys(profile.writable, True)
        copied = tuple(name for name in profile.whole if not any(beneath(each, name) for each in profile.writable))
        digests = dict(profile.verified)
        for name in sorted(writable, key=lambda name: (name.count("/"), name)):
            if name in copied:
                self._copy(name, {each: digest for each, digest in digests.items() if beneath(each, name)}, profile.hidden)
            elif not any(beneath(name, place) for place in copied) and not (name in digests and self._fix(name, digests[name])):
                self._pin("--bind-fd" if writable[name] else "--ro-bind-fd", name)
        self._outside(profile.mounts)
        self._git(profile.git)
        self._outside(profile.programs)
        for name in profile.hidden:
            if not any(beneath(name, place) for place in copied):
                self._hide(name)

    def _copy(self, name: str, digests: Mapping[str, str], hidden: Iterable[str]) -> None:
        """A directory as it was trusted, without what is hidden. Raises NotTrusted, OSError for one that is a link by now."""
        os.close(files.open_beneath(self._top, name, os.O_PATH | os.O_DIRECTORY, links=False))
        place = os.path.join(self._workspace, name)
        self.options += ["--perms", "0755", "--size", str(2 * verified.BYTES), "--tmpfs", place]
        for each in verified.read(self._top, digests):
            path = os.path.join(self._workspace, each.name)
            if any(beneath(each.name, one) for one in hidden):
                continue
            if each.content is None:
                self.options += ["--symlink", each.target, path]
            else:
                self.options += ["--perms", f"{each.mode:04o}", "--file", self._memory(each.content), path]
        self.options += ["--remount-ro", place]
        self.mounted.append(place)

    def _fix(self, name: str, digest: str) -> bool:
        """A file as it was trusted; false for a link, and for what was none. Raises NotTrusted."""
        [each] = verified.read(self._top, {name: digest})
        if each.content is None or each.target:
            return False
        place = os.path.join(self._workspace, name)
        self.options += ["--perms", f"{each.mode:04o}", "--ro-bind-data", self._memory(each.content), place]
        self.mounted.append(place)
        return True

    def _memory(self, content: bytes) -> str:
        self.fds.append(fd := high(os.memfd_create("trusted")))
        files.write_all(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
        return str(fd)

    def _outside(self, mounts: Iterable[Mount]) -> None:
        """Mounts of the machine's own that lie in the workspace."""
        for each in mounts:
            if beneath(each.place, self._workspace):
                self.options += mount(each)

    def _pin(self, option: str, name: str) -> str:
        """Mount what has this name now; the place, or "" when there is nothing to mount."""
        try:
            fd = files.open_beneath(self._top, name, os.O_PATH | os.O_NOFOLLOW)
        except FileNotFoundError:
            return ""  # nothing is left behind for it: trust and the look after each turn are for what is made later
        except OSError as error:
            self.warnings.append(f"{name}: {error.strerror}")
            return ""
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            os.close(fd)
            fd = self._target(name)
            if fd < 0:
                return ""
        fd = high(fd)
        self.fds.append(fd)
        place = os.readlink(f"/proc/self/fd/{fd}")
        self.mounted.append(place)
        self.options += [option, str(fd), place]
        return place

    def _target(self, name: str) -> int:
        """Of a link; -1 when it leads nowhere, or out of the workspace: then to nothing inside the box."""
        self.warnings.append(f"{name} is a symbolic link: what it leads to is protected, the link itself is not")
        try:
            return files.open_beneath(self._top, name, os.O_PATH)
        except OSError:
            return -1

    def _hide(self, name: str) -> None:
        try:
            fd = files.open_beneath(self._top, name, os.O_PATH)
        except OSError:
            return
        try:  # bwrap closes what it mounts, and would hand this one on
            place, is_directory = os.readlink(f"/proc/self/fd/{fd}"), stat.S_ISDIR(os.fstat(fd).st_mode)
        finally:
            os.close(fd)
        if is_directory:
            self.options += ["--perms", "0000", "--size", "4096", "--tmpfs", place, "--remount-ro", place]
        else:
            self.options += ["--ro-bind", os.devnull, place]
        self.mounted.append(place)
        self.hidden.append(place)

    def _git(self, private: str) -> None:
        """The daemon's directory as `.git`, with the real parts mounted into it; without one, `.git` as it is, read-only."""
        if not private:
            self._pin("--ro-bind-fd", ".git")
            return
        place = os.path.join(self._workspace, ".git")
        self.options += ["--bind", private, place]
        self.mounted.append(place)
        for name in GIT_SHARED:
            self._pin("--bind-fd", f".git/{name}")
        for name in GIT_FIXED:
            own = os.path.join(private, name)
            if not self._pin("--ro-bind-fd", f".git/{name}") and os.path.lexists(own):
                self.options += ["--ro-bind", own, os.path.join(place, name)]  # empty, and stays so


def mount(each: Mount) -> list[str]:
    return ["--bind" if each.writable else "--ro-bind", each.source, each.place]


def beneath(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
