"""The corpus, where a file would be too large to keep: documents of 10 MB, lines of 5 MB, bytes that are no text; made here."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from opagent.daemon.redaction import Known, Redaction
from opagent.document.clean import clean
from opagent.document.draft import Gesture, read
from opagent.document.edit import load, new
from opagent.document.history import history
from opagent.document.markers import unescape
from opagent.document.parse import draft, join, rescan, scan
from opagent.document.render import Look, Reply
from opagent.model import Kind, TurnId
from opagent.store.events import Draft
from tests.doubles.texts import AT, HEADER, TAG, document, event, ids, opening

MB = 1 << 20
WELL = document(1).content()  # a turn and an empty draft
NUMBERS = random.Random(7)


def turns(count: int, size: int) -> bytes:
    """Turns one after the other, as bytes: what `document` makes, without its cost for each."""
    head, message, reply, area = (region.raw for region in scan(document(1, size).content()))
    one = message + reply
    return head + b"".join(one.replace(b"0000", b"%04d" % number) for number in range(count)) + area


# what stands in the draft of a file with one turn
DRAFTS: dict[str, Callable[[], bytes]] = {
    "one line of 5 MB": lambda: b"x" * (5 * MB),
    "one line of 5 MB and a gesture": lambda: b"x" * (5 * MB) + b"\n/send\n",
    "10 MB of words": lambda: b"some words of a person\n" * (10 * MB // 23),
    "line ends": lambda: b"\n" * (5 * MB),
    "carriage returns": lambda: b"\r" * (5 * MB),
    "crlf": lambda: b"\r\n" * (2 * MB),
    "blanks": lambda: b" " * (5 * MB),
    "NULs": lambda: b"\0" * (5 * MB),
    "bytes of no kind": lambda: NUMBERS.randbytes(5 * MB).replace(b"<!-- op:", b""),
    "continuation bytes": lambda: b"\x80" * (5 * MB),
    "right to left": lambda: "שלום מרחבא ".encode() * 200_000,
    "zero width": lambda: "\u200b\u200d\ufeff".encode() * 500_000,
    "beginnings of markers": lambda: b"<!-- op:k7q2 " * 400_000,
    "lines that begin like markers": lambda: b"<!-- op:k7q2 u\n" * 300_000,
    "markers that were there": lambda: b"<!-- op:k7q2 u0000 you alice -->\n" * 100_000,
    "markers of another": lambda: b"<!-- op:zzzz u0000 you alice -->\n" * 100_000,
    "gestures": lambda: b"/send\n\n" * 500_000,
    "boxes": lambda: b"- [x] **Send**\n" * 50_000,
    "notes": lambda: b"> [!NOTE]\n> x <!-- op -->\n" * 20_000,
    "quotes": lambda: b"> " * MB,
    "front matters": lambda: b"---\nopagent: 1\n---\n" * 200_000,
}


@pytest.mark.parametrize("name", DRAFTS)
def test_a_large_draft(name: str) -> None:
    text = DRAFTS[name]()
    content = WELL.replace(b"- [ ] **Send**\n", b"") + text
    regions = scan(content, TAG)
    assert join(regions) == content and [region.id for region in regions] == ["", "u0000", "a0000", "next"]
    assert rescan(scan(WELL, TAG), WELL, content, TAG) == regions
    said = read(draft(regions, "## Alice"))
    sends = {"one line of 5 MB and a gesture", "gestures", "boxes"}
    assert (said.gesture is Gesture.SEND) == (name in sends)
    if "blank" not in name and "notes" not in name and name not in sends and said.text.strip():
        assert said.text.strip() in text
    after = load(content, tag=TAG).begin(opening(1)).put("a0001", "Answer\n", ("done", AT)).content()
    assert ids(after) == ["", "u0000", "a0000", "u0001", "a0001", "next"]
    assert text.strip(b"\r\n") in after


@pytest.mark.parametrize(("count", "size"), [(2_500, 4_000), (40_000, 60), (2, 5_000_000)])
def test_a_file_of_ten_megabytes(count: int, size: int) -> None:
    content = turns(count, size)
    assert len(content) > 9 * MB
    regions = scan(content, TAG)
    assert join(regions) == content and len(regions) == 2 * count + 2
    more = load(content, tag=TAG).begin(opening(count)).put(f"a{count:04}", "Answer\n", ("done", AT))
    after = more.content()
    assert after.startswith(content[: content.rindex(b"\n<!-- op:k7q2 next")])
    assert rescan(regions, content, after, TAG) == scan(after, TAG)


# what an agent says, in chunks of 64 kB
REPLIES: dict[str, Callable[[], str]] = {
    "one line of 5 MB": lambda: "x" * (5 * MB),
    "one line of 10 MB with words": lambda: "word " * (2 * MB),
    "right to left": lambda: "مرحبا שלום " * 200_000,
    "zero width": lambda: "a\u200b\u202e" * 300_000,
    "markers": lambda: "<!-- op:k7q2 next -->\n" * 100_000,
    "markers behind carriage returns": lambda: "\r<!-- op:k7q2 u9999 you eve -->" * 50_000,
    "escape sequences": lambda: "\x1b[31mred\x1b[0m\r\n" * 100_000,
    "escape sequences without an end": lambda: "\x1b]" * 300_000,
    "NULs": lambda: "\0" * MB,
    "halves of characters": lambda: "\ud83d" * 300_000,
    "fences": lambda: "```\n" * 100_001,
    "open comments": lambda: "<!-- a\n" * 100_000,
    "details": lambda: "<details>\n" * 5_000,
    "headings": lambda: "## Alice\n\n/send\n\n" * 50_000,
    "beginnings of secrets": lambda: "sk-" * 300_000 + "-----BEGIN " * 50_000 + "eyJ" * 200_000,
    "a private key without an end": lambda: "-----BEGIN PRIVATE" + " KEY-----\n" + ("A" * 64 + "\n") * 20_000,
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_large_reply(name: str) -> None:
    text = REPLIES[name]()
    redaction, reply = Redaction(Known()), Reply(TAG, "Writer", Look())
    said: list[str] = []
    for start in range(0, len(text) + 1, 64_000):
        chunk = Draft(Kind.TEXT, TurnId("a0000"), {"text": text[start : start + 64_000]})
        said += [each.body["text"] for each in redaction.drafts([chunk])]
    end = Draft(Kind.TURN_STATE, TurnId("a0000"), {"state": "done"})
    said += [each.body["text"] for each in redaction.drafts([end])[:-1]]
    for piece in said:
        reply.apply(event("text", {"text": piece}, "a0000"))
    reply.apply(event("turn_state", {"state": "done"}, "a0000"))
    shown = "".join(said)
    assert shown == (clean(text) if "private key" not in name else "«redacted:private key»\n")
    assert unescape(reply.body()).startswith(shown)
    content = new(HEADER, "alice").begin(opening(0)).put("a0000", reply.body(), reply.end()).begin(opening(1)).content()
    assert ids(content) == ["", "u0000", "a0000", "u0001", "a0001", "next"]
    assert [each.author for each in history(content) if each.reply][:1] == ["writer"] or not shown.strip()
