"""The core as conversations: what was asked, what was recorded, what is owed then."""

import pytest

from codewhale_fleet.core import alerts
from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.decide import Known
from codewhale_fleet.core.duties import FinishRun, InterruptAttempt, StartAttempt, duties
from codewhale_fleet.core.evolve import _HANDLERS
from codewhale_fleet.core.placement import Waiting, wake_at, why_waiting
from codewhale_fleet.core.state import overlaps, split_attempt
from codewhale_fleet.errors import Refused

from .playbook import FAIL, TRANSPORT, Playbook

RETRY = {"max_attempts": 3, "initial_backoff_seconds": 4, "backoff_multiplier": 3, "jitter": 0}


def owed(book: Playbook) -> list[type]:
    return [type(duty) for duty in duties(book.state)]


def test_a_task_goes_from_queued_to_completed_and_the_run_finishes() -> None:
    book = Playbook()
    book.run({"id": "a"})
    assert book.place() == ["r/a@1"]
    assert owed(book) == [StartAttempt]
    book.ended("r/a@1")
    assert book.task("a").status == "completed"
    assert owed(book) == [FinishRun]
    finished = book.ask(c.FinishRun(run="r", seconds=1.0))
    assert isinstance(finished, e.RunFinished)
    assert (finished.status, finished.counts) == ("completed", {"completed": 1})
    assert owed(book) == []


def test_no_more_attempts_than_slots_are_in_flight_while_durations_are_unknown() -> None:
    book = Playbook()
    book.run(*({"id": f"t{n}"} for n in range(5)), workers=2)
    assert book.place() == ["r/t0@1", "r/t1@1"]
    assert {flight.worker for flight in book.state.runs["r"].flights.values()} == {
        "r-local-1",
        "r-local-2",
    }


def test_short_attempts_are_leased_ahead_and_long_ones_are_not() -> None:
    book = Playbook()
    book.run(*({"id": f"t{n}"} for n in range(20)), workers=2)
    book.place()
    book.ended("r/t0@1", seconds=0.01)
    assert len(book.state.runs["r"].flights) == 1
    book.place()
    assert len(book.state.runs["r"].flights) == 6
    for attempt in list(book.state.runs["r"].flights):
        book.ended(attempt, seconds=60.0)
    book.place()
    assert len(book.state.runs["r"].flights) == 2


def test_a_failure_is_retried_after_its_backoff_and_not_before() -> None:
    book = Playbook()
    book.run({"id": "a", "retry_policy": RETRY})
    book.place()
    ended = book.ended("r/a@1", FAIL)
    assert isinstance(ended, e.AttemptEnded)
    assert ended.retry_after == 4.0
    assert book.task("a").status == "queued"
    assert book.place() == []
    assert wake_at(book.state) == book.now + 4
    assert book.later(3.9).place() == []
    assert book.later(0.2).place() == ["r/a@2"]
    assert book.ended("r/a@2", FAIL).retry_after == 12.0  # type: ignore[union-attr]
    book.later(13).place()
    book.ended("r/a@3", FAIL)
    assert book.task("a").status == "failed"
    assert (book.task("a").result, book.task("a").source) == ("fail", "task")
    assert book.state.runs["r"].restarted == 2


def test_backoff_stops_growing_at_its_maximum_and_jitter_lengthens_it() -> None:
    book = Playbook()
    policy = {**RETRY, "max_attempts": 9, "max_backoff_seconds": 6, "jitter": 0.5}
    book.run({"id": "a", "retry_policy": policy})
    book.place()
    assert book.ended("r/a@1", FAIL).retry_after == 5.0  # type: ignore[union-attr]
    book.later(9).place()
    assert book.ended("r/a@2", FAIL).retry_after == 7.5  # type: ignore[union-attr]


def test_without_a_policy_there_is_one_attempt() -> None:
    book = Playbook()
    book.run({"id": "a"})
    book.place()
    book.ended("r/a@1", FAIL)
    assert book.task("a").status == "failed"


@pytest.mark.parametrize("source", ["budget", "policy", "human", "verifier"])
def test_sources_outside_retry_on_are_not_retried(source: str) -> None:
    book = Playbook()
    book.run({"id": "a", "retry_policy": RETRY})
    book.place()
    book.ended("r/a@1", e.Receipt(result="fail", source=source))
    assert book.task("a").status == "failed"
    assert book.state.runs["r"].sources == {source: 1}


def test_retry_on_chooses_the_sources() -> None:
    book = Playbook()
    book.run({"id": "a", "retry_policy": {**RETRY, "retry_on": ["transport"]}})
    book.place()
    book.ended("r/a@1", FAIL)
    assert book.task("a").status == "failed"


def test_a_spent_budget_ends_the_retries() -> None:
    book = Playbook()
    book.run({"id": "a", "retry_policy": RETRY, "budget": {"max_seconds": 10}})
    book.place()
    book.ended("r/a@1", FAIL, seconds=11.0)
    assert book.task("a").status == "failed"


