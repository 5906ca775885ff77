"""The reference of what the code keeps in tables: errors, exit codes, variables, files, methods, events, runtimes, states."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from docpages.page import block, code, heading, page, table
from docpages.words import BESIDE, DOCUMENTS, FILES, KINDS, WORKSPACE
from opagent import control, paths, yamlfile
from opagent.cli.command import EXITS
from opagent.errors import BY_CODE, OpAgentError
from opagent.model import Kind
from opagent.packages import catalog
from opagent.policy.shapes import SHAPES

ROOT = Path(__file__).resolve().parents[2]

EXAMPLE = """\
error: no agent is named for /home/you/docs
       the binding has no `agent:`
  try: opagent explain /home/you/docs"""


def errors() -> str:
    return page(
        "Errors and exit codes",
        "opagent/errors.py and opagent/cli/command.py",
        "An error has a code that stays the same, a sentence, often a reason, and mostly a hint: the next command to type.",
        block(EXAMPLE),
        'With `--json` it is an object: `{"error": {"code", "message", "why", "hint", "exit"}}`.',
        heading(2, "Exit codes"),
        *(part for number, words in EXITS.items() for part in _exit(number, words)),
        heading(2, "Error codes"),
        "The tree: a code is also everything above it.",
        block(_tree()),
        *(part for name, error in BY_CODE.items() for part in _error(name, error)),
    )


def _tree() -> str:
    import opagent.errors

    text = (opagent.errors.__doc__ or "").partition("::\n\n")[2]
    return "\n".join(line.removeprefix("    ") for line in text.splitlines())


def _exit(number: int, words: str) -> Iterator[str]:
    yield heading(3, f"Exit code {number}")
    found = [f"[{code(name)}](#{name})" for name, error in BY_CODE.items() if error.exit == number]
    yield f"{words[:1].upper()}{words[1:]}." + (f" Errors: {', '.join(found)}." if found else "")


def _error(name: str, error: type[OpAgentError]) -> Iterator[str]:
    yield heading(3, code(name))
    said = (error.__doc__ or "").partition("\n")[0] if error is not OpAgentError else "Any other error."
    yield f"{said} Exit code [{error.exit}](#exit-code-{error.exit})."


def environment() -> str:
    parts = [part for name, words in paths.ENVIRONMENT.items() for part in (heading(2, code(name)), _sentence(words))]
    intro = "Variables that OpAgent reads or sets. A directory in them must be an absolute path, else it is not looked at."
    return page("Environment variables", "the table in opagent/paths.py", intro, *parts, heading(2, "What an agent gets"), AGENT)


AGENT = """\
An agent's environment is built, not inherited. It holds `HOME USER LOGNAME PATH LANG LC_* TZ TERM TMPDIR` of the command that
opened the workspace, the variables that its [`runtime.yaml`](runtime-yaml.md#pass_env) names, those that the binding's
[`can.env`](agent-yaml.md#canenv) names, the runtime's own constants, `OPAGENT_PROCESS` and `OPAGENT_STATE`. Nothing else:
a key in your shell that no runtime names does not reach it. Directories of the workspace are taken out of `PATH`."""


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


@contextmanager
def _usual_home() -> Iterator[None]:
    """Paths as a person with nothing set sees them, whatever is set where the pages are made."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("OPAGENT_", "XDG_")):
            del os.environ[name]
    os.environ["HOME"] = "/HOME"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _shown(path: Path) -> str:
    text = str(path).replace("/HOME", "~").replace(paths.here(), "MACHINE-BOOT")
    return text.replace(str(ROOT), "CHECKOUT") if text.startswith(str(ROOT)) else text


def _place(name: str) -> Path:
    """The daemon names its own lock itself; everything else has a function in paths.py."""
    found: Path = getattr(paths, name)()
    return found


def files() -> str:
    with _usual_home():
        rows = [(code(_shown(_place(name))), mode, what) for name, (mode, what) in FILES.items()]
        database = paths.database()
        shown = {
            **{name: getattr(paths, name)(database) for name in BESIDE if name.startswith("database_")},
            "agent_log": paths.agent_log("ID"),
            "local": Path("/var/tmp/opagent-UID"),
            "machine_socket": paths.run() / "hosts" / "HASH.sock",
            "agent_sockets": paths.agent_sockets("ID"),
            "agent_network": paths.agent_network("ID"),
            "agent_tools": paths.agent_tools("ID"),
            "probes": paths.probes(),
            "payload_cache": paths.payload_cache(),
            "python_archives": paths.python_archives(),
            "agent_state": paths.state() / "agents" / "RUNTIME-HASH",
            "agent_home": paths.state() / "agents" / "RUNTIME-HASH.home",
            "agent_gits": paths.agent_gits(),
            "agent_git": paths.agent_git("ID"),
            "landlock_home": paths.landlock_home("ID"),
            "sandbox_probe": paths.sandbox_probe(),
        }
        folders = (
            *("agent_sockets", "agent_state", "agent_home", "agent_gits", "agent_git", "landlock_home"),
            *("database_blobs", "local", "python_archives", "probes"),
        )
        rows += [(code(_shown(shown[name])), "0700" if name in folders else "0600", what) for name, what in BESIDE.items()]
    return page(
        "Files and sockets",
        "opagent/paths.py",
        heading(2, "On the machine"),
        "Places on Linux when no [variable](environment.md) says otherwise. CHECKOUT is the directory of OpAgent's source; "
        "a wheel carries the same directories.",
        table(("path", "permissions", "what it is"), rows),
        f"A socket's path may have {paths.SOCKET_MAX} bytes. Where the usual one is longer, socket and locks lie in "
        "`/var/tmp/opagent-UID/HASH/`.",
        heading(2, "In a workspace"),
        table(("path", "what it is"), ((code(name), what) for name, what in WORKSPACE.items())),
    )


PROTOCOL = """\
JSON-RPC 2.0, one message a line, on the daemon's Unix socket. The daemon speaks first: `{"opagent": {"version", "protocol":
[oldest, newest], "host", "daemon", "boot"}}`. The client answers with the request [`hello`](#hello); then both know the version
they share. `opagent` itself uses nothing else.

A `?` marks what may be missing."""


def protocol() -> str:
    numbers = table(
        ("limit", "value"),
        (
            ("protocol version", f"{control.PROTOCOL}; {control.OLDEST} to {control.NEWEST} are understood"),
            ("one message", f"{control.FRAME_LIMIT // 2**20} MiB"),
            ("open requests of one client", str(control.OPEN_REQUESTS)),
            ("unread events of one client", f"{control.UNREAD_LIMIT // 2**20} MiB, then `lagging`"),
            ("code of an OpAgent error", f"{control.ERROR}; `data` is the error's JSON form"),
        ),
    )
    events = (
        "`event` carries one [event](events.md). `lagging` {conversation, seq} says that too much was left unread: subscribe "
        "again after the last seq that arrived."
    )
    return page(
        "Control protocol",
        "opagent/control.py",
        PROTOCOL,
        heading(2, "Limits"),
        numbers,
        heading(2, "Notifications"),
        events,
        heading(2, "Methods"),
        *(part for name in control.METHODS for part in _method(name)),
    )


def _method(name: str) -> Iterator[str]:
    params, result = control.METHODS[name]
    yield heading(3, code(name))
    yield f"- Params: {code(params) if params else 'none'}\n- Result: {code(result) if result else 'empty'}"


EVENTS = """\
An event is one durable, numbered fact of a conversation. Only committed events are sent. `opagent open -m TEXT --json` prints
them as they come, `opagent conversations show ID --json` those that are there.

Every event has `conversation`, `seq` (counts from 1 in its conversation), `journal` (counts over the whole host), `turn` (or
null), `kind`, `at` (UTC, ISO 8601) and `body`. On the command line `kind` is called `type`, `schema` and `host` are added, and
the first line, of type `opened` with seq 0, is no event but the command's own: the file and the workspace."""


def events() -> str:
    parts = [part for kind in Kind for part in (heading(2, code(kind.value)), *_kind(kind))]
    return page("Event kinds", "opagent/model.py", EVENTS, *parts)


def _kind(kind: Kind) -> Iterator[str]:
    fields, sentence = KINDS[kind]
    yield f"{sentence}\n\nBody: {code(fields)}"
    if kind is Kind.DOCUMENT:
        yield table(("what", "also", "means"), ((code(what), code(also), said) for what, (also, said) in DOCUMENTS.items()))


RUNTIMES = """\
Programs that OpAgent knows how to start. `opagent doctor` shows which of them are installed here. Each is a role of its own name:
`agent: librarian` is a whole binding. [Bind an agent](../guides/bind-an-agent.md) tells how to use one that does not come with
OpAgent."""


def runtimes() -> str:
    names = sorted(folder.parent.name for folder in paths.bundled_runtimes().glob("*/runtime.yaml"))
    return page("Runtimes", "runtimes/*/runtime.yaml", RUNTIMES, *(part for name in names for part in _runtime(name)))


def _runtime(name: str) -> Iterator[str]:
    folder = paths.bundled_runtimes() / name
    said: dict[str, Any] = yamlfile.plain(yamlfile.load((folder / "runtime.yaml").read_bytes(), name))
    spec = catalog.read(catalog.Entry(name, folder, "bundled"))
    yield heading(2, code(name))
    yield f"{spec.title}: {spec.about.rstrip('.')}. [About it](../../runtimes/{name}/README.md)."
    tried = said.get("tried")
    rows = [
        ("comes with OpAgent", "yes" if not spec.install else "only its description"),
        ("command", code(" ".join(spec.command))),
        ("install", code(catalog.install_command(spec)) if spec.install and "path" not in spec.install else ""),
        ("sign in", code(spec.signin) if spec.signin else ""),
        ("has a copy of", ", ".join(code(f"~/{name}") for name in spec.from_home)),
        ("variables it gets", ", ".join(map(code, spec.pass_env))),
        ("hosts it needs", ", ".join(map(code, spec.network))),
        ("obeys these files of a workspace", ", ".join(map(code, spec.runs))),
        ("tried", f"{tried['version']}, {tried['how']}, {tried['date']}" if tried else "in every run of the tests"),
    ]
    yield table(("", ""), ((f"**{what}**", value) for what, value in rows if value))


def shapes() -> str:
    """The kinds of secrets that are known by their looks."""
    starts: dict[str, list[str]] = {}
    for shape in SHAPES:
        starts.setdefault(shape.name, []).extend(each for each in shape.starts if each not in starts.get(shape.name, ()))
    return table(
        ("shown as", "begins with"), ((code(f"«redacted:{name}»"), ", ".join(map(code, each))) for name, each in starts.items())
    )


def dependencies() -> tuple[str, ...]:
    """The names of the core dependencies, as pyproject.toml has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return tuple(entry.partition(">")[0].partition("[")[0].strip() for entry in project["dependencies"])
