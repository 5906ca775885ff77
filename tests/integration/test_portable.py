"""A machine without a Python is given one: an archive of this machine, or what uv fetches here; once, and never unasked."""

from __future__ import annotations

import asyncio
import glob
import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent import paths
from opagent.errors import HostUnfit, OpAgentError
from opagent.remote import portable, stage0
from opagent.remote.bootstrap import Facts, Wanted, bootstrap
from opagent.remote.portable import Portable, named, pack
from opagent.remote.seam import Connection, Phase, Tell
from tests.doubles.account import NEEDS_ROOT, NUMBER, Account, account
from tests.doubles.dialing import Person
from tests.doubles.local_shell import LocalShell, machine, on
from tests.doubles.patience import until
from tests.doubles.portable import asked, lay, uv, wrapper
from tests.doubles.small_payload import small
from tests.doubles.terminal import Terminal, run, run_json

UNAME = " ".join((os.uname().sysname, os.uname().machine))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that works wherever it is put."""
    return lay(tmp_path_factory.mktemp("portable") / "python")


@pytest.fixture(scope="module")
def archive(python: Path) -> Path:
    pack(python, python.parent / "cpython.tar.gz")
    return python.parent / "cpython.tar.gz"


# ---- the product: a real sshd, an account for whom every Python is old -------------------------------------------------------


def pythons() -> set[Path]:
    """Every Python of this machine that an account of it would be given."""
    found = {path for place in stage0.PLACES for path in glob.glob(place)}
    names = (*stage0.NAMES, *stage0.OTHERS)
    found |= {f"{folder}/{name}" for folder in ("/usr/local/bin", "/usr/bin", "/bin") for name in names}
    return {Path(os.path.realpath(path)) for path in found if os.path.exists(path)}


@pytest.fixture(scope="module")
def small_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that is quickly packed, for this machine alone."""
    return wrapper(tmp_path_factory.mktemp("wrapper") / "python")


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    monkeypatch.setenv("PATH", f"{home.parent / 'uv'}:{os.environ['PATH']}")
    with account(home.parent / "there", too_old=pythons(), MaxSessions=1) as server:
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", server.config)
        (server.home / "docs").mkdir()
        os.chown(server.home / "docs", NUMBER, NUMBER)
        yield server


def put(server: Account) -> list[Path]:
    """The portable Pythons that are there."""
    return sorted(server.home.glob(".cache/opagent/py/*"))


@NEEDS_ROOT
def test_an_archive_is_copied_once_it_is_configured(there: Account, home: Path, archive: Path) -> None:
    nothing = run("host", "check", "there")  # without a terminal nobody is asked
    assert nothing.returncode == 7
    assert "there has no Python 3.11 or newer: " in nothing.stdout and "python3 is Python 3.8.18" in nothing.stdout
    assert "try: opagent host add there --python auto|ARCHIVE|PATH" in nothing.stdout
    assert put(there) == []
    here = shutil.copy(archive, home / "cpython.tar.gz")
    assert run("host", "add", "there", "--python", "cpython.tar.gz", cwd=home).returncode == 0
    assert run_json("host", "list")["hosts"][0]["settings"] == {"portable": str(here)}
    looked = run("host", "check", "there")
    assert looked.returncode == 0, looked.stdout
    [place] = put(there)
    assert place.name == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert f"at {place}/python/bin/python3, a portable one that was copied there" in looked.stdout
    assert run("host", "forget", "there", "--purge", "--yes").returncode == 0
    assert not (there.home / ".cache").exists()
    assert run("host", "add", "there", "--python", str(archive)).returncode == 0
    assert "has no Python" in run("host", "forget", "there", "--purge", "--yes").stderr
    assert not (there.home / ".cache").exists()


@NEEDS_ROOT
def test_a_person_is_asked_and_uv_gives_one_that_is_remembered(there: Account, home: Path, python: Path) -> None:
    uv(home.parent / "uv", python)
    terminal = Terminal("host", "check", "there")
    terminal.expect("there has no Python 3.11 or newer.*Copy a portable one there.*yes, no")
    assert put(there) == []
    terminal.type("maybe\nyes\n")
    assert terminal.end() == 0, terminal.text
    assert "fetching a portable Python for there" in terminal.text
    assert "copying a portable Python to there ... [" in terminal.text
    assert "a portable one that was copied there" in terminal.text
    done = run("open", "there:docs", "--agent", "echo", "-m", "hello")
    assert done.stdout == "echo: hello\n", done.stderr
    assert len(asked(home.parent / "uv")) == 1
    shutil.rmtree(paths.python_archives())
    (home.parent / "uv/uv").unlink()
    assert run("daemon", "stop", "--host", "there").returncode == run("daemon", "stop").returncode == 0
    done = run("open", "there:docs", "--agent", "echo", "-m", "again")
    assert done.stdout == "echo: again\n", done.stderr


