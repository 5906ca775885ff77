"""Which files of a workspace the librarian knows: ignore files, read rules and what is no text, decided while walking."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from librarian import ignore, tree
from librarian.globs import ReadRules

FILE_LIMIT = 200_000
DEPTH_LIMIT = 100
IGNORE_FILE_LIMIT = 1 << 20
# Copies of other people's work, also where nobody wrote an ignore file.
SKIPPED_DIRECTORIES = frozenset({"node_modules", "bower_components", "jspm_packages", "__pycache__", "site-packages"})
# A directory that holds one of these says itself that it is made by a program.
MADE_BY_PROGRAMS = frozenset({"pyvenv.cfg", "CACHEDIR.TAG"})


@dataclass(slots=True)
class Survey:
    """What a walk found. `files`: path relative to the workspace -> stamp; `skipped`: reason -> how many."""

    files: dict[str, tree.Stamp] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)

    def skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class Scope:
    """What may be looked at: the workspace, its rules, and the directory of conversations that is left out.

    `base`: the directory of this conversation's file, which may be deeper; links in answers are relative to it.
    """

    root: str
    rules: ReadRules
    conversations: str
    base: str = "conversations"

    def hides(self, path: str) -> bool:
        """Whether a path is out of sight whatever the ignore files say: hidden, a conversation, or denied."""
        if any(name.startswith(".") for name in path.split("/")):
            return True
        if self.conversations and (path == self.conversations or path.startswith(self.conversations + "/")):
            return True
        return not self.rules.readable(path)


def walk(scope: Scope, check: Callable[[], None]) -> Survey:
    """The files of the workspace. `check` is called often and raises to end the walk. Raises OSError only when the
    workspace itself cannot be opened; a directory that vanishes or is closed to us is counted."""
    survey = Survey()
    root = os.open(scope.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        waiting = [("", _layers_above(scope.root, root))]
        while waiting and len(survey.files) < FILE_LIMIT:
            check()
            directory, layers = waiting.pop()
            try:
                waiting += _visit(scope, root, directory, layers, survey)
            except OSError:
                survey.skip("unreadable")
        if waiting:
            survey.skip(f"beyond {FILE_LIMIT} files")
    finally:
        os.close(root)
    return survey


_Waiting = tuple[str, tuple[ignore.Layer, ...]]


def _visit(scope: Scope, root: int, directory: str, layers: tuple[ignore.Layer, ...], survey: Survey) -> list[_Waiting]:
    fd = tree.open_directory(root, directory)
    try:
        with os.scandir(fd) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        names = {entry.name for entry in entries}
        if directory and names & MADE_BY_PROGRAMS:
            survey.skip("made by programs")
            return []
        if ".gitignore" in names:
            layers = (*layers, *_layer(root, f"{directory}/.gitignore".lstrip("/"), base=directory))
        return _sort_out(scope, directory, layers, entries, survey)
    finally:
        os.close(fd)


def _sort_out(
    scope: Scope,
    directory: str,
    layers: tuple[ignore.Layer, ...],
    entries: "list[os.DirEntry[str]]",
    survey: Survey,
) -> list[_Waiting]:
    """Files go into the survey, directories to be visited come back."""
    below: list[_Waiting] = []
    for entry in entries:
        path = f"{directory}/{entry.name}" if directory else entry.name
        is_directory = entry.is_dir(follow_symlinks=False)
        if is_directory and (entry.name in SKIPPED_DIRECTORIES or path.count("/") >= DEPTH_LIMIT):
            survey.skip("made by programs" if entry.name in SKIPPED_DIRECTORIES else "too deep")
        elif entry.name.startswith(".") or ignore.verdict(layers, path, is_directory):
            survey.skip("hidden or ignored")
        elif is_directory:
            if path != scope.conversations:
                below.append((path, layers))
        else:
            _take(scope, path, entry, survey)
    return below[::-1]


def _take(scope: Scope, path: str, entry: "os.DirEntry[str]", survey: Survey) -> None:
    if not entry.is_file(follow_symlinks=False):
        survey.skip("links, pipes and devices")  # a link that stays inside shows what is found at its target anyway
    elif not scope.rules.readable(path):
        survey.skip("not readable by the rules")
    elif not _is_utf8(path):
        survey.skip("names that are no UTF-8")
    else:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            survey.skip("unreadable")
            return
        if status.st_size > tree.SIZE_LIMIT:
            survey.skip("over 4 MiB")
        else:
            survey.files[path] = tree.stamp_of(status)


def _is_utf8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _layer(root: int, path: str, base: str = "", lead: str = "") -> tuple[ignore.Layer, ...]:
    try:
        data, _ = tree.read_bytes(root, path, IGNORE_FILE_LIMIT)
    except (OSError, tree.Unreadable):
        return ()
    return (ignore.Layer(ignore.parse(data.decode("utf-8", "surrogateescape")), base, lead),)


def _layers_above(root: str, fd: int) -> tuple[ignore.Layer, ...]:
    """The ignore files of the repository that the workspace lies in, and its .git/info/exclude. Where they ignore the
    workspace itself they say nothing about it: somebody opened it all the same."""
    above: list[ignore.Layer] = []
    here, lead = root, ""
    while not os.path.lexists(os.path.join(here, ".git")):
        parent, name = os.path.split(here)
        if parent == here:
            return ()
        here, lead = parent, f"{name}/{lead}".rstrip("/")
        above = [*_outside(here, ".gitignore", lead), *above]
    above = [*(_layer(fd, ".git/info/exclude") if not lead else _outside(here, ".git/info/exclude", lead)), *above]
    steps = lead.split("/") if lead else []
    for end in range(1, len(steps) + 1):
        if _ignored_above(above, lead, "/".join(steps[:end])):
            return ()
    return tuple(above)


def _outside(directory: str, path: str, lead: str) -> tuple[ignore.Layer, ...]:
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ()
    try:
        return _layer(fd, path, lead=lead)
    finally:
        os.close(fd)


def _ignored_above(above: list[ignore.Layer], lead: str, path: str) -> bool:
    """Whether a directory between the repository's root and the workspace (`path` from that root) is ignored."""
    for layer in reversed(above):
        start = len(lead) - len(layer.lead)
        if len(path) > start:
            verdict = ignore.verdict([ignore.Layer(layer.rules)], path[start:], is_directory=True)
            if verdict is not None:
                return verdict
    return False
