"""`fleet answer ID TEXT`: a person answers what a task asks; the task goes on with it."""

from ..core import commands as c
from ..core import events as e
from ..engine.handover import tell
from ..errors import FleetError, Refused
from .common import Context, print_json
from .names import resolve

BY = "cli:user"


def answer(*, id: str, text: str, ctx: Context) -> int:
    """Record the answer, and tell whoever manages; it reaches the task after any break."""
    ledger = ctx.ledger()
    mine = ctx.environ.get("FLEET_ATTEMPT_ID")
    if mine and ctx.environ.get("FLEET_ID") == ledger.state.fleet:
        raise Refused(
            f"{mine} is a task of this fleet, and answers are for people.",
            "Answer from a shell that is part of no task.",
            code="inside",
        )
    said = " ".join(text.split())
    if not said or len(said) > 2_000:
        raise FleetError("an answer is a line of text, up to 2,000 characters.", code="bad_answer")
    name, colon, number = id.rpartition(":")
    name, which = (name, int(number)) if colon and number.isdigit() else (id, 0)
    target = resolve(ledger, name)
    if target.task is None:
        raise FleetError(
            f"{target.id} asks nothing: questions come from tasks.",
            "fleet status shows what waits for a person.",
            code="not_found",
        )
    if which and not target.number:
        raise FleetError(f"{id} is no question.", f"fleet answer {target.id}@N:{which} TEXT")
    which = which or int(bool(target.number))
    command = c.Answer(run=target.run.id, asker=target.id, number=which, answer=said)
    with ledger.transaction(BY) as transaction:
        event = transaction.submit(command)
    ledger.sync()
    tell(ledger.dir)
    assert isinstance(event, e.QuestionAnswered)
    waits = event.attempt in ledger.state.runs[target.run.id].flights
    if ctx.json:
        answered = {"attempt": event.attempt, "number": event.number, "answer": said}
        print_json({**answered, "waits": waits})
    elif not ctx.quiet:
        later = "" if waits else "; its attempt is over, and the next one that asks the same has it"
        print(f"answered {event.attempt}: {said}{later}")
    return 0
