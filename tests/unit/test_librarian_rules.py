"""What the librarian may see: ignore files held against git itself, read rules of the binding, what a walk leaves out."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "runtimes" / "librarian"))

from librarian import ignore
from librarian.globs import BadRules, parse_rules
from librarian.walk import Scope, walk

FILES = [
    "a",
    "b.txt",
    "ab.md",
    "a b.md",
    "#note",
    "!bang",
    "build/x.md",
    "build/keep/x.md",
    "docs/a",
    "docs/build/y.md",
    "docs/deep/er/z.txt",
    "docs/deep/er/a b",
    "docs/b.txt",
    "doc/x.md",
    "foo/bar/baz.md",
    "foo/bar.md",
    "foo/x/bar/q.md",
    "[x]",
    "x-y",
    "back\\slash",
]


def scope(root: Path, **rules: object) -> Scope:
    return Scope(str(root.resolve()), parse_rules(rules), "conversations")


def seen(root: Path, **rules: object) -> set[str]:
    return set(walk(scope(root, **rules), lambda: None).files)


def make(root: Path, files: list[str]) -> None:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\n")


def git(root: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    environment = {"PATH": os.environ["PATH"], "HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", "-C", str(root), *arguments], input=stdin, stdout=subprocess.PIPE, env=environment, check=False)
    assert done.returncode in (0, 1)
    return done.stdout


def not_ignored_by_git(root: Path, files: list[str]) -> set[str]:
    out = git(root, "check-ignore", "--no-index", "--stdin", "-z", stdin="\0".join(files).encode())
    return set(files) - {name.decode() for name in out.split(b"\0") if name}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    make(root, FILES)
    git(root, "init", "-q")
    return root


PIECES = st.sampled_from(
    [
        *["a", "b", "*", "**", "?", "/", "/**/", "**/", "/**", "docs", "build", "foo", "bar", ".md", ".txt", " ", "\\ ", "!"],
        *["[ab]", "[!a]", "[^b]", "[a-c]", "[[:alpha:]]", "[[:nope:]]", "[", "]", "\\", "\\#", "#", "-", "deep", "x", "[]x]"],
    ]
)
LINE = st.lists(PIECES, min_size=1, max_size=5).map("".join)
IGNORE_FILE = st.lists(LINE, min_size=1, max_size=4).map("\n".join)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(top=IGNORE_FILE, below=IGNORE_FILE)
@example("/build\n!keep", "build/")
@example("build/\n!build/keep/", "*\n!deep/\n!er/\n!z.txt")
@example("docs/**/z.txt\nfoo/**\n!foo/bar", "/a\nb.txt ")
@example("**/bar\na\\ b.md\n\\#note\n\\!bang", "*.txt\n!b.txt")
@example("foo/*\n!foo/bar/\n[[]x]", "deep/er")
@example("/*\n!/docs\n!/foo/\r\n", "**\n!**/")
@example("back\\\\slash\n*.md\n!ab*", "")
def test_ignore_files_mean_what_git_says(repository: Path, top: str, below: str) -> None:
    (repository / ".gitignore").write_bytes(top.encode())
    (repository / "docs" / ".gitignore").write_bytes(below.encode())
    assert seen(repository) == not_ignored_by_git(repository, FILES)


def test_the_repository_above_the_workspace_counts_unless_it_ignores_the_workspace(tmp_path: Path) -> None:
    make(tmp_path, ["docs/api/a.md", "docs/api/out/b.md", "docs/api/c.log", "docs/api/d.tmp", "other/a.md"])
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("/docs/api/out/\n*.log\n")
    (tmp_path / ".git" / "info" / "exclude").write_text("*.tmp\n")
    assert seen(tmp_path / "docs" / "api") == {"a.md"}
    (tmp_path / ".gitignore").write_text("*\n")
    assert seen(tmp_path / "docs" / "api") == {"a.md", "out/b.md", "c.log", "d.tmp"}


def test_an_ignore_file_of_a_stranger_takes_no_exponential_time() -> None:
    rules = ignore.parse("*a" * 60 + "b\n" + "**/a/" * 30 + "b")
    layers = [ignore.Layer(rules)]
    assert ignore.verdict(layers, "a" * 250, is_directory=False) is None
    assert ignore.verdict(layers, "/".join("a" * 60), is_directory=False) is None


def test_a_walk_leaves_out_what_is_hidden_made_by_programs_linked_or_no_file(tmp_path: Path) -> None:
    root = tmp_path / "w"
    make(root, ["a.md", ".env", ".hidden/a.md", "node_modules/m/a.md", "env/a.py", "env/pyvenv.cfg", "cache/CACHEDIR.TAG"])
    make(root, ["conversations/2026.md", "sub/conversations/kept.md", "tab\tname.md"])
    make(tmp_path, ["outside/secret.md"])
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "secret.md").symlink_to(tmp_path / "outside" / "secret.md")
    os.mkfifo(root / "pipe.md")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(root / "socket"))
    (root / "big.txt").write_bytes(b"x" * (4 * 1024 * 1024 + 1))
    with open(os.fsencode(root) + b"/\xff.md", "wb"):
        pass
    survey = walk(scope(root), lambda: None)
    assert set(survey.files) == {"a.md", "sub/conversations/kept.md", "tab\tname.md"}
    assert survey.skipped["over 4 MiB"] == 1
    assert survey.skipped["names that are no UTF-8"] == 1
    assert survey.skipped["links, pipes and devices"] == 4


@pytest.mark.parametrize(
    ("rules", "path", "readable"),
    [
        ({}, "a/b.md", True),
        ({"deny": ["**/.env*", "secrets/"]}, "secrets/x/y.md", False),
        ({"deny": ["**/.env*", "secrets/"]}, "secrets", True),  # a file of that name is no directory
        ({"deny": ["secrets/"]}, "a/secrets/x", True),  # patterns begin at the workspace
        ({"deny": ["**/.env*"]}, ".env.local", False),
        ({"deny": ["**/.env*"]}, "a/b/.env", False),
        ({"deny": ["secrets"]}, "secrets/x", False),  # a denied directory hides what is below
        ({"deny": ["secrets", "!secrets/public/"]}, "secrets/public/x", True),
        ({"deny": ["!secrets/public/", "secrets/"]}, "secrets/public/x", False),  # the last match wins
        ({"deny": ["*.md"]}, "a/b.md", True),
        ({"deny": ["*.{md,txt}"]}, "b.txt", False),
        ({"deny": ["{a,b/c}/**"]}, "b/c/d", False),
        ({"deny": ["a?c"]}, "a/c", True),
        ({"deny": ["a?c"]}, "abc", False),
        ({"deny": ["[x]"]}, "x", True),  # no classes: brackets are brackets
        ({"deny": ["[x]"]}, "[x]", False),
        ({"deny": ["x"], "allow": ["x"]}, "x", False),
        ({"ask": ["x"]}, "x", False),
        ({"default": "deny"}, "x", False),
        ({"default": "deny", "allow": ["docs/"]}, "docs/x", True),
        ({"default": "deny", "allow": ["docs"]}, "docs/x", False),  # an allow reaches no further than it says
        ({"deny": ["cafe\u0301.md"]}, "caf\u00e9.md", False),
    ],
)
def test_read_rules(rules: object, path: str, readable: bool) -> None:
    assert parse_rules(rules).readable(path) is readable


@pytest.mark.parametrize(
    "rules", [[], {"deny": "x"}, {"deny": [1]}, {"deny": ["../x"]}, {"deny": ["/etc"]}, {"deny": [""]}, {"deny": ["{a,b}" * 20]}]
)
def test_rules_that_cannot_be_read_are_refused(rules: object) -> None:
    with pytest.raises(BadRules):
        parse_rules(rules)


@settings(deadline=None)
@given(st.text("ab*?/{},!.", max_size=20), st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=6))
def test_a_denied_path_stays_denied_with_more_rules_allowed(pattern: str, parts: list[str]) -> None:
    path = "/".join(parts)
    try:
        denied = not parse_rules({"deny": [pattern]}).readable(path)
    except BadRules:
        return
    if denied:
        assert not parse_rules({"deny": [pattern], "allow": ["**"], "default": "allow"}).readable(path)
