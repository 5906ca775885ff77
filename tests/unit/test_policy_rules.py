"""The grammar of patterns."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opagent.model import Effect, Layer, RuleList
from opagent.policy import lists, rules


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("**/*.md", ["a.md", "x/y/a.md", ".md"], ["a.mdx", ".md/x"]),
        ("*.md", ["a.md"], ["x/a.md"]),
        ("secrets/", ["secrets", "secrets/a/b"], ["secretsx", "a/secrets"]),
        ("secrets", ["secrets"], ["secrets/a"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a/xb", "ab", "a/b/c"]),
        ("**", ["", "a", "a/b/c"], []),
        ("**/a/**/b/**", ["a/b", "x/a/y/b/z", "a/b/c"], ["a", "b/a"]),
        ("**/**/a", ["a", "x/a", "x/y/a"], ["xa"]),
        ("**/.env*", [".env", "x/.env.local"], ["x/env", ".env/x"]),
        ("*a*b*", ["xaybz", "ab"], ["ba", "a/b"]),
        ("a**b", ["ab", "axxb"], ["a/b"]),
        ("{a,b}/c?", ["a/cx", "b/cy"], ["a/c/", "c/cx", "a/c"]),
        ("*.{md,txt}", ["a.md", "b.txt"], ["a.rst"]),
        ("x.py", ["x.py"], ["xapy"]),
        ("[ab]", ["[ab]"], ["a"]),
        ("a+(b)$", ["a+(b)$"], ["ab"]),
    ],
)
def test_globs(pattern: str, yes: list[str], no: list[str]) -> None:
    for path in yes:
        assert rules.glob(pattern, False).fullmatch(path), f"{pattern} must match {path}"
    for path in no:
        assert not rules.glob(pattern, False).fullmatch(path), f"{pattern} must not match {path}"


_name = st.text("ab.", min_size=1, max_size=5)
_segment = st.text("ab.*?", min_size=1, max_size=5).filter(lambda text: "**" not in text)


@settings(max_examples=400, deadline=None)
@given(_segment, _name)
def test_a_segment_matches_what_the_standard_library_says(pattern: str, name: str) -> None:
    assert bool(rules.glob(pattern, False).fullmatch(name)) is fnmatch.fnmatchcase(name, pattern)


def _slow(pattern: list[str], path: list[str]) -> bool:
    """The plain recursive meaning of a glob in segments."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_slow(pattern[1:], path[at:]) for at in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _slow(pattern[1:], path[1:])


@settings(max_examples=600, deadline=None)
@given(st.lists(st.just("**") | _segment, min_size=1, max_size=5), st.lists(_name, min_size=1, max_size=5))
def test_a_glob_means_what_the_slow_reading_says(pattern: list[str], path: list[str]) -> None:
    assert bool(rules.glob("/".join(pattern), False).fullmatch("/".join(path))) is _slow(pattern, path)


@pytest.mark.parametrize(
    "pattern", ["**/" * 40 + "x", "*a" * 40 + "b", "**/*a" * 20 + "b", "{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}*" + "*a" * 20]
)
def test_a_hostile_glob_is_not_slow(pattern: str) -> None:
    """With the square of the length it would take minutes, with more it would not end."""
    for path in ("a/" * 1000 + "a" * 1000, "a" * 4000, "aa/" * 1300):
        rules.glob(pattern, False).fullmatch(path)


def test_names_that_look_alike_are_one() -> None:
    assert rules.matches("read", "café", "/w/café", "/w")
    assert rules.matches("read", "Secrets/", "/w/sECRETS/x", "/w", fold=True)
    assert not rules.matches("read", "Secrets/", "/w/secrets/x", "/w")


def test_globs_count_from_their_own_file() -> None:
    assert rules.matches("read", "*.md", "/w/docs/a.md", "/w/docs")
    assert not rules.matches("read", "*.md", "/w/docs/a.md", "/w")
    assert not rules.matches("read", "**", "/elsewhere/a.md", "/w")
    assert not rules.matches("read", "**", "/w-other/a", "/w")
    assert rules.matches("read", "/home/u/.ssh/", "/home/u/.ssh/id", "/w")


