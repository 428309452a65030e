"""A status that makes no rows says what a status from the whole state says."""

import random
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.placement import due
from codewhale_fleet.core.tally import KEPT_RUNS, Unknown, is_partial
from codewhale_fleet.errors import Refused
from codewhale_fleet.ledger import reader, snapshot, stretches
from codewhale_fleet.ledger.glance import Glance
from codewhale_fleet.ledger.reader import Reader
from codewhale_fleet.ledger.store import Ledger, Transaction
from codewhale_fleet.views.status import LISTED_RUNS, status

from .builders import ALERTS, FAIL, PASS, a_ledger, a_run, alert_step, an_attempt

WAITS = e.Receipt(result="partial", source="human", scorer="manual", reason="look at it")
TASKS = tuple(
    b'{"id":"t%d","command":"true"%b}' % (number, more)
    for number in range(40)
    for more in [
        b',"retry_policy":{"max_attempts":2,"initial_backoff_seconds":1,"retry_on":["task"]}'
        if number % 3 == 0
        else b""
    ]
)


def answer(ledger: Reader) -> dict[str, Any]:
    return status(ledger.state, alive=True, now=ledger.clock(), rest=ledger.rest)


def glance(folder: Path, now: float = 0.0) -> dict[str, Any] | None:
    try:
        with Glance.open(folder) as found:
            found.clock = lambda: now
            return answer(found)
    except Unknown:
        return None


