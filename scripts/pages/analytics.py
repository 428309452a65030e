"""The tables of `fleet ledger query` with their columns, as ledger/analytics.py makes them.

What a row is, and what a name does not say by itself, stands here; a table without its sentence, or
a word about a column that is not there, is an error.
"""

import tempfile
from pathlib import Path

from tables import table

from codewhale_fleet.ledger import analytics
from codewhale_fleet.ledger.store import Ledger

ROWS = {
    "records": "a line of the ledger, of all segments",
    "runs": "a run",
    "tasks": "a task of a run, as its spec says",
    "attempts": "an attempt that was placed, with its end where it has ended",
    "receipts": "a receipt: how an attempt was judged, by its scorer or by somebody later",
    "artifacts": "a file that an attempt left under a kind that its task names",
    "questions": "a question that a task asked a person",
    "data": "a value that was put, or a deletion",
    "workers": "something that happened to a worker: it was heard of, drained, retired …",
}
"""Table -> what a row of it is."""

MEANS = {
    "records": {
        "word": "what has happened, as below",
        "version": "of the payload",
        "by": "who wrote it",
        "id": "the asker's idempotency key",
        "payload": "as below; fields at their default are left out",
    },
    "runs": {
        "status": "how it finished, or `open`",
        "seconds": "wall time of a finished run",
        "tasks": "how many",
    },
    "tasks": {"task": "its id", "spec": "without fields at their default"},
    "attempts": {
        "attempt": "`RUN/TASK@N`",
        "number": "N",
        "place": "the worker whose slot that is; `local` is this machine",
        "dispatched": "when it was recorded as placed",
        "seconds": "how long it ran",
        "exit": "none where a signal ended it, or nobody saw it",
        "exit_unknown": "whether nobody saw how it ended",
        "unstarted": "why it never began",
        "why": "why it was ended, or lost",
        "peak_kb": "most memory, where it is known",
        "stragglers": "processes that it left behind",
        "retry_after": "seconds until the next attempt; none where the receipt decides",
        "source": "whose fault a failure was",
    },
    "receipts": {
        "deciding": "whether neither a retry followed by itself nor somebody's verdict",
        "by": "`manager` for what a scorer judged, else whose verdict it was",
    },
    "artifacts": {"path": "below the workspace", "size": "bytes"},
    "questions": {
        "number": "of the questions of its attempt",
        "answered": "none while it waits, or where an earlier attempt has the answer",
        "by": "who answered",
    },
    "data": {
        "version": "of a deletion, the newest that is not shown any more",
        "sha256": "its bytes are in `evidence/` under this name",
        "attempt": "none where a person did it",
    },
    "workers": {
        "reason": "why it was drained or retired, or can't be reached",
        "platform": "none where it is linux",
        "gpus": "none where it has none",
    },
}
"""Table -> column -> what its name does not say."""

TYPES = {
    "VARCHAR": "text",
    "BIGINT": "integer",
    "INTEGER": "integer",
    "DOUBLE": "number",
    "BOOLEAN": "true or false",
    "TIMESTAMP": "time, UTC",
    "JSON": "JSON",
}


def blocks() -> dict[str, str]:
    """The tables of docs/reference/ledger.md that are about SQL."""
    columns = _columns()
    for name, words in MEANS.items():
        unknown = set(words) - {column for column, _ in columns[name]}
        if unknown:
            raise SystemExit(f"scripts/pages/analytics.py: {name} has no {', '.join(unknown)}")
    parts = []
    for name, found in columns.items():
        rows = [
            (f"`{column}`", TYPES[kind], MEANS.get(name, {}).get(column, ""))
            for column, kind in found
        ]
        heads = ("column", "type", "means")
        parts.append(f"### Table {name}\n\nA row is {ROWS[name]}.\n\n{table(heads, rows)}")
    return {"tables": "\n".join(parts)}


def _columns() -> dict[str, list[tuple[str, str]]]:
    """Table -> its columns with their types in SQL, asked of a ledger with nothing in it."""
    with tempfile.TemporaryDirectory(prefix="fleet-docs-") as room:
        ledger = Ledger.open(Path(room) / ".fleet", create=True)
        try:
            return {
                name: [
                    (str(row[0]), str(row[1]))
                    for row in analytics.query(ledger, f"DESCRIBE {name}")[1]
                ]
                for name in analytics.VIEWS
            }
        finally:
            ledger.close()
