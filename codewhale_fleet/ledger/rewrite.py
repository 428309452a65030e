"""One sealed segment on its way to a compacted one: what of it stays, and what it is replaced by.

Reads the whole file, checks it against its chain and its seal, and holds in memory what stays. What
runs are meant is the caller's; nothing is written here.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from zlib import crc32

from msgspec import json

from ..core.events import Envelope, Event, LedgerCompacted, LedgerSealed, RunSummarized
from ..core.evolve import evolve
from ..core.load import run_of
from ..core.state import Run, State
from ..core.summary import Summary
from ..errors import Damaged
from .examine import last_line
from .fold import FINISH, Finishes, finishes_in
from .record import (
    BLOCK,
    REPAIR_HINT,
    SEAL,
    decode_head,
    follow_chain,
    middle_of,
    payload_of,
    seal,
    stamp,
    stated_chain,
)
from .rows import records
from .segments import header_of, heading, name_of
from .skim import DETAIL, SUMMARY, run_in
from .store import Ledger

HEARTBEAT = b'{"k":"worker.heartbeat"'
ELECTED = b'{"k":"manager.elected"'
DROPPED = (*DETAIL, b'{"k":"worker.stale"', b'{"k":"worker.recovered"')
"""How lines begin that a run may lose."""
_WORD = re.compile(rb'\{"k":"([^"]+)","seq":(\d+),"ts":"([^"]+)"')
_SOURCE = re.compile(rb'"src":\["([^"]+)",(\d+)\]')


class Rewriting:
    """One segment on its way: what of it stays, and what is known of the rest."""

    def __init__(
        self, ledger: Ledger, descriptor: int, number: int, chosen: dict[str, Run], before: str
    ) -> None:
        self._ledger = ledger
        self._descriptor = descriptor
        self._number = number
        self._chosen = {name.encode(): run for name, run in chosen.items()}
        self._before = before
        self._on = stamp(ledger.clock())
        self._head = heading(descriptor)
        self._chain = _chain_before(ledger, number)
        self._end = self._chain
        self._first = self._last = 0
        self._digest = hashlib.sha256()
        self._bodies: list[bytes] = []
        self._scratch = State()
        self._summaries: dict[bytes, Summary] = {}
        self._latest = ""
        self.dropped: Counter[str] = Counter()
        self.summed_up = False
        """Whether it gets rows that sum up what other segments may lose, too."""
        self.cursors: dict[str, int] = {}
        self._ends: Finishes = {}
        finishes_in(descriptor, 0, None, self._ends)

    def read(self) -> None:
        """Read the whole file, and keep in memory what stays of it."""
        self._begin_summaries()
        offset = 0
        while block := os.pread(self._descriptor, BLOCK, offset):
            end = block.rfind(b"\n") + 1
            if end == 0:
                break
            self._digest.update(memoryview(block)[:end])
            lines = block[:end].split(b"\n")
            lines.pop()
            good, self._end = follow_chain(lines, self._end)
            if good < len(lines):
                raise self._damaged()
            for line in lines:
                if offset or line + b"\n" != self._head:
                    self._take(line)
                offset += len(line) + 1
        if not self._head:
            self._check_seal()

    def _begin_summaries(self) -> None:
        """For each run that ends here and is not summed up yet, what it did before this file."""
        known = self._summed_up() if self._head else set[bytes]()
        for name, run in self._chosen.items():
            if run.closed_at[0] != self._number or name in known:
                continue
            summary = self._summaries[name] = Summary()
            if run.opened_at[0] < self._number:
                stop = self._number - 1, 1 << 62
                files = self._ledger._files
                for head, event in records(files, run.opened_at, stop, run=run.id, containing=None):
                    self._sum_up(summary, head, event)

    def _summed_up(self) -> set[bytes]:
        found = set()
        offset = 0
        while block := os.pread(self._descriptor, BLOCK, offset):
            end = block.rfind(b"\n") + 1
            lines = block[:end].split(b"\n")
            found |= {run_in(line) for line in lines if line.startswith(SUMMARY)}
            offset += max(end, 1)
        return found

    def _take(self, line: bytes) -> None:
        """Keep a line, or drop it."""
        matched = _WORD.match(line)
        if matched is None:
            raise self._damaged()
        word, seq, ts = matched.groups()
        self._first = self._first or int(seq)
        self._last = int(seq)
        if line.startswith(ELECTED):
            self._latest = ""
        self._latest = max(self._latest, ts.decode())
        name = run_in(line) if b'"run":"' in line[:400] else b""
        summary = self._summaries.get(name)
        if summary:
            head = decode_head(line)
            event = payload_of(head)
            if line.startswith(FINISH) and self._ends[name] == head.seq:
                self._emit(name, head)
            else:
                self._sum_up(summary, head, event)
        mine = name in self._chosen and line.startswith(DROPPED)
        if mine or (line.startswith(HEARTBEAT) and self._only_theirs(line)):
            self.dropped[word.decode()] += 1
            self._see(line)
        else:
            self._bodies.append(line[:-SEAL])

    def _only_theirs(self, line: bytes) -> bool:
        """Whether a heartbeat tells of workers of runs that are meant, and of no others."""
        workers = json.decode(decode_head(line).d)["workers"]
        runs = self._ledger.state.runs
        return all(run_of(worker, runs).encode() in self._chosen for worker in workers)

    def _see(self, line: bytes) -> None:
        if line.startswith(b'{"k":"task'):
            return
        for runtime, number in _SOURCE.findall(line):
            name = runtime.decode()
            self.cursors[name] = max(int(number), self.cursors.get(name, 0))

    def _sum_up(self, summary: Summary, head: Envelope, event: Event) -> None:
        try:
            evolve(self._scratch, head, event)
        except (LookupError, ValueError) as error:
            raise self._damaged() from error
        summary.take(head, event)

    def _emit(self, name: bytes, finish: Envelope) -> None:
        """The rows of a run, before the record that finishes it."""
        self.summed_up = True
        run = self._scratch.runs.pop(name.decode())
        self._scratch.open_runs.pop(run.id, None)
        middle = middle_of(finish.ts, RunSummarized.payload_version, run.id, "ledger", "")
        for part, tasks in enumerate(self._summaries.pop(name).packs(run)):
            event = RunSummarized(
                on=self._on, tasks=tasks, part=part, reason=run.reason, source=run.stop_source
            )
            line, _ = seal(event, finish.seq, middle, 0)
            self._bodies.append(line[: -SEAL - 1])

    def _check_seal(self) -> None:
        """What was read is what was sealed, or nothing is done with it."""
        descriptor, sealed = self._ledger._files.open(self._number + 1)
        try:
            begin = len(heading(descriptor)) if sealed else 0
            block = os.pread(descriptor, 4096, begin)
        finally:
            os.close(descriptor)
        seal_of = payload_of(decode_head(block[: block.find(b"\n")]))
        if not isinstance(seal_of, LedgerSealed) or seal_of.sha256 != self._digest.hexdigest():
            raise self._damaged()

    def _damaged(self) -> Damaged:
        path = self._ledger.dir / name_of(self._number)
        return Damaged(f"{path} is damaged, so it was left as it is.", REPAIR_HINT)

    def header(self, old: LedgerCompacted | None, through: int) -> LedgerCompacted:
        """What heads the new file; what it replaces may itself be a compacted one."""
        dropped, cursors = Counter(self.dropped), dict(self.cursors)
        if old:
            dropped.update(old.dropped)
            for runtime, number in old.cursors.items():
                cursors[runtime] = max(number, cursors.get(runtime, 0))
        return LedgerCompacted(
            segment=self._number,
            first=old.first if old else self._first,
            last=old.last if old else self._last,
            chain=old.chain if old else f"{self._end:08x}",
            original=old.original if old else self._digest.hexdigest(),
            before=self._before,
            through=through,
            runs=len(self._chosen),
            bytes=os.fstat(self._descriptor).st_size,
            dropped=dict(dropped),
            cursors=cursors,
            latest=max(self._latest, old.latest if old else ""),
        )

    def lines(self, head: LedgerCompacted) -> Iterator[bytes]:
        """The new file, line by line, with a chain of its own."""
        middle = middle_of(self._on, head.payload_version, "", "ledger", "")
        line, chain = seal(head, head.first - 1, middle, self._chain)
        yield line
        for body in self._bodies:
            chain = crc32(body, chain)
            yield b'%b,"c":"%08x"}\n' % (body, chain)


def _chain_before(ledger: Ledger, number: int) -> int:
    """The chain value that the first record of a segment goes on from."""
    if number == 1:
        return 0
    descriptor, _ = ledger._files.open(number - 1)
    try:
        old = header_of(descriptor)
    finally:
        os.close(descriptor)
    if old:
        return int(old.chain, 16)
    return stated_chain(last_line(ledger.dir / name_of(number - 1))) or 0
