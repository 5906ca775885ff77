"""An agent here calls the agent of a directory on another machine: over the link, by what is trusted there, with one clear outcome."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opagent import launch
from opagent.client import Client
from tests.doubles.far import FINAL, Far, far, kill
from tests.doubles.patience import until
from tests.doubles.terminal import run, run_json
from tests.integration.conftest import Talk
from tests.integration.test_calls import bind, rows, said

CALLEE = "version: 1\nagent: echo\nroles: {echo: {runtime: echo}, second: {runtime: echo}, third: {runtime: echo}}\n"
CALLS = "can: {agents: {allow: [second, third, echo], default: deny}}\n"


@pytest.fixture
def there(home: Path, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    """A machine that a person here has reached."""
    with far(home.parent / "there") as place:
        (place.docs / ".agent.yaml").write_text("version: 1\nagent: echo\n")
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", place.server.config)
        with place.client():
            pass
        yield place


def binding(there: Far, more: str = "") -> str:
    allow = f'can:\n  agents: {{allow: ["{there.target}", helper{more}]}}\n'
    roles = "".join(f"  {name}: {{runtime: echo}}\n" for name in ("writer", "helper", "second", "third"))
    return f"version: 1\nagent: writer\nroles:\n{roles}{allow}"


def trusted_there(there: Far, text: str) -> None:
    (there.docs / ".agent.yaml").write_text(text)
    with there.client() as client:
        asked = client.request("trust/show", {"path": str(there.docs)})
        client.request("trust/grant", {"path": str(there.docs), "digest": asked["digest"]})


def asked(talk: Talk, target: str, prompt: str, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The caller's turn, and what the tool gave it."""
    caller, answer = said(talk, "/mcp opagent agent_call " + json.dumps({"to": target, "prompt": prompt, **more}))
    return caller, json.loads(answer.splitlines()[-1])


def turns_there(there: Far) -> list[dict[str, Any]]:
    with there.client() as client:
        known = client.request("conversation/list", {})["conversations"]
        return [turn for each in known for turn in client.request("conversation/show", {"conversation": each["id"]})["turns"]]


def test_the_agent_there_answers_and_both_records_have_the_call(talk: Talk, there: Far) -> None:
    bind(talk, binding(there))
    caller, found = asked(talk, there.target, "hello there")
    assert (found["outcome"], found["text"], found["agent"]) == ("answer", "echo: hello there", "echo")
    (file,) = (there.docs / "conversations").glob("*.md")
    assert found["file"] == str(file) and found["machine"] == "there"
    text = file.read_text()
    assert "agent:writer" in text and "via=call" in text and "hello there" in text
    shown = talk.file(caller, f"there:{file}")
    assert f"call <code>echo in {there.target}</code>" in shown and "> echo: hello there" in shown
    (start,) = rows(talk, "call.start")
    (end,) = rows(talk, "call.end")
    assert start["obj"] == {"name": there.target, "machine": "there"} and start["decision"]["enforcement"] == "proxy"
    assert end["state"] == "done"
    with there.client() as client:
        (theirs,) = client.request("audit/query", {"kinds": ["call.start"]})["records"]
        assert theirs["trace"]["tid"] == start["trace"]["tid"]
        until(lambda: not [row for row in client.request("process/list", {})["processes"] if row["pid"]])


def test_it_is_sent_and_its_result_fetched_and_gone_on_with(talk: Talk, there: Far) -> None:
    bind(talk, binding(there))
    caller, first = said(talk, "/mcp opagent agent_call " + json.dumps({"to": f"ssh://there{there.docs}", "prompt": "one"}))
    found = json.loads(first.splitlines()[-1])
    again = {"to": there.target, "prompt": "/context", "conversation": found["conversation"]}
    turn = talk.say(caller, "/mcp opagent agent_call " + json.dumps(again))
    assert "remembered: 1 turns" in talk.answer(caller, turn["id"])
    other, foreign = asked(talk, there.target, "x", conversation=found["conversation"])
    assert other["id"] != caller["id"] and "is no conversation of yours" in foreign["text"]
    sent = talk.say(caller, "/mcp opagent agent_send " + json.dumps({"to": there.target, "prompt": "hi"}))
    assert json.loads(talk.answer(caller, sent["id"]).splitlines()[-1])["outcome"] == "running"


