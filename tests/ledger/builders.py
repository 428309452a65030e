"""Ledgers with something in them, for tests whose subject is the file."""

import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Raw, structs

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core import outbox
from codewhale_fleet.core.state import Run, State
from codewhale_fleet.errors import Refused
from codewhale_fleet.ledger.store import Ledger, Transaction

PASS = e.Receipt(result="pass", scorer="exit_code")
FAIL = e.Receipt(result="fail", source="task", scorer="exit_code", reason="exit 1")
WAITS = e.Receipt(result="partial", source="human", scorer="manual", reason="waits for a person")


def a_run(transaction: Transaction, name: str, tasks: int = 3, **fields: Any) -> None:
    """Record a run of so many tasks, started, with two slots."""
    created = e.RunCreated(name=name, digest="d", max_workers=2, workspace="/w", **fields)
    transaction.submit(c.CreateRun(run=name, created=created))
    policy = b',"alert_policy":{"after_attempts":2}' if fields.get("alert_policies") else b""
    raws = tuple(b'{"id":"t%d","command":"true"%b}' % (index, policy) for index in range(tasks))
    transaction.submit(c.AddTasks(run=name, tasks=raws))
    transaction.submit(c.StartRun(run=name, count=tasks))
    slots = e.WorkerEnrolled(slots=2, host="h", boot="b", cores=2)
    transaction.submit(c.Enrol(run=name, enrolled=slots))


def an_attempt(
    transaction: Transaction, run: str, task: str, fact: int, receipt: e.Receipt = PASS
) -> None:
    """Place the task's next attempt and end it."""
    worker = f"{run}-{_place(transaction, run, fact)}-1"
    transaction.submit(c.Place(run=run, task=task, worker=worker, boot="b", why="free"))
    number = transaction.state.runs[run].tasks[task].attempt
    ended = e.AttemptEnded(
        attempt=f"{run}/{task}@{number}",
        worker=worker,
        src=("rt", fact),
        seconds=0.5,
        receipt=receipt,
        exit=0,
    )
    transaction.submit(c.ReportEnded(ended=ended, jitter=0.5))


def _place(transaction: Transaction, run: str, fact: int) -> str:
    """One of the workers of a run, where it has any."""
    places = ["local", *transaction.state.runs[run].workers]
    return places[fact % len(places)]


WORKERS = {name: Raw(b'{"id":"%b"}' % name.encode()) for name in ("web-1", "web-2")}


def worker_step(transaction: Transaction, dice: random.Random) -> None:
    """Something that happens to a worker, whether it is of a run or not."""
    worker = dice.choice(("web-1", "web-2", "web-3"))
    receipt = e.Receipt(result="fail", source="transport", reason=f"{worker}: no route")
    facts = {"slots": 1, "host": "h", "boot": dice.choice("bc"), "cores": 2, "memory_mb": 100}
    waiting = [
        c.Unplaced(run=run.id, tasks=(row.id,), receipt=receipt)
        for run in transaction.state.open_runs.values()
        for row in run.order
        if row.status == "queued" and run.workers
    ]
    transaction.submit(
        dice.choice(
            (
                c.Register(worker=worker, definition=b'{"id":"x"}', origin="test"),
                c.Drain(worker=worker, on=bool(dice.randrange(2)), reason="so"),
                c.Retire(worker=worker),
                c.ReportUnreachable(worker=worker, why="no route"),
                c.EnrolWorker(enrolled=e.WorkerEnrolled(worker=worker, **facts)),
                c.Discovered(name="cloud", digest="d", workers={worker: b"{}"}, part=1),
                *waiting[:1],
            )
        )
    )


def a_ledger(folder: Path, runs: int = 1, tasks: int = 3) -> Ledger:
    """A new ledger with finished runs `r0`, `r1` …, all durable."""
    ledger = Ledger.open(folder / ".fleet", create=True)
    for number in range(runs):
        with ledger.transaction("test") as transaction:
            a_run(transaction, f"r{number}", tasks)
            for task in range(tasks):
                an_attempt(transaction, f"r{number}", f"t{task}", number * tasks + task + 1)
            transaction.submit(c.FinishRun(run=f"r{number}", seconds=1.0))
    ledger.sync()
    return ledger


