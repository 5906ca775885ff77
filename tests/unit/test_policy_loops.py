"""Which sequences of tool calls look like a loop, and which do not."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.policy import loops
from opagent.policy.loops import Kind, Verdict


def call(command: str, output: str = "ok", status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"kind": "execute", "title": command, "status": status, "rawInput": {"command": command}, "rawOutput": output} | more


def edit(path: str, text: str, output: str = "edited") -> dict[str, Any]:
    content = [{"type": "diff", "path": path, "oldText": "", "newText": text}]
    return {"kind": "edit", "title": f"Edit {path}", "status": "completed", "rawInput": {"path": path, "text": text},
            "content": content, "rawOutput": output}  # fmt: skip


def verdicts(calls: Iterable[Mapping[str, Any]], watch: loops.Watch | None = None) -> list[Verdict]:
    """Until the pause."""
    watch, found = watch or loops.Watch(), []
    for each in calls:
        if (said := watch.called(loops.read(each))) is not None:
            found.append(said)
            if said.kind is Kind.PAUSE:
                break
    return found


def kinds(calls: Iterable[Mapping[str, Any]]) -> list[str]:
    return [each.kind.value for each in verdicts(calls)]


def test_the_same_call_three_times_is_said_five_times_is_stopped() -> None:
    assert kinds([call("make")] * 2) == []
    assert kinds([call("make")] * 4) == ["notice"]
    found = verdicts([call("make")] * 9)
    assert [each.kind for each in found] == [Kind.NOTICE, Kind.PAUSE] and "5 times the same call" in found[1].why


def test_what_differs_in_times_ids_and_temporary_paths_only_is_the_same() -> None:
    rounds = [
        call(f"poll /tmp/x{n}/out --at 12:0{n}:17", f"job 1b4e28ba-2fa1-11d2-883f-0016d3cca42{n} took {n}.5 s") for n in range(6)
    ]
    assert kinds(rounds) == ["notice", "pause"]


def test_other_results_are_other_calls() -> None:
    assert kinds(call("git status", f"{'x' * n} changed") for n in range(14)) == []


def test_to_and_fro_is_stopped_at_the_third_round() -> None:
    ping = itertools.cycle([call("ls a"), call("ls b")])
    assert kinds(itertools.islice(ping, 5)) == ["notice"]
    assert kinds(ping)[-1] == "pause"
    four = itertools.cycle([call(word) for word in ("a", "b", "c", "d")])
    found = verdicts(four)
    assert "the same 4 calls 3 times" in found[-1].why


def test_a_file_changed_to_and_fro_is_a_loop() -> None:
    states = itertools.cycle([edit("a.py", "one"), edit("a.py", "two")])
    assert "the same 2 calls" in verdicts(itertools.islice(states, 20))[-1].why


def test_an_edit_of_two_hundred_files_is_none() -> None:
    assert kinds(edit(f"src/file_{number}.py", "import new") for number in range(200)) == []
    checked = itertools.chain.from_iterable((edit(f"f{n}.py", "new"), call("make lint")) for n in range(200))
    assert kinds(checked) == []
    without_diffs = (
        {"kind": "edit", "status": "completed", "rawInput": {"path": f"f{n}"}, "rawOutput": "ok"} for n in range(200)
    )
    assert kinds(without_diffs) == []


def test_an_error_that_comes_again_is_stopped_whatever_is_tried() -> None:
    tries = (call(word, "ModuleNotFoundError: x", "failed") for word in "abcdefgh")
    found = verdicts(tries)
    assert [each.kind for each in found] == [Kind.PAUSE] and "5 times the same error" in found[0].why
    mended = itertools.chain.from_iterable(
        (edit("a.py", f"try {'x' * n}"), call("pytest", "1 failed", "failed")) for n in range(9)
    )
    assert kinds(mended) == ["pause"]


def test_looking_around_for_long_without_a_word_is_said_and_stopped() -> None:
    looks = [call(f"cat {'x' * n}", "y" * n) for n in range(40)]
    found = verdicts(looks)
    assert [each.kind for each in found] == [Kind.NOTICE, Kind.PAUSE] and found[1].why.startswith("30 calls")


@pytest.mark.parametrize("what", ["said", "planned"])
def test_a_word_or_a_plan_begins_to_count_anew(what: str) -> None:
    watch = loops.Watch()
    found = []
    for number in range(60):
        found += verdicts([call(f"cat {'x' * number}", "y" * number)], watch)
        if number % 14 == 13:
            watch.said() if what == "said" else watch.planned([{"content": f"step {number}"}])
    assert found == []
    watch.planned([{"content": "the same"}])
    for number in range(40):
        watch.planned([{"content": "the same"}])
        found += verdicts([call(f"head {'x' * number}", "z" * number)], watch)
    assert found[-1].kind is Kind.PAUSE, "the same plan again is no progress"


@given(st.lists(st.text("ab/. ", max_size=6), min_size=1, max_size=30, unique=True))
def test_files_that_are_new_each_time_never_stop(paths: list[str]) -> None:
    assert verdicts(edit(path, "same text", "same answer") for path in paths) == []


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=4), lambda x: st.lists(x, max_size=3), max_leaves=6)
)
def test_any_call_can_be_read(value: Any) -> None:
    read = loops.read(
        {"kind": value, "title": value, "rawInput": value, "rawOutput": value, "status": "failed", "content": [value]}
    )
    assert read.print and read.error


def test_two_agents_may_not_talk_for_ever() -> None:
    pairs = loops.Pairs()
    assert [pairs.message("a", "b", 1, 2) or pairs.message("b", "a", 1, 2) for _ in range(5)] == [""] * 5
    assert "a and b" in pairs.message("a", "b", 1, 2) and pairs.message("a", "c", 1, 2) == ""
    pairs.progress()
    assert pairs.message("a", "b", 1, 2) == "" and "3" in pairs.message("a", "b", 3, 2)
