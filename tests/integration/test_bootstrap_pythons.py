"""Which interpreter is taken, what is said when none fits, and the portable one that is put there."""

from __future__ import annotations

import glob
import io
import os
import pwd
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from opagent.errors import HostUnfit, Usage
from opagent.remote import stage0
from opagent.remote.bootstrap import Facts, Wanted, bootstrap
from opagent.remote.payload import Payload
from opagent.remote.pythons import push_python
from opagent.remote.seam import Phase
from tests.doubles.local_shell import LocalShell, machine, on
from tests.doubles.small_payload import small

REAL = os.path.realpath(sys.executable)
HINT = "opagent host add gpu1 --python auto|ARCHIVE|PATH"

# behaves like a Python of another kind: PRELUDE runs before what it was given
PRETENDER = """#!/bin/sh
[ "$1" = -V ] && {{ echo "Python {version}"; exit 0; }}
shift 3
exec {real} -I -S -c 'import sys; {prelude}; exec(sys.argv.pop(1))' "$@"
"""


def quiet(_: Phase) -> None:
    pass


@pytest.fixture
def folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on PATH; the usual places have no Python."""
    monkeypatch.setattr(stage0, "PLACES", ())
    monkeypatch.setattr(stage0, "AT_HOME", tuple(place for place in stage0.AT_HOME if not place.startswith(".local/bin")))
    made = home / "bin"
    made.mkdir()
    for name in ("sh", "uname", "id", "ls", "mkdir", "cat", "rm", "mv", "wc", "tar", "gzip", "sha256sum", "chmod"):
        (made / name).symlink_to(str(shutil.which(name)))
    return made


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def pretend(path: Path, version: str, prelude: str = "pass") -> Path:
    return program(path, PRETENDER.format(version=version, prelude=prelude, real=REAL))


def old(path: Path, *version: int) -> Path:
    text = ".".join(map(str, version))
    return pretend(path, text, f"sys.version_info = {(*version, 'final', 0)}")


def facts(there: dict[str, str], payload: Payload | None = None, **wanted: str) -> Facts:
    async def work(connection: LocalShell) -> Facts:
        return (await bootstrap(connection, payload or small(), quiet, wanted=Wanted("gpu1", **wanted))).facts

    found: Facts = on(there, work, shell=(str(shutil.which("sh")), "-c"))
    return found


def refused(there: dict[str, str]) -> str:
    with pytest.raises(HostUnfit) as caught:
        facts(there)
    assert str(caught.value).startswith("gpu1 has no Python 3.11 or newer")
    assert caught.value.hint == HINT
    return caught.value.why


def test_no_python_at_all(home: Path, folder: Path) -> None:
    assert "no Python at all (Linux" in refused(machine(home, PATH=str(folder)))


def test_only_old_ones(home: Path, folder: Path) -> None:
    old(folder / "python3", 3, 8, 18)
    program(folder / "python2", "#!/bin/sh\n[ $1 = -V ] && { echo Python 2.7.18 >&2; exit; }\necho unknown option >&2; exit 2\n")
    said = refused(machine(home, PATH=str(folder)))
    assert "python3 is Python 3.8.18" in said
    assert "python2 is Python 2.7.18" in said


@pytest.mark.parametrize(
    "real",
    sorted(
        path
        for path in glob.glob(f"{pwd.getpwuid(os.getuid()).pw_dir}/.pyenv/versions/*/bin/python")
        if any(f"/{version}" in path for version in ("2.7", "3.6", "3.7", "3.8", "3.9", "3.10"))
    )
    or [""],
)
def test_really_old_ones(home: Path, folder: Path, real: str) -> None:
    """Those that this machine has; where it has none, one that pretends."""
    if real:
        program(folder / "python3", f'#!/bin/sh\nexec {real} "$@"\n')
    else:
        old(folder / "python3", 3, 10, 1)
    assert "python3 is Python " in refused(machine(home, PATH=str(folder)))


def test_stubs_that_fail_first(home: Path, folder: Path) -> None:
    program(folder / "python3.14", "#!/bin/sh\necho xcode-select: note: no developer tools >&2; exit 1\n")
    program(folder / "python3.13", "#!/bin/sh\nexit 0\n")
    program(folder / "python3.12", "#!/bin/sh\necho 'pyenv: python3.12: command not found'; exit 127\n")
    program(folder / "python3.11", "#!/bin/sh\nkill -SEGV $$\n")
    (folder / "python3").symlink_to(REAL)
    assert facts(machine(home, PATH=str(folder))).python_version.startswith("3.")
    (folder / "python3").unlink()
    said = refused(machine(home, PATH=str(folder)))
    assert "python3.14 fails (status 1)" in said
    assert "python3.13 fails (status 0)" in said


@pytest.mark.parametrize(
    "place",
    ["miniconda3/bin/python3", ".pyenv/versions/3.12.1/bin/python3", ".local/share/uv/python/cpython-3.12-linux/bin/python3"],
)
def test_odd_places(home: Path, folder: Path, place: str) -> None:
    there = machine(home, PATH=str(folder))
    program(Path(there["HOME"]) / place, f'#!/bin/sh\nexec {REAL} "$@"\n')
    old(folder / "python3", 3, 9, 2)
    assert facts(there).uid == os.getuid()


def test_the_configured_one_is_first(home: Path, folder: Path) -> None:
    marker = home / "taken"
    (folder / "python3").symlink_to(REAL)
    chosen = program(home / "my pythons" / "python3", f'#!/bin/sh\necho x >"{marker}"\nexec {REAL} "$@"\n')
    facts(machine(home, PATH=str(folder)), python=str(chosen))
    assert marker.exists()
    with pytest.raises(Usage):
        facts(machine(home, PATH=str(folder)), python="/opt/it's/python3")


def test_without_zlib(home: Path, folder: Path) -> None:
    pretend(folder / "python3", "3.11.9", "sys.modules.update(zlib=None, lzma=None)")
    there = machine(home, PATH=str(folder))

    async def work(connection: LocalShell) -> int:
        await bootstrap(connection, small(), quiet)
        return len(connection.lines)

    assert on(there, work) == 2


@pytest.mark.parametrize("module", ["_sqlite3", "_ctypes"])
def test_without_what_a_daemon_needs(home: Path, folder: Path, module: str) -> None:
    """Also where another Python has installed the package."""
    there, payload = machine(home, PATH=str(folder)), small()
    (folder / "python3").symlink_to(REAL)
    assert facts(there, payload).python_version.startswith("3.")
    pretend(folder / "python3.12", "3.12.9", f"sys.modules.update({module}=None)")
    assert facts(there, payload).python_version.startswith("3.")
    (folder / "python3").unlink()
    with pytest.raises(HostUnfit, match=f"No module named '{module}'|import of {module} halted"):
        facts(there, payload)


# ---- the portable one ------------------------------------------------------------------------------------------------------


def portable(path: Path, text: str = f'#!/bin/sh\nexec {REAL} "$@"\n', mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo("python/bin/python3.11")
        member.size, member.mode, member.uid = len(text), 0o777, 4321
        archive.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("python/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, "python3.11"
        archive.addfile(link)
    return path


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w"])
def test_a_portable_python(home: Path, folder: Path, mode: str) -> None:
    there = machine(home, PATH=str(folder))
    archive = portable(home / "cpython.tar", mode=mode)

    async def work(connection: LocalShell) -> tuple[str, str, list[str], list[str]]:
        first: list[Phase] = []
        second: list[Phase] = []
        path = await push_python(connection, archive, first.append, "gpu1")
        again = await push_python(connection, archive, second.append, "gpu1")
        assert (await bootstrap(connection, small(), quiet, wanted=Wanted("gpu1", path))).facts.home == there["HOME"]
        return path, again, [phase.name for phase in first], [phase.name for phase in second]

    path, again, first, second = on(there, work)
    assert path == again
    assert path.startswith(there["HOME"] + "/.cache/opagent/py/")
    assert first == ["probing", "uploading", "installing"]
    assert second == ["probing"]
    found = os.stat(path)
    assert found.st_uid == os.getuid()
    assert not found.st_mode & 0o022
    assert sorted(os.listdir(there["HOME"] + "/.cache/opagent/py")) == [path.split("/py/")[1].split("/")[0]]


@pytest.mark.parametrize("path", ["", None])
def test_a_portable_python_without_a_path(home: Path, path: str | None) -> None:
    there = machine(home, PATH="")
    if path is None:
        del there["PATH"]
    archive = portable(home / "cpython.tar.gz")
    assert on(there, lambda connection: push_python(connection, archive, quiet), shell=("/bin/bash", "-c"))


def test_a_portable_python_that_does_not_run(home: Path, folder: Path) -> None:
    there = machine(home, PATH=str(folder))
    archive = portable(home / "cpython.tar.gz", text="#!/nowhere/ld-musl\n")
    with pytest.raises(HostUnfit, match=r"the Python of cpython\.tar\.gz does not run on gpu1: .*not found"):
        on(there, lambda connection: push_python(connection, archive, quiet, "gpu1"))
    assert os.listdir(there["HOME"] + "/.cache/opagent/py") == []


@pytest.mark.parametrize("name", ["bash", "zsh", "fish", "tcsh", "csh", "rc", "xonsh", "busybox", "mksh", "ksh93", "yash"])
def test_the_line_that_unpacks_in_every_shell(name: str, home: Path, folder: Path) -> None:
    shell = str(shutil.which(name))
    archive = portable(home / "cpython.tar.gz")
    words = (shell, "sh", "-c") if name == "busybox" else (shell, "-c")
    assert on(machine(home), lambda connection: push_python(connection, archive, quiet), shell=words)


def test_what_is_no_python(home: Path) -> None:
    (home / "some.tar.gz").write_text("no archive")
    with tarfile.open(home / "other.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("readme"))
    for name, why in (("some.tar.gz", "is no archive"), ("other.tar.gz", "holds no Python"), ("missing", "is no archive")):
        archive_path = home / name
        with pytest.raises(Usage, match=why):
            on(machine(home), lambda connection, path=archive_path: push_python(connection, path, quiet))
