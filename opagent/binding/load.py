"""The one entry to bindings: from a target to the binding that may act. Reads files; starts, connects and looks up nothing.

What the daemon does, and all it needs::

    loaded = load(target, home=home, runtimes=catalogue)     # catalogue: see `standing.Runtimes`
    loaded = load(target, home=home, runtimes=catalogue, agent="reviewer")   # another role: may need a question of its own
    loaded = unbound(directory, "librarian", home=home, runtimes=catalogue)  # after NoBinding, for `open --agent NAME`
    loaded.workspace, loaded.focus        # real path; the target below it ("" when it is the workspace)
    loaded.binding                        # as if everything were trusted: for `explain`, never to act on
    loaded.notes                          # sentences that are no errors: rules without effect
    verdict = judge(loaded, record_of)    # record_of: path -> TrustRecord | None; also asked for workspaces above
    verdict.state                         # Trust
    verdict.acts                          # False: raise NotTrusted; True: verdict.binding may act, whatever the state
    verdict.binding                       # files without trust contribute their limits only
    verdict.binding.roles[verdict.binding.agent]   # the role to start; other roles: role(binding, name, runtimes)
    loaded.digest                         # what a TrustRecord holds; compare with what the person saw before storing it
    question.lines(loaded)                # what a person is asked
    question.shown(loaded)                # TrustRecord.shown; trust.difference(record.shown, question.shown(loaded))
    policy.decide.decide(verdict.binding.capabilities, kind, request)

    loaded.facts.obstacle                 # not "": refuse to store a yes (what it executes cannot be hashed)

`load` raises NotFound, WorkspaceRefused, NoBinding (hint `opagent init DIR`), BindingInvalid (all problems in `why`).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from opagent import paths, yamlfile
from opagent.binding import checks, closure, find, resolve, schema, standing, surroundings, trust
from opagent.binding import source as sources
from opagent.binding.checks import Known
from opagent.binding.resolve import Given, Standing
from opagent.binding.source import Source
from opagent.binding.standing import Runtimes
from opagent.binding.trust import Facts
from opagent.errors import BindingInvalid, NoBinding, NotFound, WorkspaceRefused
from opagent.model import Binding, Role, Trust, TrustRecord

SERVERS = ("opagent",)  # MCP servers that need no entry in `tools`


@dataclass(frozen=True, slots=True)
class Loaded:
    """A binding that was found, read and checked. `chain` is nearest first and goes on above a `root: true`."""

    target: str
    workspace: str
    focus: str
    binding: Binding
    chain: tuple[Source, ...]
    given: Given
    standing: Standing
    facts: Facts
    runtimes: Runtimes
    notes: tuple[str, ...] = ()
    agent: str | None = None  # said on the command line

    @property
    def digest(self) -> str:
        return trust.digest(self.facts)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What trust makes of a Loaded."""

    state: Trust
    binding: Binding
    acts: bool


@dataclass(frozen=True, slots=True)
class _Place:
    target: str
    workspace: str
    home: str

    @property
    def focus(self) -> str:
        return "" if self.target == self.workspace else os.path.relpath(self.target, self.workspace)


def load(target: str, *, home: str, runtimes: Runtimes, agent: str | None = None, servers: Collection[str] = SERVERS) -> Loaded:
    """Find, read, merge and check the binding of a directory or file; `agent` is a role to take instead of the file's."""
    found = find.chain(target, home)
    chain = _parse(found.files, os.path.realpath(home))
    workspace = next((each.base for each in chain if each.kind == sources.WORKSPACE), None)
    if workspace is None:
        raise _no_binding(found)
    return _load(_Place(found.target, workspace, os.path.realpath(home)), chain, agent, runtimes, servers)


def unbound(directory: str, agent: str, *, home: str, runtimes: Runtimes) -> Loaded:
    """A directory opened once without a binding, with the role of a runtime's or of the user's own name.

    The user's and the machine's files and `~/.agent.yaml` count. Raises NotFound, WorkspaceRefused, BindingInvalid.
    """
    found = find.chain(directory, home)
    if find.never_a_workspace(found.start, home):
        raise WorkspaceRefused(f"{found.start} is never a workspace", "an agent there would see everything", "opagent init DIR")
    chain = tuple(each for each in _parse(found.files, os.path.realpath(home)) if each.kind != sources.WORKSPACE)
    return _load(_Place(found.target, found.start, os.path.realpath(home)), chain, agent, runtimes, SERVERS)


def judge(loaded: Loaded, record_of: Callable[[str], TrustRecord | None]) -> Verdict:
    """The binding that may act. An untrusted child keeps the binding of a parent that may act, and adds its own limits."""
    state = trust.state(loaded.facts, record_of(loaded.workspace))
    if state in (Trust.UNNEEDED, Trust.ALLOWED):
        return Verdict(state, loaded.binding, acts=True)
    for facts in _above(loaded):
        if trust.state(facts, record_of(facts.path)) in (Trust.UNNEEDED, Trust.ALLOWED):
            if state is Trust.UNKNOWN and trust.covered(loaded.facts, facts):
                return Verdict(Trust.ALLOWED, loaded.binding, acts=True)
            limited = _limited(loaded, frozenset(file.path for file in facts.chain))
            return Verdict(state, replace(limited, digest=trust.digest(facts)), _may_start(loaded, limited, facts))
    return Verdict(state, effective(loaded, trusted=False), acts=False)


