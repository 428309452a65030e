"""Placement as conversations: what waits is found again, whatever the clock and the people do."""

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.placement import Waiting, due, wake_at, why_waiting

from .playbook import FAIL, Playbook

RETRY = {"max_attempts": 3, "initial_backoff_seconds": 4, "backoff_multiplier": 3, "jitter": 0}


def elect(book: Playbook) -> None:
    elected = e.ManagerElected(
        epoch=book.state.epoch + 1, pid=1, host="h", boot="b", version="0", device=1, inode=1
    )
    book.ask(c.Elect(elected=elected))


def test_a_task_that_was_cancelled_and_restarted_still_waits_out_its_backoff() -> None:
    book = Playbook()
    book.run({"id": "a", "retry_policy": RETRY})
    book.ask(c.Interrupt(run="r", tasks=("a",), reason="asked"))
    book.ask(c.Restart(run="r", tasks=("a",), reason="asked"))
    assert book.place() == ["r/a@1"]
    book.ended("r/a@1", FAIL)
    assert book.place() == []
    assert book.later(4.1).place() == ["r/a@2"]


def test_a_task_that_waited_for_a_claim_when_the_clock_was_set_back_is_not_forgotten() -> None:
    book = Playbook()
    claim = {"workspace": {"writable_paths": ["out"]}}
    book.run({"id": "a", "retry_policy": RETRY, **claim}, {"id": "b", **claim}, {"id": "d"})
    elect(book)
    assert book.place() == ["r/a@1", "r/d@1"]
    book.ended("r/a@1", FAIL)
    assert book.place() == ["r/b@1"]
    book.ended("r/d@1")
    assert book.later(5).place() == []  # its backoff is over, but b holds the claim
    book.later(-1000)
    elect(book)
    book.ended("r/b@1")
    book.place()
    assert book.later(10).place() == ["r/a@2"]


def test_a_clock_that_was_set_back_makes_no_wait_longer() -> None:
    book = Playbook()
    book.run({"id": "a", "retry_policy": RETRY})
    elect(book)
    book.place()
    book.ended("r/a@1", FAIL)
    book.later(-100_000)
    elect(book)
    assert book.place() == []
    assert book.later(4.1).place() == ["r/a@2"]


def test_on_a_full_disk_nothing_is_placed_and_the_reason_says_so() -> None:
    book = Playbook()
    book.run({"id": "a"}, {"id": "b", "retry_policy": RETRY})
    book.place()
    book.ended("r/a@1")
    book.ended("r/b@1", FAIL)
    book.later(4.1)
    run, now = book.state.runs["r"], book.now
    assert list(due(run, "boot-1", now, full=True)) == []
    reason = why_waiting(run, run.tasks["b"], now, "only 3 MB are free")
    assert (reason.waiting, reason.sentence) == (Waiting.DISK, "only 3 MB are free")
    assert why_waiting(run, run.tasks["b"], now).waiting is Waiting.NEXT
    assert book.place() == ["r/b@2"]


def test_a_full_disk_keeps_no_run_from_being_stopped_by_its_failures() -> None:
    book = Playbook()
    book.run({"id": "a"}, {"id": "b"}, workers=1, max_failures=1)
    book.place()
    book.ended("r/a@1", FAIL)
    (stop,) = due(book.state.runs["r"], "boot-1", book.now, full=True)
    assert isinstance(stop, c.StopRun)


def test_time_alone_wakes_no_run_that_is_paused() -> None:
    book = Playbook()
    book.run({"id": "a", "retry_policy": RETRY})
    book.place()
    book.ended("r/a@1", FAIL)
    assert wake_at(book.state) is not None
    book.ask(c.PauseRun(run="r", reason="lunch"))
    assert wake_at(book.state) is None
    book.ask(c.ResumeRun(run="r"))
    assert book.later(5).place() == ["r/a@2"]


def test_what_is_decided_waits_for_nothing() -> None:
    book = Playbook()
    book.run({"id": "a", "retry_policy": RETRY})
    book.place()
    book.ended("r/a@1", FAIL)
    book.ask(c.Interrupt(run="r", tasks=("a",), reason="asked"))
    assert (book.task("a").status, book.task("a").not_before) == ("cancelled", 0.0)
