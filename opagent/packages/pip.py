"""Packages of PyPI into one directory, wheels only; their programs get starters that work wherever the directory lies."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from opagent.errors import InstallFailed
from opagent.packages.fetching import Fetched, Part, Tools
from opagent.packages.origin import Origin

LIB, BIN, REPORT = "lib", "bin", ".report.json"
_OPTIONS = ("--disable-pip-version-check", "--no-input", "--no-compile", "--quiet", "--no-warn-script-location")
_ENTRY = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_][\w.]*)\s*(?:\[.*\])?")
_MINORS = range(12, 20)
_OTHER_PYTHON = re.compile(r"different python|Requires-Python", re.IGNORECASE)
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
    parts, python = _install([wanted], package, tools, build)
    bare = _normal(origin.place.partition("[")[0])
    main = next((part for part in parts if _normal(part.name) == bare), None)
    if main is None:
        raise InstallFailed(f"pip installed no {origin.place}", "it is not in its report", "opagent runtime install --help")
    return Fetched(main.version, parts, programs=starters(package, python, bare), python=python)


def dependencies(package: Path, tools: Tools, build: bool = False) -> Fetched:
    """What the requirements.txt of a folder names."""
    parts, python = _install(["--requirement", "requirements.txt"], package, tools, build)
    starters(package, python)
    return Fetched("", parts, python=python)


def _install(words: list[str], package: Path, tools: Tools, build: bool) -> tuple[tuple[Part, ...], str]:
    """What was installed, and for which Python: the one that runs us, else the first on PATH that the packages take."""
    report, last = package / REPORT, None
    for python in interpreters(tools, package):
        argv = [*_pip(tools, python), "install", *_OPTIONS, "--target", str(package / LIB), "--report", str(report)]
        argv += [*(() if build else ("--only-binary", ":all:")), *words]
        try:
            tools.run(argv, package, "pip", PYTHONDONTWRITEBYTECODE="1")
        except InstallFailed as error:
            if not _OTHER_PYTHON.search(error.why):
                raise
            last = error
            shutil.rmtree(package / LIB, ignore_errors=True)
            continue
        said = json.loads(report.read_bytes())
        report.unlink()
        shutil.rmtree(package / LIB / "bin", ignore_errors=True)  # scripts with paths of this moment
        return tuple(sorted((_part(each) for each in said["install"]), key=lambda part: part.name)), python
    why = last.why if last else "there is no Python"
    raise InstallFailed("no Python here is one that it takes", why, "python3 --version")


def interpreters(tools: Tools, cwd: Path) -> Iterator[str]:
    """The Python that runs us, then each other one on PATH that works, by its real name."""
    yield sys.executable
    for minor in _MINORS:
        found = shutil.which(f"python3.{minor}", path=tools.search_path) if minor != sys.version_info.minor else None
        try:
            said = tools.run([found, "-I", "-c", "import sys; print(sys.executable)"], cwd).strip() if found else ""
        except InstallFailed:
            continue  # a shim of a version that is not there
        if said:
            yield said


def version_of(python: str, tools: Tools, cwd: Path) -> str:
    """`3.12`: packages with compiled parts work for that one only."""
    return tools.run([python, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], cwd).strip()


def _part(each: dict[str, dict[str, object]]) -> Part:
    archive = each["download_info"].get("archive_info") or {}
    hashes = archive.get("hashes") or {} if isinstance(archive, dict) else {}
    digest = next((f"{kind}:{value}" for kind, value in sorted(hashes.items(), key=lambda one: one[0] != "sha256")), "")
    return Part(str(each["metadata"]["name"]), str(each["metadata"]["version"]), digest)


def _pip(tools: Tools, python: str) -> list[str]:
    """A pip that installs for that Python; an environment made by pipx or uv has none of its own."""
    ours = [sys.executable, "-I", "-m", "pip"] if importlib.util.find_spec("pip") else []
    if ours and python == sys.executable:
        return ours
    return [*(ours or [tools.find("pip3", f"{sys.executable} -m ensurepip")]), "--python", python]


def starters(package: Path, python: str, first: str = "") -> tuple[str, ...]:
    """A program in bin/ for each console script of the packages in lib/. Their names, those of one package first.

    Of two of one name the one counts whose module is there: wheels exist that only name what another one holds.
    """
    made: dict[str, bool] = {}
    for entries in sorted((package / LIB).glob("*.dist-info/entry_points.txt")):
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(entries.read_text("utf-8"))
        main = _normal(entries.parent.name.partition("-")[0]) == first
        for name, value in parser["console_scripts"].items() if parser.has_section("console_scripts") else ():
            found = _ENTRY.fullmatch(value.strip())
            if found and _PROGRAM.fullmatch(name) and (name not in made or _there(package / LIB, found[1])):
                _start(package / BIN / name, python, found[1], found[2])
                made[name] = main or made.get(name, False)
    return tuple(sorted(made, key=lambda name: (not made[name], _normal(name) != first)))


def _there(lib: Path, module: str) -> bool:
    path = lib.joinpath(*module.split("."))
    return path.is_dir() or any(path.parent.glob(f"{path.name}.*"))


def _start(path: Path, python: str, module: str, attribute: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(_STARTER.format(python=python, lib=LIB, module=module, attribute=attribute))
    path.chmod(0o755)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
