"""Words that name a directory here or on another machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.errors import Usage
from opagent.target import Target, machine, parse, typed_here


@pytest.mark.parametrize("word", ["docs", ".", "./a:b", "/srv/x:y", "../up:x", "~/a:b", "", "notes.md", "*"])
def test_what_is_here(word: str) -> None:
    assert parse(word) is None


@pytest.mark.parametrize(
    ("word", "target"),
    [
        ("gpu1:/srv/docs", Target("gpu1", "/srv/docs")),
        ("ana@gpu1:docs", Target("gpu1", "docs", "ana")),
        ("gpu1:", Target("gpu1", "")),
        ("ssh://gpu1", Target("gpu1", "")),
        ("ssh://ana@gpu1:2222/srv/docs", Target("gpu1", "/srv/docs", "ana", 2222)),
        ("ssh://gpu1/~/docs", Target("gpu1", "docs")),
        ("[::1]:/x", Target("::1", "/x")),
        ("ssh://u@[fe80::1%eth0]:22/x", Target("fe80::1%eth0", "/x", "u", 22)),
        ("gpu1:/srv/a:b c'\n", Target("gpu1", "/srv/a:b c'\n")),
    ],
)
def test_what_is_there(word: str, target: Target) -> None:
    assert parse(word) == target == parse(str(target))


@pytest.mark.parametrize(
    "word",
    ["-oProxyCommand=x:/a", "a b:/x", "ssh://h:99999/x", "ssh://h:0/x", "ssh:///x", "ssh://-x@h/", "h:/a\0b", "a;b:/x", "$(x):/"],
)
def test_what_names_no_machine(word: str) -> None:
    with pytest.raises(Usage, match="names no machine"):
        parse(word)


def test_a_machine_alone() -> None:
    assert machine("ana@gpu1:22").machine == "ana@gpu1:22"
    assert machine("ssh://gpu1/") == machine("gpu1")


@given(st.text())
def test_any_word_is_here_there_or_wrong(word: str) -> None:
    try:
        target = parse(word)
    except Usage:
        return
    assert target is None or parse(str(target)) == target


@pytest.mark.parametrize(
    ("hint", "typed"),
    [
        ("opagent trust /srv/docs", "opagent trust gpu1:/srv/docs"),
        ("opagent trust '/srv/my docs' --agent own", "opagent trust 'gpu1:/srv/my docs' --agent own"),
        ("opagent logs x3k9", "opagent --host gpu1 logs x3k9"),
        ("opagent open --new", "opagent --host gpu1 open --new"),
        ("tail /var/log/x", "on gpu1: tail /var/log/x"),
        ("", ""),
        ("opagent ps; rm -rf ~", "opagent --host gpu1 'ps;' rm -rf '~'"),
        ("opagent trust /a$(reboot)", "opagent trust 'gpu1:/a$(reboot)'"),
        ("opagent --host bank daemon stop", "on gpu1: opagent --host bank daemon stop"),
        ("opagent -C bank:/x daemon stop", "on gpu1: opagent -C bank:/x daemon stop"),
        ("opagent trust bank:/x", "on gpu1: opagent trust bank:/x"),
        ("opagent trust 'half", "on gpu1: opagent trust 'half"),
    ],
)
def test_a_hint_of_another_machine_is_one_command_about_it(hint: str, typed: str) -> None:
    assert typed_here(hint, "gpu1") == typed


def test_a_hint_of_a_machine_with_a_port() -> None:
    assert typed_here("opagent trust /srv", "ana@gpu1:2222") == "opagent trust ssh://ana@gpu1:2222/srv"
    assert typed_here("opagent ps", "ana@gpu1:2222") == "opagent --host ana@gpu1:2222 ps"
