"""The pure parts of the proxy: names of hosts, heads, bodies and the counts of tokens, with whatever may be thrown at them."""

from __future__ import annotations

import ipaddress
import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opagent.daemon.connecting import MOST_REFUSALS, REFUSALS_WITHIN, Refusals
from opagent.policy import address
from opagent.process.httpbody import Answer, Chunked, of_length
from opagent.process.httprequest import Malformed, Way, onward, parse, swapped
from opagent.process.metering import LINE_LIMIT, WHOLE_LIMIT, Meter

HOSTILE = st.text(st.sampled_from("aZ09.-_:[]@/\\%xf \t\r\n\0\u3002\u00e9\u0130\u2488"), max_size=40)


# ---- names ---------------------------------------------------------------------------------------------------------------------


@given(HOSTILE)
@example("127.0.0.1.")
@example("\uff11\uff12\uff17.0.0.1")
@example("0x7f.1")
def test_a_name_has_one_form_or_none(text: str) -> None:
    try:
        host, port = address.authority(text, 443)
    except ValueError:
        return
    assert address.authority(address.shown(host, port), 1) == (host, port)
    assert host == host.lower()
    assert host.isascii()
    assert not set(host) & set("@/\\% \t\r\n\0[]")
    assert 0 < port < 65536
    last = host.rsplit(".", 1)[-1]
    if last.isdigit() or last.startswith("0x") or ":" in host:
        assert str(ipaddress.ip_address(host)) == host, "what a resolver would take for an address is one, in its usual form"


@given(st.integers(0, 2**32 - 1))
def test_an_address_is_as_private_in_every_spelling_of_the_newer_kind(number: int) -> None:
    four = ipaddress.IPv4Address(number)
    assert address.public(ipaddress.IPv6Address(f"::ffff:{four}")) == address.public(four)
    assert address.public(ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) + number)) == address.public(four)
    assert not address.public(ipaddress.IPv6Address(number)), "an old way to write it"
    assert not address.public(ipaddress.IPv6Address((0x2002 << 112) + (number << 80))), "6to4"
    if address.public(four):
        assert four.is_global
    assert address.authority(f"[::ffff:{four}]", 443) == (str(four), 443)


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::200e"])
def test_an_address_of_everybody(text: str) -> None:
    assert address.public(ipaddress.ip_address(text))


# ---- heads ---------------------------------------------------------------------------------------------------------------------


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"GET http://a.example/", b"POST http://a.example/ HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\n"]),
)
def test_a_head_is_taken_apart_or_refused(junk: bytes, start: bytes) -> None:
    try:
        request = parse(start + junk + b"\r\n\r\n")
    except Malformed:
        return
    head = onward(request, "a.example", request.path or "/", request.headers)
    assert head.count(b"\r\n\r\n") == 1
    assert head.endswith(b"\r\n\r\n")
    again = parse(head.replace(b" /", b" http://a.example/", 1)) if request.way is Way.PLAIN else None
    assert again is None or again.length == request.length, "the host reads the length that we read"


TOKEN, SECRET = "opagent-00ff", "s3cret-and-long"


def test_a_secret_is_put_in_whatever_header_holds_the_token() -> None:
    headers = [("authorization", f"Bearer {TOKEN}"), ("x-api-key", TOKEN), ("accept", "*/*"), ("authorization", "Basic !")]
    out, there = swapped(headers, TOKEN, SECRET)
    assert there
    assert out == [("authorization", f"Bearer {SECRET}"), ("x-api-key", SECRET), ("accept", "*/*"), ("authorization", "Basic !")]
    assert swapped([("accept", "*/*")], TOKEN, SECRET) == ([("accept", "*/*")], False)


# ---- bodies --------------------------------------------------------------------------------------------------------------------


def in_chunks(content: bytes, sizes: list[int]) -> bytes:
    out, place = b"", 0
    for size in sizes:
        if piece := content[place : place + size]:
            out += b"%x;q=1\r\n%s\r\n" % (len(piece), piece)
            place += len(piece)
    rest = content[place:]
    return out + (b"%X\r\n%s\r\n" % (len(rest), rest) if rest else b"") + b"0\r\ntrailer: x\r\n\r\n"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@given(
    st.binary(max_size=300),
    st.lists(st.integers(1, 50), max_size=5),
    st.lists(st.integers(0, 999), max_size=8),
    st.binary(max_size=20),
)
def test_a_body_in_chunks_ends_where_it_says_however_it_comes(
    content: bytes, sizes: list[int], places: list[int], after: bytes
) -> None:
    body, wire, held, used = Chunked(), in_chunks(content, sizes), b"", 0
    for piece in cut(wire + after, places):
        if body.done:
            break
        count, part = body.feed(piece)
        held += part
        used += count
    assert (body.done, held, used) == (True, content, len(wire))


@given(st.binary(max_size=60))
def test_chunks_are_refused_or_read_never_anything_else(junk: bytes) -> None:
    body = Chunked()
    try:
        count, _ = body.feed(junk)
    except Malformed:
        return
    assert count == len(junk) or body.done


