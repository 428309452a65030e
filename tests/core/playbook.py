"""A fleet without a disk, for tests that read like a conversation: ask, see the event, go on.

`Playbook` keeps a State and a clock that only moves when told to. `ask` decides and evolves one
command, `place` takes everything that is due. Every step checks that the indexed duties are the
recomputed ones.
"""

import json
from typing import Any, Self

from msgspec import Raw
from msgspec import json as mjson

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.decide import Known, decide
from codewhale_fleet.core.duties import duties, recomputed
from codewhale_fleet.core.evolve import evolve
from codewhale_fleet.core.placement import due
from codewhale_fleet.core.state import Run, State, Task

PASS = e.Receipt(result="pass", scorer="exit_code")
FAIL = e.Receipt(result="fail", source="task", scorer="exit_code", reason="exit 1")
TRANSPORT = e.Receipt(result="fail", source="transport", reason="the machine was restarted")

CONFIG: dict[str, Any] = {
    "enabled": True,
    "routes": [{"adapter": "slack"}],
    "adapters": {"slack": {"kind": "slack", "webhook_env": "HOOK"}},
}
PAGER: dict[str, Any] = {
    "enabled": True,
    "routes": [{"adapter": "pager"}],
    "adapters": {"pager": {"kind": "pager_duty", "routing_key_env": "KEY"}},
}


class Playbook:
    def __init__(self) -> None:
        self.state = State()
        self.now = 1_800_000_000.0
        self.log: list[tuple[str, e.Event]] = []
        self.facts = 0
        self.ask(c.Initialize(fleet="fl-test"))

    def ts(self) -> str:
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self.now, UTC).isoformat().replace("+00:00", "Z")

    def ask(self, command: c.Command) -> e.Event | Known:
        event = decide(self.state, command, self.now)
        if isinstance(event, e.Event):
            self.take(event, c.run_of(command) or self.run_of(event))
        return event

    def run_of(self, event: e.Event) -> str:
        attempt = getattr(event, "attempt", "")
        return attempt.partition("/")[0]

    def take(self, event: e.Event, run: str) -> None:
        head = e.Envelope(k=event.word, seq=self.state.seq + 1, ts=self.ts(), d=Raw(b"{}"), run=run)
        # through the wire and back, as a ledger would
        evolve(self.state, head, mjson.decode(mjson.encode(event), type=type(event)))
        self.log.append((run, event))
        assert sorted(map(str, duties(self.state))) == sorted(map(str, recomputed(self.state)))

    def run(
        self,
        *tasks: dict[str, Any],
        workers: int = 2,
        max_failures: int = 0,
        deadline_seconds: float = 0.0,
        budget: dict[str, Any] | None = None,
        alerts: dict[str, Any] | None = None,
        name: str = "r",
    ) -> Run:
        created = e.RunCreated(
            name="r",
            digest="",
            max_workers=workers,
            workspace="/w",
            max_failures=max_failures,
            deadline_seconds=deadline_seconds,
            budget=Raw(json.dumps(budget or {}).encode()),
            alerts=Raw(json.dumps(alerts or {}).encode()),
            alert_policies=any("alert_policy" in task for task in tasks),
        )
        self.ask(c.CreateRun(run=name, created=created))
        raws = tuple(json.dumps({"command": "true", **task}).encode() for task in tasks)
        self.ask(c.AddTasks(run=name, tasks=raws))
        self.ask(c.StartRun(run=name, count=len(tasks)))
        slots = e.WorkerEnrolled(slots=workers, host="h", boot="boot-1", cores=2)
        self.ask(c.Enrol(run=name, enrolled=slots))
        return self.state.runs[name]

    def place(self, name: str = "r") -> list[str]:
        """Take everything that is due; the attempts that were placed."""
        placed = []
        run = self.state.runs[name]
        for command in due(run, "boot-1", self.now, breakers=self.state.breakers):
            event = self.ask(command)
            if isinstance(event, e.AttemptDispatched):
                placed.append(event.attempt)
        return placed

    def started(self, attempt: str) -> None:
        self.facts += 1
        flight = self.state.runs["r"].flights[attempt]
        self.ask(
            c.ReportStarted(
                attempt=attempt, worker=flight.worker, pid=1, since=0.0, src=("rt", self.facts)
            )
        )

    def ended(
        self,
        attempt: str,
        receipt: e.Receipt = PASS,
        *,
        seconds: float = 9.0,
        why: str = "",
        fact: int | None = None,
        **fields: Any,
    ) -> e.Event | Known:
        self.facts += 1
        if not fields:
            fields = {"exit": 0 if receipt.result == "pass" else 1}
        run = self.state.runs.get(attempt.partition("/")[0])
        flight = run.flights.get(attempt) if run and run.workers else None
        ended = e.AttemptEnded(
            attempt=attempt,
            worker=flight.worker if flight else "r-local-1",
            src=("rt", fact or self.facts),
            seconds=seconds,
            receipt=receipt,
            why=why,
            **fields,
        )
        return self.ask(c.ReportEnded(ended=ended, jitter=0.5))

    def later(self, seconds: float) -> Self:
        self.now += seconds
        return self

    def task(self, name: str) -> Task:
        return self.state.runs["r"].tasks[name]
