"""Which files a message names: at a word's start, outside code; whatever stands around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.document.mentions import EXAMINED, MOST, Mention, mentions
from tests.doubles.texts import nasty


def named(text: str) -> list[str]:
    """The last, barest form of each."""
    return [mention.paths[-1] for mention in mentions(text)]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("The intro of @book/intro.md is too long.", ["book/intro.md"]),
        ("@a.md, (@b.md) and @c.md.", ["a.md", "b.md", "c.md"]),
        ("**@a.md** *and @b_c_d.md*", ["a.md", "b_c_d.md"]),
        ("- @a.md\n- > @b.md\n\n# @c.md", ["a.md", "b.md", "c.md"]),
        ('see @"my notes/a b.md" and @<my notes/c.md>, @<intro>', ["my notes/a b.md", "my notes/c.md", "intro"]),
        ("@a\\_b.md @ö/ü.md @dir/", ["a_b.md", "ö/ü.md", "dir/"]),
        ("@a.md @a.md", ["a.md"]),
        ("write to a@b.md, x/@y, me@home.org", []),
        ("@@scope/name", ["@scope/name"]),
        ("`@a.md` and `x`@b.md", []),
        ("```\n@a.md\n```\n\n    @b.md\n\n~~~\n@c.md", []),
        ("<div>\n@a.md\n</div>", []),
        ("[a @ b](@c.md) @ d @. @.. @...", []),
        ("![a picture](pics/a%20b.png) ![](c.png?x=1#y)", ["pics/a b.png", "c.png"]),
        ("![x](https://example.org/a.png) ![x](//h/a.png) ![x](data:image/png;base64,AAAA) ![x](<>)", []),
        ("`![x](a.png)`", []),
        ('@"', []),
        ("", []),
    ],
)
def test_mentions(text: str, paths: list[str]) -> None:
    assert named(text) == paths


def test_a_path_may_end_in_a_sign_of_the_sentence() -> None:
    assert mentions("look at @notes(1).") == (Mention(("notes(1).", "notes(1")),)
    assert mentions("![](a.png)") == (Mention(("a.png",), image=True),)


def test_signs_of_emphasis_may_belong_to_a_path() -> None:
    assert named("see @pkg/__init__.py and @a/_b_.md") == ["pkg/__init__.py", "a/_b_.md"]
    assert named("_@a.md_ *see @b.md* ***@c.md***") == ["a.md", "b.md", "c.md"]


def test_there_are_limits() -> None:
    assert len(mentions(" ".join(f"@f{number}" for number in range(200)))) == MOST
    assert mentions("x " * EXAMINED + "@a.md") == ()


@given(nasty, st.text(max_size=20))
def test_any_text_is_read(text: str, more: str) -> None:
    found = mentions(text + "@" + more)
    assert len(set(found)) == len(found)
    assert all(path for mention in found for path in mention.paths)


paths = st.from_regex(r"[a-z0-9]{1,8}(/[a-z0-9_-]{1,8}){0,2}\.md", fullmatch=True)


@given(paths, st.sampled_from(["@{}", "_@{}_", '@"{}"', "@<{}>", "- @{} x", "a\n@{}, b", "> (@{})", "**@{}**"]))
def test_a_path_is_found_where_it_stands(path: str, form: str) -> None:
    assert named(form.format(path)) == [path]
    assert named("```\n" + form.format(path) + "\n```") == []
