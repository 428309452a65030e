"""Verdicts of people: of what waits for one, once, and never of what a scorer decided."""

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.duties import closing
from codewhale_fleet.errors import Refused

from .playbook import FAIL, PASS, Playbook

WAITS = e.Receipt(result="partial", source="human", scorer="manual", reason="waits for a person")


def verdict(result: str = "pass") -> e.Receipt:
    source = "" if result == "pass" else "human"
    return e.Receipt(result=result, source=source, scorer="manual", reason="looked at it")


def judged(book: Playbook, attempt: str, result: str = "pass") -> object:
    return book.ask(c.Judge(run="r", attempt=attempt, receipt=verdict(result)))


def waiting() -> Playbook:
    book = Playbook()
    book.run({"id": "a", "scorer": {"kind": "manual"}}, {"id": "b"})
    book.place()
    book.ended("r/a@1", WAITS, exit=0)
    return book


def test_a_person_decides_what_waits_for_one() -> None:
    book = waiting()
    assert isinstance(judged(book, "r/a@1"), e.ReceiptRecorded)
    assert (book.task("a").status, book.task("a").result) == ("completed", "pass")
    assert book.state.runs["r"].counts["partial"] == 0


def test_a_verdict_after_the_runs_end_changes_how_it_came_out() -> None:
    book = waiting()
    book.ended("r/b@1")
    finish = closing(book.state.runs["r"], book.now)
    assert finish
    book.ask(finish)
    assert book.state.runs["r"].result == "partial"
    judged(book, "r/a@1", "fail")
    assert book.state.open_runs
    again = closing(book.state.runs["r"], book.now)
    assert again
    book.ask(again)
    run = book.state.runs["r"]
    assert (run.result, run.sources, dict(book.state.open_runs)) == ("failed", {"human": 1}, {})


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        ("r/a@2", "is no attempt"),
        ("r/nobody@1", "is no attempt"),
        ("r/b@1", "has not been judged by its scorer"),
    ],
)
def test_nothing_else_can_be_judged(attempt: str, words: str) -> None:
    book = waiting()
    with pytest.raises(Refused, match=words):
        judged(book, attempt)


def test_a_second_verdict_is_refused_and_so_is_one_on_what_a_scorer_decided() -> None:
    book = waiting()
    judged(book, "r/a@1")
    with pytest.raises(Refused, match="r/a@1 is decided: pass"):
        judged(book, "r/a@1", "fail")
    book.ended("r/b@1", PASS)
    with pytest.raises(Refused, match="r/b@1 is decided: pass"):
        judged(book, "r/b@1", "fail")


def test_an_earlier_attempt_decides_nothing_any_more() -> None:
    book = waiting()
    book.ask(c.Restart(run="r", tasks=("a",), reason="again"))
    book.place()
    book.ended("r/a@2", WAITS, exit=0)
    with pytest.raises(Refused, match="latest attempt is @2"):
        judged(book, "r/a@1")


def test_feedback_is_kept_for_the_next_attempt_and_goes_with_a_pass() -> None:
    book = Playbook()
    book.run({"id": "a", "retry_policy": {"max_attempts": 3, "initial_backoff_seconds": 0}})
    book.place()
    book.ended("r/a@1", e.Receipt(result="fail", source="task", feedback="say more"), exit=0)
    more = book.task("a").more
    assert more and more.feedback == "say more"
    book.place()
    book.ended("r/a@2", FAIL)
    assert more.feedback == ""
