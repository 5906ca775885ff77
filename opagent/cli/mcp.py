"""`opagent mcp`: joins an agent's MCP client to the daemon; what an agent is given starts the same without this command line."""

from __future__ import annotations

import os

import click

from opagent import paths
from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.errors import Denied


@click.command(cls=Command, example="opagent mcp", exits=(0, 1, 2, 5), only_here=True)
@pass_app
def mcp(app: App) -> None:
    """The tools of an agent, as an MCP server on stdin and stdout. Agents of OpAgent are told of it in each session.

    It works for agents only: OPAGENT_TOOLS names the directory of the socket by which OpAgent knows who asks.
    """
    from opagent.process import toolbox

    directory = os.environ.get(paths.TOOLS)
    if not directory:
        raise Denied("this is for agents that OpAgent started", "OPAGENT_TOOLS is not set", "opagent call --help")
    raise click.exceptions.Exit(toolbox.main(directory, ["mcp"]))
