"""The run of forty tasks that everything is tried on, and what must be true of it afterwards.

Every task appends the id of its attempt to `ran` before anything else, so an attempt that was
started twice shows. All tasks get another attempt when a host loses one, so whatever is killed, the
run must come out the same.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

PLAIN, RETRIED = 30, 3
_RAN = "echo $FLEET_ATTEMPT_ID >> ran"
_AGAIN = {"max_attempts": 9, "initial_backoff_seconds": 0, "retry_on": ["transport"]}


def _claim(confined: bool) -> dict[str, Any]:
    if confined:
        return {"workspace": {"writable_paths": ["shared"]}}
    return {"metadata": {"coordination_contracts": ["shared"]}}


def tasks(*, confined: bool = True) -> list[dict[str, Any]]:
    """Forty: plain, retried, failing, timed out, claiming, with artifacts, leaving a daemon.

    Those that claim are confined, where that can be.
    """
    made: list[dict[str, Any]] = [
        {"id": "slow", "command": f"{_RAN}; exec sleep 600", "timeout_seconds": 0.03},
        {"id": "fails", "command": f"{_RAN}; exit 3"},
        {"id": "daemon", "command": f"{_RAN}; setsid sleep 600 > /dev/null 2>&1 &"},
    ]
    for number in range(RETRIED):
        again = {**_AGAIN, "retry_on": ["transport", "task"]}
        command = f'{_RAN}; test "${{FLEET_ATTEMPT_ID##*@}}" -gt 1'
        made.append({"id": f"retried-{number}", "command": command, "retry_policy": again})
    for number in range(2):
        command = f"{_RAN.replace(' ran', ' shared/ran')}; echo {number} > shared/file"
        made.append({"id": f"claims-{number}", "command": command, **_claim(confined)})
        made.append(
            {
                "id": f"artifact-{number}",
                "command": f"{_RAN}; echo {number} > report-{number}.txt",
                "artifacts": {"report": f"report-{number}.txt"},
                "expected_artifacts": ["report"],
                "scorer": {"kind": "file_exists", "path": f"report-{number}.txt"},
            }
        )
    made += [{"id": f"plain-{number}", "command": _RAN} for number in range(PLAIN)]
    return [{"retry_policy": _AGAIN, **task} for task in made]


def write(place: Path, *, name: str = "forty", workers: int = 3, confined: bool = True) -> None:
    """The spec `NAME.json` in `place`."""
    (place / "shared").mkdir(exist_ok=True)
    spec = {"name": name, "max_workers": workers, "tasks": tasks(confined=confined)}
    (place / f"{name}.json").write_text(json.dumps(spec))


EXPECTED = {task["id"]: "pass" for task in tasks()} | {"slow": "timeout", "fails": "fail"}
"""Result of the deciding receipt of each task."""


def records(place: Path) -> list[dict[str, Any]]:
    """The ledger of `place`, whole lines only, sealed segments first; empty where there is none."""
    fleet = place / ".fleet"
    found: list[dict[str, Any]] = []
    for file in [*sorted((fleet / "segments").glob("*.jsonl")), fleet / "fleet.jsonl"]:
        if file.exists():
            data = file.read_bytes()
            found += [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
    return found


def started_runs(place: Path) -> list[str]:
    """Ids of the runs that were started, oldest first."""
    return [record["run"] for record in records(place) if record["k"] == "run.started"]


def go_on(place: Path) -> list[str]:
    """What is typed after a manager's death: the run again, `resume`, or `wait` if it is over."""
    started = started_runs(place)
    if not started:
        return ["run", "forty.json"]
    over = {record["run"] for record in records(place) if record["k"] == "run.finished"}
    return ["wait" if over.issuperset(started) else "resume", "@last"]


class Found:
    """What became of the attempts and tasks of a place: counts, and sentences for what is wrong."""

    def __init__(self, place: Path, expected: dict[str, str] | None = None) -> None:
        self.expected = EXPECTED if expected is None else expected
        self.events = records(place)
        self.lost = self.twice = self.unknown = self.wrong_exits = 0
        self.wrong: list[str] = []
        started: Counter[str] = Counter()
        for ran in (place / "ran", place / "shared/ran"):
            started.update(ran.read_text().split() if ran.exists() else ())
        for attempt, count in started.items():
            if count > 1:
                self.twice += 1
                self.wrong.append(f"{attempt} was started {count} times")
        self._dispatched = {r["d"]["attempt"] for r in self.events if _is(r, "dispatched")}
        for attempt in started.keys() - self._dispatched:
            self.wrong.append(f"{attempt} ran and was never dispatched")
        self._ends()
        for run in started_runs(place):
            self._run(run)

    def _ends(self) -> None:
        ended = [r["d"] for r in self.events if _is(r, "ended") or _is(r, "lost")]
        for attempt, count in Counter(end["attempt"] for end in ended).items():
            late = sum(1 for end in ended if end["attempt"] == attempt and end.get("late"))
            if count - late > 1:
                self.wrong.append(f"{attempt} ended {count} times")
        for end in ended:
            if end.get("unknown") or "src" not in end:
                self.unknown += 1
                if "exit" in end or not _judged_without_exit(end):
                    self.wrong_exits += 1
                    self.wrong.append(f"{end['attempt']} is unknown, yet {end}")
            elif "exit" not in end and "signal" not in end and "unstarted" not in end:
                self.wrong_exits += 1
                self.wrong.append(f"{end['attempt']} has no exit, and is not called unknown")

    def _run(self, run: str) -> None:
        deciding: dict[str, list[str]] = {}
        for record in self.events:
            if record.get("run") == run and (_is(record, "ended") or _is(record, "lost")):
                end = record["d"]
                if end.get("retry_after") is None and not end.get("late"):
                    task = end["attempt"].partition("/")[2].rpartition("@")[0]
                    deciding.setdefault(task, []).append(end["receipt"]["result"])
        for task in self.expected.keys() | (deciding.keys() if self.expected else set()):
            results = deciding.get(task, [])
            if len(results) != 1:
                self.lost += 1
                self.wrong.append(f"{run}/{task} has {len(results)} deciding receipts")
            elif results[0] != self.expected.get(task, results[0]):
                self.wrong.append(f"{run}/{task} came out as {results[0]}")
        finished = [r for r in self.events if r["k"] == "run.finished" and r.get("run") == run]
        if len(finished) != 1:
            self.wrong.append(f"{run} was finished {len(finished)} times")


def _judged_without_exit(end: dict[str, Any]) -> bool:
    """Nobody's fault but the host's; or decided by the clock, or by a file that is there."""
    receipt = end["receipt"]
    return bool(
        receipt.get("source") == "transport"
        or (receipt["result"] == "timeout" and end.get("why") == "timeout")
        or receipt.get("scorer") == "file_exists"
    )


def _is(record: dict[str, Any], word: str) -> bool:
    return bool(record["k"] == f"attempt.{word}")
