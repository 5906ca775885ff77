"""`opagent runtime list|info|rollback|pin|remove|bundle`, wherever asked for: which versions there are, and which counts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opagent.daemon import inuse
from opagent.daemon.consenting import Desk
from opagent.errors import Conflict, NotFound, OpAgentError, RuntimeInUse
from opagent.model import RuntimeSpec
from opagent.packages import ability, bundle, catalog, registry, versions
from opagent.packages import install as making

Given = Mapping[str, Any]


def listed(given: Given, desk: Desk) -> dict[str, Any]:
    """`{all?, registry?}` -> `{runtimes}`."""
    if given.get("registry"):
        desk.tell(f"{registry.refresh(str(given['registry']))} agents are in the list")
    rows = [_known(entry) for entry in catalog.entries()]
    known = {row["name"] for row in rows}
    if given.get("all") or given.get("registry"):
        rows += [_of_registry(name, each) for name, each in sorted(registry.entries().items()) if name not in known]
    return {"runtimes": rows}


def _known(entry: catalog.Entry) -> dict[str, Any]:
    now = versions.active(entry.name)
    found = {"name": entry.name, "version": "", "state": "", "others": [], "pin": now.pin, "source": entry.source, "about": ""}
    found["others"] = [each for each in versions.of(entry.name) if each != now.version]
    try:
        spec = catalog.read(entry)
    except OpAgentError as error:
        return found | {"state": "cannot be used", "about": str(error)}
    return found | {"version": spec.version, "state": _state(spec, now), "about": spec.about}


def _state(spec: RuntimeSpec, now: versions.Active) -> str:
    if now.version == spec.version and spec.source == "installed":
        return "installed, pinned" if now.pin else "installed"
    if not spec.install:
        return "comes with opagent" if spec.source == "bundled" else "yours"
    return "not installed"


def _of_registry(name: str, each: Mapping[str, Any]) -> dict[str, Any]:
    about = str(each.get("description", ""))
    found = {"name": name, "version": str(each.get("version", "")), "state": "listed", "others": []}
    return found | {"pin": "", "source": "registry", "about": about}


def info(given: Given, desk: Desk) -> dict[str, Any]:
    """`{name, verify?}` -> what is known of one runtime, `lock` and all; `problem` where it was verified, "" for none."""
    spec = catalog.find(str(given["name"]))
    now = versions.active(spec.name)
    rows = []
    for version in versions.of(spec.name):
        each = versions.read(spec.name, version)
        rows.append(
            {"version": version, "active": version == now.version, "at": each.lock["at"], "running": [*inuse.of(each.folder)]}
        )
    found = {
        "name": spec.name, "title": spec.title, "about": spec.about, "version": spec.version, "source": spec.source,
        "package": spec.package, "command": list(spec.command), "pin": now.pin, "before": list(now.before), "versions": rows,
        "env": dict(spec.env), "signin": spec.signin, "installs": bool(spec.install),
    }  # fmt: skip
    if seen := _seen(spec, desk):
        found["seen"] = {"at": seen.at, "lines": [list(line) for line in ability.lines(seen)]}
    if spec.source == "installed" and spec.version in versions.of(spec.name):
        chosen = versions.read(spec.name, spec.version)
        found["lock"] = chosen.lock
        if given.get("verify"):
            found["problem"] = making.verify(chosen)
    return found


def _seen(spec: RuntimeSpec, desk: Desk) -> ability.Record | None:
    """What a probe of this version saw."""
    try:
        return ability.read(ability.key(spec, catalog.installed(spec, desk.env.get("PATH", os.defpath), (), "{state}")))
    except OpAgentError:
        return None


def rolled_back(given: Given, desk: Desk) -> dict[str, Any]:
    """`{name}` -> `{runtime, was}`."""
    name, version = _named(str(given["name"]))
    with versions.exclusive(name):
        was = versions.active(name)
        if was.pin:
            raise Conflict(f"{name} is pinned to {was.pin}", "", f"opagent runtime pin {name} --off")
        return _counts(name, versions.activate(name, version or versions.previous(name))) | {"was": was.version}


def pinned(given: Given, desk: Desk) -> dict[str, Any]:
    """`{name, off?}` -> `{runtime}`."""
    name, version = _named(str(given["name"]))
    with versions.exclusive(name):
        if given.get("off"):
            return _counts(name, versions.pin(name, ""))
        chosen = version or versions.active(name).version
        if not chosen:
            raise NotFound(f"no version of {name} counts", "", f"opagent runtime install {name}")
        return _counts(name, versions.activate(name, chosen, pin=chosen))


def removed(given: Given, desk: Desk) -> dict[str, Any]:
    """`{name}` -> `{runtime, gone}`. Raises RuntimeInUse for what runs, and for what counts while others are there."""
    name, version = _named(str(given["name"]))
    with versions.exclusive(name):
        versions.sweep()
        gone = [version] if version else versions.of(name)
        if version == versions.active(name).version and len(versions.of(name)) > 1:
            raise RuntimeInUse(f"{name} {version} is the version that counts", "", f"opagent runtime rollback {name}")
        for each in gone:
            if running := list(inuse.of(versions.home(name) / each)):
                why = f"pid {', '.join(map(str, running[:5]))}"
                raise RuntimeInUse(f"{name} {each} runs, so it stays", why, "opagent ps -a")
        for each in gone:
            versions.forget(name, each)
        return _counts(name, versions.active(name)) | {"gone": gone}


def bundled(given: Given, desk: Desk) -> dict[str, Any]:
    """`{name, output}` -> `{name, version, file, bytes, digest}`."""
    name, version = _named(str(given["name"]))
    chosen = versions.read(name, version or versions.active(name).version)
    path = Path(os.path.abspath(os.path.expanduser(str(given["output"]))))
    size = bundle.write(chosen, path)
    return {"name": name, "version": chosen.version, "file": str(path), "bytes": size, "digest": chosen.lock["digest"]}


def _named(word: str) -> tuple[str, str]:
    """The name and the one installed version that the word means; "" where it names none. Raises NotFound."""
    name, at, wanted = word.partition("@")
    if not versions.NAME.fullmatch(name) or not versions.of(name):
        raise NotFound(f"no version of {name!r} was installed by opagent", "", "opagent runtime list")
    version = versions.matching(name, wanted) if at else ""
    if at and not version:
        why = f"installed are {', '.join(versions.of(name))}"
        raise NotFound(f"{word} is not installed", why, f"opagent runtime install {word}")
    return name, version


def _counts(name: str, now: versions.Active) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "version": now.version, "pin": now.pin, "before": list(now.before)}
    return {"runtime": row | {"versions": versions.of(name)}}
