"""`fleet worker …`: the machines that work may run on.

`test` tries machines and says what keeps work from there; `add` makes them known (`worker_add.py`);
`list` and `inspect` say what is known of them; `drain` and `retire` take them out of use. Every
change is one record. Promises that nothing is asked of a terminal.
"""

from shlex import quote
from typing import Any

from ..core import commands as c
from ..core.fleet_words import LOCAL
from ..errors import FleetError, Unreachable
from . import fleet_workers as shared
from .common import Context, print_json
from .faces import Page
from .trials import Typed, checked, tried
from .words import plain
from .worker_try import BY, keep, page_of, wanted

SHOWN_RECORDS = 10


def worker_add(*, ctx: Context, **asked: Any) -> int:
    """Make machines known to the fleet."""
    from .worker_add import add

    return add(ctx, **asked)


# Trying ---------------------------------------------------------------------------------------


def worker_test(
    *,
    hosts: list[str],
    port: int | None = None,
    identity: str | None = None,
    known_hosts: str | None = None,
    fingerprint: str | None = None,
    working_directory: str | None = None,
    jump: str | None = None,
    connect_timeout: float | None = None,
    openssh: bool = False,
    ctx: Context,
) -> int:
    """Try each host once, all at the same time; what is learnt of workers is recorded."""
    typed = checked(
        Typed(
            port=port,
            identity=identity,
            known_hosts=known_hosts,
            fingerprint=fingerprint,
            working_directory=working_directory,
            jump=jump,
            connect_timeout=connect_timeout,
            openssh=openssh,
        )
    )
    asked = wanted(ctx, hosts, typed)
    found = tried([(name, host) for name, host, _ in asked])
    for one, (_, _, worker) in zip(found, asked, strict=True):
        one.worker = worker.id if worker else ""
    keep(ctx, found, {worker.id: worker for _, _, worker in asked if worker})
    code = 0 if all(one.ok for one in found) else Unreachable.exit_code
    if ctx.json:
        print_json({"hosts": found, "exit_code": code})
    else:
        page_of(found).show(ctx)
    return code


# Looking --------------------------------------------------------------------------------------


def worker_list(*, selector: str | None = None, all: bool = False, ctx: Context) -> int:
    """What is known of every worker, or of those that a selector means."""
    from .worker_faces import listed

    there = shared.opened(ctx, discover=True)
    if selector:
        ids = there.chosen(selector)
    else:
        ids = [LOCAL, *(id for id in there.known if id != LOCAL)]
    now = shared.now()
    rows = [_told(there, id, now) for id in ids]
    if all and not selector:
        rows += [_told(there, id, now) for id, row in there.state.workers.items() if row.retired]
    answer = {"workers": rows, "counts": shared.counts(rows), "total": len(rows)}
    if ctx.json:
        print_json(answer)
    else:
        listed(answer).show(ctx)
    return 0


def _told(there: shared.Workers, id: str, now: float) -> dict[str, Any]:
    from ..core.spec_hosts import THIS_MACHINE, decode_worker

    known = there.known.get(id)
    if known is not None:
        return shared.told(there, id, known.worker, known.origin, now)
    if (gone := shared.retired(there, id)) is not None:
        return shared.told(there, id, gone, there.state.workers[id].origin, now)
    row = there.state.workers.get(id)
    if id != LOCAL and row is not None and row.definition:  # a run brought it
        return shared.told(there, id, decode_worker(row.definition), "a run", now)
    return shared.told(there, id, THIS_MACHINE, "this machine", now)


def worker_inspect(*, id: str, ctx: Context) -> int:
    """Everything that is known of one worker."""
    answer = described(ctx, id)
    if ctx.json:
        print_json(answer)
    else:
        from .worker_faces import drawn

        drawn(answer).show(ctx)
    return 0


def described(ctx: Context, id: str) -> dict[str, Any]:
    """The answer about one worker; FleetError where nobody is called so."""
    from msgspec import to_builtins

    there = shared.opened(ctx)
    if not knows(there, id):
        (id,) = _one_of(there, id)
    made: dict[str, Any] = {"kind": "worker", **_told(there, id, shared.now())}
    known = there.known.get(id)
    if known is not None:
        made["definition"] = to_builtins(known.worker)
        made["hidden"] = list(known.hidden)
    made["running"] = _running(there, id)
    made["records"] = _records(ctx, there, id)
    made["next"] = _next(made)
    return made


def knows(there: shared.Workers, id: str) -> bool:
    """Whether a worker, of now or before, is called exactly so."""
    row = there.state.workers.get(id)
    return id in there.known or id == LOCAL or bool(row and (row.definition or row.retired))


def _one_of(there: shared.Workers, text: str) -> list[str]:
    found = there.chosen(text)
    if len(found) > 1:
        shown = ", ".join(found[:5])
        raise FleetError(f'"{text}" names {len(found)} workers.', f"Which one: {shown}?")
    return found


def _running(there: shared.Workers, id: str) -> list[dict[str, Any]]:
    from ..core.load import place_of

    return [
        {"attempt": attempt, "started": bool(flight.started), "slot": flight.worker}
        for run in there.state.open_runs.values()
        for attempt, flight in run.flights.items()
        if place_of(run.id, flight.worker) == id
    ]


