"""The strict loader: places, limits, and the bombs that other loaders die of."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from opagent import yamlfile
from opagent.errors import BindingInvalid
from tests.doubles.patience import PATIENCE
from tests.doubles.steps import steps
from tests.hostile.bombs import BOMBS, USUAL, mutations

ROOT = Path(__file__).resolve().parents[2]


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def why(data: bytes) -> str:
    with pytest.raises(BindingInvalid) as caught:
        yamlfile.load(data, "f")
    return caught.value.why


def test_scalars_stay_text_and_know_whether_they_were_quoted() -> None:
    node = yamlfile.load(b'country: no\nport: 022\nversion: "1"\ntime: 12:30:45\nnothing:\n', "f")
    assert yamlfile.plain(node) == {"country": "no", "port": "022", "version": "1", "time": "12:30:45", "nothing": ""}
    assert isinstance(node.value, dict)
    assert [value.plain for value in node.value.values()] == [True, True, False, True, True]


def test_every_value_knows_its_place_and_that_of_its_key() -> None:
    node = yamlfile.load(b"a:\n  bc: [x,\n    y]\n", "f")
    assert isinstance(node.value, dict)
    inner = node.value["a"]
    assert (inner.line, inner.column, inner.key) == (2, 3, (1, 1))
    assert isinstance(inner.value, dict)
    items = inner.value["bc"]
    assert (items.line, items.column, items.key) == (2, 7, (2, 3))
    assert isinstance(items.value, list)
    assert [(item.line, item.column, item.key) for item in items.value] == [(2, 8, None), (3, 5, None)]


@pytest.mark.parametrize("data", [b"", b"\n", b"# nothing\n", b"---\n", "\ufeff".encode()])
def test_an_empty_file_is_an_empty_map_or_nothing(data: bytes) -> None:
    assert yamlfile.plain(yamlfile.load(data, "f")) in ({}, "")


def test_a_byte_order_mark_and_windows_lines_are_fine() -> None:
    assert yamlfile.plain(yamlfile.load("\ufeffa: b\r\nc: d\r\n".encode(), "f")) == {"a": "b", "c": "d"}


def test_all_problems_of_a_file_are_told_together() -> None:
    found = why(b"a: &x 1\nb: 2\nb: 3\nc: !t 4\n").splitlines()
    assert found == [
        "f:1:4: anchors and aliases are not allowed",
        "f:3:1: the key 'b' is here twice (first in line 2)",
        "f:4:4: the tag !t is not allowed",
    ]


def test_the_hint_opens_the_file() -> None:
    with pytest.raises(BindingInvalid) as caught:
        yamlfile.load(b"a: &x 1\n", "/w/a b/.agent.yaml")
    assert caught.value.hint == "open it in your editor: '/w/a b/.agent.yaml'"


def test_the_place_of_a_hidden_character_is_exact() -> None:
    assert why("a: b\nc: 'd\u202ee'\n".encode()) == "f:2:6: the character U+202E is not allowed"


def test_what_is_invisible_is_not_printable() -> None:
    """So that printable text needs no search."""
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    assert not any(found[0].isprintable() for found in yamlfile.INVISIBLE.finditer(every))


def test_limits_are_exact() -> None:
    assert yamlfile.load(b"#" * (yamlfile.MAX_BYTES - 1), "f")
    assert "larger than 64 KiB" in why(b"#" * (yamlfile.MAX_BYTES + 1))
    assert yamlfile.load(b"[" * 20 + b"]" * 20, "f")
    assert "f:1:21: deeper than 20" in why(b"[" * 21 + b"]" * 21)
    assert yamlfile.load(b"[" + b"a," * 4900 + b"]", "f")
    assert "more than 5000 nodes" in why(b"[" + b"a," * 5000 + b"]")


def test_the_list_of_problems_is_limited() -> None:
    assert len(why(b"".join(b"k%d: !t 1\n" % number for number in range(1000))).splitlines()) <= yamlfile.MAX_PROBLEMS + 1
    assert len(why(b"\x07" * 1000).splitlines()) <= yamlfile.MAX_PROBLEMS


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_one_clear_error(name: str) -> None:
    data, said = BOMBS[name]
    found = why(data)
    assert said in found
    assert all(line.startswith("f:") for line in found.splitlines())


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_the_same_error_without_the_compiled_parser(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine where only pure Python lies."""
    monkeypatch.delattr(yaml, "CSafeLoader")
    data, said = BOMBS[name]
    assert said in re.sub(r"(character) '[^']*'", r"\1", why(data))


def test_no_bomb_costs_more_than_the_largest_file_that_is_allowed() -> None:
    yamlfile.load(USUAL, "warm")
    most = steps(lambda: yamlfile.load(b"[" + b"a," * 4990 + b"]", "f"))
    cost = {name: steps(lambda data=data: why(data)) for name, (data, _) in BOMBS.items()}  # type: ignore[misc]
    assert {name: count for name, count in cost.items() if count > 1.1 * most} == {}


def test_all_bombs_stay_within_bounded_memory() -> None:
    """In a process of its own, where the peak can be read (without the bombs it is about 20 MB)."""
    code = (
        "import resource, sys\n"
        "from opagent import yamlfile\nfrom opagent.errors import BindingInvalid\nfrom tests.hostile.bombs import BOMBS, USUAL\n"
        "yamlfile.load(USUAL, 'warm')\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for data, said in BOMBS.values():\n"
        "    try: yamlfile.load(data, 'f')\n"
        "    except BindingInvalid: continue\n"
        "    sys.exit('loaded')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 30_000  # KiB


def test_two_thousand_mutations_raise_nothing_else() -> None:
    loaded = 0
    for data in mutations(2000):
        try:
            yamlfile.load(data, "f")
            loaded += 1
        except BindingInvalid as error:
            assert error.why
    assert 100 < loaded < 1900


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_load_or_are_refused(data: bytes) -> None:
    try:
        node = yamlfile.load(data, "f")
    except BindingInvalid as error:
        assert error.why.startswith("f:")
    else:
        yamlfile.plain(node)


_keys = st.text("abcdefg-_", min_size=1, max_size=6).filter(lambda key: not key.startswith("-"))
_values = st.recursive(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12).filter(
        lambda text: not yamlfile.INVISIBLE.search(text)
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(_keys, _values, max_size=5))
def test_what_another_writer_wrote_is_read_back(value: dict[str, object]) -> None:
    text = yaml.dump(value, default_style='"', allow_unicode=True, Dumper=_NoAliases)
    assert yamlfile.plain(yamlfile.load(text.encode(), "f")) == value
