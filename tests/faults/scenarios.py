"""What happens to a fleet besides one death: sleepers, races, other boots, copies, clocks.

Each scenario is performed like an experiment, in a process that adopts every orphan, and takes
(programs, job, result); `result["figures"]` are for the report.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.surroundings import own_mounts

from . import forty
from .programs import Programs

Result = dict[str, Any]
RUN = ["run", "forty.json"]
LIBFAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
_BIND = 4096


def _elected(programs: Programs) -> list[int]:
    events = forty.records(programs.place)
    return [record["d"]["epoch"] for record in events if record["k"] == "manager.elected"]


def _seconds(record: dict[str, Any]) -> float:
    return datetime.fromisoformat(record["ts"]).timestamp()


def _right(result: Result, what: str, status: int, right: int, said: str) -> None:
    if status != right:
        result["wrong"].append(f"{what} ended with {status}: {said}")


def stopped_manager(programs: Programs, job: dict[str, Any], result: Result) -> None:
    """The manager is stopped at a boundary, replaced, and wakes: it is fenced."""

    def impatient() -> None:
        from codewhale_fleet.engine import waiting

        waiting.PING_SECONDS, waiting.PONG_SECONDS = 0.1, 0.5

    first = programs.start(RUN, me=job["at"], how=signal.SIGSTOP)
    if not programs.wait_until_stopped(first):
        result["past"] = True  # this run had no such boundary
        return
    again = forty.go_on(programs.place)
    result["past"] = again[0] == "wait"  # in this run nothing was left to take over
    status = programs.wait(programs.start(again, before=impatient))
    _right(result, f"the second manager ({again[0]})", status, 1, programs.words())
    before = len(forty.records(programs.place))
    os.kill(first, signal.SIGCONT)
    _right(result, "the first manager", programs.wait(first), 1, programs.words())
    after = forty.records(programs.place)[before:]
    if any(record["k"].startswith(("attempt.", "run.")) for record in after):
        result["wrong"].append(f"the fenced manager wrote {after}")
    if len(_elected(programs)) < 2 and not result["past"]:
        result["wrong"].append("nobody took over")


def takeover(programs: Programs, job: dict[str, Any], result: Result) -> None:
    """A second `fleet run` waits on the first one's manager, which dies: seconds until it acts."""
    held = [{"id": "held", "command": "read line < go"}]
    many = [{"id": f"t{n}", "command": "sleep 0.005"} for n in range(150)]
    programs.spec("first", held, 1)
    programs.spec("second", many, 2)
    os.mkfifo(programs.place / "go")
    first = programs.start(["run", "first.json"], me=job["at"])
    while not forty.started_runs(programs.place):
        os.sched_yield()
    second = programs.start(["run", "second.json"])
    died = programs.wait(first)
    at = time.time()
    _right(result, "the first manager", died, -signal.SIGKILL, "")
    go = os.open(programs.place / "go", os.O_RDWR)  # waits for no reader, and is kept for one
    os.write(go, b"go\n")
    _right(result, "the second run", programs.wait(second), 0, programs.words())
    run = forty.started_runs(programs.place)[0]
    ended, verb = programs.wait(programs.start(["wait", run])), "wait"
    if ended == 3:  # who died before the task was sent took its environment along
        ended, verb = programs.wait(programs.start(["resume", run])), "resume"
    _right(result, verb, ended, 0, programs.words())
    for word in ("manager.elected", "attempt.dispatched"):
        later = [r for r in forty.records(programs.place) if r["k"] == word and _seconds(r) > at]
        if later:
            result.setdefault("figures", {})[word] = round(_seconds(later[0]) - at, 4)
    if "attempt.dispatched" not in result.get("figures", {}):
        result["wrong"].append("nothing was dispatched after the takeover")
    os.close(go)


def race(programs: Programs, job: dict[str, Any], result: Result) -> None:
    """So many `fleet run`s at once in an empty place: one manager at a time, all runs pass."""
    tasks = [{"id": f"t{n}", "command": "echo $FLEET_ATTEMPT_ID >> ran"} for n in range(3)]
    programs.spec("small", tasks, 2)
    pids = [programs.start(["run", "small.json"]) for _ in range(job["callers"])]
    for pid in pids:
        _right(result, "a caller", programs.wait(pid), 0, programs.words())
    epochs = _elected(programs)
    if epochs != list(range(1, len(epochs) + 1)):
        result["wrong"].append(f"epochs are {epochs}")
    result["figures"] = {"callers": job["callers"], "elections": len(epochs)}
    ran = (programs.place / "ran").read_text().split()
    if len(ran) != 3 * job["callers"] or len(set(ran)) != len(ran):
        result["wrong"].append(f"{len(ran)} tasks ran, {len(set(ran))} of them different")


