"""The rows of a finished run, which are not kept in memory: let go, and read again when asked for.

`records` finds the records of one run, or of all, between two places in the files, by their bytes
before anything is decoded; `hydrated` folds those of a run. A file may have been put in place of
another meanwhile, without the run's detail: `is_whole` tells whether anything is missing.
"""

import os
from collections import Counter
from collections.abc import Iterator

from ..core.events import Envelope, Event
from ..core.evolve import evolve
from ..core.state import Run, State
from .record import BLOCK, decode_head, payload_of
from .segments import Address, Segments
from .skim import SUMMARY


def shed(run: Run) -> None:
    """Drop the rows of a finished run; what is left is its summary."""
    run.tasks, run.order, run.ready, run.timers = {}, [], [], []
    run.flights, run.load, run.crowd, run.claims, run.parked = {}, {}, [], {}, {}
    run.behind, run.open, run.mean = {}, 0, 0.0
    run.questions, run.data = {}, {}
    if run.alerts is not None:
        run.alerts = run.alerts.shed()


def is_shed(run: Run) -> bool:
    """Whether a run had rows that are not in memory."""
    return run.status == "finished" and not run.tasks and any(run.counts.values())


def is_whole(run: Run) -> bool:
    """Whether the rows of a finished run are what it had come to, with none that is gone."""
    counts = Counter(task.status for task in run.order)
    sources = Counter(task.source for task in run.order if task.status == "failed")
    return counts == Counter(run.counts) and sources == Counter(run.sources)


def hydrated(files: Segments, run: Run, last: int) -> Run:
    """The run with all its rows, folded again from its extent in the files, up to record `last`."""
    state = State()
    for head, event in records(files, run.opened_at, run.closed_at, run=run.id, containing=None):
        if head.seq <= last:
            evolve(state, head, event)
    full = state.runs[run.id]
    full.opened_at, full.closed_at = run.opened_at, run.closed_at
    full.compacted = run.compacted or full.compacted
    full.workspace = run.workspace  # elsewhere now, if the directory was renamed
    if run.alerts is not None and full.alerts is not None:
        full.alerts = run.alerts.opened(full.alerts)
    return full


def records(
    files: Segments,
    start: Address,
    stop: Address,
    *,
    run: str | None,
    containing: bytes | None,
) -> Iterator[tuple[Envelope, Event]]:
    """Records from address `start` up to `stop`, of one run, of lines that contain some bytes.

    Lines are found by their bytes before anything is decoded. Those that sum a named run up come
    whatever they contain: in the same pass, as the file may be another one a moment later.
    """
    needles = [needle for needle in (containing, _of_run(run)) if needle]
    sums = [SUMMARY, *needles[1:]] if run and containing else []
    for _, descriptor, begin, end in files.extents(start, stop):
        offset = begin
        while offset < end:
            block = os.pread(descriptor, min(BLOCK, end - offset), offset)
            size = block.rfind(b"\n") + 1
            if size == 0:
                break
            for line in _lines(block, size, needles):
                head = decode_head(line)
                if run is None or (head.run == run and not (sums and line.startswith(SUMMARY))):
                    yield head, payload_of(head)
            for line in _lines(block, size, sums) if sums and SUMMARY in block else ():
                head = decode_head(line)
                if head.run == run:
                    yield head, payload_of(head)
            offset += size


def _of_run(run: str | None) -> bytes | None:
    return b'"run":"%b"' % run.encode() if run else None


def _lines(block: bytes, size: int, needles: list[bytes]) -> Iterator[bytes]:
    """The block's complete lines that contain all needles."""
    if not needles:
        yield from block[: size - 1].split(b"\n")
        return
    first, *others = needles
    place = block.find(first, 0, size)
    while place >= 0:
        begin = block.rfind(b"\n", 0, place) + 1
        end = block.find(b"\n", place, size)
        line = block[begin:end]
        if all(needle in line for needle in others):
            yield line
        place = block.find(first, end, size)