def explicit(allow: tuple = (), ask: tuple = (), deny: tuple = (), *, kind: str = "read", request: object) -> tuple | None:
    return lists.explicit(RuleList(allow, ask, deny), kind, request, "/w")


def test_the_strictest_list_wins_whatever_the_order() -> None:
    assert explicit(allow=("**",), deny=("*.md",), request="/w/a.md") == (Effect.DENY, "deny.0")
    assert explicit(allow=("**",), ask=("*.md",), request="/w/a.md") == (Effect.ASK, "ask.0")
    assert explicit(allow=("**",), ask=("*.md",), request="/w/a.py") == (Effect.ALLOW, "allow.0")
    assert explicit(deny=("*.md",), request="/w/a.py") is None


def test_an_exclamation_mark_takes_out_of_its_own_list() -> None:
    deny = ("**/.env*", "!**/.env.example", "secret")
    assert explicit(deny=deny, request="/w/.env") == (Effect.DENY, "deny.0")
    assert explicit(deny=deny, request="/w/.env.example") is None
    assert explicit(deny=(*deny, "**/.env.example"), request="/w/.env.example") == (Effect.DENY, "deny.3")
    assert explicit(ask=("*",), deny=("*", "!a"), request="/w/a") == (Effect.ASK, "ask.0")


STATUS = ("git", ("status", "diff"))


@pytest.mark.parametrize(
    ("pattern", "words", "matches"),
    [
        (STATUS, "git status", True),
        (STATUS, "git diff --stat", True),
        (STATUS, "git push", False),
        (STATUS, "git", False),
        (STATUS, "gitx status", False),
        (STATUS, "/usr/bin/git status", True),
        (STATUS, "/home/u/bin/git status", False),
        (STATUS, "./git status", False),
        (STATUS, "git -c alias.status=!sh status", False),
        (("git",), "git -c core.pager=sh log", False),
        (("sh",), "sh -c ls", False),
        (("env",), "env ls", False),
        (("env", "git"), "env git status", False),
        (("sudo",), "sudo ls", False),
        (("python3",), "python3 tools/build.py", True),
        (("python3",), "python3 -c print()", False),
        (("python3",), "python3.11 -m http.server", False),
        (("python3.11",), "python3.11 -Ic pass", False),
        (("find",), "find . -name x", True),
        (("find",), "find . -exec rm {} ;", False),
        (("npm",), "npm ci", True),
        (("npm",), "npm run build", False),
        (("node",), "node --eval=1", False),
        (("/usr/bin/bash",), "/usr/bin/bash x", False),
    ],
)
def test_an_allowed_command(pattern: tuple, words: str, matches: bool) -> None:
    found = explicit(allow=(pattern,), kind="exec", request=tuple(words.split()))
    assert found == ((Effect.ALLOW, "allow.0") if matches else None)


@pytest.mark.parametrize("words", ["rm -rf x", "/bin/rm x", "/home/u/rm x", "./rm x"])
def test_a_denied_program_is_denied_by_any_path(words: str) -> None:
    assert explicit(deny=(("rm",),), kind="exec", request=tuple(words.split())) == (Effect.DENY, "deny.0")


def test_a_program_named_by_its_path() -> None:
    script = (("./tools/build.sh",),)
    assert explicit(deny=script, kind="exec", request=("./tools/build.sh", "x")) == (Effect.DENY, "deny.0")
    assert explicit(allow=script, kind="exec", request=("./tools/build.sh",)) == (Effect.ALLOW, "allow.0")
    assert explicit(allow=script, kind="exec", request=("/usr/bin/build.sh",)) is None
    assert explicit(deny=((("rm", "dd"), "-r"),), kind="exec", request=("/bin/dd", "-r")) == (Effect.DENY, "deny.0")


