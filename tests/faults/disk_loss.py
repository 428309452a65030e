"""Power goes at every point of a trace; what is left is opened by the real ledger, and must go on.

For each prefix of the trace the states that the disk may have are made in a directory, under the
boot id of another boot, and opened as a writer opens them. Required every time: nobody is asked to
unlock or repair; every record that was acknowledged (its watermark passed, its attempt said to the
runtime, its end shown) is there; no record is there that was not written; the chain verifies; an
append works; a second opening finds the same state.
"""

import os
import random
import re
import shutil
import time
import traceback
from base64 import b64decode
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

from msgspec import json, msgpack

from codewhale_fleet.errors import FleetError
from codewhale_fleet.ledger import snapshot
from codewhale_fleet.ledger.record import SEAL, follows
from codewhale_fleet.ledger.segments import FILE, name_of
from codewhale_fleet.ledger.store import Ledger
from codewhale_fleet.ledger.verify import verify
from codewhale_fleet.ledger.watermark import boot_id
from tests.ledger.builders import beat, canonical

from .disk_model import Content, Disk, Losses, digest

BLOCKS = (512, 4096)
"""Sizes of what a disk writes whole or not at all."""

BEFORE = b"the boot before."
_OWN = (b'{"k":"ledger.repaired"', b'{"k":"worker.heartbeat"', b'{"k":"fleet.initialized"')
_SEQ = re.compile(rb'"seq":(\d+)')


@dataclass
class Played:
    """What playing a trace came to."""

    operations: int = 0
    prefixes: int = 0
    states: int = 0
    """Different states of the disk that were opened."""
    healed: int = 0
    """Those of which a writer cut a tail."""
    behind_a_gap: int = 0
    """Those of which the tail had whole records behind a gap."""
    exhausted: int = 0
    """Prefixes of which every state was opened; of the others, a sample."""
    begun_anew: int = 0
    """States of a fleet of which nothing was acknowledged yet."""
    lost: int = 0
    unlocks: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def told(self) -> str:
        """For the report."""
        return (
            f"{self.states:,} distinct disk states opened, of {self.prefixes:,} prefixes of "
            f"{self.operations:,} operations ({self.exhausted:,} of {len(BLOCKS)} × "
            f"{self.prefixes:,} exhaustively, the others by a seeded sample); healed "
            f"{self.healed:,}, of them with whole records behind a gap {self.behind_a_gap:,}"
        )


@dataclass
class Truth:
    """What was written and acknowledged up to some operation."""

    required: int = 0
    """The last record that must be there."""
    lines: list[bytes] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)

    def learn(self, disk: Disk, op: dict[str, Any]) -> None:
        """One operation more, which was done to `disk`."""
        if op["op"] in ("write", "rename", "truncate"):
            self.lines = _lines(dict(_now(disk)))
        elif op["op"] == "store" and op["at"] == 16:
            synced = int.from_bytes(b64decode(op["data"]), "little")
            self.required = max(self.required, synced)
        elif op["op"] == "said":
            for line in b64decode(op["data"]).splitlines():
                self._said(json.decode(line))
        elif op["op"] == "shown" and (found := re.match(r"(\S+) finished in", op["text"])):
            self._must(b'{"k":"run.finished"', found[1].encode())

    def _said(self, message: dict[str, Any]) -> None:
        if message["m"] == "start":
            self._must(b'{"k":"attempt.dispatched"', b'"%b"' % message["attempt"].encode())
        elif message["m"] == "ack":
            self._must(b'{"k":"attempt.', b",%d]" % message["n"])

    def _must(self, word: bytes, what: bytes) -> None:
        places = [
            at for at, line in enumerate(self.lines, 1) if line.startswith(word) and what in line
        ]
        assert places, f"{what!r} was said or shown, and is not in the ledger"
        self.required = max(self.required, places[-1])


def _now(disk: Disk) -> list[tuple[str, bytes]]:
    root = disk.root.now
    files = [("fleet.jsonl", root.get("fleet.jsonl"))]
    if "segments" in root:
        files += [(f"segments/{name}", one) for name, one in root["segments"].now.items()]  # type: ignore[union-attr]
    active = files[0][1]
    return [
        (path, one.now)  # type: ignore[misc]
        for path, one in files
        if one is not None and (path == "fleet.jsonl" or one is not active)
    ]


def _lines(content: dict[str, bytes]) -> list[bytes]:
    """The records of a ledger's files in their order, whole lines only."""
    active = content.get("fleet.jsonl", b"")
    sealed = sorted(path for path in content if path.startswith("segments/"))
    files = [content[path] for path in sealed]
    if active:
        files = [data for data in files if data[:64] != active[:64]]  # a link that was left
    found: list[bytes] = []
    for data in (*files, active):
        found += data[: data.rfind(b"\n") + 1].splitlines()
    return found


