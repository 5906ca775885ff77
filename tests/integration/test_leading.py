"""A directory here whose binding says `host:`: commands about it are about the directory there, once it is trusted here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent.client import Client
from tests.doubles.places import THERE, Place, conversation, place
from tests.doubles.runtimes import bind
from tests.doubles.terminal import Terminal, run, run_json


@pytest.fixture
def there(home: Path) -> Iterator[Place]:
    with place(THERE, home) as found:
        found.directory("docs")
        found.directory("docs/sub")
        yield found


@pytest.fixture
def here(home: Path) -> Path:
    folder = home / "here"
    folder.mkdir()
    return folder


def _lead(folder: Path, host: str) -> None:
    with Client("test") as client:
        bind(client, folder, "echo", host=host)


def test_it_is_trusted_first_and_then_leads(there: Place, here: Path) -> None:
    (here / ".agent.yaml").write_text(f"version: 1\nhost: there:{there.home}/docs\n")
    done = run("open", str(here), "-m", "hi")
    assert done.returncode == 6
    assert f"it leads to there:{there.home}/docs, says {here}/.agent.yaml:2" in done.stderr
    assert f"try: opagent trust {here}\n" in done.stderr
    assert not (there.home / ".cache").exists()  # nothing was dialed
    asked = Terminal("open", str(here), "-m", "hi")
    asked.expect(f"other machine  there:{there.home}/docs")
    asked.expect(r"Trust this binding\? \[y/N\]")
    asked.type("y\r")
    asked.expect("echo: hi")
    assert asked.end() == 0
    assert f"there:{conversation(there.home / 'docs')} · echo" in asked.text.replace("\n", "")


def test_every_command_about_it_is_about_the_one_there(there: Place, here: Path) -> None:
    _lead(here, f"there:{there.home}/docs")
    assert run("send", str(here), "one").stdout == "echo: one\n"
    file = conversation(there.home / "docs")
    assert run("send", str(here), "two").stdout == "echo: two\n"
    assert conversation(there.home / "docs") == file
    assert run("open", str(here), "--last", "-m", "three").stdout == "echo: three\n"
    assert run("wait", str(here)).returncode == 0
    assert [one["path"] for one in run_json("conversations", "list", str(here))["conversations"]] == [str(file)]
    assert run("conversations", "list", cwd=here).returncode == 0
    made = run("conversations", "new", str(here), "--title", "Made")
    assert Path(made.stdout.strip()).parent == file.parent
    found = run_json("explain", str(here))
    (value,) = [one for one in found["values"] if one["key"] == "host"]
    assert value["origin"] == f"{here}/.agent.yaml:2"
    assert "the rules of the binding there" in value["note"]
    with Client("test") as client:  # their files are mirrored here; the conversations are those of there
        assert client.request("conversation/list", {"all": True})["conversations"] == []


def test_a_deeper_directory_leads_to_the_one_below(there: Place, here: Path) -> None:
    _lead(here, f"there:{there.home}/docs")
    (here / "sub").mkdir()
    assert run("open", str(here / "sub"), "-m", "hi").stdout == "echo: hi\n"
    assert conversation(there.home / "docs/sub")


@pytest.mark.parametrize("form", ["{user}@there:{home}/docs", "ssh://there{home}/docs", "ssh://{user}@there:{port}{home}/docs"])
def test_the_forms_of_a_target(there: Place, here: Path, form: str) -> None:
    assert there.server is not None
    _lead(here, form.format(user=there.server.user, port=there.server.port, home=there.home))
    done = run("open", str(here), "-m", "hi")
    assert (done.returncode, done.stdout) == (0, "echo: hi\n"), done.stderr


def test_one_step_is_taken_and_not_a_second(there: Place, here: Path) -> None:
    """Also not where the second one is the first again."""
    _lead(here, f"there:{there.home}/docs")
    (there.home / "docs/.agent.yaml").write_text(f"version: 1\nagent: echo\nhost: there:{there.home}/docs\n")
    there.trust(there.home / "docs")
    done = run("open", str(here), "-m", "hi")
    assert done.returncode == 2
    assert "leads on to" in done.stderr


def test_what_names_no_machine_is_a_mistake_in_the_binding(here: Path) -> None:
    (here / ".agent.yaml").write_text("version: 1\nagent: echo\nhost: /srv/docs\n")
    done = run("open", str(here), "-m", "hi")
    assert done.returncode == 2
    assert f"{here}/.agent.yaml:3:" in done.stderr


def test_a_machine_that_cannot_be_reached(there: Place, here: Path) -> None:
    _lead(here, f"there:{there.home}/docs")
    assert there.server is not None
    there.server.stop()
    done = run("open", str(here), "-m", "hi", "--json")
    assert done.returncode == 7
    assert json.loads(done.stdout.splitlines()[-1])["error"]["code"] == "host_unreachable"
