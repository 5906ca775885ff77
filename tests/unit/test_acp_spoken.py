"""Content blocks of a prompt as a message: no word is lost, files of the directory are mentioned so that they are attached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from opagent.acp.spoken import Behind, File, Image, joined, pieces
from opagent.document.mentions import mentions
from opagent.errors import Usage

HERE = "/srv/docs"
Block = dict[str, Any]


def never(path: str, text: str) -> bool:
    return False


def text(words: str) -> Block:
    return {"type": "text", "text": words}


def link(uri: str, name: str = "") -> Block:
    return {"type": "resource_link", "uri": uri, "name": name}


def told(*blocks: Block, same: bool = False) -> str:
    return joined(pieces(blocks, HERE, lambda path, words: same), lambda image: f"images/{image.data}.png")


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([text("look at "), link("file:///srv/docs/a.md"), text(" and say")], "look at @a.md and say"),
        ([text("look at"), link("file:///srv/docs/a.md")], "look at @a.md"),
        ([link("file:///srv/docs/a.md"), text(", please")], '@"a.md", please'),
        ([link("file:///srv/docs/a%20b.md")], '@"a b.md"'),
        ([link("file:///srv/docs/ü.md")], "@ü.md"),
        ([link("file:///srv/docs/.")], '@"."'),
        ([link("file:///etc/passwd", "passwd")], "[passwd](<file:///etc/passwd>)"),
        ([link("file:///srv/docs/../x", "x")], "[x](<file:///srv/docs/../x>)"),
        ([link("https://example.org/[a]", "[a]")], "[(a)](<https://example.org/[a]>)"),
        ([text("see"), {"type": "image", "mimeType": "image/png", "data": "d"}], "see\n\n![image](images/d.png)"),
        ([{"type": "resource", "resource": {"uri": "file:///srv/docs/a.py#L3", "text": "x\n"}}], "@a.py\n\nFrom a.py (L3):\n\n```py\nx\n```"),
        ([{"type": "resource", "resource": {"uri": "file:///srv/docs/a.bin", "blob": "AA=="}}], "@a.bin"),
        ([{"type": "resource", "resource": {"uri": "zed:///rule", "text": "````"}}], "[rule](<zed:///rule>)\n\nFrom zed:///rule:\n\n`````\n````\n`````"),
    ],
)  # fmt: skip
def test_blocks(blocks: list[Block], message: str) -> None:
    assert told(*blocks) == message


def test_a_text_that_is_just_the_file_is_only_mentioned() -> None:
    block = {"type": "resource", "resource": {"uri": "file:///srv/docs/a.md", "text": "same"}}
    assert told(block, same=True) == "@a.md"
    assert "same" in told(block)
    part = {"type": "resource", "resource": {"uri": "file:///srv/docs/a.md?symbol=x", "text": "same"}}
    assert "same" in told(part, same=True)


@pytest.mark.parametrize("block", [{"type": "audio"}, {"type": "new"}, {}, 5])
def test_what_is_not_taken(block: Any) -> None:
    with pytest.raises(Usage):
        pieces([block], HERE, never)


WORDS = st.text(
    st.characters(codec="utf-8", exclude_characters="`@![]<>\\&*_~#\x00", exclude_categories=["Cc", "Cs", "Zl", "Zp"]),
    max_size=12,
)
NAMES = st.text(st.sampled_from("ab1 .,-_üé/()'"), min_size=1, max_size=10)


@given(before=WORDS, name=NAMES, after=WORDS)
def test_a_file_that_is_named_is_mentioned_whatever_stands_around(before: str, name: str, after: str) -> None:
    assume("//" not in name and not name.startswith(("/", " ")) and not name.endswith(" ") and "/../" not in f"/{name}/")
    assume(not before.startswith((" ", "\t")) and before.strip() == before.lstrip())
    found = joined([f"say {before}", File(name), after], lambda image: "")
    assert name in [path for mention in mentions(found) for path in mention.paths]


@given(st.lists(st.one_of(WORDS, st.builds(Behind, WORDS), st.builds(Image, st.just("image/png"), st.just("x")))))
def test_no_word_is_lost(found: list[Any]) -> None:
    message = joined(found, lambda image: "images/x.png")
    for piece in found:
        words = piece if isinstance(piece, str) else piece.text if isinstance(piece, Behind) else "images/x.png"
        assert words.strip() in message


def test_a_path_of_the_directory_itself() -> None:
    assert told(link(Path("/srv/docs").as_uri(), "docs")) == "[docs](<file:///srv/docs>)"
