"""Real programs, most of them badly behaved, from start to end; afterwards nothing of them is left."""

from __future__ import annotations

import ast
import asyncio
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from opagent.errors import AgentCrashed, AgentFailed, AgentStuck, NotFound, OpAgentError, RuntimeNotInstalled
from opagent.model import ExitReport, ProcessId
from opagent.process import foreign, pipes, proc, reaper, supervisor, table, tree
from opagent.process.spawn import STDOUT_PIPE
from opagent.process.supervisor import Launch, Process
from tests.doubles.patience import PATIENCE

DOUBLES = str(Path(__file__).parent.parent / "doubles" / "processes.py")


def name(number: int) -> str:
    """Of a process; another test run on this machine has other ones, and sweeps its own."""
    return f"x{number}-{os.getpid()}"


@pytest.fixture(autouse=True)
def subreaper() -> Iterator[None]:
    """This process is the heir of orphans while a test runs, like the daemon."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    yield
    reaper.collect()
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., Launch]:
    def make(*words: str, ident: str = name(1), **changes: Any) -> Launch:
        environment = {"PATH": os.environ["PATH"], "OPAGENT_TEST_ID": os.environ["OPAGENT_TEST_ID"]}
        values = {"cwd": str(tmp_path), "env": environment, "log": tmp_path / "logs" / f"{ident}.log"} | changes
        argv = values.pop("argv", (sys.executable, "-I", "-S", DOUBLES, *words))
        return Launch(ProcessId(ident), argv, **values)

    return make


Make = Callable[..., Launch]


def run(body: Coroutine[Any, Any, Any]) -> Any:
    async def with_reaper() -> Any:
        burying = reaper.Reaper()
        burying.start()
        try:
            async with asyncio.timeout(PATIENCE):
                return await body
        finally:
            burying.stop()

    return asyncio.run(with_reaper())


async def until(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


async def whole(process: Process) -> bytes:
    said = b""
    while data := await process.read():
        said += data
    return said


async def line(process: Process) -> str:
    said = b""
    while not said.endswith(b"\n"):
        data = await process.read()
        assert data, f"it ended after {said!r}"
        said += data
    return said.decode().strip()


def gone(pid: int) -> bool:
    return tree.start_time(pid) is None


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# ---- talking -------------------------------------------------------------------------------------------------------


def test_talk_and_stop(launch: Make) -> None:
    async def body() -> ExitReport:
        process = await Process.start(launch("echo"))
        await process.send(b"hello\n")
        assert await line(process) == "hello"
        assert not process.ended
        assert process.start_time == tree.start_time(process.pid)
        report = await process.stop()
        assert await process.read() == b""
        assert process.ended
        return report

    before = descriptors()
    report = run(body())
    assert (report.code, report.signal, report.reason) == (0, None, "stopped")
    assert descriptors() == before


def test_five_megabytes_there_and_back(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("echo"))
        data = os.urandom(5_000_000)

        async def speak() -> None:
            await process.send(data)
            await process.close_stdin()

        said, _ = await asyncio.gather(whole(process), speak())
        assert said == data
        assert (await process.wait()).reason == "clean"

    run(body())


def test_messages_of_several_senders_stay_whole(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("echo"))
        lines = [bytes([65 + number]) * 200_000 + b"\n" for number in range(8)]

        async def speak() -> None:
            await asyncio.gather(*map(process.send, lines))
            await process.close_stdin()

        said, _ = await asyncio.gather(whole(process), speak())
        assert sorted(said.splitlines(keepends=True)) == lines
        await process.wait()

    run(body())


def test_what_a_program_inherits(launch: Make) -> None:
    async def body() -> None:
        keep = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(keep, True)
        process = await Process.start(launch("facts"))
        found, names, umask, leader = ast.literal_eval(await line(process))
        os.close(keep)
        assert found == [0, 1, 2]
        assert set(names) - {"LC_CTYPE"} == {"OPAGENT_PROCESS", "OPAGENT_TEST_ID", "PATH"}  # Python itself sets LC_CTYPE
        assert umask == 0o077
        assert leader
        await process.stop()

    before = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
    run(body())
    assert resource.getrlimit(resource.RLIMIT_MSGQUEUE) == before


def test_nothing_is_read_unless_asked(launch: Make, tmp_path: Path) -> None:
    async def body() -> None:
        count = tmp_path / "count"
        process = await Process.start(launch("flood", str(count)))
        await until(count.exists)
        seen = -1
        while (now := int(count.read_text())) != seen:  # until it does not move any more: it waits in its write
            seen = now
            await asyncio.sleep(0.2)
        assert 65536 * seen <= STDOUT_PIPE
        assert await process.read()
        await until(lambda: int(count.read_text()) > seen)
        await process.stop(stdin=0, term=0)

    run(body())


def test_a_flood_leaves_time_for_others(launch: Make, tmp_path: Path) -> None:
    async def body() -> None:
        process = await Process.start(launch("flood", str(tmp_path / "count")))
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        async with asyncio.timeout(PATIENCE):
            ticking = asyncio.create_task(tick())
            for _ in range(200):
                assert await process.read()
            ticking.cancel()
        assert ticks >= 200
        await process.stop(stdin=0, term=0)

    run(body())


def test_who_never_reads_is_stuck(launch: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PATIENCE", 0.3)

    async def body() -> None:
        process = await Process.start(launch("deaf"))
        with pytest.raises(AgentStuck, match="does not read"):
            await process.send(b"q" * 1_000_000)
        with pytest.raises(AgentStuck, match="half a message"):
            await process.send(b"{}\n")
        await process.stop(stdin=0, term=0)

    run(body())


def test_a_slow_reader_is_not_stuck(launch: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The patience is for silence, not for the whole message."""
    monkeypatch.setattr(supervisor, "PATIENCE", 2.0)

    async def body() -> None:
        process = await Process.start(launch("echo"))
        sending = asyncio.create_task(process.send(b"s" * 2_000_000))
        got = 0
        while got < 2_000_000:
            said = await process.read()
            got += len(said)
            await asyncio.sleep(3.0 * len(said) / 2_000_000)  # 3 s in all
        await sending
        await process.stop()

    run(body())


