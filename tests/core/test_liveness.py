"""What the state knows of attempts that hang, of directories that move and of clocks that jump."""

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.backoff import is_exhausted
from codewhale_fleet.core.decide import Known
from codewhale_fleet.core.placement import due, wake_at

from .playbook import FAIL, Playbook


def elected(epoch: int, root: str = "/w", inode: int = 7) -> c.Elect:
    manager = e.ManagerElected(
        epoch=epoch, pid=1, host="h", boot="b", version="v", device=1, inode=inode, root=root
    )
    return c.Elect(elected=manager)


def quiet(book: Playbook, attempt: str, *, moves: bool = False, fact: int = 0) -> e.Event | Known:
    book.facts += 1
    src = ("rt", fact or book.facts)
    return book.ask(
        c.ReportQuiet(attempt=attempt, worker="r-local-1", quiet=9.0, src=src, moves=moves)
    )


def test_a_stale_attempt_is_marked_until_it_moves_or_ends() -> None:
    book = Playbook()
    run = book.run({"id": "a"})
    (attempt,) = book.place()
    assert isinstance(quiet(book, attempt), e.WorkerStale)
    flight = run.flights[attempt]
    assert flight.stale == book.ts() and flight.stale_seq == book.state.seq
    assert isinstance(quiet(book, attempt, moves=True), e.WorkerRecovered)
    assert (flight.stale, flight.stale_seq) == ("", 0)
    assert book.task("a").status == "leased"


def test_a_fact_about_silence_is_taken_once_and_a_late_one_changes_nothing() -> None:
    book = Playbook()
    book.run({"id": "a"})
    (attempt,) = book.place()
    quiet(book, attempt)
    assert isinstance(quiet(book, attempt, fact=book.facts), Known)
    book.ended(attempt)
    assert isinstance(quiet(book, attempt, moves=True), e.WorkerRecovered)
    assert book.task("a").status == "completed"
    assert book.state.cursors["rt"] == book.facts


def test_used_up_attempts_are_told_from_a_single_failure() -> None:
    book = Playbook()
    policy = {"max_attempts": 2, "initial_backoff_seconds": 0}
    book.run({"id": "a", "retry_policy": policy}, {"id": "b"}, workers=2)
    for attempt in book.place():
        book.ended(attempt, FAIL)
    assert not is_exhausted(book.task("a")) and not is_exhausted(book.task("b"))
    book.ended(book.place()[0], FAIL)
    assert is_exhausted(book.task("a"))


def test_a_clock_that_was_set_back_between_managers_lengthens_no_wait() -> None:
    book = Playbook()
    policy = {"max_attempts": 2, "initial_backoff_seconds": 60, "jitter": 0}
    book.run({"id": "a", "retry_policy": policy})
    book.ask(elected(1))
    book.ended(book.place()[0], FAIL)
    book.later(20)
    book.ask(c.ReportBeat(workers=("r-local-1",)))
    book.later(-86_400)
    book.ask(elected(2))
    assert wake_at(book.state) == book.now + 40
    assert not book.place()
    assert book.later(40).place() == ["r/a@2"]


def test_a_clock_that_was_set_back_gives_a_run_no_later_deadline() -> None:
    book = Playbook()
    book.run({"id": "a"}, {"id": "b"}, workers=1, deadline_seconds=60)
    book.ask(elected(1))
    book.ended(book.place()[0])
    book.later(20)
    book.ask(c.ReportBeat(workers=("r-local-1",)))
    book.later(-86_400)
    book.ask(elected(2))
    assert wake_at(book.state) == book.now + 40
    assert book.later(39).place() == ["r/b@1"]
    (stop,) = due(book.state.runs["r"], "boot-1", book.now + 1)
    assert isinstance(stop, c.StopRun) and stop.source == "budget"


def test_a_clock_that_jumped_ahead_ends_a_wait_and_freezes_nothing() -> None:
    book = Playbook()
    policy = {"max_attempts": 2, "initial_backoff_seconds": 60, "jitter": 0}
    book.run({"id": "a", "retry_policy": policy})
    book.ask(elected(1))
    book.ended(book.place()[0], FAIL)
    book.later(86_400)
    book.ask(elected(2))
    assert book.place() == ["r/a@2"]


def test_a_renamed_root_takes_the_paths_of_its_runs_along() -> None:
    book = Playbook()
    run = book.run({"id": "a"})
    run.workspace = "/w/deep"
    book.ask(elected(1))
    book.ask(elected(2, "/w"))
    assert run.workspace == "/w/deep"
    book.ask(elected(3, "/elsewhere"))
    assert run.workspace == "/elsewhere/deep"
    run.workspace = "/elsewhere-too"
    book.ask(elected(4, "/x"))
    assert run.workspace == "/elsewhere-too"


def test_a_copy_goes_on_under_another_name() -> None:
    book = Playbook()
    event = book.ask(c.Copied(fleet="fl-new"))
    assert event == e.FleetCopied(fleet="fl-new", was="fl-test")
    assert book.state.fleet == "fl-new"


def test_a_start_that_never_happened_costs_no_attempt_of_the_policy() -> None:
    book = Playbook()
    book.run({"id": "a"})
    (attempt,) = book.place()
    skip = e.Receipt(result="skip", source="transport", reason="killed just before")
    ended = book.ended(attempt, skip, why="unspawned", unstarted="killed just before")
    assert isinstance(ended, e.AttemptEnded) and ended.retry_after == 0.0
    assert book.task("a").status == "queued" and book.task("a").failures == 0
    assert book.place() == ["r/a@2"]
