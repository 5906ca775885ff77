"""What every transport promises, tried on each of them: asyncssh and the system's ssh against a real sshd, and a command."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from opagent.errors import HostUnreachable
from opagent.remote.dial import Settings, dial
from opagent.remote.seam import Connection, Ended, Phase, Question, Stream
from opagent.target import Target
from tests.doubles.patience import PATIENCE
from tests.doubles.sshd import Sshd, sshd

T = TypeVar("T")
MEGABYTES = 1024 * 1024


async def nobody(question: Question) -> None:
    raise AssertionError(f"asked: {question}")


def silent(phase: Phase) -> None:
    return None


class There:
    """A machine by one transport."""

    def __init__(self, transport: str, server: Sshd | None) -> None:
        self.transport, self.server = transport, server
        self.settings = (
            Settings(transport=transport, config=server.config) if server else Settings(command=("/usr/bin/env", "HERE=there"))
        )

    async def dial(self) -> Connection:
        return await dial(Target("there", ""), nobody, silent, self.settings)

    def talk(self, story: Callable[[Connection], Awaitable[T]]) -> T:
        """The story with a connection that is closed after it."""

        async def told() -> T:
            async with asyncio.timeout(PATIENCE):
                connection = await self.dial()
                try:
                    return await story(connection)
                finally:
                    connection.close()
                    await connection.lost()

        return asyncio.run(told())

    def cut(self) -> None:
        """What carries the streams dies."""
        if self.server is not None:
            self.server.cut()
            return
        for child in psutil.Process().children():
            child.kill()


@pytest.fixture(params=["asyncssh", "openssh", "command"])
def there(request: pytest.FixtureRequest, home: Path) -> Iterator[There]:
    if request.param == "command":
        yield There("command", None)
        return
    with sshd(home.parent / "there") as server:
        yield There(request.param, server)


async def everything(stream: Stream) -> bytes:
    parts = []
    while part := await stream.read():
        parts.append(part)
    return b"".join(parts)


async def said(connection: Connection, line: str) -> tuple[bytes, Ended]:
    """All that a program prints, and its end."""
    stream = await connection.run(line)
    return await everything(stream), await stream.ended()


def test_ten_megabytes_go_both_ways_at_once(there: There) -> None:
    data = random.Random(1).randbytes(10 * MEGABYTES)

    async def story(connection: Connection) -> bytes:
        stream = await connection.run("cat")

        async def send() -> None:
            await stream.write(data)
            await stream.end()

        sending = asyncio.create_task(send())
        back = await everything(stream)
        await sending
        assert await stream.ended() == Ended(0)
        return back

    assert there.talk(story) == data


def test_a_program_that_first_writes_and_then_reads_gets_all(there: There) -> None:
    """Neither direction waits for the other one."""

    async def story(connection: Connection) -> bytes:
        stream = await connection.run("head -c 10485760 /dev/zero; wc -c")

        async def send() -> None:
            await stream.write(b"x" * 10 * MEGABYTES)
            await stream.end()

        sending = asyncio.create_task(send())
        back = await everything(stream)
        await sending
        return back.lstrip(b"\0").strip()

    assert there.talk(story) == b"10485760"


def test_after_an_end_of_file_reading_goes_on(there: There) -> None:
    async def story(connection: Connection) -> tuple[bytes, Ended, bytes]:
        stream = await connection.run("cat >/dev/null; echo all of it; exit 4")
        await stream.write(b"some")
        await stream.end()
        await stream.end()
        return await everything(stream), await stream.ended(), await stream.read()

    assert there.talk(story) == (b"all of it\n", Ended(4), b"")


def test_what_the_program_says_at_once_comes_before_its_input_ends(there: There) -> None:
    async def story(connection: Connection) -> list[bytes]:
        stream = await connection.run('echo ready; read line; echo "$line"; read line || echo end')
        heard = [await stream.read()]
        await stream.write(b"one\n")
        heard.append(await stream.read())
        await stream.end()
        heard.append(await everything(stream))
        return heard

    assert there.talk(story) == [b"ready\n", b"one\n", b"end\n"]


@pytest.mark.parametrize("status", [0, 1, 42, 254])
def test_the_exit_status_arrives(there: There, status: int) -> None:
    async def story(connection: Connection) -> Ended:
        return (await said(connection, f"exit {status}"))[1]

    assert there.talk(story) == Ended(status)


def test_a_signal_leaves_no_status(there: There) -> None:
    async def story(connection: Connection) -> Ended:
        return (await said(connection, "kill -9 $$"))[1]

    assert there.talk(story).status is None


def test_the_end_of_stderr_is_kept(there: There) -> None:
    async def story(connection: Connection) -> tuple[bytes, Ended]:
        return await said(connection, "head -c 300000 /dev/zero | tr '\\0' x >&2; echo out; echo the end >&2; exit 2")

    out, ended = there.talk(story)
    assert (out, ended.status) == (b"out\n", 2)
    assert ended.stderr == b"x" * (4096 - 8) + b"the end\n"


def test_the_line_arrives_as_it_is(there: There) -> None:
    line = """printf '%s|' 'a  b' "c\\"d" '$HOME' '`x`' 'é€' '*' '!'"""

    async def story(connection: Connection) -> bytes:
        return (await said(connection, line))[0]

    assert there.talk(story).decode() == """a  b|c"d|$HOME|`x`|é€|*|!|"""


