"""The data of a run for people: read from the ledger; put and deleted there, or by its runtime.

While something of the run is in flight its worker runtime gives the version numbers, so a change
goes to it through the manager, and is waited for in the ledger. Otherwise it is recorded at once.
"""

import hashlib
import time
from typing import Any

from msgspec import json

from ..core import commands as c
from ..core import events as e
from ..core.asks import refuse_unknown, shown
from ..core.state import Datum, Run
from ..engine.handover import tell
from ..engine.sockets import connect
from ..errors import FleetError, Unreachable
from ..ledger.store import Ledger
from ..worker.collect import keep
from ..worker.tags import Query
from .common import Context
from .names import run_id

BY = "cli:user"
HEARD_SECONDS = 10.0
"""How long a manager may take to have a change recorded."""


def _run(ctx: Context, name: str) -> Run:
    ledger = ctx.ledger()
    run = ledger.hydrate(run_id(ledger.state, name))
    if run.compacted:
        raise FleetError(
            f"the data of {run.id} was dropped by compaction on {run.compacted[:10]}.",
            f"What is kept: fleet receipts {run.id}",
            code="not_found",
        )
    return run


def _told(one: Datum) -> dict[str, Any]:
    return {
        "name": one.name,
        "version": one.version,
        "sha256": one.sha256,
        "size": one.size,
        "tags": one.tags,
    }


def listed(ctx: Context, name: str, query: str | None) -> dict[str, Any]:
    """The newest version of each name, of those that fit."""
    run = _run(ctx, name)
    found = sorted(shown(run), key=lambda one: one.name)
    if query is not None:
        wanted = Query(query)
        found = [one for one in found if wanted.holds(one.tags)]
    return {"run": run.id, "data": [_told(one) for one in found]}


def get(ctx: Context, run: str, name: str, version: int) -> tuple[dict[str, Any], bytes]:
    """One version, and its bytes."""
    found = refuse_unknown(_run(ctx, run), name, version)
    try:
        content = (ctx.fleet_path() / "evidence" / found.sha256).read_bytes()
    except FileNotFoundError:
        raise FleetError(
            f'the value of "{name}" is gone: the evidence of {run} was removed.',
            "fleet gc removes what belongs to old finished runs.",
            code="not_found",
        ) from None
    return _told(found), content


def put(ctx: Context, run: str, name: str, content: bytes, tags: dict[str, str]) -> dict[str, Any]:
    """The next version."""
    found, ledger = _run(ctx, run), ctx.ledger()
    digest, size = hashlib.sha256(content).hexdigest(), len(content)
    if found.status != "finished":
        keep(content, str(ledger.dir / "evidence"))
    entry = {"name": name, "sha256": digest, "size": size, "tags": tags}
    command = c.PutData(run=found.id, name=name, sha256=digest, size=size, tags=tags)
    event = _change(ledger, command, entry)
    assert isinstance(event, e.DataPut)
    return {**entry, "version": event.version}


def delete(ctx: Context, run: str, name: str) -> dict[str, Any]:
    """No version is shown any more."""
    found = _run(ctx, run)
    refuse_unknown(found, name)
    entry = {"name": name, "deleted": True}
    event = _change(ctx.ledger(), c.DeleteData(run=found.id, name=name), entry)
    assert isinstance(event, e.DataDeleted)
    return {**entry, "version": event.version}


def _change(
    ledger: Ledger, command: c.PutData | c.DeleteData, entry: dict[str, Any]
) -> e.DataPut | e.DataDeleted:
    """Record it, or have the runtime do so and wait for its record."""
    with ledger.transaction(BY) as transaction:
        run = transaction.state.runs[command.run]
        if not run.flights:
            event = transaction.submit(command)
            assert isinstance(event, e.DataPut | e.DataDeleted)
            done: e.DataPut | e.DataDeleted | None = event
        else:
            done = None
    if done is None:
        return _through_the_runtime(ledger, command, entry)
    ledger.sync()
    tell(ledger.dir)
    return done


def _through_the_runtime(
    ledger: Ledger, command: c.PutData | c.DeleteData, entry: dict[str, Any]
) -> e.DataPut | e.DataDeleted:
    made: list[e.DataPut | e.DataDeleted] = []

    digest = entry.get("sha256", "")

    def hear(head: e.Envelope, event: e.Event) -> None:
        if head.run != command.run or not isinstance(event, e.DataPut | e.DataDeleted):
            return
        mine = isinstance(event, e.DataDeleted) == bool(entry.get("deleted"))
        same = event.name == command.name and getattr(event, "sha256", "") == digest
        if mine and same and not event.attempt:
            made.append(event)

    ledger.listener = hear
    try:
        caller = connect(ledger.dir / "manager.sock")
        if caller is None:
            raise Unreachable(
                f"tasks of {command.run} run, and nobody manages it, so they can't be told.",
                f"First: fleet resume {command.run} --detach",
            )
        with caller:
            message = {"m": "data", "run": command.run, "entry": entry}
            caller.sendall(json.encode(message) + b"\n")
            until = time.monotonic() + HEARD_SECONDS
            while not made and time.monotonic() < until:
                time.sleep(0.005)
                ledger.refresh()
    finally:
        ledger.listener = None
    if not made:
        raise Unreachable(
            f"the manager of {command.run} has not recorded it within {HEARD_SECONDS:g} s.",
            f"Whether it did: fleet data list --run {command.run}",
        )
    return made[-1]
