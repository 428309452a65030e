"""The machine is restarted while attempts have a directory of their own: their work is kept.

Real processes and git; another boot is a bind mount over the kernel's boot id.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..surroundings import mounted
from .test_kill import ask, pids_of_runtime, records, until_ran
from .test_takeover import end

pytestmark = pytest.mark.slow

WORK = (
    "test -e part && echo goes on >> $FLEET_DIR/ran && exit 0; "
    "echo half > part; echo edited >> a.txt; rm gone.txt; sync; "
    "echo begun >> $FLEET_DIR/ran; exec cat $FLEET_DIR/pipe"
)


def payloads(place: Path, word: str) -> list[dict[str, Any]]:
    return [one["d"] for one in records(place) if one["k"] == word]  # type: ignore[misc]


def begun(place: Path, kind: str, policy: dict[str, Any] | None) -> None:
    """One isolated attempt that has written a part of its work when everything ends at once."""
    for words in (("init", "-q", "-b", "main"), ("add", "a.txt", "gone.txt")):
        if words[0] == "add":
            (place / "a.txt").write_text("one\n")
            (place / "gone.txt").write_text("two\n")
            (place / ".gitignore").write_text("ran\npipe\n")
        subprocess.run(["git", *words], cwd=place, check=True)
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *who, "commit", "-qm", "base"], cwd=place, check=True)
    subprocess.run(["mkfifo", "pipe"], cwd=place, check=True)
    task: dict[str, Any] = {"id": "t", "command": WORK, "workspace": {"isolation": kind}}
    if policy:
        task["retry_policy"] = policy
    (place / "t.json").write_text(json.dumps({"name": "r", "tasks": [task]}))
    code, out, err = ask(place, "run", "t.json", "--detach")
    assert code == 0, out + err
    until_ran(place, 1)
    (manager,) = payloads(place, "manager.elected")
    (task_pid,) = (one["pid"] for one in payloads(place, "attempt.started")[:1] or [{"pid": 0}])
    for pid in (*pids_of_runtime(place), int(manager["pid"]), task_pid or left(place)):
        end(pid)


def left(place: Path) -> int:
    """The attempt's process, by its working directory."""
    for entry in Path("/proc").iterdir():
        try:
            where = str((entry / "cwd").readlink()) if entry.name.isdigit() else ""
            if where.startswith(f"{place}/.fleet/worktrees/"):
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError("its process is gone")


def after_a_restart(place: Path, *words: str) -> str:
    other = place.with_name("boot_id")
    other.write_text("00000000-0000-4000-8000-000000000000\n")
    boot = "/proc/sys/kernel/random/boot_id"
    wrapper = mounted(f"mount --bind {other} {boot} || exit 99; run; umount {boot};")
    done = subprocess.run(
        [*wrapper, sys.executable, "-m", "codewhale_fleet", *words],
        cwd=place, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "work"
    made.mkdir()
    yield made
    for pid in pids_of_runtime(made):
        end(pid)


@pytest.mark.parametrize("kind", ["worktree", "copy"])
def test_the_next_attempt_goes_on_from_what_the_one_before_the_restart_had_changed(
    place: Path, kind: str
) -> None:
    begun(place, kind, {"max_attempts": 2, "initial_backoff_seconds": 0, "continue": True})
    after_a_restart(place, "resume", "@last")
    assert (place / "ran").read_text() == "begun\ngoes on\n"
    first, second = payloads(place, "attempt.ended")
    assert (first["why"], first["unknown"], first["retry_after"]) == ("restarted", True, 0.0)
    assert first["receipt"] == {
        "result": "fail", "source": "transport", "reason": "the machine was restarted",
    }  # fmt: skip
    assert (second["exit"], second["receipt"]["result"]) == (0, "pass")
    (patch,) = (one for one in first["artifacts"] if one["kind"] == "patch")
    kept = (place / ".fleet/evidence" / patch["sha256"]).read_text()
    assert "+half" in kept and "+edited" in kept and "deleted file mode" in kept
    assert "attempt.lost" not in [one["k"] for one in records(place)]


def test_without_another_attempt_the_patch_is_kept_all_the_same(place: Path) -> None:
    begun(place, "worktree", None)
    after_a_restart(place, "resume", "@last")
    (ended,) = payloads(place, "attempt.ended")
    assert [one["kind"] for one in ended["artifacts"]] == ["patch"]
    code, out, _ = ask(place, "explain", "@last/t")
    assert code == 0 and "the machine was restarted" in out
    assert (place / "ran").read_text() == "begun\n"
    code, out, err = ask(place, "apply", "@last/t")
    assert code != 0 and "has not passed" in err + out, err + out


def test_who_stops_the_run_after_a_restart_keeps_the_patch_too(place: Path) -> None:
    policy = {"max_attempts": 3, "initial_backoff_seconds": 0}
    begun(place, "worktree", policy)
    after_a_restart(place, "stop", "@last")
    (ended,) = payloads(place, "attempt.ended")
    assert [one["kind"] for one in ended["artifacts"]] == ["patch"]
    (dispatched,) = payloads(place, "attempt.dispatched")
    assert dispatched["attempt"] == ended["attempt"]
    assert payloads(place, "run.finished") and (place / "ran").read_text() == "begun\n"


def test_a_directory_that_is_gone_leaves_a_lost_attempt(place: Path) -> None:
    begun(place, "copy", None)
    (directory,) = place.glob(".fleet/worktrees/*/t.1")
    shutil.rmtree(directory)
    after_a_restart(place, "resume", "@last")
    (lost,) = payloads(place, "attempt.lost")
    assert lost["why"] == "the machine was restarted"
    assert not payloads(place, "attempt.ended")
