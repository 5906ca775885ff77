"""Agents at level strict through the real daemon: what they reach, what is protected, their .git, what is told after a turn."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from opagent import paths
from opagent.errors import NotTrusted
from opagent.process import bounds, probe, tree
from opagent.process.box import Pipes
from opagent.process.pins import Pins
from opagent.process.profile import Limits, Profile
from opagent.process.sandbox import Bwrap
from tests.doubles import runtimes
from tests.doubles.patience import until
from tests.integration.conftest import Talk

HANDS = Path(__file__).parents[1] / "doubles/hands.py"
SHELL = "import subprocess as s\nd = s.run({!r}, shell=True, stdout=s.PIPE, stderr=s.STDOUT, text=True)\nprint(d.stdout + str(d.returncode))"


class Hands:
    """An agent that runs what it is told, in a bound directory."""

    def __init__(self, talk: Talk, *, runtime: Mapping[str, Any] | None = None, **binding: Any) -> None:
        self.talk = talk
        runtimes.put("hands", sys.executable, "-I", "-S", str(HANDS), **{"state": [".cache/hands"], **(runtime or {})})
        runtimes.bind(talk.client, talk.directory, "hands", **binding)
        self.conversation = talk.create("hands")

    def python(self, text: str) -> str:
        turn = self.talk.say(self.conversation, text)
        assert turn["state"] == "done", turn
        self.turn = turn["id"]
        return "".join(each["said"] for each in json.loads(self.talk.answer(self.conversation, self.turn)))

    def shell(self, command: str) -> str:
        return self.python(SHELL.format(command)).strip()

    def notes(self) -> str:
        events = self.talk.show(self.conversation)["events"]
        return "\n".join(str(e["body"].get("text")) for e in events if e["turn"] == self.turn and e["kind"] == "note")

    def row(self) -> dict[str, Any]:
        (row,) = self.talk.client.request("process/list", {})["processes"]
        return row


def put(folder: Path, **content: str) -> None:
    for name, text in content.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def notes(talk: Talk) -> Iterator[Path]:
    assert probe.strict(), probe.strict()
    yield talk.directory


def test_it_sees_its_workspace_and_nothing_of_the_person(talk: Talk, notes: Path, home: Path) -> None:
    put(home, **{".ssh__id": "key"})
    put(notes, a="text")
    hands = Hands(talk)
    assert hands.shell("cat a").startswith("text")
    assert "No such file" in hands.shell(f"cat {home}/.ssh/id")
    seen = hands.shell(f"ls -A {home}; ls /; echo $HOME $TMPDIR; id -u; ps ax | wc -l")
    assert ".ssh" not in seen and "srv" not in seen.split() and "/home/agent /tmp" in seen
    assert hands.row()["level"] == "strict"


def test_what_it_keeps_of_its_home_outlives_it(talk: Talk, notes: Path) -> None:
    hands = Hands(talk)
    hands.shell("echo kept > ~/.cache/hands/x; echo lost > ~/y")
    talk.client.request("process/stop", {"process": hands.conversation["id"]})
    assert hands.shell("cat ~/.cache/hands/x; ls ~/y").startswith("kept\nls:")


def test_what_it_keeps_cannot_be_turned_into_something_of_the_person(talk: Talk, notes: Path, home: Path) -> None:
    mine = home / ".cache/hands"
    mine.mkdir(mode=0o700, parents=True)
    put(mine, settings="mine")
    hands = Hands(talk)
    hands.shell(f"cd $OPAGENT_STATE && rm -rf home; ln -s {home} home; cd ~/.cache && rm -rf hands; ln -s {home} hands")
    talk.client.request("process/stop", {"process": hands.conversation["id"]})
    hands.shell("echo evil > ~/.cache/hands/settings; echo evil > $OPAGENT_STATE/home/.cache/hands/settings")
    assert (mine / "settings").read_text() == "mine"


def test_it_has_a_copy_of_what_it_signs_in_with(talk: Talk, notes: Path, home: Path) -> None:
    put(home, **{".cache__hands__auth": "token", ".cache__hands__sessions__1": "another directory's", ".ssh__id": "key"})
    hands = Hands(talk, runtime={"from_home": [".cache/hands/auth"]})
    assert hands.shell("ls -A ~/.cache/hands; cat ~/.cache/hands/auth") == "auth\ntoken0"
    assert "~/.cache/hands/auth" in hands.notes() and "token" not in hands.notes()
    shown = talk.client.request("binding/explain", {"path": str(notes), "environment": dict(os.environ)})["sandbox"]
    assert shown["copies"] == [".cache/hands/auth"]
    hands.shell("echo changed > ~/.cache/hands/auth")
    assert (home / ".cache/hands/auth").read_text() == "token"
    talk.client.request("process/stop", {"process": hands.conversation["id"]})
    assert hands.shell("cat ~/.cache/hands/auth") == "changed\n0" and not hands.notes()


def test_what_a_package_of_others_names_is_not_copied(talk: Talk, notes: Path, home: Path) -> None:
    put(home, **{".cache__hands__auth": "token", ".config__gh__hosts.yml": "token"})
    hands = Hands(
        talk, runtime={"state": [".cache/hands", ".config"], "from_home": [".cache/hands/auth", ".config/gh", ".config"]}
    )
    assert hands.shell("ls -A ~/.cache/hands ~/.config").split() == [
        "/home/agent/.cache/hands:",
        "auth",
        "/home/agent/.config:",
        "0",
    ]
    talk.client.request("process/stop", {"process": hands.conversation["id"]})
    paths.runtime_directories()[1].parent.mkdir(parents=True, exist_ok=True)
    paths.runtime_directories()[0].rename(paths.runtime_directories()[1])
    for kept in paths.state().glob("agents/*.home"):
        shutil.rmtree(kept)
    assert hands.shell("ls -A ~/.cache/hands") == "0"


def test_its_limits_are_those_of_the_binding_and_cannot_be_raised(talk: Talk, notes: Path) -> None:
    hands = Hands(talk, limits={"processes": 40, "memory": "1G", "file": "8M", "files": 100})
    said = hands.python(
        "import resource, json\n"
        "kinds = [resource.RLIMIT_NPROC, resource.RLIMIT_DATA, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_CORE]\n"
        "print(json.dumps([resource.getrlimit(kind) for kind in kinds]))\n"
        "for kind in kinds:\n"
        "    try:\n        resource.setrlimit(kind, (10**10, 10**10)); print('RAISED')\n"
        "    except (OSError, ValueError): pass"
    )
    assert json.loads(said) == [[40, 40], [1 << 30, 1 << 30], [8 << 20, 8 << 20], [100, 100], [0, 0]]


def test_it_has_no_descriptor_of_ours_and_small_files_of_the_system(talk: Talk, notes: Path) -> None:
    hands = Hands(talk)
    fds = hands.python(
        "import os\nprint(*sorted(fd for fd in os.listdir('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{fd}')))"
    )
    assert set(fds.split()) <= {"0", "1", "2"}
    said = hands.shell("cat /etc/passwd /etc/group | sha256sum; umask; echo x >> /etc/passwd; rm /etc/hosts")
    digest, umask, *_ = said.splitlines()
    ours = hashlib.sha256(Path("/etc/passwd").read_bytes() + Path("/etc/group").read_bytes()).hexdigest()
    assert digest.split()[0] == ours and umask == "0077"
    assert said.count("Read-only file system") == 2


PIPES = """
import os, sys
from opagent.process import sandbox
from opagent.process.box import Pipes
from opagent.process.profile import Profile
if sys.argv[2] == "aside":
    sandbox.spare = lambda: ()
