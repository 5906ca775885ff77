"""`opagent runtime probe` against agents whose behaviour is known; what `explain` shows of it; what a binding can need."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from opagent import paths
from opagent.client import Client
from opagent.packages import ability, catalog, starter
from tests.doubles import minimal
from tests.doubles import runtimes as doubles
from tests.doubles.terminal import run

SAY = {"hello": "/usage 7 3\n{word}", "write": "/permission write {file} {text}", "slow": "/wait"}
SCRIPTED = str(Path(__file__).resolve().parents[1] / "doubles/modelled_agent.py")


def probed(name: str, home: Path, status: int = 0) -> dict[str, Any]:
    done = run("runtime", "probe", name, "--json", cwd=home)
    assert done.returncode == status, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def echo(name: str, *arguments: str, **say: str) -> str:
    return doubles.echo(name, *arguments, probe={"say": {**SAY, **say}}, timeouts={"ready": "5s"})


def test_what_the_echo_agent_does_is_seen(home: Path) -> None:
    record = probed("echo", home)
    assert record["can"] == {"ask": True, "cancel": True, "resume": True, "usage": True, "mcp": False}
    assert (record["protocol"], record["agent"], record["again"], record["level"]) == (1, "echo 1.0.0", "load", "strict")
    assert (record["asks"], record["keeps_to_no"], record["answers_while_asking"]) == (True, True, True)
    assert (record["works_after_cancel"], record["ends_at_eof"], record["left"]) == (True, True, [])
    assert not list((paths.probes() / ".now").iterdir())


@pytest.mark.parametrize("language", minimal.LANGUAGES)
def test_a_new_runtime_of_every_language_is_probed(home: Path, language: str) -> None:
    made = json.loads(run("runtime", "new", "mine", "--language", language, "--json", cwd=home).stdout)
    minimal.build(Path(made["folder"]))
    record = probed("mine", home)
    assert [record[key] for key in ("asks", "keeps_to_no", "cancel", "works_after_cancel")] == [True] * 4, record["notes"]
    assert (record["agent"], record["again"], record["resume"], record["problem"]) == ("mine 0.1.0", "", False, "")


@pytest.mark.parametrize(
    ("arguments", "say", "seen"),
    [
        ((), {"write": "/write {file} {text}"}, {"asks": False, "keeps_to_no": None}),
        ((), {"slow": "/hang"}, {"cancel": False, "cancel_ms": None}),
        (("--ignore-eof",), {}, {"ends_at_eof": False, "ends_at_term": True}),
        (("--ignore-eof", "--ignore-term"), {}, {"ends_at_eof": False, "ends_at_term": False}),
        (("--without=load,resume",), {}, {"again": "", "resume": False}),
        (("--v2",), {}, {"protocol": 2}),
        ((), {"hello": "{word}\n"}, {"usage": ""}),
        ((), {"hello": "/fork\n{word}"}, {"left": ["python3"]}),
    ],
)  # fmt: skip
def test_what_an_agent_does_wrong_is_seen(
    home: Path, arguments: tuple[str, ...], say: dict[str, str], seen: dict[str, Any]
) -> None:
    record = probed(echo("odd", *arguments, **say), home)
    if seen.get("left"):
        record["left"] = ["python3"] * any(name.startswith("python") for name in record["left"])
    assert {key: record[key] for key in seen} == seen, record["notes"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [(("--crash=initialize",), "did not answer initialize"), (("--fail=session:-32000",), "gave no session"),
     (("--hang=initialize",), "no answer came")],
)  # fmt: skip
def test_an_agent_that_does_not_come_up_has_a_record_that_says_so(home: Path, arguments: tuple[str, ...], why: str) -> None:
    record = probed(echo("odd", *arguments), home, status=10)
    assert why in record["problem"]
    assert not any(record["can"].values())


def test_the_agent_sees_no_home_no_key_and_no_network(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "canary-value")
    (home / "private.txt").write_text("canary-value")
    look = f"import os, socket, sys; print(os.path.exists({str(home / 'private.txt')!r}), os.environ.get('SOME_API_KEY'), file=sys.stderr)"
    look += "; print([name for _, name in socket.if_nameindex()], file=sys.stderr)"
    doubles.put("looker", sys.executable, "-c", look, pass_env=["SOME_API_KEY"])
    record = probed("looker", home, status=10)
    assert "False None" in record["problem"] and "['lo']" in record["problem"]


def test_a_scripted_model_drives_an_agent_that_needs_one(home: Path) -> None:
    doubles.put(
        "modelled", sys.executable, "-I", "-S", SCRIPTED, state=[".modelled"], model={"base_url": "MODEL_URL", "path": "/v1"},
        probe={"files": {".modelled/settings": "key for {url}"}, "env": {"MODEL_EXTRA": "at {url}"}},
    )  # fmt: skip
    record = probed("modelled", home)
    assert record["can"] == {"ask": True, "cancel": True, "resume": True, "usage": True, "mcp": True}, record
    assert (record["usage"], record["mcp"], record["calls_mcp"], record["again"]) == ("turn", "stdio", True, "resume")
    assert "sleep" in record["left"]


def test_a_record_is_of_one_version(home: Path) -> None:
    probed("echo", home)
    spec = catalog.find("echo")
    key = ability.key(spec, (sys.executable,))
    assert ability.read(key) is not None
    doubles.put("echo", *doubles.ECHO)
    other = catalog.find("echo")
    assert ability.read(ability.key(other, (sys.executable,))) is None


def test_a_binding_that_needs_what_was_not_seen_is_refused(home: Path) -> None:
    folder = home / "notes"
    folder.mkdir()
    binding = folder / ".agent.yaml"
    binding.write_text("agent: writer\nroles: {writer: {runtime: echo, needs: [ask, resume]}}\n")
    refused = run("open", ".", "-m", "hello", cwd=folder)
    assert refused.returncode != 0
    assert "opagent runtime probe echo" in refused.stderr and "this version of it was not probed" in refused.stderr
    assert "nothing yet: opagent runtime probe echo" in run("explain", ".", cwd=folder).stdout
    probed("echo", home)
    assert "echo: hello" in run("open", ".", "-m", "hello", cwd=folder).stdout
    shown = run("explain", ".", cwd=folder).stdout
    assert "asks before it writes: yes" in shown and "not seen, so it does not start" not in shown

    binding.write_text("agent: writer\nroles: {writer: {runtime: echo, needs: [mcp]}}\n")
    refused = run("open", ".", "-m", "hello", cwd=folder)
    assert "mcp (it starts the MCP servers that it is given)" in refused.stderr
    assert "not seen, so it does not start" in run("explain", ".", cwd=folder).stdout


def test_a_deeper_binding_cannot_take_a_need_away(home: Path) -> None:
    (home / "notes/deep").mkdir(parents=True)
    (home / "notes/.agent.yaml").write_text("agent: writer\nroles: {writer: {runtime: echo, needs: [mcp]}}\n")
    (home / "notes/deep/.agent.yaml").write_text("agent: writer\nroles: {writer: {runtime: echo, needs: [ask]}}\n")
    with Client("test") as client:
        shown = client.request("binding/explain", {"path": str(home / "notes/deep")})
    assert shown["launch"]["seen"]["needs"] == ["mcp", "ask"]
    assert shown["trust"] == "unneeded"  # a need only narrows


def test_what_is_installed_is_probed_before_it_counts(home: Path) -> None:
    source = starter.write("mine", "python", str(home / "sources")).folder
    done = run("runtime", "install", str(source), cwd=home)
    assert done.returncode == 0 and "seen of mine: ask, cancel" in done.stderr, done.stdout + done.stderr
    assert "asks before it writes: yes" in run("runtime", "info", "mine", cwd=home).stdout

    (source / "agent.py").write_text("raise SystemExit('no such module')\n")
    description = source / "runtime.yaml"
    description.write_text(description.read_text().replace("0.1.0", "0.2.0"))
    done = run("runtime", "upgrade", "mine", cwd=home)
    assert done.returncode == 10 and "it did not come up" in done.stderr and "no such module" in done.stderr
    known = json.loads(run("runtime", "list", "--json", cwd=home).stdout)["runtimes"]
    [mine] = [row for row in known if row["name"] == "mine"]
    assert mine["version"].startswith("0.1.0") and len(mine["others"]) == 1
