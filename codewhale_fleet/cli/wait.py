"""`fleet wait ID…`: until runs or tasks have ended; the exit code is theirs."""

import time
from typing import Any

from ..core.state import OPEN
from ..errors import FleetError
from . import names, summary
from .common import EXIT_FAILED, EXIT_PERSON, Context, manager_answers, print_json
from .words import SHOWN_AS, duration, plain

EXIT_TIMEOUT = 124
"""What --timeout ends with: the code of the command `timeout`."""

LOOK_SECONDS = 5.0
"""Between two looks whether anybody manages what is waited for."""

_CODES = {"failed": EXIT_FAILED, "cancelled": EXIT_FAILED, "partial": EXIT_PERSON}
_PRECEDENCE = (1, 3, 6, 0)


def wait(*, ids: list[str], timeout: float | None = None, asked: bool = False, ctx: Context) -> int:
    """Wait for all of them; the worst exit code counts. `asked`: or until a task of them asks."""
    ledger = ctx.ledger()
    targets = [names.resolve(ledger, one) for one in ids]
    for one in targets:
        if one.worker:
            raise FleetError(f"{one.id} is a worker.", "Wait for a run or a task.")
        if one.run.status == "draft":
            raise FleetError(f"{one.id} was never started.", "fleet run SPEC makes it anew.")
    until = None if timeout is None else time.monotonic() + timeout
    warned = False
    if any(_is_open(one) for one in targets):
        from ..ledger.follow import follow

        folder = _inode(ledger)
        for _ in follow(ledger, until=until, tick=LOOK_SECONDS):
            if _inode(ledger) != folder:
                from ..engine.session import removed

                raise removed(ledger)
            for one in targets:
                _look_again(one, ledger)
            left = [one for one in targets if _is_open(one)]
            if not left or (asked and _asks(left)):
                break
            if not warned and not manager_answers(str(ledger.dir)):
                warned = True
                name = left[0].run.id
                ctx.note(f"Nobody manages {name}; it goes on with: fleet resume {name}")
    left = [one for one in targets if _is_open(one)]
    if asked and (questions := _asks(left)):
        return _tell(ctx, questions)
    if left:
        many = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise FleetError(
            f"{left[0].id}{many} has not ended within {duration(timeout or 0.0)}.",
            f"To see how far it is: fleet status {left[0].run.id}",
            exit_code=EXIT_TIMEOUT,
            code="timeout",
        )
    from .hints import of_id

    ctx.hint = of_id(str(ledger.dir), "wait", [one.id for one in targets])
    made = [_ended(one, ledger) for one in targets]
    codes = {one["exit_code"] for one in made}
    code = next((one for one in _PRECEDENCE if one in codes), 0)
    if ctx.json:
        hint = {"hint": ctx.hint} if ctx.hint else {}
        print_json({"ended": made, "exit_code": code, **hint})
    elif not ctx.quiet:
        for ended in made:
            print(_line(ended))
    return code


def _asks(targets: list[names.Target]) -> list[dict[str, str]]:
    """What tasks of these ask a person now, with what answers it."""
    found: dict[str, dict[str, str]] = {}
    for one in targets:
        if not one.run.questions:
            continue
        from ..core.asks import waiting
        from ..views.asking import answer_command, wanted

        for question in waiting(one.run):
            if one.task is None or one.task.id == question.task:
                found[question.key] = {
                    "id": question.key,
                    "question": wanted(question),
                    "next": answer_command(question),
                }
    return list(found.values())


def _tell(ctx: Context, questions: list[dict[str, str]]) -> int:
    """Say what is asked: a person is waited for."""
    if ctx.json:
        print_json({"ended": [], "asked": questions, "exit_code": EXIT_PERSON})
    elif not ctx.quiet:
        for one in questions:
            print(f"{one['id']} asks: {one['question']}\n\n{one['next']}")
    return EXIT_PERSON


def _inode(ledger: Any) -> int:
    """What the name of the fleet directory leads to now; 0 once it was removed."""
    try:
        return int(ledger.dir.stat().st_ino)
    except FileNotFoundError:
        return 0


def _look_again(target: names.Target, ledger: Any) -> None:
    """Take the newest rows of what is waited for."""
    target.run = ledger.state.runs[target.run.id]
    if target.task is not None:
        target.run = ledger.hydrate(target.run.id)
        target.task = target.run.tasks[target.task.id]


def _is_open(target: names.Target) -> bool:
    run, task = target.run, target.task
    if run.status == "paused":
        from ..core.duties import needs_manager

        if not needs_manager(run):
            return False
    if task is None:
        return run.status != "finished"
    if target.number and target.number < task.attempt:
        return False
    return task.status in OPEN


def _ended(target: names.Target, ledger: Any) -> dict[str, Any]:
    run = ledger.hydrate(target.run.id)
    if target.task is None:
        made = summary.answer(ledger.state, run)
        if run.status == "paused":
            made["exit_code"] = EXIT_PERSON
        return {"id": target.id, **made}
    task = run.tasks[target.task.id]
    return {
        "id": target.id,
        "status": task.status,
        "result": task.result,
        "source": task.source,
        "reason": task.reason,
        "attempt": task.attempt,
        "seconds": round(task.seconds, 3),
        "exit_code": EXIT_PERSON if task.status in OPEN else _CODES.get(task.status, 0),
    }


def _line(one: dict[str, Any]) -> str:
    if "counts" in one:
        return summary.text(one, color=False).partition("\n")[0]
    word = SHOWN_AS.get(one["status"], (one["status"],))[0]
    why = f": {plain(one['reason'])}" if one["reason"] else ""
    source = f" ({one['source']})" if one["source"] else ""
    return f"{one['id']} {word}{source} after {duration(one['seconds'])}{why}"
