"""The one line of stage 0 under every login shell, and what start-up files do to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from opagent.errors import HostRefused, HostUnfit
from opagent.remote import marks
from opagent.remote.bootstrap import Landed, Wanted, bootstrap
from opagent.remote.payload import payload
from opagent.remote.portable import pack
from opagent.remote.pythons import push_python
from opagent.remote.seam import Connection, Phase
from tests.doubles.account import NEEDS_ROOT, NUMBER, account
from tests.doubles.dialing import connected
from tests.doubles.local_shell import PYTHONS, LocalShell, machine, on
from tests.doubles.portable import wrapper
from tests.doubles.small_payload import small

SHELLS = {
    "bash": ("bash", "-c"),
    "dash": ("dash", "-c"),
    "zsh": ("zsh", "-c"),
    "ksh93": ("ksh93", "-c"),
    "mksh": ("mksh", "-c"),
    "yash": ("yash", "-c"),
    "busybox": ("busybox", "sh", "-c"),
    "rbash": ("rbash", "-c"),
    "fish": ("fish", "-c"),
    "tcsh": ("tcsh", "-c"),
    "csh": ("csh", "-c"),
    "rc": ("rc", "-c"),
    "xonsh": ("xonsh", "-c"),
}


def quiet(_: Phase) -> None:
    pass


async def echoes(landed: Landed) -> bytes:
    """What comes back of every byte there is."""
    sent = bytes(range(256)) * 40
    await landed.stream.write(sent)
    back = b""
    while len(back) < len(sent):
        back += await landed.stream.read()
    assert back == sent
    return back


async def lands(connection: LocalShell, **wanted: str) -> Landed:
    payload = small(100_000)
    landed = await bootstrap(connection, payload, quiet, wanted=Wanted(**wanted))
    await echoes(landed)
    again = await bootstrap(connection, payload, quiet, remembered=landed.facts)
    assert again.facts.base == landed.facts.base
    return landed


@pytest.mark.parametrize("name", SHELLS)
def test_login_shells(name: str, home: Path) -> None:
    on(machine(home, LANG="C"), lambda connection: lands(connection, verb="check"), shell=SHELLS[name])


@pytest.mark.parametrize("name", ["bash", "busybox", "ksh93", "mksh", "yash", "zsh"])
def test_what_is_called_sh_on_other_systems(name: str, home: Path) -> None:
    """Here that is dash. Also for a Python that we put there: it is looked at before it is started."""
    folder = home / "bin"
    folder.mkdir()
    (folder / "sh").symlink_to(str(shutil.which(name)))
    there = machine(home, PATH=f"{folder}:{PYTHONS}")
    pack(wrapper(home / "python"), home / "python.tar.gz")

    async def work(connection: LocalShell) -> list[str]:
        python = await push_python(connection, home / "python.tar.gz", quiet, "gpu1")
        await lands(connection)
        await lands(connection, python=python)
        Path(python).write_text(f"#!/bin/sh\n: >{home}/started\n")
        await lands(connection, python=python)
        assert (home / "started").exists()
        return connection.lines

    lines = on(there, work, shell=(str(folder / "sh"), "-c"))
    assert {line.split()[0] for line in lines} == {"sh"}


def test_the_line_has_nothing_that_a_shell_would_take_apart(home: Path) -> None:
    async def work(connection: LocalShell) -> None:
        await lands(connection, python="/opt/an odd/python3")

    connection_lines: list[str] = []

    async def kept(connection: LocalShell) -> None:
        await work(connection)
        connection_lines.extend(connection.lines)

    on(machine(home), kept)
    for line in connection_lines:
        inner = line.removeprefix("sh -c '").removesuffix("'")
        assert line == f"sh -c '{inner}'"
        assert not set(inner) & set("'!\\\n`")
        assert "${" not in inner
        assert len(line) < 6500


STARTS = {
    "text": "echo hello; printf 'fastfetch \\033[31m'; printf 'no newline'",
    "a megabyte": "head -c 1000000 /dev/zero | tr '\\0' x; echo",
    "binary": "head -c 3000 /dev/urandom; printf '\\n\\036OPA1 bogus {\"ok\":{}}\\n\\036OPA1 \\n'",
    "a marker of another": "printf '\\nOPA1 0123456789abcdef {\"ok\": {}}\\nOPA1 none\\n'",
    "reads standard input": "read -t 0.2 x; echo got $x",
    "sleeps": "sleep 1",
    "a trap": "trap 'echo bye' EXIT",
    "functions": "sh() { echo hijacked; }; python3() { echo hijacked; }; export -f python3; command() { echo no; }; export -f command",
    "an alias": "shopt -s expand_aliases; alias sh=false python3=false",
    "errors": "set -e; set -u; true",
    "everybody may write": "umask 0000",
    "nobody may read": "umask 0777",
    "poisoned imports": "export PYTHONPATH=$HOME/poison PYTHONHOME=/nonexistent PYTHONSTARTUP=/x PYTHONSAFEPATH=",
    "no PATH": "export PATH=",
    "unset PATH": "unset PATH",
    "language": "export LC_ALL=C LANG=tlh; printf 'h\\303\\251llo\\n'",
    "limits": "ulimit -v 400000; ulimit -n 64; ulimit -u 4000 2>/dev/null",
    "traced": "set -x",
    "options": "set -o posix; set -f; IFS=:",
    "noise on stderr": "exec 2>&1; echo to stderr >&2; set -v",
}


@pytest.mark.parametrize("name", STARTS)
def test_start_up_files(name: str, home: Path) -> None:
    there = started_with(home, STARTS[name])
    poison = Path(there["HOME"]) / "poison"
    poison.mkdir()
    for stolen in ("socket", "json", "os", "opagent"):
        (poison / f"{stolen}.py").write_text("raise SystemExit('poison')\n")
    on(there, lands, shell=("/bin/bash", "-c"))


@pytest.mark.parametrize("name", ["unset PATH", "no PATH", "limits", "everybody may write"])
def test_a_daemon_starts_all_the_same(name: str, home: Path) -> None:
    there = started_with(home, STARTS[name])

    async def work(connection: LocalShell) -> Landed:
        return await bootstrap(connection, payload(), quiet, wanted=Wanted("gpu1"))

    facts = on(there, work, shell=("/bin/bash", "-c")).facts
    assert facts.started and os.path.isfile(facts.python)
    assert [path for path in Path(there["HOME"]).rglob("*") if _others_write(path)] == []


def _others_write(path: Path) -> bool:
    """A temporary name may be gone by now."""
    with contextlib.suppress(FileNotFoundError):
        return not path.is_symlink() and bool(path.stat().st_mode & 0o022)
    return False


def started_with(home: Path, text: str) -> dict[str, str]:
    """A machine whose bash reads this first: as under sshd where it is built so, else by BASH_ENV."""
    there = machine(home)
    rc = Path(there["HOME"]) / ".bashrc"
    rc.write_text(text + "\n")
    return there | {"BASH_ENV": str(rc)}


RC_FILES = {
    "zsh": (".zshenv", "print -n hello; function sh { print hijacked }; alias sh=false; setopt noclobber nomatch"),
    "fish": (".config/fish/config.fish", "echo -n hello\nfunction sh\necho hijacked\nend\nset -gx PYTHONPATH $HOME/poison\n"),
    "tcsh": (".tcshrc", 'echo hello; alias sh "echo hijacked"; set noclobber'),
    "csh": (".cshrc", 'echo hello; alias sh "echo hijacked"; set noclobber'),
}


@pytest.mark.parametrize("name", RC_FILES)
def test_start_up_files_of_other_shells(name: str, home: Path) -> None:
    """Each says something, and has something else by the name of `sh`; then the other one is taken, once."""
    file, text = RC_FILES[name]
    there = machine(home)
    path = Path(there["HOME"], file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")

    async def work(connection: LocalShell) -> list[str]:
        await echoes(await bootstrap(connection, small(), quiet))
        return connection.lines

    assert [line.split()[0] for line in on(there, work, shell=SHELLS[name])] == ["sh", "/bin/sh"]


@NEEDS_ROOT
@pytest.mark.parametrize("name", ["bash", "zsh", "fish", "tcsh", "rc"])
def test_a_login_shell_behind_a_real_server(home: Path, name: str) -> None:
    """With start-up files as sshd has them read: bash's own too, where it is built so."""
    noise = {**RC_FILES, "bash": (".bashrc", STARTS["binary"] + "\n" + STARTS["a marker of another"])}
    with account(home.parent / "there", shell=str(shutil.which(name))) as server:
        file, text = noise.get(name, (".rcrc", "echo hello"))
        path = server.home / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        subprocess.run(["chown", "-R", f"{NUMBER}:{NUMBER}", server.home], check=True)

        async def work(connection: Connection) -> str:
            landed = await bootstrap(connection, small(), quiet)
            await echoes(landed)
            return landed.facts.home

        assert connected(work, server.config) == str(server.home)


