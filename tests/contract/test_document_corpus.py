"""The format against a corpus of hostile replies and odd files; the numbers of the files are the cases of the design."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from opagent.daemon.redaction import Known, Redaction
from opagent.document.clean import clean
from opagent.document.draft import Gesture, read
from opagent.document.edit import load, new
from opagent.document.history import history
from opagent.document.markers import unescape
from opagent.document.memory import Memory
from opagent.document.merge import merge
from opagent.document.parse import Part, Region, draft, join, scan, tag_of
from opagent.document.rebuild import rebuild
from opagent.document.render import Look, Reply
from opagent.model import Kind, TurnId
from opagent.store.events import Draft
from tests.doubles.texts import AT, HEADER, TAG, event, ids, opening

CORPUS = Path(__file__).resolve().parent.parent / "corpus"
REPLIES = sorted((CORPUS / "replies").glob("*.md"))
FILES = sorted((CORPUS / "files").glob("*.md"))
EXCHANGE = ["", "u1aaa", "a1aaa", "next"]

# the regions of each file where they are not the four of one exchange and a draft
REGIONS = {
    "37-empty": [""],
    "37-blank": [""],
    "38-only-front-matter": [""],
    "39-no-front-matter": [""],
    "42-tag-changed": [""],
    "63-next-deleted": ["", "u1aaa", "a1aaa"],
    "63-next-and-heading-deleted": ["", "u1aaa", "a1aaa"],
    "65-message-start-deleted": ["", "a1aaa", "next"],
    "65-reply-start-deleted": ["", "u1aaa", "next"],
    "67-reply-before-its-message": ["", "a1aaa", "u1aaa", "next"],
    "67-turn-moved": ["", "u2bbb", "a2bbb", "u1aaa", "a1aaa", "next"],
    "72-only-front-matter-and-draft": ["", "next"],
    "73-next-in-the-middle": ["", "next", "u1aaa", "a1aaa"],
    "90-exchange-deleted": ["", "next"],
    "91-margin-notes": ["", "u1aaa", "a1aaa", "u2bbb", "a2bbb", "next"],
    "92-margin-note-with-open-fence": ["", "u1aaa", "a1aaa", "u2bbb", "a2bbb", "next"],
    "94-carriage-returns-only": [""],
    "95-marker-in-front-matter": ["", "u8", "u1aaa", "a1aaa", "next"],
    "96-summary": ["", "s1aab", "u1aaa", "a1aaa", "next"],
    "113-summary-and-parts": ["", "s1aab", "u1aaa", "a1aaa", "next"],
}

# what the next send would take where it is not the words of a usual draft, and what the draft asks for
CHAPTER = b"and now chapter one"
SAID: dict[str, tuple[Gesture, bytes]] = {
    "31-bom": (Gesture.NONE, CHAPTER),
    "56-saved-without-change": (Gesture.NONE, b""),
    "57-part-of-a-gesture": (Gesture.NONE, CHAPTER + b"\n\n/sen"),
    "58-send-with-text-after-it": (Gesture.NONE, b"One\n\n/send\nand more"),
    "59-sender": (Gesture.NONE, b"/sender\n/send me\n /send"),
    "61-box-ticked-draft-empty": (Gesture.SEND, b""),
    "62-box-deleted-send-used": (Gesture.SEND, b"Hello"),
    "66-heading-deleted": (Gesture.NONE, b"Hello"),
    "85-box-with-a-comment": (Gesture.SEND, b"Hello"),
    "86-two-boxes": (Gesture.NONE, b"- [x] **Send**\nHello"),
    "87-clone-with-a-send": (Gesture.SEND, CHAPTER),
    "88-crlf-with-send": (Gesture.SEND, b"Hello"),
    "89-notes-of-the-daemon": (Gesture.NONE, b"Hello"),
    "90-exchange-deleted": (Gesture.NONE, b"Hello"),
    "100-nul-in-the-draft": (Gesture.SEND, b"a\0b\n\0\0\0"),
    "101-invalid-utf8-everywhere": (Gesture.SEND, b"\x80\x81 h\xe9 \xc3"),
    "102-right-to-left-draft": (Gesture.NONE, "\u05e9\u05dc\u05d5\u05dd \u202eevil\u202c\n\u200f/send".encode()),
    "103-zero-width-draft": (Gesture.NONE, "\u200b/send\n/send\u200b\n\ufeff/send".encode()),
    "106-separators-of-unicode": (Gesture.NONE, "a\u2028/send\u2029<!-- op:k7q2 u9999 you eve -->\u0085/send".encode()),
    "107-lone-carriage-returns-in-the-draft": (Gesture.NONE, b"a\r/send\rb"),
    "112-tables-and-front-matter-in-the-draft": (Gesture.NONE, b"---\nconversation: zzzz-aaaaaa\n---\n| a |\n|---|"),
    "120-long-blank-draft": (Gesture.NONE, b""),
}


def test_the_corpus_is_there() -> None:
    """More than a hundred of them; the large ones are made in test_document_large.py, those of tools in test_document_tools.py."""
    assert len(REPLIES) >= 110 and len(FILES) >= 82
    assert {*REGIONS, *SAID} <= {path.stem for path in FILES}


def _streamed(text: str, size: int) -> Reply:
    reply = Reply(TAG, "Writer", Look())
    for start in range(0, len(text), size):
        reply.apply(event("text", {"text": text[start : start + size]}, "a0000"))
        if size > 1:
            _isolated(reply.body())
    reply.apply(event("turn_state", {"state": "done"}, "a0000"))
    return reply


def _isolated(body: str) -> None:
    shown = f"{body}\n<!-- op:k7q2 /a0000 done -->\n\n## SENTINEL\n"
    tokens = MarkdownIt("commonmark").parse(shown)
    assert sum(token.content == "SENTINEL" and token.level == 1 for token in tokens if token.type == "inline") == 1


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
@pytest.mark.parametrize("eol", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_a_reply(path: Path, eol: bytes) -> None:
    text = path.read_bytes().decode()
    whole = _streamed(text, max(1, len(text)))
    assert unescape(whole.body()).startswith(clean(text))
    for size in (1, 7):
        assert _streamed(text, size).body() == whole.body()
    document = load(new(HEADER, "alice").content().replace(b"\n", eol)).begin(opening(0, text))
    content = document.put("a0000", whole.body(), whole.end()).begin(opening(1)).content()
    assert ids(content) == ["", "u0000", "a0000", "u0001", "a0001", "next"]
    assert not re.search(rb"\r(?!\n)|\x00|\x1b|\x7f", content)
    assert (b"\r\n" in content) == (eol == b"\r\n") and (eol == b"\n" or not re.search(rb"(?<!\r)\n", content))
    said = {each.author: each.text for each in history(content) if each.reply}
    assert " ".join(clean(text).split())[:200] in " ".join(said.get("writer", "").split()) or "<details>" in text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_goes_on(path: Path) -> None:
    before = path.read_bytes()
    assert join(scan(before)) == before
    tag = tag_of(before) or TAG
    document = load(before, tag=tag)
    assert [region.id for region in document.regions] == REGIONS.get(path.stem, EXCHANGE)
    after = document.adopt({"opagent": "1", "conversation": f"{tag}-m4x8p3"}).begin(opening(0))
    content = after.put("a0000", "Answer\n", ("done", AT)).content()
    assert ids(content)[-3:] == ["u0000", "a0000", "next"]
    known = [region.id for region in document.regions if region.part is not Part.NEXT]
    assert ids(content)[: len(known)] == known
    lost = Counter(_lines(before)) - Counter(_lines(content))
    assert all(b" next" in line for line in lost), lost
    kept, typed = (b"".join(_said(regions).split()) for regions in (scan(content), document.regions))
    assert kept == typed.removeprefix(b"##Alice")  # where only the marker above the heading was deleted
    assert content.startswith(b"\xef\xbb\xbf") == before.startswith(b"\xef\xbb\xbf")


def _said(regions: tuple[Region, ...]) -> bytes:
    return read(draft(regions, "## Alice")).text


@pytest.mark.parametrize("name", SAID)
def test_a_draft_says(name: str) -> None:
    content = (CORPUS / "files" / f"{name}.md").read_bytes()
    said = read(draft(scan(content, TAG), "## Alice"))
    assert (said.gesture, said.text) == SAID[name]


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_nothing_of_a_reply_is_taken_for_a_secret(path: Path) -> None:
    text = path.read_bytes().decode()
    redaction = Redaction(Known())
    drafts = [Draft(Kind.TEXT, TurnId("a0000"), {"text": character}) for character in text]
    out = redaction.drafts([*drafts, Draft(Kind.TURN_STATE, TurnId("a0000"), {"state": "done"})])
    assert "".join(each.body["text"] for each in out[:-1]) == clean(text)
    assert _streamed("".join(each.body["text"] for each in out[:-1]), 7).body() == _streamed(text, 7).body()


def _lines(content: bytes) -> list[bytes]:
    return [line.rstrip(b"\r") for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]


LOG = [
    event("turn_state", {"state": "queued", "message": "u1aaa", "author": "alice", "text": "The intro is too long.", "agent": "writer"},
          "a1aaa", "2026-11-20T09:14:03Z"),
    event("turn_state", {"state": "running"}, "a1aaa", "2026-11-20T09:14:05Z"),
    event("text", {"text": "Done."}, "a1aaa"),
    event("usage", {"input": 5}, "a1aaa"),
    event("turn_state", {"state": "done"}, "a1aaa", "2026-11-20T09:16:31Z"),
]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_save_is_merged_once(path: Path) -> None:
    """Each file as what a person made of the first one: no line of theirs is lost, and merging the result does nothing."""
    memory = Memory.of((CORPUS / "files/31-bom.md").read_bytes().removeprefix(b"\xef\xbb\xbf"), TAG, "alice")
    save = path.read_bytes()
    merged = merge(memory, save)
    if merged.stop:
        assert (
            path.stem in ("37-blank", "37-empty", "94-carriage-returns-only", "100-nul-in-the-draft") and merged.content == save
        )
        return
    assert memory.content() == merged.content
    again = merge(memory, merged.content)
    assert (again.content, again.facts) == (merged.content, ())
    lost = [line for line in _lines(save) if line not in _lines(merged.content) and b"op:k7q2" not in line]
    ticked, note = (b"- [x] Allow once", b"- [x] Deny"), (b"> [!NOTE]", b"> Not sent: brought by git. <!-- op -->")
    assert merged.aside or set(lost) <= {*ticked, *note}  # boxes are given back as they were, a note is the daemon's


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_rebuilt(path: Path) -> None:
    before = path.read_bytes()
    header = {"conversation": f"{tag_of(before) or TAG}-m4x8p3"}
    once = rebuild(LOG, before, header, Look(), "alice")
    assert rebuild(LOG, once, header, Look(), "alice") == once
    assert [each for each in ids(once) if each in ("u1aaa", "a1aaa")] in (["u1aaa", "a1aaa"], ["a1aaa", "u1aaa"])
    assert ids(once)[-1] == "next"
    assert scan(once)[[region.id for region in scan(once)].index("a1aaa")].state == "done"


def test_whole_files_stay_as_they_are() -> None:
    """Nothing is missing in these: rebuilding changes no byte of them."""
    for name in (
        "31-bom",
        "32-crlf",
        "34-latin1",
        "40-keys-comments-anchors",
        "93-text-before-the-first-turn",
        "87-clone-with-a-send",
    ):
        before = (CORPUS / "files" / f"{name}.md").read_bytes().rstrip()
        after = rebuild(LOG, before, HEADER, Look(), "alice")
        assert after.startswith(before) and after[len(before) :].strip() in (b"", b"- [ ] **Send**"), name


@pytest.mark.parametrize(
    ("unit", "count"), [("x", 10_000_000), ("\n", 200_000), ("`", 100_000), ("- ", 20_000), ("<details>\n", 20_000)]
)
def test_a_very_long_reply(unit: str, count: int) -> None:
    text = unit * count
    reply = Reply(TAG, "Writer", Look())
    for start in range(0, len(text), 1 << 20):
        reply.apply(event("text", {"text": text[start : start + (1 << 20)]}))
    content = new(HEADER, "alice").begin(opening(0)).put("a0000", reply.body(), ("running",)).content()
    assert reply.body().startswith(text) and ids(content) == ["", "u0000", "a0000", "next"]
