"""The catalogue: search path, strict descriptions, where programs are looked for, what a package's digest covers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opagent import files, paths
from opagent.errors import RuntimeInvalid, RuntimeNotFound, RuntimeNotInstalled
from opagent.model import RuntimeSpec
from opagent.packages import catalog, description

GOOD = "name: mine\ncommand: ['{python}', '{package}/run.py']\n"


def put(directory: Path, name: str = "mine", text: str | bytes = GOOD) -> Path:
    """A runtime folder; its path."""
    package = directory / name
    package.mkdir(parents=True, exist_ok=True)
    data = text.encode() if isinstance(text, str) else text
    (package / "runtime.yaml").write_bytes(data)
    return package


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def spec(text: str = GOOD, package: Path = Path("/nowhere/mine")) -> RuntimeSpec:
    return description.read(text.encode(), package, "user")


def problems(text: str | bytes) -> str:
    """What is wrong with a description, one line per problem."""
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(RuntimeInvalid) as caught:
        description.read(data, Path("/r/mine"), "user")
    assert caught.value.exit == 2
    return caught.value.why.replace("/r/mine/runtime.yaml", "F")


def test_the_user_goes_before_the_installed_before_the_bundled() -> None:
    user, installed, bundled = paths.runtime_directories()
    assert catalog.find("echo").package == str(bundled / "echo")
    put(installed, "echo", "name: echo\ncommand: [one]\n")
    assert (catalog.find("echo").command, catalog.find("echo").source) == (("one",), "installed")
    put(user, "echo", "name: echo\ncommand: [two]\n")
    assert (catalog.find("echo").command, catalog.find("echo").source) == (("two",), "user")
    put(user, "mine")
    (user / "no-description").mkdir()
    put(user, "Not A Name")
    assert "mine" in catalog.names()
    assert catalog.names().count("echo") == 1
    assert not {"no-description", "Not A Name"} & set(catalog.names())


def test_a_broken_entry_is_named_and_does_not_fall_through_or_disturb_others() -> None:
    user = paths.runtime_directories()[0]
    put(user, "echo", "name: echo\ncommand: nothing\n")
    with pytest.raises(RuntimeInvalid) as caught:
        catalog.find("echo")
    assert str(user / "echo/runtime.yaml") in caught.value.what
    assert "echo" in catalog.names()
    assert catalog.find("librarian").source == "bundled"


@pytest.mark.parametrize("name", ["ech0", "..", "../echo", "/etc", "", "echo/", "Echo", "x" * 99, "echo\n"])
def test_unknown_names_are_answered_with_near_ones(name: str) -> None:
    with pytest.raises(RuntimeNotFound) as caught:
        catalog.find(name)
    assert caught.value.exit == 4
    assert "echo" in caught.value.why
    assert caught.value.hint


def test_a_name_outside_the_pattern_never_reaches_the_disk() -> None:
    user = paths.runtime_directories()[0]
    put(user.parent, "evil", "name: evil\ncommand: [x]\n")
    with pytest.raises(RuntimeNotFound):
        catalog.find("../evil")


def test_a_whole_description_becomes_a_spec() -> None:
    text = """
