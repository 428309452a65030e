"""Attempts with a directory of their own, as the runtime sees them.

Promises: nothing here waits for git: each call of it is in a process of its own that is watched
like an attempt's (`workspace.py`); the patch is there before anything verifies, however the attempt
ended and whoever started it; an attempt whose directory could not be made has not started. When a
directory may be removed is for the manager to say.
"""

from __future__ import annotations

import os
import sys

from codewhale_fleet.worker import bundle, codec, collect, limits, logs, workspace
from codewhale_fleet.worker.attempts import Attempt, is_attempt_id
from codewhale_fleet.worker.launch import UNCONFINED, Unstarted, blame
from codewhale_fleet.worker.processes import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from codewhale_fleet.worker.execution import Execution, Work
    from codewhale_fleet.worker.place import Place

_BOOTSTRAP = (
    "import sys;sys.path.insert(0,sys.argv.pop(1));"
    "from codewhale_fleet.worker.workspace import main;main()"
)
_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_SHIM = [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, _PACKAGES]
OURS = -1
"""The `step` of a process that is the runtime's own work for an attempt."""
_ERRORS = "runtime/runtime.err"
_TRIES = 5
_FOR_THE_END = ("artifacts", "expected", "evidence", "steps")
_FOR_THE_SANDBOX = ("sandbox", "tools", "out")
_NEVER_MADE = "its own directory could not be made: what makes it ended without a word"


def plan_of(place: Place, attempt: str, plan: dict[str, Any]) -> dict[str, Any]:
    """The plan by which the attempt's process makes its directory first. Raises Unstarted."""
    isolate, fleet = plan["isolate"], os.path.realpath(place.fleet_dir)
    source = place.home.now(isolate["from"])
    directory = os.path.join(fleet, _checked(isolate["directory"]))
    given = {
        "attempt": attempt,
        "fleet": fleet,
        "kind": isolate["kind"],
        "from": source,
        "directory": directory,
        "cwd": isolate.get("cwd", "."),
        "include": isolate.get("include", []),
        "required": plan.get("required_files") or [],
        "writable": plan.get("writable") or [],
        "base": isolate.get("base", ""),
        "continues": isolate.get("continues", ""),
        "continue": "",
        "again": isolate.get("again", False),
        "bundle": isolate.get("bundle", ""),
        "plan": {name: plan[name] for name in _FOR_THE_SANDBOX if name in plan},
    }
    if "prompt" in plan:
        given["plan"]["prompt"] = {"path": plan["prompt"]["path"]}
    if isolate.get("refused"):
        raise Unstarted(isolate["refused"])
    if isolate.get("continue"):
        carried = os.path.join(fleet, "inputs", os.path.basename(isolate["continue"]))
        kept = os.path.join(fleet, isolate["continue"])
        given["continue"] = carried if os.path.exists(carried) else kept
    try:
        for turn in range(_TRIES):
            try:
                os.makedirs(os.path.dirname(directory), 0o700, exist_ok=True)
                workspace.blank_marker(directory + workspace.ENTERING)
                break
            except FileNotFoundError:  # the last one of its run was just being removed
                if turn == _TRIES - 1:
                    raise
    except OSError as error:
        words = f"its own directory cannot be made: {error.strerror}"
        raise Unstarted(blame(error) + words) from None
    argv = [*_SHIM, "enter", codec.encode(given).decode().rstrip("\n"), *plan["argv"]]
    made = {**plan, "argv": argv, "cwd": source, "required_files": [], "writable": []}
    if not plan["argv"] or not plan["argv"][0]:
        raise Unstarted("its command is empty")
    return made


def _checked(relative: str) -> str:
    parts = relative.split("/")
    if len(parts) != 3 or parts[0] != "worktrees" or {"", ".", ".."}.intersection(parts):
        raise Unstarted(f"{relative} is no place for an attempt's own directory")
    return relative


def finish(
    execution: Execution, attempt: Attempt
) -> Generator[Attempt | None, None, dict[str, Any]]:
    """What is to be told of the directory of an attempt that is over; its plan is set to it."""
    isolate = attempt.plan["isolate"]
    relative = isolate["directory"]
    directory = os.path.join(os.path.realpath(execution.fleet_dir), relative)
    execution.leaders.pop(attempt.pid, None)  # the number may be another's by now
    if os.path.lexists(directory + workspace.ENTERING):
        sentence = _sentence(directory + workspace.ENTERING)
        if workspace.maker_of(directory) in ("", attempt.id):
            yield from _perform(execution, attempt, "drop", directory)
        else:  # what an earlier attempt of the task did there stays
            os.unlink(directory + workspace.ENTERING)
        plan = attempt.plan.items()
        attempt.plan = {name: value for name, value in plan if name not in _FOR_THE_END}
        if attempt.why:
            return {}
        if sentence.startswith(workspace.CONFINED):
            return {"unstarted": sentence[len(workspace.CONFINED) :], "why": UNCONFINED}
        return {"unstarted": sentence}
    if isolate["kind"] != bundle.KIND:
        yield from _perform(execution, attempt, "patch", directory)
    record = workspace.read_record(directory)
    root = root_of(attempt.plan, execution.fleet_dir)
    cwd = os.path.normpath(os.path.join(root, isolate.get("cwd", ".")))
    attempt.plan = {**attempt.plan, "root": root, "cwd": cwd}
    if isolate["kind"] == bundle.KIND:
        return {}
    told: dict[str, Any] = {"isolated": relative}
    for name in ("base", "notes", "unsaved"):
        if record.get(name):
            told[name] = record[name]
    if "patch" not in record:
        told["unsaved"] = "its patch could not be made"
    elif record["patch"] and record["patch"] <= limits.PATCH_BYTES:
        try:
            if attempt.redactor is not None:
                from codewhale_fleet.worker import screening

                yield from screening.check_patch(attempt.redactor, directory + workspace.PATCH)
            told["patch"] = yield from _kept(directory, execution.fleet_dir + "/evidence")
        except collect.Refusal as refusal:
            told["unsaved"] = str(refusal)
        except OSError as error:
            told["unsaved"] = f"its patch cannot be kept: {error.strerror}"
    if told.get("unsaved"):
        told["unsaved"] += f"; it is kept in {relative}"
    return told


