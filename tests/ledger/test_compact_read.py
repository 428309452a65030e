"""Readers that a compaction catches in the middle of their work."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.events import Envelope, Event
from codewhale_fleet.ledger.compact import Compaction
from codewhale_fleet.ledger.segments import Segments
from codewhale_fleet.ledger.store import Ledger

from .builders import an_attempt, beat
from .test_compact import LATER, compact, facts, judgements, wide

OPENINGS = 8
"""How many files a load of `wide` opens: four to look at the ends of runs, the rest to fold."""


class Enough(Exception):
    """The compaction is to be caught half-way itself."""


def compact_some(ledger: Ledger, segments: int) -> None:
    """Compact the newest so many segments."""
    left = [segments]

    def step(name: str) -> None:
        left[0] -= name == "synced"
        if left[0] == 0:
            raise Enough

    with pytest.MonkeyPatch().context() as patch:
        patch.setattr(Compaction, "at_step", staticmethod(step))
        with pytest.raises(Enough):
            compact(ledger)


def caught(folder: Path, opening: int, meanwhile: Callable[[], None]) -> tuple[Ledger, int]:
    """A reader that loads, and before whose n-th opening of a file something happens; how many
    openings there were."""
    opened = Segments.open
    count = [0]

    def counted(files: Segments, number: int) -> tuple[int, bool]:
        count[0] += 1
        if count[0] == opening:
            patch.undo()
            meanwhile()
            patch.setattr(Segments, "open", counted)
        return opened(files, number)

    with pytest.MonkeyPatch().context() as patch:
        patch.setattr(Segments, "open", counted)
        reader = Ledger.open(folder)
    return reader, count[0]


@pytest.mark.parametrize("segments", (1, 2, 3))
@pytest.mark.parametrize("opening", range(1, OPENINGS + 1))
def test_files_may_be_replaced_between_any_two_looks(
    tmp_path: Path, opening: int, segments: int
) -> None:
    ledger = wide(tmp_path)
    before, told = facts(ledger), judgements(ledger)
    reader, openings = caught(ledger.dir, opening, lambda: compact_some(ledger, segments))
    assert openings >= opening
    assert not reader.state.runs["wide"].tasks, "rows of finished runs were passed over"
    assert facts(reader) == before
    assert judgements(reader) == told
    reader.refresh()
    assert facts(reader) == before
    if segments == 3:
        assert compact(ledger) == []


def ended(ledger: Ledger, run: str, task: str, fact: int) -> None:
    """The run's last task ends, the run with it, and all of it is sealed and compacted."""
    with ledger.transaction("test") as transaction:
        an_attempt(transaction, run, task, fact)
        transaction.submit(c.FinishRun(run=run, seconds=3.0))
    assert ledger.rotate_if_due(1)
    assert compact(ledger)


@pytest.mark.parametrize("opening", range(1, OPENINGS + 1))
def test_a_run_may_end_and_be_compacted_while_its_beginning_is_read(
    tmp_path: Path, opening: int
) -> None:
    ledger = wide(tmp_path)
    reader, openings = caught(ledger.dir, opening, lambda: ended(ledger, "open", "t3", 90))
    assert openings >= opening
    assert facts(reader) == facts(ledger), "what was dropped for an end is read with that end"
    reader.refresh()
    assert facts(reader) == facts(ledger)
    assert judgements(reader) == judgements(ledger)


def again(ledger: Ledger) -> None:
    """A run that had ended goes on, ends once more, and is compacted."""
    with ledger.transaction("test") as transaction:
        transaction.submit(c.ResumeRun(run="r0", failed=True))
    beat(ledger, 3)
    ended(ledger, "r0", "t1", 91)


def test_a_reader_with_the_old_file_needs_no_rows_that_are_gone(tmp_path: Path) -> None:
    ledger = wide(tmp_path)
    reader = Ledger.open(ledger.dir)
    heard: list[tuple[Envelope, Event]] = []
    reader.listener = lambda head, event: heard.append((head, event))
    began = reader.seq
    again(ledger)
    reader.refresh()
    assert facts(reader) == facts(ledger)
    assert judgements(reader) == judgements(ledger)
    told = [(head.seq, head.k) for head, _ in heard]
    assert told == [(head.seq, head.k) for head, _ in ledger.records() if head.seq > began]
    kinds = [type(event) for _, event in heard]
    assert kinds.count(e.RunResumed) == kinds.count(e.RunFinished) == 1
    assert kinds.count(e.LedgerCompacted) == 4


def test_a_writer_with_the_old_file_goes_on_as_well(tmp_path: Path) -> None:
    ledger = wide(tmp_path)
    writer = Ledger.open(ledger.dir)
    again(ledger)
    beat(writer)
    writer.sync()
    ledger.refresh()
    assert facts(writer) == facts(ledger)


def test_rows_that_are_asked_for_are_those_of_the_newest_end(tmp_path: Path) -> None:
    ledger = wide(tmp_path)
    reader = Ledger.open(ledger.dir)
    again(ledger)
    rows = reader.hydrate("r0").order
    assert [(task.id, task.result, task.attempt) for task in rows] == [
        ("t0", "pass", 1),
        ("t1", "pass", 2),
    ]
    assert rows[1].restarts == 1


def test_nobody_is_nice_but_who_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = wide(tmp_path)
    seen: set[tuple[str, str, int]] = set()

    def told(name: str) -> None:
        call = getattr(os, name)

        def noted(descriptor: int, *args: Any) -> Any:
            what = Path(f"/proc/self/fd/{descriptor}").readlink()
            nice = os.getpriority(os.PRIO_PROCESS, 0)
            seen.add((name, what.suffix or what.name, nice))
            return call(descriptor, *args)

        monkeypatch.setattr(os, name, noted)

    for name in ("fsync", "fdatasync", "pread", "write"):
        told(name)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert len(Compaction(ledger, LATER, niceness=5).run()) == 3
    assert ("pread", ".jsonl", min(own + 5, 19)) in seen
    assert {one for one in seen if one[0] != "pread"} == {
        ("write", ".compacting", own),
        ("fsync", ".compacting", own),
        ("write", ".jsonl", own),
        ("fdatasync", ".jsonl", own),
        ("fsync", "segments", own),
    }
    assert os.getpriority(os.PRIO_PROCESS, 0) == own
