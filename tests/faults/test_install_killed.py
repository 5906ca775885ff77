"""An installation is killed at any moment, meets another one, or a full disk: a version is whole or not there, and nothing else is left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from opagent import paths
from opagent.packages import versions
from tests.doubles import packages
from tests.doubles.daemons import command, environment
from tests.doubles.patience import PATIENCE, until
from tests.doubles.terminal import run, run_json


def start(*words: str, **variables: str) -> subprocess.Popen[bytes]:
    argv, env = command("runtime", *words, "--json"), environment(**variables)
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def working() -> list[psutil.Process]:
    """Whatever was started by an installation and lives."""
    place = str(paths.installed_runtimes() / ".staging")
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and (
                place in " ".join(process.cmdline()) or process.cwd().startswith(place)
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def whole(name: str) -> list[str]:
    """The versions that are there, each of which is what was installed; what counts is one of them."""
    there = versions.of(name)
    for version in there:
        assert run("runtime", "info", f"{name}@{version}", "--verify").returncode == 0
    now = versions.active(name)
    assert now.version in ("", *there) and set(now.before) <= set(there)
    return there


def places() -> list[str]:
    base = paths.installed_runtimes() / ".staging"
    return [each.name for each in base.iterdir() if each.name != ".lock"] if base.exists() else []


def strays(name: str) -> list[str]:
    """What lies beside the versions."""
    known = {".lock", "active.json", *versions.of(name)}
    return [each.name for each in versions.home(name).iterdir() if each.name not in known] if versions.home(name).exists() else []


def killed_after(seconds: float, *words: str, **variables: str) -> bool:
    """Whether it was killed; else it had ended before."""
    child = start(*words, **variables)
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
    child.communicate()
    return child.returncode == -signal.SIGKILL


def test_killed_at_any_moment(home: Path, rounds: int) -> None:
    own = packages.own(home / "own", "mine", "1.0", **{f"f{number}.txt": "x" * 10_000 for number in range(300)})
    began = time.monotonic()
    run_json("runtime", "install", str(own))
    took = time.monotonic() - began
    dice, kills = random.Random(7), 0
    for number in range(12 * rounds):
        (own / "more.txt").write_text(str(number))
        kills += killed_after(dice.uniform(0.3, 1.0) * took, "install", str(own))
        assert whole("mine") and not strays("mine")
        if len(versions.of("mine")) > 3:
            for version in versions.of("mine"):
                if version != versions.active("mine").version:
                    killed_after(dice.uniform(0.3, 1.0) * took, "remove", f"mine@{version}")
            assert whole("mine") and not strays("mine")
    assert kills
    run_json("runtime", "install", str(own))
    assert not places()


def test_killed_while_npm_works(home: Path, rounds: int) -> None:
    """npm goes on for a moment: its directory is kept until it has ended, and swept then."""
    dice = random.Random(11)
    with packages.registry() as registry:
        env = registry.environment(home)
        registry.publish_echo("tiny", "1.0.0")
        registry.gate.clear()
        child = start("install", "npm:tiny", **env)
        assert registry.asked.wait(PATIENCE)
        child.kill()
        child.communicate()
        assert versions.of("tiny") == [] and places() and working()
        assert versions.sweep() == 0
        registry.gate.set()
        until(lambda: not working())
        for _ in range(3 * rounds):
            killed_after(dice.uniform(0.5, 4.0), "install", "npm:tiny", **env)
            assert whole("tiny") in ([], ["1.0.0"]) and not strays("tiny")
            until(lambda: not working())
        assert run_json("runtime", "install", "npm:tiny", **env)["runtime"]["version"] == "1.0.0"
        assert whole("tiny") == ["1.0.0"] and not places()


def test_two_at_once(home: Path) -> None:
    with packages.registry() as registry:
        env = registry.environment(home)
        registry.publish_echo("tiny", "1.0.0")
        registry.gate.clear()
        children = [start("install", "npm:tiny@1.0.0", **env) for _ in range(3)]
        assert registry.asked.wait(PATIENCE)
        registry.gate.set()
        said = [json.loads(child.communicate(timeout=PATIENCE)[0]) for child in children]
        assert [child.returncode for child in children] == [0, 0, 0], said
        assert {each["runtime"]["version"] for each in said} == {"1.0.0"}
        assert registry.fetched.count("tiny/-/1.0.0") == 1
        assert whole("tiny") == ["1.0.0"] and not places() and not strays("tiny")


def test_interrupted_by_a_person(home: Path) -> None:
    """Ctrl-C ends npm too, and leaves nothing."""
    with packages.registry() as registry:
        registry.publish_echo("tiny", "1.0.0")
        registry.gate.clear()
        child = start("install", "npm:tiny", **registry.environment(home))
        assert registry.asked.wait(PATIENCE)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=PATIENCE)
        assert child.returncode == 130
        assert not working() and not places() and versions.of("tiny") == []


@pytest.mark.parametrize("kind", ["directory", "npm"])
def test_a_full_disk(home: Path, kind: str) -> None:
    """What counted before counts on; the error says what to look at; with room it works."""
    data = home / "small"
    data.mkdir()
    own = packages.own(home / "own", "mine", "1.0")
    with packages.registry() as registry:
        registry.publish("large", "1.0.0", {"a.txt": "x" * 6_000_000}, bin={"large": "a.txt"})
        large = packages.own(home / "large", "mine", "2.0", **{"a.txt": "x" * 6_000_000})
        source = str(large) if kind == "directory" else "npm:large"
        argv = command("runtime")
        script = f"""
            mount -t tmpfs -o size=3m,mode=700 tmpfs {data}
            {" ".join(argv)} install {own} --json || exit 90
            {" ".join(argv)} install {source} --json && exit 91
            {" ".join(argv)} info mine --verify >/dev/null || exit 92
            ls -A {data}/opagent/runtimes/.staging {data}/opagent/runtimes/mine
        """
        env = environment(XDG_DATA_HOME=str(data), **registry.environment(home))
        done = subprocess.run(
            ["unshare", "-Urm", "sh", "-c", script], env=env, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    objects, rest = _objects(done.stdout)
    assert objects[0]["runtime"]["version"].startswith("1.0+")
    error = objects[1]["error"]
    assert error["message"] == "the disk is full, and nothing was installed" and error["hint"].startswith(f"df -h {data}"), error
    assert ".staging" not in error["hint"]
    assert "new-" not in rest and rest.count("1.0+") == 1 and "2.0" not in rest


def _objects(text: str) -> tuple[list[Any], str]:
    decoder, found = json.JSONDecoder(), []
    while text.lstrip().startswith("{"):
        value, end = decoder.raw_decode(text.lstrip())
        found.append(value)
        text = text.lstrip()[end:]
    return found, text


def test_nothing_of_it_is_open_to_others(home: Path) -> None:
    run_json("runtime", "install", str(packages.own(home / "own", "mine", "1.0")))
    for path in (paths.installed_runtimes() / ".staging", versions.home("mine")):
        assert os.stat(path).st_mode & 0o077 == 0