# ---- adding -----------------------------------------------------------------------------------------------------------------


def test_what_is_said_again_is_changed_and_the_rest_stays(home: Path) -> None:
    def added(*words: str) -> tuple[str, dict[str, object]]:
        found = run_json("host", "add", "box", *words)["host"]
        return found["target"], found["settings"]

    assert added("ana@far", "--transport", "openssh") == ("ana@far", {"transport": "openssh"})
    assert added("--python", "auto") == ("ana@far", {"transport": "openssh", "portable": "auto"})
    assert added("--python", "/opt/python3") == ("ana@far", {"transport": "openssh", "python": "/opt/python3"})
    assert added("--command", "docker exec -i box")[1]["transport"] == "command"
    assert added("--transport", "asyncssh", "--python", "") == ("ana@far", {"transport": "asyncssh"})


def test_a_uv_that_is_missing_is_told_when_it_is_wanted(home: Path, small_one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv(home / "uv", small_one)
    for path in (home / "uv", home):  # a daemon looks with the PATH it was started with
        monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
        said = run("host", "add", "box", "--python", "auto")
        assert ("note: there is no uv on this machine" in said.stderr) is (portable.uv() is None), said.stderr
        run("daemon", "stop")


def test_an_archive_is_looked_at_when_it_is_named(home: Path) -> None:
    (home / "some.tar.gz").write_text("no archive")
    with tarfile.open(home / "other.tgz", "w:gz") as other:
        other.addfile(tarfile.TarInfo("readme"))
    for name, why in (("some.tar.gz", "is no archive"), ("other.tgz", "holds no Python"), ("missing.tar.xz", "No such file")):
        done = run("host", "add", "box", "--python", name, cwd=home)
        assert done.returncode == 2 and why in done.stderr
        assert "opagent host add box --python auto" in done.stderr


# ---- which, and whether -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "name"),
    [
        ("Linux x86_64", "cpython-3.13-linux-x86_64-gnu"),
        ("Linux x86_64 /lib/ld-musl-x86_64.so.1", "cpython-3.13-linux-x86_64-musl"),
        ("Linux aarch64", "cpython-3.13-linux-aarch64-gnu"),
        ("Linux armv7l", "cpython-3.13-linux-armv7-gnueabihf"),
        ("Darwin arm64", "cpython-3.13-macos-aarch64-none"),
        ("FreeBSD amd64", ""),
        ("Linux sparc", ""),
        ("", ""),
    ],
)
def test_what_uv_calls_it(system: str, name: str) -> None:
    assert named(system) == name


@NEEDS_ROOT
@pytest.mark.parametrize("loader", ["", "ld-musl-x86_64.so.1"])
def test_the_library_there_is_told(home: Path, loader: str, bare: dict[str, str]) -> None:
    """/lib/ld-musl-* is there where programs are made for musl."""
    over = "mount -t overlay -o lowerdir=/usr/lib,upperdir=/mnt/up,workdir=/mnt/work none /usr/lib"
    made = f"mount -t tmpfs none /mnt && mkdir /mnt/up /mnt/work && touch /mnt/up/{loader or 'x'} && {over}"
    setup = f'PATH=/usr/bin:/bin:/usr/sbin:/sbin; {made}; PATH={bare["PATH"]} exec /bin/sh -c "$0"'
    heard: list[str] = []

    async def bring(connection: Connection, tell: Tell, lacking: HostUnfit, system: str) -> str:
        heard.append(system)
        raise lacking

    async def work(connection: LocalShell) -> None:
        with pytest.raises(HostUnfit):
            await bootstrap(connection, small(), lambda _: None, None, Wanted("gpu1"), bring)

    on(bare, work, shell=(str(shutil.which("unshare")), "--mount", "/bin/sh", "-c", setup))
    assert named(heard[0]).endswith("-musl" if loader else "-gnu")


