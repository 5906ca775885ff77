"""The environment of an agent: what is in it, what never is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.model import RuntimeSpec
from opagent.process.environment import BASE, DEFAULTS, build, forbidden, safe_path

CLIENT = {
    "HOME": "/home/ada", "USER": "ada", "LOGNAME": "ada", "PATH": "/usr/bin:/bin", "LANG": "de_DE.UTF-8", "LC_TIME": "C",
    "TZ": "UTC", "TERM": "xterm", "TMPDIR": "/tmp", "SECRET": "s", "BUILD_FLAGS": "-O2", "OPENAI_API_KEY": "k",
    "OPENAI_BASE_URL": "http://e", "LD_PRELOAD": "/evil.so", "OPAGENT_PROCESS": "x0", "GIT_DIR": "/g",
}  # fmt: skip
REFUSED = """
    LD_PRELOAD DYLD_X GCONV_PATH BASH_ENV ENV IFS PROMPT_COMMAND PYTHONPATH PYTHONSTARTUP PYTHONHOME NODE_OPTIONS NODE_PATH
    PERL5LIB PERL5OPT RUBYOPT JAVA_TOOL_OPTIONS _JAVA_OPTIONS GIT_SSH SSH_AUTH_SOCK DBUS_SESSION_BUS_ADDRESS XDG_RUNTIME_DIR
    DISPLAY WAYLAND_DISPLAY OPENAI_BASE_URL X_API_BASE AWS_ENDPOINT HTTPS_PROXY OPAGENT_STATE lower A-B A=B 1A
"""


def made(passed: tuple[str, ...] = (), spec: RuntimeSpec | None = None, client: dict[str, str] | None = None) -> dict[str, str]:
    runtime = spec or RuntimeSpec("r", "1", ("r",), "/p")
    return build(CLIENT if client is None else client, passed, runtime, process="x1", state="/s", workspace="/w")


def test_built_and_not_filtered() -> None:
    assert made() == {name: CLIENT[name] for name in (*BASE, "LC_TIME")} | {"OPAGENT_PROCESS": "x1", "OPAGENT_STATE": "/s"}


def test_a_client_without_anything() -> None:
    assert made(client={}) == DEFAULTS | {"OPAGENT_PROCESS": "x1", "OPAGENT_STATE": "/s"}


def test_what_the_binding_passes() -> None:
    found = made(("BUILD_FLAGS", "NOT_SET", "LD_PRELOAD", "OPENAI_BASE_URL", "GIT_DIR", "OPAGENT_PROCESS"))
    assert found["BUILD_FLAGS"] == "-O2"
    assert not {"NOT_SET", "LD_PRELOAD", "OPENAI_BASE_URL", "GIT_DIR", "SECRET"} & set(found)
    assert found["OPAGENT_PROCESS"] == "x1"


def test_what_the_runtime_says_wins() -> None:
    spec = RuntimeSpec(
        "r",
        "1",
        ("r",),
        "/p",
        env={"BUILD_FLAGS": "own", "OPAGENT_STATE": "/evil"},
        pass_env=("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    )
    found = made(("BUILD_FLAGS",), spec)
    assert (found["BUILD_FLAGS"], found["OPENAI_API_KEY"], found["OPENAI_BASE_URL"]) == ("own", "k", "http://e")
    assert found["OPAGENT_STATE"] == "/s"


@pytest.mark.parametrize("name", [*REFUSED.split(), "", "A\n", "A B"])
def test_forbidden(name: str) -> None:
    assert forbidden(name)


@pytest.mark.parametrize(
    "name", ["SECRET", "PYTHONUNBUFFERED", "GITHUB_TOKEN", "ENVIRONMENT", "PROXY", "_X", "LDFLAGS", "DISPLAYS"]
)
def test_not_forbidden(name: str) -> None:
    assert not forbidden(name)


@given(st.lists(st.sampled_from([*CLIENT, "BASH_ENV", "HTTP_PROXY", "FOO"])), st.dictionaries(st.text(), st.text()))
def test_nothing_forbidden_gets_through(passed: list[str], client: dict[str, str]) -> None:
    found = made(tuple(passed), client=CLIENT | client)
    assert not [name for name in found if forbidden(name) and name not in ("OPAGENT_PROCESS", "OPAGENT_STATE")]
    assert all("\0" not in value for value in found.values())


def test_path_without_the_workspace_and_relative_entries(tmp_path: Path) -> None:
    work, tools, link = tmp_path / "work", tmp_path / "tools", tmp_path / "link"
    (work / "bin").mkdir(parents=True)
    tools.mkdir()
    link.symlink_to(work / "bin")
    (work / "out").symlink_to(tools)
    entries = [
        "",
        ".",
        "bin",
        str(work),
        f"{work}/bin",
        f"{tools}/../work/bin",
        str(link),
        f"{work}/out",
        str(tools),
        f"{work}ing",
        "/bin",
        "/bin",
    ]
    assert safe_path(":".join(entries), str(work)) == f"{tools}:{work}ing:/bin"


def test_a_path_of_nothing_but_the_workspace() -> None:
    assert made(client={"PATH": "/w/bin:."})["PATH"] == DEFAULTS["PATH"]
