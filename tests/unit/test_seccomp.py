"""What the filter's instructions answer to each call, on both machines: by a small interpreter of classic BPF."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.process import seccomp
from opagent.process.seccomp import KERNEL, MACHINES, MOUNTS, OTHER_PROCESSES, SHARED, program

ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
HEADERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": "/usr/include/asm-generic/unistd.h",
}
FILTERS = [
    {},
    {"nested": True},
    {"families": ()},
    {"families": (seccomp.AF_INET, seccomp.AF_INET6), "namespaces": False},
]
anywhere = pytest.mark.parametrize("machine", sorted(MACHINES))


def verdict(filter: bytes, audit: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would do. Every jump leads forward, and into the program."""
    data = struct.pack("<iIQ6Q", number, audit, 0, *(*arguments, *[0] * (6 - len(arguments))))
    steps = list(struct.iter_unpack("HBBI", filter))
    accumulator, at = 0, 0
    while True:
        code, yes, no, value = steps[at]
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x54:
                accumulator &= value
            case 0x15:
                at += yes if accumulator == value else no
            case 0x35:
                at += yes if accumulator >= value else no
            case 0x45:
                at += yes if accumulator & value else no
            case 0x06:
                return value
            case _:
                raise AssertionError(f"instruction {code:#x}")


def answer(machine: str, name: str, *arguments: int, **options: object) -> int:
    kind = MACHINES[machine]
    return verdict(program(machine, **options), kind.audit, kind.numbers[name], arguments)  # type: ignore[arg-type]


@anywhere
def test_what_is_never_allowed(machine: str) -> None:
    for name in (*OTHER_PROCESSES, *KERNEL, *MOUNTS):
        assert answer(machine, name) == EPERM, name
    assert answer(machine, "openat2") == answer(machine, "clone3") == ENOSYS


@anywhere
def test_a_runtime_with_a_sandbox_of_its_own_may_mount_and_nothing_else(machine: str) -> None:
    for name in (*OTHER_PROCESSES, *KERNEL):
        assert answer(machine, name, nested=True) == EPERM, name
    for name in (*MOUNTS, "clone3"):
        assert answer(machine, name, nested=True) == ALLOW, name
    assert answer(machine, "clone", 0x10000000, nested=True) == ALLOW
    assert answer(machine, "openat2", nested=True) == ENOSYS


@anywhere
@pytest.mark.parametrize("flag", [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000])
def test_threads_and_children_but_no_namespaces(machine: str, flag: int) -> None:
    thread, child = 0x3D0F00, 17
    assert answer(machine, "clone", thread) == answer(machine, "clone", child) == ALLOW
    assert answer(machine, "clone", thread | flag) == answer(machine, "clone", child | flag) == EPERM


@anywhere
def test_sockets_by_family(machine: str) -> None:
    for family in range(46):
        usual = ALLOW if family in seccomp.FAMILIES else EPERM
        assert answer(machine, "socket", family, 1) == usual, family
        assert answer(machine, "socket", family, 1, families=()) == EPERM
    # the kernel takes an int: what stands in the upper half changes nothing
    assert answer(machine, "socket", 0x1_0000_0001) == ALLOW
    assert answer(machine, "socket", 0x1_0000_0028) == EPERM


@anywhere
def test_only_plain_streams(machine: str) -> None:
    only = {"families": (seccomp.AF_INET,), "namespaces": False}
    stream, flagged, datagram, raw = 1, 0o2004001, 2, 3
    for kind in (stream, flagged):
        assert answer(machine, "socket", 2, kind, 0, **only) == answer(machine, "socket", 2, kind, 6, **only) == ALLOW
        assert answer(machine, "socket", 2, kind, 262, **only) == answer(machine, "socket", 2, kind, 132, **only) == EPERM
    assert answer(machine, "socket", 2, datagram, **only) == answer(machine, "socket", 2, raw, **only) == EPERM
    assert answer(machine, "socket", 10, stream, **only) == EPERM
    for name, flags in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)):
        before = [0] * flags
        assert answer(machine, name, *before, 0x4000, **only) == ALLOW
        assert answer(machine, name, *before, 0x20004000, **only) == EPERM
        assert answer(machine, name, *before, 0x20000000) == ALLOW


@anywhere
def test_what_namespaces_would_keep_apart(machine: str) -> None:
    for name in SHARED:
        assert answer(machine, name) == ALLOW
        assert answer(machine, name, namespaces=False) == EPERM, name
    assert answer(machine, "prlimit64", 0, namespaces=False) == answer(machine, "prlimit64", 4711) == ALLOW
    assert answer(machine, "prlimit64", 4711, namespaces=False) == EPERM


@anywhere
def test_the_terminal_of_a_person(machine: str) -> None:
    assert answer(machine, "ioctl", 0, 0x5412) == answer(machine, "ioctl", 0, 0xFFFF_FFFF_0000_541C) == EPERM
    assert answer(machine, "ioctl", 0, 0x5413) == ALLOW


@anywhere
@given(mode=st.integers(0, 0o7777), flags=st.integers(0, 2**25 - 1))
def test_no_set_id_bit_by_any_call(machine: str, mode: int, flags: int) -> None:
    numbers = MACHINES[machine].numbers
    expected = EPERM if mode & 0o6000 else ALLOW
    for name, at in (("chmod", 1), ("fchmod", 1), ("creat", 1), ("mknod", 1), ("fchmodat", 2), ("fchmodat2", 2), ("mknodat", 2)):
        if name in numbers:
            assert answer(machine, name, *[0] * at, mode) == expected, name
    makes = flags & (0o100 | 0o20000000)
    for name, at in (("open", 1), ("openat", 2)):
        if name in numbers:
            assert answer(machine, name, *[0] * at, flags, mode) == (expected if makes else ALLOW), name


@anywhere
@given(number=st.integers(0, 1000), options=st.sampled_from(FILTERS))
def test_every_other_call_is_allowed(machine: str, number: int, options: dict[str, object]) -> None:
    kind = MACHINES[machine]
    if number not in kind.numbers.values():
        assert verdict(program(machine, **options), kind.audit, number) == ALLOW  # type: ignore[arg-type]


@anywhere
@given(audit=st.integers(0, 2**32 - 1), number=st.integers(0, 500))
def test_another_machine_is_killed(machine: str, audit: int, number: int) -> None:
    if audit != MACHINES[machine].audit:
        assert verdict(program(machine), audit, number) == KILL


@given(number=st.integers(0, 2**30 - 1))
def test_the_second_set_of_numbers_is_refused(number: int) -> None:
    assert verdict(program("x86_64"), MACHINES["x86_64"].audit, 0x40000000 | number) == EPERM


@anywhere
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    header = Path(HEADERS[machine])
    if not header.exists():
        pytest.skip(f"not run: {header} is not here (linux-libc-dev)")
    said = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text())}
    numbers = MACHINES[machine].numbers
    assert all(numbers[name] >= 424 for name in numbers if name not in said), "only calls newer than these headers may be missing"
    assert {name: numbers[name] for name in said if name in numbers} == {name: said[name] for name in said if name in numbers}


def test_nothing_is_listed_without_a_number() -> None:
    for machine in MACHINES.values():
        assert {*OTHER_PROCESSES, *KERNEL, *MOUNTS, *SHARED, "clone", "clone3", "openat2", "socket", "ioctl"} <= set(
            machine.numbers
        )
        assert len(set(machine.numbers.values())) == len(machine.numbers)


def test_a_machine_without_a_table() -> None:
    with pytest.raises(KeyError):
        program("riscv64")