def test_a_shell_can_be_asked_about_and_denied() -> None:
    assert explicit(ask=(("sh",),), kind="exec", request=("sh", "-c", "ls")) == (Effect.ASK, "ask.0")
    assert explicit(kind="exec", request=()) is None


@pytest.mark.parametrize(
    ("pattern", "request_", "matches"),
    [
        ("api.example.com", "api.example.com", True),
        ("api.example.com", "api.example.com:443", True),
        ("api.example.com", "API.Example.com.", True),
        ("api.example.com", "api.example.com:80", False),
        ("api.example.com:8443", "api.example.com:8443", True),
        ("api.example.com:*", "api.example.com:1", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "evilexample.com", False),
        ("*.example.com", ".example.com", False),
        ("example.com", "example.com.evil.org", False),
        ("*", "any.org", True),
        ("*", "any.org:80", False),
        ("[::1]:8080", "[::1]:8080", True),
        ("::1", "[::1]", True),
    ],
)
def test_hosts(pattern: str, request_: str, matches: bool) -> None:
    assert rules.matches("network", pattern, request_, "/w") is matches


PRIVATE = """
    localhost a.localhost printer.local metadata.google.internal 127.0.0.1 127.1 0 0x7f000001 2130706433 10.1.2.3 192.168.0.1:80
    172.16.0.1 169.254.169.254 [::1] [::1]:80 [fe80::1%eth0] [fd00::1] [::ffff:127.0.0.1] 0.0.0.0 224.0.0.1 100.64.0.1
    017700000001 １２７.0.0.1 127。0。0。1
"""


@pytest.mark.parametrize("host", PRIVATE.split())
def test_private_addresses(host: str) -> None:
    assert rules.is_private(host)


@pytest.mark.parametrize("host", ["example.com", "93.184.216.34", "[2606:4700::1111]:443", "local.example.com", "1e100.net"])
def test_public_addresses(host: str) -> None:
    assert not rules.is_private(host)


@pytest.mark.parametrize(
    ("pattern", "request_", "matches"),
    [
        ("reviewer", "reviewer", True),
        ("rev*", "reviewer", True),
        ("reviewer", "/w/reviewer", False),
        ("../api", "/api", True),
        ("../api", "/api/x", False),
        ("../api/", "/api/x", True),
        ("./sub/*", "/w/docs/sub/a", False),
        ("./sub/*", "/w/sub/a", True),
        ("*", "/w/sub", False),
        (".", "/w", True),
    ],
)
def test_agents(pattern: str, request_: str, matches: bool) -> None:
    assert rules.matches("agents", pattern, request_, "/w") is matches


def test_tools() -> None:
    assert rules.matches("mcp", "fs/read_*", "fs/read_file", "/w")
    assert not rules.matches("mcp", "fs/read_*", "fs/write_file", "/w")
    assert rules.matches("mcp", "*/list", "github/list", "/w")
    assert not rules.matches("mcp", "github/*", "github/a/b", "/w")


def problems(kind: str, own: bool = False, **lists: tuple) -> list[str]:
    return [
        f"{place}: {sentence}" for _, place, sentence in rules.form_problems(Layer("f", "/w", {kind: RuleList(**lists)}), own)
    ]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("", "it is empty"),
        ("!", "it is empty"),
        (" ", "it is empty"),
        ("/etc/passwd", "leaves the workspace"),
        ("~/x", "leaves the workspace"),
        ("../x", "leaves the directory"),
        ("a/../../x", "leaves the directory"),
        ("!../x", "leaves the directory"),
        ("a//b", "an empty or a . part"),
        ("./a", "an empty or a . part"),
        ("{a,b}" * 10, "more than 64 alternatives"),
        ("{a,../../x}", "leaves the directory"),
        ("{/etc,a}/x", "leaves the workspace"),
    ],
)
def test_a_glob_that_cannot_match_or_leaves_is_an_error(pattern: str, said: str) -> None:
    assert said in "\n".join(problems("read", deny=(pattern,)))


