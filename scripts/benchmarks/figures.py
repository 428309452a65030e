"""What is measured: one function a figure, and the aim that each has to meet.

A new figure is a function here and its line in FIGURES. Every ratio is between runs of the same
figure, interleaved, by their medians; nothing is compared with numbers from another day.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import alerting
import append
import asks
import boxes
import callers
import contenders
import hosts
import redacting
import resume
import status
import usage
import waits
import worktree
from measure import Contender, Run, middle, race, timed


@dataclass(frozen=True)
class Row:
    """What was measured of one contender: the values of its runs, in `unit`."""

    name: str
    unit: str
    values: list[float]
    memory: list[dict[str, int]] = field(default_factory=list)
    """KiB by process, a run each; where memory was what was measured."""


@dataclass(frozen=True)
class Aim:
    """`value` should be at most `limit`; `text` says what of what."""

    text: str
    value: float
    limit: float
    unit: str = "×"

    @property
    def met(self) -> bool:
        return self.value <= self.limit


@dataclass(frozen=True)
class Result:
    rows: list[Row]
    aims: list[Aim]


@dataclass
class Lab:
    """Where the runs of one figure lie, how often each is done, and the runs that figures share."""

    work: Path
    repeat: int | None
    sized: dict[int, list[Run]] = field(default_factory=dict)

    def times(self, default: int) -> int:
        return self.repeat or default

    def of_size(self, tasks: int, default: int) -> list[Run]:
        """Runs of fleet alone with their memory; `memory` and `growth` look at the same ones."""
        if tasks not in self.sized:
            place = self.work / f"size-{tasks}"
            fleet = contenders.fleet()
            timed(fleet, place / "warm-up", 100)
            self.sized[tasks] = [
                timed(fleet, place / str(turn), tasks, memory=True)
                for turn in range(self.times(default))
            ]
        return self.sized[tasks]


def compare(
    lab: Lab, name: str, those: list[Contender], tasks: int, default: int, limits: dict[str, float]
) -> Result:
    """A race, and the first contender's time as a multiple of each peer's that has a limit."""
    runs = race(those, tasks, lab.times(default), lab.work / name, min(tasks, 100))
    rows = [Row(name, "s", [run.seconds for run in done]) for name, done in runs.items()]
    medians = {row.name: middle(row.values) for row in rows}
    first = rows[0].name
    aims = [
        Aim(f"{first} / {peer}", medians[first] / medians[peer], limit)
        for peer, limit in limits.items()
    ]
    return Result(rows, aims)


def cold(lab: Lab) -> Result:
    those = [contenders.fleet(), contenders.fleet_script(), contenders.parallel()]
    return compare(lab, "cold", those, 1, 15, {"parallel --joblog": 0.8})


def everyone() -> list[Contender]:
    return [
        contenders.fleet(),
        contenders.xargs(),
        contenders.floor(),
        contenders.parallel(),
        contenders.hyperqueue(),
    ]


def run1k(lab: Lab) -> Result:
    limits = {"xargs -P4": 1.4, "parallel --joblog": 0.35, "hyperqueue": 0.5}
    return compare(lab, "run1k", everyone(), 1_000, 5, limits)


def run10k(lab: Lab) -> Result:
    limits = {"xargs -P4": 1.4, "parallel --joblog": 0.3, "floor": 1.6}
    return compare(lab, "run10k", everyone(), 10_000, 3, limits)


def memory(lab: Lab) -> Result:
    rows, aims = [], []
    for tasks, limit in ((10_000, 50.0), (100_000, 110.0)):
        runs = lab.of_size(tasks, 1)
        memory = [run.memory for run in runs]
        rows.append(Row(f"{tasks:,} tasks, all three", "MB", [run.peak for run in runs], memory))
        row = Row(f"{tasks:,} tasks, without the keeper", "MB", [_two(run.memory) for run in runs])
        rows.append(row)
        aims.append(Aim(f"manager + runtime at {tasks:,} tasks", middle(row.values), limit, " MB"))
    return Result(rows, aims)


def _two(memory: dict[str, int]) -> float:
    """MB of the manager and the runtime; the keeper, of one fork with it, is the smallest."""
    return (sum(memory.values()) - min(memory.values())) * 1024 / 1e6


def growth(lab: Lab) -> Result:
    rows = []
    for tasks, default in ((1_000, 5), (10_000, 3), (100_000, 1)):
        runs = lab.of_size(tasks, default)
        rows.append(
            Row(f"{tasks:,} tasks", "µs a task", [run.seconds / tasks * 1e6 for run in runs])
        )
    medians = [middle(row.values) for row in rows]
    aims = [
        Aim(f"{row.name} / {rows[0].name}", median / medians[0], 1.2)
        for row, median in zip(rows[1:], medians[1:], strict=True)
    ]
    return Result(rows, aims)


def resumed(lab: Lab) -> Result:
    seconds = [
        resume.seconds_to_dispatch(lab.work / "resume" / str(turn), 10_000)
        for turn in range(lab.times(3))
    ]
    row = Row("10,000 tasks, half of them done", "s", seconds)
    return Result([row], [Aim("until the first new dispatch", middle(seconds), 0.5, " s")])


def five_hundred(lab: Lab) -> Result:
    peer = "bare Typer app"
    turns: list[dict[str, callers.Crowd]] = []
    for turn in range(lab.times(3)):
        place = lab.work / "callers" / str(turn)
        both = [lambda at=place: callers.asked(at), lambda at=place: {peer: callers.bare(at / "p")}]
        crowds: dict[str, callers.Crowd] = {}
        for measure in both if turn % 2 else reversed(both):
            crowds |= measure()
        turns.append(crowds)
    names = ["status --json", "interrupt", peer]
    rows, aims, wrong = [], [], 0
    for name in names:
        those = [crowds[name] for crowds in turns]
        rows.append(Row(f"{name}, all", "s", [crowd.seconds for crowd in those]))
        rows += [Row(f"{name}, p{at}", "s", [crowd.at(at) for crowd in those]) for at in (50, 99)]
        wrong += sum(caller.code != 0 for crowd in those for caller in crowd.callers)
    totals = {row.name: middle(row.values) for row in rows}
    for name in names[:2]:
        ratio = totals[f"{name}, all"] / totals[f"{peer}, all"]
        aims.append(Aim(f"{name} / {peer}", ratio, 0.6))
    aims.append(Aim("callers that failed or timed out", wrong, 0, ""))
    return Result(rows, aims)


def statuses(lab: Lab) -> Result:
    ledgers: list[tuple[str, Callable[[Path], status.Writer]]] = [
        ("10k records", lambda at: status.one_open_run(at, 10_000)),
        ("100k records", lambda at: status.one_open_run(at, 100_000)),
        ("1M records", lambda at: status.one_open_run(at, 1_000_000)),
        ("20,000 finished runs", lambda at: status.many_finished(at, 20_000)),
    ]
    limits = {"unchanged": 15.0, "snapshot and tail": 100.0, "no snapshot": 2_000.0}
    rows, aims = [], []
    for place, (name, written) in enumerate(ledgers):
        writer = written(lab.work / "status" / str(place))
        for kind, values in status.answers(writer, lab.times(7), lab.times(3)).items():
            rows.append(Row(f"{name}, {kind}", "ms", values))
            aims.append(Aim(f"{name}, {kind}", middle(values), limits[kind], " ms"))
        writer.ledger.close()
    return Result(rows, aims)


def appended(lab: Lab) -> Result:
    rows, aims = [], []
    for batch, share in ((1, 0.9), (8, 0.9), (64, 0.75), (512, 0.45)):
        pairs = [
            append.alone(lab.work / "append" / f"{batch}-{turn}", batch)
            for turn in range(lab.times(9))
        ]
        name = f"one process, {batch} at once"
        rows.append(Row(f"{name}, write + fdatasync", "rec/s", [raw for raw, _ in pairs]))
        rows.append(Row(f"{name}, ledger", "rec/s", [ours for _, ours in pairs]))
        aims.append(
            Aim(f"{name}: raw / ledger", middle([a / b for a, b in pairs]), round(1 / share, 2))
        )
    for processes in (8, 64, 512):
        crowds = [
            append.together(lab.work / "append" / f"p{processes}-{turn}", processes, turn)
            for turn in range(lab.times(5))
        ]
        name = f"{processes} processes, a record each"
        for side, who in enumerate(("flock + group commit", "ledger")):
            ends = [crowd[side] for crowd in crowds]
            rows.append(Row(f"{name}, {who}", "rec/s", [processes / one[-1] for one in ends]))
            late = [one[int(0.99 * (processes - 1))] * 1000 for one in ends]
            rows.append(Row(f"{name}, {who}, p99", "ms", late))
        ratio = middle([ours[-1] / bare[-1] for bare, ours in crowds])
        aims.append(Aim(f"{name}: bare / ledger", ratio, round(1 / 0.9, 2)))
    return Result(rows, aims)


def waited(lab: Lab) -> Result:
    place = lab.work / "waits"
    ledgers = {
        tasks: waits.finished_runs(place / str(tasks), tasks)
        for tasks in (waits.TASKS, waits.FEW_TASKS)
    }
    rows, aims = [], []
    for number, case in enumerate(waits.CASES):
        those = [
            waits.measured(case, ledgers[case.tasks], place / f"{number}-{turn}")
            for turn in range(lab.times(2))
        ]
        rows.append(Row(f"{case.name}: it takes", "ms", [one.seconds * 1000 for one in those]))
        longest = []
        for side in ("beside", "without"):
            spans = [getattr(one, side) for one in those]
            rows.append(Row(f"{case.name}, {side}, p99", "ms", [waits.at(x, 99) for x in spans]))
            rows.append(Row(f"{case.name}, {side}, longest", "ms", [x[-1] for x in spans]))
            longest.append(max(x[-1] for x in spans))
        beside, without = longest
        aims.append(Aim(f"{case.name}: what it adds to the longest", beside - without, 50.0, " ms"))
    return Result(rows, aims)


def readers(lab: Lab) -> Result:
    rows, aims = [], []
    for name in usage.CASES:
        row = Row(
            name, "MB/s", [usage.speed(lab.work / "usage", name) for _ in range(lab.times(7))]
        )
        rows.append(row)
        aims.append(Aim(f"50 MB/s / {name}", 50 / middle(row.values), 1.0))
    return Result(rows, aims)


def redacted(lab: Lab) -> Result:
    rows, aims = [], []
    for way, aim, kinds in (
        (redacting.by_the_runtime, 25, redacting.KINDS),
        (redacting.by_the_manager, 200, redacting.KINDS[:2]),
    ):
        name = way.__name__.removeprefix("by_").replace("_", " ")
        for kind in kinds:
            values = [way(kind) for _ in range(lab.times(3))]
            rows.append(Row(f"{name}: {kind}", "MB/s", values))
            if kind in redacting.KINDS[:2]:
                aims.append(Aim(f"{aim} MB/s / {rows[-1].name}", aim / middle(values), 1.0))
    rows += [Row(f"tried: {name}", "MB/s", [value]) for name, value in redacting.ways().items()]
    return Result(rows, aims)


def worktrees(lab: Lab) -> Result:
    found = worktree.pairs(lab.work / "worktree", lab.times(5), 4)
    rows = [
        Row("git worktree add + remove", "ms", [alone * 1000 for alone, _ in found]),
        Row("isolation, its patch and removal", "ms", [ours * 1000 for _, ours in found]),
    ]
    ratio = middle(rows[1].values) / middle(rows[0].values)
    return Result(rows, [Aim("isolation / git", ratio, 1.2)])


def confined(lab: Lab) -> Result:
    found = boxes.rounds(lab.work / "boxes", lab.times(41))
    rows = [Row(name, "ms", [one * 1000 for one in values]) for name, values in found.items()]
    ratio = middle(rows[1].values) / middle(rows[0].values)
    return Result(rows, [Aim(f"{rows[1].name} / {rows[0].name}", ratio, 1.2)])


def other_machines(lab: Lab) -> Result:
    found = hosts.measured(lab.work / "hosts", lab.times(3))
    rows = [Row(name, unit, values) for (name, unit), values in found.items()]
    return Result(rows, [Aim(*one) for one in hosts.ratios(found)])


def task_side(lab: Lab) -> Result:
    found = asks.asked(lab.work / "asks", lab.times(41))
    rows = [Row(name, "ms", [one * 1000 for one in values]) for name, values in found.items()]
    bare = middle(rows[0].values)
    aims = [Aim(f"{row.name} / {rows[0].name}", middle(row.values) / bare, 2.5) for row in rows[1:]]
    return Result(rows, aims)


def alerted(lab: Lab) -> Result:
    place = lab.work / "alerts"
    first = [alerting.seconds_to_first(place / f"first-{n}") for n in range(lab.times(5))]
    crowds = [alerting.messages_of(place / f"crowd-{n}", 1_000) for n in range(lab.times(2))]
    rows = [
        Row("from the record of a failure to its message", "s", first),
        Row("messages for 1,000 failures and waits", "", [float(count) for count in crowds]),
    ]
    aims = [
        Aim("until the first message", max(first), 1.0, " s"),
        Aim("messages for 1,000 events in 10 s", float(max(crowds)), 10.0, ""),
    ]
    return Result(rows, aims)


@dataclass(frozen=True)
class Figure:
    name: str
    title: str
    measure: Callable[[Lab], Result]


FIGURES = [
    Figure("cold", "One `true` in a fresh directory, from the command to its exit", cold),
    Figure("run1k", "1,000 × `true`, four at once", run1k),
    Figure("run10k", "10,000 × `true`, four at once", run10k),
    Figure("growth", "Time a task as runs grow", growth),
    Figure(
        "memory",
        "Peak memory of a run's processes (manager, runtime, keeper); what two share counts twice",
        memory,
    ),
    Figure(
        "callers",
        "500 processes let go at once on a fleet that works on 200 tasks: `fleet status --json`, "
        "then `fleet interrupt RUN/TASK` of a queued task each",
        five_hundred,
    ),
    Figure(
        "status",
        "`fleet status --json` over long ledgers, above a Python that does nothing: one open run "
        "whose tasks have passed, and many finished runs",
        statuses,
    ),
    Figure(
        "append",
        "Records made durable, against the same bytes by system calls alone",
        appended,
    ),
    Figure(
        "waits",
        "What writers wait for a durable record, each 10 ms after the one before, beside a "
        "rotation and a compaction of 100,000 records of 20 finished runs, and as long without; "
        "with all processors kept busy, of 4,000 records, at the lowest priority",
        waited,
    ),
    Figure("usage", "Streams of agents read for what they used, one core", readers),
    Figure(
        "redaction",
        "50 secret values taken out of 8 MiB that tasks write, one core; the runtime has the "
        "standard library only, the manager RE2",
        redacted,
    ),
    Figure("asks", "A command that a running task calls, each a process of its own", task_side),
    Figure("worktree", "A worktree of its own for an attempt, 5,000 files", worktrees),
    Figure(
        "alerts",
        "How soon the receiver of an alert has it, by https on loopback, and how many messages "
        "1,000 events within ten seconds give",
        alerted,
    ),
    Figure("ssh", "Work by ssh, on host names of one private sshd on loopback", other_machines),
    Figure("sandbox", "One confined `true`, by a warm runtime", confined),
    Figure("resume", "From `fleet resume` to the first new attempt, its manager killed", resumed),
]
