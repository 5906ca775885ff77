"""Which secrets an agent gets, from where, and whether the proxy keeps them from it: `opagent explain` shows what is done.

First choice: the agent never holds the secret. Where its runtime says which variable holds the key and which the address of its
model, it gets a word of its own and an address of the proxy, and the proxy puts the secret in, for the host of `to:` only.
Else the agent holds it in its environment: nothing then keeps it from giving it away.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opagent import files, paths
from opagent.binding import load
from opagent.errors import NotFound
from opagent.model import Effect, RuntimeSpec
from opagent.policy import address, rules
from opagent.process import secrets as sources

if TYPE_CHECKING:
    from opagent.daemon.workspace import Workspace

_URL = re.compile(r"(https?)://([^/?#]+)(/[^?#]*)?")


@dataclass(frozen=True, slots=True)
class Key:
    """A secret of an agent. `source`: as `process/secrets.py` reads it; "": the user's configuration does not know that name.

    `variable`: the one of the address; "" where the agent itself holds the secret.
    """

    name: str
    source: str
    said: str  # as the binding says it
    host: str
    port: int
    origin: str
    variable: str = ""
    path: str = ""
    tls: bool = True
    usage: tuple[str, ...] = ()

    @property
    def lent(self) -> str:
        """By which name a person's own machine is asked for it: it is not known here, and the proxy puts it in."""
        return self.said.partition(":")[2] if not self.source and self.variable and self.said.startswith("user:") else ""

    @property
    def enforcement(self) -> str:
        return "proxy" if self.variable else "advisory"

    @property
    def how(self) -> str:
        """For a person: where it goes, and what keeps it there."""
        if self.variable:
            return f"put in by the proxy for {address.shown(self.host, self.port)} only; the agent does not hold it"
        why = f"; that it is for {address.shown(self.host, self.port)} is not enforced" if self.host else ""
        return f"in the agent's environment, which may give it to anybody{why}"

    def service(self, value: str) -> dict[str, Any]:
        """For the proxy."""
        said = {"host": self.host, "port": self.port, "path": self.path, "tls": self.tls, "usage": list(self.usage)}
        return {**said, "secret": value}


def keys(workspace: Workspace, role: str) -> list[Key]:
    """Of the agent of a role; those that a rule does not deny and that are not of its tools. Raises NotFound, RuntimeInvalid."""
    spec = workspace.runtime(role)
    models = _models(spec)
    others = {name for tool in workspace.binding.tools.values() for name in tool.get("secrets", ())} - {
        spec.model.get("key"),
        *models,
    }
    found = (key for key in allowed(workspace) if key.name not in others)
    return [_kept_from_it(key, models[key.name], workspace) if key.host and key.name in models else key for key in found]


def _models(spec: RuntimeSpec) -> dict[str, Mapping[str, Any]]:
    """The interfaces of models that the runtime speaks and whose address it can be told, by the name of their key."""
    said = (spec.model, spec.model.get("also", {}))
    return {str(each["key"]): each for each in said if each.get("key") and each.get("base_url")}


def allowed(workspace: Workspace) -> Iterator[Key]:
    """Those of the binding that a rule does not deny, as whoever gets one would hold it."""
    binding = workspace.binding
    for name, said in binding.capabilities.secrets.items():
        if workspace.decide("secrets", name).effect is not Effect.ALLOW:
            continue
        host, port = address.authority(said["to"], 443) if "to" in said else ("", 0)
        origin = str(binding.origins.get(f"can.secrets.{name}", ""))
        yield Key(name, own(workspace.loaded, said["from"]), said["from"], host, port, origin)


def own(loaded: load.Loaded, source: str) -> str:
    """`user:NAME` as the user's configuration explains it; anything else as it is. "" for a name that is not there."""
    kind, _, name = source.partition(":")
    if kind != "user":
        return source
    user = loaded.given.user
    return str(user.data.get("secrets", {}).get(name, "")) if user is not None else ""


def _kept_from_it(key: Key, model: Mapping[str, Any], workspace: Workspace) -> Key:
    variable = str(model["base_url"])
    path, tls = str(model.get("path", "")), True
    if found := _URL.fullmatch(workspace.client_environment.get(variable, "")):
        try:
            same = address.authority(found[2], 443 if found[1] == "https" else 80) == (key.host, key.port)
        except ValueError:
            same = False
        if same:  # else it leads elsewhere, and `to:` is what counts
            path, tls = (found[3] or "").rstrip("/"), found[1] == "https" or not rules.is_private(key.host)
    usage = tuple(model.get("usage", ()))
    return Key(key.name, key.source, key.said, key.host, key.port, key.origin, variable, path, tls, usage)


async def values(workspace: Workspace, wanted: list[Key], lends: Callable[[Key], bool] = lambda key: False) -> dict[str, str]:
    """The value of each; "" for one that a person's own machine lends, which is asked for at each request.

    Raises NotFound, Denied: an agent does not start without a secret that its binding promises.
    """
    found = {}
    for key in wanted:
        if not key.source and lends(key):
            found[key.name] = ""
            continue
        if not key.source:
            hint = f"$EDITOR {shlex.quote(str(paths.user_config()))}"
            raise NotFound(f"the secret {key.name} is not there", _unknown(key), hint)
        found[key.name] = await sources.fetch(key.source, workspace.client_environment)
    return found


def shown(workspace: Workspace, role: str) -> list[dict[str, str]]:
    """What `explain` says of each; no source is asked. Raises NotFound, RuntimeInvalid."""
    return [
        {
            "name": key.name, "from": key.said, "origin": key.origin, "how": key.how, "enforcement": key.enforcement,
            **({} if key.source else {"problem": _unknown(key)}),
        }
        for key in keys(workspace, role)
    ]  # fmt: skip


def _unknown(key: Key) -> str:
    said = f"{key.origin} wants {key.said}, and {paths.user_config()} has no such name under `secrets:`"
    return said + ("; nor does a machine of yours lend it that is linked to this one" if key.lent else "")


def token() -> str:
    """What an agent holds in place of every secret."""
    return f"opagent-{secrets.token_hex(24)}"


def fingerprint_key() -> bytes:
    """Made once."""
    path = paths.secrets_key()
    try:
        return files.read_file(path, 64)
    except FileNotFoundError:
        made = secrets.token_bytes(32)
        files.write_whole(path, made)
        return made
