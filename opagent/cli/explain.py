"""`opagent explain`: every effective value with where it was written, what would be launched, how each rule is enforced."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import TARGET, Command, pass_app
from opagent.cli.words import home_short, state_word
from opagent.process.bounds import size

SIZES = ("limits.memory", "limits.tmp", "limits.file", "limits.disk")


@click.command(cls=Command, example="opagent explain ./docs --decide write notes.md", exits=(0, 1, 2, 4))
@click.argument("target", required=False, type=TARGET)
@click.option("--agent", metavar="NAME", help="As if opened with that agent.")
@click.option("--decide", "request", metavar="KIND REQUEST", nargs=2, help="What becomes of one request, and by whose word.")
@pass_app
def explain(app: App, target: str | None, agent: str | None, request: tuple[str, str] | None) -> None:
    """Every effective value with file:line, what was narrowed, what would be launched and how each rule is enforced."""
    path = app.path(target)
    if request:
        kind, said = request
        _decided(app, app.ask("binding/decide", path=path, kind=kind, request=said, agent=agent, environment=app.environment()))
        return
    found = app.ask("binding/explain", path=path, agent=agent, environment=app.environment())
    if app.out.json:
        app.out.result(found)
        return
    out = app.out
    out.data(f"{found['workspace']}   agent {found.get('agent') or '-'}   trust {state_word(found['trust'])}")
    for file in found["chain"]:
        out.data(f"  {_file(file)}")
    out.data()
    out.table(("KEY", "VALUE", "FROM", "NOTE"), [_value(value) for value in found["values"]])
    out.data()
    out.table(("KIND", "EFFECT", "PATTERN", "FROM", "ENFORCED"), _rules(found["capabilities"], app.settings.verbose))
    out.data()
    for line in (*_legend(found["capabilities"]), "", *_launch(app, found["launch"], found.get("sandbox") or {})):
        out.data(line)
    for notice in found["notices"]:
        out.talk(str(notice))


def _decided(app: App, found: Mapping[str, Any]) -> None:
    """One request: the answer, why it is that, and what each layer says."""
    if app.out.json:
        app.out.result(dict(found))
        return
    out = app.out
    out.data(f"{found['kind']} {found['request']}: {found['effect']}   by {home_short(found['rule'])}   {found['enforcement']}")
    if found.get("by_rule"):
        out.data(f"  the rule says {found['by_rule']}, and it is {found['effect']} here: {found['reason']}")
    elif found.get("reason"):
        out.data(f"  {found['reason']}")
    out.data()
    out.table(("LAYER", "SAYS", "BY", ""), [_word(word) for word in found["layers"]])


def _word(word: Mapping[str, Any]) -> tuple[str, str, str, str]:
    idle = "" if word["counts"] or word["effect"] is None else "does not count: a binding speaks, or something stricter does"
    return home_short(str(word["layer"])), str(word["effect"] or "-"), home_short(str(word["rule"])), idle


def _legend(capabilities: list[Mapping[str, Any]]) -> Iterator[str]:
    """What the words of the last column mean, and what more there is to say, each once."""
    from opagent.policy.enforcement import legend

    rows = [row for kind in capabilities for row in (kind, *kind["rules"])]
    yield from legend([str(row["enforcement"]) for row in rows])
    reasons: dict[str, dict[str, None]] = {}
    for kind in capabilities:
        for row in (kind, *kind["rules"]):
            if row.get("reason"):
                reasons.setdefault(str(row["reason"]), {})[str(kind["kind"])] = None
    yield from (f"{', '.join(kinds)}: {reason}" for reason, kinds in reasons.items())


def _file(file: Mapping[str, Any]) -> str:
    needs = ", ".join(file["needs_trust"])
    if not needs:
        return f"{home_short(file['path'])} (needs no trust)"
    return f"{home_short(file['path'])} ({'trusted' if file['trusted'] else 'NOT TRUSTED'}: {needs})"


def _value(value: Mapping[str, Any]) -> tuple[str, str, str, str]:
    notes = [f"narrows {', '.join(map(home_short, value['narrowed']))}"] if value.get("narrowed") else []
    notes += [str(value["note"])] if value.get("note") else []
    notes += [f"enforced: {value['enforcement']}"] if value.get("enforcement") else []
    return str(value["key"]), _shown(str(value["key"]), value["value"]), home_short(str(value["origin"])), "; ".join(notes)


def _shown(key: str, value: Any) -> str:
    """A size as a binding writes it."""
    return size(value) if key in SIZES and isinstance(value, int) else _short(value)


def _rules(capabilities: list[Mapping[str, Any]], whole: bool) -> Iterator[tuple[str, str, str, str, str]]:
    """One row a rule; what is built in is the same everywhere and stands in one row, unless the whole is wanted."""
    for kind in capabilities:
        folded: list[str] = []
        for rule in kind["rules"]:
            origin, pattern = home_short(str(rule["origin"])), home_short(_short(rule["pattern"]))
            if origin == "built-in" and not whole:
                folded.append(pattern)
                continue
            yield str(kind["kind"]), _effect(rule, str(rule["effect"])), pattern, origin, str(rule["enforcement"])
        if folded:
            some = f"{', '.join(folded[:2])} and {len(folded) - 2} more (-v)" if len(folded) > 3 else ", ".join(folded)
            held = dict.fromkeys(str(rule["enforcement"]) for rule in kind["rules"] if rule["origin"] == "built-in")
            yield str(kind["kind"]), "deny", some, "built-in", ", ".join(held)
        yield str(kind["kind"]), _effect(kind, str(kind["default"])), "all else", "built-in", str(kind["enforcement"])


def _effect(row: Mapping[str, Any], said: str) -> str:
    return f"{said}, so {row['really']}" if row.get("really") else said


def _launch(app: App, launch: Mapping[str, Any], sandbox: Mapping[str, Any]) -> Iterator[str]:
    if launch.get("argv"):
        yield f"would run  {shlex.join(map(str, launch['argv']))}"
    yield f"in         {launch['directory']}"
    if launch.get("runtime"):
        version = f" {launch['version']}" if launch.get("version") else ""
        yield f"runtime    {launch['runtime']}{version} ({home_short(str(launch.get('runtime_file', '')))})"
    if "seen" in launch:
        yield from _seen(app, str(launch["runtime"]), launch["seen"])
    if launch.get("environment"):
        yield f"variables  {' '.join(launch['environment'])}"
    if network := launch.get("network"):
        yield f"network    {network['how']}   ({network['enforcement']})"
    for secret in launch.get("secrets", []):
        where = f"from {secret['from']}, {home_short(secret['origin'])}"
        yield f"secret     {secret['name']} ({where}): {secret['how']}   ({secret['enforcement']})"
        if secret.get("problem"):
            yield f"  problem  {secret['problem']}"
    if sandbox:
        yield from _sandbox(app, sandbox)
    problem = launch.get("problem")
    if problem:
        yield f"problem    {problem['message']}" + (f": {problem['why']}" if problem.get("why") else "")
        if problem.get("hint"):
            yield f"     try:  {app.typed(str(problem['hint']))}"


def _seen(app: App, runtime: str, seen: Mapping[str, Any]) -> Iterator[str]:
    """What a probe saw of the runtime, on one line; and what the binding needs of it that none saw."""
    if "at" not in seen:
        yield f"seen       nothing yet: {app.typed(f'opagent runtime probe {runtime}')}"
    else:
        words = [f"{what}: {word}" for what, word in seen["lines"] if word != "not tried"]
        yield f"seen       {'; '.join(words)}   (probed {seen['at']})"
        if seen["problem"]:
            yield f"  problem  {seen['problem']}"
    for lack in seen["lacks"]:
        yield f"  needs    {lack}: not seen, so it does not start"


def _sandbox(app: App, sandbox: Mapping[str, Any]) -> Iterator[str]:
    """The level and why it is that one; then what the kernel keeps the agent to, one line a kind."""
    why = f": {sandbox['why']}" if sandbox.get("why") else ""
    yield f"sandbox    {sandbox.get('level')} (wanted: {sandbox.get('wanted')}){why}"
    if sandbox.get("hint"):
        yield f"     more: {app.typed(str(sandbox['hint']))}"
    if problem := sandbox.get("problem"):
        yield f"problem    {problem}"
    mounts = sandbox.get("mounts", [])
    shown = {
        "sees": [_mount(each) for each in mounts if not each["writable"]],
        "keeps": [_mount(each) for each in mounts if each["writable"]],
        "copies": [f"~/{name}" for name in sandbox.get("copies", [])],
        "protected": sandbox.get("protected", []),
        "fixed": sandbox.get("fixed", []),
        "hidden": sandbox.get("hidden", []),
        "writable": sandbox.get("writable", []),
    }
    for word, names in shown.items():
        if names:
            yield f"  {word:<10}{', '.join(map(home_short, map(str, names)))}   (os)"
    if sandbox.get("read_only"):
        yield "  the rest of the workspace is read-only   (os)"
    if sandbox.get("git") == "private":
        yield "  .git     HEAD and index of its own; settings and hooks read-only   (os)"
    for gap in (*sandbox.get("gaps", []), *sandbox.get("open", [])):
        yield f"  not held {gap}"


def _mount(each: Mapping[str, Any]) -> str:
    return str(each["place"]) if each["place"] == each["source"] else f"{each['place']} = {each['source']}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.strip().replace("\n", " ")
