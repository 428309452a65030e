import re
import subprocess

from .driver import FLEET, environment
from .scene import Scene, the_usual


def test_a_good_ledger_is_said_to_be_good(scene: Scene) -> None:
    the_usual(scene)
    told = scene.fleet("ledger", "verify")
    assert told.code == 0
    assert ".fleet/fleet.jsonl: every record follows (1 segment, 12 records, " in told.out
    detail = scene.fleet("ledger", "verify", "--detail").out
    assert "  attempt.ended       3\n" in detail
    assert scene.fleet("ledger", "verify", "--json").json["records"] == 12


def test_damage_is_said_with_its_place_and_exit_code(scene: Scene) -> None:
    the_usual(scene)
    path = scene.root / ".fleet" / "fleet.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"local", b"locul").replace(b"slots", b"slotz")
    path.write_bytes(b"".join(lines))
    told = scene.fleet("ledger", "verify")
    assert told.code == 5
    at = sum(map(len, lines[:4]))
    assert f"damaged at byte {at:,}, record 5\n" in told.out
    assert "Record 5 does not follow from 4.\n4 records before it are good.\n" in told.out
    assert told.out.endswith("To see what can be saved: fleet ledger repair\n")


def test_a_torn_tail_is_no_damage(scene: Scene) -> None:
    the_usual(scene)
    with (scene.root / ".fleet" / "fleet.jsonl").open("a") as file:
        file.write('{"k":"att')
    told = scene.fleet("ledger", "verify")
    assert told.code == 0
    assert "The last 9 bytes were never acknowledged" in told.out


def test_the_tail_is_read_aloud(scene: Scene) -> None:
    the_usual(scene)
    out = scene.fleet("ledger", "tail", "-n", "2").out
    assert re.sub(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", "DAY TIME", out) == (
        "     11  DAY TIME  attempt.ended        "
        "demo-abc234/review@1 waits for a person (human) after 1.2 s\n"
        "     12  DAY TIME  run.finished         "
        "demo-abc234 finished in 4.5 s: 1 completed, 1 failed, 1 partial\n"
    )


def test_one_kind_of_record_can_be_asked_for(scene: Scene) -> None:
    the_usual(scene)
    receipts = scene.fleet("ledger", "tail", "--only", "receipt").out.splitlines()
    assert [line.split()[0] for line in receipts] == ["7", "9", "11"]
    runs = scene.fleet("ledger", "tail", "--only", "run.", "--json", "-n", "1").out
    assert '"k":"run.finished"' in runs and '"says":"demo-abc234 finished' in runs
    assert scene.fleet("ledger", "tail", "-n", "0").out == ""


def test_few_records_are_found_far_from_the_end(scene: Scene) -> None:
    scene.run(*(f"t{number}" for number in range(300)))
    for number in range(300):
        scene.ended(scene.place(f"t{number}"))
    out = scene.fleet("ledger", "tail", "--only", "fleet.initialized").out
    assert out.split()[0] == "1"
    assert len(scene.fleet("ledger", "tail", "-n", "500").out.splitlines()) == 500


def test_new_records_follow(scene: Scene) -> None:
    scene.run("a")
    process = subprocess.Popen(
        [*FLEET, "ledger", "tail", "-n", "1", "--follow"],
        cwd=scene.root, env=environment(), stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert b"worker.enrolled" in process.stdout.readline()
    scene.place("a")
    assert b"demo-abc234/a@1 went to demo-abc234-local-1" in process.stdout.readline()
    process.terminate()
    process.communicate(timeout=20)


def test_a_repair_is_shown_first_and_done_when_asked(scene: Scene) -> None:
    the_usual(scene)
    refused = scene.fleet("ledger", "repair")
    assert refused.code == 4
    assert "nothing to repair" in refused.err
    path = scene.root / ".fleet" / "fleet.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[8] = lines[8].replace(b"exit", b"exut")
    path.write_bytes(b"".join(lines))
    shown = scene.fleet("ledger", "repair")
    assert shown.code == 5
    assert "Would be kept: every record up to 8, in segment 1.\n" in shown.out
    assert "Among that 3 records follow from each other.\n" in shown.out
    assert "4 records that were acknowledged are not kept.\n" in shown.out
    assert shown.out.endswith("To do it: fleet ledger repair --yes\n")
    assert path.read_bytes() == b"".join(lines)
    done = scene.fleet("ledger", "repair", "--yes", "--json").json
    assert (done["done"], done["last"], done["exit_code"]) == (True, 8, 0)
    assert scene.fleet("ledger", "verify").code == 0
    assert "the ledger was repaired: " in scene.fleet("ledger", "tail", "-n", "1").out


def test_the_tail_is_read_across_segments(scene: Scene) -> None:
    the_usual(scene)
    assert scene.ledger.rotate_if_due(1)
    seqs = [line.split()[0] for line in scene.fleet("ledger", "tail").out.splitlines()]
    assert seqs == [str(number) for number in range(1, 14)]
    assert "2 segments, 13 records" in scene.fleet("ledger", "verify").out
    first = scene.fleet("ledger", "tail", "--only", "fleet.initialized").out
    assert first.split()[0] == "1"
