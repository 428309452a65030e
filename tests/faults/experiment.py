"""One experiment: a fresh place, a run of forty tasks, one death, and what is true afterwards.

It is performed in a process of its own that adopts every orphan, as init would: so "no process of
the run is left" is a look at its children. The programs are forked from it with their imports done
(`Programs`), which makes an experiment as cheap as its tasks.
"""

import contextlib
import os
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codewhale_fleet.worker.processes import become_subreaper

from . import forty, scenarios, tap
from .programs import PATIENCE, Programs, Stuck, descendants

Result = dict[str, Any]
LONGEST_SECONDS = 6 * PATIENCE
"""Of one experiment, which waits with patience for a few things only."""
DETACH = ["run", "forty.json", "--detach", "--quiet"]


def perform(job: dict[str, Any]) -> Result:
    """Do it in this process, which ends afterwards. `job`: place, victim, at (0: only count)."""
    begun = time.monotonic()
    place = Path(job["place"])
    place.mkdir(parents=True)
    os.chdir(place)
    become_subreaper()
    # No sandbox can be made below a /proc that is mounted over, which a reboot needs here.
    forty.write(place, confined=job["victim"] != "reboot")
    programs = Programs(place)
    result: Result = {"victim": job["victim"], "at": job["at"], "killed": False, "wrong": []}
    try:
        if job["victim"] in scenarios.SCENARIOS:
            scenarios.SCENARIOS[job["victim"]](programs, job, result)
        elif job.get("after") is not None:
            _at_random(programs, job, result)
        else:
            VICTIMS[job["victim"]](programs, job["at"], result)
        if result["killed"] and job["victim"] not in CONTROLS:
            _go_on(programs, result)
        _examine(programs, job["victim"], result)
    except Stuck as stuck:
        result["wrong"].append(f"stuck: {stuck}")
    except Exception:
        result["wrong"].append(traceback.format_exc())
    left = [] if job.get("keep") else programs.end_everything()
    result["wrong"] += [f"left behind: {what}" for what in left]
    result["boundaries"] = tap.read("trace")
    if job["at"] and len(result["boundaries"]) >= job["at"]:
        result["killed"] = True  # while it left, perhaps
    if result["killed"] and result["boundaries"]:
        result["where"] = result["boundaries"][-1]
    if job["at"]:
        result["boundaries"] = len(result["boundaries"])
    result["seconds"] = round(time.monotonic() - begun, 3)
    if result["wrong"]:
        result["place"] = str(place)
    else:
        shutil.rmtree(place, ignore_errors=True)
    return result


# Who dies ----------------------------------------------------------------------------------------


def _manager(programs: Programs, at: int, result: Result) -> None:
    begun = time.monotonic()
    status = programs.wait(programs.start(["run", "forty.json"], me=at))
    result["lived"] = time.monotonic() - begun
    _judge(status, result, 1)


def _detached(programs: Programs, at: int, result: Result) -> None:
    status = programs.wait(programs.start(DETACH, manager=at))
    said = programs.words()
    begun = time.monotonic()
    died = programs.wait(programs.told("manager"))
    result["lived"] = time.monotonic() - begun
    if status != 0 and not (status == 6 and died and "did not start" in said):
        result["wrong"].append(f"--detach answered {status}: {said}")
    status = died
    _judge(status, result, 0)


def _writer(programs: Programs, at: int, result: Result) -> None:
    begun = time.monotonic()
    status = programs.wait(programs.start(DETACH, me=at))
    result["lived"] = time.monotonic() - begun
    _judge(status, result, 0)


def _worker(kill: str, count: str = "runtime") -> Callable[[Programs, int, Result], None]:
    def victim(programs: Programs, at: int, result: Result) -> None:
        worker = {"count": count, "at": at, "kill": kill, "trace": "trace", "runtime_at": 60}
        begun = time.monotonic()
        status = programs.wait(programs.start(["run", "forty.json"], worker=worker))
        result["lived"] = time.monotonic() - begun
        seen = len(tap.read("trace"))
        result["killed"] = bool(at) and seen >= at
        if status != 1:  # one task fails, so 1 is the right answer
            result["wrong"].append(f"the run ended with {status}: {programs.words()}")

    return victim


def _control(verb: str, *, managed: bool) -> Callable[[Programs, int, Result], None]:
    """A control is killed at a boundary and typed again: what it is about really ends."""

    def victim(programs: Programs, at: int, result: Result) -> None:
        held = [
            {"id": name, "command": "echo $FLEET_ATTEMPT_ID >> ran; exec sleep 600"}
            for name in HELD
        ]
        programs.spec("held", held, len(held))
        programs.wait(programs.start(["run", "held.json", "--detach"]))
        programs.until_ran(len(held))
        if not managed:
            os.kill(programs.told("manager"), signal.SIGKILL)
            programs.wait(programs.told("manager"))
        run = forty.started_runs(programs.place)[0]
        words = [verb, run] if verb == "stop" else [verb, *(f"{run}/{name}" for name in HELD)]
        begun = time.monotonic()
        _judge(programs.wait(programs.start(words, me=at)), result, 0)
        result["lived"] = time.monotonic() - begun
        if result["killed"]:
            again = programs.wait(programs.start(words))
            said = programs.words()
            if again != 0 and not (again == 4 and "there is nothing to" in said):
                result["wrong"].append(f"{verb} again ended with {again}: {said}")
            programs.wait(programs.start(["stop", run]))  # whoever comes next finishes the run
        waited = programs.wait(programs.start(["wait", run]))
        if waited not in (1, 130):
            result["wrong"].append(f"wait ended with {waited}: {programs.words()}")

    return victim


