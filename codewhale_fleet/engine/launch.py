"""From a task's spec to the one LaunchPlan that a worker runtime starts an attempt from.

Pure: a plan says everything (argv, working directory, names of variables, files, limits, what to
collect) and holds no value of an allowlisted variable, so that it may be shown and logged.
"""

import os
from pathlib import Path
from typing import Any

from msgspec import Struct, structs, to_builtins

from ..core.spec import Task, Workspace
from ..core.state import Run, State, TaskMore, attempt_id
from ..core.state import Task as TaskRow
from ..core.tasks import decode_task
from ..core.usage import as_seen_there, left_of, shared_caps, warned_at
from ..scoring import wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..agents.definition import Agent
    from ..core.posture import Posture

NO_POLICY = b"null"
"""The policy of a run to which none was given."""

LOG_LIMIT_BYTES = 8 * 1024 * 1024
"""Bytes kept of each stream: its head and its tail."""

LOG_CEILING_BYTES = 64 * 1024 * 1024 * 1024
"""Bytes written to one stream after which an attempt is ended as a flood."""

GRACE_SECONDS = 10.0
"""Between INT, TERM and KILL."""

CHECKPOINT = "FLEET_CHECKPOINT"
"""The variable that names what the attempt before left."""

GPUS = "CUDA_VISIBLE_DEVICES"
"""The variable that names the GPUs which an attempt has for itself."""

NOTE_BYTES = 4096
"""A longer checkpoint does not stand in a prompt, which only says where it is."""

REPORT = "report"
"""The kind of artifact that an agent's last message can be."""

STEM_LENGTH = 120
"""Characters of a task id in the names of its log files; longer ones are cut with a digest."""


class There(Struct, frozen=True):
    """Another machine on which a plan is followed: its workspace, and its runtime's directory."""

    root: str
    state: str
    bare: bool = False
    """No workspace was named there: what a task reads comes along."""
    agent: str = ""
    """The program of the agent `codewhale` there; empty: as it is called."""


def start_message(
    state: State, run: Run, attempt: str, fleet_dir: Path, there: There | None = None
) -> dict[str, Any]:
    """What asks the host to start an attempt in flight."""
    flight = run.flights[attempt]
    made = plan(run, run.tasks[flight.task], state.fleet, fleet_dir, there)
    if "bundle" in made.get("isolate", ()):
        from .bundling import fill

        fill(made, run.workspace, fleet_dir)
    named = there is not None and there.agent and "prompt" in made
    if there and named and decode_task(run.tasks[flight.task].raw).agent == "codewhale":
        made["argv"][0] = there.agent
    if run.workers:
        made["shared"] = True
    if flight.gpus:
        made["env"][GPUS] = ",".join(map(str, flight.gpus))
    if run.script:
        made["script"] = run.script
        made["carry"] = [*made.get("carry", ()), run.script]
    return {
        "m": "start",
        "attempt": attempt,
        "slot": flight.worker,
        "slots": run.slots,
        "plan": made,
    }


def plan(
    run: Run, row: TaskRow, fleet: str, fleet_dir: Path, there: There | None = None
) -> dict[str, Any]:
    """The LaunchPlan of a task's latest attempt; `carry` names the files that it needs there."""
    task, row = decode_task(row.raw), as_seen_there(run, row)
    here = fleet_dir
    if there is not None:
        run, fleet_dir = structs.replace(run, workspace=there.root), Path(there.state)
        task = _with_files(task, there)
    attempt = attempt_id(run.id, row.id, row.attempt)
    stem = f"logs/{run.id}/{_stem(row.id)}.{row.attempt}"
    made: dict[str, Any] = {
        "argv": _argv(task),
        "cwd": run.workspace,
        "root": run.workspace,
        "env": {
            "FLEET_ATTEMPT_ID": attempt,
            "FLEET_RUN_ID": run.id,
            "FLEET_TASK_ID": row.id,
            "FLEET_ID": fleet,
            "FLEET_DIR": there.root
            if there
            else str(here.parent if here.name == ".fleet" else here),
        },
        "out": stem + ".out",
        "err": stem + ".err",
        "log_limit": LOG_LIMIT_BYTES,
        "log_ceiling": LOG_CEILING_BYTES,
        "grace": GRACE_SECONDS,
    }
    if row.more is not None and row.more.checkpoint is not None:
        kept = fleet_dir / _kept(there) / row.more.checkpoint.sha256
        made["env"][CHECKPOINT] = str(kept)
    _limit(task, row, made)
    if task.artifacts or task.expected_artifacts:
        made["artifacts"] = {
            kind: [globs] if isinstance(globs, str) else list(globs)
            for kind, globs in task.artifacts.items()
        }
        made["expected"] = [
            kind for kind in task.expected_artifacts if kind not in ("log", "receipt")
        ]
    if task.scorer is not None or task.verify is not None:
        made["evidence"] = wanted(task)
    if task.workspace is not None:
        _place(task, run, made)
        if task.workspace.own:
            _isolate(task, run, row, made, fleet_dir, _kept(there))
    made.update(shared_caps(run))
    posture = None
    if task.worker is not None or task.workspace is not None or run.policy != NO_POLICY:
        posture = _confine(task, run, made)
    if task.agent is not None:
        _follow(task, run, row, made, fleet_dir, posture, here)
    if posture is not None and ("allow" in made or posture.sees_git):
        _show(posture, run, made)
    if run.secrets:
        _name_secrets(task, run, made, posture)
    if "evidence" in made or row.more is not None:
        from . import verification

        verification.add(made, task, run, row.more, stem, fleet_dir)
        if posture is not None and "steps" in made:
            verification.confine(made["steps"], task, run, posture, fleet_dir)
        if any("secrets" in step for step in made.get("steps", ())):
            made.setdefault("secrets", [])
    if there is not None:
        made["keep"] = True
        made.update(_carried(row, made))
    return made


