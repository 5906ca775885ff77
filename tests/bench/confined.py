"""What a sandbox costs: an agent from its start to its first answer, bare and at level strict, and two hundred of them at once."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from opagent import paths
from opagent.model import ProcessId
from opagent.process import probe
from opagent.process.box import Box
from opagent.process.profile import Profile
from opagent.process.programs import Programs
from opagent.process.sandbox import Bwrap
from opagent.process.spawn import Child, Launch, spawn
from tests.bench.place import Place
from tests.bench.rows import Row, Target, compared, interleaved
from tests.bench.sizes import Sizes

_MANY = 200
_ECHO = str(Path(__file__).resolve().parents[2] / "runtimes/echo")
_HELLO = b'{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": 1}}\n'
_NODE = "require('readline').createInterface({input: process.stdin}).on('line', l => console.log(JSON.stringify({id: JSON.parse(l).id})))"


def confined(place: Place, sizes: Sizes) -> Iterator[Row]:
    """Start to first answer of a Python and of a Node agent, then 200 at once."""
    found = probe.strict()
    if not found:
        return
    python = (sys.executable, "-I", "-S", _ECHO)
    agents = [("python agent", python, Target(1.6))]
    if node := shutil.which("node"):
        agents.append(("node agent", (node, "-e", _NODE), Target(1.2)))
    for name, argv, target in agents:
        pair = interleaved(
            max(sizes.times, 9), lambda argv=argv: _one(place, argv, True), lambda argv=argv: _one(place, argv, False)
        )  # type: ignore[misc]
        yield compared(f"{name}, start to answer, strict", "without a sandbox", "ms", pair, target)
    pair = interleaved(1, lambda: _many(place, python, True), lambda: _many(place, python, False))
    yield compared(f"{_MANY} agents start and answer, strict", "without a sandbox", "s", pair, Target(3, "s"))


def _one(place: Place, argv: Sequence[str], boxed: bool) -> float:
    began = time.perf_counter()
    child = _start(place, argv, boxed)
    _answer(child)
    took = time.perf_counter() - began
    _end([child])
    return took * 1000


def _many(place: Place, argv: Sequence[str], boxed: bool) -> float:
    began = time.perf_counter()
    children = [_start(place, argv, boxed) for _ in range(_MANY)]
    for child in children:
        _answer(child)
    took = time.perf_counter() - began
    _end(children)
    return took


def _start(place: Place, argv: Sequence[str], boxed: bool) -> Child:
    workspace = os.path.realpath(place.workspace)
    words, box = tuple(argv), None
    if boxed:
        words, box = _boxed(workspace, argv)
    child = spawn(Launch(ProcessId("bench"), words, workspace, {"PATH": os.environ["PATH"]}, Path(os.devnull), box=box))
    os.set_blocking(child.stdin, True)
    os.set_blocking(child.stdout, True)
    os.write(child.stdin, _HELLO)
    return child


def _boxed(workspace: str, argv: Sequence[str]) -> tuple[tuple[str, ...], Box]:
    words, programs = Programs(os.environ["PATH"], (str(paths.state()),), workspace).show(argv, _ECHO)
    protected = (".agent.yaml", "conversations", ".opagent")
    return words, Bwrap(Profile(workspace, programs=programs, protected=protected))


def _answer(child: Child) -> None:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(child.stdout, 65536)
        if not piece:
            raise RuntimeError(os.read(child.stderr, 4096).decode())
        line += piece
    json.loads(line.splitlines()[0])


def _end(children: Sequence[Child]) -> None:
    for child in children:
        child.popen.kill()
    for child in children:
        child.popen.wait()
        for fd in (child.pidfd, child.stdin, child.stdout, child.stderr, child.status):
            if fd >= 0:
                os.close(fd)