HELD = {"held-0": "skip", "held-1": "skip"}
"""Tasks of the run that controls are tried on, and their results."""

CONTROLS = frozenset(("stop", "stop, no manager", "interrupt", "interrupt, no manager"))

VICTIMS: dict[str, Callable[[Programs, int, Result], None]] = {
    "manager": _manager,
    "detached manager": _detached,
    "runtime": _worker("runtime"),
    "keeper": _worker("keeper"),
    "keeper, its own": _worker("keeper", "keeper"),
    "runtime + keeper": _worker("both"),
    "run --detach": _writer,
    "stop": _control("stop", managed=True),
    "stop, no manager": _control("stop", managed=False),
    "interrupt": _control("interrupt", managed=True),
    "interrupt, no manager": _control("interrupt", managed=False),
}
"""Each takes (programs, boundary, result) and returns when the first run has ended or died."""

UNKNOWN_ALLOWED = frozenset(("runtime + keeper", "keeper, its own"))
"""Both the runtime and its keeper die in these: then an exit may be unknown."""


def _judge(status: int, result: Result, right: int) -> None:
    if status == -signal.SIGKILL:
        result["killed"] = True
    elif status != right:
        result["wrong"].append(f"the victim ended with {status} instead of dying")


def _at_random(programs: Programs, job: dict[str, Any], result: Result) -> None:
    """Kill the victim after so many seconds, wherever it is."""
    victim = job["victim"]
    detached = victim in ("detached manager", "run --detach")
    pid = programs.start(DETACH if detached else ["run", "forty.json"])
    if victim == "detached manager":
        programs.wait(pid)
        pid = programs.told("manager")
    select.select([], [], [], job["after"])
    for target in programs.targets(victim, pid):
        try:
            os.kill(target, signal.SIGKILL)
        except ProcessLookupError:
            continue
        result["killed"] = True
    status = programs.wait(pid)
    if victim in ("runtime", "keeper", "runtime + keeper") and status != 1:
        result["wrong"].append(f"the run ended with {status}: {programs.words()}")


# What must be true then --------------------------------------------------------------------------


def _go_on(programs: Programs, result: Result) -> None:
    """The next manager: `resume` where a run was recorded, else the run again."""
    result["unlocks"] = 0
    again = forty.go_on(programs.place)
    status = programs.wait(programs.start(again))
    if status != 1:
        result["wrong"].append(f"{' '.join(again)} ended with {status}: {programs.words()}")
    if status in (4, 5, 6):
        result["unlocks"] = 1


def _examine(programs: Programs, victim: str, result: Result) -> None:
    programs.until_managers_have_left()
    expected = HELD if victim in CONTROLS else {} if victim in scenarios.OTHER else forty.EXPECTED
    found = forty.Found(programs.place, expected)
    result["records"] = len(found.events)
    result.update(lost=found.lost, twice=found.twice, unknown=found.unknown)
    result["wrong"] += found.wrong
    if found.unknown and victim not in UNKNOWN_ALLOWED | scenarios.SCENARIOS.keys():
        result["wrong"].append(f"{found.unknown} exits are unknown after the death of {victim}")
    if not forty.started_runs(programs.place):
        result["wrong"].append("no run was recorded in the end")
    verified = programs.wait(programs.start(["ledger", "verify", "--quiet"]))
    if verified != 0:
        result["wrong"].append(f"ledger verify answered {verified}: {programs.words()}")
    result["wrong"] += [f"still there: {what}" for what in programs.strays()]


# A server of experiments -------------------------------------------------------------------------


def serve() -> None:
    """Take jobs as JSON lines from stdin and answer each with a result; a fork for each."""
    from msgspec import json

    for line in sys.stdin.buffer:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            os.setsid()
            try:
                answer = json.encode(perform(json.decode(line)))
            except BaseException:
                answer = json.encode({"wrong": [traceback.format_exc()]})
            with os.fdopen(writer, "wb") as out:
                out.write(answer + b"\n")
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as answers:
            if not select.select([reader], [], [], LONGEST_SECONDS)[0]:
                _kill(pid)
            sys.stdout.buffer.write(answers.read() or b'{"wrong":["the experiment died"]}\n')
            sys.stdout.buffer.flush()
        os.waitpid(pid, 0)


def _kill(pid: int) -> None:
    """An experiment that does not end, and all that it started."""
    for one in (pid, *descendants(pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


__all__ = ["PATIENCE", "UNKNOWN_ALLOWED", "VICTIMS", "perform", "serve"]
