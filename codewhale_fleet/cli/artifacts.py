"""`fleet artifacts ID`: the files that attempts left, and `--copy-to` to take them along.

A copied file is compared with the digest that the ledger has; one that has changed since is said.
Nothing outside the workspace is copied, whatever links have taken a file's place.
"""

import os
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import FleetError
from ..ledger.store import Ledger
from ..views.status import compacted
from . import history, names
from .common import Context, print_json
from .faces import Page, Span
from .inspect import prefix_of
from .words import size

SHOWN_DIGITS = 12
"""Digits of a digest that people are shown."""


def artifacts(*, id: str, copy_to: str | None = None, ctx: Context) -> int:
    """List what was left; copy it when asked. Exit code 1 when a file could not be copied."""
    ledger = ctx.ledger()
    target = names.resolve(ledger, id)
    if target.worker:
        raise FleetError(f"{target.id} is a worker.", "Name a run, a task or an attempt.")
    found = list(_found(ledger, target, prefix_of(ctx, target.run.workspace)))
    answer: dict[str, Any] = {"id": target.id, "artifacts": found}
    over = target.run.status == "finished"
    if over and not (ledger.dir / "logs" / target.run.id).exists():
        for one in filter(_is_ours, found):
            source = _source(one, ledger.dir)
            if source is not None and not source.exists():
                one["removed"] = True
    if target.run.compacted:
        answer["compacted"] = compacted(target.run)
    failed = False
    if copy_to is not None:
        folder = Path(ctx.cwd or "", copy_to).absolute()
        answer["copied_to"] = str(folder)
        for one in found:
            one["copy"] = _copied(one, folder, ledger.dir, Path(target.run.workspace))
            failed = failed or "problem" in one["copy"]
    if ctx.json:
        print_json(answer)
    else:
        draw(answer).show(ctx)
    return int(failed)


def _found(ledger: Ledger, target: names.Target, prefix: str) -> "list[dict[str, Any]]":
    from ..views.timeline import attempts, references

    run = target.run
    if target.task is not None:
        records = history.of_task(ledger, run, target.task.id)
        tasks = {target.task.id: records}
    else:
        tasks = {}
        for head, event in ledger.records(run.id, run.opened_at, containing=b'"attempt.ended"'):
            name = event.attempt[len(run.id) + 1 :].rpartition("@")[0]  # type: ignore[attr-defined]
            tasks.setdefault(name, []).append((head, event))
    found = []
    for task, records in tasks.items():
        for row in attempts(run.id, task, records):
            if target.number and row["attempt"] != target.number:
                continue
            for one in references(row, prefix):
                found.append({"task_id": task, "attempt": row["attempt"], **one})
    return found


def _is_ours(one: dict[str, Any]) -> bool:
    """Whether a file lies in the fleet's own directory."""
    return one["kind"] in ("log", "evidence")


def _source(one: dict[str, Any], fleet_dir: Path) -> Path | None:
    """Where a file of the fleet's own is now; None for one that lies in the workspace."""
    path: str = one["path"]
    if not _is_ours(one):
        kept = fleet_dir / "evidence" / one.get("checksum", "").removeprefix("sha256:")
        return kept if kept.is_file() else None
    kind = "logs" if one["kind"] == "log" else "evidence"
    return fleet_dir / kind / path.rpartition(f"/{kind}/")[2]


def _copied(one: dict[str, Any], folder: Path, fleet_dir: Path, root: Path) -> dict[str, str]:
    """Copy one file below `folder`: where it is now, and what is wrong with it, if anything is."""
    path = one["path"]
    source = _source(one, fleet_dir)
    place = folder / f"{one['task_id']}.{one['attempt']}" / one["kind"]
    if one.get("removed"):
        return {"path": str(place / path.rpartition("/")[2]), "problem": "removed by gc"}
    name = one.get("of", path) if one["kind"] == "evidence" else path
    place /= source.name if source and one["kind"] == "log" else name
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if source is None:
            digest = _copy_of_a_task(path, place, fleet_dir, root)
        else:
            digest = _copy(source, place, log=one["kind"] == "log")
    except OSError as error:
        return {"path": str(place), "problem": f"{error.strerror or error}".lower()}
    if one.get("checksum", f"sha256:{digest}") != f"sha256:{digest}":
        return {"path": str(place), "problem": "it has changed since the attempt ended"}
    return {"path": str(place)}


def _copy(source: Path, place: Path, *, log: bool) -> str:
    """Copy the bytes; the digest of what was kept of them."""
    if log:
        from ..worker.logs import read_log

        if not source.is_file():
            raise FileNotFoundError(2, os.strerror(2))
        place.write_bytes(read_log(source)[0])
        return sha256(read_log(source, marker=False)[0]).hexdigest()
    with source.open("rb") as reader:
        return _pour(reader, place)


def _copy_of_a_task(path: str, place: Path, fleet_dir: Path, root: Path) -> str:
    """The same of a file in the workspace, whose name tasks may have made anything by now."""
    from ..worker import collect

    collect.guard(str(fleet_dir))
    try:
        descriptor, _, _ = collect.opened(str(root), path)
    except collect.Refusal as reason:
        raise OSError(f"not copied: {reason}") from None
    with os.fdopen(descriptor, "rb") as reader:
        return _pour(reader, place)


def _pour(reader: BinaryIO, place: Path) -> str:
    state = sha256()
    with place.open("wb") as writer:
        while chunk := reader.read(1024 * 1024):
            state.update(chunk)
            writer.write(chunk)
    return state.hexdigest()


def draw(answer: dict[str, Any]) -> Page:
    """The answer for people."""
    page = Page()
    rows: list[list[Span]] = []
    problems: list[list[Span]] = []
    for one in answer["artifacts"]:
        digest = one.get("checksum", "")[7 : 7 + SHOWN_DIGITS]
        about = f"{one['dropped_bytes']:,} bytes dropped" if one.get("dropped_bytes") else ""
        about = f"of {one['of']}" if "of" in one else about
        about = "removed by gc" if one.get("removed") else about
        rows.append(
            [f"{one['task_id']}@{one['attempt']}", one["kind"], one["path"],
             size(one["size_bytes"]), (digest, "dim"), (about, "dim")]
        )  # fmt: skip
        if "problem" in one.get("copy", ()):
            problems.append([("not as it was", "red"), one["path"], one["copy"]["problem"]])
    page.rows(rows, indent=0)
    if not rows:
        left = "no files" if "compacted" in answer else "no files yet"
        page.line(f"{answer['id']} has left {left}.")
    if "compacted" in answer:
        page.line(f"Logs and evidence are not listed: {answer['compacted']}.")
    page.line()
    if problems:
        page.rows(problems)
        page.line()
    if "copied_to" in answer:
        page.line(("Copied to " + answer["copied_to"], "dim"))
    elif rows:
        page.line((f"To take them along: fleet artifacts {answer['id']} --copy-to DIR", "dim"))
    else:
        page.line((f"To see why: fleet explain {answer['id']}", "dim"))
    return page
