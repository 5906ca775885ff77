"""Inside the sandbox: a port of 127.0.0.1 leads to a socket of ours; then this process is the agent. Standard library only.

    python -I -S relay.py [PORT=]SOCKET PROGRAM ARGUMENT...

The program keeps our pid, pipes and signals; the relay goes on as a child of nobody, and ends with the namespace it lives in.
"""

import os
import socket
import sys

PORT = 3128
PATIENCE = 2.0  # seconds: a proxy that ended is there again by then
_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def main(path: str, argv: list[str]) -> None:
    port, _, path = path.rpartition("=")
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(port or PORT)))
    listener.listen(64)
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            _serve(listener, path)
        os._exit(0)
    os.waitpid(child, 0)
    listener.close()
    try:
        os.execvp(argv[0], argv)  # noqa: S606  an argv, never a shell's line
    except OSError as error:
        sys.stderr.write(f"{argv[0]} cannot be started: {error.strerror}\n")
        os._exit(127)


def _serve(listener: socket.socket, path: str) -> None:
    import asyncio  # not on the agent's way

    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.setsid()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 18):
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            writer.close()

    async def dialed() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        end = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                return await asyncio.open_unix_connection(path, limit=1 << 18)
            except OSError:
                if asyncio.get_running_loop().time() > end:
                    raise
            await asyncio.sleep(0.05)

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up, up_writer = await dialed()
        except OSError:
            writer.write(_REFUSAL)
            writer.close()
            return
        await asyncio.gather(pump(reader, up_writer), pump(up, writer))
        for each in (writer, up_writer):
            each.close()

    async def run() -> None:
        server = await asyncio.start_server(accepted, sock=listener, limit=1 << 18)
        await server.serve_forever()

    try:
        asyncio.run(run())
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