def test_a_directory_here_that_leads_there_is_called_by_the_same_rule(talk: Talk, there: Far) -> None:
    leads = talk.directory.parent / "leads"
    bind(talk, f"version: 1\nhost: {there.target}\n", leads)
    bind(talk, binding(there))
    assert asked(talk, "../leads", "hello")[1]["text"] == "echo: hello"
    bind(talk, binding(there).replace(f'"{there.target}"', '"../*"').replace("helper]", "helper], default: deny"))
    found = asked(talk, "../leads", "hello")[1]
    assert found["outcome"] == "refused" and f"{there.target} may not be called: denied by" in found["text"]


def test_a_path_from_the_home_directory_there_is_the_same_word(talk: Talk, there: Far) -> None:
    bind(talk, binding(there).replace(f'"{there.target}"', '"there:docs"'))
    assert asked(talk, there.target, "hello")[1]["text"] == asked(talk, "there:docs", "hello")[1]["text"] == "echo: hello"
    bind(
        talk, binding(there).replace(f'["{there.target}"', '["there:*"').replace("helper]", f'helper], deny: ["{there.target}"]')
    )
    assert "denied by" in asked(talk, "there:docs", "hello")[1]["text"]


def test_what_no_rule_allows_is_asked_here(talk: Talk, there: Far) -> None:
    bind(talk, "version: 1\nagent: writer\nroles: {writer: {runtime: echo}}\ncan: {agents: {allow: ['*', '/**', '../**']}}\n")
    caller = talk.create("writer")
    turn = talk.start(caller, f"/call {there.target} hello")
    (approval,) = until(talk.approvals)
    assert approval["subject"].startswith(f"call {there.target}\n") and not turns_there(there)
    talk.client.request("approval/answer", {"approval": approval["id"], "allow": True})
    talk.ended(caller, turn["id"])
    assert talk.answer(caller, turn["id"]) == "[echo: hello]\n"


def test_a_directory_that_is_not_trusted_there_begins_nothing(talk: Talk, there: Far) -> None:
    bind(talk, binding(there))
    (there.docs / ".agent.yaml").write_text(CALLEE + "can: {network: {allow: [example.com]}}\n")
    _, found = asked(talk, there.target, "hello")
    assert found["outcome"] == "refused" and found["reason"] == "not_trusted"
    assert found["text"].startswith(f"on there: {there.docs} is not trusted") and found["hint"].startswith("opagent trust there:")
    assert not turns_there(there) and rows(talk, "call.end")[0]["state"] == "failed"


def test_a_machine_that_nobody_reached_is_not_dialed(talk: Talk, there: Far) -> None:
    bind(talk, binding(there, ', "other:/**"'))
    _, found = asked(talk, "other:/srv/docs", "hello")
    assert found["outcome"] == "refused" and "no person here has reached it" in found["text"]
    assert found["hint"] == "opagent host check other"


def test_a_machine_that_does_not_answer(talk: Talk, there: Far) -> None:
    bind(talk, binding(there))
    there.line.refuse()
    until(lambda: there.state() != "connected")
    _, found = asked(talk, there.target, "hello")
    assert (found["outcome"], found.get("reason")) == ("refused", "host_unreachable"), found
    assert rows(talk, "call.end")[0]["state"] == "failed"


def test_cancelling_the_caller_cancels_it_there(talk: Talk, there: Far) -> None:
    bind(talk, binding(there))
    caller = talk.create("writer")
    turn = talk.start(caller, f"/call {there.target} /slow 1000 0.1")
    talk.file(caller, f"there:{there.docs}/conversations")
    talk.client.request("turn/cancel", {"turn": turn["id"], "conversation": caller["id"]})
    assert talk.ended(caller, turn["id"])["state"] == "cancelled"
    assert until(lambda: [each for each in turns_there(there) if each["state"] in FINAL])[0]["state"] == "cancelled"
    assert until(lambda: rows(talk, "call.end"))[0]["state"] == "failed"  # when the machine there has said that it stopped it


def test_a_call_that_takes_too_long_is_stopped_there(talk: Talk, there: Far) -> None:
    bind(talk, binding(there))
    _, found = asked(talk, there.target, "/slow 1000 0.1", timeout=3)
    assert found["outcome"] == "timed_out"
    assert until(lambda: [each for each in turns_there(there) if each["state"] in FINAL])[0]["state"] == "cancelled"


def test_a_circle_over_the_machine_cannot_begin(talk: Talk, there: Far) -> None:
    """The daemon there has no way back; and where it had one, the chain names who waits."""
    bind(talk, binding(there))
    trusted_there(there, CALLEE + 'can: {agents: {allow: ["here:/**", second]}}\n')
    _, found = asked(talk, there.target, f"/call here:{talk.directory} hello")
    assert "refused" in found["text"] and "no person here has reached it" in found["text"]