def test_a_counted_body() -> None:
    body = of_length(3)
    assert (body.feed(b"ab"), body.done) == ((2, b"ab"), False)
    assert (body.feed(b"cdef"), body.done) == ((1, b"c"), True)
    assert of_length(0).done


@given(st.binary(max_size=200), st.lists(st.integers(0, 999), max_size=8), st.sampled_from(["count", "chunks", "end"]))
def test_an_answer_goes_on_as_it_is_but_for_the_connection(content: bytes, places: list[int], form: str) -> None:
    said = {"count": f"content-length: {len(content)}", "chunks": "Transfer-Encoding: chunked", "end": "x: y"}[form]
    wire = in_chunks(content, [7, 30]) if form == "chunks" else content
    head = f"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n{said}\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\n\r\n".encode()
    heard: list[bytes] = []
    answer = Answer("GET", heard.append)
    out = b"".join(answer.feed(piece) for piece in cut(head + wire, places))
    assert answer.status == 200
    assert b"".join(heard) == content
    assert answer.done or form == "end"
    want = f"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n{said}\r\nconnection: close\r\n\r\n".encode()
    assert out == want + wire


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 101 Other\r\n\r\n", b"NO\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"]
)
def test_an_answer_that_is_none(head: bytes) -> None:
    with pytest.raises(Malformed):
        Answer("GET", lambda _: None).feed(head)


def test_an_answer_to_head_has_no_body() -> None:
    answer = Answer("HEAD", lambda _: None)
    answer.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
    assert answer.done


# ---- tokens --------------------------------------------------------------------------------------------------------------------

PATHS = ("usage.input_tokens", "usage.output_tokens")


def counted(content: bytes, streamed: bool, places: list[int], paths: tuple[str, ...] = PATHS) -> tuple[int | None, int | None]:
    meter = Meter(paths)
    meter.streamed = streamed
    for piece in cut(content, places):
        meter.feed(piece)
    return meter.counts()


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.lists(st.integers(0, 999), max_size=8))
def test_tokens_are_counted_whole_and_streamed(into: int, out: int, places: list[int]) -> None:
    whole = json.dumps({"content": ["output_tokens"], "usage": {"input_tokens": into, "output_tokens": out}}).encode()
    assert counted(whole, False, places) == (into, out)
    start = json.dumps({"type": "message_start", "message": {"usage": {"input_tokens": into, "output_tokens": min(1, out)}}})
    end = json.dumps({"type": "message_delta", "usage": {"output_tokens": out}})
    events = f"event: a\r\ndata: {start}\r\n\r\n: comment\n\ndata:{end}\n\ndata: [DONE]\n\n".encode()
    assert counted(events, True, places) == (into, out)
    done = f"data: {json.dumps({'response': {'usage': {'input_tokens': into, 'output_tokens': out}}})}".encode()
    assert counted(done, True, places) == (into, out)
    listed = json.dumps([{"usage": {"input_tokens": into}}, {"usage": {"input_tokens": into, "output_tokens": out}}]).encode()
    assert counted(listed, False, places) == (into, out)


@pytest.mark.parametrize("number", ["-1", "true", "1e18", "NaN", '"7"', "null", "1000000000000000000000", "{}", "[1]"])
def test_what_is_no_count_is_none(number: str) -> None:
    assert counted(b'{"usage": {"input_tokens": %s, "output_tokens": 3}}' % number.encode(), False, []) == (None, 3)


@given(st.binary(max_size=100), st.booleans(), st.lists(st.integers(0, 999), max_size=4))
def test_an_answer_of_any_form_is_read_or_not(junk: bytes, streamed: bool, places: list[int]) -> None:
    counted(b'data: {"usage": {"input_tokens"' + junk, streamed, places)
    counted(b"[" * 100_000 + b"input_tokens", False, [])


def test_what_is_kept_of_an_answer_has_a_limit() -> None:
    meter = Meter(PATHS)
    for _ in range(3 * WHOLE_LIMIT // 2**20):
        meter.feed(b"x" * 2**20)
    assert len(meter._kept) <= WHOLE_LIMIT + 2**20
    assert meter.counts() == (None, None)
    meter = Meter(PATHS)
    meter.streamed = True
    for _ in range(5):
        meter.feed(b"data: " + b"x" * LINE_LIMIT)
        assert len(meter._kept) <= LINE_LIMIT
    meter.feed(b'\ndata: {"usage": {"input_tokens": 4}}\n')
    assert meter.counts() == (4, None), "the line after one that is too long counts"


# ---- refusals ------------------------------------------------------------------------------------------------------------------


def test_refusals_without_end_are_counted_not_recorded() -> None:
    refusals = Refusals()
    told = [refusals.counts(1000.0) for _ in range(MOST_REFUSALS + 40)]
    assert told == [0] * MOST_REFUSALS + [None] * 40
    assert refusals.counts(1000.0 + REFUSALS_WITHIN + 1) == 40
    assert refusals.counts(1000.0 + REFUSALS_WITHIN + 2) == 0
