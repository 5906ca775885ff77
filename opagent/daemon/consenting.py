"""What an installation may execute: shown to a person, refused where nobody can be asked, run in the sandbox without network."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from opagent.errors import ScriptsRefused
from opagent.packages.fetching import Script, Tools, failure
from opagent.process import probe
from opagent.process.box import Pipes
from opagent.process.profile import Limits, Profile
from opagent.process.programs import Programs
from opagent.process.sandbox import Bwrap

# a build may need more than an agent does; what it writes is bounded by its directory's disk
_LIMITS = Limits(processes=256, memory=0, file=0, files=4096, tmp=1 << 30, disk=0)


class Desk(Protocol):
    """Where an installation is asked for: a person at a terminal, or the words of one who said everything beforehand."""

    env: Mapping[str, str]  # of whoever asks
    timeout: float  # seconds for each thing that is started

    def tell(self, text: str) -> None:
        """A line for a person."""

    def progress(self, text: str) -> None:
        """What is being done; "" when it is over."""

    def agrees(self, question: str) -> bool | None:
        """A yes or a no; None where nobody can be asked."""


@dataclass(frozen=True, slots=True)
class Asking:
    """`allowed`: all scripts and builds, said beforehand."""

    desk: Desk
    allowed: bool

    def build(self) -> bool:
        if self.allowed:
            self.desk.tell("source packages may be built: that is NOT confined")
        return self.allowed

    def scripts(self, needed: tuple[Script, ...], other: tuple[Script, ...]) -> tuple[Script, ...]:
        """All that is needed, and the rest where that was said."""
        if self.allowed or not needed:
            return (*needed, *other) if self.allowed else ()
        self.desk.progress("")
        where = "in the sandbox, without network" if probe.strict() else f"NOT confined: {probe.strict().why}"
        lines = "\n".join(f"  {each}" for each in needed)
        answer = self.desk.agrees(f"it needs to run, {where}:\n{lines}\nRun this now?")
        if answer is None:
            why, hint = f"it would run {where}: {'; '.join(map(str, needed))}", "opagent runtime install ... --allow-scripts"
            raise ScriptsRefused("nobody can be asked whether its install scripts may run", why, hint)
        if not answer:
            raise ScriptsRefused("nothing was installed", "nobody said yes to its install scripts", "opagent runtime list")
        return needed

    def run(self, argv: list[str], package: Path, tools: Tools) -> str:
        """Confined where level strict works here. The level, or "none"."""
        able = probe.strict()
        how = "in the sandbox" if able else f"WITHOUT a sandbox: {able.why}"
        self.desk.progress(f"running the install scripts {how} ...")
        if not able:
            tools.run(argv, package)
            return "none"
        confined(argv, package, tools, able.program)
        return "strict"


def confined(argv: list[str], package: Path, tools: Tools, bwrap: str) -> None:
    """Runs it where it sees its own directory, programs, and no network. Raises InstallFailed."""
    home = os.path.expanduser("~")
    program = shutil.which(argv[0], path=tools.search_path) or argv[0]
    inside, shown = Programs(tools.search_path, (home, os.path.realpath(home)), str(package)).show(
        (program, *argv[1:]), str(package), ("node",)
    )
    profile = Profile(workspace=os.path.realpath(package), programs=shown, limits=_LIMITS)
    env = {"PATH": tools.search_path, "LANG": "C.UTF-8", "npm_config_offline": "true", "npm_config_cache": "/tmp/npm"}
    with tempfile.TemporaryFile() as out, open(os.devnull, "rb") as nothing:
        pipes = Pipes(nothing.fileno(), out.fileno(), out.fileno())
        started = Bwrap(profile, bwrap).start(inside, env, str(package), pipes)
        try:
            status = started.popen.wait(tools.timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                started.popen.kill()
            started.popen.wait()
            if started.status >= 0:
                os.close(started.status)
        if status:
            out.seek(0)
            raise failure("an install script", out.read(1 << 16).decode("utf-8", "replace"), package)
