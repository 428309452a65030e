"""Reading the ledger into the state: every complete record once, its chain checked.

Lines are read in blocks, the chain is checked block by block, heads are decoded together and
payloads by word. A run that has finished needs no rows: on the first load the lines of its attempts
are checked but not decoded, its summary comes from `run.finished`, and `hydrated` reads its rows
again when somebody asks. Where a run finishes is known by the record's number, as that is the same
in every file that may have been put in place of another since. What to do about a broken line is
not decided here.
"""

import gc
import os
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from ..core.events import (
    Envelope,
    Event,
    ReceiptRecorded,
    RunCreated,
    RunFinished,
    RunResumed,
    TaskQueued,
)
from ..core.state import State
from ..errors import Damaged
from .record import (
    BLOCK,
    FORMAT,
    LIMIT,
    REPAIR_HINT,
    Position,
    decode_head,
    decode_heads,
    follow_chain,
    format_of,
    newer,
    payload_of,
)
from .rows import hydrated, is_shed, is_whole, shed
from .segments import Address, Segments
from .skim import RUN, see_sources, skim
from .stretches import WHOLE, Way

SKIM_BYTES = 1 << 20
"""From so many unread bytes the first load looks ahead for runs that finish."""
QUIET_BYTES = 1 << 18
"""From so many unread bytes the garbage collector rests while folding."""
FINISH = b'{"k":"run.finished","seq":'
Listener = Callable[[Envelope, Event], None]
REOPENING = (RunResumed, TaskQueued, ReceiptRecorded)
"""Records after which a finished run is open again, so that its rows are needed."""
Finishes = dict[bytes, int]
"""Run -> the last record that finishes it."""


class Broken(Exception):
    """A complete line that does not continue the chain. `offset` is where it begins."""

    def __init__(self, at: Position, why: str) -> None:
        super().__init__(why)
        self.at = at
        self.why = why


class Contradiction(Damaged):
    """A record that can't have happened after those before it. `place` is where it begins."""

    def __init__(self, head: Envelope, error: Exception, place: Address) -> None:
        super().__init__(
            f"record {head.seq:,} ({head.k}) contradicts what stands before it: {error!r}.",
            REPAIR_HINT,
        )
        self.seq = head.seq
        self.place = place


class Gone(Contradiction):
    """A run goes on whose rows are in no file any more: it has finished since, and was compacted.

    Who begins anew knows that, and needs no rows.
    """


def fold(
    files: Segments,
    descriptor: int,
    state: State,
    at: Position,
    *,
    limit: int | None = None,
    finishes: Finishes | None = None,
    listener: Listener | None = None,
    way: Way = WHOLE,
) -> int:
    """Take complete records after `at` in its segment, the open file, into the state.

    Goes up to record `limit`, moves `at`, and returns how many records there were. `finishes` is
    given where nobody holds the rows of finished runs, so that they are not made. The listener is
    told of each record. Raises Broken, with everything before the line folded.
    """
    began = at.seq
    size = os.fstat(descriptor).st_size
    if size <= at.offset:
        return 0
    folding = _Folding(files, descriptor, size, state, at, finishes, listener, way)
    rest = gc.isenabled() and size - at.offset > QUIET_BYTES
    if rest:
        gc.disable()
    try:
        while (limit is None or at.seq < limit) and at.offset < size and folding.block(limit):
            pass
    finally:
        if rest:
            gc.enable()
    return at.seq - began


