"""Properties of the conversation file over the whole way of an agent's text: redacted, rendered, written, read again.

The numbers are those of the design; what is not here stands beside what it tests: 1 and 17 in test_document_parse.py, 2 and 8
in test_document_text.py, 15 in test_document_edit.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from opagent.daemon.redaction import Known, Redaction
from opagent.document.clean import clean
from opagent.document.edit import new
from opagent.document.markers import unescape
from opagent.document.parse import scan
from opagent.document.render import Look, Reply
from opagent.model import Kind, TurnId
from opagent.policy.spellings import spellings
from opagent.store.events import Draft
from tests.doubles.texts import FRAGMENTS, HEADER, TAG, event, ids, nasty, opening

SECRET = "p1ant/d-V4lue+7Qz=x9"
KNOWN = Known()
KNOWN.learn({"API_TOKEN": SECRET})
pieces = [SECRET, *sorted(spellings(SECRET)), SECRET[:9], SECRET[9:], "\r", "\x1b[1m", "\x1b[", "p1ant", "AKIA", *FRAGMENTS]
secretive = st.lists(st.sampled_from(pieces), max_size=30).map("".join)


def written(chunks: Sequence[str], number: int = 0) -> Reply:
    """The chunks of one turn as they reach the file."""
    turn = TurnId(f"a{number:04}")
    redaction, reply = Redaction(KNOWN), Reply(TAG, "Writer", Look())
    drafts = [Draft(Kind.TEXT, turn, {"text": chunk}) for chunk in chunks]
    for one in [*drafts, Draft(Kind.TURN_STATE, turn, {"state": "done"})]:
        for draft in redaction.drafts([one]):
            reply.apply(event(draft.kind.value, draft.body, turn))
    return reply


@given(st.lists(st.lists(nasty, max_size=4), min_size=1, max_size=4), st.sampled_from([b"\n", b"\r\n"]))
def test_3_ids_found_are_ids_written_and_text_stands_as_cleaned(turns: list[list[str]], eol: bytes) -> None:
    document = new(HEADER, "alice")
    for number, chunks in enumerate(turns):
        reply = written(chunks, number)
        document = document.begin(opening(number)).put(f"a{number:04}", reply.body(), reply.end())
    content = document.content()
    assert ids(content) == ["", *(f"{letter}{number:04}" for number in range(len(turns)) for letter in "ua"), "next"]
    for chunks, region in zip(turns, scan(content)[2::2], strict=True):
        heading, _, body = region.body.decode().partition("\n\n")
        assert heading.startswith("## Writer") and unescape(body).startswith(clean("".join(chunks)).removesuffix("\n"))


@given(secretive, st.lists(st.integers(0, 400), max_size=12), st.booleans())
def test_4_any_cutting_gives_the_same_bytes(text: str, places: list[int], each: bool) -> None:
    """Inside line ends, escape sequences, characters, markers and secrets."""
    cuts = sorted({min(place, len(text)) for place in places})
    chunks = list(text) if each else [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    base = new(HEADER, "alice").begin(opening(0))
    one, other = written([text]), written(chunks)
    content = base.put("a0000", other.body(), other.end()).content()
    assert content == base.put("a0000", one.body(), one.end()).content()
    assert SECRET.encode() not in content
