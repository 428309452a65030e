"""What a worker runtime said in the words of the core, and the reverse; nothing is decided here."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import events as e
from ..core.state import State
from ..errors import Refused
from .link import Message
from .runs import Asker

if TYPE_CHECKING:
    from ..wire.redaction import Redaction

UNJUDGED = e.Receipt(result="partial", source="verifier", reason="not judged yet")


def ended_event(fact: Message, runtime: str) -> e.AttemptEnded:
    """The end of an attempt as its host journalled it, not judged yet."""
    return e.AttemptEnded(
        attempt=fact.attempt,
        worker=fact.slot,
        src=(runtime, fact.n),
        seconds=fact.seconds,
        receipt=UNJUDGED,
        exit=fact.exit,
        signal=fact.signal,
        unknown=fact.unknown,
        unstarted=fact.unstarted,
        why=fact.why,
        cpu=fact.cpu,
        rss_kb=fact.rss_kb,
        logs=fact.logs,
        artifacts=fact.artifacts,
        missing=fact.missing,
        artifact_errors=fact.artifact_errors,
        evidence=fact.evidence,
        stragglers=fact.stragglers,
        oom=fact.oom,
        agent=fact.agent,
        cap=fact.cap,
        steps=fact.steps,
        base=fact.base,
        isolated=fact.isolated,
        unsaved=fact.unsaved,
        notes=fact.notes,
    )


def enrolled_event(slots: int, boot: str) -> e.WorkerEnrolled:
    """A run's slots on this machine."""
    return e.WorkerEnrolled(
        slots=slots, host=os.uname().nodename, boot=boot, cores=os.cpu_count() or 1
    )


def hello_message(state: State, epoch: int) -> dict[str, Any]:
    """The first message to a runtime; its cursors say from where on it is to tell its facts."""
    return {
        "m": "hello",
        "protocol": 1,
        "fleet": state.fleet,
        "epoch": epoch,
        "cursors": state.cursors,
    }


def environment_message(run: str, asker: Asker) -> dict[str, Any]:
    """What hands a run's values to a runtime, where they stay in memory."""
    values = {"base": asker.base, "allowed": asker.allowed}
    if asker.alerts:
        values["alerts"] = asker.alerts
    if asker.secrets:
        values["secrets"] = asker.secrets
    return {"m": "environment", "run": run, "umask": asker.umask, "values": values}


def older_ledger(folder: Path, ledger: int, runtime: Message) -> Refused:
    """The runtime has served managers that this ledger knows nothing of."""
    pids = " ".join(str(pid) for pid in (runtime.keeper, runtime.pid) if pid)
    return Refused(
        f"the ledger in {folder} is older than its worker runtime: it is at epoch {ledger}, and "
        f"the runtime has served epoch {runtime.epoch}. Was it restored?",
        "Put the newer ledger back. Or, to go on from this one, end the runtime: "
        f"kill -9 {pids}; rm -r {folder / 'runtime'} (what it still runs goes on unwatched)",
        code="older_ledger",
    )


class Reading:
    """Reads kept evidence for the scorers, without the secrets that this manager's asker has.

    The runtime took them out before it kept the file: this is the second look.
    """

    def __init__(self, folder: Path, secrets: dict[str, str]) -> None:
        self._folder = folder
        self._secrets = secrets
        self._redaction: Redaction | None = None

    def __call__(self, evidence: e.Evidence) -> bytes:
        """The bytes; OSError when they are gone."""
        data = (self._folder / "evidence" / evidence.sha256).read_bytes()
        if not self._secrets:
            return data
        if self._redaction is None:
            from ..wire.redaction import Redaction

            self._redaction = Redaction(self._secrets)
        return self._redaction.redacted(data)
