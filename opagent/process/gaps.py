"""What level `landlock` cannot stop, in words, for one launch; asks no kernel. Each gap has a probe in `tests/safety/probes`.

The list is shown by `opagent explain`: at this level the kernel guards the contents of files outside the workspace, and what is
not in this list.
"""

from __future__ import annotations

from dataclasses import dataclass

from opagent.process.profile import SOCKETS, Network, Profile

FULL = 6  # the first version of Landlock's interface that does all that is used here
LACKS = {  # version -> what the ones before it do not do
    2: "files cannot be moved or linked from one directory to another, not even inside the workspace",
    3: "truncate(2) is not guarded",
    4: "TCP ports are not guarded",
    5: "commands to open devices are not guarded",
    6: "signals to other processes, and sockets with abstract names, are not guarded",
}


@dataclass(frozen=True, slots=True)
class Gap:
    """`code` names it for programs and tests."""

    code: str
    sentence: str


ALWAYS = (
    Gap(
        "protected",
        "protected names inside the workspace can be written: .agent.yaml and new bindings, the conversations, .git with its"
        " hooks and settings, settings of editors and shells",
    ),
    Gap("hidden", "names inside the workspace that a rule hides can be read"),
    Gap("hardlinks", "a name inside the workspace that is a hard link to a file outside is that file"),
    Gap(
        "metadata",
        "of files outside whose path is known, size, owner and times can be seen, and the mode and times of your own changed",
    ),
    Gap("pids", "which processes run, and their command lines, can be seen, and the priority of your own changed"),
    Gap("processes", "no more processes than allowed: not held by the kernel, but looked at four times a second, and ended"),
)
_TRUNCATE = Gap("truncate", "files of yours outside the workspace can be cut to any length")
_SIGNALS = Gap("signals", "signals reach all other processes of this user")
_SOCKETS = Gap("sockets", "sockets with a path can be connected to wherever they lie: those of other programs of yours, too")
_ABSTRACT = Gap("abstract", "sockets with an abstract name can be connected to, whoever made them")
_PORT = Gap("network", "TCP is held to the port of the proxy, at any address: what else listens on that port is reached")
_TCP = Gap("network", "TCP connections go anywhere, past the proxy")


def gaps(profile: Profile, abi: int, port: int = 0) -> tuple[Gap, ...]:
    """Of an agent with this profile under this version of Landlock (`landlock.abi()`). `port`: of the proxy, 0 without one."""
    found = list(ALWAYS)
    if abi < 3:
        found.append(_TRUNCATE)
    if abi < FULL:
        found.append(_SIGNALS)
    if has_sockets(profile):
        found += [_SOCKETS, *([_ABSTRACT] if abi < FULL else [])]
    if connects(profile, port):
        found.append(_PORT if abi >= 4 else _TCP)
    return tuple(found)


def lacking(abi: int) -> tuple[str, ...]:
    """What this version does not do that a newer one does; () for a complete one."""
    return tuple(words for version, words in LACKS.items() if abi < version)


def has_sockets(profile: Profile) -> bool:
    """Whether it is given sockets of its own: then it may make sockets that connect to a path."""
    return any(mount.place == SOCKETS or mount.place.startswith(SOCKETS + "/") for mount in profile.mounts)


def connects(profile: Profile, port: int) -> bool:
    """Whether it may make TCP connections."""
    return profile.network is Network.PROXY and port > 0