class _Folding:
    """One pass over one file."""

    def __init__(
        self,
        files: Segments,
        descriptor: int,
        size: int,
        state: State,
        at: Position,
        finishes: Finishes | None,
        listener: Listener | None,
        way: Way,
    ) -> None:
        self.files = files
        self.descriptor = descriptor
        self.size = size
        self.state = state
        self.at = at
        self.ends = finishes or {}
        ahead = [(run, seq) for run, seq in self.ends.items() if seq > at.seq]
        self.finishes = sorted(ahead, key=_later, reverse=True)
        """Runs that finish further on, with the number of that record; the next is last."""
        self.unfinished = {run for run, _ in ahead}
        self.fresh = finishes is not None
        self.listener = listener
        self.way = way

    def block(self, limit: int | None) -> bool:
        """Fold one block; False when no complete line is left or the limit is reached."""
        at = self.at
        block = os.pread(self.descriptor, min(BLOCK, self.size - at.offset), at.offset)
        end = block.rfind(b"\n") + 1
        if end == 0:
            if len(block) >= LIMIT:
                raise Broken(at, "a line is longer than lines may be")
            return False
        data = block[:end]
        lines = data.split(b"\n")
        lines.pop()
        many = len(lines)
        if limit is not None:
            del lines[limit - at.seq :]
        good, chain = follow_chain(lines, at.chain)
        broken = lines[good:]
        if broken:
            if at.seq == good == 0 and format_of(lines[0]) > FORMAT:
                raise newer(f"its format is {format_of(lines[0])}, this one reads {FORMAT}")
            del lines[good:]
        if lines:
            self.take(data if good == many else b"\n".join([*lines, b""]), lines)
            at.chain = chain
        if broken:
            raise Broken(at, f"record {at.seq + 1:,} does not follow from {at.seq:,}")
        return True

    def take(self, data: bytes, lines: list[bytes]) -> None:
        """Decode and evolve lines whose chain holds, `data` together; moves past them, but for the
        chain."""
        at, count = self.at, len(lines)
        end = at.offset + len(data)
        wanted = self.skim(data, lines) if self.unfinished else None
        if wanted is None:
            last = self.evolve_all(data, lines, range(count))
            if last != at.seq + count:
                raise Broken(at, f"the {count:,} records after {at.seq:,} are out of order")
        elif wanted:
            self.evolve_all(b"", lines, wanted)
        at.offset = end
        at.seq += count
        self.state.seq = at.seq

    def skim(self, data: bytes, lines: list[bytes]) -> list[int]:
        """Indexes of the lines to decode: all but the detail of runs that finish further on.

        Runs that finish in this block are let go one after the other, where they do.
        """
        wanted: list[int] = []
        first = 0
        while self.finishes:
            run, seq = self.finishes[-1]
            last = seq - self.at.seq - 1
            if last >= len(lines):
                break
            skim(lines, first, last, self.unfinished, wanted)
            first = last
            self.finishes.pop()
            self.unfinished.discard(run)
        skim(lines, first, len(lines), self.unfinished, wanted)
        if len(wanted) < len(lines):
            see_sources(data, lines, self.state.cursors)
        return wanted

    def evolve_all(self, data: bytes, every: list[bytes], wanted: Sequence[int]) -> int:
        """Take lines into the state, attempts by the stretch; the number of the last line.

        `data` is all of them, where all are wanted.
        """
        if self.listener is None and data and (slim := self.way.whole(data, every)):
            self.replay(every, slim, every, range(len(every)))
            return decode_head(every[-1]).seq
        lines = every if data else [every[index] for index in wanted]
        parts = self.way.stretches(lines) if self.listener is None else iter([(0, lines, ())])
        sizes = accumulate(map(len, every), _next_offset, initial=self.at.offset)
        offsets = [*sizes] if data else [*map([*sizes].__getitem__, wanted)]
        last = 0
        for first, part, slim in parts:
            if slim:
                self.replay(part, slim, every, wanted[first:])
                last = decode_head(part[-1]).seq
            else:
                heads = _heads(part, self.at)
                self.evolve(heads, part, offsets[first:])
                last = heads[-1].seq
        return last

    def replay(
        self, part: list[bytes], slim: Sequence[Any], every: list[bytes], wanted: Sequence[int]
    ) -> None:
        """Take a stretch into the state. `wanted`: where its lines stand among all of the block."""
        try:
            self.way.take(self.state, part, slim)
        except (LookupError, ValueError) as error:
            bad = next(n for n, line in enumerate(slim) if line.seq == self.state.seq)
            before = sum(map(len, every[: wanted[bad]])) + wanted[bad]
            place = self.at.segment, self.at.offset + before
            raise Contradiction(decode_head(part[bad]), error, place) from error

    def evolve(self, heads: list[Envelope], lines: list[bytes], offsets: list[int]) -> None:
        """Take decoded records into the state, and note where runs begin and end."""
        state, listener, segment = self.state, self.listener, self.at.segment
        for head, line, offset in zip(heads, lines, offsets, strict=False):
            event = payload_of(head)
            kind = type(event)
            try:
                if kind in REOPENING:
                    self.reopen(head, offset)
                self.way.evolve(state, head, event)
            except (LookupError, ValueError) as error:
                raise Contradiction(head, error, (segment, offset)) from error
            if kind is RunCreated:
                state.runs[head.run].opened_at = (segment, offset)
            elif kind is RunFinished:
                run = state.runs[head.run]
                run.closed_at = (segment, offset + len(line) + 1)
                if self.fresh:
                    shed(run)
            if listener:
                listener(head, event)

    def reopen(self, head: Envelope, offset: int) -> None:
        """Bring back the rows of a run that goes on, unless it is known to finish again."""
        run = self.state.runs[head.run]
        if self.ends.get(head.run.encode(), 0) <= head.seq and is_shed(run):
            full = hydrated(self.files, run, head.seq - 1)
            if not is_whole(full):
                error = LookupError(f"rows of {run.id}")
                raise Gone(head, error, (self.at.segment, offset))
            self.state.runs[head.run] = full


def _later(finish: tuple[bytes, int]) -> int:
    return finish[1]


def _next_offset(offset: int, size: int) -> int:
    return offset + size + 1


def _heads(lines: list[bytes], at: Position) -> list[Envelope]:
    try:
        return decode_heads(b"\n".join(lines))
    except ValueError as error:
        raise newer(f"the head of a record after {at.seq:,} can't be read ({error})") from error


def finishes_after(
    files: Segments, at: Position, last: Address, limit: int | None, *, everywhere: bool = False
) -> Finishes:
    """The last `run.finished` of each run after `at`, of the active file's up to record `limit`.

    `everywhere`: of any file's. Nothing is looked up where there is little to fold: `last` is where
    the files end now.
    """
    found: Finishes = {}
    if at.segment == last[0] and last[1] - at.offset < SKIM_BYTES:
        return found
    for segment, descriptor, offset, _ in files.extents((at.segment, at.offset), last):
        within = everywhere or segment == last[0]
        finishes_in(descriptor, offset, limit if within else None, found)
    return found


def finishes_in(descriptor: int, offset: int, limit: int | None, found: Finishes) -> None:
    """Add what finishes in one file, from an offset on."""
    while block := os.pread(descriptor, BLOCK, offset):
        end = block.rfind(b"\n") + 1
        if end == 0:
            break
        place = block.find(FINISH, 0, end)
        while place >= 0:
            if place == 0 or block[place - 1] == 10:
                first = block.find(RUN, place, end) + 7
                run = block[first : block.find(b'"', first)]
                seq = int(block[place + len(FINISH) : block.find(b",", place + len(FINISH))])
                if limit is None or seq <= limit:
                    found[run] = seq
            place = block.find(FINISH, place + 1, end)
        offset += end