def root_of(plan: dict[str, Any], fleet_dir: str) -> str:
    """The directory that stands for the workspace, once it is made.

    Where the attempt has put a link in its place, or on the way to it, one that is not there.
    """
    directory = os.path.join(os.path.realpath(fleet_dir), plan["isolate"]["directory"])
    found = os.path.join(directory, workspace.read_record(directory).get("top", "")).rstrip("/")
    return found if os.path.realpath(found) == found else directory + workspace.REPLACED


def inside(plan: dict[str, Any], fleet_dir: str) -> dict[str, Any]:
    """What a plan says of the directory to whoever makes a sandbox around it."""
    directory = os.path.join(os.path.realpath(fleet_dir), plan["isolate"]["directory"])
    from codewhale_fleet.worker import seclusion

    return seclusion.inside(directory, workspace.read_record(directory))


def done(execution: Execution, attempt: Attempt) -> None:
    """What holds only a bundle goes once the end of its attempt is written down."""
    isolate = attempt.plan["isolate"]
    directory = os.path.join(os.path.realpath(execution.fleet_dir), isolate["directory"])
    if isolate["kind"] == bundle.KIND and os.path.lexists(directory + workspace.RECORD):
        execution.journal.flush()
        drop(execution, attempt.id, isolate["directory"])


def tell(fields: dict[str, Any], told: dict[str, Any]) -> None:
    """Put it into the fields of the attempt's end."""
    patch = told.pop("patch", None)
    if patch:
        fields.setdefault("artifacts", []).append(patch)
        missing = [kind for kind in fields.pop("missing", ()) if kind != patch["kind"]]
        if missing:
            fields["missing"] = missing
    if "unstarted" in told:
        for name in ("exit", "signal", "unknown", "why"):
            fields.pop(name, None)
    fields.update(told)


def _sentence(marker: str) -> str:
    try:
        with open(marker, "rb") as file:
            return file.read().decode("utf-8", "replace").strip() or _NEVER_MADE
    except OSError:
        return _NEVER_MADE


def _kept(directory: str, store: str) -> Generator[None, None, dict[str, Any]]:
    """The patch as an artifact, moved to where evidence lies."""
    path = directory + workspace.PATCH
    size = os.stat(path).st_size
    state = logs.new_sha256(size)
    with open(path, "rb") as file:
        while data := file.read(limits.CHUNK_BYTES):
            state.update(data)
            yield
    digest = state.hexdigest()
    os.makedirs(store, 0o700, exist_ok=True)
    os.chmod(path, 0o600)
    os.rename(path, f"{store}/{digest}")
    name = os.path.basename(directory) + workspace.PATCH
    return {"kind": "patch", "path": name, "sha256": digest, "mime": "text/x-diff",
            "size": size}  # fmt: skip


def drop(execution: Execution, attempt: str, relative: str) -> None:
    """Removes the directory of an attempt whose end is recorded; twice is harmless."""
    if attempt in execution.running or not is_attempt_id(attempt):
        return
    try:
        execution.advance(_dropping(execution, attempt, relative))
    except (Unstarted, OSError):  # no process to be had: the next manager asks again
        return


def _dropping(execution: Execution, name: str, relative: str) -> Work:
    directory = os.path.join(os.path.realpath(execution.fleet_dir), _checked(relative))
    if workspace.read_record(directory).get("attempt", name) != name:
        return  # a later attempt has it by now
    run = execution.run(name.partition("/")[0])
    process = _spawn(execution, Attempt(name, run, "", {}, clock()), "drop", directory)
    yield process
    execution.leaders.pop(process.pid, None)
    del execution.running[name]


def _perform(execution: Execution, attempt: Attempt, verb: str, directory: str) -> Work:
    """One of the runtime's own processes for an attempt that is over, from start to end."""
    try:
        process = _spawn(execution, attempt, verb, directory)
    except (Unstarted, OSError):  # no process, no record: told as such
        return
    yield process
    execution.over(process, attempt)
    attempt.why = attempt.why or (process.why if process.why in limits.ASKED else None)


def _spawn(execution: Execution, attempt: Attempt, verb: str, directory: str) -> Attempt:
    plan = {
        "argv": [*_SHIM, verb, directory],
        "cwd": "/",
        "root": "/",
        "env": {"FLEET_ATTEMPT_ID": attempt.id, "FLEET_ID": attempt.fleet},
        "out": _ERRORS,
        "err": _ERRORS,
        "timeout": limits.WORKSPACE_SECONDS,
        "fleet": attempt.fleet,
    }
    program, environment = execution.launcher.prepare(attempt.run, attempt.id, plan)
    process = Attempt(attempt.id, attempt.run, attempt.slot, plan, clock())
    process.step, process.started = OURS, True
    process.pid = execution.launcher.spawn(program, plan, environment)
    execution.journal.swept(process.pid)  # its note is not that of an attempt
    execution.watch(process)
    return process
