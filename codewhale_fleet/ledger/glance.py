"""The ledger as `fleet status` reads it: counts, what flies and what needs a person, few rows.

Folds half a million plain attempts without making a row (`core.tally`), and keeps what it found in
a few kilobytes beside the snapshot. Where that is not enough, a record or a tail that can only be
understood with all rows, `open` raises Unknown, and the caller opens the whole ledger: the answer
is the same.
"""

from pathlib import Path
from typing import Self

from msgspec import Struct, json

from ..core.events import TasksAdded
from ..core.state import State, Task, rest_of
from ..core.tally import (
    NO_SPEC,
    Line,
    Rest,
    Unknown,
    is_partial,
    note,
    tally,
    wanting,
)
from ..errors import FleetError
from . import place, snapshot
from .reader import Reader, no_fleet
from .record import Position
from .stretches import Way

BRIEFLY = Way(note, json.Decoder(Line).decode_lines, tally)
"""What a status needs."""
ADDED = b'{"k":"tasks.added"'


class _Named(Struct, gc=False):
    id: str


_name_of = json.Decoder(_Named).decode


class Glance(Reader):
    """One fleet's ledger, folded once; `state` is good for a status and for nothing else."""

    @classmethod
    def open(cls, fleet_dir: Path) -> Self:
        """Fold what is durable. Unknown where the whole state is needed, to answer or to refuse."""
        folder = place.resolved(fleet_dir)
        if not folder.is_dir():
            raise no_fleet(folder)
        place.check(folder)
        glance = cls._opened(folder, False)
        glance._way = BRIEFLY
        try:
            glance._load()
            if glance.seq == 0:
                raise Unknown
            glance._name()
        except FleetError as error:
            glance.close()
            raise Unknown from error
        except BaseException:
            glance.close()
            raise
        return glance

    def _kept(self, limit: int | None) -> tuple[State, Position] | None:
        kept = snapshot.load_brief(self.dir, self._files, limit)
        self.rest = kept[0].rest if kept else Rest()
        return kept and (kept[0].state, kept[1])

    def _keep(self) -> None:
        self._name()
        self.keep_brief()

    def _name(self) -> None:
        """Give the rows that may be named their place and their spec, and each run its order."""
        for run in self.state.runs.values():
            if any(count < 0 for count in run.counts.values()):
                raise Unknown
            if not is_partial(run):
                continue
            rows = wanting(run)
            bare = {row.id: row for row in rows if row.rest == NO_SPEC}
            if bare:
                self._look_up(run.id, run.opened_at, bare)
            run.order = sorted(rows, key=_index)

    def _look_up(self, run: str, opened_at: tuple[int, int], bare: dict[str, Task]) -> None:
        index = 0
        for _, event in self.records(run, opened_at, containing=ADDED):
            assert isinstance(event, TasksAdded)
            for raw in event.tasks:
                data = bytes(raw)
                if (row := bare.get(_name_of(data).id)) is not None:
                    row.index, row.rest = index, rest_of(row.id, data)
                index += 1


def _index(row: Task) -> int:
    return row.index