@NEEDS_ROOT
@pytest.mark.parametrize("text", ["echo hello; echo there >&2", "cat", "exit 1", "exec </dev/null >/dev/null 2>&1"])
def test_the_rc_file_of_sshd(home: Path, text: str) -> None:
    """sshd(8), ~/.ssh/rc: run by /bin/sh before the command, with its output."""
    with account(home.parent / "there", shell="/bin/bash", PermitUserRC="yes") as server:
        rc = server.home / ".ssh/rc"
        rc.parent.mkdir(mode=0o700)
        rc.write_text(f"echo ran >{server.home}/ran; {text}\n")
        for path in (rc, rc.parent):
            os.chown(path, NUMBER, NUMBER)

        async def work(connection: Connection) -> None:
            await echoes(await bootstrap(connection, small(), quiet))

        connected(work, server.config)
        assert (server.home / "ran").exists()


REFUSALS = {
    "exit 0": ("exit 0", "status 0 before it began, without a word"),
    "nologin": ("echo This account is currently not available.; exit 1", "not available"),
    "a failing start": ("set -e; false", "status 1"),
    "a forced command": ("echo 'Hi ana, no shell here'; exit 128", "Hi ana, no shell here"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_no_shell_behind_it(name: str, home: Path) -> None:
    start, said = REFUSALS[name]
    there = started_with(home, start)
    with pytest.raises(HostRefused, match="gpu1 gives no shell") as caught:
        on(there, lambda connection: lands(connection, name="gpu1"), shell=("/bin/bash", "-c"))
    assert said in caught.value.why
    assert caught.value.hint == "opagent host check gpu1"


@pytest.mark.parametrize("then", ["exec cat", "exec zsh", "exec tcsh", "read line", "cat >/dev/null"])
def test_a_start_up_file_that_never_ends(home: Path, then: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "MARKER_WITHIN", 0.6)
    there = started_with(home, f"echo starting fish; {then}")
    with pytest.raises(HostUnfit, match=r"within 0\.6 s") as caught:
        on(there, lands, shell=("/bin/bash", "-c"))
    assert "starting fish" in caught.value.why


def test_files_that_may_not_be_as_large_as_ours(home: Path) -> None:
    there = started_with(home, "ulimit -f 20")
    with pytest.raises(HostUnfit, match="no directory that takes our program") as caught:
        on(there, lands, shell=("/bin/bash", "-c"))
    assert f"{there['HOME']}/.cache/opagent: File too large" in caught.value.why


def test_more_noise_than_anybody_needs(home: Path) -> None:
    there = started_with(home, "yes 'the motd of this machine'")
    with pytest.raises(HostUnfit, match="prints too much") as caught:
        on(there, lands, shell=("/bin/bash", "-c"))
    assert "the motd of this machine" in caught.value.why
    assert len(caught.value.why) < 1000


def test_sh_is_not_on_the_path(home: Path) -> None:
    """Then the other one, once."""
    empty = home / "empty"
    empty.mkdir()
    there = machine(home) | {"PATH": str(empty)}

    async def work(connection: LocalShell) -> list[str]:
        await bootstrap(connection, small(), quiet)
        return connection.lines

    lines = on(there, work, shell=("/bin/bash", "-c"))
    assert [line.split()[0] for line in lines] == ["sh", "/bin/sh"]