def test_a_cancelled_sender_leaves_no_half_message_behind_it(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("deaf"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await process.send(b"q" * 1_000_000)
        with pytest.raises(AgentStuck):
            await process.send(b"{}\n")
        await process.stop(stdin=0, term=0)

    run(body())


def test_who_closed_its_input_has_crashed_for_the_sender(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("close_stdin"))
        assert await line(process) == "ready"
        with pytest.raises(AgentCrashed):
            await process.send(b"{}\n")
        await process.stop(stdin=0, term=0)

    run(body())


def test_a_sender_that_waits_hears_of_the_end(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("deaf"))
        sending = asyncio.create_task(process.send(b"q" * 1_000_000))
        await asyncio.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(AgentCrashed):
            await sending
        assert (await process.wait()).reason == "killed"

    run(body())


# ---- ends of its own -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "reason"), [(0, "clean"), (1, "crashed"), (64, "crashed"), (255, "crashed")])
def test_exit_codes(launch: Make, code: int, reason: str) -> None:
    async def body() -> None:
        begin = time.monotonic()
        process = await Process.start(launch("leave", str(code)))
        assert await process.read() == b""
        assert process.ended
        report = await process.wait()
        assert (report.code, report.signal, report.reason, report.stderr_tail) == (code, None, reason, "leaving\n")
        assert 0 < report.uptime <= time.monotonic() - begin

    run(body())


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGKILL, "killed"), (signal.SIGTERM, "killed"), (signal.SIGSEGV, "crashed"), (signal.SIGABRT, "crashed")],
)
def test_signals(launch: Make, number: signal.Signals, reason: str) -> None:
    async def body() -> None:
        process = await Process.start(launch("die", str(number.value)))
        report = await process.wait()
        assert (report.code, report.signal, report.reason) == (None, number, reason)

    run(body())


def test_last_words_are_read_after_the_end(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("talk", "200000"))
        assert (await process.wait()).code == 0
        assert await whole(process) == b"y" * 200_000
        assert await process.read() == b""

    before = descriptors()
    run(body())
    assert descriptors() == before


