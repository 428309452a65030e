"""A run's way to its end, from whoever asked: manage it, or wait on the manager that does.

Every asker is an equal candidate. `run_to_end` elects itself where no manager answers; where one
does, it hands over the run's values, waits, and takes over when that manager dies. What a person
presses (Ctrl-C, a closed terminal) becomes a record like any other.
"""

import os
import random
import select
import socket
import sys
import time
from pathlib import Path

from msgspec import Struct

from ..core import commands as c
from ..core import events as e
from ..core.state import Run
from ..errors import Refused, Unreachable
from ..hosts import local
from ..ledger.store import Fenced, Ledger
from .clock import boot_id
from .link import Link
from .manager import Manager, Observer, environment_message, lost_on_takeover
from .runs import Asker
from .signals import Signals
from .sockets import connect, listen

PONG_SECONDS = 30.0
"""A manager that does not answer for so long has stalled, and is replaced."""

TAKEOVER_SPREAD_SECONDS = 0.03
"""Waiting candidates spread their takeover over this time, by chance."""

READY_SECONDS = 20.0
"""How long a detached manager may take until it answers."""


class Session(Struct):
    """How `run_to_end` ended: `interrupted` by Ctrl-C, or `detached` by a closed terminal."""

    interrupted: bool = False
    detached: bool = False


def run_to_end(ledger: Ledger, run_id: str, *, asker: Asker | None, observer: Observer) -> Session:
    """Return when the run is finished, or paused with nothing in flight."""
    session = Session()
    with Signals() as signals:
        while _open(ledger, run_id):
            caller = _answering(ledger.dir)
            try:
                if caller is None:
                    _manage(ledger, run_id, asker, observer, signals, session)
                else:
                    _wait_on(caller, ledger, run_id, asker, observer, signals, session)
            except Fenced:
                observer.note("another manager took over; waiting on it")
            if session.detached:
                break
    return session


def _open(ledger: Ledger, run_id: str) -> bool:
    run = ledger.state.runs[run_id]
    if run.status == "paused":
        return bool(run.flights)
    return run.status != "finished"


# As manager ---------------------------------------------------------------------------------


def elect(ledger: Ledger) -> socket.socket | None:
    """Become manager: epoch + 1 in the ledger and the socket, or None when another one answers."""
    folder = ledger.dir.stat()
    boot = boot_id()
    with ledger.transaction("manager") as transaction:
        other = connect(ledger.dir / "manager.sock")
        if other is not None:
            other.close()
            return None
        lost = list(lost_on_takeover(transaction.state, boot, folder.st_dev, folder.st_ino))
        return _take_over(ledger, transaction, lost, folder, boot)


def _take_over(
    ledger: Ledger,
    transaction: "object",
    lost: list[c.Command],
    folder: os.stat_result,
    boot: str,
) -> socket.socket:
    from .. import __version__

    submit = transaction.submit  # type: ignore[attr-defined]
    submit(
        c.Elect(
            elected=e.ManagerElected(
                epoch=ledger.state.epoch + 1,
                pid=os.getpid(),
                host=os.uname().nodename,
                boot=boot,
                version=__version__,
                device=folder.st_dev,
                inode=folder.st_ino,
            )
        )
    )
    for command in lost:
        submit(command)
    return listen(ledger.dir / "manager.sock")


def _manage(
    ledger: Ledger,
    run_id: str | None,
    asker: Asker | None,
    observer: Observer,
    signals: Signals | None,
    session: Session,
) -> None:
    server = elect(ledger)
    if server is None:
        return
    manager = Manager(ledger, server, observer, focus=run_id, asker=asker)
    if signals is not None and run_id is not None:
        stops = 0

        def on_wake(descriptor: int) -> None:
            nonlocal stops
            signals.drain()
            if signals.hangups:
                session.detached = True
                manager.leaving = True
            for _ in range(signals.stops - stops):
                stops += 1
                _stop_once(ledger, run_id, observer, session, stops)
                if stops > 1:
                    manager.kill(run_id)

        manager.watch(signals.descriptor)
        manager.on_wake = on_wake  # type: ignore[method-assign]
    manager.run()
    if (session.detached or manager.others) and not manager.had_watchers:
        _spawn_manager(ledger.dir)


