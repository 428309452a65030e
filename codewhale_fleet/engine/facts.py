"""What a worker runtime said, as events and commands of the core; nothing is decided here."""

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core import commands as c
from ..core import events as e
from ..core.state import State
from ..errors import Refused
from .link import Message
from .runs import Asker

_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"

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
    )


def environment_message(run: str, asker: Asker) -> dict[str, Any]:
    """What hands a run's values to a runtime, where they stay in memory."""
    return {
        "m": "environment",
        "run": run,
        "umask": asker.umask,
        "values": {"base": asker.base, "allowed": asker.allowed},
    }


def was_copied(state: State, boot: str, device: int, inode: int) -> bool:
    """Is `.fleet` another directory than the last manager's? Device numbers hold for a boot."""
    manager = state.manager
    if manager is None:
        return False
    return manager.inode != inode or (manager.boot == boot and manager.device != device)


def new_fleet() -> str:
    """An id for a fleet that begins as a copy of another."""
    return "fl-" + "".join(secrets.choice(_LETTERS) for _ in range(10))


def lost_on_takeover(state: State, boot: str, device: int, inode: int) -> Iterable[c.Command]:
    """Attempts in flight that can't be heard of: the machine restarted, or `.fleet` was copied."""
    copied = was_copied(state, boot, device, inode)
    if copied:
        yield c.Copied(fleet=new_fleet())
    for run in state.open_runs.values():
        for attempt, flight in run.flights.items():
            if flight.boot != boot:
                why = "the machine was restarted"
            elif copied:
                why = "the fleet directory was copied or restored"
            else:
                continue
            yield c.ReportLost(attempt=attempt, why=why, receipt=transport(why))


def transport(reason: str) -> e.Receipt:
    """The receipt of an attempt that no task is to blame for."""
    return e.Receipt(result="fail", source="transport", reason=reason)


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


def values_gone(run: str) -> str:
    """Why a run is paused whose values no runtime holds."""
    return f"its environment is gone; from a shell that has it: fleet resume {run}"