def test_a_descendant_that_holds_the_pipes_delays_nothing(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("leave_a_holder"))
        said = await whole(process)
        report = await process.wait()
        assert (report.code, report.reason) == (3, "crashed")
        assert gone(int(said))

    run(body())


def test_the_tree_goes_even_when_nobody_waits(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("daemonise", "plain"))
        left = int(await line(process))
        os.kill(process.pid, signal.SIGKILL)
        await until(lambda: gone(left))
        assert (await process.wait()).signal == signal.SIGKILL

    run(body())


def test_closing_stdout_is_no_end(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("close_stdout"))
        assert await line(process) == "last words"
        assert await process.read() == b""
        assert not process.ended
        report = await process.stop(stdin=0.05, reason="crashed")
        assert (report.signal, report.reason) == (signal.SIGTERM, "crashed")

    run(body())


# ---- stderr --------------------------------------------------------------------------------------------------------


def test_a_hundred_megabytes_of_stderr(launch: Make, tmp_path: Path) -> None:
    async def body() -> ExitReport:
        return await (await Process.start(launch("shout", "100"))).wait()

    report = run(body())
    assert len(report.stderr_tail) == pipes.TAIL_LIMIT
    assert report.stderr_tail.endswith("x\nthe end\n")
    logs = sorted((tmp_path / "logs").iterdir())
    assert [path.name for path in logs] == [name(1) + ".log", name(1) + ".log.1"]
    assert all(path.stat().st_size <= pipes.LOG_LIMIT for path in logs)
    assert logs[0].read_bytes().endswith(b"the end\n")
    assert {path.stat().st_mode & 0o777 for path in logs} == {0o600}


def test_a_log_that_cannot_be_written_stops_nobody(launch: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def body() -> ExitReport:
        return await (await Process.start(launch("leave", "0", log=tmp_path / "file" / "x.log"))).wait()

    assert run(body()).stderr_tail == "leaving\n"


# ---- the ladder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "waits", "code", "number"),
    [
        ("echo", (PATIENCE, 0), 0, None),
        ("ignore_eof", (0.1, PATIENCE), None, signal.SIGTERM),
        ("leave_on_term", (0.1, PATIENCE), 7, None),
        ("ignore_term", (0.1, 0.1), None, signal.SIGKILL),
        ("stop_itself", (0.1, PATIENCE), None, signal.SIGTERM),
    ],
)
def test_the_ladder(launch: Make, mode: str, waits: tuple[float, float], code: int | None, number: int | None) -> None:
    async def body() -> None:
        process = await Process.start(launch(mode))
        if mode != "echo":
            assert await line(process) == "ready"
        report = await process.stop(*waits)
        assert (report.code, report.signal, report.reason) == (code, number, "stopped")

    run(body())


def test_stopping_twice_hurries(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("ignore_term"))
        await line(process)
        slow = asyncio.create_task(process.stop(stdin=30, term=30))
        await asyncio.sleep(0.05)
        assert (await process.stop(stdin=0, term=0)).signal == signal.SIGKILL
        assert (await slow).signal == signal.SIGKILL

    run(body())


def test_a_cancelled_stop_kills(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("ignore_term"))
        await line(process)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await process.stop(stdin=30)
        assert (await process.wait()).signal == signal.SIGKILL

    run(body())


def test_stopping_what_is_dead_reports_how_it_died(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("leave", "5"))
        await process.wait()
        assert (await process.stop()).reason == "crashed"

    run(body())


# ---- the tree ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["plain", "bare"])
def test_a_daemonised_child_goes_and_the_neighbour_stays(launch: Make, how: str) -> None:
    """Double fork, own session, no descriptor left, `bare`: no environment either. Two agents do it at the same time."""

    async def body() -> None:
        first, second = [await Process.start(launch("daemonise", how, ident=ident)) for ident in (name(1), name(2))]
        left, other = int(await line(first)), int(await line(second))
        assert not gone(left)
        await first.stop()
        assert gone(left)
        assert not gone(other)
        os.kill(second.pid, signal.SIGKILL)  # also when the program itself ends before anybody looked at its children
        await second.wait()
        assert gone(other)

    run(body())


