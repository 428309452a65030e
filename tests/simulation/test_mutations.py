"""The simulation can fail: for each promise a planted fault that breaks it, and is found.

Each test plants one fault in the core, in a host, or in the order of a manager's steps, and asserts
the sentence of the invariant that is meant to find it, within a few seeds.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import structs

from codewhale_fleet.core import backoff, load, placement, rebuild
from codewhale_fleet.core import commands as c
from codewhale_fleet.core import decide as deciding
from codewhale_fleet.core import events as e
from codewhale_fleet.core import evolve as evolving
from codewhale_fleet.core.duties import FinishRun, InterruptAttempt, duties
from codewhale_fleet.core.state import Run, State, Task

from . import watch
from .faults import KINDS, Faults
from .host import Host
from .ledger import Ledger, Line
from .manager import Manager
from .network import Connection
from .run import Failed, simulate
from .world import Plan, World

Patch = pytest.MonkeyPatch


def found(sentence: str, *, seeds: int = 40, first: int = 0) -> None:
    """Some seed fails, and with this sentence; `first` is tried first: it once did."""
    others = []
    for seed in (*range(first, seeds), *range(first)):
        try:
            simulate(Plan(seed=seed))
        except Failed as failed:
            if re.search(sentence, str(failed)):
                return
            others.append(str(failed)[:300])
    raise AssertionError(f"nothing of {seeds} seeds found it; but: {others[:5]}")


def often(monkeypatch: Patch, *kinds: str) -> None:
    """These befall every second or so, and nothing else does."""

    init = Faults.__init__

    def made(faults: Faults, world: World) -> None:
        init(faults, world)
        faults._every = 1.0
        faults._weights = [int(kind in kinds) for kind in KINDS]

    monkeypatch.setattr(Faults, "__init__", made)


# An attempt starts at most once -----------------------------------------------------------------


def test_a_host_that_starts_an_attempt_twice_is_found(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Host, "knows", lambda host, attempt: False)
    found("was started 2 times")


def test_a_manager_that_does_not_notice_a_reboot_is_found(monkeypatch: Patch) -> None:
    def new_journal(host: Host) -> None:
        real(host)
        host.boot = "always the same"

    real = Host._new_journal
    monkeypatch.setattr(Host, "_new_journal", new_journal)
    often(monkeypatch, "host rebooted")
    found("was started 2 times", first=6)


def test_a_manager_that_tells_before_it_syncs_is_found(monkeypatch: Patch) -> None:
    def sync(manager: Manager, wrote: int) -> None:
        if not manager._held(sync, manager, wrote):
            manager._tell()
            later = manager.world.now + 2.0
            manager.world.at(later, manager.world.ledger.sync, wrote)

    monkeypatch.setattr(Manager, "_sync", sync)
    often(monkeypatch, "power lost")
    found("was started 2 times|fold|follows|differs|hours after", seeds=80)


# A finished task has exactly one deciding receipt -------------------------------------------------


def test_a_second_receipt_is_found(monkeypatch: Patch) -> None:
    def report_ended(state: State, command: c.ReportEnded) -> Any:
        decision = real(state, command)
        if isinstance(decision, e.AttemptEnded):
            return structs.replace(decision, late=False)
        return decision

    real = deciding._report_ended
    monkeypatch.setattr(deciding, "_seen", lambda state, src: False)
    monkeypatch.setattr(deciding, "_report_ended", report_ended)
    found("was over before, and again decides")


def test_a_run_that_finishes_before_its_tasks_is_found(monkeypatch: Patch) -> None:
    def finish(run: Run, command: c.FinishRun) -> e.Event:
        return e.RunFinished(status="completed", counts={}, seconds=1.0)

    monkeypatch.setattr(deciding, "_finish", finish)
    monkeypatch.setattr("codewhale_fleet.core.duties.is_over", lambda run: run.open < 5)
    found("finished, but .* have no deciding receipt")


# Nothing owed is forgotten ------------------------------------------------------------------------


def test_an_end_that_a_host_loses_is_found(monkeypatch: Patch) -> None:
    def to_manager(link: Connection, message: tuple[Any, ...]) -> None:
        if message[0] == "fact" and message[2].attempt.endswith("/t7@1"):
            return
        real(link, message)

    real = Connection.to_manager
    monkeypatch.setattr(Connection, "to_manager", to_manager)
    found("hours after the last fault: run.* is running, 1 open", seeds=40)


def test_a_manager_that_acknowledges_before_it_syncs_is_found(monkeypatch: Patch) -> None:
    def take(manager: Manager, link: Connection, message: tuple[Any, ...]) -> None:
        real(manager, link, message)
        if message[0] == "fact":
            link.to_host(("ack", message[2].n))

    real = Manager._take
    monkeypatch.setattr(Manager, "_take", take)
    monkeypatch.setattr(World, "think", lambda world: 0.5)
    often(monkeypatch, "power lost")
    found("hours after the last fault")


def test_a_request_to_end_that_is_never_told_is_found(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Manager, "_interrupts", lambda manager: [])
    found("were asked to end, and nobody tells their hosts", first=29)


def test_a_task_that_waits_for_a_claim_and_is_dropped_is_found(monkeypatch: Patch) -> None:
    def due(run: Run, boot: str, now: float) -> Iterator[c.Command]:
        yield from real(run, boot, now)
        run.parked.clear()

    real = placement.due
    monkeypatch.setattr("tests.simulation.manager.due", due)
    found("placement finds")


# Slots --------------------------------------------------------------------------------------------


def test_one_attempt_more_than_there_are_slots_is_found(monkeypatch: Patch) -> None:
    monkeypatch.setattr(placement, "capacity", lambda run: run.slots + 1)
    found(r"is one more than \d+ in flight")


def test_attempts_heaped_on_one_slot_are_found(monkeypatch: Patch) -> None:
    monkeypatch.setattr(placement, "least_loaded", lambda run: (load.worker_of(run, 1), 0))
    found(r"is one more than \d+ on run")


def test_a_slot_that_is_never_freed_is_found(monkeypatch: Patch) -> None:
    def vacate(run: Run, worker: str) -> None:
        crowd = list(run.crowd)
        real(run, worker)
        run.crowd[:] = crowd

    real = load.vacate
    monkeypatch.setattr(evolving, "vacate", vacate)
    found("is one more than|differs|hours after")


def test_a_host_that_runs_more_than_it_has_slots_is_found(monkeypatch: Patch) -> None:
    def pump(host: Host, run: str) -> None:
        for attempt in [name for name in host.waiting if name.startswith(run + "/")]:
            slot, slots = host.waiting.pop(attempt)
            host._begin(attempt, run, slot, slots)

    monkeypatch.setattr(Host, "pump", pump)
    found(r"runs as number \d+ on \d+ slots")


# Duties, counts, claims ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FinishRun, InterruptAttempt])
def test_a_duty_that_the_index_forgets_is_found(monkeypatch: Patch, kind: type) -> None:
    def forgetful(state: State) -> Iterator[Any]:
        return (duty for duty in duties(state) if not isinstance(duty, kind))

    monkeypatch.setattr(watch, "duties", forgetful)
    found("owed: ", seeds=60, first=16)


def test_a_count_that_drifts_is_found(monkeypatch: Patch) -> None:
    def settle(run: Run, task: Task, receipt: e.Receipt, seq: int) -> None:
        real(run, task, receipt, seq)
        if task.attempt == 2:
            run.counts[task.status] += 1

    real = evolving._settle
    monkeypatch.setattr(evolving, "_settle", settle)
    found("counts")


def test_claims_that_overlap_are_found(monkeypatch: Patch) -> None:
    monkeypatch.setattr(placement, "claim_conflict", lambda run, wanted: None)
    found("claims .*, which .* holds as")


# The retry policy ---------------------------------------------------------------------------------


def test_a_retry_that_no_policy_allows_is_found(monkeypatch: Patch) -> None:
    monkeypatch.setattr(deciding, "retry_after", lambda *args, **kwargs: 1.0)
    found("is retried without a policy|is failure .*, retried")


def test_a_retry_before_its_backoff_is_over_is_found(monkeypatch: Patch) -> None:
    real = evolving.seconds_of
    monkeypatch.setattr(evolving, "seconds_of", lambda ts: real(ts) - 100.0)
    found("before its backoff was over")


def test_a_backoff_of_another_length_is_found(monkeypatch: Patch) -> None:
    def retry_after(*args: Any, **kwargs: Any) -> float | None:
        after = real(*args, **kwargs)
        return None if after is None else after * 3

    real = backoff.retry_after
    monkeypatch.setattr(deciding, "retry_after", retry_after)
    found("is retried after")


# Fencing and folding ------------------------------------------------------------------------------


def test_a_manager_that_writes_after_its_epoch_is_found(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Ledger, "check", lambda ledger, epoch: None)
    found(r"was written in epoch \d+, not \d+")


def test_an_index_that_is_not_made_anew_is_found(monkeypatch: Patch) -> None:
    def forgetful(state: State) -> None:
        real(state)
        for run in state.runs.values():
            run.load.clear()

    real = rebuild.rebuild
    monkeypatch.setattr(rebuild, "rebuild", forgetful)
    found("differs|KeyError")


def test_a_state_that_no_record_explains_is_found(monkeypatch: Patch) -> None:
    def submit(ledger: Ledger, command: c.Command, now: float, **named: Any) -> Any:
        decision = real(ledger, command, now, **named)
        if isinstance(decision, e.RunPaused):
            ledger.state.runs[named["run"]].reason = "only in memory"
        return decision

    real = Ledger.submit
    monkeypatch.setattr(Ledger, "submit", submit)
    found("differs")


def test_a_snapshot_that_says_more_than_the_records_is_found(monkeypatch: Patch) -> None:
    def folded(ledger: Ledger) -> State:
        state = real(ledger)
        if ledger._kept:
            state.beats["somebody"] = "a time"
        return state

    real = Ledger.folded
    monkeypatch.setattr(Ledger, "folded", folded)
    found(r"fold\(all\) differs")


def test_a_record_that_is_lost_though_it_was_durable_is_found(monkeypatch: Patch) -> None:
    def lose(ledger: Ledger, keep: int) -> None:
        lines: list[Line] = ledger.lines
        ledger.synced = min(ledger.synced, max(0, len(lines) - 12))
        real(ledger, min(keep, max(ledger.synced, 1)))

    real = Ledger.lose
    monkeypatch.setattr(Ledger, "lose", lose)
    often(monkeypatch, "power lost")
    found("was started 2 times|hours after|while .* still runs", seeds=80)