def effective(loaded: Loaded, trusted: bool) -> Binding:
    """The binding with everything, or with no file trusted: then only what narrows and an installed runtime remain."""
    return loaded.binding if trusted else _limited(loaded, frozenset())


def role(binding: Binding, name: str, runtimes: Runtimes) -> Role:
    """A role of the binding or the implicit one of a runtime. Raises NotFound."""
    if name in binding.roles:
        return binding.roles[name]
    if name in runtimes.names():
        return resolve.implicit(name)
    near = schema.nearest(name, (*binding.roles, *runtimes.names()))
    raise NotFound(f"no role or runtime {name!r}{near}", "", "opagent doctor")


def _load(place: _Place, chain: tuple[Source, ...], agent: str | None, runtimes: Runtimes, servers: Collection[str]) -> Loaded:
    given = surroundings.given(place.workspace, chain, place.home)
    written = resolve.resolve(chain, resolve.EVERYTHING, given)
    binding = written if agent is None else resolve.with_agent(written, role(written, agent, runtimes))
    known = Known(runtimes.names(), servers, lambda name: name not in runtimes.names() or runtimes.facts(name).metered)
    if problems := [*checks.sealed(chain), *checks.problems(chain, binding, known, given)]:
        raise yamlfile.invalid(chain[0].path if chain else place.workspace, problems)
    stands = standing.standing(chain, place.workspace, runtimes)
    facts = standing.facts(chain, stands, written, runtimes)
    chosen = binding.roles.get(agent or "")
    if chosen is not None and standing.doubt(chosen.runtime, place.workspace, runtimes, trusted=facts.needed):
        facts = standing.facts(chain, stands, binding, runtimes)
    files = tuple(resolve.chain_file(each, Standing(stands.needs)) for each in resolve.cut(chain))
    binding = replace(binding, chain=files, digest=trust.digest(facts))
    notes = tuple(checks.notes(binding))
    return Loaded(place.target, place.workspace, place.focus, binding, chain, given, stands, facts, runtimes, notes, agent)


def _parse(found: tuple[find.Found, ...], home: str) -> tuple[Source, ...]:
    """All files of the chain. Raises BindingInvalid with the problems of all of them."""
    parsed: list[Source] = []
    problems: list[str] = []
    for each in found:
        kind = sources.HOME if find.never_a_workspace(each.directory, home) else sources.WORKSPACE
        try:
            parsed.append(sources.parse(each.path, each.directory, kind, each, home))
        except BindingInvalid as error:
            problems.append(error.why)
    if problems:
        raise yamlfile.invalid(found[0].path, problems)
    return tuple(parsed)


def _no_binding(found: find.Chain) -> NoBinding:
    """With the near miss, if there is one."""
    why = f"no {paths.BINDING} here or above"
    if found.files:
        why = f"{found.files[0].path} gives defaults only: its directory is never a workspace"
    for name in (".agent.yml", "agent.yaml", "agent.yml"):
        if os.path.lexists(os.path.join(found.start, name)):
            why = f"{name} is here, but the file is called {paths.BINDING}"
    return NoBinding(f"{found.start} is not bound to an agent", why, f"opagent init {shlex.quote(found.start)}")


def _above(loaded: Loaded) -> Iterator[Facts]:
    """The facts of each workspace above this one, nearest first, as if it had been opened itself."""
    for index, each in enumerate(loaded.chain):
        if each.kind != sources.WORKSPACE or each.base == loaded.workspace:
            continue
        chain = loaded.chain[index:]
        stands = standing.standing(chain, each.base, loaded.runtimes)
        binding = resolve.resolve(chain, resolve.EVERYTHING, replace(loaded.given, workspace=each.base))
        yield standing.facts(chain, stands, binding, loaded.runtimes)


def _may_start(loaded: Loaded, limited: Binding, above: Facts) -> bool:
    """Whether trust in a workspace above is enough for the agent that remains here."""
    chosen = limited.roles.get(limited.agent or "")
    if chosen is None:
        return False
    runs = [name for each in above.runtimes if each.name == chosen.runtime for name in each.runs]
    known = any(each.name == chosen.runtime for each in above.runtimes) and not closure.present(loaded.workspace, runs)
    return known or not standing.doubt(chosen.runtime, loaded.workspace, loaded.runtimes)


def _limited(loaded: Loaded, trusted: frozenset[str]) -> Binding:
    binding = resolve.resolve(loaded.chain, replace(loaded.standing, trusted=trusted), loaded.given)
    if loaded.agent is not None:
        return resolve.with_agent(binding, role(binding, loaded.agent, loaded.runtimes))
    return binding
