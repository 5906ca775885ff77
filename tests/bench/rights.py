"""What a directory's file costs before anything acts on it: reading it strictly, checking it, four levels, one decision."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator

import yaml

from opagent import yamlfile
from opagent.binding.load import Loaded, load
from opagent.daemon.runtimes import Runtimes
from opagent.errors import BindingInvalid
from opagent.policy.decide import decide
from tests.bench.place import Place
from tests.bench.rows import Row, Target, compared, interleaved
from tests.bench.sizes import Sizes
from tests.hostile.bombs import BOMBS, USUAL

_ROUNDS = 20
_PATTERNS = [f"src/m{i}/**" for i in range(100)] + [f"docs/{i}/*" for i in range(50)] + [f"**/secret{i}*" for i in range(50)]
_LEVEL = "can: {read: {deny: ['**/.env*']}, exec: {ask: [[git, push]]}}\nbudget: {turns: 50}\ntests: [{read: .env, is: deny}]\n"


def binding(place: Place, sizes: Sizes) -> Iterator[Row]:
    """Milliseconds of this process; each measure is repeated and divided."""
    bare = lambda: _each(lambda: yaml.load(USUAL, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: E731
    pair = interleaved(sizes.times, lambda: _each(lambda: yamlfile.load(USUAL, "f")), bare)
    yield compared("a usual file, read strictly", "PyYAML's safe loader", "ms", pair, Target(1, "ms"))
    pair = interleaved(sizes.times, lambda: max(_each(lambda data=data: _refuse(data), 1) for data, _ in BOMBS.values()), bare)  # type: ignore[misc]
    yield compared("the worst hostile file", "PyYAML's safe loader, a usual file", "ms", pair, Target(10, "ms"))
    below = place.workspace
    for name in ("a", "b", "c"):
        below /= name
        below.mkdir(exist_ok=True)
        (below / ".agent.yaml").write_text(_LEVEL)
    pair = interleaved(sizes.times, lambda: _each(lambda: _load(place, below.__fspath__())), bare)
    yield compared("a binding of four levels", "PyYAML's safe loader, one file", "ms", pair)
    (place.workspace / ".agent.yaml").write_text(f"agent: echo\ncan: {{read: {{deny: {json.dumps(_PATTERNS)}}}}}\n")
    for at in (below.parent.parent, below.parent, below):
        (at / ".agent.yaml").write_text(f"can: {{read: {{deny: {json.dumps(_PATTERNS)}}}}}\n")
    rights = _load(place, below.__fspath__()).binding.capabilities
    found = [re.compile(re.escape(pattern)) for pattern in _PATTERNS]
    pair = interleaved(
        sizes.times,
        lambda: _each(lambda: decide(rights, "read", "x/y/file.py")),
        lambda: _each(lambda: [pattern.fullmatch("x/y/file.py") for pattern in found * 4]),
    )
    yield compared("one decision, 4 levels of 200 rules", "800 compiled expressions", "ms", pair, Target(0.05, "ms"))


def _load(place: Place, path: str) -> Loaded:
    return load(path, home=str(place.folder / "home"), runtimes=Runtimes(os.defpath, str(place.workspace)))


def _refuse(data: bytes) -> None:
    try:
        yamlfile.load(data, "f")
    except BindingInvalid:
        return


def _each(work: Callable[[], object], rounds: int = _ROUNDS) -> float:
    """Milliseconds of processor time of one."""
    began = time.process_time()
    for _ in range(rounds):
        work()
    return (time.process_time() - began) * 1000 / rounds
