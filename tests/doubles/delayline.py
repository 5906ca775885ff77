"""Two network namespaces joined by a line of delayed packets; needs root and /dev/net/tun. `python -m tests.doubles.delayline` is its process.

Each end is a TUN device in a namespace of its own (A and B below), and what one gets leaves at the other after the delay: TCP sees real
packets, slow start, loss and silence. The namespaces have no names: they are gone with the process and with those that run in them.
A command a line on the standard input (`delay 0.05`, `loss 0.01`, `rate 1000000`, `hole 1`), an answer a line on the output.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import time
from typing import Any

ADDRESSES = ("10.77.0.1", "10.77.0.2")
QUEUED = 0.4  # seconds of a rate that may wait at the line before packets are dropped
_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
_UP = 0x1
_LARGEST = 65536


def usable() -> bool:
    return os.geteuid() == 0 and os.access("/dev/net/tun", os.R_OK | os.W_OK)


def enter(namespace: int) -> None:
    """This thread, and what it starts, is in the namespace from now on."""
    _libc(lambda libc: libc.setns(namespace, _NEWNET))


def here() -> int:
    """A descriptor of the namespace that this thread is in."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _libc(call: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if call(libc) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _end(address: str) -> tuple[int, int]:
    """(its TUN device, its namespace); the process stays inside."""
    _libc(lambda libc: libc.unshare(_NEWNET))
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"line", _IFF_TUN | _IFF_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for name, ip, mask in ((b"lo", "127.0.0.1", "255.0.0.0"), (b"line", address, "255.255.255.252")):
            fcntl.ioctl(any_socket, _SIOCSIFADDR, _request(name, ip))
            fcntl.ioctl(any_socket, _SIOCSIFNETMASK, _request(name, mask))
            (flags,) = struct.unpack_from("H", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16s24x", name)), 16)
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", name, flags | _UP))
    return device, here()


def _request(name: bytes, ip: str) -> bytes:
    return struct.pack("16sHH4s16x", name, socket.AF_INET, 0, socket.inet_aton(ip))


class _Line:
    """Packets that wait, in the order in which they leave."""

    def __init__(self, devices: tuple[int, int]) -> None:
        self.delay = self.loss = self.rate = self.hole = 0.0
        self._devices = devices
        self._free = [0.0, 0.0]  # when the last packet of a direction has left the rate behind
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self._chance = random.Random(1)

    def read(self, end: int) -> None:
        """Everything that has come at one end."""
        while True:
            try:
                packet = os.read(self._devices[end], _LARGEST)
            except BlockingIOError:
                return
            now = time.monotonic()
            begins = max(now, self._free[end])
            if self.hole or self._chance.random() < self.loss or begins - now > QUEUED:
                continue
            leaves = begins + (len(packet) * 8 / self.rate if self.rate else 0.0)
            self._free[end] = leaves
            self._count += 1
            heapq.heappush(self._waiting, (leaves + self.delay, self._count, 1 - end, packet))

    def write(self) -> float | None:
        """What is due; seconds until the next is."""
        while self._waiting:
            due = self._waiting[0][0] - time.monotonic()
            if due > 0:
                return due
            _, _, end, packet = heapq.heappop(self._waiting)
            try:
                if not self.hole:
                    os.write(self._devices[end], packet)
            except OSError:
                pass  # what IPv6 says of itself, or a full device: lost, as on any line
        return None


def _run() -> None:
    (device_a, space_a), (device_b, space_b) = _end(ADDRESSES[0]), _end(ADDRESSES[1])
    line = _Line((device_a, device_b))
    print(json.dumps({"namespaces": [space_a, space_b]}), flush=True)
    while True:
        ready, _, _ = select.select([device_a, device_b, 0], [], [], line.write())
        for end, device in enumerate((device_a, device_b)):
            if device in ready:
                line.read(end)
        if 0 in ready:
            said = os.read(0, 4096)
            if not said:
                return
            for command in said.decode().splitlines():
                name, value = command.split()
                setattr(line, name, float(value))
                print("{}", flush=True)


if __name__ == "__main__":
    sys.exit(_run())