def beat(ledger: Ledger, times: int = 1) -> None:
    """Append records that change little."""
    for _ in range(times):
        with ledger.transaction("test") as transaction:
            transaction.submit(c.ReportBeat(workers=("w",)))


ALERTS = Raw(
    b'{"enabled":true,"routes":[{"adapter":"pager"},{"adapter":"hook","events":["needs_human",'
    b'"restart_exhausted"]}],"adapters":{"pager":{"kind":"pager_duty","routing_key_env":"K"},'
    b'"hook":{"kind":"webhook","url_env":"U"}}}'
)


def alert_step(transaction: Transaction, dice: random.Random) -> None:
    """Whatever is due about alerts, and perhaps what comes of sending one."""
    for command in outbox.due(transaction.state, transaction.now):
        transaction.submit(command)
    for letter in tuple(outbox.sendable(transaction.state, transaction.now))[: dice.randrange(3)]:
        state = dice.choice(("sent", "sent", "sent", "retry", "failed", "stuck"))
        where = {"run": letter.run, "cls": letter.cls, "adapter": letter.adapter}
        transaction.submit(c.ReportAlert(**where, key=letter.key, state=state, words="so"))


def random_history(ledger: Ledger, dice: random.Random, steps: int) -> None:
    """Do anything that may be done, in any order, over three runs, two of which alert people."""
    fact = 0
    before = ledger.clock
    ledger.clock = lambda: before() + shift
    shift = 0.0
    for _ in range(steps):
        shift += dice.choice((0.0, 0.0, 1.0, 40.0))
        name = f"r{dice.randrange(3)}"
        with ledger.transaction(f"test:{dice.randrange(3)}") as transaction:
            alert_step(transaction, dice)
            if not dice.randrange(6):
                worker_step(transaction, dice)
            if name not in transaction.state.runs:
                more = {} if name == "r0" else {"alerts": ALERTS, "alert_policies": name == "r2"}
                if name == "r1":
                    more |= {"workers": WORKERS, "spread": True, "patience": 60.0}
                a_run(transaction, name, dice.randrange(1, 5), **more)
                continue
            run = transaction.state.runs[name]
            task = f"t{dice.randrange(5)}"
            fact += 1
            try:
                _any_step(transaction, ledger, run, task, fact, dice)
            except (Refused, KeyError):
                pass
            run = transaction.state.runs[name]
            if run.status in ("running", "stopping") and not run.open:
                transaction.submit(c.FinishRun(run=name, seconds=1.0))


def _any_step(
    transaction: Transaction, ledger: Ledger, run: Run, task: str, fact: int, dice: random.Random
) -> None:
    match dice.randrange(15):
        case 0:
            transaction.submit(c.ReportBeat(workers=(f"{run.id}-local-1",)))
        case 1:
            transaction.submit(c.Restart(run=run.id, tasks=(task,), reason="again"))
        case 2:
            transaction.submit(c.ResumeRun(run=run.id, failed=bool(dice.randrange(2))))
        case 3:
            transaction.submit(c.Interrupt(run=run.id, tasks=(task,), reason="enough"))
        case 4 if not dice.randrange(4):
            transaction.submit(c.StopRun(run=run.id, reason="all of it"))
        case 5:
            waiting = [row for row in run.order if row.status == "partial"]
            verdict = dice.choice((PASS, FAIL))
            for row in waiting[:1]:
                name = f"{run.id}/{row.id}@{row.attempt}"
                transaction.submit(c.Judge(run=run.id, attempt=name, receipt=verdict))
        case 6 | 7:
            queued = [row.id for row in run.order if row.status == "queued"]
            if queued and run.status == "running":
                _speaking(transaction, run, dice.choice(queued), fact, dice)
        case 8 if run.status == "running":
            put = c.PutData(run=run.id, name=dice.choice("ab"), sha256=str(fact), size=1)
            transaction.submit(put)
        case _:
            receipt = dice.choice((PASS, PASS, FAIL, WAITS))
            queued = [row.id for row in run.order if row.status == "queued"]
            if queued and run.status == "running":
                an_attempt(transaction, run.id, dice.choice(queued), fact, receipt)


