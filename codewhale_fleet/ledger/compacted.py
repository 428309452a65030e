"""Reading a compacted segment into the state.

Such a file bears a chain of its own from its heading on, and numbers with gaps; what follows it
goes on from the chain value that its heading states. It is read in one go: whoever is done with it
stands at its end. Rows of runs that finish further on are passed over, as in any other file.
"""

import os

from ..core.events import (
    Envelope,
    LedgerCompacted,
    RunCreated,
    RunFinished,
    RunResumed,
    RunStopped,
)
from ..core.evolve import evolve
from ..core.state import Run, State
from .fold import REOPENING, Broken, Contradiction, Finishes, Listener, finishes_in
from .record import BLOCK, Position, decode_head, follow_chain, newer, payload_of
from .rows import hydrated, is_shed, is_whole, shed
from .segments import Segments
from .skim import DETAIL, SUMMARY, TOLD, number_in, run_in, see_sources


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
        self.ends: Finishes = {}
        if finishes is not None:
            # Of runs that finish in here nobody may have known when ends were looked for.
            finishes_in(descriptor, 0, None, self.ends)
            self.ends |= {run: seq for run, seq in finishes.items() if seq > self.ends.get(run, 0)}

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
            elif self.is_detail(line):
                passed.append(line)
            else:
                self.take(line, limit)
            at.offset += len(line) + 1
        if passed:
            attempts = [line for line in passed if line.startswith(TOLD)]
            see_sources(b"\n".join(attempts), attempts, self.state.cursors)
        if good < len(lines):
            raise Broken(at, "a record of it does not follow from the one before")
        at.chain = chain
        return True

    def is_detail(self, line: bytes) -> bool:
        """Whether it only says something about the rows of a run that finishes further on.

        A line that sums a run up bears the number of the record that finishes it.
        """
        if not self.ends or not line.startswith((*DETAIL, SUMMARY)):
            return False
        end = self.ends.get(run_in(line), 0)
        return end > 0 and number_in(line) <= end

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
            if kind in REOPENING:
                self.reopen(head)
            if kind is RunResumed or kind is RunStopped:
                _let_go(state, state.runs[head.run])
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
        if self.ends.get(head.run.encode(), 0) <= head.seq and is_shed(run):
            self.state.runs[head.run] = hydrated(self.files, run, head.seq - 1)


def _let_go(state: State, run: Run) -> None:
    """Drop rows that are not what the run had come to, as its detail is gone from here on.

    So it is for who read its beginning from a file where that still stood.
    """
    if not is_whole(run):
        if run.workers and run.flights:
            from ..core.workers import let_go

            let_go(state, run)
        shed(run)