def test_the_users_own_file_may_name_any_place() -> None:
    assert not problems("read", own=True, allow=("/srv/data/", "/home/u/notes/"))
    assert problems("read", own=True, allow=("/srv/../etc",))


def test_the_same_pattern_in_allow_and_deny_can_never_match() -> None:
    assert problems("read", allow=("a", "b"), deny=("b",)) == ["allow.1: can never match: the same pattern stands in deny"]
    assert problems("exec", allow=(("git",),), deny=(("git",),))


@pytest.mark.parametrize("pattern", ["https://a.b", "a b", "a.b:port", "", "*.*.b", "a.b/", "a*"])
def test_what_is_no_host(pattern: str) -> None:
    assert problems("network", allow=(pattern,))


@pytest.mark.parametrize("pattern", ["a.b", "*.a.b:8443", "*", "[::1]:80", "10.0.0.1:*", "localhost:8080", "!a.b"])
def test_what_is_a_host(pattern: str) -> None:
    assert not problems("network", allow=(pattern,))


def test_a_tool_rule_needs_server_and_tool() -> None:
    assert problems("mcp", allow=("github",)) and not problems("mcp", allow=("github/*",))


@pytest.mark.parametrize(
    ("pattern", "seen"),
    [
        ("secrets/", None), ("docs/secrets/", "secrets/"), ("**/.env*", "**/.env*"), ("*/x.md", "x.md"), ("docs/", "**"),
        ("!docs/a/*.md", "!a/*.md"), ("doc?/**/x", "**/x"), ("docs", None), ("{docs,src}/x", "x"), ("other/**", None),
        ("/srv/docs/x", "x"), ("/etc/x", None),
    ],
)  # fmt: skip
def test_a_pattern_of_a_parent_seen_from_a_directory_below(pattern: str, seen: str | None) -> None:
    assert rules.seen_from(pattern, "/srv", "/srv/docs") == seen


_parts = st.lists(
    st.sampled_from(["a", "b", "A", "é", "e\u0301", "*", "**", "*.py", "?", "{a,b}", "{a,b}c", "a*"]), min_size=1, max_size=3
)
_pattern = st.tuples(
    st.sampled_from(["", "!"]), st.sampled_from(["", "/w/", "/"]), _parts.map("/".join), st.sampled_from(["", "/"])
)
_globs = st.lists(_pattern.map("".join), max_size=6).map(tuple)
_path = st.lists(st.sampled_from(["w", "a", "b", "A", "é", "x.py", "ac"]), max_size=4).map(lambda parts: "/w/" + "/".join(parts))
_words = st.lists(st.sampled_from(["git", "/usr/bin/git", "./git", "rm", "status"]), min_size=1, max_size=2).map(tuple)
_commands = st.lists(
    st.lists(st.sampled_from(["git", "./git", ("git", "rm"), "status"]), min_size=1, max_size=2).map(tuple), max_size=4
)
_hosts = st.lists(
    st.sampled_from(["a.org", "!a.org", "*.a.org", "*", "A.org:80", "[::1]", "*.org:*", "b.a.org."]), max_size=4
).map(tuple)


@settings(max_examples=600, deadline=None)
@given(
    st.one_of(
        st.tuples(st.just("read"), _globs, _path.map(lambda path: path.rstrip("/") or "/")),
        st.tuples(st.just("exec"), _commands.map(tuple), _words),
        st.tuples(st.just("network"), _hosts, st.sampled_from(["a.org", "b.a.org:80", "A.ORG.", "[::1]:443", "org", "c.org:80"])),
    ),
    st.booleans(),
    st.sampled_from(["/w", "/w/a", "/"]),
)
def test_a_list_that_could_not_match_has_no_match(case: tuple, fold: bool, base: str) -> None:
    kind, patterns, request = case
    bare = [pattern[1:] if isinstance(pattern, str) and pattern.startswith("!") else pattern for pattern in patterns]
    if any(rules.matches(kind, pattern, request, base, fold, effect) for pattern in bare for effect in Effect):
        assert lists.could(kind, patterns, request, base, fold)
