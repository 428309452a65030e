"""Places and times that a ledger meets: read-only, remote, jumping clocks, a newer version."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import pytest

from codewhale_fleet.errors import Refused
from codewhale_fleet.ledger import place as places
from codewhale_fleet.ledger.verify import verify
from tests.cli.driver import environment, fleet
from tests.engine.test_disk import start

from . import forty
from .disk_small import small_disk
from .disk_writers import ROOT, _leave

LIBFAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
MOUNTS = "21 1 254:0 / / rw - ext4 /dev/vda rw\n40 21 0:50 / {at} rw,relatime - {kind} host:/x rw\n"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A finished run on a file system of its own."""
    with small_disk(tmp_path / "small", "tmpfs", 8 << 20) as folder:
        (folder / "t.json").write_text(json.dumps({"tasks": [{"id": "a", "command": "true"}]}))
        assert fleet(folder, "run", "t.json").returncode == 0
        _leave(folder)
        yield folder


def test_a_read_only_directory_can_be_read_and_says_that_it_cannot_be_written(
    mounted: Path,
) -> None:
    before = (mounted / ".fleet" / "fleet.jsonl").read_bytes()
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    with pytest.raises(OSError, match="Read-only file system"):
        (mounted / "probe").touch()
    for words in (["status"], ["explain", "@last"], ["receipts", "@last"], ["ledger", "verify"]):
        done = fleet(mounted, *words)
        assert done.returncode == 0, f"{words}: {done.stderr}"
    for words in (["run", "t.json"], ["run", "t.json", "--detach"]):
        done = fleet(mounted, *words)
        assert done.returncode == 5, f"{words}: {done.returncode} {done.stderr}"
        assert "Read-only file system" in done.stderr
    assert (mounted / ".fleet" / "fleet.jsonl").read_bytes() == before


@pytest.mark.parametrize("kind", sorted(places.REMOTE))
def test_a_remote_file_system_is_refused_with_the_way_out(tmp_path: Path, kind: str) -> None:
    mounts = MOUNTS.format(at=tmp_path, kind=kind)
    with pytest.raises(Refused, match=f"lies on {kind}, where locks and syncs") as found:
        places.check_mount(tmp_path / ".fleet", mounts)
    assert 'write "dir: /local/path" into a file .fleet' in found.value.hint
    places.check_mount(tmp_path.parent / "elsewhere", mounts)


def test_the_advice_for_a_remote_home_works_as_it_is_given(tmp_path: Path) -> None:
    home, local = tmp_path / "home", tmp_path / "local"
    home.mkdir()
    (home / "t.json").write_text(json.dumps({"tasks": [{"id": "a", "command": "true"}]}))
    text = MOUNTS.format(at=home, kind="nfs4")
    code = (
        "import sys; from codewhale_fleet.ledger import place;"
        f"place.read_mounts = lambda: {text!r};"
        "from codewhale_fleet.cli import main; sys.exit(main(['run', 't.json']))"
    )

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=home,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )

    refused = run()
    assert refused.returncode == 4, refused.stderr
    assert "lies on nfs4" in refused.stderr and '"dir: /local/path"' in refused.stderr
    assert not (home / ".fleet").exists()
    (home / ".fleet").write_text(f"dir: {local}\n")
    done = run()
    assert done.returncode == 0, done.stderr
    assert verify(local).ok


WRITER = """
import sys
from pathlib import Path
from codewhale_fleet.core import commands as c
from codewhale_fleet.ledger.store import Ledger
ledger = Ledger.open(Path(sys.argv[1]), create=True)
for line in sys.stdin:
    with ledger.transaction("test") as transaction:
        transaction.submit(c.ReportBeat(workers=("w",)))
    ledger.sync()
    print(ledger.seq, flush=True)
"""


def _writer(place: Path, clock: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(place / ".fleet")],
        cwd=ROOT,
        env=_faked(clock),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _faked(clock: Path) -> dict[str, str]:
    assert Path(LIBFAKETIME).exists(), "apt-get install faketime"
    return {
        **os.environ,
        "LD_PRELOAD": LIBFAKETIME,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def test_a_wall_clock_that_jumps_back_and_forth_changes_no_order(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    jumps = ["+0", "+3d", "-3d", "+400d", "-20y", "+0"]
    clock.write_text(jumps[0])
    writers = [_writer(tmp_path, clock) for _ in range(2)]
    for jump in jumps:
        clock.write_text(jump)
        for writer in writers:
            assert writer.stdin and writer.stdout
            writer.stdin.write("on\n")
            writer.stdin.flush()
            assert writer.stdout.readline()
    for writer in writers:
        writer.communicate(timeout=30)
        assert writer.returncode == 0
    records = forty.records(tmp_path)
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert len(records) == 1 + 2 * len(jumps)
    times = [datetime.fromisoformat(record["ts"]).timestamp() for record in records]
    steps = [round((b - a) / 86_400) for a, b in pairwise(times)]
    assert 3 in steps and -6 in steps and 403 in steps and min(steps) < -7000, steps
    assert verify(tmp_path / ".fleet", detail=True).ok


@pytest.mark.slow
def test_a_clock_that_jumps_while_a_task_waits_for_its_next_attempt_freezes_nothing(
    tmp_path: Path,
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    again = {"max_attempts": 3, "initial_backoff_seconds": 0.4, "jitter": 0, "retry_on": ["task"]}
    jump = {1: "-2d", 2: "+2d"}
    command = "; ".join(
        f'test "${{FLEET_ATTEMPT_ID##*@}}" = {n} && {{ echo {to} > {clock}; exit 1; }}'
        for n, to in jump.items()
    )
    task = {"id": "a", "command": f"{command}; true", "retry_policy": again}
    (tmp_path / "t.json").write_text(json.dumps({"name": "r", "tasks": [task]}))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _faked(clock).items():
            patch.setenv(name, value)
        run = start(tmp_path, "run", "t.json")
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0, out
    assert clock.read_text() == "+2d\n", "the clock did not jump"
    found = forty.Found(tmp_path, {"a": "pass"})
    assert not found.wrong, found.wrong
    assert verify(tmp_path / ".fleet", detail=True).ok


@pytest.mark.parametrize("changes", [{"k": "moon.landed"}, {"v": 99}])
def test_a_ledger_of_a_newer_version_is_refused_by_every_command_and_left_as_it_is(
    mounted: Path, changes: dict[str, object]
) -> None:
    path = mounted / ".fleet" / "fleet.jsonl"
    lines = path.read_bytes().splitlines()
    newer = {**json.loads(lines[-1]), "seq": len(lines) + 1, **changes}
    del newer["c"]
    body = json.dumps(newer, separators=(",", ":")).encode()[:-1]
    with path.open("ab") as file:
        file.write(body + b',"c":"%08x"}\n' % crc32(body, int(lines[-1][-10:-2], 16)))
    (mounted / ".fleet" / "synced").unlink()
    before = path.read_bytes()
    for words in (["status"], ["run", "t.json"], ["resume", "@last"], ["stop", "--all"]):
        done = fleet(mounted, *words)
        assert done.returncode == 5, f"{words}: {done.returncode} {done.stdout}{done.stderr}"
        assert "newer version" in done.stderr
    assert path.read_bytes() == before
