"""The kernel's calls that a confined program has no use of, and that no namespace holds.

Keyrings are inherited, whatever is unshared: a program inside could read the keys of who logged in,
and leave some for the next one. Sockets of other families than local, internet and netlink (vsock,
Bluetooth, the kernel's ciphers) are of the machine and not of a network namespace: without a
network they are refused, so that a virtual machine's host cannot be spoken to. Promises: both are
told to a program as what an older kernel lacks, which programs know how to go on without; a filter
is made once in a process; on machines whose numbers are not known here there is none.
"""

from __future__ import annotations

import fcntl
import os

_DATA_NUMBER, _DATA_ARCH, _DATA_FIRST = 0, 4, 16
_LOAD, _JUMP_EQUAL, _JUMP_FROM, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NO_CALL, _NO_FAMILY = 38, 97
"""ENOSYS, EAFNOSUPPORT."""
_FAMILIES = (1, 2, 10, 16)
"""Local, IPv4, IPv6, netlink."""
_X32 = 0x40000000
_TABLES = {
    # kind: (of the kernel's audit, add_key, request_key, keyctl, socket, socketcall)
    "x86_64": (0xC000003E, 248, 249, 250, 41, 0),
    "i386": (0x40000003, 286, 287, 288, 359, 102),
    "aarch64": (0xC00000B7, 217, 218, 219, 198, 0),
    "arm": (0x40000028, 309, 310, 311, 281, 102),
    "riscv64": (0xC00000F3, 217, 218, 219, 198, 0),
}
_OF = {
    "x86_64": ("x86_64", "i386"),
    "aarch64": ("aarch64", "arm"),
    "riscv64": ("riscv64",),
}
_IO_URING = 425
"""The same everywhere. What is asked for in its rings passes no filter."""
FILTER_FD = 4
"""Where bubblewrap reads the filter."""
_OUT_OF_THE_WAY = 10
"""What is opened as a descriptor was closed before: the filter's own must be another one."""
_made: dict[bool, int] = {}


def words() -> list[str]:
    """What bubblewrap is told of it."""
    return ["--seccomp", str(FILTER_FD)] if os.uname().machine in _OF else []


def actions(*, network: bool) -> list[tuple[int, int, str, int, int]]:
    """What a process that becomes bubblewrap opens before, as `posix_spawn` takes it."""
    kinds = _OF.get(os.uname().machine)
    if kinds is None:
        return []
    if network not in _made:
        fd = os.memfd_create("calls", os.MFD_CLOEXEC)
        os.write(fd, program(kinds, network=network))
        _made[network] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
        os.close(fd)
    path = f"/proc/self/fd/{_made[network]}"
    return [(os.POSIX_SPAWN_OPEN, FILTER_FD, path, os.O_RDONLY, 0)]


def program(kinds: tuple[str, ...], *, network: bool) -> bytes:
    """The filter for programs of these kinds, in the kernel's form."""
    made = _word(_LOAD, _DATA_ARCH)
    for kind in kinds:
        block = _block(kind, network)
        made += _word(_JUMP_EQUAL, _TABLES[kind][0], 0, len(block) // 8) + block
    return made + _word(_RETURN, _ERRNO | _NO_CALL)


def _block(kind: str, network: bool) -> bytes:
    _, *numbers, socket, socketcall = _TABLES[kind]
    if not network:
        numbers.append(_IO_URING)
    if socketcall and not network:  # what it is asked for lies in memory, which no filter sees
        numbers.append(socketcall)
    made = _word(_LOAD, _DATA_NUMBER)
    if kind == "x86_64":
        made += _word(_JUMP_FROM, _X32, 0, 1) + _word(_RETURN, _ERRNO | _NO_CALL)
    for number in numbers:
        made += _word(_JUMP_EQUAL, number, 0, 1) + _word(_RETURN, _ERRNO | _NO_CALL)
    if not network:
        made += _word(_JUMP_EQUAL, socket, 0, 2 + len(_FAMILIES)) + _word(_LOAD, _DATA_FIRST)
        for at, family in enumerate(_FAMILIES):
            made += _word(_JUMP_EQUAL, family, len(_FAMILIES) - at, 0)
        made += _word(_RETURN, _ERRNO | _NO_FAMILY)
    return made + _word(_RETURN, _ALLOW)


def _word(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return code.to_bytes(2, "little") + bytes((yes, no)) + value.to_bytes(4, "little")
