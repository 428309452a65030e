"""Questions, answers, data, progress and checkpoints, as a conversation with the core."""

from typing import Any

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.asks import owed, shown, waiting
from codewhale_fleet.core.decide import Known
from codewhale_fleet.errors import FleetError, Refused

from .playbook import FAIL, PASS, Playbook

AGAIN = {"retry_policy": {"max_attempts": 3, "initial_backoff_seconds": 0}}


def asked(
    book: Playbook, attempt: str, text: str = "Which?", number: int = 1, *choices: str
) -> e.Event | Known:
    book.facts += 1
    return book.ask(
        c.ReportAsked(
            attempt=attempt, worker="w", src=("rt", book.facts), number=number, text=text,
            choices=choices,
        )
    )  # fmt: skip


def answered(book: Playbook, asker: str, answer: str = "this", number: int = 0) -> e.Event | Known:
    number = number or int("@" in asker)
    return book.ask(c.Answer(run="r", asker=asker, answer=answer, number=number))


def put(book: Playbook, attempt: str, name: str, version: int, **fields: Any) -> e.Event | Known:
    book.facts += 1
    src = ("rt", book.facts)
    given = {"sha256": f"{name}{version}", "size": 1, **fields}
    return book.ask(c.ReportData(attempt=attempt, src=src, name=name, version=version, **given))


def progressed(book: Playbook, attempt: str, **fields: Any) -> e.Event | Known:
    book.facts += 1
    src = ("rt", book.facts)
    return book.ask(c.ReportProgress(attempt=attempt, worker="w", src=src, **fields))


# Questions ------------------------------------------------------------------------------------


def test_an_answer_is_owed_until_the_attempt_ends() -> None:
    book = Playbook()
    run = book.run({"id": "a"})
    book.place()
    asked(book, "r/a@1")
    assert [one.key for one in waiting(run)] == ["r/a@1"] and not list(owed(run))
    answered(book, "r/a@1")
    assert not list(waiting(run)) and [one.answer for one in owed(run)] == ["this"]
    book.ended("r/a@1")
    assert not list(owed(run))


def test_a_question_is_answered_once() -> None:
    book = Playbook()
    book.run({"id": "a"})
    book.place()
    asked(book, "r/a@1")
    answered(book, "r/a@1")
    with pytest.raises(Refused, match="r/a@1 was answered: this"):
        answered(book, "r/a@1", "that")


def test_a_choice_is_one_of_those_that_were_offered() -> None:
    book = Playbook()
    book.run({"id": "a"})
    book.place()
    asked(book, "r/a@1", "Which?", 1, "eu", "us")
    with pytest.raises(FleetError, match='"asia" is none of the choices: eu, us') as wrong:
        answered(book, "r/a@1", "asia")
    assert wrong.value.hint == 'fleet answer r/a@1 "eu"'
    answered(book, "r/a", "us")


def test_of_several_questions_one_is_named_by_its_number() -> None:
    book = Playbook()
    run = book.run({"id": "a"})
    book.place()
    asked(book, "r/a@1", "Which?")
    asked(book, "r/a@1", "When?", 2)
    with pytest.raises(FleetError, match="waits for 2 answers") as several:
        answered(book, "r/a")
    assert several.value.hint == "Which one: r/a@1, r/a@1:2?"
    answered(book, "r/a@1", "now", 2)
    answered(book, "r/a", "this")
    assert [one.answer for one in run.questions.values()] == ["this", "now"]
    with pytest.raises(FleetError, match="r/a@1:3 has asked nothing"):
        answered(book, "r/a@1", "x", 3)


def test_the_next_attempt_has_the_answer_to_the_same_question() -> None:
    book = Playbook()
    run = book.run({"id": "a", **AGAIN})
    book.place()
    asked(book, "r/a@1")
    answered(book, "r/a@1")
    book.ended("r/a@1", FAIL)
    book.place()
    event = asked(book, "r/a@2")
    assert isinstance(event, e.QuestionAsked) and event.answer == "this"
    assert [one.key for one in owed(run)] == ["r/a@2"]
    event = asked(book, "r/a@2", "When?", 2)
    assert isinstance(event, e.QuestionAsked) and event.answer is None