@pytest.fixture
def bare(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Another machine with a shell and no Python; uv is looked for in one directory here."""
    monkeypatch.setattr(stage0, "PLACES", ())
    folder = home / "bin"
    folder.mkdir()
    for name in ("sh", "uname", "id", "ls", "mkdir", "cat", "rm", "mv", "wc", "tar", "gzip", "sha256sum", "chmod"):
        (folder / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", f"{home / 'uv'}:/usr/bin:/bin")
    monkeypatch.setattr(portable, "_UV_PLACES", ())
    return machine(home, PATH=str(folder))


def landed(there: dict[str, str], source: str = "", person: Person | None = None) -> tuple[Facts, list[str]]:
    """The facts of a bootstrap, and the phases."""

    async def work(connection: LocalShell) -> tuple[Facts, list[str]]:
        phases: list[Phase] = []
        bring = Portable("gpu1", source, person or Person()).bring
        found = await bootstrap(connection, small(), phases.append, None, Wanted("gpu1"), bring)
        return found.facts, list(dict.fromkeys(f"{phase.name} {phase.text}".strip() for phase in phases))

    found: tuple[Facts, list[str]] = on(there, work, shell=(str(shutil.which("sh")), "-c"))
    return found


def failed(there: dict[str, str], source: str = "", person: Person | None = None) -> OpAgentError:
    with pytest.raises(HostUnfit) as caught:
        landed(there, source, person)
    return caught.value


def test_auto(home: Path, bare: dict[str, str], small_one: Path) -> None:
    uv(home / "uv", small_one)
    left = paths.python_archives() / ".tmp-killed"
    left.mkdir(parents=True, mode=0o700)
    left.parent.chmod(0o700)
    os.utime(left, (0, 0))
    phases = landed(bare, "auto")[1]
    copied = ["fetching Python", "uploading Python", "installing Python"]
    assert phases == ["probing", *copied, "uploading", "installing", "connected"]
    kept = paths.python_archives()
    assert os.listdir(kept) == [f"{named(UNAME)}.tar.gz"]  # nothing else is left of it
    shutil.rmtree(bare["HOME"] + "/.cache")
    assert "fetching Python" not in landed(bare, "auto")[1]
    assert len(asked(home / "uv")) == 1


def test_auto_without_uv_says_what_to_type(bare: dict[str, str]) -> None:
    error = failed(bare, "auto")
    assert "no Python at all" in error.why and "there is no uv on this machine" in error.why
    assert error.hint == "pipx install uv, or opagent host add gpu1 --python ARCHIVE"


@pytest.mark.parametrize(
    ("then", "status", "why"),
    [
        ("echo 'error: Failed to download: dns error' >&2", 2, "status 2: error: Failed to download: dns error"),
        ("sleep 60", 0, "not done within 0.3 s"),
        ("mkdir $4/cpython-3.13.9-x", 0, "there is no bin/python3"),
        ("kill -9 $$", 0, "status None: without a word"),
    ],
)
def test_a_uv_that_fails(
    home: Path, bare: dict[str, str], small_one: Path, then: str, status: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portable, "FETCHES_WITHIN", 0.3 if "sleep" in then else 60.0)
    uv(home / "uv", small_one, then, status)
    error = failed(bare, "auto")
    assert why in error.why and "gave no Python for gpu1" in error.what
    assert error.hint == "opagent host add gpu1 --python ARCHIVE"
    assert os.listdir(paths.python_archives()) == []


@pytest.mark.parametrize("answers", [[], ["no"], [""], ["what", "x", "y z"]])
def test_a_person_who_does_not_want_one(home: Path, bare: dict[str, str], small_one: Path, answers: list[str]) -> None:
    uv(home / "uv", small_one)
    person = Person(confirm=answers)
    error = failed(bare, person=person)
    assert "no Python at all" in error.why and error.hint == "opagent host add gpu1 --python auto|ARCHIVE|PATH"
    assert len(person.asked) == max(1, len(answers))
    assert asked(home / "uv") == [] and not Path(bare["HOME"], ".cache").exists()


def test_nobody_is_asked_where_none_can_be_had(bare: dict[str, str]) -> None:
    person = Person(confirm=["yes"])
    failed(bare, person=person)
    assert person.asked == []


def test_one_that_is_at_hand_needs_no_uv(bare: dict[str, str], archive: Path) -> None:
    paths.python_archives().mkdir(parents=True)
    shutil.copy(archive, paths.python_archives() / f"{named(UNAME)}.tar.gz")
    person = Person(confirm=["yes"])
    assert "uploading Python" in landed(bare, person=person)[1]
    assert "fetches" not in person.asked[0].text


def test_where_a_python_fits_none_is_copied(home: Path) -> None:
    facts, phases = landed(machine(home), str(home / "never looked at.tar.gz"))
    assert "/py/" not in facts.python and phases == ["probing", "uploading", "installing", "connected"]


def test_one_that_does_not_run_there_is_no_endless_story(home: Path, bare: dict[str, str], small_one: Path) -> None:
    uv(
        home / "uv",
        small_one,
        'mkdir -p "$4/x/bin"; echo "#!/nowhere/ld-linux" >"$4/x/bin/python3"; chmod 755 "$4/x/bin/python3"',
    )
    error = failed(bare, "auto")
    assert "does not run on gpu1" in error.what and "not found" in error.why
    assert error.hint == "opagent host add gpu1 --python ARCHIVE"


def test_a_home_that_no_line_can_name(home: Path, bare: dict[str, str], archive: Path) -> None:
    odd = home / "it's"
    odd.mkdir()
    error = failed(bare | {"HOME": str(odd)}, str(archive))
    assert "cannot be started" in error.what and str(odd) in error.why


# ---- the way there -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_a_copy_that_is_cut(bare: dict[str, str], archive: Path, part: float) -> None:
    async def cut(connection: LocalShell) -> None:
        def tell(phase: Phase) -> None:
            if phase.text == "Python" and phase.total and phase.done >= part * phase.total:
                connection.close()

        with pytest.raises(OpAgentError):
            await portable.push_python(connection, archive, tell, "gpu1")

    on(bare, cut)
    folder = Path(bare["HOME"], ".cache/opagent/py")
    # the login shell has ended, ours may be at it still; of the last cut it may have had the whole
    until(lambda: not folder.exists() or all((folder / name / ".ok").exists() for name in os.listdir(folder)))


def test_one_is_copied_while_another_is(bare: dict[str, str], small_one: Path, home: Path) -> None:
    archive = home / "python.tar.gz"
    pack(small_one, archive)

    async def work(connection: LocalShell) -> list[str]:
        return await asyncio.gather(*(portable.push_python(connection, archive, lambda _: None, "gpu1") for _ in range(2)))

    first, second = on(bare, work)
    assert first == second
    assert len(os.listdir(Path(bare["HOME"], ".cache/opagent/py"))) == 1


@pytest.mark.parametrize("mode", [0o777, 0o770, None])
def test_a_python_in_a_directory_of_somebody_else_is_not_started(home: Path, bare: dict[str, str], mode: int | None) -> None:
    """A cleaner removed ours from /var/tmp, and another user put one there, or whoever may write into it."""
    marker, base = home / "started", home / "opagent-0"
    evil = base / "py" / ("a" * 64) / "bin/python3"
    evil.parent.mkdir(parents=True)
    evil.write_text(f"#!/bin/sh\n: >'{marker}'\n")
    evil.chmod(0o755)
    if mode is None:
        if os.getuid() != 0:
            pytest.skip("another owner takes root")
        os.chown(base, 12345, -1)
    else:
        base.chmod(mode)

    async def work(connection: LocalShell, python: str) -> None:
        with pytest.raises(HostUnfit):
            await bootstrap(connection, small(), lambda _: None, None, Wanted("gpu1", python))

    on(bare, lambda connection: work(connection, str(evil)))
    assert not marker.exists()
    base.chmod(0o700)
    os.chown(base, os.getuid(), -1)
    on(bare, lambda connection: work(connection, str(evil)))
    assert marker.exists()


def test_the_same_bytes_for_the_same_files(small_one: Path, tmp_path: Path) -> None:
    pack(small_one, tmp_path / "one.tar.gz")
    shutil.copytree(small_one, tmp_path / "other", symlinks=True)
    (tmp_path / "other/lib/python3.11").mkdir(parents=True)
    (tmp_path / "other/lib/python3.11/os.py").write_text("sent")
    pack(tmp_path / "other", tmp_path / "other.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() != (tmp_path / "other.tar.gz").read_bytes()
    for name in ("bin/pip3", "lib/python3.11/__pycache__/x.pyc", "lib/python3.11/test/x.py", "share/man", "include/Python.h"):
        (tmp_path / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "other" / name).write_text("not sent")
    pack(tmp_path / "other", tmp_path / "again.tar.gz")
    assert (tmp_path / "again.tar.gz").read_bytes() == (tmp_path / "other.tar.gz").read_bytes()
