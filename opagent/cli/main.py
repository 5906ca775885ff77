"""The command line's entry: the table of commands, and the one place where an error becomes an exit code."""

from __future__ import annotations

import gc
import os
import sys

from opagent.version import VERSION

# name -> (module below opagent.cli, attribute, one line of help)
COMMANDS = {
    "open": ("open", "open_", "start or join the agent of a directory and talk"),
    "init": ("init", "init", "write a commented .agent.yaml"),
    "explain": ("explain", "explain", "every effective value, where it was written, how it is enforced"),
    "trust": ("trust", "trust", "let a binding act"),
    "send": ("send", "send", "give a running agent a turn"),
    "call": ("call", "call", "give an agent one turn in a conversation of its own"),
    "notes": ("notes", "notes", "what the agents of a directory share in Markdown"),
    "ps": ("ps", "ps", "agents here, and who waits for whom"),
    "logs": ("process", "logs", "what an agent wrote to stderr"),
    "stop": ("process", "stop", "stop an agent"),
    "restart": ("process", "restart", "start an agent anew"),
    "wait": ("wait", "wait", "wait until the last turn of a conversation is in a state"),
    "approvals": ("approvals", "approvals", "what waits for your answer"),
    "allow": ("approvals", "allow", "say yes to an approval"),
    "deny": ("approvals", "deny", "say no to an approval"),
    "tools": ("tools", "tools", "the MCP servers of a directory, and which of their tools agents get"),
    "usage": ("usage", "usage", "what agents used: turns, time, tokens, costs"),
    "budget": ("budget", "budget", "what may be used, what is left, and more of it"),
    "why": ("why", "why", "who did it, by which rule, on whose word, and what followed"),
    "audit": ("audit", "audit", "what was done, by which rule, and whether the record is whole"),
    "conversations": ("conversations", "conversations", "the conversation files and their logs"),
    "runtime": ("runtime", "runtime", "agent programs: install, upgrade, go back, remove"),
    "host": ("hosts", "host", "other machines"),
    "acp": ("acp", "acp", "the agent of a directory for an editor, on stdin and stdout"),
    "secrets": ("secrets", "secrets", "where your secrets are"),
    "doctor": ("doctor", "doctor", "what works here and what is missing"),
    "daemon": ("daemon", "daemon", "the per-user daemon"),
    "mcp": ("mcp", "mcp", "an agent's tools, as an MCP server; for agents"),
    "schema": ("schema", "schema", "JSON Schemas of what --json prints"),
    "completion": ("completion", "completion", "a completion script for your shell"),
}
ALIASES = {
    "approval": "approvals",
    "hosts": "host",
    "runtimes": "runtime",
    "conversation": "conversations",
    "log": "logs",
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command line and returns its exit status; nothing escapes but a bug in here."""
    words = sys.argv[1:] if argv is None else argv
    _have_streams()
    if words == ["--version"]:
        sys.stdout.write(f"opagent {VERSION}\n")
        return 0
    if argv is None:  # a process of our own: what it imports is no garbage, and looking for some takes a tenth of its time
        gc.disable()
    from opagent.cli.run import run

    if argv is None:
        gc.freeze()  # nor is it looked through at the end
        gc.enable()
    return run(words)


def _have_streams() -> None:
    """`opagent ps >&-`: a stream that the caller closed is None and its number free; both are given to nothing."""
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115  # for the whole run
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for the whole run
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for the whole run


if __name__ == "__main__":
    sys.exit(main())
