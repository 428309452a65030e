"""Calls that no namespace holds: keyrings of who logged in, sockets of the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.worker import syscalls
from tests.sandbox.conftest import Confiner

pytestmark = pytest.mark.slow

ADD, REQUEST, CONTROL = syscalls._TABLES[os.uname().machine][1:4]
_CALL = f"""import ctypes, errno, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(*words):
    answer = libc.syscall(*words)
    return "ok" if answer >= 0 else errno.errorcode[ctypes.get_errno()]
ADD, REQUEST, CONTROL = {ADD}, {REQUEST}, {CONTROL}
SESSION = -3
"""
_INSIDE = """
print("add", call(ADD, b"user", b"left", b"x", 1, SESSION))
print("request", call(REQUEST, b"user", b"fleet-test", None, 0))
print("session", call(CONTROL, 0, SESSION, 0))
print("rings", call(425, 8, ctypes.create_string_buffer(256)))
for name in ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_VSOCK", "AF_ALG"):
    try:
        kind = socket.SOCK_SEQPACKET if name == "AF_ALG" else socket.SOCK_STREAM
        kind = socket.SOCK_RAW if name == "AF_NETLINK" else kind
        socket.socket(getattr(socket, name), kind).close()
        print(name, "ok")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
"""


def answers(manager: Confiner, task: str, **more: Any) -> dict[str, str]:
    """What a confined program was answered to each call."""
    program = manager.root / "calls.py"
    program.write_text(_CALL + _INSIDE)
    end = manager.confined(task, f"{sys.executable} {program}", **more)
    assert end.get("exit") == 0, end
    text = (Path(manager.fleet) / end["logs"]["out"]["path"]).read_text()
    return dict(line.split() for line in text.splitlines())


def test_without_a_network_there_are_no_keyrings_and_no_sockets_of_the_machine(
    manager: Confiner,
) -> None:
    assert answers(manager, "a") == {
        "add": "ENOSYS", "request": "ENOSYS", "session": "ENOSYS", "rings": "ENOSYS",
        "AF_UNIX": "ok", "AF_INET": "ok", "AF_INET6": "ok", "AF_NETLINK": "ok",
        "AF_VSOCK": "EAFNOSUPPORT", "AF_ALG": "EAFNOSUPPORT",
    }  # fmt: skip


def test_with_the_network_the_keyrings_are_shut_all_the_same(manager: Confiner) -> None:
    found = answers(manager, "a", box={"level": "local", "network": "host", "home": "read"})
    keys = {name: found[name] for name in ("add", "request", "session", "AF_INET")}
    assert keys == {"add": "ENOSYS", "request": "ENOSYS", "session": "ENOSYS", "AF_INET": "ok"}
