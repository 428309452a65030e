"""Controls as decisions: told apart, and never leaving a run that nobody can finish."""

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.controls import Aim, Meant, aim_interrupt
from codewhale_fleet.core.decide import Known
from codewhale_fleet.core.duties import is_over
from codewhale_fleet.errors import Refused

from .playbook import FAIL, PASS, Playbook

SKIP = e.Receipt(result="skip", source="human", reason="x")


def test_a_restart_holds_although_the_attempt_passes_meanwhile() -> None:
    book = Playbook()
    run = book.run({"id": "a"})
    (attempt,) = book.place()
    book.ask(c.Restart(run="r", tasks=("a",), reason="again"))
    book.ended(attempt, PASS)
    assert (run.tasks["a"].status, book.place()) == ("queued", ["r/a@2"])


def test_a_restart_ends_the_waiting_of_a_retry_at_once() -> None:
    book = Playbook()
    book.run({"id": "a", "retry_policy": {"max_attempts": 2, "initial_backoff_seconds": 60}})
    book.ended(book.place()[0], FAIL)
    assert book.place() == []
    book.ask(c.Restart(run="r", tasks=("a",), reason="now"))
    assert book.place() == ["r/a@2"]
    assert book.state.runs["r"].restarted == 1
    assert isinstance(book.ask(c.Restart(run="r", tasks=("a",), reason="now")), e.ControlRequested)
    assert isinstance(book.ask(c.Restart(run="r", tasks=("a",), reason="now")), Known)


def test_the_timer_of_a_retry_that_was_restarted_never_shortens_a_later_one() -> None:
    book = Playbook()
    policy = {"max_attempts": 3, "initial_backoff_seconds": 60, "backoff_multiplier": 1}
    book.run({"id": "a", "retry_policy": policy})
    book.ended(book.place()[0], FAIL)
    book.ask(c.Restart(run="r", tasks=("a",), reason="now"))
    (second,) = book.place()
    book.later(50).ended(second, FAIL)  # its retry is due 60 s or more from here
    assert book.later(45).place() == []
    assert book.later(60).place() == ["r/a@3"]


def test_an_attempt_that_was_to_be_restarted_does_not_hold_a_stopped_run_open() -> None:
    book = Playbook()
    run = book.run({"id": "a"}, {"id": "b"}, max_failures=1)
    one, two = book.place()
    book.ask(c.Restart(run="r", tasks=("b",), reason="again"))
    book.ended(one, FAIL)
    book.place()  # the limit stops the run, and lets what runs end
    book.ended(two, SKIP, why="interrupted")
    assert (run.status, is_over(run)) == ("stopping", True)


def test_resuming_a_run_that_is_stopping_gives_what_was_interrupted_another_attempt() -> None:
    book = Playbook()
    run = book.run({"id": "a"})
    (attempt,) = book.place()
    book.ask(c.StopRun(run="r", reason="stop"))
    book.ask(c.ResumeRun(run="r"))
    book.ended(attempt, SKIP, why="stopped")
    assert (run.status, book.place()) == ("running", ["r/a@2"])


def test_a_paused_run_of_which_nothing_is_left_is_over() -> None:
    book = Playbook()
    run = book.run({"id": "a"})
    book.ask(c.PauseRun(run="r", reason="lunch"))
    book.ask(c.Interrupt(run="r", tasks=("a",), reason="no"))
    assert is_over(run)
    book.ask(c.FinishRun(run="r", seconds=1.0))
    assert run.result == "cancelled"


def test_nothing_is_restarted_in_a_run_that_is_stopping() -> None:
    book = Playbook()
    book.run({"id": "a"})
    book.place()
    book.ask(c.StopRun(run="r", reason="stop"))
    with pytest.raises(Refused, match="is stopping"):
        book.ask(c.Restart(run="r", tasks=("a",), reason="again"))


def test_a_second_interrupt_of_the_same_attempt_is_known() -> None:
    book = Playbook()
    book.run({"id": "a"})
    book.place()
    ask = c.Interrupt(run="r", tasks=("a",), reason="x")
    assert isinstance(book.ask(ask), e.ControlRequested)
    assert isinstance(book.ask(ask), Known)


def test_a_worker_means_what_runs_there_and_not_what_is_leased_behind_it() -> None:
    book = Playbook()
    run = book.run(*({"id": name} for name in "abcd"), workers=1)
    run.mean = 0.1
    first, *_ = book.place()
    book.started(first)
    meant = Meant()
    aim_interrupt(run, Aim("r", worker="r-local-1"), meant)
    assert meant.flying == ["a"]


def test_a_resumed_run_has_its_whole_allowance_of_failures_again() -> None:
    book = Playbook()
    run = book.run(*({"id": name} for name in "abcd"), workers=1, max_failures=1)
    book.ended(book.place()[0], FAIL)
    assert book.place() == [] and run.status == "stopping"
    book.ask(c.FinishRun(run="r", seconds=1.0))
    book.ask(c.ResumeRun(run="r"))
    assert book.place() == ["r/b@1"]
    book.ended("r/b@1")
    book.ended(book.place()[0], FAIL)
    assert book.place() == [] and run.status == "stopping"


def test_a_restarted_task_that_fails_again_counts_and_one_that_had_failed_before_does_not() -> None:
    book = Playbook()
    run = book.run(*({"id": name} for name in "abcde"), workers=1, max_failures=2)
    book.ended(book.place()[0], FAIL)
    book.ask(c.PauseRun(run="r", reason="look"))
    book.ask(c.ResumeRun(run="r"))
    book.ended(book.place()[0], FAIL)
    book.ask(c.Restart(run="r", tasks=("b",), reason="again"))
    assert (run.forgiven, run.counts["failed"]) == (1, 1)
    book.ended(book.place()[0], FAIL)
    book.ask(c.Restart(run="r", tasks=("a",), reason="again"))
    assert (run.forgiven, run.counts["failed"]) == (0, 1)
    book.ended(book.place()[0], FAIL)
    assert book.place() == [] and run.status == "stopping"


def test_a_task_of_a_finished_run_can_be_restarted_though_others_had_failed() -> None:
    book = Playbook()
    book.run({"id": "a"}, {"id": "b"}, max_failures=1)
    for attempt in book.place():
        book.ended(attempt, FAIL)
    book.ask(c.FinishRun(run="r", seconds=1.0))
    book.ask(c.Restart(run="r", tasks=("a",), reason="again"))
    assert book.place() == ["r/a@2"]
