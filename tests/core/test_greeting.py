"""Who is lost when somebody takes over or a runtime greets, and which runs must wait."""

from typing import Any

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.greeting import (
    ARRIVE_SECONDS,
    COPIED,
    NO_TRACE,
    RESTARTED,
    Greeting,
    on_greeting,
    on_takeover,
    values_come,
    values_gone,
    was_copied,
    without_values,
)
from codewhale_fleet.core.state import State

from .playbook import Playbook
from .test_liveness import elected

FRESH = {"device": 1, "inode": 7, "fleet": "fl-new"}
"""The directory is the one that the last manager saw."""


def a_flight(*, started: bool = True) -> Playbook:
    """A managed run whose task `a` is placed; the journal of `rt` is in the ledger."""
    book = Playbook()
    book.ask(elected(1))
    book.state.manager.boot = "boot-1"  # type: ignore[union-attr]
    book.run({"id": "a"}, {"id": "b"}, workers=1)
    (attempt,) = book.place()
    if started:
        book.started(attempt)
    return book


def greeting(book: Playbook, **other: Any) -> Greeting:
    """The runtime, which knows what is in flight and has told everything."""
    known = frozenset(book.state.runs["r"].flights)
    said = {"runtime": "rt", "boot": "boot-1", "journal": book.facts, "open": known, **other}
    return Greeting(**said)


def lost(book: Playbook, greeting: Greeting) -> list[str]:
    """Why each of the lost is lost, after that is recorded."""
    found = [book.ask(command) for command in on_greeting(book.state, greeting)]
    return [event.why for event in found if isinstance(event, e.AttemptLost)]


def test_what_the_runtime_knows_is_not_lost() -> None:
    book = a_flight()
    assert lost(book, greeting(book)) == []


def test_what_ran_and_left_no_trace_is_lost_and_its_source_is_transport() -> None:
    book = a_flight()
    assert lost(book, greeting(book, open=frozenset())) == [NO_TRACE]
    assert (book.task("a").status, book.task("a").source) == ("failed", "transport")
    assert book.place() == ["r/b@1"]


def test_while_facts_are_still_to_be_heard_nothing_is_lost() -> None:
    book = a_flight()
    assert lost(book, greeting(book, journal=book.facts + 1, open=frozenset())) == []


def test_what_was_never_known_to_start_is_told_again_and_not_lost() -> None:
    book = a_flight(started=False)
    assert lost(book, greeting(book, open=frozenset())) == []


def test_a_runtime_of_another_boot_loses_what_was_placed_before_started_or_not() -> None:
    for started in (True, False):
        book = a_flight(started=started)
        assert lost(book, greeting(book, boot="boot-2")) == [RESTARTED]


def test_a_takeover_of_the_same_directory_in_the_same_boot_loses_nothing() -> None:
    assert list(on_takeover(a_flight().state, "boot-1", **FRESH)) == []  # type: ignore[arg-type]


def test_another_inode_or_device_is_a_copy_and_loses_what_is_in_flight() -> None:
    for device, inode in ((1, 8), (2, 7)):
        found = on_takeover(a_flight().state, "boot-1", device, inode, fleet="fl-new")
        renamed, one = found
        assert renamed == c.Copied(fleet="fl-new")
        assert isinstance(one, c.ReportLost) and one.why == COPIED


def test_a_device_number_that_changes_with_a_restart_is_no_copy() -> None:
    (one,) = on_takeover(a_flight().state, "boot-2", 2, 7, fleet="fl-new")
    assert isinstance(one, c.ReportLost) and one.why == RESTARTED
    assert not was_copied(State(), "boot-1", 1, 1)


def test_a_run_whose_values_nobody_has_waits_and_says_so() -> None:
    book = a_flight()
    now = book.now + ARRIVE_SECONDS
    for hosted, watched in ((["r"], []), ([], ["r"])):
        assert list(without_values(book.state, hosted, watched, now)) == []
    (command,) = without_values(book.state, [], ["another"], now)
    assert isinstance(book.ask(command), e.RunPaused)
    assert book.state.runs["r"].reason == values_gone("r")
    assert list(without_values(book.state, [], [], now)) == []


def test_the_values_of_a_run_that_was_just_begun_or_goes_on_may_be_on_their_way() -> None:
    book = Playbook()
    book.run({"id": "a"})
    book.later(60)
    assert not values_come(book.state, [], [], book.now)
    book.ask(c.PauseRun(run="r", reason=values_gone("r")))
    book.ask(c.ResumeRun(run="r"))
    soon = book.now + ARRIVE_SECONDS - 1
    assert list(without_values(book.state, [], [], soon)) == []
    assert values_come(book.state, [], [], soon)
    assert not values_come(book.state, ["r"], [], soon)
    assert not values_come(book.state, [], [], soon + 1)
    assert len(list(without_values(book.state, [], [], soon + 1))) == 1