def test_a_hundred_children(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("children", "100"))
        await line(process)
        family = process._child.family
        assert len(tree.members(family)) == 101
        await process.stop(stdin=0.5)
        assert tree.members(family) == []

    run(body())


def test_a_process_that_keeps_changing_its_pid(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("hop"))
        await line(process)
        await process.wait()
        assert tree.members(process._child.family) == []

    run(body())


def test_a_sweep_without_descriptors_waits_for_some(launch: Make) -> None:
    """Where nothing can be read, nothing is taken for gone."""

    async def body() -> None:
        process = await Process.start(launch("daemonise", "plain"))
        left = int(await line(process))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            os.kill(process.pid, signal.SIGKILL)
            await asyncio.sleep(0.5)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert not gone(left)
        await process.wait()
        assert gone(left)

    run(body())


def test_fifty_at_once(launch: Make) -> None:
    async def body() -> None:
        processes = [await Process.start(launch("children", "1", ident=f"y{number}")) for number in range(50)]
        await asyncio.gather(*map(line, processes))
        families = [process._child.family for process in processes]
        reports = await asyncio.gather(*(process.stop(stdin=0, term=0) for process in processes))
        assert {report.signal for report in reports} <= {signal.SIGKILL, None}  # None: the end of its stdin was faster
        assert not any(map(tree.members, families))

    run(body())


def test_leftovers_of_an_earlier_daemon(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("daemonise", "plain", ident=name(9)))
        left = int(await line(process))
        assert not await tree.kill_leftover(process.pid, process.start_time, "another boot")
        assert not await tree.kill_leftover(process.pid, process.start_time - 1, tree.boot_id())
        assert not process.ended
        assert await tree.kill_leftover(process.pid, process.start_time, tree.boot_id())
        assert (await process.wait()).signal == signal.SIGKILL
        assert gone(left)
        assert not await tree.kill_leftover(process.pid, process.start_time, tree.boot_id())

    run(body())


def test_a_sweep_by_markers(launch: Make) -> None:
    async def body() -> None:
        processes = [await Process.start(launch("daemonise", "plain", ident=ident)) for ident in (name(1), name(2), name(3))]
        lefts = [int(await line(process)) for process in processes]
        assert await tree.sweep({name(1), name(2)}) == 0
        assert [gone(left) for left in lefts] == [True, True, False]
        assert await tree.sweep(()) == 0
        await asyncio.gather(*(process.stop() for process in processes))
        assert gone(lefts[2])

    run(body())


def test_a_sweep_while_programs_are_replaced(tmp_path: Path) -> None:
    """In the middle of an exec a process shows no environment."""
    again = tmp_path / "again"
    again.write_text('exec /bin/sh "$0"\n')
    environment = {**os.environ, tree.MARKER: name(8)}
    for _ in range(40):
        with subprocess.Popen(["/bin/sh", str(again)], env=environment) as process:
            try:
                assert asyncio.run(tree.sweep({name(8)})) == 0
                assert process.wait(1) == -signal.SIGKILL
            finally:
                process.kill()


