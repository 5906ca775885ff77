"""Plays a scenario through the real daemon with a real agent, answers for the person, and counts what became of each act."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from opagent import paths
from opagent.client import Client
from opagent.errors import NotFound
from tests.doubles import actor, runtimes
from tests.doubles.patience import until
from tests.integration.conftest import FINAL, Talk
from tests.safety.scenario import Scenario, Step, Wanted

CANARY = "canary-8f2c61d09b"
DECOYS = (
    ".ssh/id_ed25519",
    ".netrc",
    ".aws/credentials",
    ".bashrc",
    ".profile",
    ".config/systemd/user/a",
    "plans/plan.md",
    "../outside/theirs",
)
_PYTHON = "/usr/bin/python3"  # what a sandbox shows in any case


@dataclass(slots=True)
class Tally:
    """Acts and what became of them. `false_denials` did not happen and should have; `committed` happened and were forbidden."""

    requested: int = 0
    denied: int = 0
    committed: list[str] = field(default_factory=list)
    false_denials: list[str] = field(default_factory=list)
    approvals: int = 0
    unasked: list[str] = field(default_factory=list)  # a person should have been asked, or should not
    changed: int = 0  # files of the workspace that are others now
    untraced: list[str] = field(default_factory=list)  # of these, those of which the record knows no prompt

    def add(self, other: Tally) -> None:
        self.requested += other.requested
        self.denied += other.denied
        self.approvals += other.approvals
        self.committed += other.committed
        self.false_denials += other.false_denials
        self.unasked += other.unasked
        self.changed += other.changed
        self.untraced += other.untraced

    def sentence(self) -> str:
        return (
            f"requested {self.requested}, denied {self.denied}, forbidden and committed {len(self.committed)}, "
            f"false denials {len(self.false_denials)}, approvals asked {self.approvals}, "
            f"changed files traced to their prompt {self.changed - len(self.untraced)} of {self.changed}"
        )


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"a page\n")

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def _web() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.02))
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True, slots=True)
class World:
    """Everything around a workspace that an agent must not touch; `names` fills the braces of the scenarios."""

    home: Path
    client: Client
    names: Mapping[str, str]

    def filled(self, value: Any) -> Any:
        if isinstance(value, str):
            for name, said in self.names.items():
                value = value.replace("{" + name + "}", said)
            return int(value) if value.isdigit() and len(value) < 8 else value
        if isinstance(value, Mapping):
            return {key: self.filled(each) for key, each in value.items()}
        return [self.filled(each) for each in value] if isinstance(value, list | tuple) else value


@contextlib.contextmanager
def world(home: Path) -> Iterator[World]:
    """A home with keys and start-up files, another workspace, another process, two servers on loopback, the daemon."""
    for name in DECOYS:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(f"# {CANARY}\n")
    os.environ |= {"DEPLOY_TOKEN": "redacted-wherever-it-is-said", "STAGE": "testing"}
    package = paths.config() / "runtimes/actor"
    for name, client in (("actor", []), ("served", ["fs", "terminal"])):
        runtimes.put(name, _PYTHON, "-I", "-S", "{package}/actor.py", **({"client": client} if client else {}))
        (package.parent / name / "actor.py").write_bytes(Path(actor.__file__).read_bytes())
    other = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        with _web() as port, _web() as port2:
            allowed = {"network": {"allow": [f"127.0.0.1:{port}", f"127.0.0.1:{port2}"]}}
            (paths.config() / "config.yaml").write_text(yaml.safe_dump({"can": allowed}))
            with Client("test") as client:
                names = {
                    "home": str(home), "canary": CANARY, "socket": str(paths.socket()), "state": str(paths.state()),
                    "daemon": str(client.request("daemon/status")["pid"]), "other": str(other.pid), "port": str(port),
                    "port2": str(port2), "python": sys.executable, "other_workspace": str(home / "plans"),
                    "outside": str(home.parent / "outside"),
                }  # fmt: skip
                yield World(home, client, names)
        assert other.poll() is None, "somebody ended the person's other process"
    finally:
        other.stdin.close()  # type: ignore[union-attr]
        other.wait()
        for name in ("DEPLOY_TOKEN", "STAGE"):
            os.environ.pop(name)


def play(world: World, scenario: Scenario, directory: Path, trusted: bool = True) -> Tally:
    """One scenario from an empty directory to its tally. Raises NotTrusted where nobody trusted it and it needs that."""
    opened = _prepared(world, scenario, directory, trusted)
    talk = Talk(world.client, opened)
    conversation = talk.create("served" if scenario.served else "actor", title="scenario")
    named = World(world.home, world.client, {**world.names, "file": conversation["path"]})
    acts = [named.filled(step.act) for step in scenario.steps]
    before = _texts(opened)
    turn = talk.start(conversation, json.dumps(acts))["id"]
    answered = _answers(talk, conversation, turn, scenario)
    ended = talk.turn(conversation, turn)
    assert ended["state"] == "done", f"{scenario.name}: {ended}"
    reports = json.loads(talk.answer(conversation, turn))
    tally = Tally(approvals=answered)
    for step, report in zip(scenario.steps, reports, strict=True):
        _judge(tally, scenario, step, report, named)
    _trace(tally, talk, before, turn)
    wanted = sum(step.wanted in (Wanted.ASKED, Wanted.REFUSED) for step in scenario.steps)
    if answered != wanted:
        tally.unasked.append(f"{scenario.name}: {answered} questions, {wanted} expected")
    talk.client.request("process/stop", {"process": conversation["id"]})
    return tally


def _texts(directory: Path) -> dict[str, bytes]:
    """What an agent may have changed there: what is git's and ours is not in it."""
    found = (each for each in directory.rglob("*") if each.is_file() and not each.is_symlink())
    ours = (".git", ".opagent", "conversations")
    return {str(each): each.read_bytes() for each in found if each.relative_to(directory).parts[0] not in ours}


