"""A verdict of a person, or of another agent: recorded together with what follows from it.

Promises: the verdict and, where nothing of its run is left to be done, the run's end are one
write; a run that had finished keeps its wall time; the directory that a passed attempt had for
itself goes then. What may be judged is decided in
`core/verdicts.py`; files of evidence are kept under their digest before anything refers to them.
"""

import os
import stat
from hashlib import sha256
from pathlib import Path

from msgspec.structs import replace

from ..core import commands as c
from ..core import events as e
from ..core.duties import closing
from ..core.state import split_attempt
from ..errors import FleetError
from ..ledger.store import Ledger

EVIDENCE_BYTES = 1_000_000
"""Largest file that a verdict may rest on."""


def record(
    ledger: Ledger, attempt: str, receipt: e.Receipt, evidence: e.Evidence | None, *, by: str
) -> int:
    """Record a verdict, and answer the number of its record; Refused where nothing waits for it."""
    run_id = split_attempt(attempt)[0]
    with ledger.transaction(by) as transaction:
        before = transaction.state.runs[run_id]
        seconds = before.seconds if before.status == "finished" else None
        transaction.submit(c.Judge(run=run_id, attempt=attempt, receipt=receipt, evidence=evidence))
        run = transaction.state.runs[run_id]
        seq = run.tasks[split_attempt(attempt)[1]].seq
        if finish := closing(run, transaction.now):
            transaction.submit(finish if seconds is None else replace(finish, seconds=seconds))
    ledger.sync()
    if receipt.result == "pass" and (ledger.dir / "worktrees").exists():
        from .isolated import free

        free(ledger, attempt)
    return seq


def keep(ledger: Ledger, path: Path) -> e.Evidence:
    """A file kept as evidence; FleetError where it is none that can be kept."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise _refused(path, f"can't be read: {why}") from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise _refused(path, "is no regular file")
        if facts.st_size > EVIDENCE_BYTES:
            raise _refused(path, f"has {facts.st_size:,} bytes")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            data = file.read(EVIDENCE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > EVIDENCE_BYTES:
        raise _refused(path, f"has more than {EVIDENCE_BYTES:,} bytes")
    return keep_bytes(ledger, data)


def keep_bytes(ledger: Ledger, data: bytes) -> e.Evidence:
    """Some bytes kept as evidence."""
    digest = sha256(data).hexdigest()
    _put(ledger.dir / "evidence", digest, data)
    return e.Evidence(sha256=digest, size=len(data))


def _put(folder: Path, digest: str, data: bytes) -> None:
    """Write it beside its place and move it there: nobody sees half of it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    fresh = folder / f"{digest}.{os.getpid()}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(fresh, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(folder / digest)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise FleetError(
            f"the evidence can't be kept in {folder}: {error.strerror}.",
            "Nothing was recorded.",
            exit_code=5,
        ) from None


def _refused(path: Path, why: str) -> FleetError:
    return FleetError(
        f"{path} {why}.",
        f"Evidence is a regular file of at most {EVIDENCE_BYTES:,} bytes. Nothing was recorded.",
        field="evidence",
    )
