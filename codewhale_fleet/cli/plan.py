"""What a run would do, before it does anything: `run --dry-run` and `check --explain`.

Reads a plan and draws it; records nothing and looks at nothing else.
"""

import shlex
from textwrap import wrap
from typing import Any

from msgspec import to_builtins

from ..core.spec import Task
from ..core.spec_hosts import SecretRef
from ..core.tasks import decode_task
from ..wire.literals import name_looks_secret
from .common import Context, print_json
from .run import Plan
from .words import duration

SHOWN = 200
"""Tasks that are written out for people; `--json` has all."""

SHOWN_ALIKE = 20
"""Ids that are written out of tasks that may do the same."""

SHOWN_PLACES = 4
"""Workers that are written out of those that may run a task."""

VERBS = ("reads", "writes", "reaches", "knows", "runs", "uses")

COMMAND_WIDTH = 60


def show(ctx: Context, plan: Plan, *, explain: bool = False) -> int:
    """Print a plan; nothing was recorded. `explain`: with what each task may do."""
    made = answer(plan)
    if explain:
        for row, raw in zip(made["tasks"], plan.tasks, strict=True):
            row["may"] = _may(decode_task(raw), plan)
    if ctx.json:
        print_json(made)
    else:
        print(text(made))
    return 0


def answer(plan: Plan) -> dict[str, Any]:
    """The plan as one object; each task with what holds for it."""
    return {
        "dry_run": True,
        "name": plan.name,
        "max_workers": plan.max_workers,
        "max_failures": plan.max_failures,
        "workspace": str(plan.workspace),
        "labels": plan.labels,
        "environment": plan.environment,
        "secrets": [one.key for one in plan.secrets],
        "unenforced": plan.waived,
        "agents": {name: _agent(name, raw) for name, raw in plan.agents.items()},
        "tasks": [_placed(_row(decode_task(raw)), plan) for raw in plan.tasks],
    }


