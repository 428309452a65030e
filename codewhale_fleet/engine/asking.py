"""What tasks and people say to each other through the manager: questions, answers, data, progress.

Facts of a worker runtime become commands; answers and data that the ledger has are told to the
runtime, once a connection. Nothing is decided here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import DecodeError, json

from ..core import asks
from ..core import commands as c
from ..core import events as e

if TYPE_CHECKING:
    from ..core.state import Run
    from ..ledger.store import Transaction
    from .endpoint import Endpoint
    from .link import Message
    from .manager import Manager


def take(transaction: Transaction, fact: Message, runtime: str) -> None:
    """Record what one fact says."""
    src = (runtime, fact.n)
    if fact.f == "asked":
        transaction.submit(
            c.ReportAsked(
                attempt=fact.attempt,
                worker=fact.slot,
                src=src,
                number=fact.number,
                text=fact.text,
                choices=tuple(fact.choices),
            )
        )
        return
    if fact.f == "secrets":
        transaction.submit(
            c.ReportSecrets(
                attempt=fact.attempt,
                worker=fact.slot,
                src=src,
                secrets=fact.secrets,
                step=fact.step,
            )
        )
        return
    transaction.submit(
        c.ReportData(
            attempt=fact.attempt,
            src=src,
            name=fact.name,
            version=fact.version if isinstance(fact.version, int) else 0,
            sha256=fact.sha256,
            size=fact.size,
            tags=fact.tags,
            deleted=fact.deleted,
        )
    )


def greet(manager: Manager, endpoint: Endpoint) -> None:
    """A new connection: the runtime learns what data the open runs have, before they start more."""
    for run in manager.ledger.state.open_runs.values():
        if run.data and endpoint.serves(run):
            endpoint.say(_data_of(run))


def _entries(run: Run) -> Any:
    for versions in run.data.values():
        gone = 0
        for one in versions:
            yield {
                "name": one.name,
                "version": one.version,
                "sha256": one.sha256,
                "size": one.size,
                "tags": one.tags,
            }
            gone = one.version if one.deleted else gone
        if gone:
            yield {"name": versions[-1].name, "version": gone, "deleted": True}


def tell(manager: Manager, endpoint: Endpoint) -> None:
    """Say the answers that are owed, and the data that people put while nothing was in flight."""
    for run in manager.ledger.state.open_runs.values():
        if not run.questions:
            continue
        for question in asks.owed(run):
            flight = run.flights.get(question.attempt)
            if flight is None or manager.endpoint_of(run, flight) is not endpoint:
                continue
            if question.key not in endpoint.answered:
                endpoint.answered.add(question.key)
                said = {"attempt": question.attempt, "number": question.number}
                endpoint.say({"m": "answer", **said, "text": question.answer})
    if endpoint.unshared:  # data may have been put while it was being connected
        endpoint.unshared = False
        greet(manager, endpoint)
        return
    for head, event in manager.records:
        if isinstance(event, e.DataPut | e.DataDeleted):
            found = manager.ledger.state.open_runs.get(head.run)
            if found is not None and _is_news(found, event, endpoint):
                own = event.src is not None and event.src[0] == endpoint.runtime
                endpoint.say(_number_of(found, event) if own else _data_of(found))


def _is_news(run: Run, event: e.DataPut | e.DataDeleted, endpoint: Endpoint) -> bool:
    """Whether an endpoint is to learn of data: on several, the ledger gives the numbers."""
    return endpoint.serves(run) if run.workers else event.src is None


def _number_of(run: Run, event: e.DataPut | e.DataDeleted) -> dict[str, Any]:
    """The version that something has which was put there."""
    entry: dict[str, Any] = {"name": event.name, "version": event.version}
    if isinstance(event, e.DataDeleted):
        entry["deleted"] = True
    else:
        entry |= {"sha256": event.sha256, "size": event.size, "tags": event.tags}
    return {"m": "data", "run": run.id, "entries": [entry]}


def _data_of(run: Run) -> dict[str, Any]:
    """All data of a run; values that another machine needs for that go there first."""
    message = {"m": "data", "run": run.id, "entries": list(_entries(run))}
    if run.workers:
        shown = (one for versions in run.data.values() for one in versions if not one.deleted)
        message["carry"] = list(dict.fromkeys(one.sha256 for one in shown))
    return message


def pass_on(manager: Manager, line: str) -> None:
    """A person puts or deletes a value of a run that has attempts in flight: the runtime does."""
    try:
        message = json.decode(line)
        run, entry = message["run"], message["entry"]
    except (DecodeError, KeyError, TypeError):
        return
    if run in manager.ledger.state.open_runs and isinstance(entry, dict):
        if manager.ledger.state.open_runs[run].workers:
            entry["version"] = 0  # the ledger gives it one
        manager.local.say({"m": "put", "run": run, "entry": entry})
