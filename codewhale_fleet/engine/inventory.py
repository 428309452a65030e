"""The workers of a fleet, with those that discovery commands tell of.

    known = inventory.known(root, ledger)

Promises that a command runs once for all who ask at the same time, and not at all while its last
answer is younger than its ttl_seconds; that a command that fails is told to everybody who waited
for it, in a sentence with what it said; and that no older answer stands in for one that failed.
Answers are kept in the ledger (`inventory.discovered`), where there is one.
"""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from msgspec import DecodeError, Struct, json

from ..core import commands as c
from ..core.liveness import seconds_of
from ..core.spec_hosts import Worker, decode_worker
from ..core.workers import in_lines
from ..errors import FleetError
from ..ledger.store import Ledger
from ..wire import fleetfile
from ..wire.discovered import MAX_BYTES, workers_of
from ..wire.fleetfile import Discovery, FleetFile
from ..wire.inventory import Inventory, encode_worker

SECONDS = 60.0
"""Longest time that a command may take."""

TAIL_BYTES = 400
"""What is shown of the end of what a command said on stderr."""

ASKING = "FLEET_INVENTORY"
"""Names, for a command, the inventories that wait for its answer: it must not ask for them."""


def known(root: Path, ledger: Ledger | None = None, file: FleetFile | None = None) -> Inventory:
    """All workers that the fleet in `root` knows; FleetError where a command fails.

    Without a ledger every command runs, and nothing is kept.
    """
    file = fleetfile.read(root) if file is None else file
    found = {}
    for name, asked in file.inventory.items():
        found[name] = _discovered(name, asked, root, ledger)
    state = ledger.state if ledger is not None else None
    return Inventory.load(root, file, state, found)


def digest_of(asked: Discovery) -> str:
    """What tells one question from another: another command needs another answer."""
    return sha256(json.encode(asked.command)).hexdigest()


def _discovered(name: str, asked: Discovery, root: Path, ledger: Ledger | None) -> list[Worker]:
    waiting = os.environ.get(ASKING, "").split()
    if name in waiting:
        raise FleetError(
            f"the command of inventory {name} asks for inventory {name} itself.",
            "It must list its workers without fleet run, exec or worker list.",
            field=f"inventory.{name}.command",
        )
    if ledger is None:
        return workers_of(name, _answer(name, asked, root))
    began, digest = ledger.clock(), digest_of(asked)
    kept = _kept(ledger, name, digest, began - asked.ttl_seconds)
    if kept is not None:
        return kept
    since = time.clock_gettime(time.CLOCK_BOOTTIME)
    with _alone(ledger.dir / f"inventory-{name}.lock") as lock:
        ledger.refresh()
        kept = _kept(ledger, name, digest, began - asked.ttl_seconds, began)
        if kept is not None:
            return kept
        _refuse_failed(lock, digest, since)
        try:
            workers = workers_of(name, _answer(name, asked, root))
        except FleetError as error:
            _note(lock, digest, error)
            raise
        _keep(ledger, name, digest, workers)
        return workers


# Answers in the ledger ------------------------------------------------------------------------


def _kept(
    ledger: Ledger, name: str, digest: str, oldest: float, asked: float | None = None
) -> list[Worker] | None:
    """The answer in the ledger, unless it is of another command or too old.

    One that came after somebody `asked` is never too old; one from the future always is.
    """
    one = ledger.state.inventories.get(name)
    if one is None or one.digest != digest:
        return None
    came = seconds_of(one.ts)
    fresh = came > oldest or (asked is not None and came >= asked)
    if not fresh or came > ledger.clock() + 1:
        return None
    return [decode_worker(raw) for raw in one.workers.values()]


def _keep(ledger: Ledger, name: str, digest: str, workers: list[Worker]) -> None:
    raws: Mapping[str, bytes] = {worker.id: encode_worker(worker) for worker in workers}
    with ledger.transaction("fleet") as transaction:
        for part, some in enumerate(in_lines(raws)):
            transaction.submit(c.Discovered(name=name, digest=digest, workers=some, part=part))
    ledger.sync()  # others see what is durable


# Who waits ------------------------------------------------------------------------------------


class _Failure(Struct):
    """What the lock file holds once a command failed."""

    digest: str
    boottime: float
    sentence: str
    hint: str


@contextmanager
def _alone(path: Path) -> Iterator[IO[bytes]]:
    """The lock of an inventory, held by one process at a time; the rest waits."""
    with path.open("a+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def _refuse_failed(lock: IO[bytes], digest: str, since: float) -> None:
    """Raise what the command said when it failed while we waited."""
    lock.seek(0)
    try:
        failed = json.decode(lock.read(), type=_Failure)
    except DecodeError:
        return
    if failed.digest == digest and failed.boottime >= since:
        raise FleetError(failed.sentence, failed.hint)


def _note(lock: IO[bytes], digest: str, error: FleetError) -> None:
    boottime = time.clock_gettime(time.CLOCK_BOOTTIME)
    lock.seek(0)
    lock.truncate()
    lock.write(json.encode(_Failure(digest, boottime, error.sentence, error.hint)))
    lock.flush()


# Commands -------------------------------------------------------------------------------------


def _answer(name: str, asked: Discovery, root: Path) -> bytes:
    """What the command prints; FleetError where it does not end well."""
    argv = ["sh", "-c", asked.command] if isinstance(asked.command, str) else asked.command
    waiting = f"{os.environ.get(ASKING, '')} {name}".strip()
    with TemporaryFile() as out, TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                argv,
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, ASKING: waiting},
                start_new_session=True,
            )
        except OSError as error:
            raise _failed(name, f"cannot be started: {argv[0]}: {error.strerror}", b"") from None
        status = _ended(process)
        err.seek(max(0, os.fstat(err.fileno()).st_size - TAIL_BYTES))
        said = err.read(TAIL_BYTES)
        if status is None:
            raise _failed(name, f"had not ended after {SECONDS:g} seconds", said)
        if status:
            how = f"exit status {status}" if status > 0 else signal.Signals(-status).name
            raise _failed(name, f"ended with {how}", said)
        out.seek(0)
        return out.read(MAX_BYTES + 1)


def _ended(process: "subprocess.Popen[bytes]") -> int | None:
    """Its status; None where it took too long and was killed with all that it started."""
    try:
        return process.wait(SECONDS)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            return None
        raise


def _failed(name: str, what: str, said: bytes) -> FleetError:
    tail = " ".join(said.decode(errors="replace").split())
    words = f": {tail}" if tail else ", and said nothing on stderr"
    return FleetError(
        f"the command of inventory {name} {what}{words}",
        f"[inventory.{name}] in fleet.toml says which it is: try it by hand.",
        field=f"inventory.{name}.command",
    )
