"""A connection by asyncssh: opens it, and gives streams on it. Importing this costs 150 ms: only `dial` does, when it dials.

`remote/handshake.py` decides on host keys and gives credentials; asyncssh reads no configuration itself.
"""

from __future__ import annotations

import asyncio

import asyncssh

from opagent.errors import HostRefused
from opagent.remote import refusals
from opagent.remote.flow import Flow
from opagent.remote.pipes import Program
from opagent.remote.seam import Stream

ALIVE_EVERY, ALIVE_TIMES = 5.0, 3
_AGAIN = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # seconds


class Channel(Flow, asyncssh.SSHClientSession[bytes], asyncssh.SSHUNIXSession[bytes]):
    """One channel as a `Stream`: a program there, or a socket there."""

    def __init__(self) -> None:
        super().__init__()
        self._channel: asyncssh.SSHClientChannel[bytes] | asyncssh.SSHUNIXChannel[bytes] | None = None

    # what asyncssh calls

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes] | asyncssh.SSHUNIXChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self.complained(data) if datatype else self.received(data)

    def eof_received(self) -> bool:
        self.no_more()
        return True  # our own direction stays open

    def exit_status_received(self, status: int) -> None:
        self.status = status

    def pause_writing(self) -> None:
        self.full(True)

    def resume_writing(self) -> None:
        self.full(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.over()

    # what Flow asks for

    def hold(self) -> None:
        if self._channel is not None:
            self._channel.pause_reading()

    def release(self) -> None:
        if self._channel is not None:
            self._channel.resume_reading()

    def send(self, data: bytes) -> None:
        if self._channel is None:
            raise ConnectionResetError("the stream has ended")
        self._channel.write(data)

    def finish(self) -> None:
        if self._channel is not None:
            self._channel.write_eof()

    def drop(self) -> None:
        if self._channel is not None:
            self._channel.abort()


class Lost:
    """Whether a connection has ended, and why, as a sentence."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._why: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def set(self, error: Exception | None) -> None:
        if not self._why.done():
            self._why.set_result(self._sentence(error))

    def _sentence(self, error: Exception | None) -> str:
        text = str(error) if error is not None else ""
        if "keepalive" in text:
            return f"no sign of life from {self._where} for {ALIVE_EVERY * (ALIVE_TIMES + 1):g} s"
        if text in ("", "Connection lost"):
            return f"{self._where} closed the connection" if text else "it was closed here"
        return refusals.sentence(text)

    @property
    def why(self) -> str:
        """Empty while the connection stands."""
        return self._why.result() if self._why.done() else ""

    async def wait(self) -> str:
        return await asyncio.shield(self._why)


class SshConnection:
    """An authenticated connection; `behind` it the one to its jump host, or a ProxyCommand."""

    transport = "asyncssh"

    def __init__(
        self, connection: asyncssh.SSHClientConnection, lost: Lost, where: str, behind: SshConnection | Program | None = None
    ) -> None:
        self.connection, self.where = connection, where
        self._lost, self._behind = lost, behind
        self._forwards = True
        self._closed = False
        self._programs: list[Channel] = []
        key = connection.get_server_host_key()
        self.identity = key.get_fingerprint() if key is not None else where

    async def run(self, line: str) -> Stream:
        """A server that allows one session takes a moment to see that the last one has ended: then it is asked again."""
        pauses = iter(_AGAIN)
        while True:
            try:
                channel = await self._started(line)
            except HostRefused:
                pause = next(pauses, None)
                if pause is None or any(not one.gone for one in self._programs):
                    raise
                await asyncio.sleep(pause)
            else:
                self._programs = [one for one in self._programs if not one.gone] + [channel]
                return channel

    async def _started(self, line: str) -> Channel:
        channel = Channel()
        try:
            await self.connection.create_session(
                lambda: channel, line, encoding=None, request_pty=False, env={}, send_env=[], x11_forwarding=False
            )
        except asyncssh.ChannelOpenError as error:
            raise await self._lost_or(refusals.no_session(self.where, error.reason)) from error
        except (asyncssh.Error, OSError) as error:
            raise refusals.lost(self.where, self._lost.why or str(error)) from error
        except asyncio.CancelledError:
            channel.close()
            raise
        return channel

    async def socket(self, path: str) -> Stream | None:
        """A server that forwards no sockets says "failed" like one where nobody listens, unless it says "prohibited"."""
        if not self._forwards:
            return None
        channel = Channel()
        try:
            await self.connection.create_unix_connection(lambda: channel, path, encoding=None)
        except asyncssh.ChannelOpenError as error:
            if error.code == asyncssh.OPEN_CONNECT_FAILED:
                raise await self._lost_or(FileNotFoundError(path)) from error
            self._forwards = False
            return None
        except (asyncssh.Error, OSError) as error:
            raise refusals.lost(self.where, self._lost.why or str(error)) from error
        except asyncio.CancelledError:
            channel.close()
            raise
        return channel

    async def _lost_or(self, error: Exception) -> Exception:
        """asyncssh ends the channels of a lost connection first, and says of the connection in the same turn of the loop."""
        await asyncio.sleep(0)
        return refusals.lost(self.where, self._lost.why) if self._lost.why else error

    async def lost(self) -> str:
        why = await self._lost.wait()
        if self._closed:
            await self.left()
        return why

    async def left(self) -> None:
        """Waits, after `close`, until it and all behind it are gone."""
        await self._lost.wait()
        if self._behind is not None:
            await self._behind.left()

    def close(self) -> None:
        self._closed = True
        self.connection.close()
        if self._behind is not None:
            self._behind.close()
