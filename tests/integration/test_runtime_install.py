"""`opagent runtime install` with real npm, pip and git against registries, repositories and servers on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opagent import paths
from opagent.client import Client
from opagent.packages import versions
from tests.doubles import packages
from tests.doubles.packages import Registry
from tests.doubles.terminal import Terminal, run, run_json
from tests.faults.conftest import trust

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with packages.registry() as serving:
        yield serving


@pytest.fixture
def npm(registry: Registry, home: Path) -> dict[str, str]:
    return registry.environment(home)


def installed(*words: str, **env: str) -> dict[str, Any]:
    return dict(run_json("runtime", "install", *words, **env)["runtime"])


def lock(name: str) -> dict[str, Any]:
    return dict(run_json("runtime", "info", name)["lock"])


def left() -> list[str]:
    """What is there of runtimes beside versions that are whole, and locks."""
    root = paths.installed_runtimes()
    found = [str(path.relative_to(root)) for path in root.glob(".staging/*") if path.name != ".lock"]
    for path in root.glob("*/*"):
        if path.parent.name != ".staging" and path.is_dir() and not (path / "lock.json").is_file():
            found.append(str(path.relative_to(root)))
    return found


def talks(home: Path, agent: str, **env: str) -> str:
    """One turn with an agent in a directory that a person trusts."""
    folder = home / f"with-{agent}"
    folder.mkdir(exist_ok=True)
    (folder / ".agent.yaml").write_text(f"version: 1\nagent: me\nroles: {{me: {{runtime: {agent}}}}}\n")
    with Client("test") as client:
        trust(client, folder)
    done = run("open", str(folder), "-m", "hi", **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_package_of_npm_is_installed_and_talks(home: Path, registry: Registry, npm: dict[str, str]) -> None:
    registry.publish("dep", "2.0.0", {"index.js": ""})
    registry.publish_echo("tiny", "1.2.3", dependencies={"dep": "^2.0.0"})
    found = installed("npm:tiny", **npm)
    assert (found["name"], found["version"], found["active"], found["before"]) == ("tiny", "1.2.3", "1.2.3", "")
    parts = {part["name"]: part for part in lock("tiny")["parts"]}
    assert set(parts) == {"dep", "tiny"} and all(part["hash"].startswith("sha512-") for part in parts.values())
    program = Path(found["package"]) / "node_modules/tiny/bin/tiny"
    assert stat.S_IMODE(program.stat().st_mode) == 0o555
    assert talks(home, "tiny") == "echo: hi\n"
    assert left() == []
    row = next(row for row in run_json("runtime", "list")["runtimes"] if row["name"] == "tiny")
    assert (row["version"], row["state"], row["source"]) == ("1.2.3", "installed", "installed")


def test_verify_finds_a_changed_file(registry: Registry, npm: dict[str, str]) -> None:
    registry.publish_echo("tiny", "1.0.0")
    found = installed("npm:tiny@1.0.0", **npm)
    assert run("runtime", "info", "tiny", "--verify").returncode == 0
    program = Path(found["package"]) / "node_modules/tiny/bin/tiny"
    program.chmod(0o755)
    program.write_text("#!/bin/sh\n")
    done = run("runtime", "info", "tiny", "--verify")
    assert done.returncode == 1 and "changed" in done.stdout


def test_asked_again_it_fetches_nothing(registry: Registry, npm: dict[str, str]) -> None:
    registry.publish_echo("tiny", "1.0.0")
    installed("npm:tiny@1.0.0", **npm)
    before = len(registry.fetched)
    assert installed("npm:tiny@1.0.0", **npm)["version"] == "1.0.0"
    assert len(registry.fetched) == before


def scripted(registry: Registry, home: Path, port: int) -> None:
    """A package whose script looks around, and a description that needs it."""
    look = """
