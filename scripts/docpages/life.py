"""The numbers and the diagram of concepts/process-life.md, from the table of moves and the constants of the daemon."""

from __future__ import annotations

from docpages.page import block, table
from opagent.daemon import agent, clocks, host, main, turns, workspace
from opagent.process import states, supervisor


def diagram() -> str:
    """The table of moves as a Mermaid diagram."""
    return block(states.diagram(), "mermaid")


def restarts() -> str:
    """The numbers of the restart rule."""
    permanent = ", ".join(f"{number} ({words})" for number, words in states.PERMANENT.items())
    return table(
        ("what", "value"),
        (
            (
                "first delay",
                f"{states.FIRST_DELAY:g} s, doubled each time, at most {states.LONGEST_DELAY:g} s, ±{states.JITTER:.0%}",
            ),
            ("crash loop", f"{states.LOOP_STARTS} starts in {states.LOOP_WINDOW / 60:g} minutes: given up"),
            ("earlier failures forgotten", f"after {states.HEALTHY / 60:g} minutes of life"),
            ("never started again by itself", f"exit status {permanent}"),
        ),
    )


def deadlines() -> str:
    """What the daemon does not wait for any longer."""
    return (
        table(
            ("an agent that", "for", "is"),
            (
                (
                    "does not answer `initialize`",
                    f"`timeouts.ready` of its `runtime.yaml`, else {_time(workspace.READY_WITHIN)}",
                    "ended",
                ),
                ("does not answer `session/new`", _time(agent.SESSION_DEADLINE), "ended"),
                ("says nothing in a turn", _time(clocks.STALLED_AFTER), "shown as stalled"),
                ("still says nothing", _time(clocks.GIVEN_UP_AFTER), "told to cancel the turn"),
                ("goes on with a cancelled turn", _time(turns.CANCEL_WITHIN), "ended"),
                ("does not read what it is sent", _time(supervisor.PATIENCE), "ended"),
                ("was told to stop: its stdin is closed", _time(supervisor.STDIN_GRACE), "sent SIGTERM"),
                ("ignores SIGTERM", _time(supervisor.TERM_GRACE), "killed"),
                ("has no turn", f"its `timeouts.idle_stop`, else {_time(workspace.IDLE_STOP)}", "stopped"),
                (
                    f"is one of more than {host.MOST_IDLE} without a turn",
                    "any time",
                    "stopped, the one that waited longest first",
                ),
            ),
        )
        + f"\n\nA daemon without clients and agents leaves after {_time(main.IDLE_EXIT)}."
    )


def _time(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} s"
