"""Handing a run to somebody else: its values to the worker runtime, itself to a manager.

Nothing here follows a run or decides anything about it.
"""

import os
import random
import select
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import json

from ..core import commands as c
from ..core.duties import owes
from ..core.greeting import values_gone
from ..errors import Unreachable
from ..hosts import local
from ..ledger.store import Ledger
from .facts import environment_message, hello_message
from .link import Link
from .runs import Asker
from .sockets import AGAIN_SECONDS, connect

READY_SECONDS = 20.0
"""How long a detached manager may take until it answers."""

PONG_SECONDS = 30.0
"""How long a manager or a worker runtime may take to answer."""


def spawn_manager(ledger: Ledger, *, settle: bool = False) -> None:
    """Start a detached manager and return when it answers, or when another one does.

    With `settle` it places nothing: it sees to what is asked to end, and leaves. Variables that
    hold secrets of its runs are not passed on to it: it needs none.
    """
    fleet_dir = ledger.dir
    secrets = {one.key for run in ledger.state.open_runs.values() for one in run.secrets}
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    null = os.open(os.devnull, os.O_RDWR)
    errors = os.open(
        fleet_dir / "manager.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
    )
    os.posix_spawn(
        sys.executable,
        [
            sys.executable, "-P", "-m", "codewhale_fleet", "manager",
            "--dir", str(fleet_dir), "--ready", str(writer), *(["--settle"] if settle else []),
        ],
        {name: value for name, value in os.environ.items() if name not in secrets},
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
    """See that a manager has the run, which is durable then: the live one, or a new one."""
    ledger.sync()
    if asker is not None:
        hand_over(ledger, run_id, asker)
    if not poke(ledger.dir, run_id):
        spawn_manager(ledger)
        poke(ledger.dir, run_id)
    if asker is not None and unpause(ledger, run_id, asker):
        poke(ledger.dir, run_id)


def unpause(ledger: Ledger, run_id: str, asker: Asker) -> bool:
    """Go on with a run that a manager paused because its values had not arrived yet.

    Who has not all of its secrets does not: a task that was done may wait for the one that lacks.
    """
    ledger.refresh()
    run = ledger.state.runs[run_id]
    if run.status != "paused" or run.reason != values_gone(run_id):
        return False
    if any(one.key not in asker.secrets for one in run.secrets):
        return False
    with ledger.transaction("cli:user") as transaction:
        if run.status == "paused":
            transaction.submit(c.ResumeRun(run=run_id))
    ledger.sync()
    return True


def poke(fleet_dir: Path, run_id: str = "") -> bool:
    """Tell the manager that the ledger has news, and return when it has heard; False: nobody did.

    A manager that is just leaving hangs up without an answer: then nobody did.
    """
    caller = connect(fleet_dir / "manager.sock")
    if caller is None:
        return False
    with caller:
        said = b'{"m":"poke","run":"%s"}\n{"m":"ping"}\n' % run_id.encode()
        try:
            caller.sendall(said)
            return b'"pong"' in _answer(caller)
        except TimeoutError:
            raise Unreachable(
                f"the manager of {fleet_dir} does not answer; is its process stopped?",
                "What was asked is recorded, and is done as soon as it goes on.\n"
                "Which process it is: fleet status",
            ) from None
        except OSError:
            return False


def have_sent(ledger: Ledger) -> None:
    """See that somebody sends what people are owed a message about: the live manager, or a new one.

    For whoever records something that may owe one, and is no manager.
    """
    if owes(ledger.state) and not poke(ledger.dir):
        spawn_manager(ledger)


def answers(fleet_dir: Path, seconds: float = 1.0) -> bool:
    """Whether the manager that listens here answers, too."""
    try:
        caller = connect(fleet_dir / "manager.sock")
        if caller is None:
            return False
        with caller:
            caller.sendall(b'{"m":"ping"}\n')
            return b'"pong"' in _answer(caller, seconds)
    except (OSError, Unreachable):
        return False


def tell(fleet_dir: Path) -> None:
    """Tell the manager, if there is one, that the ledger has news; nobody waits for it to hear."""
    with suppress(OSError, Unreachable):
        caller = connect(fleet_dir / "manager.sock")
        if caller is not None:
            with caller:
                caller.sendall(b'{"m":"poke","run":""}\n')


def hand_over(ledger: Ledger, run_id: str, asker: Asker) -> None:
    """Give a run's values to the local worker runtime, and return when it has them."""
    _ask_runtime(ledger, environment_message(run_id, asker))


def holds_values(ledger: Ledger, run_id: str) -> bool:
    """Whether a worker runtime lives here and has the values of a run."""
    try:
        said = _ask_runtime(ledger, start=False)
    except Unreachable:
        return False
    for line in said.splitlines():
        if b'"hello"' in line:
            return run_id in json.decode(line).get("runs", ())
    return False


def _ask_runtime(ledger: Ledger, *messages: dict[str, Any], start: bool = True) -> bytes:
    """Greet the runtime and say something; what it says up to its pong. Raises Unreachable.

    Who knows only of an older manager than the runtime looks again; so does one caller too many.
    """
    until = time.monotonic() + PONG_SECONDS
    while True:
        epoch = ledger.state.epoch
        said = _said_to(Link(local.connect(ledger.dir, start=start)), ledger, messages)
        if b'"pong"' in said:
            return said
        ledger.settle()
        ledger.refresh()
        fenced = b'"why":"epoch"' in said
        if (fenced and ledger.state.epoch == epoch) or time.monotonic() >= until:
            raise Unreachable(
                "the worker runtime of this workspace does not answer.",
                f"Its words are in {ledger.dir}/runtime/runtime.err",
            )
        time.sleep(0.0 if fenced else random.random() * AGAIN_SECONDS)


def _said_to(link: Link, ledger: Ledger, messages: tuple[dict[str, Any], ...]) -> bytes:
    """One conversation with the runtime; what it said, up to its pong if it came so far."""
    for message in (hello_message(ledger.state, ledger.state.epoch), *messages, {"m": "ping"}):
        link.say(message)
    link.connection.settimeout(PONG_SECONDS)
    try:
        link.flush()
        return _answer(link.connection)
    except OSError:
        return b""
    finally:
        link.close()


def _answer(caller: socket.socket, seconds: float = PONG_SECONDS) -> bytes:
    """What is said up to a pong, or to the end of the stream. TimeoutError after a while."""
    data = bytearray()
    until = time.monotonic() + seconds
    while b'"pong"' not in data[-1 << 17 :]:
        caller.settimeout(max(0.001, until - time.monotonic()))
        more = caller.recv(1 << 16)
        if not more:
            break
        data += more
    return bytes(data)