def _show(posture: "Posture", run: Run, made: dict[str, Any]) -> None:
    """The names of variables that the attempt may see, of those that it asks for."""
    from ..core.posture import decode_policy
    from ..wire.literals import name_looks_secret

    known = made.get("allow", ())
    made["allow"] = posture.visible(decode_policy(run.policy), known, name_looks_secret)


def _limit(task: Task, row: TaskRow, made: dict[str, Any]) -> None:
    """What ends the attempt if it does not end by itself."""
    if task.stall_seconds is not None:
        made["stall"] = task.stall_seconds
        made["stall_ends"] = task.retry_policy is not None
    if task.timeout_seconds is not None:
        made["timeout"] = task.timeout_seconds
    if task.budget and task.budget.max_seconds is not None:
        made["budget"] = max(0.001, task.budget.max_seconds - row.spent)


def _carried(row: TaskRow, made: dict[str, Any]) -> dict[str, list[str]]:
    """The evidence that an attempt begins with, by its digests."""
    found = []
    if row.more is not None and row.more.checkpoint is not None:
        found.append(row.more.checkpoint.sha256)
    if row.more is not None and "continue" in made.get("isolate", ()):
        found.append(row.more.patch)
    return {"carry": found} if found else {}


def _confine(task: Task, run: Run, made: dict[str, Any]) -> "Posture":
    """The task's posture; what holds it comes into the plan: the entries `sandbox` and `tools`."""
    from ..core import posture

    agent = None
    if task.agent is not None:
        from ..agents.definition import decode_agent, doer_of

        agent = doer_of(decode_agent(run.agents[task.agent]))
    found = posture.of_run(run, task, agent)
    made.update(posture.in_plan(found))
    return found


def _follow(
    task: Task,
    run: Run,
    row: TaskRow,
    made: dict[str, Any],
    fleet_dir: Path,
    posture: "Posture | None",
    here: Path,
) -> None:
    """What an agent's task has besides: its prompt, its command line, its reader, its caps."""
    from ..agents import command
    from ..agents.definition import decode_agent
    from ..agents.prompt import Story, render
    from ..core import roles

    assert task.agent is not None
    agent = decode_agent(run.agents[task.agent])
    more = row.more or TaskMore()
    left = left_of(task.budget, more.usage)
    session = _session(task, more)
    story = Story(
        run=run.id,
        attempt=row.attempt,
        left={**left, "max_seconds": made["budget"]} if "budget" in made else left,
        feedback=more.feedback,
        continues=not {"again", "continue"}.isdisjoint(made.get("isolate", ())),
        resumes=bool(session),
        checkpoint=_noted(more, here),
        role=_told_by_roles(task, run),
        reads_together=_reads_together(run),
        answer=REPORT if _answers(task, agent) else "",
    )
    choice = command.Choice(
        model=task.worker.model or "" if task.worker else "",
        tools=tuple(task.worker.tools) if task.worker else (),
        profile=roles.profile_of(task.worker),
        confined=posture is not None and posture.confined,
        session=session,
        cost=left.get("max_cost_usd"),
    )
    text = render(task, story)
    path = f"prompts/{made['out'].removeprefix('logs/').removesuffix('.out')}.md"
    made["prompt"] = {"text": text, "path": path, "stdin": agent.delivery == "stdin"}
    made["argv"] = command.command_line(agent, choice, text, str(fleet_dir / path))
    made["env"] = {**agent.env, **made["env"]}
    if agent.environment is not None:
        names = {*agent.environment.required, *agent.environment.allowlist}
        made["allow"] = sorted(names.union(made.get("allow", ())))
    if story.answer:
        made["answer"] = {"kind": REPORT, "path": path.removesuffix(".md") + ".report.md"}
    if agent.reader is not None:
        made["usage"] = to_builtins(agent.reader)
        if left:
            made["caps"] = left
            made["warn"] = warned_at(task.budget, more.usage)


