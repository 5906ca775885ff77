"""Regions: lossless, structure only from this conversation's markers, linear."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opagent.document.markers import marker, word
from opagent.document.parse import Part, asks, draft, join, line_end, scan, tag_of
from tests.doubles.steps import grows_linearly
from tests.doubles.texts import TAG, document, ids, nasty

HEAD = b"---\nopagent: 1\nconversation: k7q2-m4x8p3\nagent: writer\n---\n"
raw = st.binary(max_size=400) | nasty.map(lambda text: text.encode("utf-8", "surrogatepass"))


@given(raw)
def test_nothing_is_lost(content: bytes) -> None:
    for each in (content, HEAD + content, b"\xef\xbb\xbf" + HEAD + content, (HEAD + content).replace(b"\n", b"\r\n")):
        assert join(scan(each)) == each
        assert join(scan(each, TAG)) == each


LINES = (
    b"<!-- op:k7q2 u1 you a -->", b"<!-- op:k7q2 a1 agent w -->", b"<!-- op:k7q2 /a1 done -->", b"<!-- op:k7q2 next -->",
    b"<!-- op:k7q2 p1 ask -->", b"<!-- op:k7q2 /p1 open -->", b"x", b"",
)  # fmt: skip


@given(st.lists(st.sampled_from(LINES), max_size=30))
def test_any_order_of_markers_is_lossless_and_ids_are_unique(lines: list[bytes]) -> None:
    content = b"\n".join(lines)
    regions = scan(content, TAG)
    assert join(regions) == content
    assert regions[0].part is Part.HEAD
    assert len({region.id for region in regions}) == len(regions)
    assert all(not region.close or region.part is Part.REPLY for region in regions)


def test_regions_of_an_exchange() -> None:
    content = document(1).content()
    head, message, reply, area = scan(content)
    assert (head.part, message.part, reply.part, area.part) == (Part.HEAD, Part.MESSAGE, Part.REPLY, Part.NEXT)
    assert (message.id, message.words[:2]) == ("u0000", ("you", "alice"))
    assert (reply.state, reply.value("re"), area.value("after")) == ("done", "u0000", "a0000")
    assert reply.tail == b"\n"


def test_markers_of_others_indented_quoted_or_doubled_are_text() -> None:
    lines = [
        b"<!-- op:zzzz u1 you x -->",
        b" <!-- op:k7q2 u1 you x -->",
        b"> <!-- op:k7q2 u1 you x -->",
        b"<!-- op:k7q2 u1 you x --> y",
        b"<!--  op:k7q2 u1 you x -->",
        b"<!-- op:k7q2 U1 you x -->",
        b"<!-- op:k7q2 u1 you \xc3\xa9 -->",
        b"<!-- op:k7q2 /a1 done -->",
        b"<!-- op:k7q2 u1 other x -->",
        b"<!-- op:k7q2 u1 -->",
    ]
    for line in lines:
        assert [region.id for region in scan(HEAD + line + b"\n", TAG)] == [""], line
    twice = b"<!-- op:k7q2 u1 you x -->\nA\n<!-- op:k7q2 u1 you x -->\nB\n"
    assert [region.id for region in scan(twice, TAG)] == ["", "u1"]


def test_markers_count_in_fences_after_carriage_returns_and_without_a_last_line_end() -> None:
    content = b"```\r\n<!-- op:k7q2 u1 you x -->  \t\r\n```\n<!-- op:k7q2 next -->"
    assert [region.id for region in scan(content, TAG)] == ["", "u1", "next"]
    assert [region.id for region in scan(b"\xef\xbb\xbf<!-- op:k7q2 u1 you x -->\n")] == ["", "u1"]
    assert scan(b"\xef\xbb\xbf<!-- op:k7q2 u1 you x -->\n")[1].words == ("you", "x")


def test_tag() -> None:
    assert tag_of(HEAD) == TAG
    assert tag_of(b"<!-- op:abcd u1 you x -->\n") == "abcd"
    assert tag_of(HEAD + b"<!-- op:abcd u1 you x -->\n") == TAG
    assert tag_of(HEAD.replace(b"conversation", b"# conversation") + b"text\n<!-- op:abcd u1 you x -->\n") == "abcd"
    assert tag_of(b"conversation: k7q2-m4x8p3\n") == tag_of(b"") == tag_of(b"\n<!-- op:ilou u1 you x -->") == ""


def test_draft_is_the_tail_and_the_area_without_heading() -> None:
    content = document(1).content() + b"Next question\n"
    assert draft(scan(content), "## Alice").strip() == b"- [ ] **Send**\nNext question"
    assert draft(scan(content.replace(b"<!-- op:k7q2 next", b"loose\n<!-- op:k7q2 next")), "## Alice").split() == (
        b"loose - [ ] **Send** Next question".split()
    )
    assert draft(scan(b"\xef\xbb\xbfonly text\n/send\n"), "## Alice") == b"only text\n/send\n"


def test_asks_inside_a_reply() -> None:
    body = b"x\n<!-- op:k7q2 p1 ask T -->\n> a\n<!-- op:k7q2 /p1 allowed -->\ny\n<!-- op:k7q2 p2 ask T -->\n> b\n"
    content = HEAD + b"<!-- op:k7q2 a1 agent w T -->\n" + body + b"<!-- op:k7q2 /a1 done -->\n"
    region = scan(content)[1]
    found = asks(region, TAG)
    assert [(ask.id, ask.outcome) for ask in found] == [("p1", "allowed"), ("p2", "")]
    assert region.body[found[0].start : found[0].end].startswith(b"<!-- op:k7q2 p1 ask")
    assert region.close


def test_line_ends() -> None:
    assert line_end(b"a\r\nb\r\nc\n") == b"\r\n"
    assert line_end(b"a\nb\r\n") == line_end(b"") == b"\n"


@given(st.text(max_size=60))
def test_any_text_fits_into_a_marker(text: str) -> None:
    line = marker(TAG, "u1", "you", "x" + word(text)).encode()
    assert scan(line, TAG)[1].id == "u1"
    assert b"--" not in line[5:-4] and line.count(b">") == 1


def test_ids_in_a_file() -> None:
    assert ids(document(3).content()) == ["", "u0000", "a0000", "u0001", "a0001", "u0002", "a0002", "next"]


def test_scanning_is_linear() -> None:
    """Whatever the bytes are; what C code does is not counted, but with a square in it 4 MB would not end."""
    opening = b"<!-- op:k7q2 a agent"
    for unit in UNITS:
        assert grows_linearly(lambda size, unit=unit: _scan(opening + unit * (size // len(unit))), 20_000), unit  # type: ignore[misc]
        _scan(opening + unit * (4_000_000 // len(unit)))


UNITS = (
    b"<!-- op:k7q2 ", b"<!-- op:k7q2 \n", b"\n", b"<!-- op:k7q2 a", b" a", b"<!-- op:k7q2 a a\n", b"\n<!-- op:k7q2 a b --> ",
    b"a",
)  # fmt: skip


def _scan(content: bytes) -> None:
    assert join(scan(content, TAG)) == content
    tag_of(content)
