"""`fleet worker test`: whom its words mean, what is recorded of workers, and how it is told."""

import re

from ..core import commands as c
from ..core.spec_hosts import SshHost, Worker
from ..errors import FleetError
from . import fleet_workers as shared
from .common import Context
from .faces import Page, Span
from .trials import Facts, Tried, Typed, parsed

BY = "cli:user"
"""Who asks, in the records."""

FOLDED = 12
"""So many hosts have a line each; of more, those that are alike share one."""

_ADDRESS = re.compile(r"[^\[\]@\s]*@?\[[0-9A-Fa-f:.]+\](:\d+)?|[^@\s]*@\S+|[^\[\]\s()=,*?]+:\d+")
"""What can only be a host: an IPv6 address in brackets, USER@HOST, HOST:PORT."""


def wanted(
    ctx: Context, words: list[str], typed: Typed
) -> list[tuple[str, SshHost, Worker | None]]:
    """(what it is called, host, worker that it is) of all that the words name."""
    from ..core.fleet_words import LOCAL
    from ..core.ranges import is_pattern
    from ..core.selectors import STATES, names_of

    made: dict[str, tuple[str, SshHost, Worker | None]] = {}
    there = shared.opened(ctx)
    names = {name for id, one in there.definitions.items() for name in names_of(id, one)}
    names |= {*STATES, LOCAL, "all"}
    selectors = {
        word
        for word in words
        if not _ADDRESS.fullmatch(word)
        and (word in names or any(sign in word for sign in " *?=(,@") or is_pattern(word))
    }
    if selectors:
        there = shared.opened(ctx, discover=True)
    for word in words:
        if word not in selectors:
            made.setdefault(word, (word, parsed(word, typed), None))
            continue
        if typed.given:
            raise FleetError(
                f'"{word}" names workers of this fleet, which say themselves how they are reached.',
                "Leave the options out; to try it otherwise, write [USER@]HOST:PORT.",
            )
        for id in there.chosen(word):
            worker = there.definitions.get(id)
            if worker is None or not isinstance(worker.host, SshHost):
                ctx.note(f"{id} is this machine: fleet doctor tries it.")
                continue
            made.setdefault(id, (id, worker.host, worker))
    return list(made.values())


def keep(ctx: Context, found: list[Tried], workers: dict[str, Worker]) -> None:
    """Record what is new of workers of the fleet."""
    ours = [one for one in found if one.worker in workers]
    if not ours:
        return
    with shared.to_write(ctx) as ledger:
        with ledger.transaction(BY) as transaction:
            for one in ours:
                transaction.submit(learnt(one, workers[one.worker]))
        ledger.sync()


def learnt(one: Tried, worker: Worker) -> c.Command:
    """What a trial says of a worker, as a record that is asked for."""
    if not one.ok:
        return c.ReportUnreachable(worker=worker.id, why=one.error)
    return enrols(worker, one.facts)


def enrols(worker: Worker, facts: Facts) -> c.Command:
    """The facts of a worker's host, as a record that is asked for."""
    from ..core.events import WorkerEnrolled

    return c.EnrolWorker(
        enrolled=WorkerEnrolled(
            worker=worker.id,
            slots=worker.max_concurrent_tasks or 1,
            host=facts.host,
            boot=facts.boot,
            cores=facts.cores,
            platform=facts.platform,
            memory_mb=facts.memory_mb,
            gpus=facts.gpus,
            python=facts.python,
        )
    )


def page_of(found: list[Tried]) -> Page:
    """What came of each; of many, those that are alike together."""
    from ..views.folding import folded

    groups: dict[tuple[bool, str], list[Tried]] = {}
    for number, one in enumerate(found):
        text = _outcome(one) if one.ok else nameless(one)
        key = text if len(found) > FOLDED else f"{number} {text}"
        groups.setdefault((one.ok, key), []).append(one)
    rows: list[list[Span]] = []
    for (ok, _), alike in sorted(groups.items(), key=lambda one: (not one[0][0], -len(one[1]))):
        state: Span = ("ok", "green") if ok else ("failed", "red")
        name = folded([one.host for one in alike]) if len(alike) > 1 else alike[0].host
        count = [f"{len(alike):,}"] if len(found) > FOLDED else []
        said = f"{_outcome(alike[0])}, {_times(alike)}" if ok else told_once(alike)
        rows.append([*count, name, state, said])
    page = Page()
    if len(found) > FOLDED:
        fine = sum(one.ok for one in found)
        page.line(f"{fine:,} of {len(found):,} hosts can be used")
        page.line()
    page.rows(rows, indent=0)
    return page


def _outcome(one: Tried) -> str:
    facts = {name: getattr(one.facts, name) for name in Facts.__struct_fields__}
    return shared.machine_words(facts)


def _times(alike: list[Tried]) -> str:
    away = sorted(round(one.round_trip * 1000) for one in alike)
    span = f"{away[0]}" if away[0] == away[-1] else f"{away[0]}–{away[-1]}"
    slowest = max(one.seconds for one in alike)
    return f"{span} ms away, ready after {slowest:.1f} s"


def failure(one: Tried) -> str:
    """What kept a host from being used, and what to do."""
    return one.error.rstrip(".") + "." + (f" {one.hint}" if one.hint else "")


def nameless(one: Tried) -> str:
    """The same without the host's name, so that it is found to be the same of others."""
    host = one.address.rpartition("@")[2]
    text = failure(one)
    for name in (one.address, host, host.partition(":")[0]):
        text = text.replace(name, "HOST") if name else text
    return text


def told_once(alike: list[Tried]) -> str:
    """What kept some hosts from being used, which is the same of all of them."""
    return failure(alike[0]) if len(alike) == 1 else nameless(alike[0])
