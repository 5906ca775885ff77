"""Where runtimes come from, as words say it; entries of the ACP registry; which node a package wants."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.errors import FileRefused, InstallFailed, OpAgentError, RuntimeNotFound, Usage
from opagent.packages import npm, origin, registry, versions
from opagent.packages.origin import Origin

SHA = "a" * 64


@pytest.mark.parametrize(
    ("word", "kind", "place", "version"),
    [
        ("npm:opencode-ai", "npm", "opencode-ai", ""),
        ("npm:@scope/name@1.2.3", "npm", "@scope/name", "1.2.3"),
        ("pypi:thing==1.0", "pip", "thing", "1.0"),
        ("pypi:thing[acp]@1.0", "pip", "thing[acp]", "1.0"),
        ("git+https://host/a/b.git@v1", "git", "https://host/a/b.git", "v1"),
        ("git+ssh://git@host/a@main", "git", "ssh://git@host/a", "main"),
        (f"https://host/x.tgz#sha256={SHA}", "archive", "https://host/x.tgz", SHA),
    ],
)
def test_words_name_an_origin(word: str, kind: str, place: str, version: str) -> None:
    name, wanted, found = origin.parse(word)
    assert (name, wanted) == ("", "") and found is not None
    assert (found.kind, found.place, found.version) == (kind, place, version)
    assert origin.restored(json.loads(json.dumps(asdict(found)))) == found


@pytest.mark.parametrize(
    "word",
    [
        "", "Name", "a b", "npm:", "npm:../x", "npm:x@", "npm:-g", "npm:x --global", "pypi:-r", "pypi:x;y", "git+https://host/x",
        "git+ext::sh -c evil@1", "git+https://host/x@-o", "https://host/x.tgz", "https://host/x.tgz#sha256=1", "http://host/x#sha256=" + SHA,
        "file:///etc/passwd#sha256=" + SHA, "./not-there", "name@", "name@../1", "name@-1",
    ],
)  # fmt: skip
def test_other_words_are_refused_with_the_way_to_help(word: str) -> None:
    with pytest.raises(Usage) as caught:
        origin.parse(word)
    assert caught.value.hint


@given(st.text(max_size=40))
def test_any_word_is_an_origin_or_refused(word: str) -> None:
    try:
        name, _, found = origin.parse(word.replace("/", "_").replace("~", "_"))
    except Usage:
        return
    assert found is not None or versions.NAME.fullmatch(name)


def test_only_packages_and_repositories_have_other_versions() -> None:
    assert origin.at(Origin("npm", "x", "1"), "latest").version == ""
    more = Origin("npm", "x", "1", also=("@a/b@1", "c@2", "d"))
    assert origin.at(more, "latest").also == ("@a/b", "c", "d") and origin.at(more, "2").also == more.also
    assert origin.at(Origin("git", "https://host/x", "a"), "b").version == "b"
    for kind in ("archive", "path", "bundle"):
        with pytest.raises(Usage):
            origin.at(Origin(kind, "x", SHA), "2")


def test_the_list_that_comes_with_us_can_be_installed_from() -> None:
    assert len(registry.entries()) >= 10
    for name, entry in registry.entries().items():
        found = registry.convert(entry)
        assert found.kind in ("npm", "pip") and found.version == entry["version"], name
        assert "://" not in json.dumps(entry)


def test_an_archive_of_the_list_needs_a_hash() -> None:
    ways: dict[str, Any] = {
        f"{system}-{machine}": {"archive": "https://host/a.tgz", "cmd": "./agent", "args": ["acp"], "sha256": "A" * 64}
        for system in ("linux", "darwin")
        for machine in ("x86_64", "aarch64")
    }
    found = registry.convert({"id": "a", "distribution": {"binary": ways}})
    assert (found.kind, found.version, found.run) == ("archive", SHA, ("./agent", "acp"))
    for way in ways.values():
        del way["sha256"]
    with pytest.raises(InstallFailed, match="without a hash") as caught:
        registry.convert({"id": "a", "distribution": {"binary": ways}})
    assert "#sha256=" in caught.value.hint
    with pytest.raises(InstallFailed, match="not made for this machine"):
        registry.convert({"id": "a", "distribution": {"binary": {"plan9-mips": {}}}})


@given(
    st.recursive(st.none() | st.booleans() | st.text(max_size=5), lambda x: st.lists(x) | st.dictionaries(st.text(max_size=8), x))
)
def test_an_entry_is_converted_or_refused_in_words(ways: Any) -> None:
    try:
        registry.convert({"id": "a", "distribution": ways if isinstance(ways, dict) else {"npx": ways}})
    except OpAgentError as error:
        assert error.hint


def test_a_list_that_cannot_be_read_is_said(home: Path) -> None:
    from opagent import paths

    paths.runtime_registry().parent.mkdir(parents=True)
    paths.runtime_registry().write_text("[]")
    with pytest.raises(FileRefused, match="cannot be read"):
        registry.entries()
    paths.runtime_registry().unlink()
    with pytest.raises(RuntimeNotFound) as caught:
        registry.find("fast-agnt")
    assert "fast-agent" in caught.value.why


@pytest.mark.parametrize(
    ("wanted", "version", "fine"),
    [
        (">=22", "20.19.1", False), (">=22", "22.0.0", True), (">=22.19.0", "22.18.0", False), (">=22.19", "24.1.0", True),
        ("^20.19.0 || >=22.12.0", "20.19.1", True), ("^20.19.0 || >=22.12.0", "21.0.0", False), ("18 || 20", "20.1.0", True),
        ("20.x", "20.1.0", True), (">= 18.0.0 <23", "20.0.0", True), ("*", "16.0.0", True), ("~20.1", "20.2.0", False),
        (">=22", "", False), ("^20", "22.0.0", False), ("nonsense", "20.0.0", True),
    ],
)  # fmt: skip
def test_which_node_is_wanted(wanted: str, version: str, fine: bool) -> None:
    assert npm.accepts(wanted, version) is fine
