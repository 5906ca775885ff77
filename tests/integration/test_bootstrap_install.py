"""Where the package is put on another machine, whatever its directories are like, and whatever cuts an install."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import pwd
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from opagent.errors import HostUnfit, HostUnreachable
from opagent.remote import place as places
from opagent.remote import stage0, stage1
from opagent.remote.bootstrap import Facts, Wanted, bootstrap
from opagent.remote.payload import Payload
from opagent.remote.payload import payload as whole
from opagent.remote.portable import pack
from opagent.remote.pythons import push_python
from opagent.remote.seam import Phase, Tell
from tests.doubles.account import NEEDS_ROOT
from tests.doubles.clock import faked
from tests.doubles.local_shell import LocalShell, machine, on
from tests.doubles.portable import wrapper
from tests.doubles.shim import Shim, built
from tests.doubles.small_payload import small

tell: Tell = lambda _: None  # noqa: E731
FALLBACK = f"/var/tmp/opagent-{os.getuid()}"


@pytest.fixture(autouse=True)
def nothing_stays_outside() -> Iterator[None]:
    """What a test put into the machine's own directories goes again, and nothing else of them."""
    above = [Path(base, "rt") for base in (FALLBACK, FALLBACK.removeprefix("/var"), f"/dev/shm/opagent-{os.getuid()}")]
    before = {path for folder in above if folder.is_dir() for path in folder.iterdir()}
    bases = {folder.parent for folder in above if folder.parent.is_dir()}
    yield
    for folder in above:
        for path in set(folder.iterdir() if folder.is_dir() else ()) - before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if folder.parent not in bases:
            shutil.rmtree(folder.parent, ignore_errors=True)


@pytest.fixture
def there(home: Path) -> dict[str, str]:
    return machine(home)


def landed(there: dict[str, str], payload: Payload, shell: tuple[str, ...] = ("/bin/sh", "-c")) -> tuple[Facts, bool]:
    """The facts, and whether the package was sent."""

    async def work(connection: LocalShell) -> tuple[Facts, bool]:
        phases: list[Phase] = []
        found = await bootstrap(connection, payload, phases.append, wanted=Wanted("gpu1"))
        return found.facts, "uploading" in [phase.name for phase in phases]

    found: tuple[Facts, bool] = on(there, work, shell=shell)
    return found


def cache(there: dict[str, str]) -> Path:
    return Path(there["HOME"], ".cache", "opagent")


def test_it_is_sent_once(there: dict[str, str]) -> None:
    payload = small()
    assert landed(there, payload)[1]
    assert not landed(there, payload)[1]
    assert sorted(os.listdir(cache(there) / "rt")) == sorted([".lock", payload.digest])
    assert not os.stat(cache(there) / "rt" / payload.digest).st_mode & 0o077


def _missing(place: Path) -> None:
    (place / "opagent/landing.py").unlink()


def _shorter(place: Path) -> None:
    os.truncate(place / "opagent/landing.py", 3)


def _not_finished(place: Path) -> None:
    (place / ".ok").unlink()


def _empty_list(place: Path) -> None:
    os.truncate(place / ".ok", 0)


def _a_file(place: Path) -> None:
    shutil.rmtree(place)
    place.write_text("what is this")


@pytest.mark.parametrize("damage", [_missing, _shorter, _not_finished, _empty_list, _a_file])
def test_a_damaged_install_is_done_again(there: dict[str, str], damage: object) -> None:
    payload = small()
    landed(there, payload)
    assert callable(damage)
    damage(cache(there) / "rt" / payload.digest)
    assert landed(there, payload)[1]
    assert not landed(there, payload)[1]
    assert sorted(os.listdir(cache(there) / "rt")) == sorted([".lock", payload.digest])


