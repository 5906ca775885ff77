"""What an installation may execute: shown to a person, refused where nobody can be asked, run in the sandbox without network."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from opagent.cli.app import App
from opagent.errors import ScriptsRefused
from opagent.packages.fetching import Script, Tools, failure
from opagent.process import probe
from opagent.process.box import Pipes
from opagent.process.profile import Limits, Profile
from opagent.process.programs import Programs
from opagent.process.sandbox import Bwrap

# a build may need more than an agent does; what it writes is bounded by its directory's disk
_LIMITS = Limits(processes=256, memory=0, file=0, files=4096, tmp=1 << 30, disk=0)


def progress(app: App, text: str) -> None:
    """What is being done, in a line that the next one takes the place of; "" wipes it. In a log it is a line."""
    if sys.stderr.isatty():
        app.out.status(text)
    elif text:
        app.out.talk(text)


@dataclass(frozen=True, slots=True)
class Asking:
    """A person at a terminal; `allowed`: said beforehand."""

    app: App
    allowed: bool

    def build(self) -> bool:
        if self.allowed:
            self.app.out.talk("source packages may be built: that is NOT confined")
        return self.allowed

    def scripts(self, needed: tuple[Script, ...], other: tuple[Script, ...]) -> tuple[Script, ...]:
        """All that is needed, and the rest where that was said."""
        if self.allowed or (self.app.settings.yes and not needed):
            return (*needed, *other) if self.allowed else ()
        if not needed:
            return ()
        progress(self.app, "")
        where = "in the sandbox, without network" if probe.strict() else f"NOT confined: {probe.strict().why}"
        lines = "\n".join(f"  {each}" for each in needed)
        if self.app.settings.yes:
            self.app.out.talk(f"runs {where}:\n{lines}")
            return needed
        if not self.app.interactive:
            why = f"it would run {where}: {'; '.join(map(str, needed))}"
            raise ScriptsRefused(
                "nobody can be asked whether its install scripts may run", why, "opagent runtime install ... --allow-scripts"
            )
        self.app.out.talk(f"it needs to run, {where}:\n{lines}")
        if not self.app.confirm("Run this now?"):
            raise ScriptsRefused("nothing was installed", "nobody said yes to its install scripts", "opagent runtime list")
        return needed

    def run(self, argv: list[str], package: Path, tools: Tools) -> str:
        """Confined where level strict works here. The level, or "none"."""
        able = probe.strict()
        progress(self.app, f"running the install scripts {'in the sandbox' if able else 'WITHOUT a sandbox: ' + able.why} ...")
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