name: mine
title: Mine
version: "1.20"
command: [prog, "--state={state}"]
install: {npm: "@me/mine", version: "1.20.0"}
env: {A_B: "1", C: "no"}
pass_env: [MY_KEY]
model: {key: MY_KEY, usage: [usage.in, usage.out]}
network: [api.example.com, "*.example.org:8443"]
state: [.config/mine]
client: [fs]
needs: {nested: false, node: ">=22"}
runs: [.mine, AGENTS.md]
quirks: {usage: turn, load: false}
timeouts: {ready: 1500ms, idle_stop: 1h}
signin: mine login
tried: {version: "1.20", date: 2026-11-20, how: by hand}
"""
    found = spec(text)
    assert (found.version, found.env, found.quirks) == ("1.20", {"A_B": "1", "C": "no"}, {"usage": "turn", "load": False})
    assert found.needs == {"nested": False, "node": ">=22"}
    assert found.timeouts == {"ready": 1.5, "idle_stop": 3600.0}
    assert found.network == ("api.example.com", "*.example.org:8443")
    assert spec().timeouts == description.DEFAULT_TIMEOUTS
    assert spec("name: mine\ncommand: [x]\ninstall: {npm: a, version: '2'}\n").version == "2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "F:1:1: name, command is missing"),
        ("- a\n", "F:1:1: expected"),
        ("name: other\ncommand: [x]\n", "F:1:7: name: the name must be that of the folder, mine"),
        ("name: mine\ncommand: x --acp\n", "F:2:10: command: expected a list of words, the program first"),
        ("name: mine\ncommand: []\n", "F:2:10: command: expected a list of words"),
        ("name: mine\ncommand: [x, '{home}']\n", "F:2:14: command.1: {home} is not substituted; known are {package}"),
        ("name: mine\ncommand: [./run]\n", "F:2:11: command.0: a program with / must begin with / or {package}"),
        ("name: mine\ncommand: [bin/run]\n", "F:2:11: command.0: a program with /"),
        ("name: mine\ncomand: [x]\ncommand: [x]\n", "F:2:1: comand: unknown key; did you mean command?"),
        ("name: mine\ncommand: [x]\nstate: [.a]\nfrom_home: [.a/b, .ab]\n", "F:4:19: from_home.1: what is copied must be kept"),
        ("name: mine\ncommand: [x]\nstate: [.a]\nfrom_home: [.a/../.ssh]\n", "F:4:13: from_home.0: expected a relative path"),
        ("name: mine\ncommand: [x]\nenv: {PATH: .}\n", "F:3:7: env.PATH: not allowed here"),
        ("name: mine\ncommand: [x]\nenv: {OPAGENT_PROCESS: x}\n", "F:3:7: env.OPAGENT_PROCESS: not allowed here"),
        ("name: mine\ncommand: [x]\npass_env: [OPAGENT_RUN_DIR]\n", "F:3:12: pass_env.0: expected the name of a variable"),
        ("name: mine\ncommand: [x]\nstate: [../..]\n", "F:3:9: state.0: expected a relative path without .."),
        ("name: mine\ncommand: [x]\nstate: [a/../../b]\n", "F:3:9: state.0: expected a relative path"),
        ("name: mine\ncommand: [x]\nstate: [/etc]\n", "F:3:9: state.0: expected a relative path"),
        ("name: mine\ncommand: [x]\nstate: [.]\n", "F:3:9: state.0: expected a relative path"),
        ("name: mine\ncommand: [x]\nstate: ['~/x']\n", "F:3:9: state.0: expected a relative path"),
        ("name: mine\ncommand: [x]\ntimeouts: {ready: 60}\n", "F:3:19: timeouts.ready: expected a time such as"),
        ("name: mine\ncommand: [x]\nneeds: {nested: no}\n", "F:3:17: needs.nested: expected true or false"),
        ("name: mine\ncommand: [x]\nneeds: {nested: 'true'}\n", "F:3:17: needs.nested: expected true or false"),
        ("name: mine\ncommand: [x]\nclient: [root]\n", "F:3:10: client.0: expected fs or terminal"),
        ("name: mine\ncommand: [x]\ninstall: {npm: a, pip: b}\n", "F:3:10: install: only one of npm, pip"),
        ("name: mine\ncommand: [x]\ninstall: {npm: 'a; rm -rf /'}\n", "F:3:16: install.npm: expected the name"),
        ("name: mine\ncommand: [x]\nname: mine\n", "F:3:1: the key 'name' is here twice"),
        ("name: mine\ncommand: &a [x]\n", "anchors and aliases are not allowed"),
        ("name: mine\ncommand: !!python/object/apply:os.system [id]\n", "is not allowed"),
        ("name: mine\ncommand: ['x\u202ey']\n", "the character U+202E is not allowed"),
        (b"name: mine\ncommand: [\xff]\n", "not UTF-8"),
        ("[" * 70_000, "larger than 64 KiB"),
        ("[" * 30_000, "deeper than 20"),
    ],
)
def test_a_wrong_or_hostile_description_is_answered_with_place_and_reason(text: str | bytes, expected: str) -> None:
    assert expected in problems(text)


def test_all_problems_of_a_file_are_told_together() -> None:
    told = problems("name: mine\ncommand: [x, '']\nstate: [/a, b]\nquirks: {usage: all, shy: true}\n").splitlines()
    assert len(told) == 4
    assert [line.split(" ")[1] for line in told] == ["command.1:", "state.0:", "quirks.usage:", "quirks.shy:"]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_nothing_but_runtime_invalid_is_ever_raised(data: st.DataObject) -> None:
    whole = (paths.bundled_runtimes() / "opencode/runtime.yaml").read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    noise = data.draw(st.binary(max_size=8) | st.sampled_from([b"{", b"- ", b": ", b"[[", b"&a *a", b"\n  ", b"!!int "]))
    try:
        found = description.read(whole[:start] + noise + whole[end:], Path("/r/opencode"), "user")
    except RuntimeInvalid as error:
        assert error.why
    else:
        assert found.command


def test_a_description_that_others_can_write_or_that_is_no_file_is_refused(tmp_path: Path) -> None:
    user = paths.runtime_directories()[0]
    (put(user) / "runtime.yaml").chmod(0o666)
    with pytest.raises(RuntimeInvalid, match="somebody else"):
        catalog.find("mine")
    fifo = user / "pipe"
    fifo.mkdir()
    os.mkfifo(fifo / "runtime.yaml")
    with pytest.raises(RuntimeInvalid, match="not a regular file"):
        catalog.find("pipe")
    put(user, "large", b"#" * 70_000)
    with pytest.raises(RuntimeInvalid, match="too large"):
        catalog.find("large")
    (user / "gone").mkdir()
    (user / "gone/runtime.yaml").symlink_to(tmp_path / "nothing")
    with pytest.raises(RuntimeInvalid, match="cannot be read"):
        catalog.find("gone")


def test_only_four_words_are_substituted(tmp_path: Path) -> None:
    node = program(tmp_path / "bin/node")
    text = "name: mine\ncommand: ['{node}', '{package}/a', '--s={state}', '{python}', '$HOME', '~', '%s', '{{x']\n"
    found = catalog.installed(spec(text, tmp_path / "mine"), str(node.parent), (), "/st{node}")
    assert found == (str(node), f"{tmp_path}/mine/a", "--s=/st{node}", sys.executable, "$HOME", "~", "%s", "{{x")


def test_a_program_is_found_on_path_outside_every_workspace(tmp_path: Path) -> None:
    inside, outside = program(tmp_path / "ws/bin/prog"), program(tmp_path / "bin/prog")
    runtime = spec("name: mine\ncommand: [prog, --acp]\ninstall: {npm: prog, version: 1.0.0}\n")
    search = f"{inside.parent}:{outside.parent}"
    assert catalog.installed(runtime, search, (), "")[0] == str(inside)
    assert catalog.installed(runtime, search, (str(tmp_path / "ws"),), "") == (str(outside), "--acp")
    with pytest.raises(RuntimeNotInstalled) as caught:
        catalog.installed(runtime, str(inside.parent), (str(tmp_path / "ws"),), "")
    assert "lies in the workspace" in caught.value.why
    assert caught.value.hint == "opagent runtime install mine"
    assert caught.value.exit == 4


def test_links_into_and_out_of_a_workspace_are_refused(tmp_path: Path) -> None:
    real = program(tmp_path / "ws/real")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/prog").symlink_to(real)
    (tmp_path / "ws/prog").symlink_to(program(tmp_path / "elsewhere"))
    (tmp_path / "linked").symlink_to(tmp_path / "ws")
    runtime = spec("name: mine\ncommand: [prog]\n")
    (tmp_path / "chain").mkdir()
    (tmp_path / "chain/prog").symlink_to("../linked/prog")  # outside -> link in the workspace -> outside
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop/prog").symlink_to("prog")
    for directory in ("bin", "ws", "linked", "chain", "loop"):
        with pytest.raises(RuntimeNotInstalled, match="not installed"):
            catalog.installed(runtime, str(tmp_path / directory), (str(tmp_path / "ws"),), "")


@pytest.mark.parametrize("search", ["", ".", ":", "bin", "::bin:.", "/nonexistent"])
def test_relative_parts_of_path_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: str) -> None:
    program(tmp_path / "prog")
    program(tmp_path / "bin/prog")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeNotInstalled, match="not installed") as caught:
        catalog.installed(spec("name: mine\ncommand: [prog]\n"), search, (), "")
    assert "not on PATH" in caught.value.why


def test_what_is_no_program_or_may_be_anybodys_is_not_taken(tmp_path: Path) -> None:
    runtime = spec("name: mine\ncommand: [prog]\n")
    (tmp_path / "prog").write_text("data")
    with pytest.raises(RuntimeNotInstalled) as caught:
        catalog.installed(runtime, str(tmp_path), (), "")
    assert "is no program" in caught.value.why
    (tmp_path / "prog").chmod(0o777)
    with pytest.raises(RuntimeNotInstalled) as caught:
        catalog.installed(runtime, str(tmp_path), (), "")
    assert "everybody can write" in caught.value.why


def test_a_package_that_lacks_its_files_tells_how_to_get_them(tmp_path: Path) -> None:
    runtime = catalog.find("echo-node")
    program(tmp_path / "node")
    with pytest.raises(RuntimeNotInstalled) as caught:
        catalog.installed(runtime, str(tmp_path), (), "")
    assert "node_modules" in caught.value.why
    assert caught.value.hint == "opagent runtime install echo-node"
    needy = spec("name: mine\ncommand: [node]\nneeds: {programs: [helper]}\n")
    with pytest.raises(RuntimeNotInstalled) as caught:
        catalog.installed(needy, str(tmp_path), (), "")
    assert caught.value.why == "helper is not on PATH"


def test_the_bundled_ones_need_nothing() -> None:
    for name in ("echo", "librarian"):
        argv = catalog.installed(catalog.find(name), "", ("/",), "/state")
        assert argv[0] == sys.executable


def test_the_digest_covers_names_contents_modes_and_links(tmp_path: Path) -> None:
    package = put(tmp_path)
    (package / "sub").mkdir()
    source = package / "sub/a.py"
    source.write_text("one")
    seen = [catalog.digest(spec(package=package))]

    def changed() -> bool:
        seen.append(catalog.digest(spec(package=package)))
        return seen[-1] not in seen[:-1]

    (package / "sub/__pycache__").mkdir()
    (package / "sub/__pycache__/a.pyc").write_text("made by running")
    assert not changed()
    source.write_text("two")
    assert changed()
    source.chmod(0o755)
    assert changed()
    source.rename(package / "sub/b.py")
    assert changed()
    (package / "link").symlink_to("sub")
    assert changed()
    (package / "link").unlink()
    (package / "link").symlink_to("/etc")
    assert changed()


def test_a_package_that_cannot_be_compared_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = put(tmp_path)
    os.mkfifo(package / "pipe")
    with pytest.raises(RuntimeInvalid, match="not a regular file"):
        catalog.digest(spec(package=package))
    (package / "pipe").unlink()
    for number in range(4):
        (package / str(number)).write_text("x")
    monkeypatch.setattr(catalog, "MAX_PACKAGE_FILES", 3)
    with pytest.raises(RuntimeInvalid, match="too large"):
        catalog.digest(spec(package=package))
    monkeypatch.setattr(catalog, "MAX_PACKAGE_FILES", 10)
    monkeypatch.setattr(catalog, "MAX_PACKAGE_BYTES", 10)
    with pytest.raises(RuntimeInvalid, match="too large"):
        catalog.digest(spec(package=package))


def test_finding_one_reads_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    user = paths.runtime_directories()[0]
    for number in range(50):
        put(user, f"r{number}", "broken: [")
    put(user)
    opened: list[str] = []
    real = files.read_file

    def counting(path: str | Path, limit: int) -> bytes:
        opened.append(str(path))
        return real(path, limit)

    monkeypatch.setattr(files, "read_file", counting)
    catalog.find("mine")
    catalog.names()
    assert opened == [str(user / "mine/runtime.yaml")]
