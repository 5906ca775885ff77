"""Directories here that stand for ones on other machines, and the links that their mirrors use. Dials nothing for the first time.

API: `begin`, `moved`. (Design: "The mirror".)
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from opagent.errors import OpAgentError
from opagent.remote.link import LinkState
from opagent.remote.seam import Phase
from opagent.target import Target

if TYPE_CHECKING:
    from opagent.daemon.host import Host
    from opagent.daemon.links import Reached

log = logging.getLogger(__name__)


async def begin(host: Host, directory: str, there: Target) -> None:
    """The conversation files of `there` stand in the directory from now on, and no others. Why not, is logged."""
    try:
        if host.mirrors.other(directory, there.machine, there.path or "~"):  # its binding leads to another place now
            await host.mirrors.end(directory)
        await host.mirrors.begin(directory, there.path or "~", None, there.machine)
    except (OpAgentError, OSError) as error:
        log.warning("%s is no mirror of %s: %s", directory, there, error)


def moved(host: Host, reached: Reached) -> None:
    """The link of a machine is in another state: its mirrors go on, or it is dialed again for them."""
    name, state = reached.record.name, reached.link.state
    if state is LinkState.CONNECTED:
        host.mirrors.wake(name)
        if reached.server is not None:  # it was lost, and somebody wanted it back
            host.attending.begin(name)
    elif state is LinkState.LOST and name in host.mirrors.machines() and not reached.link.wanted and not host.shared.closing:
        host.shared.spawn(_again(reached), f"the link to {name} again")


async def _again(reached: Reached) -> None:
    """It was there a moment ago, so it is dialed until it is there again."""
    try:
        await reached.link.up(None, silent, patient=True)
    except OpAgentError as error:
        log.info("%s is not dialed again: %s", reached.record.name, error)


def silent(_: Phase) -> None:
    """Nobody looks."""
