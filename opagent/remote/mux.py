"""Many byte streams over one, with credit: a channel that nobody reads holds up no other. No I/O, used by both ends.

A frame is a kind (1 byte), a channel and a number (4 bytes each, big-endian); the number is the length of the bytes that
follow, of a CREDIT frame the credit itself. Each side may send WINDOW bytes on a channel before it is given more. Channel
FIRST is open from the start. The dialling side opens odd channels, the other one even ones; numbers are used once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from opagent.errors import ProtocolMismatch

WINDOW = 256 * 1024  # bytes of a channel that may be on the way
FRAME = 32 * 1024  # bytes of one frame
CHANNELS = 256  # open at once
FIRST = 1

OPEN, DATA, CREDIT, END, CLOSE = range(1, 6)
_HEAD = struct.Struct(">BII")


@dataclass(frozen=True, slots=True)
class Opened:
    channel: int


@dataclass(frozen=True, slots=True)
class Received:
    channel: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Writable:
    """More may be sent than before."""

    channel: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The other side sends no more on this channel."""

    channel: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The channel is no more. `why` is empty when both sides had ended."""

    channel: int
    why: str


Event = Opened | Received | Writable | Ended | Closed


@dataclass(slots=True)
class _Channel:
    credit: int = WINDOW  # what we may send
    allowed: int = WINDOW  # what the other side may send
    taken: int = 0  # what was taken of that and not yet given back
    ended: bool = False
    ended_there: bool = False


@dataclass(slots=True)
class Mux:
    """One end. `dialled`: it opened the stream below."""

    dialled: bool
    _channels: dict[int, _Channel] = field(default_factory=lambda: {FIRST: _Channel()})
    _input: bytearray = field(default_factory=bytearray)
    _output: bytearray = field(default_factory=bytearray)
    _last: int = 0  # the last channel we opened, and the last one they opened
    _last_there: int = 0

    def __post_init__(self) -> None:
        self._last, self._last_there = (FIRST, 0) if self.dialled else (0, FIRST)

    @property
    def waiting(self) -> int:
        """Bytes that `outgoing` would give."""
        return len(self._output)

    def outgoing(self) -> bytes:
        """What is to be sent now; it is ours no more."""
        data = bytes(self._output)
        self._output.clear()
        return data

    def open(self) -> int | None:
        """A new channel; None when there are CHANNELS already."""
        if len(self._channels) >= CHANNELS:
            return None
        self._last += 2
        self._channels[self._last] = _Channel()
        self._frame(OPEN, self._last, b"")
        return self._last

    def room(self, channel: int) -> int:
        """Bytes that `send` takes at the moment."""
        found = self._channels.get(channel)
        return found.credit if found is not None and not found.ended else 0

    def send(self, channel: int, data: bytes | memoryview) -> int:
        """Takes as much as there is credit for; gives how much. Nothing on a channel that is ended or gone."""
        taken = 0
        while taken < len(data) and (count := min(self.room(channel), FRAME, len(data) - taken)):
            self._frame(DATA, channel, data[taken : taken + count])
            self._channels[channel].credit -= count
            taken += count
        return taken

    def taken(self, channel: int, count: int) -> None:
        """So many bytes of what was received are used up; the other side may send as many again."""
        found = self._channels.get(channel)
        if found is None or found.ended_there:
            return
        found.taken += count
        if found.taken >= WINDOW // 2:
            found.allowed += found.taken
            self._output += _HEAD.pack(CREDIT, channel, found.taken)
            found.taken = 0

    def end(self, channel: int) -> None:
        """No more is sent on this channel. Harmless twice."""
        found = self._channels.get(channel)
        if found is not None and not found.ended:
            found.ended = True
            self._frame(END, channel, b"")
            if found.ended_there:
                del self._channels[channel]

    def close(self, channel: int, why: str = "") -> None:
        """Both directions, at once. Harmless twice."""
        if self._channels.pop(channel, None) is not None:
            self._frame(CLOSE, channel, why.encode()[:FRAME])

    def feed(self, data: bytes) -> list[Event]:
        """What the other side did. Raises ProtocolMismatch for what it may not do; nothing is to be fed after that."""
        self._input += data
        events: list[Event] = []
        start = 0
        while len(self._input) - start >= _HEAD.size:
            kind, channel, number = _HEAD.unpack_from(self._input, start)
            length = 0 if kind == CREDIT else number
            if not OPEN <= kind <= CLOSE or length > FRAME:
                raise ProtocolMismatch("the other machine sent what is no frame", f"kind {kind}, {number} bytes")
            if len(self._input) - start < _HEAD.size + length:
                break
            start += _HEAD.size
            events += self._frame_came(kind, channel, number, bytes(self._input[start : start + length]))
            start += length
        del self._input[:start]
        return events

    def _frame(self, kind: int, channel: int, data: bytes | memoryview) -> None:
        self._output += _HEAD.pack(kind, channel, len(data))
        self._output += data

    def _frame_came(self, kind: int, channel: int, number: int, data: bytes) -> list[Event]:
        theirs = bool(channel % 2) is not self.dialled
        if kind == OPEN:
            if not theirs or channel <= self._last_there or data:
                raise ProtocolMismatch("the other machine opened a channel that it may not", f"channel {channel}")
            self._last_there = channel
            self._channels[channel] = _Channel()
            if len(self._channels) > CHANNELS:
                self.close(channel, f"{CHANNELS} channels are open already")
                return []
            return [Opened(channel)]
        if channel > (self._last_there if theirs else self._last) or channel == 0:
            raise ProtocolMismatch("the other machine uses a channel that was never opened", f"channel {channel}")
        found = self._channels.get(channel)
        if found is None:
            return []  # sent before it heard that we had closed
        if kind == DATA:
            return self._data_came(found, channel, data)
        if kind == CREDIT:
            found.credit += number
            if found.credit > WINDOW:
                raise ProtocolMismatch("the other machine gave more credit than it has", f"channel {channel}")
            return [] if found.ended else [Writable(channel)]
        if kind == END and found.ended_there:
            raise ProtocolMismatch("the other machine ended a channel twice", f"channel {channel}")
        if kind == END:
            found.ended_there = True
            if not found.ended:
                return [Ended(channel)]
        del self._channels[channel]
        ended: list[Event] = [Ended(channel)] if kind == END else []
        return [*ended, Closed(channel, data.decode(errors="replace") if kind == CLOSE else "")]

    def _data_came(self, found: _Channel, channel: int, data: bytes) -> list[Event]:
        found.allowed -= len(data)
        if found.allowed < 0 or found.ended_there:
            raise ProtocolMismatch("the other machine sent more than it may", f"channel {channel}")
        return [Received(channel, data)] if data else []
