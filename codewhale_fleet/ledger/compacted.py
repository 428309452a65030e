"""Reading a compacted segment into the state.

Such a file bears a chain of its own from its heading on, and numbers with gaps; what follows it
goes on from the chain value that its heading states. It is read in one go: whoever is done with it
stands at its end. Rows of runs that finish further on are passed over, as in any other file.
"""

import os
from collections import Counter

from ..core.events import (
    Envelope,
    LedgerCompacted,
    RunCreated,
    RunFinished,
    RunResumed,
    RunStopped,
    TaskQueued,
)
from ..core.evolve import evolve
from ..core.state import Run, State
from .fold import (
    Broken,
    Contradiction,
    Finishes,
    Listener,
    finishes_in,
    hydrated,
    is_shed,
    shed,
)
from .record import BLOCK, Position, decode_head, follow_chain, newer, payload_of
from .segments import Address, Segments
from .skim import ATTEMPT, DETAIL, SUMMARY, run_in, see_sources


def fold_compacted(
    files: Segments,
    descriptor: int,
    state: State,
    at: Position,
    header: LedgerCompacted,
    *,
    limit: int | None,
    finishes: Finishes | None,
    listener: Listener | None,
) -> None:
    """Take the whole file into the state; arguments as for `fold`. Raises Broken."""
    folding = _Folding(files, descriptor, state, at, finishes, listener)
    while folding.block(limit):
        pass
    for runtime, number in header.cursors.items():
        state.cursors[runtime] = max(number, state.cursors.get(runtime, 0))
    state.latest = max(state.latest, header.latest)
    at.seq, at.chain = header.last, int(header.chain, 16)
    if limit is not None and limit < header.last:
        at.seq = limit
    state.seq = at.seq


class _Folding:
    """One pass over one compacted file."""

    def __init__(
        self,
        files: Segments,
        descriptor: int,
        state: State,
        at: Position,
        finishes: Finishes | None,
        listener: Listener | None,
    ) -> None:
        self.files, self.descriptor, self.state, self.at = files, descriptor, state, at
        self.listener = listener
        self.fresh = finishes is not None
        # Where runs finish in here is looked up anew: it may have been another file a moment ago.
        own: Finishes = {}
        finishes_in(descriptor, at.segment, 0, None, own)
        others = {run: end for run, end in (finishes or {}).items() if end[0] > at.segment}
        self.ends: Finishes = {**own, **others} if self.fresh else {}

    def block(self, limit: int | None) -> bool:
        """Fold one block; False at the end of the file."""
        at = self.at
        block = os.pread(self.descriptor, BLOCK, at.offset)
        end = block.rfind(b"\n") + 1
        if end == 0:
            if block:
                raise Broken(at, "its last record is not whole")
            return False
        lines = block[:end].split(b"\n")
        lines.pop()
        good, chain = follow_chain(lines, at.chain)
        passed: list[bytes] = []
        for index in range(good):
            line = lines[index]
            if at.offset == 0:
                pass  # the heading
            elif self.is_detail(line, (at.segment, at.offset)):
                passed.append(line)
            else:
                self.take(line, limit)
            at.offset += len(line) + 1
        if passed:
            attempts = [line for line in passed if line.startswith(ATTEMPT)]
            see_sources(b"\n".join(attempts), attempts, self.state.cursors)
        if good < len(lines):
            raise Broken(at, "a record of it does not follow from the one before")
        at.chain = chain
        return True

    def is_detail(self, line: bytes, here: Address) -> bool:
        """Whether it only says something about the rows of a run that finishes further on."""
        if not self.ends or not line.startswith((*DETAIL, SUMMARY)):
            return False
        return self.ends.get(run_in(line), (0, 0)) > here

    def take(self, line: bytes, limit: int | None) -> None:
        """Take one line into the state, and note where runs begin and end."""
        at, state = self.at, self.state
        try:
            head = decode_head(line)
        except ValueError as error:
            raise newer(f"the head of a record after {at.seq:,} can't be read") from error
        if limit is not None and head.seq > limit:
            return
        event = payload_of(head)
        kind = type(event)
        try:
            if kind is RunResumed or kind is TaskQueued:
                self.reopen(head)
            if kind is RunResumed or kind is RunStopped:
                _let_go(state.runs[head.run])
            evolve(state, head, event)
        except (LookupError, ValueError) as error:
            raise Contradiction(head, error, (at.segment, at.offset)) from error
        at.seq = head.seq
        if kind is RunCreated:
            state.runs[head.run].opened_at = (at.segment, at.offset)
        elif kind is RunFinished:
            run = state.runs[head.run]
            run.closed_at = (at.segment, at.offset + len(line) + 1)
            if self.fresh:
                shed(run)
        if self.listener:
            self.listener(head, event)

    def reopen(self, head: Envelope) -> None:
        run = self.state.runs[head.run]
        here = self.at.segment, self.at.offset
        if self.ends.get(head.run.encode(), (0, 0)) <= here and is_shed(run):
            self.state.runs[head.run] = hydrated(self.files, run, head.seq - 1)


def _let_go(run: Run) -> None:
    """Drop rows that are not what the run had come to, as its detail is gone from here on.

    So it is for who read its beginning from a file where that still stood.
    """
    counts = Counter(task.status for task in run.order)
    sources = Counter(task.source for task in run.order if task.status == "failed")
    if counts != Counter(run.counts) or sources != Counter(run.sources):
        shed(run)
