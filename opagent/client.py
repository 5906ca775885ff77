"""The client of the daemon: finds or starts it, asks, follows events over lost connections. Prints nothing, no asyncio."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opagent import control, launch, paths
from opagent.control import Greeting
from opagent.errors import DaemonUnavailable, DeadlinePassed, OpAgentError, ProtocolMismatch, Usage
from opagent.jsonline import STRING, encode_line, read_line, too_long_text
from opagent.version import VERSION

if TYPE_CHECKING:
    from opagent.model import Event

ASK_DEADLINE = 60.0  # seconds
LOSSES, LOSSES_WITHIN = 5, 30.0  # connections lost without anything gained in between, and seconds
EVERYTHING = "*"

# What must not happen twice when the connection is lost between question and answer.
_ONCE = frozenset(
    {
        "approval/answer", "approval/forget", "binding/create", "call/start", "call/stop", "conversation/create",
        "conversation/fork", "conversation/import", "conversation/rebuild", "daemon/stop", "process/stop", "process/restart",
    }
)  # fmt: skip


class Client:
    """One connection to the daemon of this user and host.

    Raises DaemonUnavailable, ProtocolMismatch, NotPrivate, and what the daemon raises.
    """

    def __init__(self, program: str = "cli", start: bool = True) -> None:
        self.greeting: Greeting
        self._program, self._start = program, start
        self._events: deque[tuple[Event, int]] = deque()  # with the bytes that each came in
        self.waiting = 0  # bytes of events that nobody has taken yet
        self._positions: dict[str, float] = {}  # subscription -> seq (of "*": the journal's) of the last event that was taken
        self._lagging: set[str] = set()  # of these nothing is taken until they are asked for again after what was
        self._last_id = 0
        self._agreed = True  # the daemon has answered our `hello`
        self.connections = 0  # how many were made: with the next one, `fileno` may be another or the same number again
        self._losses: deque[float] = deque(maxlen=LOSSES)
        self.returns = True  # a lost connection is made anew at once; else ConnectionError is raised, and the caller says `renew`
        self.heard: Callable[[str, Mapping[str, Any]], None] = lambda method, params: None  # of other notifications
        self._wire = self._connect()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._wire.close()

    def fileno(self) -> int:
        """For select; to be registered anew when `connections` has changed."""
        return self._wire.stream.fileno()

    @property
    def host(self) -> str:
        return self.greeting.host

    def request(self, method: str, params: Mapping[str, Any] | None = None, timeout: float = ASK_DEADLINE) -> dict[str, Any]:
        """Ask and wait for the answer; events that come meanwhile are kept. Asked again after a loss where that is safe.

        Raises the daemon's OpAgentError, DeadlinePassed after `timeout` seconds, DaemonUnavailable, Usage for too much at once.
        """
        while True:
            once = method in _ONCE or (method == "workspace/join" and not (params or {}).get("text"))
            if self._wire.broken:
                self._lost()
            try:
                if once:
                    self._agree(self._wire)
                answer = self._ask(method, params or {}, timeout)
                self._losses.clear()
                return answer
            except (ConnectionError, TimeoutError) as error:
                sent = self._agreed
                if method == "daemon/stop" and sent:
                    return {"stopping": True}
                self._lost()
                if once and sent:
                    why = "the connection was lost before the answer came; it may have happened"
                    raise DaemonUnavailable(f"no answer to {method}", why, "opagent ps") from error

    def subscribe(self, conversation: str, after: int | None = 0) -> int:
        """Events of a conversation (or "*") after a seq; None: from now on. Each comes once, over lost connections too.

        Returns the last seq at this moment.
        """
        self._positions[conversation] = math.inf if after is None else after
        last = int(self.request("events/subscribe", self._following(conversation, after))["after"])
        self._lagging.discard(conversation)
        if after is None or last < after:  # less than we know: the log was lost, count from there
            self._positions[conversation] = last
        return last

    def tell(self, method: str, params: Mapping[str, Any]) -> None:
        """A request whose answer nobody waits for; also from within `heard`."""
        self._last_id += 1
        self._wire.send({"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": dict(params)}, ASK_DEADLINE)

    def join(self, params: Mapping[str, Any], timeout: float = ASK_DEADLINE) -> dict[str, Any]:
        """`workspace/join`; with `follow` its events come from now on, like those of `subscribe`."""
        answer = self.request("workspace/join", params, timeout)
        if "after" in answer:
            self._positions[answer["conversation"]["id"]] = int(answer["after"])
            self._lagging.discard(answer["conversation"]["id"])
        return answer

    def unsubscribe(self, conversation: str) -> None:
        self._lagging.discard(conversation)
        if self._positions.pop(conversation, None) is not None:
            self.request("events/unsubscribe", {"conversation": conversation})

    def next_event(self, timeout: float | None = None) -> Event | None:
        """The next event in the order of the wire; None when `timeout` seconds (0: what is here already) brought none."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._events:
            try:
                while self._lagging:
                    self._resume(next(iter(self._lagging)))
                left = None if end is None else max(0.0, end - time.monotonic())
                self._take(self._wire.receive(left))
            except TimeoutError:
                return None
            except ConnectionError:
                self._lost()
        event, size = self._events.popleft()
        self.waiting -= size
        return event

    def arrived(self, ready: bool) -> list[Event]:
        """The events that are here, for a caller that waits elsewhere. `ready`: `fileno` can be read; nothing is waited for."""
        try:
            for name in list(self._lagging):
                self._resume(name)
            if ready:
                with contextlib.suppress(TimeoutError):
                    self._wire.fill(0.0)
            while (message := self._wire.next()) is not None:
                self._take(message)
        except ConnectionError:
            self._lost()
        events = [event for event, _ in self._events]
        self._events.clear()
        self.waiting = 0
        return events

    @property
    def more(self) -> bool:
        """Whether `arrived` may bring more although nothing new can be read."""
        return bool(self._lagging or self._wire.whole)

    def renew(self) -> None:
        """Make a lost connection anew. Raises what making one raises."""
        self._reconnect()

    def _lost(self) -> None:
        if not self.returns:
            raise ConnectionResetError("the connection is lost")
        self._reconnect()

    def _ask(self, method: str, params: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        self._last_id += 1
        number, end = self._last_id, time.monotonic() + timeout
        try:
            self._wire.send({"jsonrpc": "2.0", "id": number, "method": method, "params": dict(params)}, timeout)
            while (message := self._wire.receive(max(0.0, end - time.monotonic()))).get("id") != number:
                self._take(message)
        except TimeoutError:
            what = f"the daemon did not answer {method}"
            raise DeadlinePassed(what, f"waited {timeout:g} s", "opagent daemon status") from None
        if "error" in message:
            raise control.error_from_json(message["error"])
        result = message.get("result")
        return result if isinstance(result, dict) else {}

    def _take(self, message: dict[str, Any]) -> None:
        """Keep an event that is new, note that we were too slow, drop all else (late answers, what a newer daemon says).

        Raises what the daemon says of our `hello`.
        """
        if message.get("id") == 0:
            self._agreed = True
            if "error" in message:
                raise control.error_from_json(message["error"])
        params = message.get("params")
        if not isinstance(params, dict):
            return
        if message.get("method") == "lagging":
            self._lagging.add(str(params.get("conversation")))
        elif message.get("method") == "event":
            event = control.event_from_json(params, self._wire.encoded)
            for name, count in ((event.conversation, event.seq), (EVERYTHING, event.journal)):
                if count > self._positions.get(name, math.inf):
                    self._keep(name, count, event)
                    return
        else:
            self.heard(str(message.get("method", "")), params)

    def _keep(self, name: str, count: int, event: Event) -> None:
        """For `next_event`. While an answer is waited for, nobody takes them: what is too much is asked for again later."""
        if self.waiting > control.UNREAD_LIMIT:
            self._lagging.add(name)
        if name not in self._lagging:
            size = self._wire.size
            self._positions[name] = count
            self._events.append((event, size))
            self.waiting += size
            self._losses.clear()

    def _resume(self, name: str) -> None:
        position = self._positions.get(name)
        if position is not None and position != math.inf:
            last = self._ask("events/subscribe", self._following(name, int(position)), ASK_DEADLINE).get("after")
            if isinstance(last, int) and last < position:
                self._positions[name] = last
        self._lagging.discard(name)  # not before the answer: until then the old subscription may send what lies behind a gap

    def _following(self, name: str, after: int | None) -> dict[str, Any]:
        """With the environment: a daemon that has just started knows no PATH, and what we wait for may wait for one."""
        said: dict[str, Any] = {"conversation": name, "after": after}
        return said if name == EVERYTHING else said | {"environment": self.environment()}

    def _connect(self) -> _Wire:
        """A connection that has greeted and heard us. A daemon that leaves at this very moment is one that is not there."""
        end = time.monotonic() + launch.DEADLINE
        while True:
            wire = _Wire(self._dial(end))
            try:
                self._introduce(wire)
                self.connections += 1
                return wire
            except (TimeoutError, ConnectionError) as error:
                wire.close()
                if isinstance(error, TimeoutError) or time.monotonic() > end:
                    raise launch.silent(f"{error or 'nothing came in time'}") from error
                time.sleep(0.01)
            except OpAgentError:
                wire.close()
                raise

    def _dial(self, end: float) -> socket.socket:
        """A stream to the daemon, started if need be, before the moment `end` of the monotonic clock."""
        return launch.connect(self._start, end)

    def alone(self) -> None:
        """Nobody is asked anything from now on; a daemon here never asks."""

    def environment(self) -> dict[str, str]:
        """What the daemon may choose from for its agents."""
        return dict(os.environ)

    def _introduce(self, wire: _Wire) -> None:
        self._hail(wire)
        self._agree(wire)

    def _hail(self, wire: _Wire) -> None:
        """Hear who is there and say `hello`."""
        self.greeting = control.greeting(wire.receive(launch.DEADLINE))
        version = control.shared_version(*self.greeting.protocol)
        params = {"client": self._program, "version": VERSION, "protocol": version, "pid": os.getpid()}
        self._agreed = False
        wire.send({"jsonrpc": "2.0", "id": 0, "method": "hello", "params": params}, launch.DEADLINE)

    def _agree(self, wire: _Wire) -> None:
        """Wait for the answer to our `hello`."""
        while not self._agreed:
            self._take(wire.receive(launch.DEADLINE))

    def _reconnect(self) -> None:
        """A new connection (to a new daemon, if need be) with the same subscriptions."""
        while True:
            self._wire.close()
            now = time.monotonic()
            if len(self._losses) == LOSSES and now - self._losses[0] < LOSSES_WITHIN:
                raise DaemonUnavailable("the daemon ends again and again", hint=f"tail {paths.daemon_log()}")
            self._losses.append(now)
            self._wire = self._connect()
            try:
                for name in self._positions:
                    self._resume(name)
                return
            except ConnectionError:
                continue


class _Wire:
    """One JSON message a line on a socket. Raises ConnectionError at its end, TimeoutError, ProtocolMismatch for garbage."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.broken = False  # half a line was sent: nothing can follow it
        self.size = 0  # bytes of the message that was received last
        self._buffer = bytearray()
        self._searched = 0
        self.encoded = b""  # the body of that message as it stands there, where it is a text

    def close(self) -> None:
        self.broken = True
        self.stream.close()

    def send(self, message: Mapping[str, Any], timeout: float) -> None:
        """Raises Usage, with nothing sent, for more than the daemon reads as one message."""
        line = encode_line(dict(message))
        if len(line) > control.FRAME_LIMIT or too_long_text(line):
            limit = f"it takes {len(line)} bytes; the limit is {control.FRAME_LIMIT}, and {STRING} for one text"
            raise Usage("this is too long for one message", limit, "put it into a file of the workspace and name that file")
        self.stream.settimeout(timeout)
        try:
            self.stream.sendall(line)
        except BaseException:  # also Ctrl-C: whoever waits for traffic sees the end, and a new connection is made
            self.broken = True
            with contextlib.suppress(OSError):
                self.stream.shutdown(socket.SHUT_RDWR)
            raise

    def receive(self, timeout: float | None) -> dict[str, Any]:
        """The next message; what is here already at time-out 0."""
        end = None if timeout is None else time.monotonic() + timeout
        while (message := self.next()) is None:
            self.fill(None if end is None else max(0.0, end - time.monotonic()))
        return message

    def fill(self, timeout: float | None) -> None:
        """Read once."""
        if self.stream.gettimeout() != timeout:
            self.stream.settimeout(timeout)
        try:
            part = self.stream.recv(1 << 16)
        except BlockingIOError:
            raise TimeoutError from None
        if not part:
            raise ConnectionResetError("the daemon closed the connection")
        self._buffer += part

    @property
    def whole(self) -> bool:
        """Whether there is a message that can be taken."""
        return self._buffer.find(b"\n", self._searched) >= 0

    def next(self) -> dict[str, Any] | None:
        """The next message, if it is here already."""
        cut = self._buffer.find(b"\n", self._searched)
        if cut < 0:
            self._searched = len(self._buffer)
            if self._searched > control.FRAME_LIMIT:
                raise ProtocolMismatch("the daemon sent a message without an end", hint="opagent daemon stop")
            return None
        line = bytes(self._buffer[:cut])
        del self._buffer[: cut + 1]
        self.size = cut
        self._searched = 0
        try:
            message, self.encoded = read_line(line)
        except (ValueError, RecursionError) as error:
            raise ProtocolMismatch("what listens on the socket is no OpAgent daemon", hint="opagent daemon status") from error
        return message if isinstance(message, dict) else {}