def test_who_does_not_read_holds_the_sender_back(there: There, home: Path) -> None:
    """64 MiB are more than all buffers on the way hold together."""
    done = home / "done"

    async def story(connection: Connection) -> int:
        stream = await connection.run(f"head -c {64 * MEGABYTES} /dev/zero; touch '{done}'")
        count = len(await stream.read())
        for _ in range(5):  # the other side has time, and other streams go on
            assert (await said(connection, "echo here"))[0] == b"here\n"
        assert not done.exists()
        count += len(await everything(stream))
        assert done.exists()
        return count

    assert there.talk(story) == 64 * MEGABYTES


def test_who_writes_waits_for_a_program_that_does_not_read(there: There, home: Path) -> None:
    deaf = home / "deaf"
    deaf.touch()

    async def story(connection: Connection) -> None:
        stream = await connection.run(f"echo up; while [ -e '{deaf}' ]; do sleep 0.05; done")
        await stream.read()
        sending = asyncio.create_task(stream.write(b"x" * 64 * MEGABYTES))
        for _ in range(5):
            assert (await said(connection, "echo here"))[0] == b"here\n"
        assert not sending.done()
        stream.close()
        deaf.unlink()
        with pytest.raises(ConnectionError):
            await sending

    there.talk(story)


def test_close_ends_a_read_that_waits(there: There) -> None:
    async def story(connection: Connection) -> tuple[bytes, bytes, Ended]:
        stream = await connection.run("echo up; exec cat")
        await stream.read()
        reading = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        stream.close()
        stream.close()
        with pytest.raises(ConnectionError):
            await stream.write(b"x")
        await stream.end()
        ended = await stream.ended()
        assert (await said(connection, "echo here"))[0] == b"here\n"
        return await reading, await stream.read(), ended

    assert there.talk(story) == (b"", b"", Ended(None))


def test_many_streams_do_not_mix(there: There) -> None:
    """As many as a server takes on one connection as it comes (MaxSessions 10)."""
    data = [random.Random(number).randbytes(200_000 + number) for number in range(8)]

    async def story(connection: Connection) -> list[bytes]:
        async def echo(part: bytes) -> bytes:
            stream = await connection.run("cat")
            sending = asyncio.create_task(stream.write(part))
            back = b""
            while len(back) < len(part):
                back += await stream.read()
            await sending
            await stream.end()
            return back + await everything(stream)

        return await asyncio.gather(*(echo(part) for part in data))

    assert there.talk(story) == data


def test_streams_come_and_go(there: There) -> None:
    async def story(connection: Connection) -> list[bytes]:
        return [(await said(connection, f"echo {number}"))[0] for number in range(25)]

    assert there.talk(story) == [f"{number}\n".encode() for number in range(25)]


def test_a_program_that_is_not_there(there: There) -> None:
    async def story(connection: Connection) -> Ended:
        return (await said(connection, "/no/such/program"))[1]

    ended = there.talk(story)
    assert ended.status == 127
    assert b"/no/such/program" in ended.stderr


def test_a_lost_connection_ends_everything(there: There) -> None:
    async def story(connection: Connection) -> None:
        stream = await connection.run("echo up; exec cat")
        assert await stream.read() == b"up\n"
        reading = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        there.cut()
        assert await reading == b""
        assert (await stream.ended()).status is None
        with pytest.raises(ConnectionError):
            while True:
                await stream.write(b"x" * 65536)
        if there.transport != "command":
            assert await connection.lost()
            with pytest.raises(HostUnreachable, match="is lost"):
                await connection.run("true")

    there.talk(story)


def test_closing_the_connection_ends_its_streams(there: There) -> None:
    async def story(connection: Connection) -> bytes:
        stream = await connection.run("echo up; exec cat")
        await stream.read()
        connection.close()
        connection.close()
        return await stream.read()

    assert there.talk(story) == b""


@pytest.mark.parametrize("there", ["asyncssh", "openssh"], indirect=True)
def test_the_environment_of_this_machine_stays_here(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command passes on is its own business: docker passes nothing, env everything."""
    monkeypatch.setenv("OPAGENT_PRIVATE", "secret")
    monkeypatch.setenv("LC_SECRET", "secret")
    assert there.server is not None
    there.server.options["AcceptEnv"] = "*"
    there.server.configure(SendEnv="*")
    there.server.restart()

    async def story(connection: Connection) -> bytes:
        return (await said(connection, "env"))[0]

    assert b"secret" not in there.talk(story)


def test_a_connection_is_known_by_the_same_name_each_time(there: There) -> None:
    async def story(connection: Connection) -> tuple[str, str]:
        return connection.identity, connection.transport

    first, second = there.talk(story), there.talk(story)
    assert first == second
    assert first[1] == there.transport
    if there.server is not None:
        assert first[0].startswith("SHA256:")


def test_a_socket_there_or_a_plain_no(there: There, home: Path) -> None:
    path = str(home / "s")
    data = random.Random(3).randbytes(10 * MEGABYTES)

    async def story(connection: Connection) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while part := await reader.read(65536):
                writer.write(part)
                await writer.drain()
            writer.write_eof()
            writer.close()

        server = await asyncio.start_unix_server(serve, path)
        stream = await connection.socket(path)
        if there.transport != "asyncssh":
            assert stream is None
        else:
            assert stream is not None

            async def send() -> None:
                await stream.write(data)
                await stream.end()

            sending = asyncio.create_task(send())
            assert await everything(stream) == data
            await sending
            with pytest.raises(FileNotFoundError):
                await connection.socket(os.path.join(path, "nothing"))
        server.close()

    there.talk(story)