class Play:
    """A fleet to which things happen by chance."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.chance = chance
        self.ledger = Ledger.open(folder, create=True)
        self.now = 1.0
        self.ledger.clock = lambda: self.now
        self.facts = 0
        self.runs: list[str] = []

    def begin(self) -> None:
        name = f"r{len(self.runs)}"
        self.runs.append(name)
        with self.ledger.transaction("test") as one:
            created = e.RunCreated(
                name=name,
                digest="d",
                max_workers=3,
                workspace="/w",
                alerts=self.chance.choice((ALERTS, Raw(b"{}"))),
            )
            one.submit(c.CreateRun(run=name, created=created))
            for part in (TASKS[:25], TASKS[25:]):
                one.submit(c.AddTasks(run=name, tasks=part))
            if self.chance.random() < 0.9:
                one.submit(c.StartRun(run=name, count=len(TASKS)))
                slots = e.WorkerEnrolled(slots=3, host="h", boot="b", cores=2)
                one.submit(c.Enrol(run=name, enrolled=slots))

    def end(self, transaction: Transaction, attempt: str) -> None:
        receipt = self.chance.choices([PASS, FAIL, WAITS], [8, 2, 1])[0]
        self.facts += 1
        run, worker = attempt.partition("/")[0], f"{attempt.partition('/')[0]}-local-1"
        ended = e.AttemptEnded(
            attempt=attempt,
            worker=worker,
            src=("rt", self.facts),
            seconds=self.chance.random(),
            receipt=receipt,
            exit=0,
        )
        assert run in transaction.state.runs
        transaction.submit(c.ReportEnded(ended=ended, jitter=0.0))

    def work(self, transaction: Transaction, run: str) -> None:
        known = transaction.state.runs[run]
        for command in due(known, "b", transaction.now):
            transaction.submit(command)
        for attempt in list(known.flights):
            if self.chance.random() < 0.8:
                self.end(transaction, attempt)
            elif self.chance.random() < 0.3:
                self.facts += 1
                transaction.submit(
                    c.ReportStarted(
                        attempt=attempt,
                        worker=f"{run}-local-2",
                        pid=7,
                        src=("rt", self.facts),
                        since=0.0,
                    )
                )

    def meddle(self, transaction: Transaction, run: str) -> None:
        task = f"t{self.chance.randrange(len(TASKS))}"
        name = self.chance.choice(["restart", "interrupt", "stop", "resume", "pause", "finish"])
        command: c.Command = {
            "restart": c.Restart(run=run, tasks=(task,), reason="again"),
            "interrupt": c.Interrupt(run=run, tasks=(task,), reason="enough"),
            "stop": c.StopRun(run=run, reason="stop", source="human", interrupt=False),
            "resume": c.ResumeRun(run=run, failed=self.chance.random() < 0.5),
            "pause": c.PauseRun(run=run, reason="wait"),
            "finish": c.FinishRun(run=run, seconds=1.0),
        }[name]
        try:
            transaction.submit(command)
        except Refused:
            pass

    def step(self) -> None:
        self.now += self.chance.choice((0.0, 1.0, 400.0))
        if not self.runs or self.chance.random() < 0.03:
            self.begin()
        run = self.chance.choice(self.runs)
        with self.ledger.transaction("test") as one:
            if self.chance.random() < 0.08:
                self.meddle(one, run)
            else:
                self.work(one, run)
            alert_step(one, self.chance)


@pytest.mark.parametrize(
    "seed", [*range(8), *(pytest.param(n, marks=pytest.mark.slow) for n in range(8, 25))]
)
def test_a_glance_says_what_the_whole_state_says(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(stretches, "LEAST", chance.choice((1, 4)))
    monkeypatch.setattr(reader, "SNAPSHOT_AFTER", chance.choice((0, 60)))
    folder = tmp_path / ".fleet"
    play = Play(folder, chance)
    seen = 0
    for _ in range(80):
        play.step()
        if chance.random() < 0.3:
            play.ledger.sync()
            found = glance(folder, play.now)
            if found is None:
                (folder / snapshot.BRIEF).unlink(missing_ok=True)
            else:
                seen += 1
                assert found == answer(play.ledger)
    assert seen > 3
    play.ledger.close()


def test_plain_passes_get_no_rows(tmp_path: Path) -> None:
    with a_ledger(tmp_path, runs=0) as ledger:
        with ledger.transaction("test") as one:
            a_run(one, "open", 100)
            for number in range(60):
                an_attempt(one, "open", f"t{number}", number + 1)
            an_attempt(one, "open", "t70", 70, FAIL)
        ledger.sync()
        with Glance.open(ledger.dir) as found:
            run = found.state.runs["open"]
            assert is_partial(run)
            assert list(run.tasks) == ["t70"]
            assert answer(found)["counts"] == answer(ledger)["counts"]


def test_old_finished_runs_are_summed_up_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "SNAPSHOT_AFTER", 0)
    with a_ledger(tmp_path, runs=KEPT_RUNS + 30) as ledger:
        ledger.clock = lambda: 0.0
        for kept in (KEPT_RUNS + 30, KEPT_RUNS):
            with Glance.open(ledger.dir) as found:
                found.clock = lambda: 0.0
                assert len(found.state.runs) == kept
                assert answer(found) == answer(ledger)


def test_a_record_about_a_run_that_was_summed_up_asks_for_the_whole_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "SNAPSHOT_AFTER", 0)
    with a_ledger(tmp_path, runs=KEPT_RUNS + 1) as ledger:
        Glance.open(ledger.dir).close()
        with ledger.transaction("test") as one:
            one.submit(c.Restart(run="r0", tasks=("t0",), reason="again"))
        ledger.sync()
        with pytest.raises(Unknown):
            Glance.open(ledger.dir)


def test_the_runs_that_a_status_names_are_kept_one_by_one() -> None:
    assert KEPT_RUNS >= LISTED_RUNS


def test_a_brief_that_was_cut_or_altered_is_as_good_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "SNAPSHOT_AFTER", 0)
    with a_ledger(tmp_path, runs=3) as ledger:
        ledger.clock = lambda: 0.0
        Glance.open(ledger.dir).close()
        path = ledger.dir / snapshot.BRIEF
        whole = path.read_bytes()
        wrongs = [whole[:-1], b"", whole[: len(whole) // 2]]
        wrongs += [
            whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 9)
        ]
        for wrong in wrongs:
            path.write_bytes(wrong)
            assert glance(ledger.dir) == answer(ledger)