def test_a_marker_of_our_own_does_not_end_us(launch: Make) -> None:
    """A test or a daemon that itself runs below an agent carries that agent's marker."""
    code = "import asyncio, sys; from opagent.process import tree; asyncio.run(tree.sweep({'x7'})); print('alive', flush=True)"
    environment = dict(os.environ) | {"OPAGENT_PROCESS": name(7)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout == "alive\n", done.stderr


# ---- the reaper ----------------------------------------------------------------------------------------------------


def test_the_reaper_takes_the_adopted_and_nothing_else(launch: Make) -> None:
    def zombies() -> set[int]:
        return {row.pid for row in tree.Table().rows.values() if row.parent == os.getpid() and row.state == "Z"}

    popen = subprocess.Popen([sys.executable, "-I", "-S", DOUBLES, "leave", "3"], stderr=subprocess.DEVNULL)

    async def body() -> None:
        await until(lambda: popen.pid in zombies())
        process = await Process.start(launch("daemonise", "plain"))
        left = int(await line(process))
        await process.stop()
        await until(lambda: left not in zombies())
        assert popen.pid in zombies()
        assert popen.wait() == 3

    run(body())


def test_the_daemon_cannot_be_traced_and_leaves_no_core() -> None:
    code = (
        "import ctypes, os, resource; from opagent.process.reaper import become_subreaper; become_subreaper();"
        "libc = ctypes.CDLL(None); flag = ctypes.c_int(); libc.prctl(37, ctypes.byref(flag));"
        "print(libc.prctl(3), flag.value, resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout == "0 1 (0, 0)\n", done.stderr


# ---- what cannot be started ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "error", "words"),
    [
        ("missing", RuntimeNotInstalled, "is not on this machine"),
        ("no directory", NotFound, "cannot be started in"),
        ("not executable", AgentFailed, "may not be executed"),
        ("no interpreter", AgentFailed, "the interpreter that its first line names is missing"),
        ("no program", AgentFailed, "no program for this machine"),
        ("too large", AgentFailed, "too large"),
        ("NUL", AgentFailed, "cannot be started"),
        ("descriptors", AgentFailed, "no file descriptors left"),
    ],
)
def test_what_cannot_be_started(launch: Make, tmp_path: Path, case: str, error: type[OpAgentError], words: str) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!/no/such/interpreter\n" if case == "no interpreter" else b"\x7fNOT\x01\x02" * 40)
    program.chmod(0o644 if case == "not executable" else 0o755)
    path = str(program)
    tried = {
        "missing": launch(argv=("no-such-agent", "acp")),
        "no directory": launch("echo", cwd=str(tmp_path / "nowhere")),
        "too large": launch("echo", "a" * 3_000_000),
        "NUL": launch("a\0b"),
        "descriptors": launch("echo"),
    }.get(case, launch(argv=(path,)))

    async def body() -> OpAgentError:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if case == "descriptors":
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() + 2, hard))
        try:
            with pytest.raises(error) as caught:
                await Process.start(tried)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return caught.value

    before = descriptors()
    raised = run(body())
    assert words in str(raised)
    assert type(raised) is error
    assert raised.hint
    assert descriptors() == before


# ---- the table -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[proc, foreign], ids=["proc", "psutil"])
def figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "source", lambda: request.param)


@pytest.mark.usefixtures("figures")
def test_the_table_counts_whole_trees(launch: Make) -> None:
    async def body() -> None:
        one, many = await Process.start(launch("echo")), await Process.start(launch("children", "5", ident=name(2)))
        await line(many)
        await one.send(b"x\n")
        await line(one)
        found = table.usage([one.pid, many.pid, 2**22 + 1])
        assert set(found) == {one.pid, many.pid}
        assert (found[one.pid].processes, found[many.pid].processes) == (1, 6)
        assert found[many.pid].memory > found[one.pid].memory > 1_000_000
        assert table.ports([one.pid]) == {one.pid: ()}
        below = table.children([one.pid, many.pid])
        assert below[one.pid] == () and [child.parent for child in below[many.pid]] == [many.pid] * 5
        assert all("processes.py children 5" in child.command for child in below[many.pid])
        await asyncio.gather(one.stop(), many.stop(stdin=0.1))

    run(body())


@pytest.mark.usefixtures("figures")
def test_the_ports_of_a_tree_are_found(launch: Make) -> None:
    async def body() -> None:
        process = await Process.start(launch("listen"))
        port = int(await line(process))
        assert table.ports([process.pid]) == {process.pid: (port,)}
        await process.stop()

    run(body())


def test_without_proc_and_psutil_there_are_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    there = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path != "/proc/self/stat" and there(path))
    assert table.source() is foreign
    monkeypatch.setitem(sys.modules, "opagent.process.foreign", None)
    assert table.source() is None
    assert table.usage([os.getpid()]) == table.ports([os.getpid()]) == table.children([os.getpid()]) == {}
