"""Another machine whose daemon wishes us ill: it learns nothing of this one, and nothing that it says acts here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from opagent import files, paths
from tests.doubles import far_daemon
from tests.doubles.daemons import end_all
from tests.doubles.far_daemon import CONVERSATION, DONE, JOINED, STARTED, Far, event
from tests.doubles.terminal import Terminal, run

_SECRET = "correct-horse-battery-staple"
_EVIL = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"
_ACTS = {"\x1b", "\x07", "\u202e", "\x9b"}


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    with far_daemon.far(home.parent / "far.sock") as found:
        monkeypatch.setenv("FAKE_FAR", str(found.path))
        yield found
        end_all()


def _run(*words: str, **more: Any) -> CompletedProcess[str]:
    return run(*words, fake=True, **more)


_EVERY = [
    ("open", "there:/srv/docs", "-m", "hello"),
    ("send", "there:/srv/docs", "hello"),
    ("send", "k7q2", "hello"),
    ("send", "there:/srv/docs/conversations/a.md"),
    ("wait", "k7q2"),
    ("explain", "there:/srv/docs"),
    ("trust", "--show", "there:/srv/docs"),
    ("trust", "--revoke", "there:/srv/docs"),
    ("conversations", "list"),
    ("conversations", "show", "k7q2"),
    ("conversations", "new", "there:/srv/docs"),
    ("conversations", "export", "k7q2"),
    ("init", "there:/srv/docs"),
    ("ps", "-a"),
    ("logs", "x3k9"),
    ("approvals",),
    ("allow", "p5t2w"),
    ("doctor",),
    ("daemon", "status"),
    ("daemon", "start"),
]


def test_nothing_of_this_machine_goes_there(there: Far, home: Path) -> None:
    (home / "private plans").mkdir()
    there.after["workspace/join"] = there.after["turn/start"] = [DONE]
    for words in _EVERY:
        words = words if any(word.startswith("there:") for word in words) else ("--host", "there", *words)
        _run(*words, cwd=home / "private plans", MY_TOKEN=_SECRET)
    assert {message["method"] for message in there.heard} >= {"hello", "workspace/join", "binding/explain", "process/list"}
    for word in (_SECRET, "MY_TOKEN", str(home), home.parent.name, "private plans"):
        assert word not in there.wire
    assert all(not message["params"].get("environment") for message in there.heard)


def test_no_text_of_it_acts_on_the_terminal(there: Far) -> None:
    error = {"code": "not_trusted", "message": _EVIL, "why": _EVIL, "hint": f"opagent trust /srv/{_EVIL}", "exit": 6}
    shown = CONVERSATION | dict.fromkeys(("id", "title", "agent", "path", "workspace", "state"), _EVIL)
    row = {"id": _EVIL, "agent": _EVIL, "state": _EVIL, "uptime": 1, "workspace": _EVIL, "conversation": _EVIL}
    there.answers |= {
        "conversation/list": lambda params: {"conversations": [shown]},
        "conversation/show": lambda params: {"conversation": shown, "turns": [], "events": []},
        "process/list": lambda params: {"processes": [row]},
        "process/logs": lambda params: {"process": "x", "path": _EVIL, "text": _EVIL, "size": 1},
        "daemon/status": lambda params: {"pid": _EVIL, "version": _EVIL, "socket": _EVIL},
        "daemon/doctor": lambda params: {"checks": [{"ok": False, **dict.fromkeys(("name", "sentence", "hint"), _EVIL)}]},
        "trust/show": lambda params: {"path": _EVIL, "state": "unneeded", "digest": "d", "question": [_EVIL]},
        "workspace/join": lambda params: {
            **JOINED,
            **STARTED,
            "workspace": {"notices": [_EVIL]},
            "conversation": shown | {"id": "k"},
        },
    }
    there.after["workspace/join"] = [event(1, kind, {"text": _EVIL, "title": _EVIL, "id": _EVIL, "state": _EVIL, "sentence": _EVIL},
                                           conversation="k") for kind in ("text", "note", "tool_call", "agent_state")] + [
                                     event(9, "turn_state", {"state": "failed", "sentence": _EVIL, "hint": _EVIL}, conversation="k")]  # fmt: skip
    for words in _EVERY:
        done = _run(*(words if any(word.startswith("there:") for word in words) else ("--host", "there", *words)))
        assert not _ACTS & set(done.stdout + done.stderr), words
    there.refuses("workspace/join", {"code": -32000, "message": _EVIL, "data": error})
    done = _run("open", "there:/srv/docs", "-m", "hi")
    assert done.returncode == 6
    assert not _ACTS & set(done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"code": "host_unreachable", "message": "m", "why": "", "hint": "", "exit": 0}, 7),
        ({"code": "made up", "message": "m", "why": "", "hint": "", "exit": 0}, 1),
        ({"code": ["x"], "message": {"a": 1}, "why": 7, "hint": None, "exit": -1}, 1),
        ({"code": "bug", "exit": 999}, 70),
        ("no object", 1),
    ],
)
def test_the_exit_code_is_ours(there: Far, data: Any, code: int) -> None:
    there.refuses("workspace/join", {"code": 10**30, "message": "m", "data": data})
    assert _run("open", "there:/srv/docs", "-m", "hi").returncode == code


@pytest.mark.parametrize(
    "hint", ["opagent ps; touch owned", "opagent trust /a$(touch owned)", "opagent --host bank daemon stop", "touch owned"]
)
def test_a_hint_of_it_is_about_it_alone(there: Far, home: Path, hint: str) -> None:
    error = {"code": "error", "message": "m", "why": "", "hint": hint, "exit": 1}
    there.refuses("workspace/join", {"code": -32000, "message": "m", "data": error})
    done = _run("open", "there:/srv/docs", "-m", "hi", "--json")
    said = json.loads(done.stdout.splitlines()[-1])["error"]["hint"]
    assert said.startswith(("on there: ", "opagent --host there ", "opagent trust 'there:"))


def test_the_shell_is_offered_ids_only(there: Far) -> None:
    """What it puts on the line a person runs with the next Enter."""
    bad = ["$(touch x)", "`x`", "a b", "x;y", "-rf", "a\nplain,b", "", "../x", "A" * 9, "x" * 80, _EVIL, None, 7]
    rows = [{"id": ident, "title": f"one\nplain,two{_EVIL}"} for ident in [*bad, "k7q2-m4x8p3"]]
    there.answers["conversation/list"] = lambda params: {"conversations": rows}
    there.answers["process/list"] = lambda params: {"processes": [*rows, "no row"]}
    files.private_directory(paths.machine_socket("there").parent)
    paths.machine_socket("there").symlink_to(there.path)
    for shell, shown in (("bash", "plain,k7q2-m4x8p3"), ("zsh", "plain\nk7q2-m4x8p3\noneplain,two"), ("fish", "k7q2-m4x8p3")):
        words = {"COMP_WORDS": "opagent --host there wait ", "COMP_CWORD": "4" if shell != "fish" else ""}
        said = _run(_OPAGENT_COMPLETE=f"{shell}_complete", **words).stdout
        assert shown in said and "touch" not in said and not _ACTS & set(said), (shell, said)
        assert not {"a", "7", "plain,b", "plain,two", "plain,-rf", "plain,x;y"} & set(said.splitlines()), (shell, said)
    there.answers["conversation/list"] = lambda params: None  # it never answers
    said = _run(_OPAGENT_COMPLETE="bash_complete", COMP_WORDS="opagent --host there wait ", COMP_CWORD="4").stdout
    assert said == "file,\n"  # the shell's own files: what follows may be one


def test_it_asks_nobody_anything(there: Far) -> None:
    question = {
        "jsonrpc": "2.0",
        "method": "question",
        "params": {"id": "1", "kind": "password", "text": "Password: ", "secret": True},
    }
    link = {"jsonrpc": "2.0", "method": "link", "params": {"machine": "there", "phase": "lost", "text": "come back"}}
    there.after["hello"] = [question, link]
    there.after["workspace/join"] = [question, link, event(1, "text", {"text": "hi"}), DONE]
    terminal = Terminal("open", "there:/srv/docs", "-m", "hi", fake=True)
    assert terminal.end() == 0
    assert "Password" not in terminal.text
    assert "lost" not in terminal.text
    assert all(message["method"] != "question/answer" for message in there.heard)


def test_it_leads_nowhere_else(there: Far) -> None:
    there.answers["workspace/join"] = lambda params: {"elsewhere": "bank:/vault"}
    done = _run("open", "there:/srv/docs", "-m", "hi")
    assert done.returncode == 2
    assert [message["method"] for message in there.heard] == ["hello", "workspace/join"]


def test_no_file_here_is_read_because_it_says_so(there: Far, home: Path) -> None:
    private = home / "private.md"
    private.write_text(f"---\nopagent: 1\nconversation: k7q2-m4x8p3\n---\n{_SECRET}\n")
    shown = CONVERSATION | {"path": str(private), "workspace": str(home)}
    text = "---\nopagent: 1\nconversation: k7q2-m4x8p3\n---\nof there\n"
    there.answers |= {
        "conversation/show": lambda params: {"conversation": shown, "turns": [], "events": []},
        "conversation/text": lambda params: {"path": str(private), "text": text},
        "process/logs": lambda params: {"process": "x", "path": str(private), "text": "a log\n", "size": 6},
        "workspace/join": lambda params: {**JOINED, "conversation": shown, "workspace": {"workspace": str(home)}},
        "events/subscribe": lambda params: {"after": 0},
        "approval/list": lambda params: {"approvals": []},
    }
    said = [_run("--host", "there", "conversations", "export", "k7q2"), _run("--host", "there", "logs", "x")]
    assert all(_SECRET not in done.stdout + done.stderr for done in said)
    terminal = Terminal("open", "there:/srv/docs", fake=True, EDITOR="cat")
    terminal.expect("›")
    terminal.type("/open-file\r")
    terminal.expect("it lies on there")
    terminal.type("@priv\t")
    terminal.type("\x15/quit\r")
    assert terminal.end() == 0
    assert _SECRET not in terminal.text
    assert "private.md" not in terminal.text.replace(str(private), "")


def test_init_writes_nothing_here(there: Far, home: Path) -> None:
    folder = home / "same name"
    folder.mkdir()
    there.answers["binding/create"] = lambda params: {"binding": f"{folder}/.agent.yaml"}
    assert _run("init", f"there:{folder}").returncode == 0
    assert list(folder.iterdir()) == []


def test_answers_that_never_come(there: Far) -> None:
    there.answers["process/list"] = lambda params: None
    done = _run("--host", "there", "ps", "--timeout", "1s")
    assert done.returncode == 3
    assert "try: opagent --host there daemon status\n" in done.stderr


@pytest.mark.parametrize(
    "bad",
    [
        event(1, "text", ["no", "object"]),
        event(1, "text", {}, seq="many"),
        event(1, "text", {}, conversation=None) | {"params": {"kind": "text"}},
        b"\xff\xfe no json\n",
        b"[" * 100_000 + b"\n",
        b"x" * (17 * 2**20),
    ],
    ids=["body", "seq", "fields", "bytes", "brackets", "endless"],
)
def test_what_is_no_message_is_one_error(there: Far, bad: Any) -> None:
    there.after["workspace/join"] = [bad]
    done = _run("open", "there:/srv/docs", "-m", "hi", "--json")
    assert (done.returncode, json.loads(done.stdout.splitlines()[-1])["error"]["code"]) == (1, "protocol_mismatch"), done.stdout


def test_an_answer_that_lacks_what_was_asked_for(there: Far) -> None:
    for words in (("ps",), ("approvals",), ("conversations", "list"), ("explain", "there:/x"), ("logs", "x"), ("doctor",)):
        words = words if len(words) > 1 and words[1] == "there:/x" else ("--host", "there", *words)
        done = _run(*words)
        assert done.returncode == 1, words
        assert "error: the daemon there left something out" in done.stderr


def test_old_and_foreign_events_are_not_shown(there: Far) -> None:
    first = event(1, "text", {"text": "once"})
    other = event(2, "text", {"text": "other"}, conversation="zzzz-zzzzzz")
    flood: list[Any] = [{"jsonrpc": "2.0", "method": f"noise{number}", "params": {}} for number in range(5000)]
    there.after["workspace/join"] = [first, first, event(0, "text", {"text": "old"}), other, *flood, DONE]
    done = _run("open", "there:/srv/docs", "-m", "hi")
    assert (done.returncode, done.stdout) == (0, "once\n")


def test_another_greeting_is_refused(there: Far) -> None:
    there.greeting = {"opagent": {"version": _EVIL, "protocol": [90, 91], "host": _EVIL, "daemon": 1, "boot": "b"}}
    done = _run("open", "there:/srv/docs", "-m", "hi")
    assert done.returncode == 1
    assert "try: " in done.stderr
    assert not _ACTS & set(done.stderr)
