"""What the ledger says of workers, as conversations: facts, drains, retirements, what they hold."""

import pytest
from msgspec import Raw

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.decide import Known
from codewhale_fleet.core.load import place_of, run_of
from codewhale_fleet.core.workers import in_lines
from codewhale_fleet.errors import Refused

from .playbook import Playbook

NO_ROUTE = e.Receipt(result="fail", source="transport", reason="web1: no route")


def facts(worker: str = "web1", **other: object) -> c.EnrolWorker:
    said = {"slots": 1, "host": "h1", "boot": "b1", "cores": 4, **other}
    return c.EnrolWorker(enrolled=e.WorkerEnrolled(worker=worker, **said))  # type: ignore[arg-type]


def a_run(book: Playbook, *tasks: str, workers: str = "web1 web2", name: str = "r") -> None:
    """A run with workers whose tasks nobody has placed."""
    made = {one: Raw(b'{"id":"%b","name":"x"}' % one.encode()) for one in workers.split()}
    created = e.RunCreated(
        name=name, digest="", max_workers=2, workspace="/w", workers=made, spread=True
    )
    book.ask(c.CreateRun(run=name, created=created))
    raws = tuple(b'{"id":"%b"}' % task.encode() for task in tasks)
    book.ask(c.AddTasks(run=name, tasks=raws))
    book.ask(c.StartRun(run=name, count=len(tasks)))


def place(book: Playbook, task: str, slot: str, run: str = "r", **holds: object) -> None:
    command = c.Place(run=run, task=task, worker=slot, boot="b1", why="", **holds)  # type: ignore[arg-type]
    assert isinstance(book.ask(command), e.AttemptDispatched)


def test_the_worker_of_a_slot_and_its_run_are_told_from_its_name() -> None:
    assert place_of("deploy-7k3f2a", "deploy-7k3f2a-web-01.x-12") == "web-01.x"
    assert place_of("r", "r-local-1") == "local"
    runs = {"a-b", "a-b-c"}
    assert run_of("a-b-c-local-1", runs) == "a-b-c"
    assert run_of("a-b-local-1", runs) == "a-b"
    assert run_of("build-box", runs) == run_of("x-local-1", runs) == ""


def test_facts_are_recorded_once_a_day_and_whenever_they_are_new() -> None:
    book = Playbook()
    assert isinstance(book.ask(facts()), e.WorkerEnrolled)
    assert isinstance(book.ask(facts()), Known)
    assert isinstance(book.ask(facts(cores=8)), e.WorkerEnrolled)
    assert book.state.workers["web1"].cores == 8
    assert isinstance(book.later(3600).ask(facts(cores=8)), Known)
    assert isinstance(book.later(86_400).ask(facts(cores=8)), e.WorkerEnrolled)
    assert book.state.boot == ""  # it is not this machine's


def test_what_can_not_be_reached_is_said_once_until_it_is_reached_or_a_person_is_needed() -> None:
    book = Playbook()
    gone = c.ReportUnreachable(worker="web1", why="no route")
    changed = c.ReportUnreachable(worker="web1", why="another host key", final=True)
    book.ask(facts())
    assert isinstance(book.ask(gone), e.WorkerUnreachable)
    assert isinstance(book.ask(c.ReportUnreachable(worker="web1", why="refused")), Known)
    row = book.state.workers["web1"]
    assert (row.unreachable, row.unreachable_ts) == ("no route", book.ts())
    assert isinstance(book.ask(facts()), e.WorkerEnrolled)
    assert row.unreachable == ""
    assert isinstance(book.ask(gone), e.WorkerUnreachable)
    began = book.ts()
    assert isinstance(book.later(9).ask(changed), e.WorkerUnreachable)
    assert isinstance(book.ask(changed), Known)
    assert (row.unreachable, row.unreachable_ts) == ("another host key", began)


def test_who_is_retired_comes_back_when_it_is_registered_again() -> None:
    book = Playbook()
    register = c.Register(worker="web1", definition=b'{"id":"web1"}', origin="fleet worker add")
    book.ask(register)
    row = book.state.workers["web1"]
    assert row.registered and isinstance(book.ask(register), Known)
    book.ask(c.Drain(worker="web1", reason="new disk"))
    assert row.draining and isinstance(book.ask(c.Drain(worker="web1")), Known)
    book.ask(c.Drain(worker="web1", on=False))
    assert not row.draining and row.drain_reason == ""
    book.ask(c.Retire(worker="web1", reason="sold"))
    assert (row.retired, row.registered) == (True, False)
    assert isinstance(book.ask(c.Retire(worker="web1")), Known)
    book.ask(register)
    assert (row.retired, row.registered) == (False, True)


