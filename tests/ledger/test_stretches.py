"""Lines taken by the block give what lines taken one by one give."""

import random
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from msgspec import to_builtins

from codewhale_fleet.core.evolve import evolve
from codewhale_fleet.core.state import State
from codewhale_fleet.core.tally import Unknown
from codewhale_fleet.errors import Damaged
from codewhale_fleet.ledger import fold, stretches
from codewhale_fleet.ledger.glance import Glance
from codewhale_fleet.ledger.record import SEAL, _follow_slowly, follow_chain, middle_of, seal
from codewhale_fleet.ledger.store import Ledger
from codewhale_fleet.views.status import status
from tests.simulation.world import Plan, World

from .builders import a_ledger, a_run, an_attempt


def a_simulated_ledger(folder: Path, seed: int) -> Path:
    """The records of a simulated fleet that much befell, as a real file."""
    world = World(Plan(seed=seed))
    world.run()
    chain, lines = 0, []
    for head, event, _ in world.ledger.records():
        middle = middle_of(head.ts, event.payload_version, head.run, head.by, "")
        line, chain = seal(event, head.seq, middle, chain)
        lines.append(line)
    fleet = folder / ".fleet"
    fleet.mkdir(mode=0o700)
    (fleet / "fleet.jsonl").write_bytes(b"".join(lines))
    return fleet


def plain(state: State) -> Any:
    """As plain values, but for where runs stand in the file, and for slots' empty sets."""
    for run in state.runs.values():
        run.opened_at = run.closed_at = (0, 0)
        while run.crowd and not run.crowd[-1]:
            run.crowd.pop()
    return to_builtins(state)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 5, 9, 13])
def test_a_simulated_fleet_reads_the_same_by_stretch_by_record_and_at_a_glance(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretches, "LEAST", 1)
    folder = a_simulated_ledger(tmp_path, seed)
    with Ledger.open(folder) as ledger:
        for name in ledger.state.runs:
            ledger.hydrate(name)
        single = State()
        for record in ledger.records():
            evolve(single, *record)
        said = status(single, alive=True, now=0.0)
        try:
            with Glance.open(folder) as glance:
                assert status(glance.state, alive=True, now=0.0, rest=glance.rest) == said
        except Unknown:
            pytest.fail("nothing that befalls a simulated fleet asks for the whole state")
        found, wanted = plain(ledger.state), plain(single)
        for state in (found, wanted):  # rows of finished runs are read again without their indexes
            for run in state["runs"].values():
                if run["status"] == "finished":
                    for index in ("ready", "timers", "parked", "behind", "mean", "load", "crowd"):
                        del run[index]
        assert found == wanted


def test_the_first_line_that_does_not_follow_is_found_whatever_was_altered(
    tmp_path: Path,
) -> None:
    with a_ledger(tmp_path) as ledger:
        data = (ledger.dir / "fleet.jsonl").read_bytes()
    whole = data.splitlines()
    assert follow_chain(whole, 0) == _follow_slowly(whole, 0)
    assert follow_chain(whole, 0)[0] == len(whole)
    dice = random.Random(7)
    for _ in range(2_000):
        lines = list(whole)
        at = dice.randrange(len(lines))
        match dice.randrange(4):
            case 0:
                place = dice.randrange(len(lines[at]))
                changed = bytearray(lines[at])
                changed[place] ^= 1 << dice.randrange(8)
                lines[at] = bytes(changed)
            case 1:
                del lines[at]
            case 2:
                lines[at] = lines[at][: dice.randrange(len(lines[at]))]
            case _:
                lines.insert(at, dice.choice([b"", b"{}", lines[at], lines[at].upper()]))
        assert follow_chain(lines, 0) == _follow_slowly(lines, 0)


def test_a_stretch_that_contradicts_what_stands_before_it_names_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretches, "LEAST", 1)
    with a_ledger(tmp_path, runs=0) as ledger:
        with ledger.transaction("test") as one:
            a_run(one, "r", 50)
        for number in range(40):
            with ledger.transaction("test") as one:
                an_attempt(one, "r", f"t{number}", number + 1)
        lines = (ledger.dir / "fleet.jsonl").read_bytes().splitlines()
    at = next(n for n, line in enumerate(lines) if b'"attempt":"r/t30@1"' in line)
    chain, out = 0, []
    for number, line in enumerate(lines):
        body = line[:-SEAL]
        if number in (at, at + 1):
            body = body.replace(b"r/t30@1", b"r/no30@1")
        chain = crc32(body, chain)
        out.append(b'%b,"c":"%08x"}\n' % (body, chain))
    other = tmp_path / "other" / ".fleet"
    other.mkdir(parents=True, mode=0o700)
    (other / "fleet.jsonl").write_bytes(b"".join(out))
    with pytest.raises(fold.Contradiction) as found:
        Ledger.open(other)
    assert found.value.seq in (at + 1, at + 2)
    offsets = [sum(map(len, out[: at + shift])) for shift in (0, 1)]
    assert found.value.place in [(1, offset) for offset in offsets]
    assert isinstance(found.value, Damaged)
