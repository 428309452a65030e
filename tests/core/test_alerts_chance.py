"""Whatever happens to a run, what people are told of it is what its records say.

The model here walks over the records alone and knows nothing of topics, windows or indexes.
"""

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.duties import SendAlert, duties
from codewhale_fleet.core.outbox import outbox
from codewhale_fleet.core.state import Run, State
from codewhale_fleet.core.topics import is_over
from codewhale_fleet.errors import Refused

from .playbook import FAIL, PAGER, PASS
from .test_alerts import WAITS, Book

VERIFIER = e.Receipt(result="fail", source="verifier", reason="its verifier broke")
RETRY = {"max_attempts": 2, "initial_backoff_seconds": 1, "jitter": 0}
CLASS_OF = {
    "restart_exhausted": "end", "verifier_failed": "end", "budget_exceeded": "end",
    "needs_human": "needs", "stale": "stale",
}  # fmt: skip


def so(log: list[tuple[str, e.Event]]) -> set[tuple[str, str]]:
    """What is the matter by the records: a kind, and whom it is about."""
    found: set[tuple[str, str]] = set()
    for _, event in log:
        match event:
            case e.AttemptEnded() | e.AttemptLost():
                if getattr(event, "late", False):
                    continue
                task = event.attempt.rpartition("@")[0]
                found = {one for one in found if one[1] != event.attempt}
                result = event.receipt.result
                if event.retry_after is None:
                    found -= {("needs", task), *([] if result in BAD else [("end", task)])}
                    if result in BAD:
                        found.add(("end", task))
                    if result == "partial":
                        found.add(("needs", task))
            case e.ReceiptRecorded():
                task = event.attempt.rpartition("@")[0]
                found -= {("needs", task), ("end", task)}
            case e.WorkerStale():
                found.add(("stale", event.attempt))
            case e.WorkerRecovered():
                found.discard(("stale", event.attempt))
            case e.QuestionAsked() if event.answer is None:
                found.add(("needs", event.attempt))
            case e.QuestionAnswered():
                found.discard(("needs", event.attempt))
            case e.TaskCancelled():
                found -= {("end", f"r/{task}") for task in event.tasks}
    return found


BAD = ("fail", "timeout")


def known(run: Run) -> set[tuple[str, str]]:
    """The same by the topics of the run."""
    assert run.alerts is not None
    return {
        (CLASS_OF[topic.cls], subject)
        for topic in run.alerts.topics.values()
        for subject in topic.open
    }


def indexed(state: State) -> bool:
    """Whether the runs that owe something are those that a look at all of them finds."""
    looked = {
        run.id
        for run in state.runs.values()
        if run.alerts is not None
        and (
            run.alerts.later
            or any(one.owed or one.held or is_over(one) for one in run.alerts.topics.values())
        )
    }
    return set(state.owing) == looked


def step(book: Book, run: Run, dice: random.Random) -> None:
    """Something that may happen."""
    flying = list(run.flights)
    match dice.randrange(12):
        case 0 | 1 | 2:
            book.place()
        case 3 | 4 | 5 if flying:
            receipt = dice.choice((PASS, FAIL, FAIL, WAITS, VERIFIER))
            book.ended(dice.choice(flying), receipt)
        case 6 if flying:
            name = dice.choice(flying)
            book.quiet(name, moves=bool(run.flights[name].stale))
        case 7 if flying:
            book.facts += 1
            name = dice.choice(flying)
            if name not in run.questions:
                src = ("rt", book.facts)
                book.ask(c.ReportAsked(attempt=name, worker="w", src=src, number=1, text=f"{src}?"))
        case 8 if run.questions:
            book.ask(
                c.Answer(run="r", asker=dice.choice(list(run.questions)), answer="y", number=1)
            )
        case 9:
            task = dice.choice(list(run.tasks))
            waits = run.tasks[task].status == "partial"
            if waits and dice.random() < 0.5:
                attempt = f"r/{task}@{run.tasks[task].attempt}"
                book.ask(c.Judge(run="r", attempt=attempt, receipt=dice.choice((PASS, FAIL))))
            else:
                book.ask(c.Restart(run="r", tasks=(task,), reason="again"))
        case 10:
            book.ask(c.Interrupt(run="r", tasks=(dice.choice(list(run.tasks)),), reason="no"))
        case _:
            book.later(dice.choice((1, 30, 100)))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_what_is_open_is_what_the_records_say_and_all_of_it_is_told(seed: int) -> None:
    dice = random.Random(seed)
    book = Book()
    tasks: list[dict[str, Any]] = [
        {"id": f"t{number}", **({"retry_policy": RETRY} if number % 2 else {})}
        for number in range(4)
    ]
    run = book.run(*tasks, workers=3, alerts=PAGER)
    for _ in range(60):
        try:
            step(book, run, dice)
            if not run.open and run.status == "running":
                book.ask(c.FinishRun(run="r", seconds=1.0))
        except Refused:
            pass
        assert known(run) == so(book.log)
        assert indexed(book.state)
        for letter in book.letters()[: dice.randrange(2)]:
            book.report(letter, dice.choice(("sent", "sent", "retry", "failed", "stuck")))
        assert indexed(book.state)
    for _ in range(20):
        book.later(4000).post()
    assert outbox(book.state) == [] and not book.state.owing
    assert not [duty for duty in duties(book.state) if isinstance(duty, SendAlert)]
    sent = [event for _, event in book.log if isinstance(event, e.AlertSent)]
    told = [event.key for event in sent if event.action == "trigger"]
    assert len(told) == len(set(told)), "no message was recorded as sent twice"
    assert run.alerts is not None
    failed = {event.cls for _, event in book.log if isinstance(event, e.AlertFailed)}
    for topic in run.alerts.topics.values():
        if topic.cls not in failed and topic.cls != "run_completed":
            assert bool(topic.incident) == bool(topic.open), topic
