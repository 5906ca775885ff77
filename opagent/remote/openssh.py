"""A connection by the system's own `ssh`, for what only that can: PKCS#11, Kerberos, security keys, the user's ControlMaster.

One master process holds the connection, programs are clients of it. Its questions come by SSH_ASKPASS. It forwards no sockets:
the channels of a machine are multiplexed on the stream of one program.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path

from opagent import files, paths
from opagent.errors import HostUnreachable, OpAgentError
from opagent.remote import choice, complaints, hostkeys, pipes, refusals, sshconfig
from opagent.remote.asked import Asked
from opagent.remote.complaints import Complaint
from opagent.remote.identity import Identity
from opagent.remote.seam import Ask, Phase, Stream, Tell
from opagent.remote.sshconfig import HostConfig
from opagent.target import Target

SILENT = 60.0  # seconds without a question until the connection must stand; ssh has its own, shorter limits for each step
CONNECT_WITHIN = 15
CHECK_EVERY = 5.0
_ROOM = 85  # bytes of a control path: ssh adds 17 while it makes the socket
_HOST_KEY = re.compile(r"debug1: Server host key: (\S+) (\S+)")
_NOTES = re.compile(r"debug\d: |OpenSSH_\d|Authenticated to |Transferred: |Bytes per second: ")
_OPTIONS = (
    "ClearAllForwardings=yes",
    "RequestTTY=no",
    "RemoteCommand=none",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ControlPersist=no",
    "ForkAfterAuthentication=no",
    "PermitLocalCommand=yes",
    "UpdateHostKeys=no",
    "Tunnel=no",
)


class _Master(pipes.Program):
    """`ssh -v` that holds the connection: its notes give the host's key, the rest of stderr is kept for the error."""

    def __init__(self) -> None:
        super().__init__()
        self.host_key = self.key_kind = ""
        self._line = b""

    def complained(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            if found := _HOST_KEY.search(text):
                self.key_kind, self.host_key = found[1], found[2]
            elif not _NOTES.match(text):
                super().complained(line + b"\n")


class _Client(pipes.Program):
    """`ssh` that runs one program there. 255 is its own word for a signal, and for a connection that ended."""

    def process_exited(self) -> None:
        super().process_exited()
        self.status = None if self.status == 255 else self.status


class OpensshConnection:
    """The master, and programs through it. Without a master of ours: through that of the user, at `control`."""

    transport = "openssh"

    def __init__(self, config: HostConfig, control: str, folder: Path, master: _Master | None) -> None:
        self._config, self._control, self._folder, self._master = config, control, folder, master
        key = master.host_key if master is not None else ""
        self.identity = key or f"{config.user}@{config.host}:{config.port}"
        self._programs = pipes.Programs()
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._watch = asyncio.create_task(self._watched(), name=f"ssh {config.name}")

    async def run(self, line: str) -> Stream:
        if self._lost.done():
            raise refusals.lost(self._config.name, self._lost.result())
        # no configuration, and no other way than the master: it must never connect anew by itself
        words = ["ssh", "-F", "/dev/null", "-S", self._control, "-o", "ProxyCommand=false", "-a", "-x", "-T"]
        try:
            return self._programs.add(await pipes.start([*words, "--", self._config.alias, line], kind=_Client))
        except OSError as error:
            raise refusals.no_program(self._config.name, "ssh") from error

    async def socket(self, path: str) -> Stream | None:
        return None

    async def lost(self) -> str:
        why = await asyncio.shield(self._lost)
        await self._programs.left()
        if self._master is not None:
            await self._master.left()
        return why

    def close(self) -> None:
        self._ended("it was closed here")
        self._watch.cancel()
        self._programs.close()
        if self._master is not None:
            self._master.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ended(self, why: str) -> None:
        if not self._lost.done():
            self._lost.set_result(why)

    async def _watched(self) -> None:
        alias = self._config.name
        if self._master is not None:
            await self._master.ended()
            said = self._master.complaint()
            silent = "not responding" in said
            self._ended(
                f"no sign of life from {alias}" if silent else refusals.sentence(said) or f"{alias} closed the connection"
            )
        else:
            await _fallen(self._control)
            self._ended("the ControlMaster of this host is gone")
        shutil.rmtree(self._folder, ignore_errors=True)


async def dial(target: Target, ask: Ask, tell: Tell, config: str | None, agent: str | None) -> OpensshConnection:
    """Raises HostUnreachable, HostKeyRefused, HostRefused."""
    if sshconfig.binary() is None:
        raise refusals.no_program(target.machine, "ssh")
    found = await sshconfig.ask(target.host, target.user, target.port, config)
    tell(Phase("authenticating", found.where))
    folder = _folder()
    try:
        if live := choice.live_master(found):
            return OpensshConnection(found, live, folder, None)
        where = sshconfig.arguments(config, target.user, target.port)
        master = await _Dialing(found, folder, ask, tell).connect(where, agent)
        return OpensshConnection(found, str(folder / "c"), folder, master)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class _Dialing:
    """Starts the master and waits until it stands."""

    def __init__(self, config: HostConfig, folder: Path, ask: Ask, tell: Tell) -> None:
        self._config, self._folder = config, folder
        self._asked = Asked(folder, ask, tell, self._busy)
        self._limit: asyncio.Timeout | None = None

    async def connect(self, where: list[str], agent: str | None) -> _Master:
        word = secrets.token_hex(8)
        more = {"LocalCommand": f"echo {word}"} | self._narrowed()
        options = [f"{name}={value}" for name, value in more.items()]
        options = [part for option in (*options, *_OPTIONS) for part in ("-o", option)]
        as_master = ["-v", "-a", "-x", "-T", "-N", "-M", "-S", str(self._folder / "c")]
        argv = ["ssh", *as_master, *where, *options, "--", self._config.alias]
        environment = dict(os.environ) | await self._asked.start() | ({} if agent is None else {"SSH_AUTH_SOCK": agent})
        try:
            master = await pipes.start(argv, environment, stdin=asyncio.subprocess.DEVNULL, kind=_Master)
        except OSError as error:
            self._asked.close()
            raise refusals.no_program(self._config.name, "ssh") from error
        try:
            async with asyncio.timeout(SILENT) as self._limit:
                await self._ready(master, word.encode())
        except TimeoutError as error:
            await _gone(master)
            why = refusals.sentence(master.complaint()) or f"nothing within {SILENT:g} s"
            raise refusals.silent(self._config.name, why) from error
        except BaseException:
            await _gone(master)
            raise
        finally:
            self._asked.close()
        return master

    def _narrowed(self) -> dict[str, str]:
        """Where we are stricter than the configuration, and a limit where it has none."""
        found = {}
        if self._config.one("stricthostkeychecking", "ask").lower() in ("no", "off", "false"):
            found["StrictHostKeyChecking"] = "accept-new"  # `no` would take a changed key
        if not self._config.one("connecttimeout"):
            found["ConnectTimeout"] = str(CONNECT_WITHIN)
        return found

    async def _ready(self, master: _Master, word: bytes) -> None:
        said = b""
        while word not in said:
            part = await master.read()
            if not part:
                await master.ended()
                raise self._failure(master)
            said = (said + part)[-4096:]

    def _failure(self, master: _Master) -> HostUnreachable:
        old = Identity(self._config).known()
        shown = (hostkeys.spoken(master.key_kind), master.host_key) if master.host_key else ("", "")
        complaint = Complaint(self._config.name, self._config.user, master.complaint(), shown, tuple(old))
        error = complaints.explained(complaint)
        if not self._asked.unanswered:
            return error
        return type(error)(error.what, f"{error.why}; nobody answered a question".lstrip("; "), error.hint)

    def _busy(self, questions: int) -> None:
        """Nobody is too slow while a person is asked."""
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(None if questions else asyncio.get_running_loop().time() + SILENT)


async def _gone(master: _Master) -> None:
    master.close()
    await master.left()


async def _fallen(control: str) -> None:
    """Returns when the user's master is gone; it tells nobody, so it is asked."""
    stands = True
    while stands:
        await asyncio.sleep(CHECK_EVERY)
        stands = await _stands(control)


async def _stands(control: str) -> bool:
    try:
        _, ended = await pipes.output(["ssh", "-F", "/dev/null", "-S", control, "-O", "check", "x"], within=10)
    except (OSError, TimeoutError):
        return False
    return ended.status == 0


def _folder() -> Path:
    """A private directory, short enough for a control socket, where programs may be executed."""
    for base in (paths.run(), Path("/tmp"), Path("/var/tmp")):
        try:
            files.private_directory(base) if base == paths.run() else None
            folder = Path(tempfile.mkdtemp(prefix="opagent-ssh-", dir=base))
        except (OSError, OpAgentError):
            continue
        if len(os.fsencode(folder)) <= _ROOM and not os.statvfs(folder).f_flag & os.ST_NOEXEC:
            return folder
        folder.rmdir()
    raise refusals.no_room()
