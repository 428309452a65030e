"""Handing a run to somebody else: its values to the worker runtime, itself to a manager.

Nothing here follows a run or decides anything about it.
"""

import os
import select
import sys
from pathlib import Path

from ..errors import Unreachable
from ..hosts import local
from ..ledger.store import Ledger
from .facts import environment_message
from .link import Link
from .runs import Asker
from .sockets import connect

READY_SECONDS = 20.0
"""How long a detached manager may take until it answers."""

PONG_SECONDS = 30.0
"""How long a worker runtime may take to say that it has a run's values."""


def spawn_manager(fleet_dir: Path) -> None:
    """Start a detached manager and return when it answers, or when another one does."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    null = os.open(os.devnull, os.O_RDWR)
    errors = os.open(
        fleet_dir / "manager.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
    )
    os.posix_spawn(
        sys.executable,
        [
            sys.executable, "-m", "codewhale_fleet", "manager",
            "--dir", str(fleet_dir.parent), "--ready", str(writer),
        ],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, null, 0),
            (os.POSIX_SPAWN_DUP2, null, 1),
            (os.POSIX_SPAWN_DUP2, errors, 2),
        ],
        setsid=True,
    )  # fmt: skip
    for descriptor in (writer, null, errors):
        os.close(descriptor)
    answered = select.select([reader], [], [], READY_SECONDS)[0] and os.read(reader, 64)
    os.close(reader)
    if not answered:
        raise Unreachable(
            "the detached manager did not start.", f"Its words are in {fleet_dir}/manager.err"
        )


def detach(ledger: Ledger, run_id: str, *, asker: Asker | None) -> None:
    """See that a manager has the run: the live one, or a new detached one."""
    if asker is not None:
        hand_over(ledger, run_id, asker)
    if not poke(ledger.dir, run_id):
        spawn_manager(ledger.dir)
        poke(ledger.dir, run_id)


def poke(fleet_dir: Path, run_id: str = "") -> bool:
    """Tell the manager that the ledger has news; False when nobody listens."""
    caller = connect(fleet_dir / "manager.sock")
    if caller is None:
        return False
    with caller:
        try:
            caller.sendall(b'{"m":"poke","run":"%s"}\n' % run_id.encode())
        except OSError:
            return False
    return True


def hand_over(ledger: Ledger, run_id: str, asker: Asker) -> None:
    """Give a run's values to the local worker runtime, and return when it has them."""
    link = Link(local.connect(ledger.dir))
    link.say(
        {
            "m": "hello",
            "protocol": 1,
            "fleet": ledger.state.fleet,
            "epoch": ledger.state.epoch,
            "cursors": ledger.state.cursors,
        }
    )
    link.say(environment_message(run_id, asker))
    link.say({"m": "ping"})
    link.connection.setblocking(True)
    link.connection.settimeout(PONG_SECONDS)
    data = b""
    try:
        link.flush()
        while b'"pong"' not in data and (more := link.connection.recv(65536)):
            data = data[-64:] + more
    except TimeoutError:
        data = b""
    finally:
        link.close()
    if b'"pong"' not in data:
        raise Unreachable(
            "the worker runtime of this workspace does not answer.",
            f"Its words are in {ledger.dir}/runtime/runtime.err",
        )