def reboot(programs: Programs, job: dict[str, Any], result: Result) -> None:
    """Everything dies in the middle, and the machine comes up with another boot id."""
    boot = programs.place / "boot_id"
    boot.write_text("00000000-0000-4000-8000-000000000000\n")

    def rebooted() -> None:
        real = b"/proc/sys/kernel/random/boot_id"
        if own_mounts().mount(bytes(boot), real, None, _BIND, None):
            raise OSError(ctypes.get_errno(), "the boot id can't be replaced")

    _right(result, "the manager", programs.wait(programs.start(RUN, me=job["at"])), -9, "it lives")
    programs.kill_all()
    status = programs.wait(programs.start(["resume", "@last"], before=rebooted))
    _right(result, "resume after the reboot", status, 1, programs.words())
    whys = {r["d"]["why"] for r in forty.records(programs.place) if r["k"] == "attempt.lost"}
    if whys != {"the machine was restarted"}:
        result["wrong"].append(f"attempts were lost because of {whys or 'nothing'}")


def copied(programs: Programs, job: dict[str, Any], result: Result) -> None:
    """`cp -a` of a workspace whose run is in flight: the original goes on, the copy's is lost."""
    first = programs.start(RUN, me=job["at"], how=signal.SIGSTOP)
    if not programs.wait_until_stopped(first):
        result["wrong"].append("the manager was never stopped")
        return
    copy = programs.place / "copy"
    try:
        shutil.copytree(programs.place, copy, symlinks=True, ignore=_sockets_and("copy"))
    except shutil.Error as error:  # all else is copied; what has ended meanwhile is tidied away
        if any("No such file" not in why for _, _, why in error.args[0]):
            raise
    os.kill(first, signal.SIGCONT)
    _right(result, "the original", programs.wait(first), 1, programs.words())
    (copy / "ran").unlink(missing_ok=True)
    there = Programs(copy)
    os.chdir(copy)
    _right(result, "the copy", there.wait(there.start(["resume", "@last"])), 1, there.words())
    result["wrong"] += [f"copy: {what}" for what in forty.Found(copy).wrong]
    whys = {r["d"]["why"] for r in forty.records(copy) if r["k"] == "attempt.lost"}
    if not whys <= {"the fleet directory was copied or restored"} or not whys:
        result["wrong"].append(f"the copy's attempts were lost because of {whys or 'nothing'}")
    result["wrong"] += [f"copy left {what}" for what in there.end_runtime()]
    os.chdir(programs.place)


def _sockets_and(name: str) -> Callable[[str, list[str]], list[str]]:
    return lambda folder, names: [n for n in names if n == name or (Path(folder) / n).is_socket()]


def clock_jump(programs: Programs, job: dict[str, Any], result: Result) -> None:
    """The manager dies, and the next one lives at another wall-clock time."""
    _right(result, "the manager", programs.wait(programs.start(RUN, me=job["at"])), -9, "it lives")
    environment = {**os.environ, "LD_PRELOAD": LIBFAKETIME, "FAKETIME": job["jump"]}
    resumed = subprocess.run(
        [sys.executable, "-m", "codewhale_fleet", "resume", "@last"],
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=40, check=False,
    )  # fmt: skip
    _right(result, "resume", resumed.returncode, 1, resumed.stdout + resumed.stderr)


FORTY: dict[str, Callable[[Programs, dict[str, Any], Result], None]] = {
    "stopped manager": stopped_manager,
    "reboot": reboot,
    "copied": copied,
    "clock jump": clock_jump,
}
"""Scenarios of the run of forty tasks: it must have come out as always."""

OTHER: dict[str, Callable[[Programs, dict[str, Any], Result], None]] = {
    "takeover": takeover,
    "race": race,
}
"""Scenarios of other runs."""

SCENARIOS = FORTY | OTHER