def _trace(tally: Tally, talk: Talk, before: Mapping[str, bytes], turn: str) -> None:
    """Whether the record leads from each changed file back to the prompt, by whatever means it was changed."""
    after = _texts(talk.directory)
    for path in sorted({*before, *after}):
        if before.get(path) == after.get(path):
            continue
        tally.changed += 1
        try:
            steps = talk.client.request("audit/why", {"id": path})["steps"]
        except NotFound:
            steps = []
        if not any(step["what"] == "prompt" for step in steps):
            tally.untraced.append(f"{path} ({turn}): {steps}")


def _prepared(world: World, scenario: Scenario, directory: Path, trusted: bool) -> Path:
    runtime = "served" if scenario.served else "actor"
    named = World(world.home, world.client, {**world.names, "runtime": runtime})
    opened = directory / scenario.opened
    opened.mkdir(parents=True)
    for name, text in scenario.files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(str(named.filled(text)))
    for name, binding in scenario.nested.items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / name / ".agent.yaml").write_text(yaml.safe_dump(named.filled(binding)))
    (directory / ".agent.yaml").write_text(yaml.safe_dump({"agent": runtime, **named.filled(scenario.binding)}))
    for folder in {directory, opened} if trusted else ():
        runtimes.trust(world.client, folder)
    if scenario.git:
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
            subprocess.run(["git", "-c", "user.name=p", "-c", "user.email=p@example.org", *words], cwd=directory, check=True)
    return opened


def _answers(talk: Talk, conversation: Mapping[str, Any], turn: str, scenario: Scenario) -> int:
    """A person who answers each question as the scenario says, in the order of its acts; how many were asked."""
    wanted = iter([step.wanted for step in scenario.steps if step.wanted in (Wanted.ASKED, Wanted.REFUSED)])
    count = 0
    while (
        until(lambda: talk.turn(conversation, turn)["state"] in (*FINAL, "waiting"))
        and _state(talk, conversation, turn) not in FINAL
    ):
        for approval in talk.approvals():
            if approval["conversation"] == conversation["id"]:
                count += 1
                allow = next(wanted, Wanted.REFUSED) is Wanted.ASKED
                talk.client.request("approval/answer", {"approval": approval["id"], "allow": allow})
    return count


def _state(talk: Talk, conversation: Mapping[str, Any], turn: str) -> str:
    return str(talk.turn(conversation, turn)["state"])


def _judge(tally: Tally, scenario: Scenario, step: Step, report: Mapping[str, Any], world: World) -> None:
    tally.requested += 1
    said = f"{scenario.name}: {json.dumps(step.act)} -> {report['said'][:200]!r}"
    holds = str(world.filled(step.holds)) if step.holds else None
    happened = report["ok"] and (holds is None or holds in report["said"])
    if not report["ok"]:
        tally.denied += 1
    if step.wanted in (Wanted.DENIED, Wanted.REFUSED):
        if happened or (holds and holds in report["said"]):
            tally.committed.append(said)
    elif not happened:
        tally.false_denials.append(said)
