"""The disk guard: told when room is low, nothing placed below the limit, ends recorded anyway."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.core.state import State
from codewhale_fleet.engine.disk import LOOK_SECONDS, Guard, limits_of, room_of
from tests.faults.disk_small import fill, free, small_disk
from tests.faults.programs import Programs

from .test_kill import ask, records

pytestmark = pytest.mark.slow

MIB = 1 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 8 MiB with a spec of one task in it."""
    with small_disk(tmp_path / "small", "tmpfs", 8 * MIB) as folder:
        (folder / "t.json").write_text(
            json.dumps({"name": "r", "tasks": [{"id": "a", "command": "true"}]})
        )
        yield folder
        Programs(folder)._ask_to_leave()


def start(place: Path, *words: str) -> "subprocess.Popen[str]":
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLEET")}
    return subprocess.Popen(
        [sys.executable, "-m", "codewhale_fleet", *words],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
    )


def heard(run: "subprocess.Popen[str]", words: str) -> str:
    """Everything that is said up to the line with these words."""
    said = ""
    assert run.stdout
    for line in run.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"{words!r} was never said: {said}")


def answer(place: Path, *words: str) -> Any:
    _, out, err = ask(place, *words, "--json")
    assert out, err
    return json.loads(out)


def test_below_the_limit_nothing_is_placed_and_everybody_is_told_until_there_is_room(
    small: Path,
) -> None:
    (small / "fleet.toml").write_text("[disk]\nwarn_below_mb = 4\nstop_below_mb = 2\n")
    ballast = fill(small, leave=1_900_000)
    run = start(small, "run", "t.json")
    said = heard(run, "nothing starts below 2.00 MB (disk.stop_below_mb)")
    assert "only 1." in said
    made = answer(small, "explain", "@last/a")
    assert made["waiting"] == "disk"
    assert any("are free on the fleet's disk" in line["sentence"] for line in made["lines"])
    assert answer(small, "inspect", "@last/a")["waiting"]["reason"] == "disk"
    assert "disk" in [line.get("waiting") for line in answer(small, "explain", "@last")["lines"]]
    for _ in range(2):  # the second answer may be the kept one
        need = answer(small, "status")["needs"][0]
        assert (need["id"], need["next"]) == ("disk", f"df -h {small}/.fleet")
        assert "nothing starts below 2.00 MB" in need["why"]
    assert not [r for r in records(small) if r["k"] == "attempt.dispatched"]
    ballast.unlink()
    out, _ = run.communicate(timeout=30)
    assert run.returncode == 0, out
    assert "free again: it goes on" in out
    assert answer(small, "status")["needs"] == []


def test_low_room_is_told_once_and_shown_by_a_kept_status_and_stops_nothing(small: Path) -> None:
    (small / "fleet.toml").write_text("[disk]\nwarn_below_mb = 4\nstop_below_mb = 1\n")
    code, out, err = ask(small, "run", "t.json")
    assert code == 0 and "are free" not in out + err
    assert answer(small, "status")["needs"] == []
    fill(small, leave=3_000_000)
    (need,) = answer(small, "status")["needs"]
    assert need["id"] == "disk" and "below 1.00 MB nothing starts" in need["why"]
    code, out, err = ask(small, "run", "t.json")
    assert code == 0
    assert (out + err).count("are free on the fleet's disk") == 1


def test_without_a_word_in_fleet_toml_the_limits_scale_with_the_file_system(
    small: Path, tmp_path: Path
) -> None:
    room = room_of(small, State())
    assert room and room.size == 8 * MIB
    assert (room.warn, room.stop) == (8 * MIB // 10, 8 * MIB // 20)
    large = room_of(tmp_path, State())
    assert large and large.size > 20 * 10**9, "this test wants a disk of more than 20 GB"
    assert (large.warn, large.stop) == (10**9, 10**8)
    (small / "fleet.toml").write_text("[disk]\nwarn_below_mb = 0\nstop_below_mb = 7\n")
    said = limits_of([tmp_path / "nowhere", small])
    assert said and (said.warn_below_mb, said.stop_below_mb) == (0, 7)
    room = room_of(small / ".fleet", State())
    assert room is None  # no such directory
    (small / ".fleet").mkdir()
    room = room_of(small / ".fleet", State())
    assert room and (room.warn, room.stop) == (0, 7_000_000)


def test_the_guard_looks_at_most_every_two_seconds_and_heeds_no_broken_file(small: Path) -> None:
    fleet = small / ".fleet"
    fleet.mkdir()
    guard, state = Guard(fleet), State()
    assert guard.look(state, 100.0) == []
    ballast = fill(small, leave=50_000)
    assert guard.look(state, 100.0 + LOOK_SECONDS - 0.1) == []
    (told,) = guard.look(state, 100.0 + LOOK_SECONDS)
    assert guard.full and told.startswith("only 0.0")
    assert guard.look(state, 110.0) == []
    ballast.unlink()
    (told,) = guard.look(state, 120.0)
    assert not guard.full and told.endswith("free again: it goes on")
    (small / "fleet.toml").write_text("[disk]\nstop_below_mb = -1\n")
    (told,) = guard.look(state, 130.0)
    assert "[disk] of fleet.toml is not heeded" in told
    assert guard.look(state, 140.0) == []


def test_the_reserve_is_really_allocated_given_up_once_and_made_again(small: Path) -> None:
    fleet = small / ".fleet"
    fleet.mkdir()
    guard, state = Guard(fleet), State()
    guard.look(state, 100.0)
    kept = (fleet / "reserve").stat()
    assert kept.st_blocks * 512 >= kept.st_size == 8 * MIB // 64
    fill(small)
    assert guard.spare() and free(small) >= kept.st_size
    assert not guard.spare()
    assert guard.full
    (small / "ballast").unlink()
    guard.look(state, 100.0)  # it was full, so it looks at once
    assert (fleet / "reserve").exists() and not guard.full


def test_on_a_disk_that_became_full_the_ends_of_what_runs_are_recorded(
    small: Path, tmp_path: Path
) -> None:
    gate, up = tmp_path / "gate", tmp_path / "up"
    os.mkfifo(gate)
    os.mkfifo(up)
    started, opened = os.open(up, os.O_RDWR), os.open(gate, os.O_RDWR)
    count = 40
    wait = f"echo up > {up}; read line < {gate}"
    tasks = [{"id": f"t{number}", "command": wait} for number in range(count)]
    (small / "many.json").write_text(
        json.dumps({"name": "many", "max_workers": count, "tasks": tasks})
    )
    run = start(small, "run", "many.json")
    seen = b""
    while seen.count(b"\n") < count:
        seen += os.read(started, 4096)
    ballast = fill(small)
    assert (small / ".fleet" / "reserve").exists()
    os.write(opened, b"\n" * count)
    out, _ = run.communicate(timeout=60)
    assert free(small) <= 8 * MIB // 64, "the disk was not full"
    assert not (small / ".fleet" / "reserve").exists(), "the reserve was not needed"
    assert run.returncode == 0, out
    ended = [r for r in records(small) if r["k"] == "attempt.ended"]
    assert len(ended) == count
    ballast.unlink()
    assert ask(small, "run", "t.json")[0] == 0
    assert (small / ".fleet" / "reserve").exists()
    for descriptor in (started, opened):
        os.close(descriptor)