def test_what_a_killed_install_left_goes_when_it_is_old(there: dict[str, str]) -> None:
    left = cache(there) / "rt"
    for name, age in ((".tmp-1-old", 2 * stage1.STALE), (".tmp-2-new", 0)):
        (left / name / "opagent").mkdir(parents=True)
        os.utime(left / name, (time.time() - age,) * 2)
    for folder in (left, left.parent, left.parent.parent):
        folder.chmod(0o700)
    payload = small()
    landed(there, payload)
    assert sorted(os.listdir(left)) == sorted([".lock", ".tmp-2-new", payload.digest])


@pytest.mark.parametrize("name", ["a b", "quo\"te'd", "$(touch x)`ls`", "größe 雪", "-rf", "l" * 150])
def test_odd_homes(home: Path, name: str) -> None:
    odd = home / name
    odd.mkdir()
    facts, _ = landed(machine(home, HOME=str(odd), LANG="C"), small())
    assert facts.base == str(odd / ".cache/opagent")


@pytest.mark.parametrize("name", ["a b", "größe 雪", "-rf", "l" * 150])
def test_a_portable_python_in_odd_homes(home: Path, name: str) -> None:
    (home / name).mkdir()
    pack(wrapper(home / "python"), home / "python.tar.gz")

    async def work(connection: LocalShell) -> Facts:
        python = await push_python(connection, home / "python.tar.gz", tell, "gpu1")
        assert python.startswith(f"{home}/{name}/.cache/opagent/py/")
        return (await bootstrap(connection, small(), tell, None, Wanted("gpu1", python))).facts

    assert on(machine(home, HOME=str(home / name), LANG="C"), work).base == str(home / name / ".cache/opagent")


@pytest.mark.parametrize("shift", ["-3d", "+3d"])
def test_another_clock(there: dict[str, str], shift: str) -> None:
    """What another one unpacks at this moment is not old because a clock is wrong."""
    fresh = cache(there) / "rt/.tmp-2-new"
    fresh.mkdir(parents=True)
    for folder in (cache(there), cache(there).parent):
        folder.chmod(0o700)
    assert landed({**there, **faked(shift)}, small())[1]
    assert fresh.exists()


@pytest.mark.parametrize("value", ["/proc", "/dev/null/nowhere"])
def test_no_home_to_write_into(home: Path, value: str) -> None:
    facts, _ = landed(machine(home, HOME=value), small())
    assert facts.base == FALLBACK


