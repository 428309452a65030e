"""What a run would do, before it does anything: `run --dry-run` and `check --explain`.

Reads a plan and draws it; records nothing and looks at nothing else.
"""

import shlex
from typing import Any

from msgspec import to_builtins

from ..core.spec import Task
from ..core.spec_hosts import SecretRef
from ..core.tasks import decode_task
from .common import Context, print_json
from .run import Plan
from .words import duration

SHOWN = 200
"""Tasks that are written out for people; `--json` has all."""

COMMAND_WIDTH = 60


def show(ctx: Context, plan: Plan) -> int:
    """Print a plan; nothing was recorded."""
    made = answer(plan)
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
        "tasks": [_row(decode_task(raw)) for raw in plan.tasks],
    }


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
    if made["unenforced"]:
        lines += ["", f"Not enforced, as allowed: {', '.join(made['unenforced'])}"]
    return "\n".join([*lines, "", "Nothing was recorded."])


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
