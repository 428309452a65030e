import re
import subprocess

from .driver import FLEET, environment
from .scene import Scene, the_usual


def test_a_good_ledger_is_said_to_be_good(scene: Scene) -> None:
    the_usual(scene)
    told = scene.fleet("ledger", "verify")
    assert told.code == 0
    assert ".fleet/fleet.jsonl: every record follows (12 records, " in told.out
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
    assert f"damaged at byte {at:,}\n" in told.out
    assert "Record 5 does not follow from 4.\n4 records before it are good.\n" in told.out
    assert told.out.endswith("To see more: fleet ledger verify --detail\n")


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