def _placed(row: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """With the workers that may run it, where that is not just this machine."""
    if plan.workers and plan.places is not None:
        row["on"] = plan.places.of(row["id"])
    return row


def _agent(name: str, raw: bytes) -> dict[str, Any]:
    """How an agent is started, what of it can be capped, and what it sees."""
    from ..agents.definition import decode_agent, reports

    agent = decode_agent(raw)
    seen = agent.environment
    return {
        "command": agent.command,
        "prompt": agent.delivery,
        "reports": sorted(reports(agent)),
        "environment": [*seen.required, *seen.allowlist] if seen is not None else [],
        "secrets": _keys(agent.secrets),
    }


def _keys(secrets: list[str | SecretRef]) -> list[str]:
    return [one if isinstance(one, str) else one.key for one in secrets]


def _may(task: Task, plan: Plan) -> dict[str, Any]:
    """What a task may read, write, reach and know, and by what each is held."""
    from ..core import posture
    from ..views.trust import may

    doer, seen = None, set[str]()
    if task.agent is not None:
        from ..agents.definition import decode_agent, doer_of

        agent = decode_agent(plan.agents[task.agent])
        doer = doer_of(agent)
        if agent.environment is not None:
            seen.update(agent.environment.required, agent.environment.allowlist)
    if task.workspace is not None and task.workspace.environment is not None:
        seen.update(task.workspace.environment.required, task.workspace.environment.allowlist)
    policy = posture.decode_policy(plan.policy)
    roles = posture.roles_of(task, plan.roles)
    made = posture.posture_of(task, policy, roles, doer, plan.waived)
    names = made.visible(policy, seen, name_looks_secret)
    about = next((role.description for _, role in roles if role.description), "")
    told = may(task, made, policy, doer, names)
    return {
        "trust": made.level,
        "because": made.because,
        **({"role": about} if about else {}),
        **{one.verb: {"what": one.says, "held_by": one.held_by} for one in told},
        **posture.in_plan(made),
    }


def _row(task: Task) -> dict[str, Any]:
    row: dict[str, Any] = {"id": task.id}
    if task.agent is not None:
        row |= {"agent": task.agent, "instructions": task.instructions}
        if task.worker is not None and task.worker.model is not None:
            row["model"] = task.worker.model
    else:
        words = task.command
        row["command"] = words if isinstance(words, str) else shlex.join(words or [])
    if task.budget is not None:
        row["budget"] = to_builtins(task.budget)
    if task.timeout_seconds is not None:
        row["timeout_seconds"] = task.timeout_seconds
    if task.retry_policy is not None:
        row["attempts"] = task.retry_policy.max_attempts
    row["judged_by"] = _scorer(task)
    if task.workspace is not None and task.workspace.writable_paths:
        row["writes"] = task.workspace.writable_paths
    if task.secrets:
        row["secrets"] = _keys(task.secrets)
    if task.expected_artifacts:
        row["promises"] = task.expected_artifacts
    return row


def _scorer(task: Task) -> str:
    if task.verify is not None:
        return " → ".join(str(type(one).__struct_config__.tag) for one in task.verify.steps)
    if task.scorer is None:
        return "nobody" if task.agent is not None else "exit_code"
    return str(type(task.scorer).__struct_config__.tag)


def text(made: dict[str, Any]) -> str:
    """The same for people."""
    tasks = made["tasks"]
    plural = "" if len(tasks) == 1 else "s"
    head = f"{made['name']}: {len(tasks):,} task{plural}, {made['max_workers']} at once"
    lines = [f"{head}, in {made['workspace']}", ""]
    ids = max(len(row["id"]) for row in tasks[:SHOWN])
    commands = [_short(_work(row)) for row in tasks[:SHOWN]]
    width = max(map(len, commands))
    for row, command in zip(tasks, commands, strict=False):
        lines.append(f"  {row['id']:<{ids}}  {command:<{width}}  {_terms(row)}".rstrip())
    if len(tasks) > SHOWN:
        lines.append(f"  and {len(tasks) - SHOWN:,} more")
    lines += _allowances(tasks)
    if made["unenforced"]:
        lines += ["", f"Not enforced, as allowed: {', '.join(made['unenforced'])}"]
    return "\n".join([*lines, "", "Nothing was recorded."])


def _allowances(tasks: list[dict[str, Any]]) -> list[str]:
    """What tasks may do; those that may do the same are told together."""
    alike: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for row in tasks:
        if "may" in row:
            alike.setdefault(str(row["may"]), (row["may"], []))[1].append(row["id"])
    lines: list[str] = []
    for told, ids in alike.values():
        who = ", ".join(ids[:SHOWN_ALIKE])
        if len(ids) > SHOWN_ALIKE:
            who += f" and {len(ids) - SHOWN_ALIKE:,} more"
        about = f"; it {told['role']}" if "role" in told else ""
        lines += ["", f"{who}: trust {told['trust']} ({told['because']}){about}", ""]
        rows = [("", "", "held by")]
        for verb, one in told.items():
            if verb in VERBS:
                first, *rest = wrap(one["what"], COMMAND_WIDTH, break_on_hyphens=False)
                rows += [(verb, first, one["held_by"]), *(("", more, "") for more in rest)]
        wide = max(len(what) for _, what, _ in rows)
        lines += [f"  {verb:<7}  {what:<{wide}}  {by}".rstrip() for verb, what, by in rows]
    return lines


def _work(row: dict[str, Any]) -> str:
    """What is run, or who does what."""
    if "agent" not in row:
        return str(row["command"])
    model = f" ({row['model']})" if "model" in row else ""
    return f"{row['agent']}{model}: {row['instructions']}"


def _short(command: str) -> str:
    line = " ".join(command.split())
    line = "".join(sign if sign.isprintable() else "?" for sign in line)
    return line if len(line) <= COMMAND_WIDTH else line[: COMMAND_WIDTH - 1] + "…"


def _terms(row: dict[str, Any]) -> str:
    terms = []
    if "on" in row:
        more = len(row["on"]) - SHOWN_PLACES
        terms.append(
            "on " + ", ".join(row["on"][:SHOWN_PLACES]) + (f" or {more:,} more" if more > 0 else "")
        )
    if "timeout_seconds" in row:
        terms.append(f"at most {duration(row['timeout_seconds'])}")
    if row.get("attempts", 1) > 1:
        terms.append(f"{row['attempts']} attempts")
    for cap, most in row.get("budget", {}).items():
        terms.append(f"{cap} = {most:,}")
    if row["judged_by"] != "exit_code":
        terms.append(f"judged by {row['judged_by']}")
    if "writes" in row:
        terms.append(f"writes {', '.join(row['writes'])}")
    if "secrets" in row:
        terms.append(f"gets {', '.join(row['secrets'])}")
    if "promises" in row:
        terms.append(f"promises {', '.join(row['promises'])}")
    return " · ".join(terms)
