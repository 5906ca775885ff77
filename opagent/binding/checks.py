"""What can only be judged after the merge: names, budgets, defaults in the wrong place, `tests:` lines. Pure; yields problems."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opagent.binding import resolve, schema
from opagent.binding import source as sources
from opagent.binding.resolve import Given
from opagent.binding.source import Source
from opagent.model import Binding, Effect
from opagent.policy import rules
from opagent.policy.decide import BUILT_IN, decide

MAX_WEIGHT, MAX_WORK = 32 * 1024, 20_000
_LISTS = ("allow", "ask", "deny")


@dataclass(frozen=True, slots=True)
class Known:
    """The names a binding may use beside its own, and whether somebody counts what a runtime spends."""

    runtimes: Collection[str]
    servers: Collection[str] = ("opagent",)
    metered: Callable[[str], bool] = lambda runtime: True


def problems(chain: Sequence[Source], binding: Binding, known: Known, given: Given) -> Iterator[str]:
    """Every load error of a chain (nearest first) that was merged as if it were trusted."""
    too_much = list(_weight(chain))
    chain = resolve.cut(chain)
    yield from _defaults(chain)
    yield from _roots(chain)
    for each in (*chain, given.user):
        if each is not None:
            yield from _names(each, binding, known)
    yield from _budget(chain, binding, known, given)
    if too_much:
        yield from too_much
        return
    for index, each in enumerate(chain):
        above = [other for other in chain[index + 1 :] if other.kind != sources.HOME]
        yield from _tests(each, [each, *above], given)
    for own in (given.user, given.machine):
        if own is not None:
            yield from _tests(own, (own,), given)


def sealed(chain: Sequence[Source]) -> Iterator[str]:
    """A `root: true` below a `seal: true`; looks at the whole chain, also at what the root would cut off."""
    for index, each in enumerate(chain):
        seal = next((above for above in chain[index + 1 :] if above.data.get("seal")), None)
        if each.data.get("root") and seal is not None:
            yield each.problem(("root",), f"{seal.origin('seal')} says seal: true, so no directory below it may be a root")


def _weight(chain: Sequence[Source]) -> Iterator[str]:
    """A stranger's chain must not cost seconds: each pattern is compiled, each `tests:` line meets each rule above it."""
    weight = work = 0
    for index, each in enumerate(chain):
        weight += rules.weight(each.layer)
        work += sum(rules.count(above.layer) for above in chain[index:]) * len(each.data.get("tests", ()))
        if weight > MAX_WEIGHT:
            yield each.problem(("can",), f"too many or too long patterns: more than {MAX_WEIGHT} characters in all", True)
            return
        if work > MAX_WORK:
            yield each.problem(("tests",), f"too many lines for so many rules: more than {MAX_WORK} comparisons in all", True)
            return


def _roots(chain: Sequence[Source]) -> Iterator[str]:
    for each in chain:
        if each.data.get("root") and each.kind == sources.HOME:
            yield each.problem(("root",), "the file of the home directory ends the chain anyway")


def _defaults(chain: Sequence[Source]) -> Iterator[str]:
    """Only the outermost binding has defaults: a deeper one could widen by them. `~/.agent.yaml` stands outside the chain."""
    bindings = [each for each in chain if each.kind == sources.WORKSPACE]
    for each in bindings[:-1]:
        for kind, rule_list in each.layer.kinds.items():
            if rule_list.default is not None:
                said = f"only the outermost file has a default, and that is {bindings[-1].path}"
                yield each.problem(("can", kind, "default"), said, of_key=True)


def _names(source: Source, binding: Binding, known: Known) -> Iterator[str]:
    written = (name for name in binding.roles if f"roles.{name}.runtime" in binding.origins)
    roles = (*written, *known.runtimes)
    agent = source.data.get("agent")
    if agent is not None and agent not in roles:
        yield source.problem(("agent",), f"no role or runtime {agent!r}{schema.nearest(agent, roles)}")
    for name, role in source.data.get("roles", {}).items():
        runtime = role["runtime"]
        if runtime not in known.runtimes:
            said = f"no runtime {runtime!r}{schema.nearest(runtime, tuple(known.runtimes))}"
            yield source.problem(("roles", name, "runtime"), said)
    if source.kind != sources.MACHINE:
        yield from _rule_names(source, "agents", roles)
        yield from _rule_names(source, "mcp", (*binding.tools, *known.servers))


def _rule_names(source: Source, kind: str, known: Collection[str]) -> Iterator[str]:
    rule_list = source.layer.kinds.get(kind)
    for word in _LISTS:
        for index, pattern in enumerate(getattr(rule_list, word, ())):
            name = pattern.removeprefix("!").partition("/")[0] if kind == "mcp" else pattern.removeprefix("!")
            if (
                set(name) & set("*?{")
                or (kind == "agents" and (rules.is_directory(name) or rules.is_elsewhere(name)))
                or name in known
            ):
                continue
            what = "role or runtime" if kind == "agents" else "tool"
            yield source.problem(("can", kind, word, index), f"no {what} {name!r}{schema.nearest(name, tuple(known))}")


def _budget(chain: Sequence[Source], binding: Binding, known: Known, given: Given) -> Iterator[str]:
    for each in (*chain, given.user):
        cost = each.data.get("budget", {}).get("cost", "") if each is not None else ""
        currency = binding.budget.get("currency")
        if each is not None and cost and currency and not cost.endswith(str(currency)):
            yield each.problem(("budget", "cost"), f"the chain counts in {currency}")
    role = binding.roles.get(binding.agent or "")
    if role is None or known.metered(role.runtime):
        return
    for each in (*chain, given.user):
        for key in ("tokens", "cost"):
            if each is not None and key in each.data.get("budget", {}):
                yield each.problem(("budget", key), f"nothing can count this: the runtime {role.runtime} reports none", True)


def _tests(source: Source, above: Sequence[Source], given: Given) -> Iterator[str]:
    """The lines of one file, decided on the chain from the top down to it, as if trusted; nothing of the user's takes part."""
    if not source.data.get("tests"):
        return
    alone = Given(given.workspace if source.own else source.base, given.floor, fold=given.fold)
    if source.own:
        alone = replace(alone, user=source) if source.kind == sources.USER else replace(alone, machine=source)
        above = ()
    capabilities = resolve.resolve(above, resolve.EVERYTHING, alone).capabilities
    for index, line in enumerate(source.data["tests"]):
        kind = next(key for key in line if key != "is")
        decision = decide(capabilities, kind, _request(kind, line, source))
        if decision.effect.word != line["is"]:
            yield source.problem(("tests", index), f"is {decision.effect.word}, not {line['is']} ({decision.rule})")


def _request(kind: str, line: Mapping[str, Any], source: Source) -> Any:
    said = line[kind]
    if kind == "exec":
        return tuple(said)
    if kind == "agents" and rules.is_directory(said) and not rules.is_elsewhere(said):
        return rules.absolute(said, source.base)
    return rules.absolute(said, source.base) if kind in rules.PATHS else said


def notes(binding: Binding) -> Iterator[str]:
    """Rules that are legal and change nothing: an allow of a deeper file where the outermost one does not allow as much."""
    for layer in binding.capabilities.chain[1:]:
        first = binding.capabilities.chain[0]
        for kind, rule_list in layer.kinds.items():
            above = first.kinds.get(kind)
            if rule_list.allow and (above is None or not above.allow) and BUILT_IN[kind] is not Effect.ALLOW:
                where = f"{layer.file}:{rule_list.lines.get('allow.0', 0)}"
                yield f"{where}: can.{kind}.allow has no effect: a deeper file only narrows what {first.file} allows"
