"""Requests of clients that are elsewhere: paths from the home directory, and the environment of this machine's user. Real shells."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from opagent.client import Client
from opagent.errors import NotTrusted
from opagent.process import login
from tests.doubles import runtimes
from tests.doubles.patience import PATIENCE
from tests.integration.conftest import Talk

BARE = "/usr/bin:/bin"
EXTRA = "/somewhere/of/mine"
# Where each shell's login reads what its users write there, and how they would.
PROFILES = {
    "bash": (".bash_profile", f"export PATH=$PATH:{EXTRA}"),
    "dash": (".profile", f"export PATH=$PATH:{EXTRA}"),
    "ksh": (".profile", f"export PATH=$PATH:{EXTRA}"),
    "zsh": (".zprofile", f"path+=({EXTRA})"),
    "fish": (".config/fish/config.fish", f"set -gx PATH $PATH {EXTRA}"),
    "tcsh": (".cshrc", f"setenv PATH $PATH\\:{EXTRA}"),
}


def environment(home: Path, shell: str) -> dict[str, str]:
    return {"HOME": str(home), "PATH": BARE, "SHELL": shell}


@pytest.mark.parametrize("name", [name for name in PROFILES if shutil.which(name)])
def test_the_path_of_a_login_shell(name: str, home: Path) -> None:
    file, line = PROFILES[name]
    (home / file).parent.mkdir(parents=True, exist_ok=True)
    (home / file).write_text(f"echo 'welcome to this machine'\n{line}\n")
    found = login.path(environment(home, str(shutil.which(name))), PATIENCE)
    assert EXTRA in found.split(":") and "/usr/bin" in found.split(":")


@pytest.mark.parametrize(
    ("profile", "takes"),
    [
        ("head -c 500000 /dev/zero | tr '\\0' x; echo PATH=/evil; printf 'no newline'", True),
        ("read -r line; cat", True),
        ("sleep 60 & ", True),
        ("trap 'echo bye' EXIT", True),
        ("yes", False),
        ("sleep 60", False),
        ("exit 0", False),
        ("exec cat", False),
        ("kill -9 $$", False),
        ("PATH=relative:here", False),
        ("PATH=", False),
    ],
)
def test_a_profile_that_does_something_else(profile: str, takes: bool, home: Path) -> None:
    (home / ".profile").write_text(f"PATH=$PATH:{EXTRA}\n{profile}\n")
    found = login.path(environment(home, "/bin/sh"), PATIENCE if takes else 0.5).split(":")
    assert (EXTRA in found) is takes
    assert takes or found == ["/usr/bin", "/bin", f"{home}/.local/bin", "/usr/local/bin"]


@pytest.mark.parametrize("shell", ["/nowhere/sh", "sh", "/etc/passwd", sys.executable, "/bin/false"])
def test_a_shell_that_is_none(shell: str, home: Path) -> None:
    assert login.path(environment(home, shell), 1.0).startswith(f"{BARE}:{home}/.local/bin")


@pytest.fixture
def profile(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The daemon starts with a bare PATH, and the user's login adds a directory; `secret` must not come along."""
    tools = home / "tools"
    tools.mkdir()
    (home / ".profile").write_text(f"PATH={tools}:$PATH\nexport FROM_PROFILE=secret\necho hello\n")
    monkeypatch.setenv("SHELL", "/bin/sh")
    monkeypatch.setenv("PATH", BARE)
    monkeypatch.setenv("FROM_DAEMON", "own")
    return tools


def test_a_request_without_an_environment_gets_that_of_the_user_there(home: Path, profile: Path) -> None:
    runtimes.unconfined()  # it starts programs that its description does not name, and writes beside the workspace
    program = profile / "my-agent"
    program.write_text(f'#!/bin/sh\necho "$FROM_DAEMON,$FROM_PROFILE,$PATH" >{home}/seen\nexec {" ".join(runtimes.ECHO)} "$@"\n')
    program.chmod(0o755)
    runtimes.put("mine", "my-agent")
    directory = home / "docs"
    directory.mkdir()
    (directory / ".agent.yaml").write_text("agent: mine\ncan: {env: [FROM_DAEMON, FROM_PROFILE]}\n")
    with Client("test") as client:
        with pytest.raises(NotTrusted):
            client.request("workspace/open", {"path": "docs"})
        shown = client.request("trust/show", {"path": "~/docs"})
        assert shown["path"] == str(directory) and str(program) in str(shown["question"])
        client.request("trust/grant", {"path": "docs", "digest": shown["digest"]})
        assert client.request("workspace/open", {"path": "docs"})["argv"] == [str(program)]
        talk = Talk(client, directory)
        made = client.request("conversation/create", {"path": "docs"})
        assert talk.say(made, "hello")["state"] == "done"
        assert (home / "seen").read_text().startswith(f"own,,{profile}:")
        assert [one["id"] for one in client.request("conversation/list", {"path": "docs"})["conversations"]] == [made["id"]]
        relative = os.path.relpath(made["path"], home)
        for word in (relative, f"~/{relative}", made["path"]):
            assert client.request("conversation/show", {"conversation": word})["conversation"]["id"] == made["id"]
        assert client.request("binding/explain", {"path": "docs"})["workspace"] == str(directory)
        assert client.request("trust/revoke", {"path": "~/docs"})["removed"]


def test_what_a_client_brought_stays_when_another_brings_nothing(home: Path, profile: Path) -> None:
    directory = home / "docs"
    directory.mkdir()
    runtimes.put("mine", "/bin/sh", "-c", f'echo "$FROM_DAEMON" >{directory}/seen; exec "$@"', "sh", *runtimes.ECHO)
    with Client("test") as client:
        runtimes.bind(client, directory, "mine", can={"env": ["FROM_DAEMON"]})
        brought: dict[str, Any] = {"path": str(directory), "environment": {**os.environ, "FROM_DAEMON": "brought"}}
        made = client.request("conversation/create", brought)
        client.request("workspace/open", {"path": "docs"})
        assert Talk(client, directory).say(made, "hello")["state"] == "done"
    assert (directory / "seen").read_text() == "brought\n"


def test_the_shell_is_asked_once(home: Path, profile: Path) -> None:
    (home / ".profile").write_text(f"echo asked >>{home}/asked\n")
    for name in ("one", "two"):
        (home / name).mkdir()
    with Client("test") as client:
        for name in ("one", "two"):
            client.request("workspace/open", {"path": name, "agent": "echo"})
    assert (home / "asked").read_text() == "asked\n"