def test_a_fact_told_twice_is_known() -> None:
    book = Playbook()
    book.run({"id": "a", "retry_policy": RETRY})
    book.place()
    book.ended("r/a@1", FAIL, fact=7)
    before = book.state.seq
    assert isinstance(book.ended("r/a@1", FAIL, fact=7), Known)
    assert book.state.seq == before


def test_a_late_fact_is_recorded_as_late_and_changes_nothing() -> None:
    book = Playbook()
    book.run({"id": "a", "retry_policy": RETRY})
    book.place()
    book.ask(c.ReportLost(attempt="r/a@1", why="rebooted", receipt=TRANSPORT))
    book.later(5).place()
    late = book.ended("r/a@1")
    assert isinstance(late, e.AttemptEnded)
    assert late.late
    assert (book.task("a").status, book.task("a").attempt) == ("leased", 2)


def test_an_attempt_that_is_lost_without_a_policy_fails_as_transport() -> None:
    book = Playbook()
    book.run({"id": "a"})
    book.place()
    book.ask(c.ReportLost(attempt="r/a@1", why="rebooted", receipt=TRANSPORT))
    assert (book.task("a").status, book.task("a").source) == ("failed", "transport")


def test_what_may_still_run_somewhere_is_not_begun_anew_unless_somebody_asked_for_it() -> None:
    book = Playbook()
    policy = {"max_attempts": 3, "initial_backoff_seconds": 0, "retry_on": ["transport"]}
    book.run({"id": "a", "retry_policy": policy}, {"id": "b", "retry_policy": policy})
    book.place()
    book.ask(c.Restart(run="r", tasks=("b",), reason="again"))
    for one in ("a", "b"):
        book.ask(c.ReportLost(attempt=f"r/{one}@1", why="away", receipt=TRANSPORT, open=True))
    assert (book.task("a").status, book.task("b").status) == ("failed", "queued")


def test_stopping_cancels_what_is_queued_and_owes_the_end_of_what_runs() -> None:
    book = Playbook()
    book.run({"id": "a"}, {"id": "b"}, workers=1)
    book.place()
    book.ask(c.StopRun(run="r", reason="stopped by Ctrl-C"))
    assert book.task("b").status == "cancelled"
    assert (book.task("b").result, book.task("b").source) == ("skip", "human")
    assert InterruptAttempt in owed(book)
    book.ended("r/a@1", FAIL, why="stopped", signal=2)
    assert (book.task("a").status, book.task("a").reason) == ("cancelled", "stopped by Ctrl-C")
    finished = book.ask(c.FinishRun(run="r", seconds=1.0))
    assert finished.status == "cancelled"  # type: ignore[union-attr]


def test_a_stopped_run_is_resumed_where_it_was() -> None:
    book = Playbook()
    book.run({"id": "a"}, {"id": "b"}, workers=1)
    book.place()
    book.ended("r/a@1")
    book.ask(c.StopRun(run="r", reason="Ctrl-C"))
    book.ask(c.FinishRun(run="r", seconds=1.0))
    book.ask(c.ResumeRun(run="r"))
    assert book.task("a").status == "completed"
    assert book.place() == ["r/b@1"]


def test_resume_failed_makes_new_attempts_under_new_numbers() -> None:
    book = Playbook()
    book.run({"id": "a"})
    book.place()
    book.ended("r/a@1", FAIL)
    book.ask(c.FinishRun(run="r", seconds=1.0))
    with pytest.raises(Refused, match="nothing to resume"):
        book.ask(c.ResumeRun(run="r"))
    book.ask(c.ResumeRun(run="r", failed=True))
    assert book.place() == ["r/a@2"]


def test_max_failures_stops_placing_and_lets_what_runs_end() -> None:
    book = Playbook()
    book.run({"id": "a"}, {"id": "b"}, {"id": "d"}, workers=2, max_failures=1)
    book.place()
    book.ended("r/a@1", FAIL)
    assert book.place() == []
    assert (book.task("d").status, book.task("d").source) == ("cancelled", "policy")
    assert InterruptAttempt not in owed(book)
    book.ended("r/b@1")
    assert book.task("b").status == "completed"


def test_overlapping_writable_paths_never_run_at_once() -> None:
    book = Playbook()
    book.run(
        {"id": "a", "workspace": {"writable_paths": ["out"]}},
        {"id": "b", "workspace": {"writable_paths": ["out/deep"]}},
        {"id": "d", "workspace": {"writable_paths": ["other"]}},
        workers=3,
    )
    assert book.place() == ["r/a@1", "r/d@1"]
    book.ended("r/a@1")
    assert book.place() == ["r/b@1"]


