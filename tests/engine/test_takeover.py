"""A fleet's directory is renamed, copied, restored; its machine is restarted: what is found then.

Real processes and directories; another boot is a bind mount over the kernel's boot id.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..surroundings import mounted
from .remote import end
from .test_kill import ask, pids_of_runtime, records

pytestmark = pytest.mark.slow

RETRIED = {"max_attempts": 2, "initial_backoff_seconds": 0}


class Fleet:
    """A workspace whose run `long` writes its pid into `up` and waits for `go`; `after` follows."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        os.mkfifo(place / "go")
        os.mkfifo(place / "up")
        tasks = [
            {
                "id": "long",
                "command": "echo $$ >> pids; echo $$ > up; read line < go",
                "retry_policy": RETRIED,
            },
            {"id": "after", "command": "pwd > after"},
        ]
        written = {"name": "r", "max_workers": 1, "tasks": tasks}
        (place / "t.json").write_text(json.dumps(written))

    def begin(self) -> int:
        """Run it detached; the pid of the task, which is up."""
        code, out, err = ask(self.place, "run", "t.json", "--detach")
        assert code == 0, out + err
        return int((self.place / "up").read_text())

    def go(self) -> None:
        (self.place / "go").write_text("go\n")

    def wait(self) -> None:
        code, out, err = ask(self.place, "wait", "@last", "--timeout", "60")
        assert code == 0, out + err

    def words(self) -> list[str]:
        return [str(record["k"]) for record in records(self.place)]

    def payloads(self, word: str) -> list[dict[str, Any]]:
        return [r["d"] for r in records(self.place) if r["k"] == word]  # type: ignore[misc]

    @property
    def manager(self) -> int:
        return int(self.payloads("manager.elected")[-1]["pid"])

    def id(self) -> str:
        return str(json.loads(ask(self.place, "status", "--json")[1])["fleet"])


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path / "work")
    yield made
    for pid in pids_of_runtime(made.place):
        end(pid)


def test_a_renamed_workspace_keeps_what_runs_and_goes_on_where_it_is_now(
    fleet: Fleet, tmp_path: Path
) -> None:
    fleet.begin()
    before = fleet.id()
    os.kill(fleet.manager, signal.SIGKILL)
    old = fleet.place
    fleet.place = old.rename(tmp_path / "renamed")
    code, out, err = ask(fleet.place, "resume", "@last", "--detach")
    assert code == 0, out + err
    fleet.go()
    fleet.wait()
    assert fleet.id() == before
    assert "attempt.lost" not in fleet.words() and "fleet.copied" not in fleet.words()
    assert (fleet.place / "after").read_text() == f"{fleet.place}\n"
    assert not old.exists()
    ended = fleet.payloads("attempt.ended")
    assert [one["attempt"].rpartition("@")[2] for one in ended] == ["1", "1"]
    for pid in pids_of_runtime(old):
        end(pid)


def test_a_rename_under_a_live_manager_stops_nothing(fleet: Fleet, tmp_path: Path) -> None:
    fleet.begin()
    old = fleet.place
    fleet.place = old.rename(tmp_path / "renamed")
    fleet.go()
    fleet.wait()
    assert (fleet.place / "after").read_text() == f"{fleet.place}\n"
    assert not old.exists()
    for pid in pids_of_runtime(old):
        end(pid)


def test_a_copy_is_another_fleet_and_does_not_touch_the_original(
    fleet: Fleet, tmp_path: Path
) -> None:
    fleet.begin()
    copied = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(fleet.place), str(copied)], check=True)
    copy = Fleet.__new__(Fleet)
    copy.place = copied
    code, out, err = ask(copied, "resume", "@last", "--detach")
    assert code == 0, out + err
    second = int((copied / "up").read_text())
    copy.go()
    copy.wait()
    for pid in pids_of_runtime(copied):
        end(pid)

    assert copy.id() != fleet.id()
    (renamed,) = copy.payloads("fleet.copied")
    assert renamed == {"fleet": copy.id(), "was": fleet.id()}
    (lost,) = copy.payloads("attempt.lost")
    assert lost["why"] == "the fleet directory was copied or restored"
    assert (copied / "after").read_text() == f"{copied}\n"
    assert "attempt.ended" not in fleet.words()
    assert not (fleet.place / "after").exists()
    assert str(second) not in (fleet.place / "pids").read_text().split()

    fleet.go()
    fleet.wait()
    assert [one["exit"] for one in fleet.payloads("attempt.ended")] == [0, 0]
    assert "attempt.lost" not in fleet.words()


def test_after_a_restart_of_the_machine_open_attempts_are_lost_and_retried(
    fleet: Fleet, tmp_path: Path
) -> None:
    task = fleet.begin()
    for pid in (*pids_of_runtime(fleet.place), fleet.manager, task):
        end(pid)
    other = tmp_path / "boot_id"
    other.write_text("00000000-0000-4000-8000-000000000000\n")
    place = "/proc/sys/kernel/random/boot_id"
    wrapper = mounted(f"mount --bind {other} {place} || exit 99; run; umount {place};")
    answer = subprocess.run(
        [*wrapper, sys.executable, "-m", "codewhale_fleet", "resume", "@last", "--detach"],
        cwd=fleet.place, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert int((fleet.place / "up").read_text()) != task
    fleet.go()
    fleet.wait()
    (lost,) = fleet.payloads("attempt.lost")
    assert lost["why"] == "the machine was restarted"
    assert "fleet.copied" not in fleet.words()
    started = [one["attempt"] for one in fleet.payloads("attempt.dispatched")]
    assert len(started) == len(set(map(str, started))) == 3
    assert len((fleet.place / "pids").read_text().split()) == 2


def test_a_restored_older_ledger_is_noticed_and_can_be_gone_on_from(fleet: Fleet) -> None:
    task = fleet.begin()
    ledger = fleet.place / ".fleet/fleet.jsonl"
    older = ledger.read_bytes()
    cut = older.index(b'{"k":"attempt.dispatched"')
    fleet.go()
    fleet.wait()
    (fleet.place / ".fleet/fleet.jsonl").write_bytes(older[:cut])
    (fleet.place / ".fleet/synced").unlink()
    for name in ("snapshot", "cache"):
        shutil.rmtree(fleet.place / ".fleet" / name, ignore_errors=True)

    for _ in range(3):
        code, out, err = ask(fleet.place, "resume", "@last")
        assert code == 4, out + err
        assert "is older than its worker runtime" in err and "Was it restored?" in err
    assert (fleet.place / "pids").read_text().split() == [str(task)]

    said = re.search(r"kill -9 ([\d ]+); rm -r (\S+)", err)
    assert said
    assert sorted(map(int, said[1].split())) == sorted(pids_of_runtime(fleet.place))
    for word in said[1].split():
        end(int(word))
    shutil.rmtree(said[2])
    code, out, err = ask(fleet.place, "resume", "@last", "--detach")
    assert code == 0, out + err
    assert int((fleet.place / "up").read_text()) != task
    fleet.go()
    fleet.wait()
