"""Versions of an installed runtime: which one counts, for whom, and which ones stay; through the command line and a real daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from opagent.client import Client
from opagent.packages import versions
from tests.doubles import packages
from tests.doubles.terminal import run, run_json
from tests.faults.conftest import trust

pytestmark = pytest.mark.timeout(180)


def install(home: Path, version: str, *words: str) -> str:
    """Another version of the runtime `mine`; as it is called here."""
    own = packages.own(home / "own", "mine", version)
    return str(run_json("runtime", "install", str(own), *words)["runtime"]["version"])


def bound(home: Path, runtime: str, name: str = "work") -> Path:
    folder = home / name
    folder.mkdir(exist_ok=True)
    (folder / ".agent.yaml").write_text(f"version: 1\nagent: me\nroles: {{me: {{runtime: {runtime}}}}}\n")
    with Client("test") as client:
        trust(client, folder)
    return folder


def say(folder: Path, text: str, *words: str) -> str:
    done = run("open", str(folder), "-m", text, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def running(folder: Path) -> list[str]:
    """The versions of `mine` that run in the directory, by the words of the processes."""
    found = []
    for row in run_json("ps", "-a")["processes"]:
        words = " ".join(psutil.Process(row["pid"]).cmdline()) if row["pid"] and row["workspace"] == str(folder) else ""
        found += [version for version in versions.of("mine") if f"/runtimes/mine/{version}/mine" in words]
    return sorted(found)


def active() -> str:
    return str(run_json("runtime", "info", "mine")["version"])


def error(*words: str) -> tuple[int, dict[str, Any]]:
    done = run(*words, "--json")
    return done.returncode, json.loads(done.stdout)["error"]


def test_what_runs_stays_on_its_version_and_what_starts_gets_the_new_one(home: Path) -> None:
    first = install(home, "1.0")
    old, new = bound(home, "mine"), bound(home, "mine", "other")
    assert say(old, "hi") == "echo: hi\n"
    second = install(home, "1.1")
    assert active() == second
    assert say(old, "again", "--last") == "echo: again\n"
    assert running(old) == [first]
    assert say(new, "hi") == "echo: hi\n"
    assert running(new) == [second]
    assert run_json("runtime", "rollback", "mine")["runtime"]["version"] == first == active()
    for row in run_json("ps", "-a")["processes"]:
        run("stop", row["id"])
    assert say(new, "on", "--last") == "echo: on\n"
    assert running(new) == [first]


def test_what_runs_is_not_removed(home: Path) -> None:
    first = install(home, "1.0")
    folder = bound(home, "mine")
    say(folder, "hi")
    second = install(home, "1.1")
    status, said = error("runtime", "remove", f"mine@{first}")
    assert (status, said["code"]) == (1, "runtime_in_use") and "pid" in said["why"]
    assert error("runtime", "remove", "mine", "--yes")[1]["code"] == "runtime_in_use"
    assert say(folder, "still", "--last") == "echo: still\n"
    for row in run_json("ps", "-a")["processes"]:
        run("stop", row["id"])
    assert run_json("runtime", "remove", f"mine@{first}")["runtime"]["versions"] == [second]
    assert error("runtime", "rollback", "mine")[1]["code"] == "conflict"
    assert run_json("runtime", "remove", "mine", "--yes")["runtime"]["versions"] == []
    assert error("runtime", "info", "mine")[1]["code"] == "runtime_not_found"


def test_a_pinned_version_stays(home: Path) -> None:
    first = install(home, "1.0")
    assert run_json("runtime", "pin", "mine")["runtime"]["pin"] == first
    second = install(home, "1.1")
    assert active() == first and versions.of("mine") == [second, first]
    for command in ("upgrade", "rollback"):
        status, said = error("runtime", command, "mine")
        assert (status, said["code"], said["hint"]) == (1, "conflict", "opagent runtime pin mine --off")
    assert run_json("runtime", "pin", f"mine@{second}")["runtime"]["version"] == second == active()
    assert run_json("runtime", "pin", "mine", "--off")["runtime"]["pin"] == ""
    assert run_json("runtime", "rollback", "mine")["runtime"]["version"] == first


def test_upgrade_takes_what_is_newest(home: Path) -> None:
    with packages.registry() as registry:
        env = registry.environment(home)
        registry.publish_echo("tiny", "1.0.0")
        run_json("runtime", "install", "npm:tiny", **env)
        assert run_json("runtime", "upgrade", "tiny", **env)["runtimes"][0]["version"] == "1.0.0"
        registry.publish_echo("tiny", "1.1.0")
        registry.publish_echo("tiny", "2.0.0")
        [row] = run_json("runtime", "upgrade", "tiny@1.1", **env)["runtimes"]
        assert (row["version"], row["before"]) == ("1.1.0", "1.0.0")
        [row] = run_json("runtime", "upgrade", "--all", **env)["runtimes"]
        assert (row["version"], row["before"], row["active"]) == ("2.0.0", "1.1.0", "2.0.0")
        assert versions.of("tiny") == ["2.0.0", "1.1.0", "1.0.0"]
        assert run("runtime", "upgrade").returncode == 2
        assert run("runtime", "upgrade", "librarian").returncode == 4


def test_a_binding_names_its_version(home: Path) -> None:
    first, second = install(home, "1.0"), install(home, "2.0")
    folder = bound(home, "mine@1.0")
    found = run_json("explain", str(folder))["launch"]
    assert found["version"] == first and f"/{first}/" in found["runtime_file"]
    assert say(folder, "hi") == "echo: hi\n"
    assert running(folder) == [first]
    assert f"runtime    mine {first}" in run("explain", str(folder)).stdout
    plain = bound(home, "mine", "other")
    assert run_json("explain", str(plain))["launch"]["version"] == second


def test_a_version_that_is_not_there_is_an_error_with_the_command(home: Path) -> None:
    first = install(home, "1.0")
    folder = bound(home, "mine@3")
    status, said = error("open", str(folder), "-m", "hi")
    assert (status, said["code"]) == (4, "runtime_not_installed"), said
    assert said["hint"] == "opagent runtime install mine@3" and first in said["why"]
    problem = run_json("explain", str(folder))["launch"]["problem"]
    assert problem["hint"] == "opagent runtime install mine@3"
    (folder / ".agent.yaml").write_text("version: 1\nagent: me\nroles: {me: {runtime: nobody@3}}\n")
    assert error("explain", str(folder))[1]["code"] == "binding_invalid"


def test_an_upgrade_asks_for_no_trust_and_another_origin_does(home: Path) -> None:
    install(home, "1.0")
    folder = bound(home, "mine")
    assert say(folder, "hi") == "echo: hi\n"
    install(home, "1.1")
    assert run_json("explain", str(folder))["trust"] == "allowed"
    elsewhere = packages.own(home / "elsewhere", "mine", "1.2")
    run_json("runtime", "install", str(elsewhere))
    assert run_json("explain", str(folder))["trust"] == "changed"
    run_json("runtime", "rollback", "mine")
    assert run_json("explain", str(folder))["trust"] == "allowed"


def test_the_users_own_description_gives_way_to_what_it_installed(home: Path) -> None:
    from opagent import paths

    with packages.registry() as registry:
        registry.publish_echo("tiny", "1.0.0")
        folder = paths.config() / "runtimes/tiny"
        folder.mkdir(parents=True)
        (folder / "runtime.yaml").write_text('name: tiny\ncommand: [tiny]\ninstall: {npm: tiny, version: "1.0.0"}\n')
        assert run_json("runtime", "info", "tiny")["source"] == "user"
        run_json("runtime", "install", "tiny", **registry.environment(home))
        assert run_json("runtime", "info", "tiny")["source"] == "installed"
        assert say(bound(home, "tiny"), "hi") == "echo: hi\n"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("opagent runtime install open", "opencode"),
        ("opagent runtime rollback m", "mine"),
        ("opagent runtime remove mine@", "mine@{version}"),
        ("opagent runtime pi", "pin"),
    ],
)
def test_names_and_versions_are_completed(home: Path, line: str, wanted: str) -> None:
    version = install(home, "1.0")
    words = line.split(" ")
    said = run(_OPAGENT_COMPLETE="bash_complete", COMP_WORDS="\n".join(words), COMP_CWORD=str(len(words) - 1))
    assert f"plain,{wanted.format(version=version)}" in said.stdout.splitlines()