def _stop_once(
    ledger: Ledger, run_id: str, observer: Observer, session: Session, count: int
) -> None:
    session.interrupted = True
    if count == 1:
        observer.note("stopping: running tasks are interrupted; press Ctrl-C again to kill them")
        try:
            with ledger.transaction("cli:user") as transaction:
                transaction.submit(c.StopRun(run=run_id, reason="stopped by Ctrl-C"))
        except Refused:
            return
    else:
        observer.note("killing what still runs")


def serve_manager(ledger: Ledger, *, ready: int | None = None) -> None:
    """Manage every open run; leave when none needs it. `ready` is closed once callers are heard."""

    class Nobody:
        wants_ticks = False

        def changed(self, *_: object) -> None: ...
        def tick(self, *_: object) -> None: ...
        def note(self, *_: object) -> None: ...

    server = elect(ledger)
    if ready is not None:
        os.write(ready, b"ready\n")
        os.close(ready)
    if server is not None:
        Manager(ledger, server, Nobody(), focus=None, asker=None).run()


def _spawn_manager(fleet_dir: Path) -> None:
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
        _spawn_manager(ledger.dir)
        poke(ledger.dir, run_id)


# As a waiter --------------------------------------------------------------------------------


def _answering(fleet_dir: Path) -> socket.socket | None:
    """A connection to a live manager, or None when there is none."""
    return connect(fleet_dir / "manager.sock")


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


def _wait_on(
    caller: socket.socket,
    ledger: Ledger,
    run_id: str,
    asker: Asker | None,
    observer: Observer,
    signals: Signals,
    session: Session,
) -> None:
    """Follow the live manager until the run is over, or until it is gone."""
    if asker is not None:
        hand_over(ledger, run_id, asker)
    observer.note("another manager is at work here; waiting on it")
    records: list[tuple[e.Envelope, e.Event]] = []
    ledger.listener = lambda head, event: records.append((head, event))
    stops = 0
    heard = time.monotonic()
    try:
        caller.sendall(b'{"m":"watch"}\n{"m":"poke","run":"%s"}\n' % run_id.encode())
        while _open(ledger, run_id):
            ready = select.select(
                [caller, signals.descriptor], [], [], 0.1 if observer.wants_ticks else 10.0
            )[0]
            if signals.descriptor in ready:
                signals.drain()
                session.detached = bool(signals.hangups)
                while stops < signals.stops:
                    stops += 1
                    _stop_once(ledger, run_id, observer, session, stops)
                    caller.sendall(b'{"m":"poke","run":""}\n')
                    if stops > 1:
                        caller.sendall(b'{"m":"kill","run":"%s"}\n' % run_id.encode())
                if session.detached:
                    return
            if caller in ready:
                if not caller.recv(65536):
                    break
                heard = time.monotonic()
            elif time.monotonic() - heard > PONG_SECONDS:
                break
            else:
                caller.sendall(b'{"m":"ping"}\n')
            ledger.refresh()
            if records:
                observer.changed(ledger.state, records[:])
                records.clear()
            if observer.wants_ticks:
                observer.tick(ledger.state)
    except OSError:
        pass
    finally:
        ledger.listener = None
        caller.close()
    if _open(ledger, run_id):
        time.sleep(random.random() * TAKEOVER_SPREAD_SECONDS)
        ledger.refresh()


def wait_for(
    ledger: Ledger, run_ids: list[str], *, timeout: float | None, observer: Observer
) -> bool:
    """Follow the ledger until none of the runs is open; False when `timeout` seconds passed."""
    from ..ledger.follow import follow

    ledger.refresh()
    until = None if timeout is None else time.monotonic() + timeout
    if not any(_open(ledger, run) for run in run_ids):
        return True
    for _ in follow(ledger, until=until):
        observer.tick(ledger.state)
        if not any(_open(ledger, run) for run in run_ids):
            return True
    return False


def resume(
    ledger: Ledger,
    run_id: str,
    *,
    failed: bool,
    max_workers: int | None,
    by: str = "cli:user",
) -> None:
    """Record that a run goes on. A run that merely lost its manager needs no record."""
    run: Run = ledger.state.runs[run_id]
    again = run.counts.get("cancelled", 0) + (run.counts.get("failed", 0) if failed else 0)
    if run.status == "running" and not again and not max_workers:
        return
    with ledger.transaction(by) as transaction:
        transaction.submit(c.ResumeRun(run=run_id, failed=failed, max_workers=max_workers or 0))
    ledger.sync()
