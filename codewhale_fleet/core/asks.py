"""What tasks say of themselves: questions to people, data of a run, progress, checkpoints.

Pure: the part of `decide` and of `evolve` for the words of task_words.py. A question is answered
once; a later attempt of the task that asks the same has that answer. A version of a name never
changes, and no number is given twice. It looks at rows only where somebody answers, so that a
status can follow without them.
"""

from collections.abc import Callable, Iterator
from typing import Any

from ..errors import FleetError, Refused
from . import commands as c
from . import events as e
from .controls import refuse_compacted, refuse_draft
from .liveness import see
from .state import Datum, Question, Run, State

OVER = ("completed", "cancelled")
"""Statuses of a task that asks nothing any more."""


def key_of(attempt: str, number: int) -> str:
    """What a question is called: its attempt, and its number but for the first."""
    return attempt if number == 1 else f"{attempt}:{number}"


def waiting(run: Run) -> Iterator[Question]:
    """Questions without an answer whose attempt runs, in the order in which they came."""
    for question in run.questions.values():
        if question.answer is None and question.attempt in run.flights:
            yield question


def owed(run: Run) -> Iterator[Question]:
    """Answered questions whose attempt runs: it is to be told, as often as somebody connects."""
    for question in run.questions.values():
        if question.answer is not None and question.attempt in run.flights:
            yield question


def shown(run: Run) -> list[Datum]:
    """The newest version of each name, but for those that were deleted."""
    return [found[-1] for found in run.data.values() if not found[-1].deleted]


# Deciding -------------------------------------------------------------------------------------


def decide_asks(
    run: Run, command: "c.Answer | c.PutData | c.DeleteData"
) -> "e.QuestionAnswered | e.DataPut | e.DataDeleted":
    """The record of what a person does."""
    refuse_draft(run)
    refuse_compacted(run)
    if isinstance(command, c.Answer):
        return _answer(run, command)
    if run.status == "finished":
        raise Refused(
            f"{run.id} has finished; its data stays as it is.",
            f"To see it: fleet data list --run {run.id}",
        )
    if run.flights:
        raise Refused(f"tasks of {run.id} run; its data goes through its worker runtime.")
    versions = run.data.get(command.name, [])
    if isinstance(command, c.PutData):
        return e.DataPut(
            name=command.name,
            version=versions[-1].version + 1 if versions else 1,
            sha256=command.sha256,
            size=command.size,
            tags=command.tags,
        )
    refuse_unknown(run, command.name)
    return e.DataDeleted(name=command.name, version=versions[-1].version)


def refuse_unknown(run: Run, name: str, version: int = 0) -> Datum:
    """The version of a name, the newest where none is given; FleetError where there is none."""
    versions = run.data.get(name, [])
    found = [one for one in versions if one.version == version or not version][-1:]
    if found and not found[0].deleted:
        return found[0]
    if not versions:
        said = f'{run.id} has no data "{name}".'
    elif version and not found:
        said = (
            f'"{name}" of {run.id} has no version {version}; its newest is {versions[-1].version}.'
        )
    else:
        said = f'"{name}" of {run.id} was deleted.'
    raise FleetError(said, f"fleet data list --run {run.id} shows what there is.", code="not_found")


def decide_facts(
    state: State, command: "c.ReportAsked | c.ReportData | c.ReportSecrets"
) -> "e.QuestionAsked | e.DataPut | e.DataDeleted | e.SecretsUsed | None":
    """The record of what a host tells of its tasks; None where it is known, or of no run here."""
    run = state.runs.get(command.attempt.partition("/")[0])
    if run is None or command.src[1] <= state.cursors.get(command.src[0], 0):
        return None
    if isinstance(command, c.ReportSecrets):
        return e.SecretsUsed(
            attempt=command.attempt,
            worker=command.worker,
            src=command.src,
            secrets=command.secrets,
            step=command.step,
        )
    if isinstance(command, c.ReportAsked):
        return e.QuestionAsked(
            attempt=command.attempt,
            worker=command.worker,
            src=command.src,
            text=command.text,
            number=command.number,
            choices=list(command.choices),
            answer=_known(run, command),
        )
    attempt = command.attempt if "/" in command.attempt else ""
    versions = run.data.get(command.name)
    least = versions[-1].version + 1 if versions else 1
    if command.deleted:
        version = command.version or least - 1
        return e.DataDeleted(name=command.name, version=version, attempt=attempt, src=command.src)
    return e.DataPut(
        name=command.name,
        version=max(command.version, least),
        sha256=command.sha256,
        size=command.size,
        tags=command.tags,
        attempt=attempt,
        src=command.src,
    )


