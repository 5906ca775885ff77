"""What the user's OpenSSH configuration says of one host: asked of `ssh -G`. Connects to nothing.

`ssh -G` reads everything as `ssh` itself would (aliases, Include, Match, /etc), in 5 ms. A `Match exec` of the configuration runs
its command: that is the user's own.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from opagent.remote import pipes, refusals
from opagent.target import Target

ASKED_WITHIN = 20.0  # seconds; a `Match exec` may be slow


@dataclass(frozen=True, slots=True)
class HostConfig:
    """`values`: lower-case keyword to its values in order, as `ssh -G` prints them."""

    name: str  # as `ssh` takes it from the user: alias, user@alias, or ssh://user@alias:port
    alias: str
    host: str
    port: int
    user: str
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def one(self, keyword: str, default: str = "") -> str:
        """The only value; `none` reads as the default."""
        found = self.values.get(keyword, ())
        return found[0] if found and found[0].lower() != "none" else default

    def yes(self, keyword: str, default: bool = False) -> bool:
        return self.one(keyword, "yes" if default else "no").lower() in ("yes", "true")

    def number(self, keyword: str, default: int) -> int:
        word = self.one(keyword)
        return int(word) if word.isdigit() else default

    def paths(self, keyword: str) -> list[str]:
        """File names of all its lines, `~` and tokens filled in; `none` is left out."""
        words = self.values.get(keyword, ())
        return [self.path(word) for word in words if word.lower() != "none"]

    def path(self, word: str) -> str:
        """`~`, `${NAME}` and the tokens of ssh_config(5) that file names take."""
        word = self.filled(word)
        word = home() + word[1:] if word == "~" or word.startswith("~/") else word
        return os.path.expandvars(word)

    def filled(self, word: str) -> str:
        """With the tokens of ssh_config(5) filled in."""
        host_name = os.uname().nodename
        tokens = {"%": "%", "d": home(), "h": self.host, "n": self.alias, "p": str(self.port), "r": self.user}
        tokens |= {"u": me(), "i": str(os.getuid()), "l": host_name, "L": host_name.split(".")[0]}
        tokens |= {"k": self.one("hostkeyalias") or self.alias}
        return re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), word)

    @property
    def where(self) -> str:
        """For sentences: the name, and the address where it is another."""
        at = self.host if self.port == 22 else f"{self.host} port {self.port}"
        return self.name if self.alias == at else f"{self.name} ({at})"


def home() -> str:
    """OpenSSH takes it from the user database, not from HOME."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return str(Path("~").expanduser())


def me() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def agent_path(config: HostConfig, given: str | None) -> str:
    """The socket of the agent: IdentityAgent, else that of the person (`given`), else of this process; empty: none."""
    said = config.values.get("identityagent", ("",))[0]
    environment = os.environ.get("SSH_AUTH_SOCK", "") if given is None else given
    if said.lower() == "none":
        return ""
    if said in ("", "SSH_AUTH_SOCK"):
        return environment
    if said.startswith("$"):
        return os.environ.get(said[1:].strip("{}"), "")
    return config.path(said)


def arguments(config: str | None, user: str, port: int) -> list[str]:
    """The options of `ssh` that say where; the host comes after `--`."""
    words = ["-F", config] if config else []
    words += ["-l", user] if user else []
    return words + (["-p", str(port)] if port else [])


def named(host: str, user: str, port: int) -> str:
    """What to type after `ssh`."""
    machine = Target(host, "", user, port).machine
    return f"ssh://{machine}" if port else f"{user}@" * bool(user) + host


def binary() -> str | None:
    return shutil.which("ssh")


async def ask(host: str, user: str = "", port: int = 0, config: str | None = None) -> HostConfig:
    """What `ssh` would do for this host. Raises HostRefused with the line when the configuration has a mistake."""
    ssh = binary() or "ssh"
    try:
        out, ended = await pipes.output([ssh, "-G", *arguments(config, user, port), "--", host], ASKED_WITHIN)
    except TimeoutError:
        why = f"`ssh -G` took more than {ASKED_WITHIN:g} s; a `Match exec` in it may hang"
        raise refusals.bad_configuration(named(host, user, port), why) from None
    if ended.status != 0:
        lines = [line for line in ended.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise refusals.bad_configuration(named(host, user, port), " / ".join(lines[-3:]))
    return parse(named(host, user, port), host, out.decode(errors="surrogateescape"))


_SPLIT = {"userknownhostsfile", "globalknownhostsfile"}  # several names on one line


def parse(name: str, alias: str, text: str) -> HostConfig:
    """The output of `ssh -G`."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        values.setdefault(keyword.lower(), []).extend(value.split() if keyword.lower() in _SPLIT else [value])
    user, host, port = (values.get(name, [""])[0] for name in ("user", "hostname", "port"))
    return HostConfig(name, alias, host or alias, int(port) if port.isdigit() else 22, user or me(), values)
