"""What can be owed to the world, given only what is recorded.

Each duty is idempotent and names the event that discharges it. The engine performs duties; after a
crash the next manager finds the same ones, because they follow from the state and from nothing
else. A property test holds the indexed answer equal to a full recomputation.
"""

from collections.abc import Iterator

from msgspec import Struct

from . import asks, commands
from .liveness import seconds_of
from .state import Run, State, Task, attempt_id


class Duty(Struct, frozen=True):
    """Base of all duties."""


class StartAttempt(Duty, frozen=True):
    """Tell the host to start it. Discharged by attempt.started, attempt.ended or attempt.lost."""

    run: str
    task: str
    attempt: str


class InterruptAttempt(Duty, frozen=True):
    """Tell the host to end it. Discharged by attempt.ended or attempt.lost."""

    run: str
    attempt: str
    why: str


class TellAnswer(Duty, frozen=True):
    """Tell the host what a person answered. Discharged by the attempt's end."""

    run: str
    question: str


class SendAlert(Duty, frozen=True):
    """Send a message. Discharged by alert.sent, alert.failed or alert.suppressed."""

    run: str
    cls: str
    adapter: str
    key: str


class FinishRun(Duty, frozen=True):
    """Close the run. Discharged by run.finished."""

    run: str


def duties(state: State) -> Iterator[Duty]:
    """Everything owed now, from the indexes; cost grows with what is in flight only."""
    for run in state.open_runs.values():
        for attempt, flight in run.flights.items():
            if not flight.started:
                yield StartAttempt(run.id, flight.task, attempt)
            if flight.end:
                yield InterruptAttempt(run.id, attempt, flight.end)
        for question in asks.owed(run):
            yield TellAnswer(run.id, question.key)
        if is_over(run):
            yield FinishRun(run.id)
    if state.owing:
        from .topics import message_key, owing

        for run, topic in owing(state):
            yield SendAlert(run.id, topic.cls, topic.adapter, message_key(topic))


def is_over(run: Run) -> bool:
    """Whether every task of a started run has ended; a pause has nothing left to hold back then."""
    return run.status in ("running", "stopping", "paused") and run.open == 0


def needs_manager(run: Run) -> bool:
    """Whether an open run goes on by itself: a paused one with nothing in flight does not.

    Nor does one whose values are gone: what was dispatched and has not started cannot start.
    """
    if run.status != "paused" or not run.flights:
        return bool(run.flights) or run.status in ("running", "stopping")
    from .greeting import values_gone

    has_started = any(flight.started for flight in run.flights.values())
    return has_started or run.reason != values_gone(run.id)


def owes(state: State) -> bool:
    """Whether a manager could do something, now or later, about messages that people are owed."""
    if not state.owing:
        return False
    from .outbox import wants_manager

    return wants_manager(state)


def closing(run: Run, now: float) -> commands.FinishRun | None:
    """The command that closes a run all of whose tasks have ended; None while one has not."""
    if not is_over(run):
        return None
    wall = max(0.0, now - seconds_of(run.started_ts))
    return commands.FinishRun(run=run.id, seconds=round(wall, 3))


def recomputed(state: State) -> Iterator[Duty]:
    """The same answer from the tasks alone, for the property test: no index is trusted."""
    for run in state.runs.values():
        if run.alerts is not None:
            from .topics import message_key

            for topic in run.alerts.topics.values():
                if key := message_key(topic):
                    yield SendAlert(run.id, topic.cls, topic.adapter, key)
        if run.status in ("draft", "finished"):
            continue
        waiting = 0
        for task in run.tasks.values():
            waiting += task.status in ("queued", "leased", "running")
            if task.status not in ("leased", "running"):
                continue
            attempt = attempt_id(run.id, task.id, task.attempt)
            if task.status == "leased":
                yield StartAttempt(run.id, task.id, attempt)
            if end := _wanted_end(run, task, attempt):
                yield InterruptAttempt(run.id, attempt, end)
            for key, question in run.questions.items():
                if question.answer is not None and question.attempt == attempt:
                    yield TellAnswer(run.id, key)
        if waiting == 0:
            yield FinishRun(run.id)


def _wanted_end(run: Run, task: Task, attempt: str) -> str:
    flight = run.flights.get(attempt)
    return flight.end if flight else ""