def _speaking(
    transaction: Transaction, run: Run, task: str, fact: int, dice: random.Random
) -> None:
    """An attempt that asks, puts and deletes before it ends, and is answered perhaps."""
    worker = f"{run.id}-{_place(transaction, run.id, fact)}-1"
    needs = {"cores": 2, "memory_mb": 50, "gpus": (fact,)} if run.workers else {}
    placed = c.Place(run=run.id, task=task, worker=worker, boot="b", why="free", **needs)
    transaction.submit(placed)
    attempt = f"{run.id}/{task}@{run.tasks[task].attempt}"
    asked = c.ReportAsked(
        attempt=attempt, worker=worker, src=("rt-ask", fact), number=1, text=dice.choice("?!")
    )
    transaction.submit(asked)
    if dice.randrange(2):
        transaction.submit(c.Answer(run=run.id, asker=attempt, number=1, answer="this"))
    for moves in (False, True)[: dice.randrange(3)]:
        source = ("rt-quiet", 2 * fact + moves)
        quiet = c.ReportQuiet(attempt=attempt, worker=worker, quiet=300.0, src=source, moves=moves)
        transaction.submit(quiet)
        alert_step(transaction, dice)
    name = dice.choice("ab")
    src = ("rt-data", fact)
    if run.data.get(name) and not dice.randrange(3):
        version = run.data[name][-1].version
        gone = c.ReportData(attempt=attempt, src=src, name=name, version=version, deleted=True)
        transaction.submit(gone)
    else:
        value = c.ReportData(attempt=attempt, src=src, name=name, version=1, sha256=str(fact))
        transaction.submit(value)
    ended = e.AttemptEnded(
        attempt=attempt, worker=worker, src=("rt", fact), seconds=0.5, receipt=PASS, exit=0
    )
    transaction.submit(c.ReportEnded(ended=ended, jitter=0.5))


def canonical(ledger: Ledger) -> Any:
    """The state as plain data, with all rows, without what depends on the way it was made."""
    state: State = ledger.state
    for name in state.runs:
        ledger.hydrate(name)
    runs = {}
    for name, run in state.runs.items():
        plain = structs.asdict(run)
        for index in ("order", "ready", "timers", "parked", "mean", "crowd", "board"):
            del plain[index]
        plain["tasks"] = {task: structs.asdict(row) for task, row in run.tasks.items()}
        plain["flights"] = {name: structs.asdict(flight) for name, flight in run.flights.items()}
        for counter in ("counts", "sources", "load", "claims"):
            plain[counter] = {key: value for key, value in plain[counter].items() if value}
        plain["order"] = [task.id for task in run.order]
        runs[name] = plain
    whole = structs.asdict(state)
    del whole["moved"], whole["moves"]
    return {**whole, "runs": runs, "open_runs": sorted(state.open_runs)}


def python(code: str, *args: str) -> "subprocess.Popen[str]":
    """Another process that runs `code`."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def tear(folder: Path, piece: bytes = b'{"k":"worker.heartbeat","seq":') -> None:
    """Leave a piece of a line at the end, as a killed writer does."""
    with (folder / ".fleet" / "fleet.jsonl").open("ab") as file:
        file.write(piece)


@contextmanager
def a_full_disk(folder: Path, size: str = "256k") -> Iterator[Path]:
    """A small real file system, mounted; needs root."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, (
        f"this test mounts a small tmpfs and could not ({made.stderr.strip()}): "
        "run it as root, or in a user namespace: unshare -rm scripts/test"
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def kill(process: "subprocess.Popen[str]", number: int = signal.SIGKILL) -> None:
    """Send a signal, and see it through when it is the last one."""
    os.kill(process.pid, number)
    if number == signal.SIGKILL:
        process.wait()
