"""A wire between two network namespaces, with a delay, losses and partitions that a test sets.

A process of its own moves packets between two TUN devices; kernels without netem can do it, too.
Linux, root.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI, _CLONE_NEWNET = 0x400454CA, 0x0001, 0x1000, 0x40000000
HERE, THERE = "10.99.0.1", "10.99.0.2"
"""Addresses of the two ends."""


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """What this thread starts meanwhile is in that network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    wanted = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(wanted, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter namespace {namespace}")
        try:
            yield
        finally:
            libc.setns(before, _CLONE_NEWNET)
    finally:
        os.close(before)
        os.close(wanted)


class Wire:
    """Two namespaces, `here` and `there`, and what moves packets between them."""

    addresses = (HERE, THERE)
    inside = staticmethod(inside)

    def __init__(self) -> None:
        number = os.getpid()
        self.here, self.there = f"fleet-a-{number}", f"fleet-b-{number}"
        self._ready, told = os.pipe()
        for name in (self.here, self.there):
            subprocess.run(["ip", "netns", "add", name], check=True)
        self._process = subprocess.Popen(
            [sys.executable, __file__, self.here, self.there, str(told)],
            stdin=subprocess.PIPE,
            pass_fds=[told],
        )
        os.close(told)
        assert os.read(self._ready, 1) == b"1"

    def set(self, delay: float = 0.0, loss: float = 0.0) -> None:
        """From now on each packet takes `delay` seconds, and is lost with that probability."""
        assert self._process.stdin
        self._process.stdin.write(f"{delay} {loss}\n".encode())
        self._process.stdin.flush()
        assert os.read(self._ready, 1) == b"1"

    def cut(self) -> None:
        """Nothing comes through."""
        self.set(loss=1.0)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
        os.close(self._ready)
        for name in (self.here, self.there):
            subprocess.run(["ip", "netns", "del", name], check=True)


def _device(namespace: str) -> int:
    with inside(namespace):
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", b"w0", _IFF_TUN | _IFF_NO_PI))
    return device


def _move(names: list[str], told: int) -> None:
    devices = [_device(name) for name in names]
    for name, own, peer in zip(names, (HERE, THERE), (THERE, HERE), strict=True):
        for words in (
            ["addr", "add", own, "peer", peer, "dev", "w0"],
            ["link", "set", "w0", "up"],
            ["link", "set", "lo", "up"],
        ):
            subprocess.run(["ip", "-n", name, *words], check=True)
    os.write(told, b"1")
    other = {devices[0]: devices[1], devices[1]: devices[0]}
    delay = loss = 0.0
    chance = random.Random(0)
    waiting: list[tuple[float, int, int, bytes]] = []
    poll = select.poll()
    for descriptor in (*devices, 0):
        poll.register(descriptor, select.POLLIN)
    serial = 0
    while True:
        due = max(waiting[0][0] - time.monotonic(), 0.0) * 1000 if waiting else None
        for descriptor, _ in poll.poll(due):
            if descriptor == 0:
                lines = os.read(0, 4096).decode().split("\n")
                if lines == [""]:
                    return
                delay, loss = map(float, lines[-2].split())
                os.write(told, b"1")
                continue
            while True:
                try:
                    packet = os.read(descriptor, 65535)
                except BlockingIOError:
                    break
                if chance.random() >= loss:
                    serial += 1
                    at = time.monotonic() + delay
                    heapq.heappush(waiting, (at, serial, other[descriptor], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, target, packet = heapq.heappop(waiting)
            try:
                os.write(target, packet)
            except OSError:  # its queue is full: as on a real wire, the packet is gone
                continue


def boots(place: Path) -> list[str]:
    """Words before a command that make it see another boot id, the one that `place` holds."""
    mount = f'mount --bind {place} /proc/sys/kernel/random/boot_id && exec "$@"'
    return ["unshare", "-m", "sh", "-c", mount, "sh"]


if __name__ == "__main__":
    _move(sys.argv[1:3], int(sys.argv[3]))
