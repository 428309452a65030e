"""A fleet with workers, for tests of placement: like `Playbook`, with several machines.

`crew` gives a run workers (`web1=2` has two slots), `up` connects them as the engine does, with the
facts of their hosts, `place` takes everything that is due.
"""

import json
from typing import Any

from msgspec import Raw

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.placement import due
from codewhale_fleet.core.spread import Place, in_turn, stranded
from codewhale_fleet.core.state import Run

from .playbook import PASS, Playbook


def worker(id: str, slots: int = 1, **fields: Any) -> Raw:
    made = {"id": id, "name": id, "host": {"kind": "ssh", "host": id}, **fields}
    return Raw(json.dumps({**made, "max_concurrent_tasks": slots}).encode())


HERE = Raw(b'{"id":"local","name":"here","host":{"kind":"local"}}')


class Crew(Playbook):
    def __init__(self) -> None:
        self.records: list[tuple[e.Envelope, e.Event]] = []
        super().__init__()
        self.places: dict[str, Place] = {}

    def take(self, event: e.Event, run: str) -> None:
        super().take(event, run)
        head = e.Envelope(k=event.word, seq=self.state.seq, ts=self.ts(), d=Raw(b"{}"), run=run)
        self.records.append((head, event))

    def crew(
        self,
        *tasks: dict[str, Any],
        workers: dict[str, Raw],
        name: str = "r",
        most: int = 1000,
        spread: bool = True,
        **fields: Any,
    ) -> Run:
        """A started run with these workers."""
        created = e.RunCreated(
            name="r", digest="", max_workers=most, workspace="/w", workers=workers, spread=spread,
            **fields,
        )  # fmt: skip
        self.ask(c.CreateRun(run=name, created=created))
        raws = tuple(json.dumps({"command": "true", **task}).encode() for task in tasks)
        self.ask(c.AddTasks(run=name, tasks=raws))
        self.ask(c.StartRun(run=name, count=len(tasks)))
        return self.state.runs[name]

    def up(self, *workers: str, ahead: int = 0, **facts: Any) -> None:
        """They are connected, and have told their facts."""
        told = {"slots": 1, "host": "h", "cores": 4, "memory_mb": 8000, **facts}
        for name in workers:
            self.places[name] = Place(boot=f"boot-{name}", ahead=ahead)
            enrolled = e.WorkerEnrolled(worker=name, boot=f"boot-{name}", **told)
            self.ask(c.EnrolWorker(enrolled=enrolled))

    def down(self, *workers: str, why: str = "no route") -> None:
        for name in workers:
            self.places.pop(name, None)
            self.ask(c.ReportUnreachable(worker=name, why=why))

    def due(self, name: str = "r") -> list[e.AttemptDispatched]:
        """Take everything that is due of one run."""
        placed = []
        run = self.state.runs[name]
        breakers, places = self.state.breakers, dict(self.places)
        found = due(run, "boot-1", self.now, breakers=breakers, places=places, state=self.state)
        for command in found:
            event = self.ask(command)
            if isinstance(event, e.AttemptDispatched):
                placed.append(event)
        return placed

    def place(self, name: str = "r") -> list[str]:
        """Where things went: `task slot`."""
        return [short(event) for event in self.due(name)]

    def everywhere(self) -> list[str]:
        """Take everything that is due of all runs, in their turn."""
        runs = in_turn(self.state.open_runs.values())
        return [one for run in runs for one in self.place(run.id)]

    def end(self, task: str, receipt: e.Receipt = PASS, run: str = "r", **fields: Any) -> None:
        number = self.state.runs[run].tasks[task].attempt
        self.ended(f"{run}/{task}@{number}", receipt, **fields)

    def strand(self, dead: dict[str, str], name: str = "r") -> dict[str, str]:
        """Task -> why it was ended."""
        run, found = self.state.runs[name], {}
        for command in list(stranded(self.state, run, dead)):
            event = self.ask(command)
            if isinstance(event, e.TaskUnplaced):
                found |= dict.fromkeys(event.tasks, event.receipt.reason)
        return found


def short(event: e.AttemptDispatched) -> str:
    run, _, rest = event.attempt.partition("/")
    return f"{rest.rpartition('@')[0]} {event.worker[len(run) + 1 :]}"


def tasks(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": f"t{number}", **fields} for number in range(1, count + 1)]
