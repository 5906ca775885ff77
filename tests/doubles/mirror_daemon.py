"""The real daemon with a mirror, as the link of another machine would begin one: `MIRROR` is DIRECTORY|SOCKET|PATH THERE|NAME.

python -m tests.doubles.mirror_daemon [--ready-fd N]
"""

from __future__ import annotations

import os
import sys

from opagent.daemon import main, peer
from opagent.daemon.host import Host


def arm() -> None:
    original = Host.recover

    async def recover(self: Host) -> None:
        self.mirrors.resume = nothing  # type: ignore[method-assign]
        await original(self)
        for line in os.environ["MIRROR"].splitlines():
            directory, socket, remote, name = line.split("|")
            await self.mirrors.begin(directory, remote, lambda socket=socket: peer.connect(socket), name)  # type: ignore[misc]

    async def nothing() -> None:
        """They are begun below, by the socket that the test says."""

    Host.recover = recover  # type: ignore[method-assign]


if __name__ == "__main__":
    arm()
    sys.exit(main.main())
