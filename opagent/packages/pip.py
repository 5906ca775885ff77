"""Packages of PyPI into one directory, wheels only; their programs get starters that work wherever the directory lies."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

from opagent.errors import InstallFailed
from opagent.packages.fetching import Fetched, Part, Tools
from opagent.packages.origin import Origin

LIB, BIN, REPORT = "lib", "bin", ".report.json"
_OPTIONS = ("--disable-pip-version-check", "--no-input", "--no-compile", "--quiet", "--no-warn-script-location")
_ENTRY = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_][\w.]*)\s*(?:\[.*\])?")
_PROGRAM = re.compile(r"[A-Za-z0-9._+-]+")
_STARTER = """#!{python} -I
# Made by OpAgent: starts a program of the directory beside this one.
import functools, importlib, os, site, sys

lib = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "{lib}")
sys.path.insert(0, lib)
site.addsitedir(lib)
sys.exit(functools.reduce(getattr, "{attribute}".split("."), importlib.import_module("{module}"))())
"""


def fetch(origin: Origin, package: Path, tools: Tools, build: bool = False) -> Fetched:
    """`build`: source packages too, whose build runs their code. Raises InstallFailed and its kind."""
    wanted = f"{origin.place}=={origin.version}" if origin.version else origin.place
    if origin.version and origin.version.count(".") < 2 and re.fullmatch(r"[0-9.]+", origin.version):
        wanted = f"{origin.place}=={origin.version}.*"  # 1.18 asks for the newest 1.18.x; it fits 1.18 itself too
    parts = _install([wanted], package, tools, build)
    bare = _normal(origin.place.partition("[")[0])
    main = next((part for part in parts if _normal(part.name) == bare), None)
    if main is None:
        raise InstallFailed(f"pip installed no {origin.place}", "it is not in its report", "opagent runtime install --help")
    return Fetched(main.version, parts, programs=starters(package, bare))


def dependencies(package: Path, tools: Tools, build: bool = False) -> Fetched:
    """What the requirements.txt of a folder names."""
    parts = _install(["--requirement", "requirements.txt"], package, tools, build)
    starters(package)
    return Fetched("", parts)


def _install(words: list[str], package: Path, tools: Tools, build: bool) -> tuple[Part, ...]:
    report = package / REPORT
    argv = [*_pip(tools), "install", *_OPTIONS, "--target", str(package / LIB), "--report", str(report)]
    tools.run([*argv, *(() if build else ("--only-binary", ":all:")), *words], package, PYTHONDONTWRITEBYTECODE="1")
    said = json.loads(report.read_bytes())
    report.unlink()
    shutil.rmtree(package / LIB / "bin", ignore_errors=True)  # scripts with paths of this moment
    return tuple(sorted((_part(each) for each in said["install"]), key=lambda part: part.name))


def _part(each: dict[str, dict[str, object]]) -> Part:
    archive = each["download_info"].get("archive_info") or {}
    hashes = archive.get("hashes") or {} if isinstance(archive, dict) else {}
    digest = next((f"{kind}:{value}" for kind, value in sorted(hashes.items(), key=lambda one: one[0] != "sha256")), "")
    return Part(str(each["metadata"]["name"]), str(each["metadata"]["version"]), digest)


def _pip(tools: Tools) -> list[str]:
    """A pip that installs for the Python that runs us; an environment made by pipx or uv has none of its own."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-I", "-m", "pip"]
    return [tools.find("pip3", f"{sys.executable} -m ensurepip"), "--python", sys.executable]


def starters(package: Path, only: str = "") -> tuple[str, ...]:
    """A program in bin/ for each console script of the packages in lib/, of one of them where it is named. Their names."""
    made: list[str] = []
    for entries in sorted((package / LIB).glob("*.dist-info/entry_points.txt")):
        if only and _normal(entries.parent.name.partition("-")[0]) != only:
            continue
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(entries.read_text("utf-8"))
        for name, value in parser["console_scripts"].items() if parser.has_section("console_scripts") else ():
            found = _ENTRY.fullmatch(value.strip())
            if found and _PROGRAM.fullmatch(name):
                _start(package / BIN / name, found[1], found[2])
                made.append(name)
    return tuple(sorted(made, key=lambda name: _normal(name) != only))


def _start(path: Path, module: str, attribute: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(_STARTER.format(python=sys.executable, lib=LIB, module=module, attribute=attribute))
    path.chmod(0o755)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
