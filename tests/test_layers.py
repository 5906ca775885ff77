"""What may import what: the rows of the architecture, purity, and the limits of size that keep files readable."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "opagent"

# top to bottom; a module may import rows below its own, and its own package
ROWS = (
    ("cli",),
    ("elsewhere",),
    ("landing",),
    ("upkeep", "checks"),
    ("client", "daemon"),
    ("launch",),
    ("staying", "oldcode"),
    ("remote",),
    ("binding", "packages", "process", "store", "watch"),
    ("acp", "mcp", "document", "policy", "control"),
    ("jsonrpc",),
    ("jsonline",),
    ("model", "target"),
    ("yamlfile",),
    ("files",),
    ("paths",),
    ("mounts",),
    ("errors", "version"),
)
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row}
PURE = ("jsonrpc", "jsonline", "control", "acp/", "mcp/", "document/", "policy/", "model", "target", "errors", "version")
PURE_FILES = ("binding/resolve", "binding/trust", "process/states", "process/seccomp", "watch/changes")
IMPURE = {
    "asyncio", "os", "pathlib", "socket", "sqlite3", "subprocess", "threading", "time", "click", "asyncssh", "watchdog", "psutil",
}  # fmt: skip
LONGEST_FILE, LONGEST_FUNCTION = 400, 60

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_bundled" not in path.parts)


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def _imports(tree: ast.AST) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import at line {node.lineno}"
            found.append((node.module or "", node.lineno))
            if node.module == "opagent":
                found += [(f"opagent.{alias.name}", node.lineno) for alias in node.names]
    return found


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_point_down(path: Path) -> None:
    here = _name(path).split("/")[0]
    if here in ("__init__", "__main__"):
        return
    for module, line in _imports(ast.parse(path.read_text())):
        parts = module.split(".")
        if parts[0] != "opagent" or len(parts) < 2:
            continue
        there = parts[1]
        assert there in RANK, f"{path}:{line}: {module} stands in no row"
        allowed = there == here or RANK[there] > RANK[here] or (here == "cli")
        assert allowed, f"{path}:{line}: {here} may not import {there}"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_pure_modules_do_no_io(path: Path) -> None:
    name = _name(path)
    if not (name.startswith(PURE) or name in PURE_FILES):
        return
    for module, line in _imports(ast.parse(path.read_text())):
        assert module.split(".")[0] not in IMPURE, f"{path}:{line}: {name} is pure and imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LONGEST_FILE, f"{path} is too long"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{path}:{node.lineno}: {node.name} has {length} lines"


def test_package_files_are_empty() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        assert path.read_text() == "", f"{path} is not empty"


def test_sql_stands_only_in_the_store() -> None:
    for path in MODULES:
        if not _name(path).startswith("store/"):
            assert not any(module.split(".")[0] == "sqlite3" for module, _ in _imports(ast.parse(path.read_text()))), path


def test_nothing_names_a_vendor() -> None:
    ours = ("assistant", "echo", "echo-node", "librarian", "proofreader", "pi")  # and one name that is a part of words
    vendors = [path.name for path in (ROOT / "runtimes").iterdir() if path.name not in ours]
    for path in MODULES:
        for vendor in vendors:
            assert vendor not in path.read_text().lower(), f"{path} names {vendor}"
