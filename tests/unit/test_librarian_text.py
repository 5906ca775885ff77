"""The librarian's view of Markdown: headings, passages with their lines, anchors, links."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "runtimes" / "librarian"))

from librarian.links import blank_code, links_of
from librarian.quotes import code, escape, link, quote_of
from librarian.search import Hit
from librarian.sections import outline, passages, plain, split_lines
from librarian.slugs import anchors
from librarian.words import distance, pairs, words_of

PAGE = """---
title: x
# not a heading
---
# One #
text

Two
===
## Three `#a`
```md
# not in a fence
```
    # indented text is no heading
<!--
# not in a comment
-->
- item
---
> ~~~
> # quoted fence
> ~~~
####### seven
#no-space
#### Four
"""


def headings(text: str) -> list[tuple[int, str, int]]:
    return [(one.level, one.text, one.line) for one in outline(split_lines(text)).headings]


def test_headings_are_found_where_markdown_has_them() -> None:
    assert headings(PAGE) == [(1, "One", 5), (1, "Two", 8), (2, "Three `#a`", 10), (4, "Four", 25)]


def test_crlf_and_cr_count_as_one_line_end() -> None:
    assert headings("a\r\n# b\r\rc\n# d") == [(1, "b", 2), (1, "d", 5)]


def test_passages_carry_the_trail_and_the_line() -> None:
    lines = split_lines("intro\n\n# A\na1\n## B\n\nb1\n# C\nc1")
    found = [(one.line, one.trail, one.body) for one in passages(lines, outline(lines).headings)]
    assert found == [
        (1, (), "intro"),
        (3, ("A",), "# A\na1"),
        (5, ("A", "B"), "## B\n\nb1"),
        (8, ("C",), "# C\nc1"),
    ]


@given(st.lists(st.sampled_from(["", "# a", "text " * 30, "- item", "```", "x" * 9000, "===", "  ", "| a |"]), max_size=60))
def test_every_line_with_text_stands_in_a_passage_at_its_number(lines: list[str]) -> None:
    covered: dict[int, str] = {}
    for one in passages(lines, outline(lines).headings):
        for offset, line in enumerate(one.body.split("\n")):
            covered[one.line + offset] = covered.get(one.line + offset, "") + line
    assert {number: line.strip() for number, line in covered.items() if line.strip()} == {
        number: line.strip() for number, line in enumerate(lines, 1) if line.strip()
    }


@given(st.text("#`~>-*[]()<>!_= \n\\ab\"'&;:", max_size=300))
def test_no_markdown_raises(text: str) -> None:
    lines = split_lines(text)
    for heading in outline(lines).headings:
        anchors([heading.text])
    links_of(lines)
    assert len(blank_code(text)) == len(text)


def test_a_long_hostile_line_takes_no_quadratic_time() -> None:
    for text in ("`" * 200_000, "``a`" * 100_000, "[](" * 100_000, "# " + "*a" * 200_000, " " * 500_000 + "x", "<!--" * 100_000):
        lines = [text]
        outline(lines)
        links_of(lines)


@pytest.mark.parametrize(
    ("heading", "text"),
    [
        ("**Bold** and _it_ and `co_de`", "Bold and it and co_de"),
        ("snake_case_name", "snake_case_name"),
        ("[link](x.md) <b>x</b> \\*", "link x *"),
        ("a &amp; b", "a & b"),
        ("***both***", "both"),
    ],
)
def test_plain_headings(heading: str, text: str) -> None:
    assert plain(heading) == text


def test_anchors_are_those_of_github() -> None:
    found = anchors(
        ["Hello, World!", "Hello World", "Hello World 1", "Hello World", "Ünï çödé", "a  b", "`code` & more", "日本 語"]
    )
    assert found == [
        "hello-world",
        "hello-world-1",
        "hello-world-1-1",
        "hello-world-2",
        "ünï-çödé",
        "a--b",
        "code--more",
        "日本-語",
    ]
    assert anchors(["[Link](x) ![alt](y.png) _em_ snake_case 1.2"]) == ["link--em-snake_case-12"]


LINKED = r"""[a](a.md "title") and ![pic](<my pic.png>) [![in](in.png)](out.md)
[nested](a_(b).md) \[no](no.md) `[code](code.md)` ``a ` [c](c2.md)``
[ref][Label one] [undefined][nope] arr[0][1]
<a href="html.md">x</a> <img alt="q" src='img.png'> <a id="here"></a>
<!-- [comment](comment.md) -->

    [indented](indented.md)

- item

    [in a list](list.md)

```
[fence](fence.md)
```
[label  ONE]: ref.md#x
\`[real](real.md)\` [multi
line](multi.md)
"""


def test_links_outside_code_with_their_lines() -> None:
    found = links_of(split_lines(LINKED))
    assert sorted((one.line, one.target) for one in found.links) == [
        (1, "a.md"),
        (1, "in.png"),
        (1, "my pic.png"),
        (1, "out.md"),
        (2, "a_(b).md"),
        (4, "html.md"),
        (4, "img.png"),
        (11, "list.md"),
        (16, "ref.md#x"),
        (17, "real.md"),
        (18, "multi.md"),
    ]
    assert [(one.line, one.target) for one in found.undefined] == [(3, "nope")]
    assert found.anchors == {"here"}


def hit(body: str, marked: str = "") -> Hit:
    return Hit("a b.md", 10, ("H",), body, marked or body, 1.0, frozenset())


def test_a_quote_begins_behind_the_heading_at_its_own_line() -> None:
    assert quote_of(hit("## H\n\nfirst\nsecond\n")).line == 12
    assert quote_of(hit("H\n===\nfirst")).line == 12
    assert quote_of(hit("## H")).lines == ("## H",)


@given(st.lists(st.sampled_from(["", "plain", "\x02hit\x03 here", "x" * 2000 + "\x02hit\x03"]), min_size=1, max_size=80))
def test_a_quote_holds_lines_of_the_passage_and_a_match_if_there_is_one(marked: list[str]) -> None:
    body = [line.replace("\x02", "").replace("\x03", "") for line in marked]
    found = quote_of(hit("\n".join(body), "\n".join(marked)))
    for offset, line in enumerate(found.lines):
        assert line.strip("…") in body[found.line - 10 + offset]
    assert len(found.lines) <= 14
    if any("\x02" in line for line in marked):
        assert any("hit" in line for line in found.lines)


def test_names_of_files_cannot_break_out_of_the_markdown() -> None:
    assert link("a b](x).md", 3, "conversations") == "[a b\\](x).md:3](../a%20b%5D%28x%29.md#L3)"
    assert link("c/d.md", 1, "c") == "[c/d.md:1](d.md#L1)"
    assert "\n" not in escape("a\nb") and "\n" not in code("a\nb")
    assert code("a`b``c") == "```a`b``c```"
    assert code("`") == "`` ` ``"


@pytest.mark.parametrize(
    ("one", "other", "apart"), [("abc", "abc", 0), ("abc", "acb", 1), ("abc", "ab", 1), ("abc", "xyz", 3), ("", "ab", 2)]
)
def test_edit_distance(one: str, other: str, apart: int) -> None:
    assert distance(one, other, 3) == distance(other, one, 3) == apart
    assert distance(one, other, 0) == min(apart, 1)


def test_words_of_any_script() -> None:
    assert words_of("open_at(x) naïve 安装指南v2 한국어") == ["open", "at", "x", "naïve", "安装指南", "v2", "한국어"]
    assert pairs("安装指") == "安装 装指 指"
