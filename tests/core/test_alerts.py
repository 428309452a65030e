"""Who is owed a message about what, when it goes out, and as how many."""

from itertools import pairwise
from typing import Any

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.duties import SendAlert, duties
from codewhale_fleet.core.outbox import (
    Letter,
    due,
    outbox,
    sendable,
    silence,
    wake_at,
    wants_manager,
)
from codewhale_fleet.core.topics import FIRST_WINDOW_SECONDS, LIMIT

from .playbook import CONFIG, FAIL, PAGER, PASS, Playbook

WAITS = e.Receipt(result="partial", source="human", scorer="manual", reason="waits for a person")


class Book(Playbook):
    """A playbook with a post office."""

    def letters(self) -> list[Letter]:
        """Record what is due by now; what may be sent."""
        for command in due(self.state, self.now):
            self.ask(command)
        return list(sendable(self.state, self.now))

    def post(self, *, state: str = "sent", **more: Any) -> list[tuple[str, str, int]]:
        """Send everything that may be sent: class, action and count of each message."""
        sent = []
        while letters := self.letters():
            letter = letters[0]
            sent.append((letter.cls, letter.action, letter.batch.count if letter.batch else 1))
            self.report(letter, state, **more)
            if state != "sent":
                break
        return sent

    def report(self, letter: Letter, state: str, **more: Any) -> e.Event | Any:
        return self.ask(
            c.ReportAlert(
                run=letter.run,
                cls=letter.cls,
                adapter=letter.adapter,
                key=letter.key,
                state=state,
                **more,
            )
        )

    def fails(self, *attempts: str) -> None:
        for attempt in attempts:
            self.ended(attempt, FAIL)

    def quiet(self, attempt: str, seconds: float = 300.0, *, moves: bool = False) -> None:
        self.facts += 1
        worker = self.state.runs["r"].flights[attempt].worker
        fact = c.ReportQuiet(
            attempt=attempt, worker=worker, quiet=seconds, src=("rt", self.facts), moves=moves
        )
        self.ask(fact)

    def finish(self) -> e.Event | Any:
        return self.ask(c.FinishRun(run="r", seconds=1.0))


