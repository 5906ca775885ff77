"""The daemon's life: one per user and host, its signals, its end; wires the parts and decides nothing.

Started by `client.py` as `python -I -m opagent.daemon.main --ready-fd N`: one byte on that descriptor means that the
socket takes connections.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import importlib
import logging
import os
import signal
import sys
from pathlib import Path

from opagent import control, files, oldcode, paths
from opagent.daemon.doorway import Doorway, remove_old, the_only_one
from opagent.daemon.host import Host
from opagent.daemon.methods import METHODS
from opagent.daemon.redaction import Formatter
from opagent.daemon.server import Method, Server
from opagent.errors import OpAgentError
from opagent.process.reaper import Reaper, become_subreaper
from opagent.process.sandbox import spare
from opagent.version import VERSION

log = logging.getLogger(__name__)

IDLE_EXIT = 900.0  # seconds
SWITCH = 0.0005  # seconds until a thread that waits gets the interpreter: Python waits ten times as long, and each commit twice
STOP_WITHIN = 40.0
_CHECK = 5.0
# slow to import, and wanted by nobody before the first prompt: while nobody waits for an answer, but not much later
_QUIET, _QUIET_WITHIN = 0.02, 5.0  # seconds
_LATER = ("markdown_it", "opagent.daemon.toolsession", "opagent.process.httptool")
_LINE = "%(asctime)s %(levelname)s %(name)s %(message)s"


async def serve(ready_fd: int | None, doorway: Doorway) -> None:
    """Until SIGTERM, SIGINT, `daemon/stop`, or nothing to do for a while."""
    sys.setswitchinterval(SWITCH)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # a lease on a conversation file raises it when an editor opens the file
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    reaper = Reaper()
    reaper.start()
    async with asyncio.TaskGroup() as tasks:
        host = Host.open(tasks, stopping)
        for handler in logging.getLogger().handlers:
            handler.setFormatter(Formatter(_LINE, host.shared.known))
        server = Server(host.greeting(), _bound(host), host.journal)
        host.server = server
        await host.recover()
        server.start(tasks)
        await doorway.open(server.listen)
        if ready_fd is not None:
            with contextlib.suppress(OSError):  # whoever started us may be gone already
                os.write(ready_fd, b"!")
            os.close(ready_fd)
        log.info("daemon %s ready, pid %d, protocol %d", VERSION, os.getpid(), control.PROTOCOL)
        host.shared.spawn(_rest(server), "the rest of our code")
        if paths.code():
            host.shared.spawn(_tidy(), "old code")
        if "SSH_CONNECTION" in os.environ:
            host.own.ask()  # who comes over SSH brings no environment
        watchers = [
            tasks.create_task(_leave_when_idle(host, server, stopping), name="idle"),
            tasks.create_task(doorway.keep_open(server.listen), name="doorway"),
        ]
        await stopping.wait()
        log.info("stopping")
        loop.call_later(STOP_WITHIN, _end_hard)
        for watcher in watchers:
            watcher.cancel()
        doorway.close()
        server.closing = True
        await host.close()
        server.close()
        await asyncio.sleep(0.05)  # they leave by themselves; a task that is cancelled there is logged as a failure
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # what is left waits for a client or an agent that is gone
    reaper.stop()


async def _rest(server: Server) -> None:
    """Soon, too, because our files may be replaced by an upgrade while we run."""
    for name in _LATER:
        await asyncio.sleep(_QUIET)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.quiet.wait(), _QUIET_WITHIN)
        importlib.import_module(name)


async def _tidy() -> None:
    await asyncio.to_thread(oldcode.tidy, Path(paths.code_base()), paths.code())


def _end_hard() -> None:
    """A stop that hangs would keep every new daemon out; the next start recovers what this one leaves."""
    log.error("not stopped within %.0f s: ended the hard way", STOP_WITHIN)
    os._exit(1)


def _bound(host: Host) -> dict[str, Method]:
    return {name: functools.partial(method, host) for name, method in METHODS.items()}


async def _leave_when_idle(host: Host, server: Server, stopping: asyncio.Event) -> None:
    """A daemon that supervises nothing and serves nobody leaves by itself; not while somebody may go on talking by a save.

    OPAGENT_IDLE_EXIT decides alone where it is set.
    """
    said = os.environ.get("OPAGENT_IDLE_EXIT")
    try:
        limit = float(said or IDLE_EXIT)
    except ValueError:
        limit = IDLE_EXIT
        log.warning("OPAGENT_IDLE_EXIT is no number of seconds")
    loop = asyncio.get_running_loop()
    busy_at = loop.time()
    while limit > 0:
        await asyncio.sleep(min(_CHECK, limit / 2))
        if host.shared.attended.others(server.clients) or host.supervises() or host.mirrors.wanted():
            busy_at = loop.time()
        elif loop.time() - busy_at < limit:
            continue
        elif not said and host.watching.wanted():
            busy_at = loop.time()  # asked again after as long a time
        else:
            log.info("nothing to do for %.0f s", limit)
            stopping.set()
            return


def main() -> int:
    parser = argparse.ArgumentParser(prog="opagent.daemon.main")
    parser.add_argument("--ready-fd", type=int, default=None)
    ready_fd = parser.parse_args().ready_fd
    os.umask(0o077)
    level = os.environ.get("OPAGENT_LOG", "info").upper()
    logging.basicConfig(format=_LINE, level=level if level.isalpha() else "INFO")
    try:
        files.private_directory(paths.state())
        files.private_directory(paths.run())
        become_subreaper()
        with the_only_one() as doorway:
            remove_old()
            spare()  # before other descriptors take the low numbers
            asyncio.run(serve(ready_fd, doorway))
    except Exception as error:  # the outer edge of the process; a group is what a task of the daemon raised
        cause = _cause(error)
        if not isinstance(cause, OpAgentError | OSError):
            log.exception("the daemon ends")
        print(f"error: {cause}", file=sys.stderr)  # one line: the client shows the last one of the log
        return cause.exit if isinstance(cause, OpAgentError) else 1
    return 0


def _cause(error: BaseException) -> BaseException:
    return _cause(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    sys.exit(main())
