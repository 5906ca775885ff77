"""One running program from start to end, with everything it starts in turn; decides nothing about starting it again.

    process = await Process.start(Launch(id, argv, cwd, env, log))
    await process.send(line)               # waits while the pipe is full; AgentStuck after 10 s, AgentCrashed when it is gone
    while data := await process.read():    # nothing is read unless asked
        ...
    report = await process.wait()          # after an end of its own; or `stop()`, the ladder
    process.pid, process.start_time, tree.boot_id()   # what the store records for `tree.kill_leftover`

The daemon calls `reaper.become_subreaper()` before the first start: then whatever a dead agent left behind is ours.
When the program ends, for whatever reason, its tree is ended too, whether or not anybody waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time

from opagent.model import ExitReport, ProcessId
from opagent.process import tree
from opagent.process.inside import Inside
from opagent.process.pipes import Sink, Source, Tail
from opagent.process.spawn import Child, Launch, spawn, unawaited
from opagent.process.states import UNCONFINED

__all__ = ["Launch", "Process"]

DRAIN = 0.25  # seconds that descendants have to say a last word after the program ended
PATIENCE = 10.0  # seconds a full pipe may stay full
STDIN_GRACE, TERM_GRACE = 3.0, 5.0
_STOPS = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})  # from outside; the others are faults


class Process:
    """One running program. Made by `start`; `ended` turns true when the program itself is dead, the report follows."""

    def __init__(self, launch: Launch, child: Child) -> None:
        self.id: ProcessId = launch.id
        self.pid = child.popen.pid
        self.started = child.started  # monotonic
        self.start_time = child.family.start  # clock ticks since boot
        self._child = child
        self._inside = Inside(child.popen.pid, child.status)
        self._gone = asyncio.Event()
        self._ended_at = 0.0
        self._reason: str | None = None
        name = os.path.basename(launch.argv[0])
        self._stdin, self._stdout, self._stderr = (
            Sink(child.stdin, name),
            Source(child.stdout),
            Tail(child.stderr, launch.log, launch.secrets),
        )
        loop = asyncio.get_running_loop()
        loop.add_reader(child.pidfd, self._on_exit)
        self._ending = loop.create_task(self._end(), name=f"process-{launch.id}")

    @classmethod
    async def start(cls, launch: Launch) -> Process:
        """Start it. Raises RuntimeNotInstalled, NotFound (its directory is missing) or AgentFailed, each with a hint."""
        return cls(launch, spawn(launch))

    @property
    def program(self) -> int:
        """The pid of the program itself; that of its box until it runs inside."""
        return self._inside.program() or self.pid

    @property
    def family(self) -> tree.Family:
        return self._child.family

    def mounted(self) -> frozenset[str]:
        """What is mounted in its view of the files now; nothing where that is ours, or cannot be seen."""
        return self._inside.mounted()

    @property
    def ended(self) -> bool:
        return self._gone.is_set()

    @property
    def lives(self) -> bool:
        """Whether it runs at this very moment: the kernel is asked, for the loop hears of an end a moment later."""
        if self.ended:
            return False
        look = select.poll()
        look.register(self._child.pidfd, select.POLLIN)
        return not look.poll(0)

    async def read(self) -> bytes:
        """The next bytes of stdout; `b""` at the end of the pipe, or when the program is dead and its last words are read.

        After an end of the pipe `ended` tells reliably whether the program died or only closed its output.
        """
        data = await self._stdout.read()
        if not data:
            await self._gone_within(DRAIN)  # the kernel closes the pipes of a dying program a moment before it says so
        return data

    async def send(self, data: bytes) -> None:
        """Write to stdin. Raises AgentStuck when the pipe stays full for 10 s, AgentCrashed when nobody reads any more."""
        await self._stdin.send(data, PATIENCE)

    async def close_stdin(self) -> None:
        """The program reads an end of file."""
        self._stdin.close()

    async def wait(self) -> ExitReport:
        """Until the program has ended and nothing of its tree is left."""
        return await asyncio.shield(self._ending)

    async def stop(self, stdin: float = STDIN_GRACE, term: float = TERM_GRACE, reason: str = "stopped") -> ExitReport:
        """The ladder: close stdin, SIGTERM to the group, SIGKILL, each after so many seconds, then the sweep of the tree.

        `term=0` leaves SIGTERM out. May be called again while one is under way, to hurry. `reason` goes into the report unless
        the program was dead already. Cancelled, it kills at once; the sweep goes on without the caller.
        """
        if not self.ended and self._reason is None:
            self._reason = reason
        try:
            self._stdin.close()
            if not await self._gone_within(stdin):
                if term > 0:
                    self._signal(signal.SIGTERM)
                    self._signal(signal.SIGCONT)  # a stopped process cannot heed it
                if not await self._gone_within(term):
                    self._signal(signal.SIGKILL)
        except asyncio.CancelledError:
            self._signal(signal.SIGKILL)
            raise
        return await self.wait()

    async def _gone_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._gone.wait()
        return self._gone.is_set()

    def _signal(self, number: signal.Signals) -> None:
        """To the whole group. The leader is not reaped before the sweep is done, so the number cannot be another group's.

        A box does not hand signals on, and its end is the end of everything inside: only the last one is meant for it.
        """
        if not self._ending.done():
            inside = 0 if number is signal.SIGKILL else self._inside.group()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(inside or self.pid, number)

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._child.pidfd)
        self._ended_at = time.monotonic()
        self._gone.set()

    async def _end(self) -> ExitReport:
        await self._gone.wait()
        self._stdin.close()
        end = self._ended_at + DRAIN
        while (self._stdout.held or self._stderr.held) and time.monotonic() < end:  # noqa: ASYNC110 - a hang-up is no event
            await asyncio.sleep(0.01)
        self._signal(signal.SIGKILL)
        await tree.end_family(self._child.family)
        self._stdout.finish()
        self._stderr.finish()
        return self._report()

    def _report(self) -> ExitReport:
        """Takes the exit status at last; the pid is free from here on."""
        found = os.waitid(os.P_PIDFD, self._child.pidfd, os.WEXITED)
        os.close(self._child.pidfd)
        unawaited.discard(self.pid)
        exited = found is not None and found.si_code == os.CLD_EXITED
        status = found.si_status if found else 0
        self._child.popen.returncode = status if exited else -status  # else Popen would look for it again
        code, number = self._inside.end(status) if exited else (None, status)
        if exited and not self._inside.ran():
            self._reason = UNCONFINED
        self._inside.close()
        reason = self._reason or ("clean" if code == 0 else "killed" if number in _STOPS else "crashed")
        return ExitReport(code, number, self._stderr.text(), self._ended_at - self.started, reason)
