"""What an answer is remembered for: exactly this, or one step wider, never a bare program; and when somebody asked too much."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.policy import remembering
from opagent.policy.fatigue import MOST, WITHIN, Guard
from opagent.policy.rules import launches


def command(*words: str, **more: object) -> str:
    return remembering.claimed("execute", {"command": list(words), **more})


@pytest.mark.parametrize(
    ("pattern", "wider"),
    [
        (command("git", "push", "origin"), "git push *"),
        (command("git", "push", "origin", "main"), "git push origin *"),
        (command("git", "push", "origin", cwd="/w"), 'git push * with {"cwd": "/w"}'),
        (remembering.claimed("execute", {"command": "git push origin"}), "git push *"),
        (remembering.literal("write", ["docs/a.md"]), "write docs/*.md"),
        (remembering.literal("write", ["Makefile"]), "write *"),
        (remembering.literal("write", ["a/.env"]), "write a/*"),
        (remembering.literal("network", "api.example.com:443"), "network *.example.com:443"),
        (remembering.literal("network", "API.example.com"), "network *.example.com:443"),
        (remembering.literal("mcp", "github/create_issue"), "mcp github/*"),
    ],
)
def test_one_step_wider_leaves_one_place_open(pattern: str, wider: str) -> None:
    assert remembering.shown(remembering.wider(pattern)) == wider
    assert len(set(remembering.keys(pattern))) == 2


@pytest.mark.parametrize(
    "pattern",
    [
        command("python", "x.py"), command("git", "push"), command("git"), command("git", "push", "--force"),
        command("sh", "-c", "git push"), command("env", "git", "push"), command("python", "-c", "print()"), command("npm", "run", "x"),
        command("sudo", "git", "push", "origin"), command("git", "-c", "core.pager=x", "log"),
        *(remembering.claimed("execute", {"command": line}) for line in (
            "git push origin && rm x", "git push $(x)", "git push `x`", "git push 'a b'", "git push a;b", "git push a\nb", "git push *",
            "git push a|b", "git push >a", "git push {a,b}", "git push \\a",
        )),
        remembering.claimed("execute", {"command": ["git", "push", 3]}),
        remembering.claimed("other", "Make tea"), remembering.literal("write", ["a.md", "b.md"]),
        remembering.literal("network", "example.com:443"), remembering.literal("network", "8.8.8.8:443"),
        remembering.claimed("network", "api.example.com"), remembering.literal("agents", "reviewer"),
    ],
)  # fmt: skip
def test_where_a_person_could_not_judge_it_there_is_no_step(pattern: str) -> None:
    assert pattern and remembering.wider(pattern) == ""
    assert remembering.keys(pattern) == (remembering.key(pattern),)


@pytest.mark.parametrize("kind", ["leave", "secrets", "trust", "install"])
def test_some_answers_count_once(kind: str) -> None:
    assert remembering.literal(kind, "x") == "" and remembering.keys("") == ()


@pytest.mark.parametrize(
    "host", ["localhost", "10.0.0.1", "169.254.169.254:80", "[::1]:443", "192.168.1.1", "0x7f.1", "printer.local"]
)
def test_private_addresses_are_never_remembered(host: str) -> None:
    assert remembering.literal("network", host) == ""


def test_what_an_agent_says_is_never_what_we_do() -> None:
    assert set(remembering.keys(remembering.claimed("write", ["a.md"]))).isdisjoint(
        remembering.keys(remembering.literal("write", ["a.md"]))
    )


_words = st.lists(st.sampled_from(["git", "python", "sh", "-c", "push", "origin", "*", "a b", "--x", ""]), min_size=1, max_size=5)


@given(_words, _words)
def test_an_answer_counts_for_another_command_only_where_one_word_differs(first: list[str], second: list[str]) -> None:
    one, two = command(*first), command(*second)
    given_for = {
        "literal": remembering.key(one),
        "wider": remembering.key(remembering.wider(one)) if remembering.wider(one) else "",
    }
    assert (given_for["literal"] in remembering.keys(two)) == (first == second)
    if given_for["wider"] and given_for["wider"] in remembering.keys(two):
        assert first[:-1] == second[:-1] and len(second) > 2 and not second[-1].startswith("-") and not launches(second)


def test_the_literal_star_of_a_command_is_no_open_place() -> None:
    opened = json.loads(remembering.wider(command("git", "add", "x")))
    assert remembering.key(command("git", "add", "*")) != remembering.key(json.dumps(opened, sort_keys=True))
    assert remembering.wider(command("git", "add", "*")) == ""


def test_one_question_too_many_is_held_until_the_window_moves_on_or_somebody_says_so() -> None:
    guard = Guard()
    assert all(guard.takes(now) for now in range(MOST))
    assert not guard.takes(WITHIN) and not guard.takes(WITHIN)
    assert guard.takes(WITHIN + 0.5) and not guard.takes(WITHIN + 0.6), "the first is forgotten"
    guard.reset()
    assert all(guard.takes(WITHIN + 1) for _ in range(MOST)) and not guard.takes(WITHIN + 1)
