"""A worker runtime that knows more than the ledger, as after a repair that cut what it had told.

Such a runtime refuses every manager of the ledger, and rightly: it was asked by managers that the
ledger knows nothing of. Where nothing runs there it can be ended, and its journal set aside; where
something runs a person has to decide. The ledger is only read here.
"""

import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from ..errors import Refused, Unreachable
from ..hosts import local
from ..ledger.heal import QUARANTINE
from ..ledger.store import Ledger
from .link import Link, Message

PATIENCE_SECONDS = 10.0
"""How long a runtime may take to answer, and to be gone."""


class Runtime(Struct, kw_only=True):
    """What a worker runtime says of itself."""

    id: str
    epoch: int
    acknowledged: int
    pids: list[int]
    open: list[str]
    """Attempts that run or wait there."""


def living(fleet_dir: Path, *, start: bool = False) -> Runtime | None:
    """The runtime of a fleet, or None where none lives; `start` wakes one that left a journal."""
    epoch, told = 0, None
    for _ in range(3):  # it names the epoch that it wants to hear
        try:
            told = _asked(fleet_dir, epoch, start)
        except Unreachable:
            return None
        if told is None or told.m == "hello":
            break
        epoch = told.epoch
    if told is None or told.m != "hello":
        return None
    return Runtime(
        id=told.runtime,
        epoch=told.epoch,
        acknowledged=told.acknowledged,
        pids=[pid for pid in (told.keeper, told.pid) if pid],
        open=list(told.open),
    )


def _asked(fleet_dir: Path, epoch: int, start: bool) -> Message | None:
    """Its answer to a greeting: its own, or the refusal that names its epoch."""
    link = Link(local.connect(fleet_dir, start=start))
    try:
        link.say({"m": "hello", "protocol": 1, "fleet": "", "epoch": epoch, "cursors": {}})
        link.say({"m": "ping"})
        link.flush()
        until = time.monotonic() + PATIENCE_SECONDS
        while not link.closed and (left := until - time.monotonic()) > 0:
            if not select.select([link.fileno()], [], [], left)[0]:
                break
            for message in link.receive():
                if message.m == "hello" or message.why == "epoch":
                    return message
        return None
    finally:
        link.close()


def refuse_at_work(fleet_dir: Path) -> None:
    """Refused while attempts run whose records a repair would forget."""
    runtime = living(fleet_dir)
    if runtime is None or not runtime.open:
        return
    count = len(runtime.open)
    what = f"{runtime.open[0]} runs" if count == 1 else f"{count:,} attempts run"
    pids = " ".join(map(str, runtime.pids))
    raise Refused(
        f"{what} in {fleet_dir.parent}, and records that were acknowledged would not be kept.",
        f"Wait until it has ended, then ask again. Or end it: kill -9 {pids}, and what it runs",
        code="at_work",
    )


def end_if_ahead(fleet_dir: Path) -> str:
    """End an idle runtime that is ahead of the ledger, and set its journal aside: where to.

    Empty where there was nothing to do.
    """
    folder = fleet_dir / "runtime"
    if not (folder / "journal.jsonl").exists():
        return ""
    runtime = living(fleet_dir, start=True)
    if runtime is None:
        return ""
    with Ledger.open(fleet_dir) as ledger:
        heard = ledger.state.cursors.get(runtime.id, 0)
        if runtime.epoch <= ledger.state.epoch and runtime.acknowledged <= heard:
            return ""
    if runtime.open:
        return ""  # the next run says what is to be done
    for pid in runtime.pids:
        _end(pid)
    name = f"{QUARANTINE}/runtime-{time.time_ns()}"
    (fleet_dir / QUARANTINE).mkdir(mode=0o700, exist_ok=True)
    folder.rename(fleet_dir / name)
    return name


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [], PATIENCE_SECONDS)
        finally:
            os.close(process)
