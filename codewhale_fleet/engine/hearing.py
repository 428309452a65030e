"""What a manager does with each message of a worker runtime: facts into the ledger, greetings.

Everything here happens inside one transaction of the manager; nothing is said to the runtime. A
fact is never refused: what is late or unknown to this fleet is noted and changes nothing.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from msgspec import structs

from ..core import commands as c
from ..core.events import AgentFacts, AttemptEnded
from ..core.fleet_words import LOCAL
from ..core.greeting import (
    ARRIVE_SECONDS,
    Greeting,
    of_another_boot,
    on_greeting,
    values_come,
    values_gone,
    without_values,
)
from ..core.patches import may_go
from ..core.tasks import decode_task
from ..scoring import judge
from .facts import ended_event, older_ledger
from .link import misunderstood

if TYPE_CHECKING:
    from ..ledger.store import Transaction
    from .endpoint import Endpoint
    from .link import Message
    from .manager import Manager


def take(manager: Manager, endpoint: Endpoint, transaction: Transaction, message: Message) -> None:
    """Record what one message of one runtime says."""
    if endpoint.worker != LOCAL and endpoint.take(manager, transaction, message):
        endpoint.acknowledge = max(endpoint.acknowledge, message.n)
        return
    if message.f == "ended":
        _ended(manager, endpoint, transaction, message)
    elif message.f == "started":
        transaction.submit(
            c.ReportStarted(
                attempt=message.attempt,
                worker=message.slot,
                pid=message.pid,
                since=message.since,
                src=(endpoint.runtime, message.n),
            )
        )
    elif message.f in ("stale", "recovered"):
        transaction.submit(
            c.ReportQuiet(
                attempt=message.attempt,
                worker=message.slot,
                quiet=message.quiet,
                src=(endpoint.runtime, message.n),
                moves=message.f == "recovered",
            )
        )
    elif message.f == "verifying":
        transaction.submit(
            c.ReportProgress(
                attempt=message.attempt,
                worker=message.slot,
                src=(endpoint.runtime, message.n),
                step=message.step,
            )
        )
    elif message.f in ("asked", "data", "secrets"):
        from . import asking

        asking.take(transaction, message, endpoint.runtime)
    elif message.f == "progressed":
        _progressed(endpoint, transaction, message)
    elif message.m == "hello":
        _greet(manager, endpoint, transaction, message)
    elif message.m == "values":
        if message.given is not None and manager.remotes:
            manager.remotes.heard(message.run, message.given)
        elif manager.post:
            manager.post.heard(message.run, message.values or {})
    elif message.m == "refused":
        _refused(manager, transaction, message)
    endpoint.acknowledge = max(endpoint.acknowledge, message.n)


def silence(transaction: Transaction) -> None:
    """Record of whom nobody has heard for long, where people are to be told."""
    if transaction.state.alerts:
        from ..core import outbox

        for command in tuple(outbox.silence(transaction.state, transaction.now)):
            transaction.submit(command)


def _progressed(endpoint: Endpoint, transaction: Transaction, fact: Message) -> None:
    """What an agent says while it runs; a cap that was warned of before is not named again."""
    run_id, _, rest = fact.attempt.partition("/")
    run = transaction.state.runs.get(run_id)
    row = run.tasks.get(rest.rpartition("@")[0]) if run else None
    warned = row.more.warned if row and row.more else ()
    transaction.submit(
        c.ReportProgress(
            attempt=fact.attempt,
            worker=fact.slot,
            src=(endpoint.runtime, fact.n),
            agent=fact.agent or AgentFacts(),
            warn=tuple(cap for cap in fact.warn if cap not in warned),
            step=fact.step,
            percent=fact.percent,
            note=fact.note,
            checkpoint=fact.checkpoint,
        )
    )


def _ended(manager: Manager, endpoint: Endpoint, transaction: Transaction, fact: Message) -> None:
    ended = ended_event(fact, endpoint.runtime)
    run_id, _, rest = fact.attempt.partition("/")
    run = transaction.state.runs.get(run_id)
    if run and run.status == "finished":
        run = manager.ledger.hydrate(run_id)
    row = run.tasks.get(rest.rpartition("@")[0]) if run else None
    if run is None or row is None:
        manager.observer.note(f"{fact.attempt} ended, but this fleet knows no such attempt")
        return
    task = decode_task(row.raw)
    quota = None
    if ended.why == "budget" and ended.cap:
        from ..scoring import budget

        receipt = budget.judge(run, row, task, ended)
    else:
        receipt = judge(task, ended, manager.read)
        if receipt.source == "budget" and receipt.result == "partial":
            from ..scoring import budget

            receipt = budget.unverified(run, row, task, ended, receipt)
    if task.agent is not None or any(step.agent for step in ended.steps):
        from .quota import quota_of

        quota = quota_of(run, task, ended, transaction.now, manager.ledger.dir)
    endpoint.untold.pop(fact.attempt, None)
    endpoint.ending.discard(fact.attempt)
    ended = structs.replace(ended, receipt=receipt, quota=quota)
    event = transaction.submit(c.ReportEnded(ended=ended, jitter=random.random()))
    if isinstance(event, AttemptEnded) and event.isolated:
        for sentence in filter(None, (*event.notes, event.unsaved)):
            if sentence not in manager.noted:
                manager.noted.add(sentence)
                manager.observer.note(f"{event.attempt}: {sentence}")
        if may_go(event):
            endpoint.done_with[event.attempt] = event.isolated


def _greet(manager: Manager, endpoint: Endpoint, transaction: Transaction, hello: Message) -> None:
    """The runtime's first message: whose values it holds, what it knows of flights."""
    assert endpoint.link is not None
    endpoint.link.runtime = hello.runtime
    endpoint.greeted = True
    endpoint.tries = 0
    state = transaction.state
    cursor = state.cursors.get(hello.runtime, 0)
    if hello.acknowledged > cursor:
        raise older_ledger(manager.ledger.dir, state.epoch, hello)
    endpoint.acknowledge = cursor
    if manager.until is None:
        manager.hosted.update(run for run in hello.runs if run in state.open_runs)
        known = (state, manager.hosted, manager.callers.watched, transaction.now)
        for command in without_values(*known):
            transaction.submit(command)
        if values_come(*known):  # the next beat asks again
            from .manager import HEARTBEAT_RECORD_SECONDS as BEAT

            manager.beaten = min(manager.beaten, manager.clock() - BEAT + ARRIVE_SECONDS)
    endpoint.cut_off = {}
    if of_another_boot(state, hello.boot):
        from .rebooted import cut_off

        endpoint.cut_off = cut_off(state, manager.ledger.dir, hello.boot)
    greeting = Greeting(
        runtime=hello.runtime,
        boot=hello.boot,
        journal=hello.journal,
        open=frozenset(hello.open),
        kept=endpoint.cut_off,
    )
    for command in on_greeting(state, greeting):
        transaction.submit(command)
    endpoint.untold = endpoint.unstarted(state, manager.hosted)
    if (manager.ledger.dir / "worktrees").exists():
        from .isolated import leftovers

        endpoint.done_with.update(leftovers(manager.ledger))


def _refused(manager: Manager, transaction: Transaction, message: Message) -> None:
    run = message.attempt.partition("/")[0]
    if message.why == "epoch":  # not fenced by the ledger, or this transaction had not begun
        raise older_ledger(manager.ledger.dir, transaction.state.epoch, message)
    if message.why == "protocol":
        raise misunderstood(message.sentence)
    if message.why == "values" and run in transaction.state.open_runs:
        manager.hosted.discard(run)
        if transaction.state.open_runs[run].status == "running":  # it may be stopping by now
            transaction.submit(c.PauseRun(run=run, reason=values_gone(run)))
    elif message.why != "disk" or manager.disk.refuse(manager.clock()):
        sentence = message.sentence or f"{message.attempt} was refused: {message.why}"
        manager.observer.note(sentence)