def _records(ctx: Context, there: shared.Workers, id: str) -> list[dict[str, Any]]:
    """The latest records about it, in sentences."""
    from ..views.sentences import say

    if not there.state.seq:
        return []
    ledger = ctx.ledger()
    needle = f'"worker":"{id}"'.encode()
    found = [
        {"seq": head.seq, "ts": head.ts, "says": say(head, event)}
        for head, event in ledger.records(containing=needle)
    ]
    return found[-SHOWN_RECORDS:]


def _next(made: dict[str, Any]) -> list[str]:
    id = made["worker"]
    if id == LOCAL:
        return ["fleet doctor tries this machine"]
    if made["state"] == "retired":
        return ["fleet worker add makes it known again"]
    if made["state"] == "draining":
        return [f"fleet worker drain {id} --off gives it work again", f"fleet worker retire {id}"]
    if made["state"] in ("offline", "unknown"):
        return [f"fleet worker test {id} tries it"]
    return [f"fleet worker test {id} tries it", f"fleet worker drain {id} gives it nothing new"]


# Taking out of use ----------------------------------------------------------------------------


def worker_drain(
    *,
    selectors: list[str],
    off: bool = False,
    wait: bool = False,
    reason: str | None = None,
    ctx: Context,
) -> int:
    """Give workers nothing new; what runs there goes on."""
    if off and wait:
        raise FleetError(
            "--off gives work again: there is nothing to wait for.", "Leave --wait out"
        )
    ids = _chosen(ctx, selectors)
    with shared.to_write(ctx) as ledger:
        before = {id for id in ids if (row := ledger.state.workers.get(id)) and row.draining}
        with ledger.transaction(BY) as transaction:
            for id in ids:
                transaction.submit(c.Drain(worker=id, on=not off, reason=reason or ""))
        ledger.sync()
        if wait and not _emptied(ctx, ledger, ids):
            return 130
        state = ledger.state
        left = {id: state.workers[id].load if id in state.workers else 0 for id in ids}
    rows = [
        {"worker": id, "draining": not off, "already": (id in before) != off, "load": left[id]}
        for id in ids
    ]
    if ctx.json:
        print_json({"workers": rows})
        return 0
    if ctx.quiet:
        return 0
    page = Page()
    page.rows([[str(one["worker"]), _drained(one)] for one in rows], indent=0)
    if not off:
        names = quote(",".join(selectors))
        page.line()
        page.line((f"To give work again: fleet worker drain {names} --off", "dim"))
    page.show(ctx)
    return 0


def _drained(one: dict[str, Any]) -> str:
    if not one["draining"]:
        return "was not draining" if one["already"] else "gets work again"
    said = "was draining already" if one["already"] else "gets nothing new"
    if one["worker"] == LOCAL:
        said += " of runs that have other workers"
    if one["load"] == 1:
        said += "; 1 still runs there and goes on"
    elif one["load"]:
        said += f"; {one['load']:,} still run there and go on"
    return said


def _chosen(ctx: Context, selectors: list[str]) -> list[str]:
    there = shared.opened(ctx)
    made = dict.fromkeys(id for one in selectors for id in there.chosen(one))
    return list(made)


def _emptied(ctx: Context, ledger: Any, ids: list[str]) -> bool:
    """Waits until nothing runs there; False once somebody pressed Ctrl-C."""
    from ..ledger.follow import follow

    try:
        for _ in follow(ledger):
            workers = ledger.state.workers
            left = sum(workers[id].load for id in ids if id in workers)
            if not left:
                return True
            ctx.note(f"waiting for {left:,} still in flight there; Ctrl-C leaves them going")
    except KeyboardInterrupt:
        return False
    return True


def worker_retire(*, ids: list[str], reason: str | None = None, ctx: Context) -> int:
    """Take workers out of the fleet."""
    there = shared.opened(ctx)
    chosen = _chosen(ctx, ids)
    if LOCAL in chosen:
        raise FleetError(
            f'"{LOCAL}" is this machine, which is always there.',
            "To keep work off it: fleet worker drain local",
        )
    with shared.to_write(ctx) as ledger:
        with ledger.transaction(BY) as transaction:
            for id in chosen:
                transaction.submit(c.Retire(worker=id, reason=reason or ""))
        ledger.sync()
    rows = []
    for id in chosen:
        origin = there.known[id].origin
        written = origin if "fleet.toml" in origin or origin.startswith("inventory ") else ""
        rows.append({"worker": id, "running": _running(there, id), "still_written": written})
    if ctx.json:
        print_json({"workers": rows})
        return 0
    if ctx.quiet:
        return 0
    page = Page()
    page.rows([[str(one["worker"]), _retired(one)] for one in rows], indent=0)
    page.show(ctx)
    return 0


def _retired(one: dict[str, Any]) -> str:
    said = "is no worker of this fleet any more"
    if one["still_written"]:
        said += f", though {plain(one['still_written'])} names it"
    names = [row["attempt"] for row in one["running"]]
    if names:
        more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
        said += f"; it still runs {', '.join(names[:3])}{more}"
    return said
