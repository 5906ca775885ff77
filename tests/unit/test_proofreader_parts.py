"""The pure parts of the proofreader that need no library: what is prose in a text, and what stays where it was."""

import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "runtimes" / "proofreader"))

from proofreader import checks, prose, request
from proofreader.checks import Finding
from proofreader.files import decode

MARKUP = st.lists(
    st.sampled_from(
        ["teh ", "`", "```", "\n", "\r\n", "    ", "<", ">", "<!--", "-->", "[", "](", ")", "http://a/", "---", "~~~", "@", "_"]
    )
)


@given(MARKUP.map("".join), st.booleans())
def test_what_is_hidden_becomes_spaces_and_nothing_moves(text: str, markdown: bool) -> None:
    shown = prose.visible(text, markdown)
    assert len(shown) == len(text)
    assert all(now == was or (now == " " and was not in "\r\n") for now, was in zip(shown, text, strict=True))


@pytest.mark.parametrize("piece", ["`", "<a", "[", "a-", "<!--", "``` ", "[a](", "a_", "/a", "a@", "&a", "\\", "    a\n\n"])
def test_no_text_takes_for_ever(piece: str) -> None:
    """A megabyte that was made to be slow: what takes the square of it would not end within the time of a test."""
    text = piece * ((1 << 20) // len(piece))
    assert len(prose.visible(text, True)) == len(text)


@given(st.text(max_size=200), st.sampled_from(["utf-8", "utf-16-le", "utf-16-be"]), st.booleans())
def test_a_file_that_is_not_changed_stays_as_it_was(text: str, encoding: str, mark: bool) -> None:
    boms = {"utf-8": b"\xef\xbb\xbf" if mark else b"", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}
    data = boms[encoding] + text.replace("\0", "").encode(encoding)
    found = decode("a.md", data)
    assert found.encoded(found.text) == data


@given(st.binary(max_size=100))
def test_every_byte_of_what_is_no_unicode_is_kept(data: bytes) -> None:
    data = b"\xe9 " + data.replace(b"\0", b"")
    found = decode("a.txt", data)
    assert found.encoded(found.text) == data


@given(st.text("ab \n", max_size=80), st.data())
def test_only_what_is_sure_is_corrected(text: str, data: st.DataObject) -> None:
    found = [
        Finding(word.start(), word.end(), "spelling", "", ("X",), data.draw(st.booleans())) for word in re.finditer("[ab]+", text)
    ]
    sure = {each.start for each in found if each.sure}
    expected = re.sub("[ab]+", lambda word: "X" if word.start() in sure else word[0], text)
    assert checks.corrected(text, found) == (expected, len(sure))


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        ("check", False),
        ("check . and fix", True),
        ("please correct README.md", True),
        ("don't fix anything", False),
        ("no changes, check", False),
    ],
)
def test_what_is_asked_for(tmp_path: Path, words: str, fix: bool) -> None:
    assert request.read([{"type": "text", "text": words}], str(tmp_path)).fix == fix


@given(st.lists(st.dictionaries(st.sampled_from(["type", "text", "uri", "resource"]), st.text(max_size=20) | st.none())))
def test_any_prompt_is_read(blocks: list[object]) -> None:
    request.read(blocks, "/nowhere/at/all")
