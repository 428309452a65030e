"""One byte of a real ledger is changed, or everything from it on is gone; then it is opened.

`Bench` holds one ledger in memory and damages it in place. Opened to read and to write it must
refuse, with exit code 5, the place, and nothing changed on the disk; or, where what is damaged was
never acknowledged and another boot has begun, the writer must set exactly that aside and go on from
the record before it. What it shows must always be a beginning of what was written.
"""

import shutil
import traceback
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

from codewhale_fleet.errors import FleetError
from codewhale_fleet.ledger import place as places
from codewhale_fleet.ledger.store import Ledger
from codewhale_fleet.ledger.verify import verify
from codewhale_fleet.ledger.watermark import LAYOUT, boot_id
from tests.ledger.builders import beat, canonical

BEFORE = b"the boot before."


@dataclass
class Came:
    """What the damages came to."""

    damages: int = 0
    refused: int = 0
    healed: int = 0
    whole: int = 0
    """Truncations between two records, which leave nothing to heal."""
    wrong: list[str] = field(default_factory=list)

    def told(self) -> str:
        return (
            f"{self.damages:,} damages: {self.refused:,} refused with the place and nothing "
            f"changed, {self.healed:,} healed, {self.whole:,} ended between two records"
        )


class Bench:
    """A ledger that is damaged again and again. `kept`: a fleet directory, which is copied."""

    def __init__(self, kept: Path, room: Path) -> None:
        self.dir = room / ".fleet"
        self.dir.mkdir(mode=0o700)
        self.file = self.dir / "fleet.jsonl"
        self.data = (kept / "fleet.jsonl").read_bytes()
        self.starts = [0]
        while (end := self.data.find(b"\n", self.starts[-1])) >= 0:
            self.starts.append(end + 1)
        self.records = len(self.starts) - 1
        self.came = Came()
        self._segment = 1
        self._states: dict[int, object] = {}
        self._here = boot_id()
        self._synced = 0
        self._boot = b""
        self._fresh()
        mounts = places.read_mounts()
        places.read_mounts = lambda: mounts  # one reading for all: 1 ms each

    def mark(self, synced: int, *, another_boot: bool) -> None:
        """What the watermark says from now on."""
        self._synced = synced
        self._boot = BEFORE if another_boot else self._here
        self._fresh()

    def _fresh(self) -> None:
        for path in self.dir.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.file.write_bytes(self.data)
        (self.dir / "synced").write_bytes(
            LAYOUT.pack(self._boot, self._synced, 0, *[1] * (LAYOUT.size // 8 - 4))
        )

    def flip(self, at: int, bit: int) -> None:
        """One bit of one byte."""
        changed = self.data[at] ^ 1 << bit
        self._try(at, self.data[:at] + bytes([changed]) + self.data[at + 1 :], f"bit {bit}")

    def truncate(self, size: int) -> None:
        """Everything from here on is gone."""
        self._try(size, self.data[:size], "the end")

    def _try(self, at: int, data: bytes, what: str) -> None:
        came = self.came
        came.damages += 1
        self.file.write_bytes(data)
        record = bisect_right(self.starts, at)
        try:
            if record <= self._synced:
                self._must_refuse(record, data)
                came.refused += 1
            elif at == self.starts[record - 1] and len(data) == at:
                self._must_go_on(record - 1, b"")
                came.whole += 1
            else:
                self._must_go_on(record - 1, data[self.starts[record - 1] :])
                came.healed += 1
        except Exception:
            trace = traceback.format_exc(limit=-2)
            came.wrong.append(f"{what} at byte {at:,}, record {record}: {trace}")
        if record > self._synced:
            self._fresh()

    def _must_refuse(self, record: int, data: bytes) -> None:
        try:
            Ledger.open(self.dir).close()
        except FleetError as error:
            assert error.exit_code == 5, error.sentence
            place = f"{self.starts[record - 1]:,} "
            assert f"damaged at byte {place}" in error.sentence, error.sentence
            assert "fleet ledger repair" in error.hint, error.hint
        else:
            raise AssertionError("it was opened")
        assert self.file.read_bytes() == data, "something was changed"
        assert len(list(self.dir.iterdir())) == 2, "something was made"

    def _must_go_on(self, last: int, rest: bytes) -> None:
        with Ledger.open(self.dir) as ledger:
            shown = last if self._boot == BEFORE else self._synced
            assert ledger.seq == shown, f"a reader shows {ledger.seq} records"
            assert canonical(ledger) == self._state(shown), "a reader shows another state"
            beat(ledger)
            ledger.sync()
            assert ledger.seq == last + 1 + bool(rest)
            cut = [(self.dir / name).read_bytes() for name in ledger.repaired]
        assert cut == ([rest] if rest else []), "something else was set aside"
        assert self.file.read_bytes().startswith(self.data[: self.starts[last]])
        assert verify(self.dir, detail=True).ok

    def _state(self, last: int) -> object:
        """What the first records of the whole ledger fold to."""
        if last not in self._states:
            damaged = self.file.read_bytes()
            self.file.write_bytes(self.data[: self.starts[last]])
            assert last >= self._synced
            with Ledger.open(self.dir) as ledger:
                self._states[last] = canonical(ledger)
            self.file.write_bytes(damaged)
        return self._states[last]