def test_an_answer_after_the_attempt_is_kept_for_the_next_one() -> None:
    book = Playbook()
    run = book.run({"id": "a", **AGAIN}, {"id": "b"})
    book.place()
    asked(book, "r/a@1")
    book.ended("r/a@1", FAIL)
    assert not list(waiting(run))
    answered(book, "r/a")
    book.place()
    event = asked(book, "r/a@2")
    assert isinstance(event, e.QuestionAsked) and event.answer == "this"


def test_what_has_ended_needs_no_answer() -> None:
    book = Playbook()
    book.run({"id": "a"}, {"id": "b"})
    book.place()
    asked(book, "r/a@1")
    book.ended("r/a@1", PASS)
    with pytest.raises(Refused, match="r/a has ended, so nobody waits"):
        answered(book, "r/a@1")
    with pytest.raises(FleetError, match="r/b@1 has asked nothing"):
        answered(book, "r/b@1")
    book.ended("r/b@1", PASS)
    book.ask(c.FinishRun(run="r", seconds=1.0))
    with pytest.raises(Refused, match="r has finished; nothing of it waits"):
        answered(book, "r/a@1")


def test_a_fact_that_was_heard_before_changes_nothing() -> None:
    book = Playbook()
    run = book.run({"id": "a"})
    book.place()
    asked(book, "r/a@1")
    book.facts -= 1
    assert isinstance(asked(book, "r/a@1", "Another?", 2), Known)
    assert len(run.questions) == 1
    assert isinstance(asked(book, "elsewhere/a@1"), Known)


# Data -----------------------------------------------------------------------------------------


def test_versions_follow_each_other_and_stay() -> None:
    book = Playbook()
    run = book.run({"id": "a"})
    book.place()
    put(book, "r/a@1", "site", 1)
    put(book, "r/a@1", "site", 2, tags={"stage": "live"})
    assert [(one.version, one.tags) for one in shown(run)] == [(2, {"stage": "live"})]
    put(book, "r/a@1", "site", 2, deleted=True)
    assert shown(run) == []
    put(book, "r/a@1", "site", 3)
    assert [(one.version, one.deleted) for one in run.data["site"]] == [
        (1, True), (2, True), (3, False),
    ]  # fmt: skip


def test_a_number_is_never_given_twice() -> None:
    book = Playbook()
    run = book.run({"id": "a"})
    book.ask(c.PutData(run="r", name="site", sha256="x", size=1))
    book.place()
    event = put(book, "r/a@1", "site", 1)
    assert isinstance(event, e.DataPut) and event.version == 2
    assert len(run.data["site"]) == 2


def test_a_person_puts_while_nothing_is_in_flight() -> None:
    book = Playbook()
    book.run({"id": "a"})
    command = c.PutData(run="r", name="site", sha256="x", size=1)
    assert book.ask(command) == e.DataPut(name="site", version=1, sha256="x", size=1)
    assert book.ask(c.DeleteData(run="r", name="site")) == e.DataDeleted(name="site", version=1)
    with pytest.raises(FleetError, match='"site" of r was deleted'):
        book.ask(c.DeleteData(run="r", name="site"))
    with pytest.raises(FleetError, match='r has no data "other"'):
        book.ask(c.DeleteData(run="r", name="other"))
    book.place()
    with pytest.raises(Refused, match="goes through its worker runtime"):
        book.ask(command)
    event = put(book, "r", "site", 2)
    assert isinstance(event, e.DataPut) and event.attempt == ""
    book.ended("r/a@1")
    book.ask(c.FinishRun(run="r", seconds=1.0))
    with pytest.raises(Refused, match="r has finished; its data stays"):
        book.ask(command)


# Progress and checkpoints ---------------------------------------------------------------------


def test_progress_stands_in_the_flight_and_goes_with_it() -> None:
    book = Playbook()
    run = book.run({"id": "a"})
    book.place()
    progressed(book, "r/a@1", percent=40.0, note="linking")
    progressed(book, "r/a@1", note="testing")
    assert (run.flights["r/a@1"].percent, run.flights["r/a@1"].note) == (40.0, "testing")
    book.ended("r/a@1")
    assert not run.flights


def test_a_checkpoint_waits_for_the_next_attempt() -> None:
    book = Playbook()
    book.run({"id": "a", **AGAIN})
    book.place()
    kept = e.Evidence(sha256="ab", size=2)
    progressed(book, "r/a@1", checkpoint=kept)
    progressed(book, "r/a@1", note="on")
    book.ended("r/a@1", FAIL)
    more = book.task("a").more
    assert more is not None and more.checkpoint == kept
