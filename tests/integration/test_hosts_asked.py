"""An agent that wants to connect: rules, questions and answers, records; through a real daemon and its proxy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import runtimes, webserver
from tests.doubles.patience import until
from tests.doubles.webserver import Server
from tests.integration.conftest import Talk
from tests.integration.test_secrets import CALLER, audited, configure, here, says


@pytest.fixture
def web() -> Iterator[Server]:
    with webserver.running() as server:
        yield server


def calling(talk: Talk, server: Server, level: str = "auto", **network: Any) -> dict[str, Any]:
    """A conversation whose agent may reach the server only as these rules say; the user's configuration lifts the floor."""
    configure(can=here(server))
    runtimes.put("caller", sys.executable, "-I", str(CALLER), network=["api.example.com"])
    runtimes.bind(talk.client, talk.directory, "caller", can={"network": network}, sandbox={"level": level})
    return talk.create("caller")


def url(server: Server, path: str = "/private/path") -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def asked(talk: Talk) -> dict[str, Any]:
    return until(talk.approvals)[0]


def answer(talk: Talk, approval: str, allow: bool, **more: Any) -> None:
    talk.client.request("approval/answer", {"approval": approval, "allow": allow, **more})


def test_a_rule_that_allows_lets_it_through_and_the_record_has_no_path(talk: Talk, web: Server) -> None:
    conversation = calling(talk, web, allow=[f"127.0.0.1:{web.port}"])
    assert says(talk, conversation, f"get {url(web)}") == "200 hello from /private/path"
    rows = until(lambda: (found := audited("net.connect")) and found[-1]["state"] == "done" and found)
    assert [row["state"] for row in rows] == ["pending", "done"]
    assert rows[0]["decision"]["rule"] == f"{talk.directory}/.agent.yaml:5"
    assert rows[0]["obj"] == {"host": "127.0.0.1", "port": web.port}
    assert rows[1]["obj"]["received"] > 0
    assert "private/path" not in json.dumps(rows)


@pytest.mark.parametrize(("level", "past"), [("strict", "ConnectionRefusedError"), ("landlock", "PermissionError")])
def test_past_the_proxy_there_is_no_way(talk: Talk, web: Server, level: str, past: str) -> None:
    """Not to this machine, though its rules allow that through the proxy; and no name is found."""
    conversation = calling(talk, web, level, allow=[f"127.0.0.1:{web.port}"])
    said = says(talk, conversation, f"get {url(web, '/a')}\ndirect 127.0.0.1 {web.port}\ndirect example.com 443\nenv http_proxy")
    through, direct, named, door = said.splitlines()
    assert through == "200 hello from /a"
    assert direct == past
    assert named == "gaierror"
    assert (door == "http://127.0.0.1:3128") == (level == "strict")


def test_a_rule_that_denies_says_which(talk: Talk, web: Server) -> None:
    conversation = calling(talk, web, deny=[f"127.0.0.1:{web.port}"])
    said = says(talk, conversation, f"get {url(web)}")
    assert said.startswith("403 ")
    assert ".agent.yaml:" in said
    assert not web.heads
    assert until(lambda: audited("net.deny"))[0]["obj"]["host"] == "127.0.0.1"


def test_a_private_address_that_the_user_does_not_name_is_denied_whatever_a_binding_allows(talk: Talk, web: Server) -> None:
    runtimes.put("caller", sys.executable, "-I", str(CALLER))
    runtimes.bind(talk.client, talk.directory, "caller", can={"network": {"allow": [f"127.0.0.1:{web.port}", "*"]}})
    ways = ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]")
    said = says(talk, talk.create("caller"), "\n".join(f"proxied http://{host}:{web.port}/" for host in ways))
    assert [line[:4] for line in said.splitlines() if line.strip()] == ["403 "] * 3
    assert not web.heads


def test_a_question_holds_the_request_and_one_answer_is_for_all_that_wait(talk: Talk, web: Server) -> None:
    conversation = calling(talk, web, ask=[f"127.0.0.1:{web.port}"])
    turn = talk.start(conversation, f"many 5 {url(web)}\nget {url(web, '/again')}")
    approval = asked(talk)
    assert (approval["kind"], approval["subject"]) == ("network", f"connect to 127.0.0.1:{web.port}")
    assert ".agent.yaml:" in approval["rule"]
    assert "network" in talk.file(conversation, f"connect to 127.0.0.1:{web.port}")
    assert not web.heads
    answer(talk, approval["id"], True)
    assert talk.ended(conversation, turn["id"])["state"] == "done"
    assert talk.answer(conversation, turn["id"]).count("200 hello") == 6, "an answer counts for the turn"
    assert not talk.approvals()
    turn = talk.start(conversation, f"get {url(web)}")
    approval = asked(talk)  # the next turn asks again
    answer(talk, approval["id"], False)
    talk.ended(conversation, turn["id"])
    said = talk.answer(conversation, turn["id"])
    assert said.startswith("403 ")
    assert "denied" in said


def test_an_end_of_the_turn_is_the_end_of_its_questions(talk: Talk, web: Server) -> None:
    conversation = calling(talk, web, ask=[f"127.0.0.1:{web.port}"])
    turn = talk.start(conversation, f"get {url(web)}")
    asked(talk)
    talk.client.request("turn/cancel", {"conversation": conversation["id"]})
    assert talk.ended(conversation, turn["id"])["state"] == "cancelled"
    assert not talk.approvals()
    assert not web.heads


def test_without_a_rule_a_public_host_is_asked_about_and_can_be_remembered(talk: Talk, web: Server) -> None:
    """Nothing leads there from here: what counts is that it is asked once, and not again."""
    conversation = calling(talk, web, default="ask")
    turn = talk.start(conversation, "get http://no-such-host.example:8080/")
    approval = asked(talk)
    assert approval["subject"] == "connect to no-such-host.example:8080"
    answer(talk, approval["id"], True, scope="conversation")
    talk.ended(conversation, turn["id"])
    said = says(talk, conversation, "get http://no-such-host.example:8080/")
    assert said.startswith("502 ")
    assert "has no address" in said
    decision = audited("net.connect")[-2]["decision"]
    assert "your earlier answer in this conversation" in decision["rule"]


def test_the_proxy_that_is_not_there_lets_nothing_through(talk: Talk, web: Server, home: Path) -> None:
    conversation = calling(talk, web, allow=[f"127.0.0.1:{web.port}"])
    assert says(talk, conversation, f"get {url(web)}").startswith("200 ")
    talk.stop_daemon()
    assert len(web.heads) == 1


def test_a_command_in_a_terminal_of_the_agent_has_its_way_out(talk: Talk, web: Server) -> None:
    configure(can=here(web))
    puppet = Path(__file__).parents[1] / "doubles/puppet.py"
    runtimes.put("puppet", sys.executable, "-I", str(puppet), client=["terminal"], network=["api.example.com"])
    runtimes.bind(talk.client, talk.directory, "puppet", can={"network": {"allow": [f"127.0.0.1:{web.port}"]}})
    conversation = talk.create("puppet")
    said = {"command": "sh", "args": ["-c", f"curl -s {url(web, '/by-curl')} > out; mv out said"]}
    talk.start(conversation, json.dumps({"id": 1, "method": "terminal/create", "params": said}))
    until((talk.directory / "said").exists)
    assert (talk.directory / "said").read_text() == "hello from /by-curl"
