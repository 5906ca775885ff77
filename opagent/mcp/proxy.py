"""One connection of an agent to an MCP server: lines of either in, lines for either and what has to be decided out. Pure.

::

    proxy = Proxy("github", "file:///home/ada/docs")
    for out in proxy.from_agent(line):      # ToServer | ToAgent | Tools | Wanted | Answered | Withdrawn | Broken
        ...                                 # Tools is answered by `judged`, Wanted by `perform` or `refuse`

The agent never speaks to the server itself: what stands in no table of `passing.py` is refused. Tools, resources and prompts
pass; sampling, and whatever else a server may ask of an agent, does not. Both eras of the protocol pass, the one that begins with
`initialize` and the one whose requests each carry their version (2026-07-28).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from opagent import jsonrpc
from opagent.jsonrpc import Failure, Notification, Request, Response
from opagent.mcp import inventory, passing
from opagent.mcp.inventory import Tool
from opagent.mcp.out import Answered, Broken, Out, ToAgent, Tools, ToServer, Wanted, Withdrawn
from opagent.mcp.passing import READS

OPEN_REQUESTS = 64  # of one agent to one server
MOST_PAGES, MOST_ITEMS, LIST_LIMIT = 32, 1024, 4 * 2**20  # of one tools/list; bytes of all its pages
FAILED = -32000  # the server is not there, or says nothing that can be used


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request of the agent under way. `call`: a person or a rule allowed it. `silent`: nobody waits any more."""

    request: Request
    call: bool = False
    silent: bool = False

    @property
    def token(self) -> Any:
        return passing.meta(self.request.params).get("progressToken")


@dataclass(slots=True)
class _Listing:
    number: int
    items: list[Any] = field(default_factory=list)
    pages: int = 0
    size: int = 0


class Proxy:
    """`closed`: of READS, what a rule denies; it is not offered."""

    def __init__(self, server: str, root: str, closed: frozenset[str] = frozenset()) -> None:
        self.server, self._root, self._closed = server, root, closed
        self._number = 0
        self._asked: dict[int, _Asked] = {}  # sent to the server, by our number
        self._wanted: dict[int, tuple[Request, Wanted]] = {}  # not decided yet
        self._waiting: list[Request] = []  # for the list of tools
        self._listing: _Listing | None = None
        self._shown: dict[str, Tool] | None = None  # as of the last list; None: it has to be read again
        self._hidden: dict[str, str] = {}  # name -> why
        self._first: Request | None = None  # the agent's `initialize`
        self._begun = 0  # our number of an `initialize` that we say again; what is for the server waits behind it
        self._held: list[ToServer] = []
        self._told = False  # the agent knows that the list changed, and did not read it since

    # ---- from the agent --------------------------------------------------------------------------------------------------

    def from_agent(self, line: bytes) -> list[Out]:
        message = jsonrpc.decode(line)
        if isinstance(message, Request):
            return self._request(message)
        if isinstance(message, Notification):
            return self._notified(message)
        if isinstance(message, jsonrpc.Noise) and message.answer is not None:
            return [ToAgent(jsonrpc.encode(message.answer))]
        return []  # the server gets no answer from the agent, for what it may ask is answered here

    def _request(self, request: Request) -> list[Out]:
        method = request.method
        if len(self._asked) + len(self._wanted) + len(self._waiting) >= OPEN_REQUESTS:
            return [_failure(request, FAILED, f"more than {OPEN_REQUESTS} requests are open")]
        if method == "initialize":
            self._first = request
            return self._pass(request)
        if method in ("tools/list", "tools/call"):
            self._waiting.append(request)
            return self._look(anew=method == "tools/list")
        if read := next((name for name, (reading, *_) in READS.items() if reading == method), ""):
            if read in self._closed:
                return [_failure(request, jsonrpc.METHOD_NOT_FOUND, f"{self.server}/{read} is denied")]
            return [self._decide(request, read, {"uri": 0, "name": 0, "arguments": 0}, None)]
        if method in passing.REQUESTS and not any(
            method in lists and name in self._closed for name, (_, *lists) in READS.items()
        ):
            return self._pass(request)
        return [_failure(request, jsonrpc.METHOD_NOT_FOUND, f"no method {method!r} passes here")]

    def _notified(self, message: Notification) -> list[Out]:
        if message.method == "notifications/initialized":
            return self._send(jsonrpc.encode(Notification(message.method)))
        if message.method != "notifications/cancelled":
            return []
        ident = message.params.get("requestId")
        found: list[Out] = []
        self._waiting = [each for each in self._waiting if each.id != ident]
        for number, (request, _) in list(self._wanted.items()):
            if request.id == ident:
                del self._wanted[number]
                found.append(Withdrawn(number))
        for number, asked in self._asked.items():
            if asked.request.id == ident and asked.request.method != "initialize":
                self._asked[number] = replace(asked, silent=True)
                found += self._send(_cancelled(number))
        return found

    def _pass(self, request: Request, call: bool = False) -> list[Out]:
        params = passing.for_server(request)
        self._number += 1
        self._asked[self._number] = _Asked(request, call)
        return self._send(jsonrpc.encode(Request(self._number, request.method, params)), self._number)

    def _send(self, line: bytes, number: int = 0) -> list[Out]:
        if self._begun:
            self._held.append(ToServer(line, number))
            return []
        return [ToServer(line, number)]

    # ---- tools -----------------------------------------------------------------------------------------------------------

    def _look(self, anew: bool) -> list[Out]:
        """Read the list if it has to be read, else go on with what waits for it."""
        if self._listing is not None:
            return []
        if self._shown is not None and not anew:
            return self._go_on()
        self._listing, self._told = _Listing(0), False
        return self._page(None)

    def _page(self, cursor: str | None) -> list[Out]:
        assert self._listing is not None
        self._number += 1
        self._listing.number = self._number
        params: dict[str, Any] = {"cursor": cursor} if cursor is not None else {}
        if self._waiting and passing.modern(self._waiting[0].params):
            params["_meta"] = passing.version_of(self._waiting[0].params)
        return self._send(jsonrpc.encode(Request(self._number, "tools/list", params)), self._number)

    def _listed(self, result: Any, size: int) -> list[Out]:
        """One page came."""
        assert self._listing is not None
        items, cursor = passing.page(result)
        if items is None:
            return self.not_listed("it does not say its tools in a form that can be read")
        listing = self._listing
        listing.items += items
        listing.pages, listing.size = listing.pages + 1, listing.size + size
        full = listing.pages >= MOST_PAGES or len(listing.items) > MOST_ITEMS or listing.size > LIST_LIMIT
        if cursor is not None and not full:
            return self._page(cursor)
        self._listing = None
        return [Tools(tuple(listing.items[:MOST_ITEMS]), more=cursor is not None or len(listing.items) > MOST_ITEMS)]

    def not_listed(self, why: str, code: int = FAILED) -> list[Out]:
        """There is no list: whoever waits for it hears why."""
        self._listing, self._shown = None, None
        waiting, self._waiting = self._waiting, []
        return [_failure(each, code, f"{self.server}: {why}") for each in waiting]

    def judged(self, shown: Iterable[Tool], hidden: Mapping[str, str]) -> list[Out]:
        """Which tools of the list the agent sees, and why not the others, by name."""
        self._shown = {tool.name: tool for tool in shown}
        self._hidden = dict(hidden)
        return self._go_on()

    def _go_on(self) -> list[Out]:
        waiting, self._waiting = self._waiting, []
        found: list[Out] = []
        for request in waiting:
            if request.method == "tools/list":
                said = {"tools": [tool.given for tool in (self._shown or {}).values()]}
                found.append(_answer(request, said | passing.cacheable(request.params)))
            else:
                found.append(self._called(request))
        return found

    def _called(self, request: Request) -> Out:
        name = request.params.get("name")
        tool = (self._shown or {}).get(name) if isinstance(name, str) else None
        if tool is not None:
            return self._decide(request, tool.name, {"arguments": 0}, tool)
        if isinstance(name, str) and name in self._hidden:
            return _answer(request, passing.told(request.params, f"{self.server}/{name}: {self._hidden[name]}"))
        return _failure(request, jsonrpc.INVALID_PARAMS, f"{self.server} has no tool {str(name)[:100]!r}")

    # ---- calls -----------------------------------------------------------------------------------------------------------

    def _decide(self, request: Request, name: str, keys: Mapping[str, Any], tool: Tool | None) -> Wanted:
        arguments = {key: request.params[key] for key in keys if key in request.params}
        said = arguments.get("arguments", {}) if tool is not None else arguments
        self._number += 1
        wanted = Wanted(self._number, name, said, tool)
        self._wanted[self._number] = request, wanted
        return wanted

    def perform(self, number: int) -> tuple[int, list[Out]]:
        """It may happen. The number under which its end comes; 0 where it does not: the agent does not want it any more, or the
        tool is not what was decided on, and then it is decided again."""
        if (found := self._wanted.pop(number, None)) is None:
            return 0, []
        request, wanted = found
        if wanted.tool is not None and (self._shown is None or self._shown.get(wanted.name) != wanted.tool):
            self._waiting.append(request)
            return 0, self._look(anew=False)
        out = self._pass(request, call=True)
        return self._number, out

    def refuse(self, number: int, words: str) -> list[Out]:
        """It does not happen; the agent reads why, and may go on without it."""
        if (found := self._wanted.pop(number, None)) is None:
            return []
        request, wanted = found
        if wanted.tool is None:
            return [_failure(request, FAILED, words)]
        return [_answer(request, passing.told(request.params, words))]

    def late(self, number: int, words: str) -> list[Out]:
        """The server does not answer in time."""
        if self._listing is not None and self._listing.number == number:
            return self.not_listed(words)
        if number == self._begun and number:
            return self.lost(words)
        if (asked := self._asked.pop(number, None)) is None:
            return []
        return [*self._ended(number, asked, words), *self._send(_cancelled(number))]

    def _ended(self, number: int, asked: _Asked, why: str) -> list[Out]:
        """A request of the agent will get no answer of the server."""
        told = [] if asked.silent else [_failure(asked.request, FAILED, f"{self.server}: {why}")]
        return [*told, *([Answered(number, why, lost=True)] if asked.call else [])]

    # ---- from the server -------------------------------------------------------------------------------------------------

    def from_server(self, line: bytes) -> list[Out]:
        message = jsonrpc.decode(line)
        match message:
            case Response(id=ident):
                return self._replied(ident, message, len(line))
            case Failure(id=ident) if ident is not None:
                return self._replied(ident, message, len(line))
            case Request():
                return self._send(jsonrpc.encode(passing.answer(message, self._root)))
            case Notification():
                return self._server_notifies(message)
        return []

    def _replied(self, ident: Any, message: Response | Failure, size: int) -> list[Out]:
        if isinstance(ident, bool) or not isinstance(ident, int):
            return []  # none of ours
        if ident == self._begun and ident:
            return self._came_back(message)
        if self._listing is not None and ident == self._listing.number:
            if isinstance(message, Failure):
                return self.not_listed(message.message[:500], message.code)
            return self._listed(message.result, size)
        asked = self._asked.pop(ident, None)
        if asked is None:
            return []  # twice, or never asked for
        return self._result(ident, asked, message, size)

    def _result(self, number: int, asked: _Asked, message: Response | Failure, size: int) -> list[Out]:
        if isinstance(message, Failure):
            said: Response | Failure = Failure(asked.request.id, message.code, message.message, message.data)
            error = message.message[:200] or "an error"
        else:
            result, error = passing.for_agent(asked.request, message.result, self._closed)
            said = Response(asked.request.id, result)
            if error:
                said = Failure(asked.request.id, FAILED, f"{self.server}: {error}")
            elif passing.failed(result):
                error = "the tool says that it failed"
        told: list[Out] = [] if asked.silent else [ToAgent(jsonrpc.encode(said))]
        if asked.call:
            digest = "" if isinstance(message, Failure) else inventory.canonical(message.result)
            told.append(Answered(number, error, hashlib.sha256(digest.encode()).hexdigest() if digest else "", size))
        return told

    def _server_notifies(self, message: Notification) -> list[Out]:
        params = message.params
        match message.method:
            case "notifications/tools/list_changed":
                return self.changed()
            case "notifications/progress":
                known = any(params.get("progressToken") == each.token and each.token is not None for each in self._asked.values())
                return [ToAgent(jsonrpc.encode(Notification(message.method, params)))] if known else []
            case method if method in passing.NOTICES:
                return [ToAgent(jsonrpc.encode(Notification(method, params)))]
        return []

    def changed(self) -> list[Out]:
        """The list of tools is another one, or what is shown of it is: it is read again. The agent hears of it once."""
        self._shown = None
        if self._told or self._first is None:
            return []
        self._told = True
        return [ToAgent(jsonrpc.encode(Notification("notifications/tools/list_changed")))]

    # ---- its life --------------------------------------------------------------------------------------------------------

    def lost(self, why: str) -> list[Out]:
        """The server is gone: whoever waits for an answer of it hears so. What is not decided yet may still come."""
        asked, self._asked = self._asked, {}
        self._held, self._begun, self._shown = [], 0, None
        found = self.not_listed(why)
        for number, each in asked.items():
            found += self._ended(number, each, why)
        return found

    def again(self, lines: Iterable[ToServer]) -> list[Out]:
        """Another process of the server begins, with these lines; what it has to hear before them comes first."""
        if self._first is None or any(each.request is self._first for each in self._asked.values()):
            return [*lines]
        self._held += lines
        self._number += 1
        self._begun = self._number
        params = passing.for_server(self._first)
        return [ToServer(jsonrpc.encode(Request(self._begun, "initialize", params)), self._begun)]

    def _came_back(self, message: Response | Failure) -> list[Out]:
        self._begun = 0
        if isinstance(message, Failure):
            return [Broken(f"it does not start again: {message.message[:200]}")]
        held, self._held = self._held, []
        return [ToServer(jsonrpc.encode(Notification("notifications/initialized"))), *held]


def _failure(request: Request, code: int, words: str) -> Out:
    return ToAgent(jsonrpc.encode(Failure(request.id, code, words)))


def _answer(request: Request, result: Mapping[str, Any]) -> Out:
    return ToAgent(jsonrpc.encode(Response(request.id, dict(result))))


def _cancelled(number: int) -> bytes:
    return jsonrpc.encode(Notification("notifications/cancelled", {"requestId": number}))