def test_coordination_contracts_exclude_each_other_by_name() -> None:
    book = Playbook()
    claim = {"metadata": {"coordination_contracts": ["db"]}}
    book.run({"id": "a", **claim}, {"id": "b", **claim}, workers=2)
    assert book.place() == ["r/a@1"]


def test_lower_priority_numbers_run_first_wherever_they_are_written() -> None:
    book = Playbook()
    book.run({"id": "a"}, {"id": "b", "metadata": {"priority": -1}}, {"id": "d", "priority": -2})
    assert book.place() == ["r/d@1", "r/b@1"]


def test_a_restart_of_a_running_task_ends_the_attempt_and_makes_another() -> None:
    book = Playbook()
    book.run({"id": "a"})
    book.place()
    book.ask(c.Restart(run="r", tasks=("a",), reason="asked"))
    book.ended("r/a@1", FAIL, why="interrupted", signal=2)
    assert book.place() == ["r/a@2"]


def test_an_interrupted_task_is_cancelled_and_resumable() -> None:
    book = Playbook()
    book.run({"id": "a"}, {"id": "b"})
    book.place()
    book.ask(c.Interrupt(run="r", tasks=("a",), reason="asked"))
    book.ended("r/a@1", FAIL, why="interrupted", signal=2)
    assert (book.task("a").status, book.task("a").source) == ("cancelled", "human")


def test_a_withdrawn_attempt_is_placed_again_and_counts_as_no_failure() -> None:
    book = Playbook()
    book.run({"id": "a"})
    book.place()
    book.ended("r/a@1", FAIL, why="withdrawn", unstarted="taken back")
    assert book.place() == ["r/a@2"]
    assert book.task("a").failures == 0


def test_only_the_next_epoch_is_elected() -> None:
    book = Playbook()
    elected = e.ManagerElected(epoch=1, pid=1, host="h", boot="b", version="0", device=1, inode=1)
    book.ask(c.Elect(elected=elected))
    with pytest.raises(Refused, match="another manager"):
        book.ask(c.Elect(elected=elected))


def test_every_word_but_repairs_changes_the_state() -> None:
    of_the_file = {e.LedgerSealed, e.LedgerRepaired}
    assert set(e.EVENTS.values()) - set(_HANDLERS) - set(alerts.HANDLERS) == of_the_file


def test_claims_overlap_by_whole_segments() -> None:
    assert overlaps("a", "a/b")
    assert overlaps(".", "x")
    assert not overlaps("a", "ab")
    assert not overlaps("contract:a", ".")


def test_attempt_ids_are_taken_apart_from_the_right() -> None:
    assert split_attempt("r/a@b@12") == ("r", "a@b", 12)


def _waiting(book: Playbook, name: str) -> Waiting:
    return why_waiting(book.state.runs["r"], book.task(name), book.now).waiting


OF_WORKERS = {
    Waiting.WORKERS, Waiting.BUSY, Waiting.UNTRIED, Waiting.DRAINING, Waiting.UNREACHABLE,
}  # fmt: skip
"""Those of test_lookout.py."""


def test_each_reason_to_wait_has_its_scenario() -> None:
    seen = set()
    book = Playbook()
    book.run({"id": "a", "retry_policy": RETRY}, {"id": "b"}, workers=1)
    seen.add(_waiting(book, "a"))
    book.place()
    seen.add(_waiting(book, "b"))
    book.ended("r/a@1", FAIL)
    seen.add(_waiting(book, "a"))
    seen.add(why_waiting(book.state.runs["r"], book.task("b"), book.now, "disk full").waiting)
    book.ask(c.PauseRun(run="r", reason="lunch"))
    seen.add(_waiting(book, "b"))
    book.ask(c.ResumeRun(run="r"))
    book.ask(c.StopRun(run="r", reason="enough"))
    seen.add(_waiting(book, "b"))

    book = Playbook()
    claim = {"workspace": {"writable_paths": ["x"]}}
    book.run({"id": "a", **claim}, {"id": "b", **claim}, workers=2)
    book.place()
    seen.add(_waiting(book, "b"))
    book.state.runs["r"].status = "draft"
    seen.add(_waiting(book, "b"))

    book = Playbook()
    book.run({"id": "a", "agent": "x"}, {"id": "b", "agent": "x"}, workers=1)
    book.place()
    limit = e.Quota(agent="x", seconds=60, words="come back later")
    book.ended("r/a@1", FAIL, agent=e.AgentFacts(), quota=limit)
    breakers = book.state.breakers
    seen.add(why_waiting(book.state.runs["r"], book.task("b"), book.now, "", breakers).waiting)
    assert seen == set(Waiting) - OF_WORKERS


def test_resuming_a_paused_run_needs_nothing_that_was_cancelled() -> None:
    book = Playbook()
    book.run({"id": "a"})
    book.ask(c.PauseRun(run="r", reason="lunch"))
    assert book.place() == []
    book.ask(c.ResumeRun(run="r"))
    assert book.place() == ["r/a@1"]
