"""What an agent may reach of its machine, as values that every way of confining understands; looks at no file, starts nothing."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

HOME = "/home/agent"  # the home directory as an agent in a box of its own mounts sees it
SOCKETS = "/run/opagent"  # and the sockets that are its own: net.sock, tools.sock


class Level(enum.StrEnum):
    """How firmly an agent is held, firmest first."""

    STRICT = "strict"  # namespaces and mounts of its own, and a filter of system calls
    LANDLOCK = "landlock"  # outside the workspace the kernel refuses; inside it rules are advisory
    ADVISORY = "advisory"  # nothing holds it: only programs that come with us, without network and shell
    OFF = "off"  # nothing holds it, because the user's own configuration says so


class Network(enum.StrEnum):
    NONE = "none"
    PROXY = "proxy"  # only through net.sock in SOCKETS


@dataclass(frozen=True, slots=True)
class Mount:
    """`source` of this machine is seen inside at `place`, both absolute; they are the same unless mounts can rename."""

    source: str
    place: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Of each process, `processes` and `tmp` of the whole box; bytes where nothing else is said. 0: no limit, but no `ports`."""

    processes: int = 64
    memory: int = 2 << 30
    file: int = 1 << 30
    files: int = 1024  # open at once
    tmp: int = 256 << 20  # of each of /tmp, the home directory and /dev/shm
    disk: int = 2 << 30  # growth of the workspace in one conversation
    ports: int = 64  # of TCP, listened on at once


@dataclass(frozen=True, slots=True)
class Profile:
    """Of one launch. Names of the workspace are relative to it; what is not there is left out by whoever confines.

    Of `protected` and `writable` the deeper name wins for what lies below it; `hidden` beats both.
    """

    workspace: str  # real path; seen inside at the same place
    programs: tuple[Mount, ...] = ()  # read-only: the runtime's package, interpreters, what its argv needs
    mounts: tuple[Mount, ...] = ()  # state directories, sockets
    protected: tuple[str, ...] = ()  # may be read, never written
    hidden: tuple[str, ...] = ()  # may not be read
    read_only: bool = False  # the workspace, but for what is `writable`
    writable: tuple[str, ...] = ()  # below something that is not
    verified: tuple[
        tuple[str, str], ...
    ] = ()  # protected files that a person trusted, with their digests: seen as they were then
    whole: tuple[str, ...] = ()  # protected directories of which `verified` has every file
    git: str = ""  # the daemon's private directory that stands for the .git of the workspace; "": .git is read-only
    network: Network = Network.NONE
    nested: bool = False  # the runtime makes namespaces of its own
    limits: Limits = field(default_factory=Limits)
