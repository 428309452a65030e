"""Small real file systems that tasks and callers fill: nothing is lost, and it goes on.

The limits of the disk guard are turned off, so that the writes themselves meet the full disk.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.cli.driver import fleet
from tests.engine.test_disk import start

from . import forty
from .disk_small import fill, free, small_disk
from .disk_writers import _leave
from .report import FULL, PROPERTY, Row

Record = Callable[[str, object], None]
SIZES = {"tmpfs": 1 << 20, "ext4": 1 << 20}
LEFT = tuple(range(0, 65537, 2048)) if FULL else (0, 4096, 8192, 12288, 32768)
"""Bytes that are left of the disk when a fleet is begun, or goes on."""


class Anything(dict[str, str]):
    """Tasks that must have ended once, however."""

    def get(self, key: str, default: str = "") -> str:  # type: ignore[override]
        return default


NAMES = Anything(a="", b="")
NO_SPACE = ("no space is left", "No space left on device")


@pytest.fixture(params=SIZES)
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", request.param, SIZES[request.param]) as folder:
        (folder / "fleet.toml").write_text("[disk]\nwarn_below_mb = 0\nstop_below_mb = 0\n")
        yield folder


def _spec(place: Path, name: str, tasks: list[dict[str, object]], workers: int = 3) -> str:
    spec = {"name": name, "max_workers": workers, "tasks": tasks}
    (place / f"{name}.json").write_text(json.dumps(spec))
    return f"{name}.json"


def _whole_lines(place: Path) -> None:
    data = (place / ".fleet" / "fleet.jsonl").read_bytes()
    assert data[-1:] in (b"", b"\n"), "half a line was left"
    if data:
        done = fleet(place, "ledger", "verify")
        assert done.returncode == 0, done.stdout + done.stderr


def _go_on(place: Path, expected: dict[str, str] | None = None, again: Sequence[str] = ()) -> None:
    """Every run that was begun is brought to its end, without an unlock.

    `again`: runs whose failed tasks were asked for again, so that they finished twice.
    """
    for run in forty.started_runs(place):
        done = fleet(place, "resume", run)
        assert done.returncode in (0, 1, 4), done.stdout + done.stderr
        if done.returncode == 4:
            assert "finished" in done.stderr + done.stdout, done.stderr
    found = forty.Found(place, expected or {})
    twice = [f"{run} was finished 2 times" for run in again]
    assert set(found.wrong) <= set(twice), found.wrong
    assert found.twice == found.lost == 0
    _whole_lines(place)
    _leave(place)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_tasks_that_fill_the_disk_end_and_when_there_is_room_the_run_goes_on(
    small: Path, record_property: Record
) -> None:
    again = {"max_attempts": 4, "initial_backoff_seconds": 0, "retry_on": ["task", "transport"]}
    fills = "echo $FLEET_ATTEMPT_ID >> {0}/ran; test -e {0}/room || cat /dev/zero > fill-$$"
    command = fills.format(small.parent)
    names = [f"fills-{number}" for number in range(6)]
    spec = _spec(
        small, "fills", [{"id": n, "command": command, "retry_policy": again} for n in names]
    )
    first = start(small, "run", spec)
    said = _until_it_waits(first)
    assert free(small) < 65536, "the disk was not filled"
    errors = "".join(path.read_text(errors="replace") for path in (small / ".fleet").rglob("*.err"))
    assert any(word in errors + said for word in (*NO_SPACE, "disk full")), "nobody met the limit"
    _whole_lines(small)
    started = forty.started_runs(small)
    shown = _callers_until_full(small)
    assert set(shown) <= set(forty.started_runs(small)), "an acknowledged run is gone"
    (small.parent / "room").touch()
    for path in (*small.glob("fill-*"), small / "ballast"):
        path.unlink(missing_ok=True)
    rest, _ = first.communicate(timeout=60)
    said += rest
    assert "Traceback" not in said
    assert first.returncode in (0, 1, 5), said
    if first.returncode == 5:
        assert "no space is left" in said and "Make room" in said
    for run in started:
        fleet(small, "resume", run)  # may tell of an end from before there was room
        done = fleet(small, "resume", run, "--failed")
        passed = done.returncode == 4 and "nothing to resume" in done.stderr
        assert done.returncode == 0 or passed, done.stdout + done.stderr
    _go_on(small, again=started)
    row = Row("full disk, tasks", "tasks fill it", kills=1)
    record_property(PROPERTY, {"rows": [asdict(row)]})


def _until_it_waits(run: "subprocess.Popen[str]") -> str:
    """What a run says to its end, or until it waits for room."""
    said = ""
    assert run.stdout
    for line in run.stdout:
        said += line
        if "is the disk full?" in line:
            break
    return said


def _callers_until_full(place: Path) -> list[str]:
    """Begin runs until one is refused for want of room; those whose id was shown."""
    fill(place, leave=12_000)
    shown = []
    text = "x" * 3000
    for number in range(40):
        (place.parent / "more.json").write_text(
            json.dumps({"name": f"more{number}", "tasks": [{"id": "a", "command": f": {text}"}]})
        )
        done = fleet(place, "run", str(place.parent / "more.json"), "--detach", "--dir", str(place))
        if done.returncode != 0:
            assert done.returncode in (5, 6), done.stdout + done.stderr
            if done.returncode == 5:
                assert any(word in done.stderr for word in NO_SPACE), done.stderr
                _whole_lines(place)
                return shown
        found = re.search(rf"more{number}-[a-z2-7]{{6}}", done.stdout)
        if found and done.returncode == 0:
            shown.append(found[0])
    raise AssertionError("the disk was never full for the ledger")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fleet_that_is_begun_with_too_little_room_says_so_and_begins_when_there_is(
    small: Path, record_property: Record
) -> None:
    spec = _spec(small, "plain", [{"id": "a", "command": "true"}, {"id": "b", "command": "true"}])
    row = Row("full disk, begun", "room left")
    for left in LEFT:
        ballast = fill(small, leave=left) if left else fill(small)
        begun = start(small, "run", spec)
        said = _until_it_waits(begun)
        row.boundaries += 1
        ballast.unlink()
        said += begun.communicate(timeout=60)[0]
        assert "Traceback" not in said and "mistake in fleet" not in said, said
        if "pace" in said or "disk full" in said:
            row.kills += 1
        else:
            assert begun.returncode == 0, f"{left}: {begun.returncode} {said}"
        assert begun.returncode in (0, 1, 5, 6), f"{left}: {begun.returncode} {said}"
        if forty.records(small):
            _go_on(small, NAMES)
        done = fleet(small, "run", spec)
        assert done.returncode == 0, f"{left}: {done.stdout}{done.stderr}"
        _go_on(small, NAMES)
        shutil.rmtree(small / ".fleet")
    assert row.kills >= 2, "the disk was never full"
    print(f"{row.boundaries} fleets begun with little room, {row.kills} were refused")
    record_property(PROPERTY, {"rows": [asdict(row)]})
