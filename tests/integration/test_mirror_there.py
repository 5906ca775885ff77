"""A directory here that stands for one on a server: its conversations are edited here and answered there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.far import daemon_of, kill
from tests.doubles.patience import until
from tests.doubles.sshd import Sshd, sshd
from tests.doubles.terminal import run, run_json
from tests.integration.conftest import Talk


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    with sshd(home.parent / "there") as server:
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", server.config)
        (server.home / "docs").mkdir()
        (server.home / "docs/.agent.yaml").write_text("version: 1\nagent: echo\n")
        yield server


@pytest.fixture
def notes(there: Sshd, talk: Talk) -> Path:
    (talk.directory / ".agent.yaml").write_text(f"version: 1\nhost: there:{there.home}/docs\n")
    shown = talk.client.request("trust/show", {"path": str(talk.directory)})
    talk.client.request("trust/grant", {"path": shown["path"], "digest": shown["digest"]})
    return talk.directory


def holds(path: Path, *words: str) -> str:
    return str(until(lambda: path.exists() and all(word in path.read_text() for word in words) and path.read_text()))


def test_what_is_typed_here_is_answered_there(notes: Path, there: Sshd) -> None:
    done = run("open", str(notes), "-m", "hello")
    assert (done.returncode, done.stdout) == (0, "echo: hello\n"), done.stderr
    (far,) = (there.home / "docs/conversations").glob("*.md")
    near = notes / "conversations" / far.name
    text = holds(near, "echo: hello", " done ")
    near.write_text(text.replace("- [ ] **Send**", "typed on the laptop\n\n/send\n\n- [ ] **Send**"))
    holds(far, "echo: typed on the laptop")
    holds(near, "echo: typed on the laptop")


def test_what_is_typed_while_the_line_is_cut_goes_there_on_return(notes: Path, there: Sshd) -> None:
    assert run("open", str(notes), "-m", "hello").returncode == 0
    (far,) = (there.home / "docs/conversations").glob("*.md")
    near = notes / "conversations" / far.name
    text = holds(near, "echo: hello", " done ")
    there.stop()
    near.write_text(text.replace("- [ ] **Send**", "typed offline\n\n/send\n\n- [ ] **Send**"))
    there.start()
    holds(near, "echo: typed offline")


def test_a_mirror_without_a_binding(there: Sshd, home: Path) -> None:
    (home / "copies").mkdir()
    words = ("open", f"there:{there.home}/docs", "--mirror", str(home / "copies"), "-m", "hello")
    done = run(*words)
    assert (done.returncode, done.stdout) == (0, "echo: hello\n"), done.stderr
    (far,) = (there.home / "docs/conversations").glob("*.md")
    holds(home / "copies/conversations" / far.name, "echo: hello", " done ")


def test_a_mirror_is_ended_by_a_command(there: Sshd, home: Path) -> None:
    """The one that another directory there is refused for, with it as the hint; what is saved after it stays here."""
    folder = home / "copies"
    folder.mkdir()
    assert run("open", f"there:{there.home}/docs", "--mirror", str(folder), "-m", "hello").returncode == 0
    (far,) = (there.home / "docs/conversations").glob("*.md")
    near = folder / "conversations" / far.name
    text = holds(near, "echo: hello", " done ")
    (mirror,) = run_json("host", "mirrors")["mirrors"]
    assert (mirror["directory"], mirror["machine"], mirror["files"]) == (str(folder), "there", 1)
    assert f"there:{there.home}/docs" in run("host", "mirrors").stdout
    typed = f"opagent\nhost\nunmirror\n{str(folder)[:-2]}"
    assert f"plain,{folder}\n" in run(_OPAGENT_COMPLETE="bash_complete", COMP_WORDS=typed, COMP_CWORD="3").stdout
    (there.home / "plans").mkdir()
    (there.home / "plans/.agent.yaml").write_text("version: 1\nagent: echo\n")
    other = ("open", f"there:{there.home}/plans", "--mirror", str(folder), "-m", "about plans")
    refused = run(*other)
    assert refused.returncode == 1 and f"opagent host unmirror {folder}" in refused.stderr, refused
    assert not (there.home / "plans/conversations").exists(), "nothing was said there"
    done = run("host", "unmirror", str(folder))
    assert done.returncode == 0 and "its files stay" in done.stderr and "never reached" not in done.stderr, done
    near.write_text(text.replace("- [ ] **Send**", "typed after it\n\n/send\n\n- [ ] **Send**"))
    assert run(*other).returncode == 0
    for plans in (there.home / "plans/conversations").glob("*.md"):
        holds(folder / "conversations" / plans.name, "echo: about plans", " done ")
    assert "typed after it" not in far.read_text() and "typed after it" in near.read_text()
    assert run("host", "unmirror", str(folder)).returncode == 0
    again = run("host", "unmirror", str(folder))
    assert again.returncode == 4 and "is no mirror" in again.stderr and "opagent host mirrors" in again.stderr, again


def test_the_end_of_a_mirror_names_saves_that_never_went_there(there: Sshd, home: Path) -> None:
    folder = home / "copies"
    folder.mkdir()
    assert run("open", f"there:{there.home}/docs", "--mirror", str(folder), "-m", "hello").returncode == 0
    (far,) = (there.home / "docs/conversations").glob("*.md")
    near = folder / "conversations" / far.name
    text = holds(near, "echo: hello", " done ")
    there.stop()
    until(lambda: not run_json("host", "mirrors")["mirrors"][0]["connected"])
    near.write_text(text.replace("- [ ] **Send**", "typed offline\n\n- [ ] **Send**"))
    until(lambda: run_json("host", "mirrors")["mirrors"][0]["waiting"] == [str(near)])
    assert str(near) in run("host", "unmirror", str(folder)).stderr
    assert "typed offline" in near.read_text()


# ---- commands about a file of a mirror -----------------------------------------------------------------------------------


@pytest.fixture(params=["binding", "option"])
def mirror(request: pytest.FixtureRequest, there: Sshd, home: Path) -> Path:
    """A mirror with one conversation in it."""
    if request.param == "binding":
        folder: Path = request.getfixturevalue("notes")
        assert run("open", str(folder), "-m", "hello").returncode == 0
    else:
        folder = home / "copies"
        folder.mkdir()
        assert run("open", f"there:{there.home}/docs", "--mirror", str(folder), "-m", "hello").returncode == 0
    return folder


def test_commands_about_a_file_are_about_the_conversation_there(mirror: Path, there: Sshd) -> None:
    """Whatever it is called here; and what is about the directory is about the one there."""
    (far,) = (there.home / "docs/conversations").glob("*.md")
    holds(mirror / "conversations" / far.name, "echo: hello", " done ")
    near = mirror / "conversations/mine.md"
    (mirror / "conversations" / far.name).rename(near)
    ident = run("--host", "there", "conversations", "list", "-a", "--format", "ids").stdout.strip()
    wanted = {
        ("conversations", "show", str(near)): str(far),
        ("conversations", "rebuild", str(near)): str(far),
        ("conversations", "queue", str(near)): "no turns",
        ("conversations", "export", str(near)): f"exported: {ident}",
        ("wait", str(near)): ": done",
        ("send", str(near), "one"): "echo: one",
        ("open", str(near), "-m", "two"): "echo: two",
        ("open", str(mirror), "--conversation", str(near), "-m", "three"): "echo: three",
        ("open", str(mirror), "--conversation", ident, "-m", "four"): "echo: four",
        ("open", str(mirror), "--last", "-m", "five"): "echo: five",
        ("logs", str(near)): "",
        ("restart", str(near)): "echo",
        ("stop", str(mirror)): ident,
        ("conversations", "list", str(mirror)): ident,
        ("conversations", "fork", str(near)): str(far.with_name(far.stem + "-fork.md")),
    }
    for words, said in wanted.items():
        done = run(*words)
        assert done.returncode == 0 and said in done.stdout + done.stderr, (words, done)
    holds(near, "echo: one", "echo: two", "echo: three", "echo: four", "echo: five")
    assert len(list((there.home / "docs/conversations").glob("*.md"))) == 2  # the fork, and nothing was begun by mistake


def test_a_mirror_has_the_daemon_there_started_again(mirror: Path, there: Sshd) -> None:
    before = run("--host", "there", "daemon", "status").stdout.split()[1]
    done = run("--host", "there", "daemon", "stop")
    assert f"daemon {before} on there stops; the mirror in {mirror} starts one again" in done.stderr, done
    until(lambda: (found := daemon_of(str(there.home))) and str(found.pid) != before)


def test_a_draft_is_sent_as_it_was_saved_a_moment_ago(mirror: Path, there: Sshd) -> None:
    (far,) = (there.home / "docs/conversations").glob("*.md")
    near = mirror / "conversations" / far.name
    text = holds(near, "echo: hello", " done ")
    for number in range(3):
        near.write_text(text.replace("- [ ] **Send**", f"draft {number}\n\n- [ ] **Send**"))
        done = run("send", str(near))
        assert (done.returncode, done.stdout) == (0, f"echo: draft {number}\n"), done.stderr
        text = holds(near, f"echo: draft {number}", " done ")
        text = holds(near, "- [ ] **Send**")


def test_a_draft_that_cannot_go_there_is_not_sent(mirror: Path, there: Sshd) -> None:
    (far,) = (there.home / "docs/conversations").glob("*.md")
    near = mirror / "conversations" / far.name
    text = holds(near, "echo: hello", " done ")
    there.stop()
    near.write_text(text.replace("- [ ] **Send**", "offline\n\n- [ ] **Send**"))
    done = run("send", str(near))
    assert done.returncode == 7 and "there cannot be reached" in done.stderr, done


def test_a_text_in_a_mirror_that_is_no_conversation(mirror: Path) -> None:
    text = mirror / "conversations/new.md"
    text.write_text("not sent yet\n")
    for words in (
        ("conversations", "show", str(text)),
        ("send", str(text)),
        ("open", str(text), "-m", "hi"),
        ("wait", str(text)),
    ):
        done = run(*words)
        assert done.returncode == 4 and "is no conversation yet" in done.stderr and "/send" in done.stderr, done


def test_a_mirror_of_what_is_here(talk: Talk) -> None:
    (talk.directory / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    assert run("open", str(talk.directory), "--mirror", "/nowhere", "-m", "hello").returncode == 2


def test_the_daemon_there_dies_and_the_connection_stands(notes: Path, there: Sshd) -> None:
    """The mirror alone finds out: nobody types a command."""
    assert run("open", str(notes), "-m", "hello").returncode == 0
    (far,) = (there.home / "docs/conversations").glob("*.md")
    near = notes / "conversations" / far.name
    text = holds(near, "echo: hello", " done ")
    kill(daemon_of(str(there.home)))
    near.write_text(text.replace("- [ ] **Send**", "typed after it\n\n/send\n\n- [ ] **Send**"))
    holds(near, "echo: typed after it")


def test_a_binding_that_leads_to_another_place_now(notes: Path, there: Sshd, talk: Talk) -> None:
    """What is typed goes where the binding leads, and nothing of the first place goes to the second."""
    assert run("open", str(notes), "-m", "hello").returncode == 0
    (first,) = (there.home / "docs/conversations").glob("*.md")
    near = notes / "conversations" / first.name
    holds(near, "echo: hello", " done ")
    (there.home / "plans").mkdir()
    (there.home / "plans/.agent.yaml").write_text("version: 1\nagent: echo\n")
    (notes / ".agent.yaml").write_text(f"version: 1\nhost: there:{there.home}/plans\n")
    shown = talk.client.request("trust/show", {"path": str(notes)})
    talk.client.request("trust/grant", {"path": shown["path"], "digest": shown["digest"]})
    assert run("open", str(notes), "-m", "about plans").returncode == 0
    (second,) = (there.home / "plans/conversations").glob("*.md")
    mirrored = until(lambda: [path for path in near.parent.glob("*.md") if "echo: about plans" in path.read_text()])
    text = holds(mirrored[0], " done ")
    mirrored[0].write_text(text.replace("- [ ] **Send**", "typed on the laptop\n\n/send\n\n- [ ] **Send**"))
    holds(second, "echo: typed on the laptop")
    assert near.exists() and "about plans" not in near.read_text()
    assert [path.name for path in second.parent.glob("*.md")] == [second.name]
    (mirror,) = talk.client.request("mirror/list")["mirrors"]
    assert (mirror["path"], mirror["problems"]) == (f"{there.home}/plans", [])
