"""`runtime probe`: a conformance conversation with an installed runtime in a sandbox of its own, and the record of it.

    record = await prove(spec, argv, client_environment, new_process)

The agent gets an empty workspace, an empty home and no network. Where it needs a model, it finds a scripted one on its own
loopback: `packages/rehearsal`. What is seen is what this program did this time: no proof of what a hostile one will do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent import files, paths
from opagent.daemon import showing
from opagent.daemon.params import Params, text
from opagent.daemon.params import environment as brought
from opagent.errors import AgentFailed, OpAgentError
from opagent.model import ProcessId, RuntimeSpec
from opagent.packages import ability, catalog
from opagent.packages.ability import Record
from opagent.packages.rehearsal.script import PORT
from opagent.process import bounds, environment, probe, reaper
from opagent.process.profile import HOME, Level, Mount, Profile
from opagent.process.programs import Programs
from opagent.process.sandbox import Bwrap
from opagent.process.supervisor import Launch

if TYPE_CHECKING:
    from opagent.daemon.consenting import Desk
    from opagent.daemon.host import Host
    from opagent.daemon.server import Client

LONGEST = 240.0  # seconds of a whole probe
_STAGE = Path(__file__).resolve().parents[1] / "packages" / "rehearsal" / "__main__.py"
_MEMORY = 8 << 30  # some run times reserve more than they use, and crawl below that
_URL = "{url}"


@dataclass(frozen=True, slots=True)
class Place:
    """The directories of one probe; `stage` is where the model keeps its journal."""

    top: Path

    @property
    def work(self) -> Path:
        return self.top / "work"

    @property
    def stage(self) -> Path:
        return self.top / "stage"

    @property
    def home(self) -> Path:
        return self.top / "home"


@contextlib.contextmanager
def place(spec: RuntimeSpec) -> Iterator[Place]:
    """Made for one probe and gone after it, with the settings in its home that `probe.files` of the description says."""
    now = files.private_directory(paths.probes() / ".now")
    for left in now.iterdir():  # of a probe that was killed
        if time.time() - left.stat().st_mtime > 2 * LONGEST:
            shutil.rmtree(left, ignore_errors=True)
    made = Place(Path(tempfile.mkdtemp(prefix=f"{spec.name}-", dir=now)))
    try:
        for folder in (made.work, made.stage, made.top / "state", *(made.home / name for name in spec.state)):
            folder.mkdir(parents=True)
        for name, text in spec.probe.get("files", {}).items():
            path = made.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace(_URL, f"http://127.0.0.1:{PORT}"), "utf-8")
        yield made
    finally:
        shutil.rmtree(made.top, ignore_errors=True)


def launch(spec: RuntimeSpec, argv: tuple[str, ...], client: Mapping[str, str], where: Place, ident: ProcessId) -> Launch:
    """The stage with the agent on it, in a box. Raises AgentFailed where this machine has none that is firm enough."""
    able = probe.strict()
    if not able:
        raise AgentFailed(f"{spec.name} cannot be probed here: that needs the sandbox level strict", able.why, able.hint)
    state = str(where.top / "state")
    argv = tuple(word.replace("{state}", state) for word in argv)
    base = {name: value for name, value in client.items() if name not in spec.pass_env}
    given = environment.build(base, (), spec, process=ident, state=state, workspace=str(where.work)) | _pointed(spec)
    private = (os.path.expanduser("~"), os.path.realpath(os.path.expanduser("~")), str(paths.config()), str(paths.run()))
    programs = Programs(given["PATH"], private, str(where.work))  # with the programs that were installed along
    inside, _ = programs.show(argv, spec.package, spec.needs.get("programs", ()))
    stage = (sys.executable, "-I", "-S", str(_STAGE), "agent", str(PORT), str(where.stage), "--")
    _, mounts = programs.show((*stage, *inside), str(_STAGE.parents[2]))
    own = [Mount(str(where.home / name), f"{HOME}/{name}", writable=True) for name in spec.state]
    own += [Mount(str(folder), str(folder), writable=True) for folder in (where.stage, where.top / "state")]
    profile = Profile(
        workspace=str(where.work), programs=mounts, mounts=tuple(own),
        nested=bool(spec.needs.get("nested")), limits=bounds.of({"memory": _MEMORY}),
    )  # fmt: skip
    files.private_directory(paths.agent_log(ident).parent)
    return Launch(ident, (*stage, *inside), str(where.work), given, paths.agent_log(ident), box=Bwrap(profile, able.program))


def _pointed(spec: RuntimeSpec) -> dict[str, str]:
    """The variables that lead the runtime to the scripted model, as its description says."""
    url = f"http://127.0.0.1:{PORT}"
    said = {name: text.replace(_URL, url) for name, text in spec.probe.get("env", {}).items()}
    if "key" in spec.model:
        said.setdefault(spec.model["key"], "a-probe")
    if "base_url" in spec.model:
        said.setdefault(spec.model["base_url"], url + spec.model.get("path", ""))
    return said


async def prove(
    spec: RuntimeSpec, argv: tuple[str, ...], client: Mapping[str, str], new_process: Callable[[], ProcessId]
) -> Record:
    """Probe a runtime and keep the record. `argv` as `catalog.installed` gives it, {state} may still stand in it.

    Raises AgentFailed where no sandbox is there, StoreFailed never: what went wrong in the agent stands in the record.
    """
    key = await asyncio.to_thread(ability.key, spec, argv)
    with place(spec) as where:

        def make() -> Launch:
            return launch(spec, argv, client, where, new_process())

        shown = showing.Showing(spec, where, make)
        try:
            async with asyncio.timeout(LONGEST):
                await shown.all()
        except TimeoutError:
            shown.problem = f"it was ended after {LONGEST:.0f} s"
        except OpAgentError as error:
            if not shown.started:
                raise
            shown.problem = str(error)
        finally:
            await shown.close()
    at = datetime.now(UTC).isoformat(timespec="seconds")
    record = replace(shown.record(), version=key.version, digest=key.digest, program=key.program, at=at, level=Level.STRICT.value)
    await asyncio.to_thread(ability.write, key, record)
    return record


def prove_here(spec: RuntimeSpec, client: Mapping[str, str]) -> Record:
    """The same from a program that is no daemon, such as an installation. Raises AgentFailed, RuntimeNotInstalled."""
    argv = catalog.installed(spec, client.get("PATH", os.defpath), (), "{state}")
    found = known(spec, argv)
    if found is not None and not found.problem:
        return found
    reaper.become_subreaper()
    return asyncio.run(prove(spec, argv, client, lambda: ProcessId("x" + secrets.token_hex(3))))


def before_it_counts(desk: Desk, name: str, version: str) -> None:
    """A version that was installed is probed. Raises AgentFailed where it does not even come up: then it does not count."""
    desk.progress(f"probing {name} {version} ...")
    try:
        record = prove_here(catalog.find(f"{name}@{version}"), desk.env)
    except OpAgentError as error:
        desk.tell(f"not probed: {error}")
        return
    finally:
        desk.progress("")
    if record.protocol is None:
        what = f"{name} {version} is installed and does not count: it did not come up when it was probed"
        raise AgentFailed(what, record.problem, f"opagent runtime pin {name}@{version}")
    seen = [need for need in ability.NEEDS if record.can(need)]
    desk.tell(f"seen of {name}: {', '.join(seen) or 'that it comes up'}" + (f" ({record.problem})" if record.problem else ""))


def known(spec: RuntimeSpec, argv: tuple[str, ...]) -> Record | None:
    """What was seen of the version that would be started now. Reads files: for a thread."""
    return ability.read(ability.key(spec, argv))


async def runtime_probe(host: Host, client: Client, params: Params) -> Mapping[str, Any]:
    """The method `runtime/probe`."""
    host.refuse_agents(client)
    given = await host.environment(brought(params), os.path.expanduser("~"))
    spec = catalog.find(text(params, "name"))
    argv = catalog.installed(spec, given.get("PATH", os.defpath), sorted(host.workspaces), "{state}")
    began = time.monotonic()
    record = await prove(spec, argv, given, host.shared.new_process)
    return {**showing.as_json(record), "seconds": round(time.monotonic() - began, 1)}
