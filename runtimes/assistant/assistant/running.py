"""Runs a program in the workspace and ends all of it with its group; its output is bounded. Nothing here asks or decides."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

from assistant.endpoint import for_children
from assistant.files import ToolFailed

AFTER_TERM, LAST_WORDS = 2.0, 0.5  # seconds


async def run(argv: Sequence[str], cwd: str, seconds: float, limit: int) -> tuple[int, str]:
    """Exit status and output (both streams as they came). Raises ToolFailed where it cannot be started or takes too long.

    The pipe is ours: the event loop's own would be waited for as long as anything that was left in the background holds it.
    """
    reading, writing = os.pipe()
    output = Bounded(limit)
    reader = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
    )
    try:
        process = await _started(argv, cwd, writing)
        draining = asyncio.create_task(_drained(reader, output))
        try:
            async with asyncio.timeout(seconds):
                status = await process.wait()
        except TimeoutError as error:
            raise ToolFailed(f"ended after {seconds:.0f} seconds, the limit; it had said:\n{output.text()}") from error
        finally:
            await _ended(process)
            await asyncio.wait([draining], timeout=LAST_WORDS)
            draining.cancel()
    finally:
        pipe.close()
    return status, output.text()


async def _started(argv: Sequence[str], cwd: str, writing: int) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv, cwd=cwd, env=for_children(), start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=writing, stderr=writing,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ToolFailed(f"{argv[0]} cannot be started: {why}") from error
    finally:
        os.close(writing)


async def _drained(reader: asyncio.StreamReader, output: "Bounded") -> None:
    while data := await reader.read(1 << 16):
        output.add(data)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """TERM and then KILL for the whole group: what the command started in it goes with it."""
    with contextlib.suppress(ProcessLookupError):
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), AFTER_TERM)
        os.killpg(process.pid, signal.SIGKILL)


class Bounded:
    """The first and the last part of an output; what is between is counted and dropped."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head, self._tail = bytearray(), bytearray()
        self._dropped = 0

    def add(self, data: bytes) -> None:
        room = max(0, self._half - len(self._head))
        self._head += data[:room]
        self._tail += data[room:]
        if (over := len(self._tail) - self._half) > 0:
            del self._tail[:over]
            self._dropped += over

    def text(self) -> str:
        gap = f"\n[{self._dropped} bytes left out]\n".encode() if self._dropped else b""
        return (self._head + gap + self._tail).decode("utf-8", "replace")


def bounded(text: str, limit: int) -> str:
    output = Bounded(limit)
    output.add(text.encode("utf-8", "replace"))
    return output.text()