def test_a_call_that_comes_back_by_another_machine_is_a_circle(talk: Talk, there: Far) -> None:
    bind(talk, binding(there))
    host = talk.client.greeting.host
    chain = [
        {"host": host, "workspace": str(talk.directory), "role": "writer"},
        {"host": "elsewhere", "workspace": "/srv/docs", "role": "echo"},
    ]
    with pytest.raises(Exception, match="that is a circle: writer calls echo in /srv/docs on another machine calls writer"):
        talk.client.request("call/across", arriving(str(talk.directory), chain))
    with pytest.raises(Exception, match="calls go 2 deep, this one would be 3"):
        talk.client.request("call/across", arriving(str(talk.directory), [chain[1]] * 3))


def arriving(path: str, chain: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    rules = {"ceilings": [], "chain": [], "defaults": [], "max_depth": 2, "max_children": 4}
    by = {"key": "k1", "conversation": "c1", "turn": "t1", "trace": "0" * 32}
    return {"path": path, "prompt": "hello", "by": by, "chain": chain, "rules": [rules], "strict": False, **more}


def test_a_call_whose_machine_has_gone_ends_and_one_key_is_one_turn(talk: Talk) -> None:
    bind(talk, "version: 1\nagent: echo\n")
    chain = [{"host": "elsewhere", "workspace": "/srv/docs", "role": "echo"}]
    more = {"prompt": "/slow 1000 0.1", "grace": 0.5}
    with pytest.raises(Exception, match="is not known there any more"):
        talk.client.request("call/across", arriving(str(talk.directory), chain, again=True))
    with Client("test") as other:
        first = other.request("call/across", arriving(str(talk.directory), chain, **more))
        again = other.request("call/across", arriving(str(talk.directory), chain, again=True, **more))
        assert first["call"] == again["call"] and first["outcome"] == "running"
        until(lambda: talk.client.request("call/result", {"call": first["call"], "within": 0}).get("turn"))
    ended = talk.client.request("call/result", {"call": first["call"]})
    assert (ended["outcome"], ended["text"].splitlines()[0]) == (
        "cancelled",
        "the machine that called is not connected any more",
    )
    assert len(talk.client.request("conversation/list", {})["conversations"]) == 1


def test_a_call_whose_machine_says_nothing_any_more_ends(talk: Talk) -> None:
    """As when it lost its power: the connection stands for ever."""
    bind(talk, "version: 1\nagent: echo\n")
    chain = [{"host": "elsewhere", "workspace": "/srv/docs", "role": "echo"}]
    params = arriving(str(talk.directory), chain, prompt="/slow 1000 0.1", grace=2, alive=True)
    with Client("test") as other:
        call = other.request("call/across", params)["call"]
        for _ in range(3):
            assert other.request("call/across", params | {"again": True})["outcome"] == "running"
        ended = talk.client.request("call/result", {"call": call})
    assert ended["outcome"] == "cancelled" and "is not connected any more" in ended["text"]


def test_a_long_call_says_that_it_is_wanted(talk: Talk, there: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word it would end there after two seconds."""
    code = "from opagent.daemon import across, main; across.ALIVE, across.GRACE = 0.3, 2.0; raise SystemExit(main.main())"
    talk.stop_daemon()
    monkeypatch.setattr(launch, "DAEMON", ("-c", f"{code}  # opagent.daemon.main"))
    with there.client():
        pass
    bind(talk, binding(there))
    _, found = asked(talk, there.target, "/slow 50 0.1")
    assert found["outcome"] == "answer", found


def test_calls_go_only_so_deep_over_machines(talk: Talk, there: Far) -> None:
    bind(talk, binding(there, ", second, third"))
    trusted_there(there, CALLEE + CALLS)
    _, answer = said(talk, f"/call {there.target} /call second /call third hello")
    assert "calls go 2 deep, this one would be 3" in answer


def test_the_rules_of_the_caller_bind_there(talk: Talk, there: Far) -> None:
    bind(talk, binding(there).replace("helper]", "helper], deny: [second]"))
    trusted_there(there, CALLEE + CALLS)
    _, answer = said(talk, f"/call {there.target} /call second hello")
    assert "refused: second may not be called: denied by" in answer


def test_who_waits_for_a_person_there_is_shown_here(talk: Talk, there: Far) -> None:
    bind(talk, binding(there))
    caller = talk.create("writer")
    turn = talk.start(caller, f"/call {there.target} /permission")
    with there.client() as client:
        (approval,) = until(lambda: client.request("approval/list", {})["approvals"])
        talk.file(caller, f"waits for a person: <code>opagent allow --host there {approval['id']}</code>")
        client.request("approval/answer", {"approval": approval["id"], "allow": True})
    assert talk.ended(caller, turn["id"])["state"] == "done"
    assert rows(talk, "call.end")[0]["state"] == "done"


def test_ps_shows_who_was_called_there_beneath_who_called(talk: Talk, there: Far) -> None:
    bind(talk, binding(there, ", second"))
    trusted_there(there, CALLEE + CALLS)
    caller = talk.create("writer")
    turn = talk.start(caller, f"/call {there.target} /call second /wait")
    until(lambda: len(turns_there(there)) == 2 and turns_there(there)[0]["state"] == "running")
    found = until(lambda: len(rows_ := talk.client.request("process/list", {"hosts": True})["processes"]) == 3 and rows_)
    by = {row["agent"]: row.get("called_by") for row in found}
    (away,) = next(row["calls"] for row in found if row["agent"] == "writer")
    assert by["writer"] is None and by["echo"] == {
        "host": None, "conversation": caller["id"], "turn": turn["id"], "call": away["call"],
    }  # fmt: skip
    assert (by["second"]["host"], by["second"]["conversation"]) == ("there", away["conversation"])
    assert "calls" in talk.client.request("process/list", {})["processes"][0]
    with there.client() as client:
        echo = next(row for row in client.request("process/list", {})["processes"] if row["agent"] == "echo")
        assert (echo["called_by"]["host"], echo["called_by"]["turn"]) == (talk.client.greeting.host, turn["id"])
    shown = [line.lstrip("└─│ ") for line in run("ps", "-a", "--tree").stdout.splitlines()]
    assert [line.split()[0] for line in shown if ".md" in line] == [caller["id"], away["conversation"], by_agent(found, "second")]
    talk.client.request("turn/cancel", {"conversation": caller["id"]})
    talk.ended(caller, turn["id"])
    until(lambda: "calls" not in talk.client.request("process/list", {})["processes"][0])


def test_why_leads_from_machine_to_machine(talk: Talk, there: Far) -> None:
    bind(talk, binding(there))
    caller, found = asked(talk, there.target, '/mcp opagent notes_write {"path": "plan", "text": "Words"}')
    mine = run_json("why", found["call"])
    callee = next(step for step in mine["steps"] if step["what"] == "callee")
    assert found["conversation"] in callee["text"] and f"opagent why --host there {callee['there']['call']}" in callee["text"]
    assert mine["steps"][0]["what"] == "prompt"
    theirs = run_json("why", "--host", "there", callee["there"]["call"])
    called = next(step for step in theirs["steps"] if step["what"] == "called")
    assert caller["id"] in called["text"] and called["there"] == {"host": talk.client.greeting.host, "call": found["call"]}
    assert theirs["steps"][0] == mine["steps"][0] | {"here": True}
    note = run("why", f"there:{there.docs}/.opagent/notes/plan.md")
    assert note.returncode == 0, note.stderr
    shown = [line.split(maxsplit=2)[1:] for line in note.stdout.splitlines() if " prompt " in line or " called " in line]
    assert [words[0] for words in shown] == ["prompt", "called", "prompt"] and shown[0][1].startswith("here: by human:")


def by_agent(found: list[dict[str, Any]], agent: str) -> str:
    return next(str(row["conversation"]) for row in found if row["agent"] == agent)


def test_a_lost_link_is_waited_for_and_nothing_is_sent_twice(talk: Talk, there: Far) -> None:
    bind(talk, binding(there))
    caller = talk.create("writer")
    turn = talk.start(caller, f"/call {there.target} /slow 40 0.1")
    talk.file(caller, f"there:{there.docs}/conversations")
    there.line.reset()
    assert talk.ended(caller, turn["id"])["state"] == "done"
    assert rows(talk, "call.end")[0]["state"] == "done"
    assert [each["state"] for each in turns_there(there)] == ["done"]


def test_a_daemon_there_that_dies_fails_the_call(talk: Talk, there: Far) -> None:
    bind(talk, binding(there))
    caller = talk.create("writer")
    turn = talk.start(caller, f"/call {there.target} /slow 1000 0.1")
    talk.file(caller, f"there:{there.docs}/conversations")
    kill(there.daemon_there())
    talk.ended(caller, turn["id"])
    assert "the call is not known there any more" in talk.answer(caller, turn["id"])
    assert [each["state"] for each in turns_there(there)] == ["interrupted"]


def limits_of(talk: Talk, caller: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """metric -> (used, reserved)"""
    found = talk.client.request("budget/show", {"conversation": caller["id"]})["limits"]
    return {each["metric"]: (each["used"], each["reserved"]) for each in found}


def test_what_is_used_there_counts_in_the_budget_here(talk: Talk, there: Far) -> None:
    bind(talk, binding(there, ", second") + "budget: {tokens: 1000, turns: 9, wall: 600s, per: conversation}\n")
    trusted_there(there, CALLEE + CALLS)
    caller, answer = said(talk, f"/call {there.target} /spend 200\n/call {there.target} /call second /spend 300")
    assert answer.count("spent") == 2 and caller["turn"]["state"] == "done"
    used = until(lambda: (found := limits_of(talk, caller))["turns"][0] == 4 and found)
    # of two that say nothing of tokens a tenth of the limit counts: of 1000 here, of the 800 that were left there
    assert used["tokens"] == (200 + 300 + 100 + 80, 0) and used["turns"] == (4, 0)
    assert used["wall"][0] < 2 * talk_seconds(talk, caller)


def talk_seconds(talk: Talk, caller: dict[str, Any]) -> float:
    """How long the turns of a conversation took."""
    (row,) = [row for row in talk.client.request("usage/list", {"by": "conversation"})["usage"] if row["name"] == caller["id"]]
    return float(row["wall"]) + 0.001


def test_a_budget_that_is_used_up_there_ends_the_caller_and_is_asked_here(talk: Talk, there: Far) -> None:
    bind(talk, binding(there) + "budget: {tokens: 1000, per: conversation}\n")
    caller, answer = said(talk, f"/call {there.target} /spend 600\n/call {there.target} /spend 600\n/call {there.target} hello")
    assert answer.startswith("[spent 600]\n")
    assert (caller["turn"]["state"], caller["turn"]["reason"]) == ("cancelled", "budget")
    (question,) = talk.approvals()
    assert "1200 of 1,000 tokens" in question["subject"]
    until(lambda: limits_of(talk, caller)["tokens"] == (1300, 0))  # and what was reserved for the caller's own turn
    with there.client() as client:
        assert not client.request("approval/list", {})["approvals"]


def test_a_turn_too_many_does_not_begin_there(talk: Talk, there: Far) -> None:
    bind(talk, binding(there) + "budget: {turns: 3, per: conversation}\n")
    caller, answer = said(talk, f"/callmany 5 {there.target} hello")
    lines = sorted(line.partition(",")[0] for line in answer.splitlines())
    assert [line.partition(":")[0] for line in lines] == ["echo"] * 2 + ["failed"] * 3 and "budget" in lines[-1], answer
    assert len(turns_there(there)) == 2
    until(lambda: limits_of(talk, caller)["turns"] == (3, 0))


def test_who_runs_there_is_stopped_when_the_budget_here_ends(talk: Talk, there: Far) -> None:
    bind(talk, binding(there) + "budget: {tool_calls: 5, per: day}\n")
    caller, _ = said(talk, f"/call {there.target} /calls 1000 0.05")
    assert (caller["turn"]["state"], caller["turn"]["reason"]) == ("cancelled", "budget")
    assert until(lambda: [each for each in turns_there(there) if each["state"] in FINAL])[0]["state"] == "cancelled"
    assert limits_of(talk, caller)["tool_calls"][0] < 200


def test_what_a_caller_elsewhere_left_binds_while_it_hears_nothing(talk: Talk) -> None:
    bind(talk, CALLEE + CALLS)
    chain = [{"host": "elsewhere", "workspace": "/srv/docs", "role": "echo"}]
    left = [{"metric": "tool_calls", "most": 5, "origin": "a:1"}, {"metric": "tool_calls", "most": 9, "origin": "b:1"}]
    params = arriving(str(talk.directory), chain, prompt="/calls 1000 0.05", budget=left)
    with Client("test") as other:
        call = other.request("call/across", params)["call"]
    ended = talk.client.request("call/result", {"call": call})
    assert ended["outcome"] == "budget" and not talk.approvals(), ended
    told = talk.client.request("call/across", params | {"again": True})
    assert 5 < told["used"]["tool_calls"] < 200
    for wrong in ([{"metric": "x", "most": 1}], [{"metric": "turns", "most": 0}], [{"metric": "turns", "most": "1"}], [1]):
        params["by"]["key"] = "another"
        with pytest.raises(Exception, match="no limit of a caller"):
            talk.client.request("call/across", params | {"budget": wrong})
