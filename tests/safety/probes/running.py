"""Runs the attempts as an agent is run: the same spawn, the same boxes. `python -m tests.safety.probes.running LEVEL` shows a table."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from opagent.model import ProcessId
from opagent.process import reaper
from opagent.process.box import Box
from opagent.process.landlock import Landlock
from opagent.process.profile import Level, Mount, Profile
from opagent.process.sandbox import Bwrap
from opagent.process.supervisor import Launch, Process
from tests.safety.probes.table import PROBES
from tests.safety.probes.world import World

ATTEMPTS = Path(__file__).with_name("attempts.py")
PROTECTED = (".agent.yaml", "sub/.agent.yaml", "conversations", ".envrc", ".vscode", "linked")


def profile(world: World) -> Profile:
    """What a binding with the usual rules and one hidden directory comes to."""
    shown = dict.fromkeys((sys.prefix, sys.base_prefix, str(ATTEMPTS.parent), str(world.home / "package")))
    return Profile(
        str(world.workspace),
        programs=tuple(Mount(path, path) for path in shown),
        protected=PROTECTED,
        hidden=("private",),
        limits=world.limits,
    )


def box(world: World, level: Level) -> Box | None:
    match level:
        case Level.STRICT:
            return Bwrap(profile(world))
        case Level.LANDLOCK:
            return Landlock(profile(world), str(world.folder / "boxes/probe"))
    return None


def outcomes(world: World, level: Level, names: Sequence[str]) -> dict[str, str]:
    """What each attempt said. `Level.OFF`: without a sandbox."""
    facts = world.workspace / "world.json"
    facts.write_text(json.dumps(world.facts))
    argv = (sys.executable, "-I", "-S", str(ATTEMPTS), str(facts), *names)
    env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OPAGENT_TEST_ID": os.environ.get("OPAGENT_TEST_ID", "")}
    launch = Launch(ProcessId("probe"), argv, str(world.workspace), env, world.folder / "log", box=box(world, level))

    async def run() -> str:
        burying = reaper.Reaper()
        burying.start()
        process = await Process.start(launch)
        text = b""
        while data := await process.read():
            text += data
        report = await process.wait()
        burying.stop()
        return text.decode() or report.stderr_tail

    said = asyncio.run(run())
    found = dict(json.loads(line) for line in said.splitlines() if line.startswith("["))
    assert found, said
    return found


@dataclass(frozen=True, slots=True)
class Result:
    """`said`: by the attempt. `missing`: what it would need is not here, so that it says nothing."""

    escaped: bool
    said: str

    @property
    def missing(self) -> bool:
        return self.said.startswith(("not here", *(f"refused: {name}" for name in ("ENOENT", "ENOSYS", "EAFNOSUPPORT"))))


def results(level: Level) -> dict[str, Result]:
    """Every probe at this level, in a world of its own; without a sandbox only those that may be tried there."""
    with tempfile.TemporaryDirectory(prefix="oa-", dir="/var/tmp") as folder, World.made(Path(folder)) as world:
        names = [probe.name for probe in PROBES if level is not Level.OFF or not probe.bare]
        said = outcomes(world, level, names)
        return {
            probe.name: Result(probe.escaped(world, said[probe.name]), said[probe.name]) for probe in PROBES if probe.name in said
        }


def main() -> None:
    found = results(Level(sys.argv[1]))
    if "--json" in sys.argv:
        print(json.dumps({name: [result.escaped, result.said] for name, result in found.items()}))
        return
    for probe in PROBES:
        if result := found.get(probe.name):
            word = "OUT" if result.escaped else "-" if result.missing else "refused"
            print(f"{probe.name:24} {word:8} {result.said.splitlines()[0][:40]:40}  {probe.tries}")
    print(f"{len(found)} tried, {sum(result.escaped for result in found.values())} got out")


if __name__ == "__main__":
    main()