def tasks(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": f"t{number}", **more} for number in range(count)]


def of(book: Playbook) -> list[tuple[str, str]]:
    """Class and key of everything that is owed."""
    return [(duty.cls, duty.key) for duty in duties(book.state) if isinstance(duty, SendAlert)]


# What owes a message --------------------------------------------------------------------------


def test_a_run_without_alerts_owes_nobody_anything() -> None:
    book = Book()
    book.run(*tasks(1))
    book.place()
    book.fails("r/t0@1")
    book.finish()
    assert book.state.runs["r"].alerts is None
    assert not book.state.alerts and not book.state.owing and of(book) == []


def test_a_task_that_gets_no_further_attempt_is_told_and_one_that_does_is_not() -> None:
    book = Book()
    book.run(*tasks(1, retry_policy={"max_attempts": 2, "jitter": 0}), alerts=CONFIG)
    book.place()
    book.fails("r/t0@1")
    assert of(book) == []
    book.later(9).place()
    book.fails("r/t0@2")
    [letter] = book.letters()
    assert (letter.cls, letter.action, letter.key) == (
        "restart_exhausted", "trigger", f"r/restart_exhausted#{book.state.seq}",
    )  # fmt: skip
    assert letter.batch and letter.batch.first.reason == "exit 1"
    assert (letter.batch.first.subject, letter.batch.first.number) == ("r/t0", 2)


def test_what_was_sent_is_owed_no_more() -> None:
    book = Book()
    book.run(*tasks(1), alerts=CONFIG)
    book.place()
    book.fails("r/t0@1")
    sent = book.report(book.letters()[0], "sent", digest="d")
    assert isinstance(sent, e.AlertSent) and sent.digest == "d" and sent.count == 1
    assert of(book) == [] and not book.state.owing
    again = book.report(Letter(run="r", cls=sent.cls, adapter="slack", key=sent.key, incident="",
                               action="trigger", batch=None), "sent")  # fmt: skip
    assert not isinstance(again, e.Event)


@pytest.mark.parametrize(
    ("receipt", "fields", "cls"),
    [
        (e.Receipt(result="fail", source="budget"), {"why": "budget", "cap": "max_tokens"},
         "budget_exceeded"),
        (e.Receipt(result="fail", source="verifier"), {}, "verifier_failed"),
        (e.Receipt(result="fail", source="task"),
         {"steps": [e.Step(kind="command", exit=1)], "exit": 0}, "verifier_failed"),
        (e.Receipt(result="timeout", source="task"), {}, "restart_exhausted"),
        (e.Receipt(result="fail", source="policy"), {}, "restart_exhausted"),
        (WAITS, {}, "needs_human"),
    ],
)  # fmt: skip
def test_an_end_is_told_as_its_most_particular_class(
    receipt: e.Receipt, fields: dict[str, Any], cls: str
) -> None:
    book = Book()
    book.run(*tasks(1), alerts=CONFIG)
    book.place()
    book.ended("r/t0@1", receipt, **fields)
    assert [name for name, _ in of(book)] == [cls]


def test_who_hears_of_exhausted_restarts_only_is_told_of_a_used_up_budget_as_that() -> None:
    book = Book()
    routes = [{"events": ["restart_exhausted"], "adapter": "slack"}]
    book.run(*tasks(1), alerts={**CONFIG, "routes": routes})
    book.place()
    book.ended("r/t0@1", e.Receipt(result="fail", source="budget"), why="budget")
    assert [name for name, _ in of(book)] == ["restart_exhausted"]


@pytest.mark.parametrize("result", ["pass", "skip"])
def test_passes_and_what_people_ended_are_no_news(result: str) -> None:
    book = Book()
    book.run(*tasks(2), alerts=CONFIG)
    book.place()
    book.ended("r/t0@1", e.Receipt(result=result, source="" if result == "pass" else "human"))
    assert of(book) == []


def test_a_question_is_told_and_an_answer_takes_it_back() -> None:
    book = Book()
    book.run(*tasks(1), alerts=PAGER)
    book.place()
    asked = c.ReportAsked(attempt="r/t0@1", worker="r-local-1", src=("rt", 1), number=1, text="go?")
    book.facts = 1
    book.ask(asked)
    [letter] = book.letters()
    assert letter.cls == "needs_human" and letter.batch and letter.batch.first.reason == "go?"
    book.report(letter, "sent")
    book.ask(c.Answer(run="r", asker="r/t0@1", answer="yes", number=1))
    [end] = book.letters()
    assert (end.action, end.key) == ("resolve", letter.key)
    book.report(end, "sent")
    assert of(book) == [] and not book.state.owing


def test_the_end_of_an_attempt_takes_its_question_and_its_silence_back() -> None:
    book = Book()
    book.run(*tasks(1), alerts=PAGER)
    book.place()
    book.quiet("r/t0@1")
    book.facts += 1
    asked = c.ReportAsked(
        attempt="r/t0@1", worker="w", src=("rt", book.facts), number=1, text="go?"
    )
    book.ask(asked)
    assert book.post() == [("stale", "trigger", 1), ("needs_human", "trigger", 1)]
    book.ended("r/t0@1", PASS)
    assert sorted(book.post()) == [("needs_human", "resolve", 1), ("stale", "resolve", 1)]


def test_a_verdict_ends_what_waited_for_it() -> None:
    book = Book()
    book.run(*tasks(1), alerts=PAGER)
    book.place()
    book.ended("r/t0@1", WAITS)
    book.finish()
    assert book.post() == [("needs_human", "trigger", 1), ("run_completed", "trigger", 1)]
    book.ask(c.Judge(run="r", attempt="r/t0@1", receipt=PASS))
    book.finish()
    assert book.post() == [("needs_human", "resolve", 1), ("run_completed", "trigger", 1)]
    assert not book.state.owing


def test_a_failed_task_that_passes_after_a_restart_ends_its_incident() -> None:
    book = Book()
    book.run(*tasks(2), alerts=PAGER)
    book.place()
    book.fails("r/t0@1", "r/t1@1")
    book.finish()
    sent = book.post()
    assert sent[0] == ("restart_exhausted", "trigger", 1)
    assert ("restart_exhausted", "trigger", 1) in sent[1:]
    book.ask(c.Restart(run="r", tasks=("t0",), reason="again"))
    book.place()
    book.ended("r/t0@2", PASS)
    assert ("restart_exhausted", "resolve", 1) not in book.post()
    book.ask(c.Restart(run="r", tasks=("t1",), reason="again"))
    book.place()
    book.ended("r/t1@2", PASS)
    assert book.post() == [("restart_exhausted", "resolve", 1)]


def test_slack_is_told_of_no_end() -> None:
    book = Book()
    book.run(*tasks(1), alerts=CONFIG)
    book.place()
    book.quiet("r/t0@1")
    assert book.post() == [("stale", "trigger", 1)]
    book.quiet("r/t0@1", moves=True)
    assert book.post() == [] and not book.state.owing


def test_the_end_of_a_run_is_told_with_its_counts_and_a_verdict_afterwards_is_no_news() -> None:
    book = Book()
    book.run(*tasks(3), workers=3, alerts=CONFIG)
    book.place()
    book.ended("r/t0@1", PASS)
    book.ended("r/t1@1", WAITS)
    book.ended("r/t2@1", WAITS)
    book.finish()
    completed = [one for one in book.letters() if one.cls == "run_completed"]
    assert completed[0].batch
    assert completed[0].batch.first.reason == "partial: 1 of 3 passed, 2 partial"
    book.post()
    book.ask(c.Judge(run="r", attempt="r/t1@1", receipt=PASS))
    book.finish()
    assert outbox(book.state) == []
    book.ask(c.Judge(run="r", attempt="r/t2@1", receipt=PASS))
    book.finish()
    assert [row.reason for row in outbox(book.state)] == ["completed: 3 of 3 passed"]


def test_a_run_that_its_budget_stopped_is_told_of() -> None:
    book = Book()
    book.run(*tasks(2), workers=1, budget={"max_seconds": 5}, alerts=CONFIG)
    book.place()
    book.ended("r/t0@1", PASS, seconds=9.0)
    book.place()
    [row] = outbox(book.state)
    assert (row.cls, row.subject) == ("budget_exceeded", "r")
    assert row.reason.startswith("the run's budget.max_seconds = 5 is used up")


def test_reasons_are_one_short_line() -> None:
    book = Book()
    book.run(*tasks(1), alerts=CONFIG)
    book.place()
    book.ended("r/t0@1", e.Receipt(result="fail", source="task", reason="é\n " * 300))
    [row] = outbox(book.state)
    assert len(row.reason.encode()) <= 240 and row.reason.endswith("...") and "\n" not in row.reason


# What a task says of its own ------------------------------------------------------------------


def test_a_task_may_narrow_the_classes_and_add_a_channel() -> None:
    policy = {
        "events": ["needs_human"],
        "channels": [{"kind": "webhook", "url_ref": "OPS"}],
    }
    book = Book()
    book.run(*tasks(2, alert_policy=policy), alerts=CONFIG)
    book.place()
    book.fails("r/t0@1")
    assert of(book) == []
    book.ended("r/t1@1", WAITS)
    assert sorted((row.cls, row.adapter) for row in outbox(book.state)) == [
        ("needs_human", "slack"), ("needs_human", "webhook:OPS"),
    ]  # fmt: skip
    channels = {one.adapter: one.channel for one in book.letters()}
    assert channels["webhook:OPS"] == '{"kind":"webhook","url_ref":"OPS"}'


def test_nothing_is_told_before_so_many_attempts() -> None:
    book = Book()
    book.run(*tasks(1, alert_policy={"after_attempts": 2}), alerts=CONFIG)
    book.place()
    book.fails("r/t0@1")
    assert of(book) == []
    book.ask(c.Restart(run="r", tasks=("t0",), reason="again"))
    book.place()
    book.fails("r/t0@2")
    assert [cls for cls, _ in of(book)] == ["restart_exhausted"]


def test_silence_is_told_after_so_many_minutes_of_it() -> None:
    book = Book()
    book.run(*tasks(1, alert_policy={"after_minutes_stale": 10}), alerts=CONFIG)
    book.place()
    book.quiet("r/t0@1", 120.0)
    assert outbox(book.state) == [] and book.letters() == []
    assert wake_at(book.state, book.now) == book.now + 480
    assert book.later(479).letters() == []
    book.later(1)
    [letter] = book.letters()
    assert letter.batch and letter.batch.first.reason.endswith("for 600 s")


def test_silence_that_ends_in_time_is_never_told() -> None:
    book = Book()
    book.run(*tasks(1, alert_policy={"after_minutes_stale": 10}), alerts=CONFIG)
    book.place()
    book.quiet("r/t0@1", 120.0)
    book.quiet("r/t0@1", 130.0, moves=True)
    assert book.later(900).letters() == [] and not book.state.owing


def test_an_attempt_that_nobody_hears_of_is_stale_until_somebody_does() -> None:
    book = Book()
    book.run(*tasks(2), alerts=PAGER)
    attempts = book.place()
    book.ask(c.ReportBeat(workers=("r-local-1",)))
    book.later(299)
    assert list(silence(book.state, book.now)) == []
    book.ask(c.ReportBeat(workers=("r-local-2",)))
    for command in list(silence(book.later(1).state, book.now)):
        book.ask(command)
    [letter] = book.letters()
    assert letter.batch and letter.batch.first.subject == attempts[0]
    assert letter.batch.first.reason == "no sign of life for 300 s"
    book.report(letter, "sent")
    assert list(silence(book.later(60).state, book.now)) == []
    book.ask(c.ReportBeat(workers=("r-local-1",)))
    for command in list(silence(book.state, book.now)):
        book.ask(command)
    assert book.post() == [("stale", "resolve", 1)]


# How many messages ----------------------------------------------------------------------------


@pytest.mark.slow
def test_five_hundred_failures_wake_one_person_once() -> None:
    book = Book()
    book.run(*tasks(500), workers=500, alerts=PAGER)
    for attempt in book.place():
        book.fails(attempt)
        book.later(0.02)
        if attempt == "r/t0@1":
            first = book.letters()
            assert [one.action for one in first] == ["trigger"]
            book.report(first[0], "sent")
    assert book.letters() == []
    assert book.later(60).post() == [("restart_exhausted", "trigger", 499)]
    suppressed = [event for _, event in book.log if isinstance(event, e.AlertSuppressed)]
    assert [(one.why, one.count, one.names[:2]) for one in suppressed] == [
        ("grouped", 499, ["r/t1", "r/t2"])
    ]
    keys = [event.key for _, event in book.log if isinstance(event, e.AlertSent)]
    assert len(set(keys)) == 2, "receivers tell the two messages apart"
    topic = book.state.runs["r"].alerts.topics["restart_exhausted pager"]  # type: ignore[union-attr]
    assert topic.incident == keys[0], "and to the pager they are one incident"


def test_the_end_of_the_run_ends_the_window() -> None:
    book = Book()
    book.run(*tasks(3), workers=3, alerts=CONFIG)
    book.place()
    book.fails("r/t0@1", "r/t1@1", "r/t2@1")
    book.finish()
    assert book.post() == [
        ("restart_exhausted", "trigger", 1),
        ("restart_exhausted", "trigger", 2),
        ("run_completed", "trigger", 1),
    ]


@pytest.mark.slow
def test_windows_grow_while_failures_keep_coming_and_are_short_again_after_quiet() -> None:
    book = Book()
    book.run(*tasks(400), workers=400, alerts=CONFIG)
    times = []
    for attempt in book.place()[:360]:
        book.fails(attempt)
        times += [book.now for _ in book.post()]
        book.later(10)
    gaps = [int(after - before) for before, after in pairwise(times)]
    assert gaps == [60, 120, 240, 480, 960], gaps
    book.later(7200).post()
    book.later(7200)
    book.fails("r/t399@1")
    assert len(book.letters()) == 1, "the first one after a quiet time goes out at once"
    assert wake_at(book.state, book.now) is None


def test_what_is_over_before_it_was_told_is_never_told() -> None:
    book = Book()
    book.run(*tasks(3), workers=3, alerts=CONFIG)
    book.place()
    for task in range(3):
        book.quiet(f"r/t{task}@1")
    assert book.post() == [("stale", "trigger", 1)]
    book.quiet("r/t1@1", moves=True)
    assert [row.subject for row in outbox(book.state)] == ["r/t2@1"]
    book.quiet("r/t2@1", moves=True)
    assert book.later(FIRST_WINDOW_SECONDS).letters() == []
    assert not book.state.owing


def test_what_a_message_stands_for_is_recorded_before_it_is_sent() -> None:
    book = Book()
    book.run(*tasks(4), workers=4, alerts=CONFIG)
    book.place()
    book.fails("r/t0@1")
    before = book.letters()
    book.fails("r/t1@1", "r/t2@1")
    assert book.letters() == before, "sent again after a crash, it is the same message"
    book.report(before[0], "sent")
    [second] = book.later(60).letters()
    book.fails("r/t3@1")
    assert book.later(600).letters() == [second]


def test_an_adapter_that_has_had_enough_gets_the_rest_as_one() -> None:
    book = Book()
    for number in range(40):
        name = f"run{number}"
        book.run(*tasks(1), alerts=CONFIG, name=name)
        book.place(name)
        book.fails(f"{name}/t0@1")
    assert len(book.post()) == LIMIT
    rest = [event for _, event in book.log if isinstance(event, e.AlertSuppressed)]
    assert [one.why for one in rest] == ["carried"] + ["limited"] * 31
    assert book.later(59).letters() == []
    assert book.later(1).post() == [("restart_exhausted", "trigger", 32)]
    assert not book.state.owing


@pytest.mark.slow
def test_a_thousand_events_in_ten_seconds_give_at_most_ten_messages() -> None:
    book = Book()
    sent = 0
    for number in range(10):
        name = f"run{number}"
        book.run(*tasks(100), workers=100, alerts=PAGER, name=name)
        for attempt in book.place(name):
            receipt = (FAIL, WAITS, e.Receipt(result="fail", source="verifier"))[book.facts % 3]
            book.ended(attempt, receipt)
            sent += len(book.post())
            book.later(0.01)
    assert book.facts == 1000 and sent <= 10


# Trouble --------------------------------------------------------------------------------------


def test_a_receiver_that_is_down_is_tried_less_and_less_often_and_given_up_after_a_day() -> None:
    book = Book()
    book.run(*tasks(1), alerts=CONFIG)
    book.place()
    book.fails("r/t0@1")
    waits = []
    while letters := book.letters():
        event = book.report(letters[0], "retry", words="HTTP 500", jitter=0.0)
        if isinstance(event, e.AlertDelayed):
            waits.append(event.seconds)
            assert book.later(event.seconds - 0.1).letters() == []
            assert wake_at(book.state, book.now) is not None
            book.later(0.1)
    assert waits[:10] == [2, 4, 8, 16, 32, 64, 128, 256, 512, 600]
    assert 80_000 < sum(waits) < 90_000
    failed = book.log[-1][1]
    assert isinstance(failed, e.AlertFailed) and failed.why == "given up after 24 h: HTTP 500"
    assert not book.state.owing


def test_retry_after_is_kept_to_and_jitter_only_lengthens() -> None:
    book = Book()
    book.run(*tasks(1), alerts=CONFIG)
    book.place()
    book.fails("r/t0@1")
    event = book.report(book.letters()[0], "retry", after=90.0, jitter=0.5)
    assert isinstance(event, e.AlertDelayed) and event.seconds == 99.0
    event = book.later(99).report(book.letters()[0], "retry", after=1e9, jitter=0.0)
    assert isinstance(event, e.AlertDelayed) and event.seconds == 3600.0


def test_what_a_receiver_refuses_is_given_up_at_once() -> None:
    book = Book()
    book.run(*tasks(1), alerts=PAGER)
    book.place()
    book.fails("r/t0@1")
    book.report(book.letters()[0], "failed", words="HTTP 404")
    assert book.letters() == []
    book.ask(c.Restart(run="r", tasks=("t0",), reason="again"))
    book.place()
    book.ended("r/t0@2", PASS)
    assert book.letters() == [], "nothing is open there that could be closed"


def test_without_its_values_a_message_waits_and_wants_no_manager() -> None:
    book = Book()
    book.run(*tasks(1), alerts=CONFIG)
    book.place()
    book.fails("r/t0@1")
    assert wants_manager(book.state)
    book.report(book.letters()[0], "stuck", words="HOOK is gone")
    assert not wants_manager(book.state)
    [row] = outbox(book.state)
    assert (row.state, row.words, row.tries) == ("stuck", "HOOK is gone", 0)
    [letter] = book.letters()
    assert book.report(letter, "sent") is not None and outbox(book.state) == []


def test_what_waits_for_values_is_given_up_after_a_week() -> None:
    book = Book()
    book.run(*tasks(1), alerts=CONFIG)
    book.place()
    book.fails("r/t0@1")
    book.report(book.letters()[0], "stuck", words="HOOK is gone")
    assert len(book.later(7 * 86_400).letters()) == 1
    assert book.later(1).letters() == [] and not book.state.owing
    failed = book.log[-1][1]
    assert isinstance(failed, e.AlertFailed) and failed.why == "given up after a week: HOOK is gone"


def test_a_clock_that_was_set_back_does_not_lengthen_waits() -> None:
    book = Book()
    book.run(*tasks(2), alerts=CONFIG)
    book.place()
    book.fails("r/t0@1")
    book.post()
    book.fails("r/t1@1")
    book.later(-100_000)
    elected = e.ManagerElected(epoch=1, pid=1, host="h", boot="b", version="0", device=1, inode=1)
    book.ask(c.Elect(elected=elected))
    assert wake_at(book.state, book.now) == pytest.approx(book.now + 60)
