"""`fleet apply ID`: what an attempt with a directory of its own has changed, into the workspace.

All of it goes in or nothing does. What is in already is said, and is no mistake.
"""

from pathlib import Path
from typing import Any

from ..errors import FleetError, Refused
from . import history, names
from .common import EXIT_PASSED, EXIT_REFUSED, Context, print_json
from .faces import Page, Span

SHOWN = 20
"""Files that are listed."""


def apply(
    *,
    id: str,
    check: bool = False,
    three_way: bool = False,
    unpassed: bool = False,
    ctx: Context,
) -> int:
    """Put the patch in, or with `check` say what would happen. 4 where it does not fit."""
    from msgspec import to_builtins

    from ..engine import applying

    ledger = ctx.ledger()
    target = names.resolve(ledger, id)
    if target.task is None or target.worker:
        raise FleetError(f"{target.id} is no task.", "Name a task or an attempt: RUN/TASK")
    row = _attempt(ctx, target, unpassed)
    task = f"{target.run.id}/{target.task.id}"
    patch = next((one for one in row["artifacts"] if one["kind"] == "patch"), None)
    answer: dict[str, Any] = {
        "id": task,
        "attempt": row["attempt"],
        "workspace": target.run.workspace,
        "base": row.get("base", ""),
        "check": check,
    }
    if patch is None:
        if row.get("unsaved"):
            raise Refused(
                f"{row['id']} has no patch: {row['unsaved']}.",
                f"Look there: .fleet/{row['isolated']}",
            )
        answer.update(how="unchanged", files=[], conflicts=[])
    else:
        file = ledger.dir / "evidence" / patch["sha256"]
        if not file.is_file():
            raise FleetError(
                f"the patch of {row['id']} is gone: removed by gc.",
                f"Its receipt stands: fleet receipts {task}",
                code="gone",
            )
        done = applying.apply(
            file,
            Path(target.run.workspace),
            whole=_is_whole(target.task.raw),
            check=check,
            merge=three_way,
        )
        answer.update(to_builtins(done))
    refused = answer["how"] == "refused"
    answer["exit_code"] = EXIT_REFUSED if refused else EXIT_PASSED
    if ctx.json:
        print_json(answer)
    else:
        draw(answer).show(ctx)
    return int(answer["exit_code"])


def _is_whole(raw: bytes) -> bool:
    """Whether a task's patch is about all of the repository around its workspace."""
    from ..core.tasks import decode_task

    place = decode_task(raw).workspace
    return place is not None and place.isolation == "worktree"


def _attempt(ctx: Context, target: names.Target, unpassed: bool) -> dict[str, Any]:
    """The attempt that is meant: the latest one, unless one is named; it has passed, or may not."""
    from ..views.timeline import attempts

    assert target.task is not None
    run, task = target.run, target.task
    rows = attempts(run.id, task.id, history.of_task(ctx.ledger(), run, task.id))
    number = target.number or task.attempt
    row = next((one for one in rows if one["attempt"] == number), None)
    name = f"{run.id}/{task.id}"
    if row is None or "ended" not in row:
        raise Refused(f"{name} has no attempt that has ended.", f"fleet wait {name}")
    if not row.get("isolated"):
        raise Refused(
            f"{row['id']} had no directory of its own: what it changed is in the workspace.",
            'A task gets one with workspace = { isolation = "worktree" }',
        )
    verdicts = row.get("verdicts")
    result = verdicts[-1]["result"] if verdicts else row.get("result")
    if result != "pass" and not unpassed:
        raise Refused(
            f"{row['id']} has not passed: {row.get('reason') or result}.",
            f"To apply its patch all the same: fleet apply {row['id']} --unpassed",
        )
    return row


def draw(answer: dict[str, Any]) -> Page:
    """The answer for people."""
    page = Page()
    name = f"{answer['id']}@{answer['attempt']}"
    count = len(answer["files"])
    files = "1 file" if count == 1 else f"{count:,} files"
    would = "would be " if answer["check"] else ""
    match answer["how"]:
        case "unchanged":
            page.line(f"{name} has changed nothing: there is nothing to apply.")
        case "already":
            page.line(f"{name} is already applied: {files}. Nothing was changed.")
        case "refused":
            page.line((f"{name} does not fit", "red"), ": nothing was changed.")
        case how:
            page.line((f"{name}", "green"), f" {would}{how}: {files}.")
    if answer["how"] in ("applied", "merged"):
        rows: list[list[Span]] = [_counts(one) for one in answer["files"][:SHOWN]]
        page.rows(rows)
        if count > SHOWN:
            page.line(f"  and {count - SHOWN} more")
    rows = []
    for one in answer["conflicts"]:
        if not one["hunks"]:
            rows.append([one["path"], one["why"]])
        for hunk in one["hunks"]:
            number, _, where = hunk.partition(": ")
            rows.append([one["path"], f"hunk {number} of {one['of']}", where])
    page.rows(rows)
    page.line()
    page.line((_next(answer, name), "dim"))
    return page


def _counts(one: dict[str, Any]) -> list[Span]:
    if one["added"] is None:
        return [one["path"], "binary"]
    return [one["path"], (f"+{one['added']}", "green"), (f"-{one['removed']}", "red")]


def _next(answer: dict[str, Any], name: str) -> str:
    if answer["how"] == "refused":
        if answer["mergeable"]:
            return f"Merged with what changed meanwhile it fits: fleet apply {name} --3way"
        return f"The patch itself: fleet artifacts {name} --copy-to DIR"
    if answer["check"] and answer["how"] in ("applied", "merged"):
        three = " --3way" if answer["how"] == "merged" else ""
        return f"Nothing was changed. To do it: fleet apply {name}{three}"
    if answer["how"] == "applied":
        return f"Nothing is committed. How it was judged: fleet receipts {answer['id']}"
    return f"How it was judged: fleet receipts {answer['id']}"