def _session(task: Task, more: TaskMore) -> str:
    """The conversation that goes on, if any; with isolation only where its directory is known."""
    if task.retry_policy is None or not task.retry_policy.resume_session:
        return ""
    isolated = task.workspace is not None and task.workspace.own
    return more.session if more.session_in or not isolated else ""


def _name_secrets(task: Task, run: Run, made: dict[str, Any], posture: "Posture | None") -> None:
    """The secrets that the task gets, by name; the runtime has their values."""
    from ..agents.definition import decode_agent
    from ..core.secrets import planned, refs_of

    of_agent = decode_agent(run.agents[task.agent]).secrets if task.agent is not None else []
    refs = refs_of(task, of_agent)
    if posture is not None:
        from ..core.posture import decode_policy

        policy = decode_policy(run.policy)
        refs = [ref for ref in refs if posture.may_know(policy, ref)]
    if found := planned(refs, run.secrets):
        made["secrets"] = found
        carried = {one["as"] for one in found}
        if "allow" in made:
            made["allow"] = [name for name in made["allow"] if name not in carried]


def _told_by_roles(task: Task, run: Run) -> tuple[str, ...]:
    if not run.roles:
        return ()
    from ..core.posture import roles_of

    roles = roles_of(task, run.roles)
    return tuple(role.instructions for _, role in roles if role.instructions)


def _reads_together(run: Run) -> bool:
    if run.policy == NO_POLICY:
        return False
    from ..core.posture import decode_policy

    policy = decode_policy(run.policy)
    return policy is not None and policy.allow_parallel_reads


def _answers(task: Task, agent: "Agent") -> bool:
    """Whether a report is promised, no place is said for it, and the last message can be one."""
    promised = REPORT in task.expected_artifacts and REPORT not in task.artifacts
    return promised and agent.reader is not None and bool(agent.reader.answer)


def _noted(more: TaskMore, fleet_dir: Path) -> str:
    """What the attempt before left for this one, as its prompt says it."""
    if more.checkpoint is None:
        return ""
    where = f"The file of it is named by the variable {CHECKPOINT}."
    if more.checkpoint.size > NOTE_BYTES:
        return where
    try:
        text = (fleet_dir / "evidence" / more.checkpoint.sha256).read_text("utf-8")
    except (OSError, ValueError):
        return where
    return where if "\0" in text else f"{text.strip()}\n\n{where}"


def _place(task: Task, run: Run, made: dict[str, Any]) -> None:
    place = task.workspace
    assert place is not None
    if place.root != ".":
        made["cwd"] = str(Path(run.workspace, place.root))
    made["required_files"] = place.required_files
    made["writable"] = [str(Path(place.root, path)) for path in place.writable_paths]
    if place.environment is not None:
        made["allow"] = sorted({*place.environment.required, *place.environment.allowlist})


def _with_files(task: Task, there: There) -> Task:
    """The task as it is where no workspace was named: its input files are what it gets."""
    place = task.workspace or Workspace()
    if not there.bare or not task.input_files or place.include or place.isolation == "worktree":
        return task
    files = [os.path.relpath(path, place.root) for path in task.input_files]
    return structs.replace(task, workspace=structs.replace(place, include=files))


def _kept(there: There | None) -> str:
    """Where evidence lies that an attempt begins with, below the fleet's directory."""
    return "evidence" if there is None else "inputs"


def _isolate(
    task: Task, run: Run, row: TaskRow, made: dict[str, Any], fleet_dir: Path, kept: str
) -> None:
    """The attempt's own directory, and what it begins with."""
    place = task.workspace
    assert place is not None
    attempt = made["out"].removeprefix("logs/").removesuffix(".out")
    required = [str(Path(place.root, path)) for path in place.required_files]
    own: dict[str, Any] = {
        "kind": place.isolation if place.isolation != "none" else "bundle",
        "from": run.workspace,
        "directory": f"worktrees/{attempt}",
        "cwd": place.root,
        "include": list(dict.fromkeys((*required, *task.input_files))),
    }
    more = row.more or TaskMore()
    if _session(task, more):  # it goes on in the directory whose paths the conversation names
        own["directory"], own["again"] = more.session_in, True
    if more.patch and ("again" in own or (task.retry_policy and task.retry_policy.continue_)):
        own["continue"] = f"{kept}/{more.patch}"
        own["continues"] = attempt_id(run.id, row.id, more.patch_of)
        if place.isolation == "worktree":
            own["base"] = more.base
    if place.include:
        from .bundling import patterns

        own["bundle"] = patterns(task)
    made["isolate"] = own
    made["root"] = str(fleet_dir / own["directory"])
    made["cwd"] = str(Path(made["root"], place.root))


def _argv(task: Task) -> list[str]:
    if isinstance(task.command, str):
        return ["/bin/sh", "-c", task.command]
    return task.command or []


def _stem(task: str) -> str:
    if len(task) <= STEM_LENGTH:
        return task
    from hashlib import sha256

    return f"{task[:100]}-{sha256(task.encode()).hexdigest()[:16]}"
