"""Many streams over one: whatever is cut where, each channel gives its bytes in order, and nobody sends more than the other allows."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from opagent.errors import ProtocolMismatch
from opagent.remote.mux import (
    CHANNELS,
    CLOSE,
    CREDIT,
    DATA,
    END,
    FIRST,
    FRAME,
    OPEN,
    WINDOW,
    Closed,
    Ended,
    Event,
    Mux,
    Opened,
    Received,
    Writable,
)  # fmt: skip


def frame(kind: int, channel: int, data: bytes = b"", number: int | None = None) -> bytes:
    return struct.pack(">BII", kind, channel, len(data) if number is None else number) + data


def test_the_first_channel_is_open_on_both_sides() -> None:
    ours, theirs = Mux(True), Mux(False)
    assert theirs.send(FIRST, b"hello") == 5
    assert ours.feed(theirs.outgoing()) == [Received(FIRST, b"hello")]
    assert ours.waiting == 0


def test_credit_is_a_limit_and_comes_back() -> None:
    ours, theirs = Mux(True), Mux(False)
    assert ours.send(FIRST, bytes(WINDOW + 5)) == WINDOW
    assert ours.room(FIRST) == 0
    got = sum(len(event.data) for event in theirs.feed(ours.outgoing()) if isinstance(event, Received))
    assert got == WINDOW
    theirs.taken(FIRST, WINDOW // 2 - 1)
    assert theirs.waiting == 0
    theirs.taken(FIRST, 1)
    assert ours.feed(theirs.outgoing()) == [Writable(FIRST)]
    assert ours.room(FIRST) == WINDOW // 2


def test_a_channel_nobody_reads_holds_up_no_other() -> None:
    ours, theirs = Mux(True), Mux(False)
    ours.send(FIRST, bytes(WINDOW))
    other = ours.open()
    assert other is not None
    assert ours.send(other, b"through") == 7
    assert Received(other, b"through") in theirs.feed(ours.outgoing())


def test_ends_and_closes() -> None:
    ours, theirs = Mux(True), Mux(False)
    ours.end(FIRST)
    ours.end(FIRST)
    assert ours.send(FIRST, b"x") == 0
    assert theirs.feed(ours.outgoing()) == [Ended(FIRST)]
    theirs.send(FIRST, b"last")
    theirs.end(FIRST)
    assert ours.feed(theirs.outgoing()) == [Received(FIRST, b"last"), Ended(FIRST), Closed(FIRST, "")]
    number = ours.open()
    assert number is not None
    ours.close(number, "enough")
    ours.close(number)
    assert theirs.feed(ours.outgoing()) == [Opened(number), Closed(number, "enough")]


def test_what_crosses_a_close_is_dropped() -> None:
    ours, theirs = Mux(True), Mux(False)
    theirs.send(FIRST, b"late")
    ours.close(FIRST)
    assert ours.feed(theirs.outgoing()) == []


def test_too_many_channels() -> None:
    ours, theirs = Mux(True), Mux(False)
    opened = [ours.open() for _ in range(CHANNELS)]
    assert opened[-1] is None
    assert len(set(opened)) == CHANNELS
    theirs.feed(ours.outgoing())
    one_more = 2 * CHANNELS + 1
    assert theirs.feed(frame(OPEN, one_more)) == []
    assert theirs.outgoing().startswith(struct.pack(">BI", CLOSE, one_more))


@pytest.mark.parametrize(
    "data",
    [
        b"\nOPA1 garbage",
        frame(0, 1),
        frame(6, 1),
        frame(DATA, 0, b"x"),
        frame(DATA, 3, b"x"),
        frame(DATA, 2, b"x"),
        frame(OPEN, 1),
        frame(OPEN, 3),
        frame(OPEN, 2) * 2,
        frame(OPEN, 2, b"x"),
        frame(DATA, 1, bytes(FRAME)) * (WINDOW // FRAME) + frame(DATA, 1, b"x"),
        frame(DATA, 1, number=FRAME + 1),
        frame(CREDIT, 1, number=1),
        frame(END, 1) + frame(END, 1),
        frame(END, 1) + frame(DATA, 1, b"x"),
    ],
)
def test_what_may_not_come(data: bytes) -> None:
    with pytest.raises(ProtocolMismatch):
        Mux(True).feed(data)


@given(st.binary(max_size=2000), st.booleans())
def test_garbage_is_refused_or_ignored(data: bytes, dialled: bool) -> None:
    mux = Mux(dialled)
    try:
        mux.feed(data)
    except ProtocolMismatch:
        pass
    assert mux.waiting < 100_000


@given(st.lists(st.binary(max_size=90), max_size=20), st.lists(st.integers(1, 40), min_size=1))
def test_frames_may_be_cut_anywhere(parts: list[bytes], cuts: list[int]) -> None:
    ours, theirs = Mux(True), Mux(False)
    for part in parts:
        ours.send(FIRST, part)
    ours.close(FIRST, "fin")
    wire, events, number = ours.outgoing(), list[Event](), 0
    while wire:
        size = cuts[number % len(cuts)]
        events += theirs.feed(wire[:size])
        wire, number = wire[size:], number + 1
    assert b"".join(event.data for event in events if isinstance(event, Received)) == b"".join(parts)
    assert events[-1] == Closed(FIRST, "fin")


class Pair(RuleBasedStateMachine):
    """Two ends and a wire that delivers when it likes; what was sent is compared with what arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = (Mux(True), Mux(False))
        self.wires = [bytearray(), bytearray()]  # towards 0, towards 1
        self.sent: dict[tuple[int, int], bytes] = {}
        self.got: dict[tuple[int, int], bytes] = {}
        self.unread: dict[tuple[int, int], int] = {}
        self.known = [{FIRST}, {FIRST}]

    @rule(side=st.integers(0, 1))
    def opens(self, side: int) -> None:
        if len(self.known[side]) < 20 and (number := self.ends[side].open()) is not None:
            self.known[side].add(number)

    @rule(
        side=st.integers(0, 1), which=st.integers(0, 30), size=st.sampled_from([1, 100, FRAME, WINDOW]), fill=st.integers(0, 255)
    )
    def sends(self, side: int, which: int, size: int, fill: int) -> None:
        if self.known[side]:
            number = sorted(self.known[side])[which % len(self.known[side])]
            data = bytes([fill]) * size
            taken = self.ends[side].send(number, data)
            self.sent[side, number] = self.sent.get((side, number), b"") + data[:taken]

    @rule(side=st.integers(0, 1), which=st.integers(0, 30), half=st.booleans())
    def stops(self, side: int, which: int, half: bool) -> None:
        if self.known[side]:
            number = sorted(self.known[side])[which % len(self.known[side])]
            if half:
                self.ends[side].end(number)
            else:
                self.ends[side].close(number)
                self.known[side].discard(number)

    @rule(side=st.integers(0, 1), size=st.sampled_from([1, 8, 5000, 10**7]))
    def delivers(self, side: int, size: int) -> None:
        wire = self.wires[side]
        wire += self.ends[1 - side].outgoing()
        for event in self.ends[side].feed(bytes(wire[:size])):
            key = (1 - side, event.channel)
            if isinstance(event, Opened):
                self.known[side].add(event.channel)
            elif isinstance(event, Received):
                self.got[key] = self.got.get(key, b"") + event.data
                self.unread[key] = self.unread.get(key, 0) + len(event.data)
            elif isinstance(event, Closed):
                self.known[side].discard(event.channel)
        del wire[:size]

    @rule(side=st.integers(0, 1), which=st.integers(0, 30))
    def reads(self, side: int, which: int) -> None:
        keys = sorted(key for key in self.unread if key[0] == 1 - side)
        if keys:
            key = keys[which % len(keys)]
            self.ends[side].taken(key[1], self.unread.pop(key))

    @invariant()
    def nothing_is_invented_or_out_of_order(self) -> None:
        for key, data in self.got.items():
            assert self.sent[key].startswith(data)

    @invariant()
    def nobody_holds_more_than_a_window(self) -> None:
        assert all(count <= WINDOW for count in self.unread.values())


TestPair = Pair.TestCase


def test_close_says_why_up_to_a_frame() -> None:
    ours, theirs = Mux(True), Mux(False)
    ours.close(FIRST, "x" * (FRAME + 10))
    (event,) = theirs.feed(ours.outgoing())
    assert isinstance(event, Closed)
    assert len(event.why) == FRAME
    assert theirs.feed(frame(CLOSE, FIRST)) == []