class Player:
    """Plays one trace. `bound`: states of a prefix up to which all of them are opened."""

    def __init__(self, place: Path, *, bound: int, seed: int, start: Disk | None = None) -> None:
        self.place, self.bound = place, bound
        self.dice = random.Random(seed)
        self.played = Played()
        self.disk = start or Disk()
        self.truth = Truth(lines=_lines(dict(_now(start))) if start else [])
        self._boot = boot_id()
        self._seen: set[tuple[bytes, int]] = set()
        self._states: set[bytes] = set()

    def play(self, trace: list[dict[str, Any]]) -> Played:
        """Every prefix."""
        played, begun = self.played, time.monotonic()
        played.operations = len(trace)
        for op in trace:
            self.disk.do(op)
            self.truth.learn(self.disk, op)
            played.prefixes += 1
            for block in BLOCKS:
                self._lose(block)
            if len(played.wrong) > 4:
                break
        played.states = len(self._states)
        played.seconds = round(time.monotonic() - begun, 1)
        return played

    def _lose(self, block: int) -> None:
        losses = Losses(self.disk, block)
        few = losses.count <= self.bound
        self.played.exhausted += few
        for content in losses.all() if few else losses.some(self.bound, self.dice):
            key = digest(content)
            if (key, self.truth.required) in self._seen:
                continue
            self._seen.add((key, self.truth.required))
            self._states.add(key)
            self._open(content)

    def _open(self, content: Content) -> None:
        try:
            self._make(content)
            self._examine()
        except FleetError as error:
            self.played.unlocks += 1
            self._keep(f"{error.sentence} {error.hint}")
        except AssertionError as error:
            self.played.lost += "acknowledged" in str(error)
            self._keep(str(error))
        except Exception:
            self._keep(traceback.format_exc())

    def _keep(self, why: str) -> None:
        kept = self.place.with_name(f"{self.place.name}-wrong-{len(self.played.wrong)}")
        shutil.copytree(self.place, kept, dirs_exist_ok=True)
        wrong = f"after operation {self.played.prefixes} ({self.truth.required} required): {why}"
        self.played.wrong.append(f"{wrong} (kept in {kept})")

    def _make(self, content: Content) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(mode=0o700)
        for path, data in content.items():
            if data is None:
                (self.place / path).mkdir(mode=0o700)
            elif isinstance(data, str):
                os.link(self.place / data, self.place / path)
            else:
                if path == "synced":
                    data = self._another_boot(data)
                (self.place / path).write_bytes(data)
        self._mend_snapshots()

    def _another_boot(self, data: bytes) -> bytes:
        halves = [data[:8], data[8:16]]
        for at, half in enumerate((self._boot[:8], self._boot[8:])):
            if halves[at] == half:
                halves[at] = BEFORE[8 * at : 8 * at + 8]
        return b"".join(halves) + data[16:]

    def _mend_snapshots(self) -> None:
        """A whole snapshot names the inode of its ledger, which is another one here."""
        for name in (snapshot.NAME, snapshot.BRIEF):
            path = self.place / name
            data = path.read_bytes() if path.exists() else b""
            body = data[snapshot.HEAD.size :]
            if not body or snapshot.HEAD.unpack_from(data)[2] != crc32(body):
                continue  # none, or torn
            kept = msgpack.decode(body, type=snapshot.Kept)
            sealed = self.place / name_of(kept.at.segment)
            found = os.stat(sealed if sealed.exists() else self.place / FILE)  # noqa: PTH116
            kept.device, kept.inode = found.st_dev, found.st_ino
            body = msgpack.encode(kept)
            head = snapshot.HEAD.pack(snapshot.MAGIC, snapshot.shape(), crc32(body), len(body))
            path.write_bytes(head + body)

    def _examine(self) -> None:
        required, place = self.truth.required, self.place
        if required:
            report = verify(place)
            assert report.ok, f"verify: {report.why} at {report.bad_offset}"
        with Ledger.open(place, create=required == 0) as ledger:
            there = ledger.seq
            beat(ledger)
            ledger.sync()
            if ledger.repaired:
                self.played.healed += 1
                self.played.behind_a_gap += _has_whole_lines(place / ledger.repaired[0])
            after = canonical(ledger)
            seq = ledger.seq
        self._compare(required, there)
        report = verify(place, detail=True)
        assert report.ok, f"verify afterwards: {report.why}"
        with Ledger.open(place) as again:
            assert again.seq == seq, f"a second opening ends at {again.seq}, not at {seq}"
            assert canonical(again) == after, "a second opening finds another state"

    def _compare(self, required: int, there: int) -> None:
        found = _lines({str(p.relative_to(self.place)): p.read_bytes() for p in self._files()})
        truth = self.truth.lines
        same = 0
        while same < min(len(found), len(truth)) and found[same] == truth[same]:
            same += 1
        assert same >= required, f"acknowledged records are lost: {same} of {required} are there"
        if same == 0:
            self.played.begun_anew += 1
        for line in found[same:]:
            assert line.startswith(_OWN), f"never written: {line[:200]!r}"
        numbers = [int(m[1]) for line in found if (m := _SEQ.search(line))]
        assert numbers == list(range(1, len(found) + 1)), "the records are not numbered in order"
        assert there <= max(same, 1), f"{there} records were shown, {same} had been written"

    def _files(self) -> list[Path]:
        return [self.place / "fleet.jsonl", *sorted((self.place / "segments").glob("*.jsonl"))]


def _has_whole_lines(quarantine: Path) -> bool:
    """Whether records that continue each other were cut."""
    lines = quarantine.read_bytes().split(b"\n")[:-1]
    return any(len(one) > SEAL and follows(two, one) for one, two in pairwise(lines))
