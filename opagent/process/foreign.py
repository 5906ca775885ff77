"""The figures of processes where there is no /proc, as psutil tells them; a `Source` of table.py. Importing it needs psutil."""

from __future__ import annotations

from collections.abc import Iterable

import psutil


def parents() -> dict[int, int]:
    return {process.pid: process.info["ppid"] for process in psutil.process_iter(["ppid"])}


def used(pid: int) -> tuple[int, float] | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return process.memory_info().rss, times.user + times.system
    except psutil.Error:
        return None


def described(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return None


def listening(pids: Iterable[int]) -> set[int]:
    found = set()
    for pid in pids:
        try:
            connections = psutil.Process(pid).net_connections("tcp")
        except psutil.Error:
            continue
        found |= {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}
    return found