print(len(sandbox.spare()))
before = sorted(os.listdir("/proc/self/fd"))
(theirs, stdin), (stdout, write), null = os.pipe(), os.pipe(), os.open(os.devnull, os.O_RDWR)
script = 'read -r line; echo "$line"; exec <&- >&-; exec sleep 600'
env = {"PATH": "/usr/bin:/bin", "OPAGENT_TEST_ID": os.environ["OPAGENT_TEST_ID"]}
started = sandbox.Bwrap(Profile(sys.argv[1])).start(("/bin/sh", "-c", script), env, sys.argv[1], Pipes(theirs, write, null))
os.close(theirs)
os.close(write)
os.write(stdin, b"hello\\n")
print(os.read(stdout, 100), os.read(stdout, 100))
try:
    os.write(stdin, b"more")
except BrokenPipeError:
    print("nobody reads", started.popen.poll())
started.popen.kill()
started.popen.wait()
for fd in (stdin, stdout, null, started.status):
    os.close(fd)
print(sorted(os.listdir("/proc/self/fd")) == before)
"""


@pytest.mark.parametrize(("way", "ours"), [("aside", 0), ("ours", 2)])
def test_nobody_but_the_program_holds_its_pipes(home: Path, way: str, ours: int) -> None:
    done = subprocess.run([sys.executable, "-c", PIPES, str(home), way], capture_output=True, text=True, check=True)
    assert done.stdout == f"{ours}\nb'hello\\n' b''\nnobody reads None\nTrue\n"


@pytest.mark.parametrize("nested", [True, False])
def test_without_the_first_options_nothing_is_started(home: Path, monkeypatch: pytest.MonkeyPatch, nested: bool) -> None:
    """As when the daemon dies before it has set the limits."""

    def died(pid: int, held: Limits) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(bounds, "put", died)
    said, null = os.memfd_create("said"), os.open(os.devnull, os.O_RDWR)
    env = {"PATH": "/usr/bin:/bin", "OPAGENT_TEST_ID": os.environ["OPAGENT_TEST_ID"]}
    started = Bwrap(Profile(str(home), nested=nested)).start(("/usr/bin/touch", "x"), env, str(home), Pipes(null, null, said))
    assert started.popen.wait() and not (home / "x").exists()
    assert os.pread(said, 4096, 0).startswith(b"bwrap: ")
    for fd in (said, null, started.status):
        os.close(fd)


@pytest.mark.parametrize(
    "name", [".agent.yaml", "conversations/x.md", ".opagent/x", ".envrc", "sub/.vscode/settings.json", ".git/hooks/x"]
)
def test_protected_names_cannot_be_written(talk: Talk, notes: Path, name: str) -> None:
    put(notes, **{".envrc": "old", "sub__.vscode__settings.json": "{}"})
    git(notes, "init", "-q")
    hands = Hands(talk)
    assert "Read-only file system" in hands.shell(f"echo evil >> {name}")
    assert "evil" not in (notes / ".envrc").read_text()


def test_what_was_trusted_is_what_it_sees_until_it_is_asked_about_again(talk: Talk, notes: Path) -> None:
    put(notes, **{".mcp.json": "{}", ".claude__settings": "old", ".claude__hooks__run": "#!/bin/sh\necho old", "plain": "old"})
    (notes / ".claude/hooks/run").chmod(0o755)
    (notes / ".claude/too").symlink_to("settings")
    hands = Hands(talk, runtime={"runs": [".mcp.json", ".claude", "plain"]}, can={"read": {"deny": [".claude/secret"]}})
    look = "cat .mcp.json .claude/settings .claude/too plain; .claude/hooks/run; ls -A .claude .claude/hooks"
    before = "{}oldoldoldold\n.claude:\nhooks\nsettings\ntoo\n\n.claude/hooks:\nrun\n0"
    assert hands.shell(look) == before
    assert "Read-only" in hands.shell("echo evil > .claude/settings") and "Read-only" in hands.shell("echo evil > .claude/new")
    shown = talk.client.request("binding/explain", {"path": str(notes), "environment": dict(os.environ)})["sandbox"]
    assert {".mcp.json", ".claude", ".claude/settings"} <= set(shown["fixed"]) and "plain" not in shown["fixed"]
    put(notes, **{".claude__new": "new", ".claude__hooks__run": "#!/bin/sh\necho new", "plain": "new", ".claude__swapped": "new"})
    (notes / ".claude/swapped").rename(notes / ".claude/settings")
    (notes / ".mcp.json").write_text('{"evil": 1}')
    assert hands.shell(look) == before.replace("{}oldoldold", "{}oldoldnew")
    talk.client.request("process/stop", {"process": hands.conversation["id"]})
    turn = talk.say(hands.conversation, "print(1)")
    assert turn["state"] == "failed" and turn["reason"] == "not_trusted"


@pytest.mark.parametrize("swap", ["content", "gone", "link", "pipe", "above"])
def test_a_swap_between_the_look_and_the_launch_starts_nothing(home: Path, swap: str) -> None:
    put(home, **{".claude__settings": "good", "evil": "evil", "elsewhere__settings": "evil"})
    place = home / ".claude/settings"
    profile = Profile(
        str(home), protected=(".claude",), whole=(".claude",),
        verified=((".claude/settings", hashlib.sha256(b"good").hexdigest()),),
    )  # fmt: skip
    Pins(profile).close()
    if swap == "above":
        (home / ".claude").rename(home / "old")
        (home / ".claude").symlink_to("elsewhere")
    else:
        place.unlink()
        {
            "content": lambda: place.write_text("evil"), "gone": lambda: None, "link": lambda: place.symlink_to("../evil"),
            "pipe": lambda: os.mkfifo(place),
        }[swap]()  # fmt: skip
    with pytest.raises((NotTrusted, OSError)):
        Pins(profile)


def test_a_link_is_left_and_what_it_leads_to_is_protected(talk: Talk, notes: Path) -> None:
    put(notes, real="old")
    (notes / ".envrc").symlink_to("real")
    (notes / ".bashrc").symlink_to("/nix/none")  # a dangling one must not keep the agent from starting
    assert "Read-only" in Hands(talk).shell("echo evil >> real")


def test_rules_are_mounts(talk: Talk, notes: Path) -> None:
    put(
        notes, **{".env": "secret", "sub__.env.local": "secret", "secrets__k": "secret", "docs__a": "a", "b.md": "b", "c.py": "c"}
    )
    can = {"read": {"deny": ["**/.env*", "secrets/"]}, "write": {"allow": ["docs/", "*.md"], "default": "deny"}}
    hands = Hands(talk, can=can)
    assert hands.shell("cat .env sub/.env.local secrets/k; ls secrets").count("Permission denied") == 4
    assert hands.shell("echo x >> docs/a; echo x > docs/new; echo x >> b.md").endswith("0")
    assert "Read-only" in hands.shell("echo x >> c.py") and "Read-only" in hands.shell("echo x > new.md")
    shown = talk.client.request("binding/explain", {"path": str(notes), "environment": dict(os.environ)})["sandbox"]
    assert (
        shown["hidden"] == [".env", "secrets", "sub/.env.local"] and shown["read_only"] and shown["writable"] == ["b.md", "docs"]
    )


def test_a_hard_link_out_of_the_workspace_is_read_only(talk: Talk, notes: Path, home: Path) -> None:
    put(home, outside="mine")
    os.link(home / "outside", notes / "inside")
    assert "Read-only" in Hands(talk).shell("echo evil >> inside")
    assert (home / "outside").read_text() == "mine"


def test_no_network_no_namespaces_no_trace_of_the_daemon(talk: Talk, notes: Path) -> None:
    hands = Hands(talk)
    said = hands.python(
        "import socket, os\n"
        "for what in (lambda: socket.create_connection(('127.0.0.1', 22), 2), lambda: os.unshare(0x10000000) if hasattr(os, 'unshare') else 1/0,\n"
        f"             lambda: socket.socket(socket.AF_UNIX).connect({str(paths.socket())!r}), lambda: socket.socket(40, 1)):\n"
        "    try:\n        what(); print('WORKED')\n    except (OSError, ZeroDivisionError) as error: print(type(error).__name__)"
    )
    assert "WORKED" not in said


def test_an_agent_commits_branches_and_merges_and_the_person_has_it(talk: Talk, notes: Path) -> None:
    git(notes, "init", "-q", "-b", "main")
    git(notes, "config", "user.name", "n")
    git(notes, "config", "user.email", "n@example.org")
    put(notes, a="one\n")
    git(notes, "add", "a")
    git(notes, "commit", "-qm", "one")
    hands = Hands(talk)
    said = hands.shell(
        "echo two >> a; git commit -qam two && git checkout -qb topic && echo t > t && git add t && git commit -qm topic"
        " && git checkout -q main && git merge -q topic && git checkout -q topic && echo z >> a && git commit -qam three"
        " && git rebase -q main && git checkout -q main"
    )
    assert said == "0"
    assert git(notes, "log", "--format=%s", "-1") == "topic" and git(notes, "status", "--short", "-uno") == ""
    assert "\n0" not in hands.shell("git config a.b c") and "\n0" not in hands.shell("echo x > .git/hooks/post-commit")
    hands.shell("echo ../evil > .git/commondir; git status; rm .git/commondir")

    put(notes, b="mine")
    git(notes, "add", "b")
    git(notes, "commit", "-qm", "by the person")
    assert hands.shell("git log --format=%s -1; git status --short -uno").startswith("by the person\n")


def test_a_repository_in_the_index_is_not_given_back(talk: Talk, notes: Path) -> None:
    git(notes, "init", "-q", "-b", "main")
    hands = Hands(talk)
    hands.shell(
        "git init -q evil; cd evil; echo x > x; git add x; git -c user.name=a -c user.email=b commit -qm x; cd ..; git add evil"
    )
    assert "another repository" in hands.notes() and "evil" in hands.notes()
    assert "160000" not in git(notes, "ls-files", "-s")


def test_files_that_run_by_themselves_are_told(talk: Talk, notes: Path) -> None:
    put(notes, **{"package.json": json.dumps({"scripts": {"test": "true"}})})
    hands = Hands(talk)
    hands.shell("echo hello > a.txt")
    assert hands.notes() == ""
    hands.shell("mkdir sub; touch sub/.agent.yaml conftest.py x.pth; sed -i s/true/false/ package.json")
    assert "sub/.agent.yaml" in hands.notes() and "not trusted" in hands.notes()
    assert all(name in hands.notes() for name in ("conftest.py", "x.pth", "package.json")) and "runs by itself" in hands.notes()


def test_a_hidden_file_that_is_replaced_here_ends_the_agent(talk: Talk, notes: Path) -> None:
    put(notes, **{".env": "old"})
    hands = Hands(talk, can={"read": {"deny": [".env"]}})
    turn = talk.start(hands.conversation, "import time\nopen('begun', 'w')\ntime.sleep(600)")
    until((notes / "begun").exists)
    put(notes, new="secret")
    os.replace(notes / "new", notes / ".env")
    ended = talk.ended(hands.conversation, turn["id"])
    assert ended["state"] == "interrupted"
    assert "hidden" in json.dumps(talk.show(hands.conversation)["events"])
    assert "Permission denied" in hands.shell("cat .env")


def test_a_protected_file_that_is_replaced_here_is_protected_again(talk: Talk, notes: Path) -> None:
    put(notes, **{".envrc": "old"})
    hands = Hands(talk)
    first = hands.row()["id"] if hands.shell("true") else ""
    put(notes, new="new")
    os.replace(notes / "new", notes / ".envrc")
    hands.shell("true")
    assert "Read-only" in hands.shell("echo evil >> .envrc") and hands.row()["id"] != first


def test_the_exit_is_the_agents_own(talk: Talk, notes: Path) -> None:
    hands = Hands(talk, supervise={"restart": "never"})
    ended = talk.say(hands.conversation, "import os; os._exit(41)")
    assert ended["state"] == "interrupted" and "exit status 41" in json.dumps(talk.show(hands.conversation)["events"])
    ended = talk.say(hands.conversation, "import os; os.kill(os.getpid(), 9)")
    assert "signal 9" in json.dumps(talk.show(hands.conversation)["events"])


def test_the_pid_is_the_agents_and_its_end_ends_everything(talk: Talk, notes: Path) -> None:
    hands = Hands(talk)
    hands.python("import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)")
    pid = hands.row()["pid"]
    assert "hands.py" in Path(f"/proc/{pid}/cmdline").read_text() and hands.row()["processes"] == 2
    below = [row.pid for row in tree.processes().values() if row.parent == pid]
    os.kill(pid, signal.SIGKILL)
    until(lambda: all(tree.start_time(each) is None for each in (pid, *below)))


def test_off_is_the_users_own_word(talk: Talk, notes: Path, home: Path) -> None:
    put(home, outside="mine")
    paths.user_config().parent.mkdir(parents=True, exist_ok=True)
    paths.user_config().write_text("version: 1\nsandbox: {level: off}\n")
    hands = Hands(talk)
    assert hands.shell(f"cat {home}/outside").startswith("mine") and hands.row()["level"] == "off"


def test_what_an_agent_committed_before_it_crashed_is_given_back(talk: Talk, notes: Path) -> None:
    git(notes, "init", "-q", "-b", "main")
    put(notes, a="one\n")
    git(notes, "add", "a")
    git(notes, "commit", "-qm", "one")
    hands = Hands(talk, supervise={"restart": "never"})
    words = "git -c user.name=a -c user.email=a@example.org"
    talk.say(
        hands.conversation,
        SHELL.format(f"echo two >> a; {words} commit -qam two; git checkout -qb topic") + "\nimport os; os._exit(3)",
    )
    assert git(notes, "rev-parse", "--abbrev-ref", "HEAD") == "topic" and git(notes, "status", "--short", "-uno") == ""


def test_an_agent_that_closed_its_output_is_noticed(talk: Talk, notes: Path) -> None:
    ended = talk.say(Hands(talk).conversation, "import os, time\nos.close(1)\ntime.sleep(600)")
    assert ended["state"] == "interrupted"
