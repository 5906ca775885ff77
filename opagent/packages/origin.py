"""Where a runtime comes from, as words of a command line or of `runtime.yaml` say it. Looks at the disk only for a path."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from opagent.errors import Usage

KINDS = ("npm", "pip", "git", "archive", "path", "bundle")
_NPM = re.compile(r"((?:@[a-z0-9_][a-z0-9._-]*/)?[a-z0-9_][a-z0-9._-]*)(?:@([A-Za-z0-9.+_^~-]+))?")
_PIP = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*(?:\[[A-Za-z0-9,._-]+\])?)(?:(?:==|@)([A-Za-z0-9.+_!*-]+))?")
_NAMED = re.compile(r"([a-z0-9][a-z0-9._-]{0,63})(?:@([0-9A-Za-z][A-Za-z0-9.+_-]*|latest))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Origin:
    """`place` is the package, the URL or the path; `version` the wanted one, a commit for git, a sha256 for an archive.

    `also`: further npm packages in the same directory. `run`: the program of the package and its arguments, where known.
    `scripts`: npm packages whose install scripts the runtime needs.
    """

    kind: str
    place: str
    version: str = ""
    also: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    title: str = ""
    about: str = ""

    @property
    def identity(self) -> str:
        """What stays the same from version to version."""
        return f"{self.kind}:{self.place}"

    def __str__(self) -> str:
        mark = {"archive": "#sha256=", "pip": "=="}.get(self.kind, "@")
        return f"{self.identity}{mark}{self.version}" if self.version else self.identity


def parse(word: str) -> tuple[str, str, Origin | None]:
    """A name and a version of the catalogue, or an origin: `NAME@1.18`, `npm:x@1`, `pypi:x==1`, `git+https://...@REV`,
    `https://...#sha256=...`, a directory, a file that `runtime bundle` made. Raises Usage."""
    scheme, colon, rest = word.partition(":")
    if colon and scheme in ("npm", "pypi", "pip"):
        found = (_NPM if scheme == "npm" else _PIP).fullmatch(rest)
        if not found:
            raise _usage(f"'{rest}' is no package of {scheme}", f"{scheme}:NAME or {scheme}:NAME@VERSION")
        return "", "", Origin("npm" if scheme == "npm" else "pip", found[1], found[2] or "")
    if word.startswith("git+"):
        return "", "", _git(word.removeprefix("git+"))
    if "://" in word:
        return "", "", _archive(word)
    if "/" in word or word.startswith((".", "~")):
        path = os.path.realpath(os.path.expanduser(word))
        if os.path.isdir(path):
            return "", "", Origin("path", path)
        if os.path.isfile(path):
            return "", "", Origin("bundle", path)
        raise _usage(f"{word} is neither a directory nor a file", "a directory with a runtime.yaml, or a bundle")
    named = _NAMED.fullmatch(word)
    if not named:
        raise _usage(f"'{word}' is no runtime", "NAME, NAME@VERSION, npm:, pypi:, git+URL@REV, a URL with #sha256=, or ./DIR")
    return named[1], named[2] or "", None


def _git(word: str) -> Origin:
    url, _, rev = word.rpartition("@")
    parts = urlsplit(url)
    if parts.scheme not in ("https", "ssh", "file") or not rev or "/" in rev or rev.startswith("-"):
        raise _usage(f"'{word}' names no revision of a repository", "git+https://HOST/PATH@REVISION, also ssh:// and file://")
    return Origin("git", url, rev)


def _archive(word: str) -> Origin:
    url, _, fragment = word.partition("#")
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
        raise _usage(f"{url} is not fetched", "only https:// URLs are")
    digest = fragment.removeprefix("sha256=")
    if not _SHA256.fullmatch(digest):
        raise _usage("an archive is only installed with its hash", f"write {url}#sha256= and 64 hexadecimal digits")
    return Origin("archive", url, digest)


def described(install: Mapping[str, Any], package: str) -> Origin | None:
    """What `install:` of a `runtime.yaml` says; None where the program comes with the folder."""
    version = str(install.get("version", ""))
    if name := install.get("npm"):
        return Origin("npm", name, version, tuple(install.get("also", ())), tuple(install.get("scripts", ())))
    if name := install.get("pip"):
        return Origin("pip", name, version)
    if git := install.get("git"):
        return Origin("git", git["url"], git["rev"])
    if archive := install.get("archive"):
        return Origin("archive", archive["url"], archive["sha256"])
    return Origin("path", os.path.realpath(package)) if install.get("path") else None


def restored(said: Mapping[str, Any]) -> Origin:
    """What `asdict` made of one, as a lock file holds it."""
    lists = {name: tuple(said.get(name, ())) for name in ("also", "scripts", "run")}
    env = tuple((str(name), str(value)) for name, value in said.get("env", ()))
    words = {name: str(said.get(name, "")) for name in ("version", "title", "about")}
    return replace(Origin(str(said["kind"]), str(said["place"]), env=env), **words, **lists)  # type: ignore[arg-type]


def at(origin: Origin, version: str) -> Origin:
    """The same, of another version. Raises Usage where its version is a hash or lies in a directory."""
    if origin.kind not in ("npm", "pip", "git"):
        raise _usage(f"{origin.identity} has one version", "what lies there now")
    if version != "latest":
        return replace(origin, version=version)
    return replace(origin, version="", also=tuple(_bare(each) for each in origin.also))


def _bare(package: str) -> str:
    """The name of an npm package without its version."""
    return package[0] + package[1:].partition("@")[0]


def _usage(what: str, why: str) -> Usage:
    return Usage(what, why, "opagent runtime install --help")
