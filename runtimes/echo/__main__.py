"""Start of the echo agent: reads the arguments, which choose what must happen before the first prompt."""

import os
import sys

import agent

# README.md explains them
OPTIONS = (
    "crash", "early", "fail", "garbage", "hang", "ignore-eof", "ignore-term", "mode", "start-delay", "state", "v2", "without",
)  # fmt: skip


def parse(arguments: list[str]) -> dict[str, str]:
    """`--name` or `--name=value`; anything else ends the program with status 2."""
    options: dict[str, str] = {}
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in OPTIONS:
            os.write(2, f"echo: unknown argument {argument!r}; known: {' '.join(OPTIONS)}\n".encode())
            sys.exit(2)
        options[name] = value
    return options


try:
    agent.start(parse(sys.argv[1:]))
except BrokenPipeError:  # the client went away while we wrote: nothing is left to tell
    os._exit(0)
