"""The daemon's Unix socket: who may connect, one task per client, requests in, answers and events out; knows no method.

Methods are a table handed in (`daemon/methods.py`). An event is encoded once and appended to the buffer of each client
that subscribed; a client that leaves more than 8 MiB unread is told `lagging` and unsubscribed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opagent import control, jsonrpc, paths
from opagent.errors import Bug, OpAgentError, ProtocolMismatch, StoreFailed, Usage
from opagent.model import ConversationId, Event
from opagent.process import tree
from opagent.store.events import Journal

log = logging.getLogger(__name__)

_PAGE, _PAGE_BYTES = 50, 4 * 2**20  # events read from the journal at once while a subscriber catches up, fewer when large
_GREETED_WITHIN = 10.0  # seconds a client has to say hello

Method = Callable[["Client", Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class Subscription:
    """How far one client has seen one conversation (by its seq), or all of them (by the journal's)."""

    def __init__(self, topic: str, after: int) -> None:
        self.topic = topic
        self.after = after
        self.all = topic == "*"
        self.live = False  # false: a task still reads older events from the journal

    def wants(self, event: Event) -> bool:
        if self.all:
            return event.journal > self.after
        return event.conversation == self.topic and event.seq > self.after

    def saw(self, event: Event) -> None:
        self.after = event.journal if self.all else event.seq


class _Held:
    """Events of one conversation that its followers hear in a moment."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.over = asyncio.Event()


class Client:
    """One connection. `pid` and `uid` are the kernel's word, not the client's; of the moment in which it connected."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pid: int, uid: int) -> None:
        self.reader, self.writer = reader, writer
        self.pid, self.uid = pid, uid
        self.agent = tree.speaks_for_an_agent(pid)  # judged once: a connection can be handed on, and its maker leave
        self.name = ""
        self.subscriptions: dict[str, Subscription] = {}
        self.open_requests = 0
        self.gone = asyncio.Event()

    def send(self, data: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(data)

    @property
    def unread(self) -> int:
        return self.writer.transport.get_write_buffer_size()

    def wanting(self, event: Event, held: bool) -> list[Subscription]:
        """The live subscriptions that have not seen the event; of one that is held only those to all conversations."""
        return [each for each in self.subscriptions.values() if each.live and each.wants(event) and (each.all or not held)]

    def deliver(self, event: Event, line: bytes, held: bool) -> None:
        """Send the event to whoever of this client's subscriptions wants it; once for all of them."""
        wanting = self.wanting(event, held)
        if self.unread > control.UNREAD_LIMIT:
            for subscription in wanting:
                del self.subscriptions[subscription.topic]
                note = {"conversation": subscription.topic, "seq": subscription.after}
                self.send(jsonrpc.encode(jsonrpc.Notification("lagging", note)))
        elif wanting:
            for subscription in self.wanting(event, held=False):
                subscription.saw(event)
            self.send(line)


def encode_event(event: Event) -> bytes:
    """The notification as a line. What the journal encoded already is not encoded again: it is most of the line."""
    fields = control.event_json(event)
    if not event.encoded:
        return jsonrpc.encode(jsonrpc.Notification("event", fields))
    del fields["body"]
    line = jsonrpc.encode(jsonrpc.Notification("event", fields))
    return b"".join((line.removesuffix(b"}}\n"), b',"body":', event.encoded, b"}}\n"))


class Server:
    """Listens; ends when its TaskGroup is cancelled."""

    def __init__(self, greeting: control.Greeting, methods: Mapping[str, Method], journal: Journal) -> None:
        self.greeting, self.methods, self.journal = greeting, methods, journal
        self.clients: set[Client] = set()
        self.tasks: asyncio.TaskGroup | None = None
        self._held: dict[str | None, _Held] = {}
        self.quiet = asyncio.Event()  # nobody waits for an answer
        self.quiet.set()
        self.closing = False  # the daemon stops: who follows hears the end of it, who asks is sent away

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Before anybody is served."""
        self.tasks = tasks
        self.journal.listen(self.publish)

    async def listen(self) -> asyncio.Server:
        """Binds the socket (mode 0600 in a private directory). The caller holds the daemon's lock, so an old one is stale."""
        path = paths.socket()
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._connected, path=str(path), limit=control.FRAME_LIMIT, backlog=512)
        os.chmod(path, 0o600)
        return server

    def close(self) -> None:
        """Every connection ends, as if the client had left."""
        for client in self.clients:
            client.reader.feed_eof()

    def publish(self, events: Sequence[Event]) -> None:
        """Committed events to all that subscribed; called on the loop, in journal order."""
        watching = [client for client in self.clients if client.subscriptions]
        if not watching:
            return
        for event in events:
            line = b""
            held = self._held.get(event.conversation)
            if held is not None:
                held.events.append(event)
            for client in watching:
                if client.wanting(event, held is not None):
                    line = line or encode_event(event)
                    client.deliver(event, line, held is not None)

    @contextmanager
    def held(self, topic: str) -> Iterator[None]:
        """What is committed for the conversation meanwhile is told at the end: who hears of an end finds it in the file, too."""
        held = self._held[topic] = _Held()
        try:
            yield
        finally:
            del self._held[topic]
            self.publish(held.events)
            held.over.set()

    async def subscribe(self, client: Client, topic: str, after: int | None) -> int:
        """Events after `after` (None: from now on), first from the journal, then live without gap or repetition.

        Returns the last seq of this moment.
        """
        while held := self._held.get(topic):
            await held.over.wait()
        last = self.journal.last_journal() if topic == "*" else self.journal.last_seq(ConversationId(topic))
        subscription = Subscription(topic, last if after is None else min(after, last))  # more than there is: the log was lost
        client.subscriptions[topic] = subscription
        if last <= subscription.after:
            subscription.live = True
        else:
            assert self.tasks is not None
            self.tasks.create_task(self._catch_up(client, subscription), name=f"catch-up-{topic}")
        return last

    def interrupt(self, topic: str) -> None:
        """Nothing can be stored for this conversation: whoever follows it asks again, and hears why."""
        for client in self.clients:
            if subscription := client.subscriptions.pop(topic, None):
                note = {"conversation": topic, "seq": subscription.after}
                client.send(jsonrpc.encode(jsonrpc.Notification("lagging", note)))

    async def _catch_up(self, client: Client, subscription: Subscription) -> None:
        try:
            await self._send_older(client, subscription)
        except ConnectionError:
            return
        except Exception:  # the outer edge of a task: the client asks again, the daemon goes on
            log.exception("a subscriber of %s could not be served", subscription.topic)
            client.writer.close()

    async def _send_older(self, client: Client, subscription: Subscription) -> None:
        count = _PAGE
        while client.subscriptions.get(subscription.topic) is subscription:
            if held := self._held.get(subscription.topic):  # it is committed, and not to be told yet
                await held.over.wait()
                continue
            if subscription.topic == "*":
                page = self.journal.after_any(subscription.after, count)
            else:
                page = self.journal.after(ConversationId(subscription.topic), subscription.after, count)
            size = 0
            for event in page:
                line = encode_event(event)
                subscription.saw(event)
                client.send(line)
                size += len(line)
                if size > _PAGE_BYTES:
                    break
            else:
                if len(page) < count:  # nothing can be committed and published between this read and the next line
                    subscription.live = True
                    return
            count = max(1, count // 4) if size > _PAGE_BYTES else min(_PAGE, 2 * count)
            await client.writer.drain()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pid, uid = peer(writer.get_extra_info("socket"))
        client = Client(reader, writer, pid, uid)
        if uid != os.geteuid():
            log.warning("refused a connection of uid %d", uid)
            writer.close()
            return
        self.clients.add(client)
        try:
            await self._serve(client)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass  # cancelled: the daemon ends, and a stream's task that says so is logged as a mistake
        finally:
            self.clients.discard(client)
            client.gone.set()
            client.subscriptions.clear()
            writer.close()

    async def _serve(self, client: Client) -> None:
        client.send(json.dumps(self.greeting.as_json()).encode() + b"\n")
        framer = jsonrpc.Framer(control.FRAME_LIMIT)
        greeted = False
        while True:
            async with asyncio.timeout(None if greeted else _GREETED_WITHIN):
                data = await client.reader.read(2**16)
            if not data:
                return
            for line in framer.feed(data):
                message = jsonrpc.decode(line)
                if isinstance(message, jsonrpc.Noise) and message.answer:
                    client.send(jsonrpc.encode(message.answer))
                if not isinstance(message, jsonrpc.Request):
                    continue
                if not greeted and message.method != "hello":
                    client.send(_failure(message.id, Usage("say hello first")))
                    return
                if message.method == "hello":
                    greeted = self._hello(client, message)
                    if not greeted:
                        await client.writer.drain()
                        return
                else:
                    self._dispatch(client, message)
            if framer.dropped:
                words = f"a line of more than {control.FRAME_LIMIT} bytes"
                client.send(jsonrpc.encode(jsonrpc.Failure(None, jsonrpc.INVALID_REQUEST, words)))
            await client.writer.drain()
            if framer.dropped:
                return

    def _hello(self, client: Client, message: jsonrpc.Request) -> bool:
        """Agrees on a version; false when there is none."""
        said = message.params.get("protocol")
        theirs = said if isinstance(said, int) else 0
        client.name = str(message.params.get("client", ""))
        try:
            version = control.shared_version(theirs, theirs)
        except ProtocolMismatch as error:
            client.send(_failure(message.id, error))
            return False
        facts = {"protocol": version, "daemon": self.greeting.daemon, "boot": self.greeting.boot, "host": self.greeting.host}
        client.send(jsonrpc.encode(jsonrpc.Response(message.id, facts)))
        return True

    def _dispatch(self, client: Client, message: jsonrpc.Request) -> None:
        if self.closing:
            client.writer.close()  # it asks the next daemon
            return
        if client.open_requests >= control.OPEN_REQUESTS:
            client.send(_failure(message.id, Usage(f"more than {control.OPEN_REQUESTS} open requests")))
            return
        client.open_requests += 1
        self.quiet.clear()
        assert self.tasks is not None
        self.tasks.create_task(self._answer(client, message), name=f"request-{message.method}")

    async def _answer(self, client: Client, message: jsonrpc.Request) -> None:
        try:
            method = self.methods.get(message.method)
            if method is None:
                words = f"no method {message.method!r}"
                client.send(jsonrpc.encode(jsonrpc.Failure(message.id, control.METHOD_NOT_FOUND, words)))
                return
            result = await method(client, message.params)
            client.send(jsonrpc.encode(jsonrpc.Response(message.id, dict(result))))
        except OpAgentError as error:
            if self.closing and isinstance(error, StoreFailed):
                client.writer.close()
            else:
                client.send(_failure(message.id, error))
        except Exception:  # the outer edge of a request: one client's trouble must not end the daemon
            log.exception("%s failed", message.method)
            client.send(_failure(message.id, Bug("the daemon made a mistake", message.method, "opagent daemon status")))
        finally:
            client.open_requests -= 1
            if not any(each.open_requests for each in self.clients):
                self.quiet.set()


def _failure(ident: jsonrpc.Id, error: OpAgentError) -> bytes:
    data = control.error_json(error)
    return jsonrpc.encode(jsonrpc.Failure(ident, data["code"], data["message"], data["data"]))


def peer(connection: socket.socket) -> tuple[int, int]:
    """Pid and uid of the process at the other end (SO_PEERCRED)."""
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid
