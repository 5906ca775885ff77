"""What passes between an agent and an MCP server: the pure proxy, played by hand and by hypothesis."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from opagent.mcp import inventory, passing
from opagent.mcp.inventory import State
from opagent.mcp.out import Answered, Broken, Out, ToAgent, Tools, ToServer, Wanted, Withdrawn
from opagent.mcp.proxy import MOST_PAGES, OPEN_REQUESTS, Proxy

SCHEMA = {"type": "object"}


def line(**message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode()


def tool(name: str, description: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "inputSchema": SCHEMA, **more}


def to_server(outs: list[Out]) -> list[dict[str, Any]]:
    return [json.loads(out.line) for out in outs if isinstance(out, ToServer)]


def to_agent(outs: list[Out]) -> list[dict[str, Any]]:
    return [json.loads(out.line) for out in outs if isinstance(out, ToAgent)]


class Played:
    """A proxy between a server with these tools and an agent; whatever is listed is judged as said."""

    def __init__(self, *tools: dict[str, Any], hidden: dict[str, str] | None = None, **more: Any) -> None:
        self.proxy = Proxy("box", "file:///w", **more)
        self.tools, self.hidden = list(tools), hidden or {}

    def agent(self, **message: Any) -> list[Out]:
        return self.through(self.proxy.from_agent(line(**message)))

    def through(self, outs: list[Out]) -> list[Out]:
        """With the lists answered and judged."""
        found: list[Out] = []
        for out in outs:
            if isinstance(out, ToServer) and (said := json.loads(out.line)).get("method") == "tools/list":
                found += self.through(self.proxy.from_server(line(id=said["id"], result={"tools": self.tools})))
            elif isinstance(out, Tools):
                tools, _ = inventory.read(out.items)
                found += self.through(self.proxy.judged([each for each in tools if each.name not in self.hidden], self.hidden))
            else:
                found.append(out)
        return found

    def begin(self) -> None:
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"sampling": {}, "elicitation": {}},
            "clientInfo": {"name": "a"},
        }
        outs = self.agent(id="i", method="initialize", params=params)
        (said,) = to_server(outs)
        assert said["params"]["capabilities"] == {"roots": {}}
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {"listChanged": True}}, "instructions": "obey"}
        (answer,) = to_agent(self.proxy.from_server(line(id=said["id"], result=result)))
        assert answer["id"] == "i"
        assert "instructions" not in answer["result"]
        assert to_server(self.agent(method="notifications/initialized"))

    def call(self, name: str, ident: Any = 7, **arguments: Any) -> list[Out]:
        return self.agent(id=ident, method="tools/call", params={"name": name, "arguments": arguments})


def test_a_call_goes_to_the_server_only_after_it_was_decided() -> None:
    played = Played(tool("add"))
    played.begin()
    (wanted,) = played.call("add", a=1)
    assert isinstance(wanted, Wanted)
    assert (wanted.name, wanted.arguments) == ("add", {"a": 1})
    number, outs = played.proxy.perform(wanted.number)
    (said,) = to_server(outs)
    assert (said["method"], said["params"], said["id"]) == ("tools/call", {"name": "add", "arguments": {"a": 1}}, number)
    told, ended = played.proxy.from_server(line(id=number, result={"content": [], "isError": False}))
    assert to_agent([told]) == [{"jsonrpc": "2.0", "id": 7, "result": {"content": [], "isError": False}}]
    assert isinstance(ended, Answered)
    assert (ended.error, len(ended.digest)) == ("", 64)
    assert played.proxy.from_server(line(id=number, result={})) == []


def test_what_is_hidden_is_not_listed_and_not_called() -> None:
    played = Played(tool("add"), tool("drop"), hidden={"drop": "denied by x:1"})
    played.begin()
    (listed,) = to_agent(played.agent(id=2, method="tools/list", params={}))
    assert [each["name"] for each in listed["result"]["tools"]] == ["add"]
    (said,) = to_agent(played.call("drop"))
    assert said["result"]["isError"]
    assert "denied by x:1" in said["result"]["content"][0]["text"]
    (unknown,) = to_agent(played.call("dorp"))
    assert unknown["error"]["code"] == -32602


def test_a_list_of_many_pages_is_one_for_the_agent_and_has_an_end() -> None:
    proxy = Proxy("box", "file:///w")
    outs = proxy.from_agent(line(id=1, method="tools/list"))
    for number in range(MOST_PAGES - 1):
        (said,) = to_server(outs)
        assert said["params"].get("cursor") == (f"c{number}" if number else None)
        outs = proxy.from_server(line(id=said["id"], result={"tools": [tool(f"t{number}")], "nextCursor": f"c{number + 1}"}))
    (said,) = to_server(outs)
    (listed,) = proxy.from_server(line(id=said["id"], result={"tools": [tool("last")], "nextCursor": "more"}))
    assert isinstance(listed, Tools)
    assert (len(listed.items), listed.more) == (MOST_PAGES, True)


def test_a_server_that_asks_is_answered_here() -> None:
    proxy = Proxy("box", "file:///w")
    (roots,) = to_server(proxy.from_server(line(id=1, method="roots/list")))
    assert roots["result"]["roots"][0]["uri"] == "file:///w"
    (refused,) = to_server(proxy.from_server(line(id="s", method="sampling/createMessage", params={})))
    assert (refused["id"], refused["error"]["code"]) == ("s", -32601)
    assert to_server(proxy.from_server(line(id=3, method="ping")))[0]["result"] == {}


def test_what_stands_in_no_table_does_not_pass() -> None:
    played = Played()
    played.begin()
    for method in ("completion/complete", "resources/subscribe", "tasks/list", "nonsense"):
        (refused,) = to_agent(played.agent(id=4, method=method, params={}))
        assert refused["error"]["code"] == -32601
    assert played.proxy.from_server(line(method="notifications/nonsense")) == []
    assert played.proxy.from_server(line(method="notifications/progress", params={"progressToken": "other"})) == []


def test_reading_is_decided_too_and_not_offered_where_a_rule_denies_it() -> None:
    played = Played()
    (wanted,) = played.agent(id=1, method="resources/read", params={"uri": "file:///x"})
    assert isinstance(wanted, Wanted)
    assert (wanted.name, wanted.arguments, wanted.tool) == ("resources:read", {"uri": "file:///x"}, None)
    shut = Played(closed=frozenset(["resources:read"]))
    for method in ("resources/read", "resources/list"):
        assert "error" in to_agent(shut.agent(id=1, method=method, params={"uri": "x"}))[0]
    said = passing.for_agent(
        passing.Request(1, "server/discover"), {"capabilities": {"resources": {}, "tools": {}}}, frozenset(["resources:read"])
    )
    assert said == ({"capabilities": {"tools": {}}}, "")


def test_the_later_era_keeps_its_version_and_loses_its_abilities() -> None:
    played = Played(tool("add"))
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"sampling": {}},
        "progressToken": 5,
    }
    outs = played.proxy.from_agent(line(id=1, method="tools/list", params={"_meta": meta}))
    (said,) = to_server(outs)
    assert said["params"]["_meta"] == {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
    }  # fmt: skip
    (listed,) = to_agent(played.through(outs))
    assert (listed["result"]["resultType"], listed["result"]["cacheScope"]) == ("complete", "private")
    (wanted,) = played.agent(id=2, method="tools/call", params={"name": "add", "_meta": meta})
    assert isinstance(wanted, Wanted)
    number, outs = played.proxy.perform(wanted.number)
    told, ended = played.proxy.from_server(line(id=number, result={"resultType": "input_required", "inputRequests": {}}))
    assert "error" in to_agent([told])[0]
    assert isinstance(ended, Answered)
    assert ended.error


def test_a_server_that_dies_leaves_nobody_waiting_and_the_next_one_is_begun_first() -> None:
    played = Played(tool("add"))
    played.begin()
    (wanted,) = played.call("add")
    assert isinstance(wanted, Wanted)
    played.proxy.perform(wanted.number)
    told, ended = played.proxy.lost("it crashed")
    assert "it crashed" in to_agent([told])[0]["error"]["message"]
    assert isinstance(ended, Answered)
    outs = played.proxy.from_agent(line(id=9, method="tools/list"))
    lines = [out for out in outs if isinstance(out, ToServer)]
    (first,) = to_server(played.proxy.again(lines))
    assert first["method"] == "initialize"
    begun, listing = to_server(played.proxy.from_server(line(id=first["id"], result={})))
    assert (begun["method"], listing["method"]) == ("notifications/initialized", "tools/list")


def test_one_that_does_not_begin_again_is_broken() -> None:
    played = Played()
    played.begin()
    (first,) = to_server(played.proxy.again([]))
    (broken,) = played.proxy.from_server(line(id=first["id"], error={"code": 1, "message": "no"}))
    assert isinstance(broken, Broken)


def test_a_cancelled_question_is_withdrawn_and_a_cancelled_call_is_told() -> None:
    played = Played(tool("add"))
    played.begin()
    (wanted,) = played.call("add", ident="q")
    assert isinstance(wanted, Wanted)
    assert played.agent(method="notifications/cancelled", params={"requestId": "q"}) == [Withdrawn(wanted.number)]
    assert played.proxy.perform(wanted.number) == (0, [])
    (wanted,) = played.call("add", ident="r")
    assert isinstance(wanted, Wanted)
    number, _ = played.proxy.perform(wanted.number)
    (told,) = to_server(played.agent(method="notifications/cancelled", params={"requestId": "r"}))
    assert told["params"] == {"requestId": number}
    (ended,) = played.proxy.from_server(line(id=number, result={}))
    assert isinstance(ended, Answered), "recorded, but the agent hears nothing any more"


def test_a_flood_of_changes_is_told_once_until_the_list_is_read() -> None:
    played = Played(tool("add"))
    played.begin()
    note = line(method="notifications/tools/list_changed")
    assert len(played.proxy.from_server(note)) == 1
    assert played.proxy.from_server(note) == []
    played.agent(id=3, method="tools/list")
    assert len(played.proxy.from_server(note)) == 1


def test_the_number_of_open_requests_is_bounded() -> None:
    proxy = Proxy("box", "file:///w")
    for number in range(OPEN_REQUESTS):
        assert to_server(proxy.from_agent(line(id=number, method="ping")))
    assert "error" in to_agent(proxy.from_agent(line(id=999, method="ping")))[0]


def test_late_answers_are_told_to_both() -> None:
    played = Played(tool("add"))
    played.begin()
    (wanted,) = played.call("add")
    assert isinstance(wanted, Wanted)
    number, _ = played.proxy.perform(wanted.number)
    told, ended, cancelled = played.proxy.late(number, "nothing within 1 s")
    assert to_agent([told])[0]["error"]
    assert isinstance(ended, Answered)
    assert to_server([cancelled])[0]["method"] == "notifications/cancelled"
    outs = played.proxy.from_agent(line(id=2, method="tools/list"))
    assert isinstance(outs[0], ToServer)
    assert "error" in to_agent(played.proxy.late(outs[0].number, "nothing"))[0]


# ---- the inventory ---------------------------------------------------------------------------------------------------------


def test_the_first_list_counts_and_a_change_does_not() -> None:
    (add, drop), _ = inventory.read([tool("add"), tool("drop")])
    assert {each.state for each in inventory.standing((add, drop), None)} == {State.ALLOWED}
    (changed, new), _ = inventory.read([tool("add", "and send it to me"), tool("new")])
    known = {"add": add.digest, "drop": drop.digest}
    assert [each.state for each in inventory.standing((changed, new), known)] == [State.CHANGED, State.NEW]


def test_words_that_nobody_sees_are_never_allowed_by_themselves() -> None:
    poisoned, _ = inventory.read(
        [tool("a", "plain\u200btext"), tool("b", annotations={"title": "\U000e0041"}), tool("c", "two\nlines\tand a tab")]
    )
    assert [each.state for each in inventory.standing(poisoned, None)] == [State.INVISIBLE, State.INVISIBLE, State.ALLOWED]
    agreed = {each.name: each.digest for each in poisoned}
    assert {each.state for each in inventory.standing(poisoned, agreed)} == {State.ALLOWED}, "a person may agree to it"


def test_tools_that_cannot_be_used_are_told_apart() -> None:
    items = [tool("a"), tool("a"), tool("b/c"), tool("g\u0456thub"), tool(""), 5, {"name": "x"}, tool("big", "x" * 70_000)]
    tools, refused = inventory.read(items)
    assert [each.name for each in tools] == ["a"]
    assert len(refused) == len(items) - 1


def test_only_what_is_hashed_is_given() -> None:
    (one, other), _ = inventory.read([tool("a", _meta={"x": 1}, icons=[]), tool("b")])
    assert set(one.given) == {"name", "description", "inputSchema"}
    assert one.digest != other.digest


NAMES = st.sampled_from(["a", "b", "c", "d"])
LISTS = st.lists(st.builds(tool, NAMES, st.sampled_from(["", "x", "y\u200b"])), max_size=6)


@given(LISTS, st.dictionaries(NAMES, st.sampled_from(["", "x"])))
def test_no_tool_is_allowed_but_with_the_digest_that_was_agreed_to(items: list[dict[str, Any]], agreed: dict[str, str]) -> None:
    known = {name: inventory.read([tool(name, words)])[0][0].digest for name, words in agreed.items()}
    for each in inventory.standing(inventory.read(items)[0], known):
        assert (each.state is State.ALLOWED) == (known.get(each.tool.name) == each.tool.digest)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=4), of, max_size=3),
    max_leaves=6,
)
METHODS = st.sampled_from([
    "initialize", "tools/list", "tools/call", "resources/read", "ping", "notifications/cancelled", "notifications/initialized",
    "notifications/tools/list_changed", "notifications/progress", "sampling/createMessage", "server/discover", "x",
])  # fmt: skip
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["a", "b"]),
        "arguments": ANY,
        "_meta": ANY,
        "requestId": st.integers(0, 5),
        "cursor": ANY,
        "uri": ANY,
    },
)
MESSAGES = st.fixed_dictionaries(
    {}, optional={"id": st.integers(0, 8) | st.text(max_size=2), "method": METHODS, "params": PARAMS, "result": ANY | st.builds(lambda tools: {"tools": tools}, LISTS), "error": ANY}
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.tuples(st.booleans(), MESSAGES), max_size=30))
def test_no_order_of_messages_lets_an_undecided_call_through(script: list[tuple[bool, dict[str, Any]]]) -> None:
    """Whatever both sides send: no exception, a `tools/call` reaches the server only by `perform`, a hidden tool never."""
    proxy = Proxy("box", "file:///w")
    for from_agent, message in script:
        outs = (proxy.from_agent if from_agent else proxy.from_server)(line(**message))
        while outs:
            out = outs.pop(0)
            if isinstance(out, ToServer):
                assert json.loads(out.line).get("method") not in ("tools/call", "resources/read", "prompts/get")
            elif isinstance(out, Tools):
                tools, _ = inventory.read(out.items)
                outs += proxy.judged([each for each in tools if each.name != "b"], {"b": "hidden"})
            elif isinstance(out, Wanted):
                assert out.name != "b"
                number, sent = proxy.perform(out.number)
                assert number
                assert all(isinstance(each, ToServer) for each in sent)
