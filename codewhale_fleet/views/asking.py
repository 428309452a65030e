"""What tasks say of themselves, in plain words: questions, progress, checkpoints, data.

Pure: records and rows of the state come in, sentences go out.
"""

from typing import Any

from ..core import asks
from ..core import events as e
from ..core.state import Flight, Question, Run
from .units import many, one_line

LISTED = 20
"""Attempts of a run whose progress an answer names."""


def answer_command(question: Question) -> str:
    """What ends the wait; a choice stands in it where there are some."""
    said = question.choices[0] if question.choices else "…"
    return f'fleet answer {question.key} "{said}"'


def wanted(question: Question) -> str:
    """The question, with what may be answered."""
    choices = f" ({', '.join(question.choices)})" if question.choices else ""
    return f"{one_line(question.text)}{choices}"


def waits(run: Run, attempt: str) -> Question | None:
    """The first question that an attempt waits with."""
    return next((one for one in asks.waiting(run) if one.attempt == attempt), None)


def asking(run: Run, task: str = "") -> list[dict[str, Any]]:
    """The questions of a run, or of one task, that wait for a person."""
    return [
        {
            "id": one.key,
            "question": one.text,
            "choices": one.choices,
            "asked_at": one.ts,
            "seq": one.seq,
            "next": answer_command(one),
        }
        for one in asks.waiting(run)
        if task in ("", one.task)
    ]


def told(percent: float | None, note: str) -> str:
    """`[ 40 %] linking`, or what there is of it."""
    share = f"[{percent:3.0f} %]" if percent is not None else ""
    return " ".join(part for part in (share, note) if part)


def of_flight(flight: Flight | None) -> str:
    """The last line that an attempt has told; empty where it has told none."""
    return told(flight.percent, flight.note) if flight else ""


def going(run: Run) -> list[dict[str, Any]]:
    """What the attempts of a run that have said something say they do."""
    return [
        {"attempt": attempt, "percent": flight.percent, "note": flight.note}
        for attempt, flight in run.flights.items()
        if of_flight(flight)
    ][:LISTED]


def progressed(event: e.AttemptProgressed) -> str:
    """What a task itself told, as the end of a sentence; empty where its agent did."""
    if event.checkpoint is not None:
        return f"left a checkpoint of {many(event.checkpoint.size, 'byte')}"
    return one_line(told(event.percent, event.note))


def say(head: e.Envelope, event: e.Event) -> str:
    """A sentence about one record of task_words.py; empty for another one."""
    match event:
        case e.QuestionAsked():
            known = f"; it was answered before: {event.answer}" if event.answer is not None else ""
            return f"{event.attempt} asks: {one_line(event.text)}{known}"
        case e.QuestionAnswered():
            return f"{head.by or 'somebody'} answered {event.attempt}: {one_line(event.answer)}"
        case e.DataPut():
            size = many(event.size, "byte")
            return f"{_who(head, event)} put {event.name} version {event.version} ({size})"
        case e.DataDeleted():
            return f"{_who(head, event)} deleted {event.name} up to version {event.version}"
        case e.SecretsUsed():
            return f"{event.attempt} {got(event)}"
        case _:
            return ""


def got(event: e.SecretsUsed) -> str:
    """Which secrets an attempt, or a step of its verification, got, by name."""
    ways: dict[str, list[str]] = {}
    for key, way in sorted(event.secrets.items()):
        ways.setdefault(way, []).append(key)
    told = " and ".join(f"{', '.join(keys)} {_WAYS[way]}" for way, keys in ways.items())
    return (f"(step {event.step} of its verification) " if event.step else "") + f"got {told}"


_WAYS = {"env": "as a variable", "file": "as a file", "get": "as it asked"}


def _who(head: e.Envelope, event: e.DataPut | e.DataDeleted) -> str:
    return event.attempt or (head.by if event.src is None and head.by else "a person")