const fs = require("fs"), net = require("net")
const tried = (act) => { try { act(); return "yes" } catch (error) { return error.code } }
const found = {outside: tried(() => fs.writeFileSync(OUTSIDE, "")), secret: tried(() => fs.readFileSync(SECRET)), key: process.env.SOME_KEY || ""}
const end = (network) => { fs.writeFileSync("found.json", JSON.stringify({...found, network})); process.exit() }
net.connect(PORT, "127.0.0.1", () => end("yes")).on("error", (error) => end(error.code))
"""
    for word, value in {"OUTSIDE": str(home / "evil"), "SECRET": str(home / "secret"), "PORT": port}.items():
        look = look.replace(word, json.dumps(value))
    files = {**packages.echo_files("bin/echo"), "bin/scripted": packages.STARTS, "look.js": look}
    registry.publish("scripted", "1.0.0", files, bin={"scripted": "bin/scripted"}, scripts={"postinstall": "node look.js"})
    folder = paths.config() / "runtimes/scripted"
    folder.mkdir(parents=True)
    (folder / "runtime.yaml").write_text(
        'name: scripted\ncommand: [scripted]\ninstall: {npm: scripted, version: "1.0.0", scripts: [scripted]}\n'
    )
    (home / "secret").write_text("x")


def test_scripts_are_refused_where_nobody_can_be_asked(home: Path, registry: Registry, npm: dict[str, str]) -> None:
    scripted(registry, home, 1)
    done = run("runtime", "install", "scripted", "--json", **npm)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (5, "scripts_refused")
    assert "postinstall: node look.js" in error["why"] and "--allow-scripts" in error["hint"]
    assert left() == [] and versions.of("scripted") == []


def test_scripts_run_in_the_sandbox_without_network(home: Path, registry: Registry, npm: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        scripted(registry, home, listening.getsockname()[1])
        found = installed("scripted", "--allow-scripts", SOME_KEY="mine", **npm)
    assert found["scripts"] == ["scripted 1.0.0: postinstall: node look.js"] and found["confined"] == "strict"
    saw = json.loads((Path(found["package"]) / "node_modules/scripted/found.json").read_text())
    assert saw["network"] != "yes" and saw["outside"] != "yes" and saw["secret"] != "yes" and saw["key"] == ""
    assert not (home / "evil").exists()
    assert talks(home, "scripted") == "echo: hi\n"


def test_a_person_is_shown_the_scripts_and_asked(home: Path, registry: Registry, npm: dict[str, str]) -> None:
    scripted(registry, home, 1)
    terminal = Terminal("runtime", "install", "scripted", **npm)
    terminal.expect("postinstall: node look.js")
    terminal.expect(r"\[y/N\]")
    terminal.type("n\n")
    assert terminal.end() == 5
    terminal = Terminal("runtime", "install", "scripted", **npm)
    terminal.expect(r"\[y/N\]")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert versions.of("scripted") == ["1.0.0"]


def test_scripts_that_nobody_needs_do_not_run(home: Path, registry: Registry, npm: dict[str, str]) -> None:
    scripted(registry, home, 1)
    found = installed("npm:scripted", "--name", "other", **npm)
    assert found["scripts"] == [] and found["skipped"] == ["scripted 1.0.0: postinstall: node look.js"]
    assert not (Path(found["package"]) / "node_modules/scripted/found.json").exists()


def test_a_node_of_its_own_where_this_one_is_too_old(registry: Registry, npm: dict[str, str]) -> None:
    real = shutil.which("node")
    shell = f'#!/bin/sh\n[ "$1" = --version ] && echo v99.1.0 && exit\nexec {real} "$@"\n'
    for system in ("linux-x64", "linux-arm64", "darwin-arm64", "darwin-x64"):
        registry.publish(f"node-{system}", "99.1.0", {"bin/node": shell}, bin={"node": "bin/node"})
    agent = """#!/usr/bin/env node
    // it answers, or it would not count; it has no sessions
    require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
      const { id, method } = JSON.parse(line);
      const said = method === "initialize" ? { result: { protocolVersion: 1 } } : { error: { code: -32601, message: "no" } };
      if (id !== undefined) console.log(JSON.stringify({ jsonrpc: "2.0", id, ...said }));
    });
    """
    files = {"agent.js": textwrap.dedent(agent)}
    registry.publish("modern", "1.0.0", files, bin={"modern": "agent.js"}, engines={"node": ">=99"})
    found = installed("npm:modern", **npm)
    assert lock("modern")["node"] == "99.1.0"
    assert (Path(found["package"]) / "node/node_modules/.bin/node").exists()
    assert "with a node of its own" in run("runtime", "upgrade", "modern", **npm).stderr or versions.of("modern") == ["1.0.0"]


def test_a_damaged_download_leaves_nothing(registry: Registry, npm: dict[str, str]) -> None:
    registry.publish_echo("tiny", "1.0.0")
    registry.damaged.add("tiny")
    done = run("runtime", "install", "npm:tiny", "--json", **npm)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "hash_mismatch"), done.stdout
    assert left() == [] and versions.of("tiny") == []
    registry.damaged.clear()
    assert installed("npm:tiny", **npm)["version"] == "1.0.0"


def test_what_is_not_there_is_said(registry: Registry, npm: dict[str, str]) -> None:
    done = run("runtime", "install", "npm:nothing-of-that-name", "--json", **npm)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "install_failed")
    done = run("runtime", "install", "nothing-of-that-name", "--json", **npm)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (4, "runtime_not_found")
    assert "runtime list --all" in json.loads(done.stdout)["error"]["hint"]


# ---- Python ----------------------------------------------------------------------------------------------------------------


def test_a_wheel_is_installed_and_talks(home: Path) -> None:
    packages.wheel(home / "wheels", "needed", "3.0")
    path = packages.wheel(home / "wheels", "py-agent", "1.4.2", requires=("needed>=2",))
    env = packages.pip_environment(home / "wheels")
    found = installed("pypi:py-agent", **env)
    parts = {part["name"]: part for part in lock("py-agent")["parts"]}
    assert parts["py-agent"]["hash"] == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert set(parts) == {"needed", "py-agent"} and found["version"] == "1.4.2"
    assert talks(home, "py-agent") == "echo: hi\n"
    assert run("runtime", "info", "py-agent", "--verify").returncode == 0


def test_a_wheel_for_another_python_says_so(home: Path) -> None:
    packages.wheel(home / "wheels", "py-agent", "1.0", python=">=3.99")
    done = run("runtime", "install", "pypi:py-agent", **packages.pip_environment(home / "wheels"))
    assert done.returncode == 1 and "no Python here is one that it takes" in done.stderr and "3.99" in done.stderr
    assert left() == [] and max(map(len, done.stderr.splitlines())) < 300


def test_of_two_programs_of_one_name_the_one_that_can_run(home: Path) -> None:
    """fast-agent-acp 0.10.1 names a module that it does not hold; a package that it needs has the same program."""
    hollow = packages.wheel(home / "wheels", "py-agent", "1.0", requires=("zz-real",))
    real = packages.wheel(home / "wheels", "zz-real", "1.0")
    with zipfile.ZipFile(real) as file:
        content = {name: file.read(name) for name in file.namelist()}
    content["zz_real-1.0.dist-info/entry_points.txt"] = b"[console_scripts]\npy-agent = zz_real:main\n"
    with zipfile.ZipFile(real, "w") as file:
        for name, data in content.items():
            file.writestr(name, data)
    with zipfile.ZipFile(hollow) as file:
        content = {name: file.read(name) for name in file.namelist() if not name.startswith("py_agent/")}
    content["py_agent-1.0.dist-info/RECORD"] = b"".join(f"{name},,\n".encode() for name in content)
    with zipfile.ZipFile(hollow, "w") as file:
        for name, data in content.items():
            file.writestr(name, data)
    installed("pypi:py-agent", **packages.pip_environment(home / "wheels"))
    assert talks(home, "py-agent") == "echo: hi\n"


def test_nothing_is_built_unless_somebody_says_so(home: Path) -> None:
    wheels = home / "wheels"
    wheels.mkdir()
    evil = f"open({str(home / 'evil')!r}, 'w')\nfrom setuptools import setup\nsetup(name='sourced', version='1.0')\n"
    (wheels / "sourced-1.0.tar.gz").write_bytes(packages.tarball({"setup.py": evil}, top="sourced-1.0"))
    done = run("runtime", "install", "pypi:sourced", **packages.pip_environment(wheels))
    assert done.returncode == 1 and not (home / "evil").exists() and left() == []


# ---- folders ---------------------------------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
           "GIT_COMMITTER_EMAIL": "a@b"}  # fmt: skip
    return subprocess.run(["git", "-C", str(folder), *words], env=env, capture_output=True, text=True, check=True).stdout.strip()


def test_a_commit_of_a_repository(home: Path) -> None:
    repo = packages.own(home / "repo", "mine", "0.3.0")
    git(repo, "init", "-q", "-b", "main")
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "one")
    first = git(repo, "rev-parse", "HEAD")
    hook = repo / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {home}/evil\n")
    hook.chmod(0o755)
    (repo / "more.txt").write_text("x")
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "two")
    found = installed(f"git+file://{repo}@{first}", "--name", "mine")
    assert found["version"] == f"0.3.0+{first[:8]}" and not (Path(found["package"]) / "more.txt").exists()
    assert lock("mine")["commit"] == first and not (home / "evil").exists()
    assert talks(home, "mine") == "echo: hi\n"
    branch = installed(f"git+file://{repo}@main", "--name", "mine")
    assert (Path(branch["package"]) / "more.txt").exists() and branch["before"] == found["version"]
    done = run("runtime", "install", f"git+file://{repo}@{'0' * 40}", "--name", "mine")
    assert done.returncode == 1 and left() == []


def test_an_archive_with_its_hash(home: Path, registry: Registry) -> None:
    files = {path.name: path.read_text() for path in packages.own(home / "own", "packed", "2.1").iterdir()}
    data = packages.tarball(files, top="packed-2.1")
    registry.files["packed.tar.gz"] = data
    digest = hashlib.sha256(data).hexdigest()
    url = f"{registry.url}packed.tar.gz"
    wrong = run("runtime", "install", f"{url}#sha256={'0' * 64}", "--name", "packed", "--json")
    assert (wrong.returncode, json.loads(wrong.stdout)["error"]["code"]) == (1, "hash_mismatch")
    assert run("runtime", "install", url, "--name", "packed").returncode == 2
    assert left() == []
    assert installed(f"{url}#sha256={digest}", "--name", "packed")["version"].startswith("2.1+")
    assert talks(home, "packed") == "echo: hi\n"


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out-of-it", "a/../../out.txt"])
def test_an_archive_stays_in_its_directory(home: Path, registry: Registry, name: str) -> None:
    data = packages.tarball({"runtime.yaml": "name: packed\n", name: "x"}, top="")
    registry.files["packed.tar.gz"] = data
    word = f"{registry.url}packed.tar.gz#sha256={hashlib.sha256(data).hexdigest()}"
    assert run("runtime", "install", word, "--name", "packed").returncode in (1, 2)
    assert not os.path.exists("/tmp/out-of-it") and left() == []


def test_a_directory_of_ones_own(home: Path) -> None:
    own = packages.own(home / "somewhere", "mine", "1.0")
    first = installed(str(own))
    assert first["name"] == "mine" and talks(home, "mine") == "echo: hi\n"
    assert installed(str(own))["version"] == first["version"]
    (own / "more.txt").write_text("x")
    second = installed(str(own))
    assert second["version"] != first["version"] and second["before"] == first["version"]
    (own / "out").symlink_to("/etc/passwd")
    done = run("runtime", "install", str(own))
    assert done.returncode == 2 and "leads out" in done.stderr and left() == []


def test_a_folder_with_packages_of_npm(home: Path, registry: Registry, npm: dict[str, str]) -> None:
    registry.publish("dep", "1.0.0", {"index.js": ""})
    own = packages.own(home / "own", "mine", "1.0", **{"package.json": '{"dependencies": {"dep": "1.0.0"}}'})
    found = installed(str(own), **npm)
    assert (Path(found["package"]) / "node_modules/dep/index.js").exists()
    assert [part["name"] for part in lock("mine")["parts"]] == ["dep"]


# ---- bundles and the list of agents ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_bundle_is_installed_without_network(home: Path, registry: Registry, npm: dict[str, str], suffix: str) -> None:
    registry.publish_echo("tiny", "1.0.0")
    digest = installed("npm:tiny", **npm)["digest"]
    file = home / f"tiny{suffix}"
    assert run_json("runtime", "bundle", "tiny", "--output", str(file))["digest"] == digest
    assert run("runtime", "remove", "tiny", "--yes").returncode == 0
    assert versions.of("tiny") == []
    registry.packages.clear()
    found = installed(str(file), PATH="/usr/bin:/bin", **npm)
    assert (found["version"], found["active"], found["digest"]) == ("1.0.0", "1.0.0", digest)
    assert talks(home, "tiny") == "echo: hi\n"


def test_a_damaged_bundle_is_refused(home: Path, registry: Registry, npm: dict[str, str]) -> None:
    registry.publish_echo("tiny", "1.0.0")
    installed("npm:tiny", **npm)
    file = home / "tiny.tar"
    run_json("runtime", "bundle", "tiny", "--output", str(file))
    run("runtime", "remove", "tiny", "--yes")
    data = file.read_bytes()
    place = data.index(b"runpy.run_path")
    file.write_bytes(data[:place] + b"RUNPY" + data[place + 5 :])
    done = run("runtime", "install", str(file), "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "hash_mismatch")
    file.write_bytes(data[: len(data) // 2])
    assert run("runtime", "install", str(file)).returncode == 1
    assert versions.of("tiny") == [] and left() == []


def test_an_agent_of_the_list_of_agents(home: Path, registry: Registry, npm: dict[str, str]) -> None:
    registry.publish_echo("tiny", "1.0.0")
    entry = {"id": "listed", "name": "Listed", "version": "1.0.0", "description": "of a list"}
    entry |= {"distribution": {"npx": {"package": "tiny@1.0.0", "env": {"QUIET": "1", "PATH": "/evil"}}}}  # type: ignore[dict-item]
    registry.files["registry.json"] = json.dumps({"version": "1.0.0", "agents": [entry, {"id": 7}]}).encode()
    rows = run_json("runtime", "list", "--registry", f"{registry.url}registry.json")["runtimes"]
    assert next(row for row in rows if row["name"] == "listed")["state"] == "listed"
    installed("listed", **npm)
    assert run_json("runtime", "info", "listed")["env"] == {"QUIET": "1"}
    assert talks(home, "listed") == "echo: hi\n"
    assert run("runtime", "list", "--registry", f"{registry.url}nothing").returncode == 1