def _known(run: Run, command: "c.ReportAsked") -> str | None:
    """What the same question of an earlier attempt was answered."""
    task = command.attempt[len(run.id) + 1 :].rpartition("@")[0]
    for one in run.questions.values():
        same = one.text == command.text and one.choices == list(command.choices)
        if same and one.task == task and one.answer is not None:
            return one.answer
    return None


def _answer(run: Run, command: "c.Answer") -> e.QuestionAnswered:
    if run.status == "finished":
        raise Refused(
            f"{run.id} has finished; nothing of it waits for an answer.",
            f"To run a task of it again: fleet restart {run.id}/TASK",
        )
    question = _meant(run, command)
    if question.answer is not None:
        by = f" by {question.by}" if question.by else ""
        raise Refused(
            f"{question.key} was answered{by}: {question.answer}",
            f"To have it asked anew: fleet restart {run.id}/{question.task}",
            code="answered",
        )
    task = run.tasks.get(question.task)
    if task is None or task.status in OVER:
        raise Refused(
            f"{run.id}/{question.task} has ended, so nobody waits for this answer.",
            f"What became of it: fleet inspect {run.id}/{question.task}",
        )
    if question.choices and command.answer not in question.choices:
        raise FleetError(
            f'"{command.answer}" is none of the choices: {", ".join(question.choices)}.',
            f'fleet answer {question.key} "{question.choices[0]}"',
            code="bad_answer",
        )
    return e.QuestionAnswered(
        attempt=question.attempt, number=question.number, answer=command.answer
    )


def _meant(run: Run, command: "c.Answer") -> Question:
    """The question by its key; of a task, the only one that waits."""
    if command.number:
        found = run.questions.get(key_of(command.asker, command.number))
        if found:
            return found
        raise _unasked(key_of(command.asker, command.number))
    name = command.asker.partition("/")[2]
    mine = [one for one in run.questions.values() if one.task == name]
    if not mine:
        raise _unasked(command.asker)
    unanswered = [one for one in mine if one.answer is None]
    running = [one for one in unanswered if one.attempt in run.flights]
    several = running or unanswered
    if len(several) > 1:
        keys = ", ".join(one.key for one in several)
        raise FleetError(
            f"{command.asker} waits for {len(several)} answers.",
            f"Which one: {keys}?",
            code="ambiguous",
        )
    return several[0] if several else mine[-1]


def _unasked(asker: str) -> Refused:
    return Refused(f"{asker} has asked nothing.", "fleet status shows what waits for a person.")


# Evolving -------------------------------------------------------------------------------------


def _asked(state: State, head: e.Envelope, event: e.QuestionAsked) -> None:
    see(state, event.src)
    run = state.runs[head.run]
    if run.compacted:
        return
    key = key_of(event.attempt, event.number)
    task = event.attempt[len(head.run) + 1 :].rpartition("@")[0]
    run.questions[key] = Question(
        key=key,
        task=task,
        attempt=event.attempt,
        text=event.text,
        choices=event.choices,
        ts=head.ts,
        seq=head.seq,
        number=event.number,
        answer=event.answer,
    )


def _answered(state: State, head: e.Envelope, event: e.QuestionAnswered) -> None:
    question = state.runs[head.run].questions.get(key_of(event.attempt, event.number))
    if question is not None:
        question.answer, question.by = event.answer, head.by


def _put(state: State, head: e.Envelope, event: e.DataPut) -> None:
    if event.src:
        see(state, event.src)
    run = state.runs[head.run]
    if run.compacted:
        return
    run.data.setdefault(event.name, []).append(
        Datum(
            name=event.name,
            version=event.version,
            sha256=event.sha256,
            size=event.size,
            ts=head.ts,
            tags=event.tags,
            attempt=event.attempt,
        )
    )


def _deleted(state: State, head: e.Envelope, event: e.DataDeleted) -> None:
    if event.src:
        see(state, event.src)
    for one in state.runs[head.run].data.get(event.name, ()):
        if one.version <= event.version:
            one.deleted = True


def _used(state: State, head: e.Envelope, event: e.SecretsUsed) -> None:
    see(state, event.src)


HANDLERS: dict[type[e.Event], Callable[[State, e.Envelope, Any], None]] = {
    e.QuestionAsked: _asked,
    e.QuestionAnswered: _answered,
    e.DataPut: _put,
    e.DataDeleted: _deleted,
    e.SecretsUsed: _used,
}
"""For `evolve`."""