@pytest.mark.parametrize("value", [None, "", "relative"])
def test_home_unset(home: Path, there: dict[str, str], value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then that of the account, here with a cache elsewhere so that it is left alone."""
    del there["HOME"]
    more = {} if value is None else {"HOME": value}
    facts, _ = landed(there | more | {"XDG_CACHE_HOME": str(home / "caches")}, small())
    assert facts.base == str(home / "caches/opagent")
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME")
    if value is not None:
        monkeypatch.setenv("HOME", value)
    assert stage1.bases()[0] == pwd.getpwuid(os.getuid()).pw_dir + "/.cache/opagent"


def test_a_directory_that_others_may_write_is_not_used(there: dict[str, str]) -> None:
    payload = small()
    landed(there, payload)
    cache(there).chmod(0o777)
    facts, sent = landed(there, payload)
    assert (facts.base, sent) == (FALLBACK, True)
    cache(there).chmod(0o700)
    cache(there).parent.chmod(0o777)  # whoever may write here can put another directory in its place
    assert landed(there, payload)[0].base == FALLBACK


def test_links(home: Path, there: dict[str, str]) -> None:
    cache(there).parent.mkdir(mode=0o700)
    for name, mode, base in (("private", 0o700, str(cache(there))), ("open", 0o777, FALLBACK)):
        (home / name).mkdir()
        (home / name).chmod(mode)
        cache(there).unlink(missing_ok=True)
        cache(there).symlink_to(home / name)
        assert landed(there, small())[0].base == base
    assert os.listdir(home / "open") == ["rt"] or os.listdir(home / "open") == []


def test_a_cache_of_another_owner(there: dict[str, str]) -> None:
    assert "belongs to uid" in stage1.not_private("/usr/bin") or os.getuid() == 0
    if os.getuid() == 0:
        cache(there).mkdir(parents=True, mode=0o700)
        os.chown(cache(there), 12345, 12345)
        assert landed(there, small())[0].base == FALLBACK


# ---- disks: in a mount namespace of its own --------------------------------------------------------------------------------

IN_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c")
NAMESPACES = subprocess.run([*IN_NAMESPACE, "mount -t tmpfs t /tmp"], capture_output=True, check=False).returncode == 0
needs_namespaces = pytest.mark.skipif(
    not NAMESPACES, reason="this kernel lets nobody have a mount namespace: run as root elsewhere"
)


def mounted(setup: str) -> tuple[str, ...]:
    return (*IN_NAMESPACE, f'{setup}; exec /bin/sh -c "$0"')


@needs_namespaces
@pytest.mark.parametrize("options", ["size=64k", "size=1m,nr_inodes=4", "ro"])
def test_a_disk_that_is_full_or_read_only(there: dict[str, str], options: str) -> None:
    Path(there["HOME"], ".cache").mkdir(mode=0o700)
    setup = f'mount -t tmpfs -o mode=700,{options} t "$HOME/.cache"; mount -t tmpfs -o mode=1777 t /tmp'
    facts, _ = landed(there, small(400_000), shell=mounted(setup))
    assert facts.base.startswith(("/var/tmp/opagent-", "/tmp/opagent-"))


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_quota_that_is_used_up(there: dict[str, str], tmp_path: Path, after: int) -> None:
    """The kernel here has none: the C library says what it would say (EDQUOT), to the program that runs there."""
    shim = Shim(built(tmp_path), tmp_path)
    limits = shim.fails("write", f"{there['HOME']}/.cache/", always=True, errno=errno.EDQUOT, after=after)
    facts, _ = landed(there | limits, small(400_000))
    assert facts.base == FALLBACK
    assert not [path for path in Path(there["HOME"], ".cache").rglob("*") if path.is_file() and path.name != ".lock"]


@needs_namespaces
def test_a_disk_without_programs(there: dict[str, str]) -> None:
    Path(there["HOME"], ".cache").mkdir(mode=0o700)
    setup = 'mount -t tmpfs -o mode=700,noexec,nosuid,nodev t "$HOME/.cache"'
    assert landed(there, small(), shell=mounted(setup))[0].base == str(cache(there))


PLACES = ("/var/tmp", "/tmp", "/dev/shm")
READ_ONLY = "; ".join(f"mount -t tmpfs -o ro t {place}" for place in reversed(PLACES))


@needs_namespaces
def test_no_room_anywhere(home: Path) -> None:
    with pytest.raises(HostUnfit, match="gpu1 has no directory that takes our program") as caught:
        landed(machine(home, HOME="/proc"), small(), shell=mounted(READ_ONLY))
    for place in PLACES:
        assert f"{place}/opagent-0: Read-only file system" in caught.value.why
    for place in (".cache", ".local/state"):
        assert f"/proc/{place}/opagent: No such file or directory" in caught.value.why
    assert "set XDG_CACHE_HOME there" in caught.value.hint


AT_MNT = "mount -t tmpfs -o mode=700 t /mnt; mkdir -m 700 /mnt/.cache"  # a home that no other mount hides
EMPTY = "mount -t tmpfs -o mode=1777 t /var/tmp; mount -t tmpfs -o mode=1777 t /tmp"


@needs_namespaces
@pytest.mark.parametrize(
    ("setup", "base", "state"),
    [
        (f"{AT_MNT}; mount -t tmpfs -o ro t /mnt/.cache; {READ_ONLY}", "/mnt/.local/state/opagent", ""),
        (f"{AT_MNT}; mount -o remount,ro /mnt; {EMPTY}", "/var/tmp/opagent-0", "/state"),
    ],
)
def test_a_daemon_where_something_cannot_be_written(home: Path, setup: str, base: str, state: str) -> None:
    """Nothing runs from memory: where the state can be written the code can too, and where it cannot it lies beside the code."""

    async def work(connection: LocalShell) -> Facts:
        return (await bootstrap(connection, whole(), lambda _: None, wanted=Wanted("gpu1"))).facts

    facts = on(machine(home, HOME="/mnt"), work, shell=mounted(setup))
    assert facts.started and facts.base == base
    assert facts.socket.startswith(f"{base}{state}/run/")


@NEEDS_ROOT
@pytest.mark.parametrize("home_there", [{}, {"HOME": "/"}])
def test_a_user_without_a_name_and_a_home(there: dict[str, str], home_there: dict[str, str]) -> None:
    """As in a container that runs as a number."""
    del there["HOME"]
    number = 'exec setpriv --reuid 54321 --regid 54321 --clear-groups /bin/sh -c "$0"'

    async def work(connection: LocalShell) -> Facts:
        return (await bootstrap(connection, whole(), tell, wanted=Wanted("gpu1"))).facts

    facts = on({**there, **home_there}, work, shell=("unshare", "--mount", "/bin/sh", "-c", f"{EMPTY}; {number}"))
    assert (facts.uid, facts.user, facts.home) == (54321, "54321", "/")
    assert facts.started and facts.socket.startswith("/var/tmp/opagent-54321/state/run/")


@needs_namespaces
@pytest.mark.parametrize(
    ("setup", "why"),
    [
        ("mount -t tmpfs -o mode=700,noexec t /mnt/.cache", "no program starts there"),
        ("mount -t tmpfs -o mode=700,size=64k t /mnt/.cache", "No space left on device"),
        ("mount -t tmpfs -o ro t /mnt/.cache", "Read-only file system"),
        ("mkdir -m 777 /mnt/.cache/opagent; chmod 777 /mnt/.cache/opagent", "may be written by others"),
        ("mkdir -m 777 /mnt/x; chmod 777 /mnt/x; ln -s ../x /mnt/.cache/opagent", "may be written by others"),
        ("touch /mnt/.cache/opagent", "Not a directory"),
    ],
)
def test_a_portable_python_takes_the_next_directory(home: Path, setup: str, why: str) -> None:
    archive = home / "python.tar.gz"
    (home / "python/lib").mkdir(parents=True)
    (home / "python/lib/ballast").write_bytes(os.urandom(100_000))
    pack(wrapper(home / "python"), archive)

    def pushed(disks: str) -> str:
        there = machine(home, HOME="/mnt")
        path: str = on(there, lambda connection: push_python(connection, archive, tell, "gpu1"), shell=mounted(disks))
        return path

    assert pushed(f"{AT_MNT}; {setup}; {EMPTY}").startswith("/var/tmp/opagent-0/py/")
    with pytest.raises(HostUnfit, match="gpu1 has no directory that takes this Python") as caught:
        pushed(f"{AT_MNT}; {setup}; touch /mnt/.local; {READ_ONLY}")
    assert why in caught.value.why and "/mnt/.cache/opagent: " in caught.value.why
    assert caught.value.why.count("Read-only file system") >= 3 and "/mnt/.local/state/opagent: " in caught.value.why


@needs_namespaces
def test_one_home_on_two_machines(home: Path, there: dict[str, str]) -> None:
    """The code is there once; each has a daemon of its own, in a place of its own."""
    code = whole()
    found = []
    for ident in ("1" * 32, "2" * 32):
        (home / "id").write_text(ident)
        bound = f'mount --bind "$SHARED" /mnt; mount --bind "{home}/id" /etc/machine-id; {EMPTY}'
        environment = {**there, "SHARED": there["HOME"], "HOME": "/mnt", "OPAGENT_SHARED_HOME": "1"}

        async def work(connection: LocalShell) -> tuple[Facts, list[str]]:
            phases: list[Phase] = []
            landed = await bootstrap(connection, code, phases.append, wanted=Wanted("gpu1"))
            return landed.facts, [phase.name for phase in phases]

        found.append(on(environment, work, shell=mounted(bound)))
    (one, first), (other, second) = found
    assert one.base == other.base == "/mnt/.cache/opagent"
    assert "uploading" in first and "uploading" not in second
    assert one.started and other.started and one.socket != other.socket


# ---- at the same time, and cut ---------------------------------------------------------------------------------------------


def test_eight_at_once(there: dict[str, str]) -> None:
    payload = small(300_000)

    async def work(connection: LocalShell) -> list[str]:
        phases: list[Phase] = []
        await asyncio.gather(*(bootstrap(connection, payload, phases.append) for _ in range(8)))
        return [phase.name for phase in phases]

    names = on(there, work)
    assert names.count("connected") == 8
    assert names.count("installing") == 1  # the others waited for that one
    assert sorted(os.listdir(cache(there) / "rt")) == sorted([".lock", payload.digest])


def test_a_base_that_others_make_at_the_same_moment(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        stack.callback(os.umask, os.umask(0o077))
        threads = stack.enter_context(ThreadPoolExecutor(8))
        for number in range(40):
            together = threading.Barrier(8)
            base = str(tmp_path / f"{number}/a/b/c")
            os.makedirs(os.path.dirname(base))

            def make(base: str = base, together: threading.Barrier = together) -> None:
                together.wait()
                stage1.usable(base)

            for done in [threads.submit(make) for _ in range(8)]:
                done.result()


def test_a_rest_that_cannot_be_looked_at_does_not_hinder(there: dict[str, str]) -> None:
    (cache(there) / "rt").mkdir(parents=True, mode=0o700)
    for folder in (cache(there), cache(there).parent):
        folder.chmod(0o700)
    (cache(there) / "rt/.tmp-1-gone").symlink_to("nowhere")
    assert landed(there, small())[0].base == str(cache(there))


def test_a_lock_that_is_never_released_is_waited_for_once(there: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    bare = stage0._bare()
    assert "WAITS = 20.0" in bare
    program = stage0.encoded(bare.replace("WAITS = 20.0", "WAITS = 0.3") + "\nmain()\n", False)
    monkeypatch.setattr(stage0, "text", lambda plain: program)
    landed(there, small())
    with open(cache(there) / "rt" / ".lock") as hung:
        fcntl.flock(hung, fcntl.LOCK_EX)
        assert landed(there, small())[1]


def _placed(base: str, nonce: str, files: list[tuple[str, bytes]]) -> str:
    target = places.Place(base, "ab", nonce)
    try:
        target.put(files)
        return target.settle()
    finally:
        target.clear()


def test_a_race_that_was_lost(tmp_path: Path) -> None:
    (tmp_path / "rt").mkdir()
    files = [("opagent/a.py", b"a = 1\n"), ("b/c/d.py", b"")]
    base = str(tmp_path)
    first = _placed(base, "n1", files)
    inode = os.stat(first).st_ino
    assert _placed(base, "n2", files) == first
    assert os.stat(first).st_ino == inode  # the winner's stays
    Path(first, "opagent/a.py").unlink()
    assert _placed(base, "n3", files) == first
    assert places.whole(first)
    stage1.sweep(base, first)
    assert os.listdir(tmp_path / "rt") == ["ab"]


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_an_upload_that_is_cut(there: dict[str, str], part: float) -> None:
    payload = small(900_000)

    async def cut(connection: LocalShell) -> None:
        def tell(phase: Phase) -> None:
            if phase.name == "uploading" and phase.done >= part * phase.total:
                connection.close()

        with pytest.raises((HostUnreachable, HostUnfit)):
            await bootstrap(connection, payload, tell, wanted=Wanted("gpu1"))

    on(there, cut)
    assert not (cache(there) / "rt" / payload.digest).exists()
    assert landed(there, payload)[1]
    assert sorted(os.listdir(cache(there) / "rt")) == sorted([".lock", payload.digest])


def test_bytes_that_are_not_what_was_announced(there: dict[str, str]) -> None:
    payload = small()
    with pytest.raises(HostUnfit, match="could not unpack"):
        landed(there, Payload(payload.data, "0" * 64))
    with pytest.raises(HostUnfit, match="could not unpack"):
        landed(there, Payload(b"\xfd7zXZ nonsense", payload.digest))