def test_a_worker_holds_what_attempts_of_all_runs_hold() -> None:
    book = Playbook()
    a_run(book, "a", "b", "c")
    a_run(book, "a", workers="web1", name="s")
    place(book, "a", "r-web1-1", cores=2, memory_mb=100, gpus=(0, 2))
    place(book, "b", "r-web1-1")
    place(book, "a", "s-web1-1", run="s", cores=1)
    row = book.state.workers["web1"]
    assert (row.load, row.busy, row.cores_taken, row.memory_taken) == (3, 2, 3, 100)
    assert row.gpus_taken == 0b101
    book.ended("r/a@1")
    assert (row.load, row.busy, row.cores_taken, row.gpus_taken) == (2, 2, 1, 0)
    lost = c.ReportLost(attempt="s/a@1", why="gone", receipt=NO_ROUTE)
    book.ask(lost)
    book.ended("r/b@1")
    assert (row.load, row.busy, row.cores_taken) == (0, 0, 0)


def test_definitions_that_many_runs_share_are_kept_once() -> None:
    book = Playbook()
    a_run(book, "a")
    a_run(book, "a", name="s")
    runs = book.state.runs
    assert runs["r"].workers["web1"] is runs["s"].workers["web1"]


def test_tasks_that_no_worker_could_be_given_fail_with_the_receipt_that_says_why() -> None:
    book = Playbook()
    a_run(book, "a", "b", "c")
    place(book, "c", "r-web1-1")
    event = book.ask(c.Unplaced(run="r", tasks=("a", "b", "c"), receipt=NO_ROUTE))
    assert isinstance(event, e.TaskUnplaced) and event.tasks == ["a", "b"]
    assert isinstance(book.ask(c.Unplaced(run="r", tasks=("a",), receipt=NO_ROUTE)), Known)
    task = book.task("a")
    assert (task.status, task.source, task.reason, task.attempt) == (
        "failed", "transport", "web1: no route", 0,
    )  # fmt: skip
    assert book.state.runs["r"].sources == {"transport": 2}
    book.ended("r/c@1")
    assert isinstance(book.ask(c.FinishRun(run="r", seconds=1.0)), e.RunFinished)
    book.ask(c.ResumeRun(run="r", failed=True))
    assert (task.status, task.source, task.reason) == ("queued", "", "")


def test_beats_of_a_run_are_forgotten_at_its_end_wherever_its_slots_were() -> None:
    book = Playbook()
    a_run(book, "a")
    place(book, "a", "r-web1-1")
    book.ask(c.ReportBeat(workers=("r-web1-1", "r-x-web1-1", "other-web1-1")))
    book.ended("r/a@1")
    book.ask(c.FinishRun(run="r", seconds=1.0))
    assert sorted(book.state.beats) == ["other-web1-1", "r-x-web1-1"]


def test_an_inventory_comes_in_parts_and_the_first_begins_anew() -> None:
    book = Playbook()
    for part, worker in ((0, "a"), (1, "b")):
        book.ask(c.Discovered(name="cloud", digest="d", workers={worker: b"{}"}, part=part))
    found = book.state.inventories["cloud"]
    assert (sorted(found.workers), found.digest, found.ts) == (["a", "b"], "d", book.ts())
    book.later(9).ask(c.Discovered(name="cloud", digest="d", workers={}))
    assert book.state.inventories["cloud"].workers == {}


def test_workers_are_added_to_a_draft_only_and_as_many_a_line_as_it_takes() -> None:
    many = {f"w{number}": b"x" * 1000 for number in range(300)}
    parts = list(in_lines(many))
    assert [name for part in parts for name in part] == list(many)
    assert all(sum(map(len, part.values())) < 130_000 for part in parts)
    book = Playbook()
    a_run(book, "a")
    with pytest.raises(Refused):
        book.ask(c.AddWorkers(run="r", workers={"web3": b"{}"}))
    created = e.RunCreated(name="s", digest="", max_workers=2, workspace="/w")
    book.ask(c.CreateRun(run="s", created=created))
    book.ask(c.AddWorkers(run="s", workers={"web3": b"{}"}))
    assert book.state.runs["s"].workers == {"web3": b"{}"}
