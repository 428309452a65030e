"""`fleet run`: from a spec, or a list of lines, to receipts and one summary.

Promises that nothing is recorded before everything that can be wrong with the request was looked
for, that what it shows is durable, and an exit code by the table of the command line. The hot path
of the product: what is imported here is paid for by every run. How a run is carried out is the
engine's; how it looks while it goes on is `cli/live.py`'s.
"""

import os
import sys
from pathlib import Path

from msgspec import Struct, json

from ..core.parts import SecretName
from ..errors import FleetError
from .common import Context, fleet_dir_of, print_json, refuse_unwritable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..agents.roster import Roster
    from ..engine.early import Early
    from ..engine.session import Session
    from ..ledger.store import Ledger
    from ..wire.placing import Places, Source
    from ..wire.specfile import LoadedSpec
    from ..wire.trust import Trust
    from .live import Watching

DEFAULT_WORKERS = 4
"""Tasks at once, where nobody says; `--each` takes the cores."""

MAX_WORKERS = 128
"""Most tasks at once."""

PATIENCE = 60.0
"""Seconds that tasks wait for workers that nobody can reach."""


class Plan(Struct, kw_only=True):
    """A run before it is recorded: what is asked for, and of whom."""

    name: str
    tasks: list[bytes]
    """Sparse JSON of each task."""
    max_workers: int
    workspace: Path
    """Root of every task's paths."""
    max_failures: int = 0
    deadline_seconds: float = 0.0
    labels: dict[str, str] = {}
    environment: list[str] = []
    """Names of variables that tasks require or are passed."""
    waived: list[str] = []
    spec: str = ""
    """The file's name, as given."""
    digest: str = ""
    agents: dict[str, bytes] = {}
    """Definitions of the agents that tasks use, as JSON."""
    budget: bytes = b"{}"
    """Limits over all tasks together, as JSON."""
    alerts: bytes = b"{}"
    """Who is told of what, as JSON."""
    alert_policies: bool = False
    """Whether its spec says something about alerts of its tasks."""
    secrets: list[SecretName] = []
    """Secrets that tasks may get, by name."""
    policy: bytes = b"null"
    """Trust and grants that hold for all tasks, as JSON."""
    roles: dict[str, bytes] = {}
    """Definitions of the roles that tasks name, as JSON."""
    workers: dict[str, bytes] = {}
    """Definitions of the workers that its tasks may use; empty: only this machine."""
    places: "Places | None" = None
    """Where its tasks may go, where that is not just here."""


def run(
    ctx: Context,
    *,
    words: list[str] | None = None,
    each: str | None = None,
    max_workers: int | None = None,
    max_failures: int | None = None,
    name: str | None = None,
    label: list[str] | None = None,
    only: list[str] | None = None,
    detach: bool = False,
    dry_run: bool = False,
    allow_unenforced: list[str] | None = None,
    alerts: str | None = None,
    on: str | None = None,
) -> int:
    """Run a spec (`words` is its name), or a command (`words`) for each line of a file."""
    root = Path(ctx.find_root() or ctx.cwd or Path.cwd())
    labels = _labels(label or [])
    early: Early | None = None

    def where() -> "Source":
        nonlocal early
        if not (dry_run or detach):
            from ..engine.early import Early

            early = Early(root, Path(fleet_dir_of(str(root))))
        return placing(root, on, recording=not dry_run)

    if each is not None:
        if what := "--only" if only else "--allow-unenforced" if allow_unenforced else "":
            raise FleetError(f"{what} is for specs, and --each has none.", f"Leave out {what}.")
        from .each import plan_of_lines

        plan = plan_of_lines(each, words or [], Path(ctx.cwd or Path.cwd()), root)
        if on is not None:
            from .placing import of_lines

            plan.places = of_lines(where(), plan.policy)
            plan.workers = plan.places.used()
    else:
        waivers, only = allow_unenforced or [], only or []
        plan = _of_spec(words or [], root, waivers, only, where, on is not None)
    plan.name = name or plan.name
    plan.labels = {**plan.labels, **labels}
    settle_slots(plan, max_workers, root, lines=each is not None)
    plan.max_failures = plan.max_failures if max_failures is None else max_failures
    if not plan.tasks:
        from .each import nothing

        return nothing(ctx, each or "-")
    if alerts is not None or (root / "fleet.toml").exists():
        from .alerting import alerts_for

        spec = words[0] if words and each is None else ""
        plan.alerts = alerts_for(root, alerts, os.environ, spec)
        if alerts is not None and plan.alerts == b"{}":
            ctx.note(f"{alerts} does not say that alerts are enabled: nobody is told of anything.")
    if dry_run:
        from . import plan as drawn

        return drawn.show(ctx, plan)
    return _carry_out(ctx, plan, root, detach, early)


# What is asked --------------------------------------------------------------------------------


def _of_spec(
    words: list[str],
    root: Path,
    waivers: list[str],
    only: list[str],
    placing: "Callable[[], Source]",
    spread: bool,
) -> Plan:
    if not words:
        raise FleetError(
            "fleet run was given nothing to run.",
            "A spec: fleet run SPEC\nA command for each line: ls | fleet run --each - -- wc -c {}",
        )
    if len(words) > 1:
        from .hints import typed

        shown = " ".join(words[:4]) + " …" * (len(words) > 4)
        raise FleetError(
            f"one spec is run at a time, and here are {len(words)} words: {shown}",
            f"This command once, on this machine: fleet exec --on local -- {typed(words)}\n"
            "For each line of a list: fleet run --each FILE -- CMD {}",
        )
    from ..wire import specfile
    from .each import files_of, read

    data = read(words[0])
    loaded = specfile.load(
        data,
        file=words[0],
        waivers=waivers,
        roster=lambda: roster_of(root),
        trust=trust_of(root),
        lacking=lacking,
        placing=placing,
        spread=spread,
        files=files_of(root),
    )
    tasks = loaded.tasks
    if only:
        from .only import selected

        tasks = selected(loaded, only, words[0])
    plan = plan_of(loaded, root, tasks)
    plan.alert_policies = b"alert_policy" in data
    plan.spec, plan.digest = words[0], loaded.digest
    if plan.secrets and only:
        from ..engine.secrets import needed

        plan.secrets = needed(tasks, plan.agents, plan.secrets)
    if plan.environment:
        from .missing import refuse_missing

        refuse_missing(tasks, words[0], f"fleet run {words[0]}", plan.agents, plan.places)
    return plan


def plan_of(loaded: "LoadedSpec", root: Path, tasks: list[bytes]) -> Plan:
    """A run of these tasks of a spec."""
    return Plan(
        name=loaded.name,
        tasks=tasks,
        max_workers=loaded.max_workers or 0,
        workspace=root,
        max_failures=loaded.max_failures or 0,
        deadline_seconds=loaded.spec.deadline_seconds or 0.0,
        labels=loaded.labels,
        environment=loaded.environment,
        waived=loaded.waived,
        agents=loaded.agents,
        budget=json.encode(loaded.spec.budget) if loaded.spec.budget else b"{}",
        secrets=loaded.secrets,
        policy=loaded.policy,
        roles=loaded.roles,
        workers=loaded.places.used() if loaded.places is not None else {},
        places=loaded.places,
    )


def settle_slots(plan: Plan, asked: int | None, root: Path, *, lines: bool = False) -> None:
    """How many tasks at once: as asked or written, else what its workers take."""
    if plan.places is None or asked or plan.max_workers:
        plan.max_workers = workers(asked, plan.max_workers, root, lines=lines)
    else:
        plan.max_workers = plan.places.slots()


def roster_of(root: Path) -> "Roster":
    """The agents that tasks of a run in `root` may name."""
    from ..wire import fleetfile

    return fleetfile.read(root).roster


def trust_of(root: Path) -> "Trust | None":
    """What fleet.toml says of trust for a run in `root`; None where there is none."""
    if not (root / "fleet.toml").exists():
        return None
    from ..wire import fleetfile

    return fleetfile.read(root).trust


def lacking() -> str:
    """Why this machine cannot confine a task, and what to do; empty where it can."""
    from ..worker import sandbox

    return sandbox.lacking()


def placing(root: Path, on: str | None, *, recording: bool) -> "Source":
    """The workers that tasks of a run in `root` may go to, and those that somebody chose."""
    from .placing import source

    slots = workers(None, 0, root, lines=False)
    return source(root, on, slots_here=slots, recording=recording)


def workers(asked: int | None, written: int, root: Path, *, lines: bool) -> int:
    """Tasks at once: as asked, else as the spec says, else fleet.toml, else the default."""
    count = asked if asked is not None else written
    if not count and asked is None:
        count = DEFAULT_WORKERS if not lines else min(MAX_WORKERS, len(os.sched_getaffinity(0)))
        if (root / "fleet.toml").exists():
            from ..wire import fleetfile

            count = fleetfile.read(root).fleet.max_workers or count
    if not 1 <= count <= MAX_WORKERS:
        raise FleetError(
            f"{count} tasks at once is not possible; allowed is 1 to {MAX_WORKERS}.",
            f"--max-workers {MAX_WORKERS}",
            field="--max-workers",
        )
    return count


def _labels(given: list[str]) -> dict[str, str]:
    labels = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise FleetError(f'--label "{one}" is not of the form K=V.', "--label team=docs")
        labels[key] = value
    return labels


# Carrying it out ------------------------------------------------------------------------------


def _carry_out(ctx: Context, plan: Plan, root: Path, detach: bool, early: "Early | None") -> int:
    """Record the run, see it to its end (or to a manager), and say what became of it."""
    from ..engine.runs import asker_environment, create_run
    from ..ledger.store import Ledger

    secrets = told = None
    again = f"fleet run {plan.spec}"
    if plan.secrets:
        from ..engine.secrets import resolve, shown_anyway

        secrets = resolve(plan.secrets, of=plan.spec, again=again)
        for sentence in shown_anyway(secrets):
            ctx.note(f"fleet: {sentence}")
    if len(plan.alerts) > 2:
        from ..engine.alert_values import resolved

        told = resolved(plan.alerts, plan.tasks, of=plan.spec, again=again, must=True)
    elif plan.alert_policies:
        from ..engine.alert_values import refuse_channels

        refuse_channels(plan.tasks, plan.spec)
    asker = asker_environment(plan.environment, secrets=secrets, alerts=told)
    fleet_dir = fleet_dir_of(str(root))
    refuse_unwritable(fleet_dir)
    with Ledger.open(Path(fleet_dir), create=True) as ledger:
        if len(plan.tasks) == 1:
            from .hints import of_run

            ctx.hint = of_run(fleet_dir, plan)
        run_id = create_run(
            ledger,
            plan.tasks,
            name=plan.name,
            max_workers=plan.max_workers,
            workspace=plan.workspace,
            max_failures=plan.max_failures,
            deadline_seconds=plan.deadline_seconds,
            labels=plan.labels,
            environment=plan.environment,
            waived=plan.waived,
            spec=plan.spec,
            digest=plan.digest,
            agents=plan.agents,
            budget=plan.budget,
            alerts=plan.alerts,
            secrets=plan.secrets,
            policy=plan.policy,
            roles=plan.roles,
            workers=plan.workers,
            spread=plan.places is not None and plan.places.spread,
            patience=PATIENCE if plan.workers else 0.0,
        )
        plan.tasks = []
        if detach:
            from ..engine import handover

            handover.detach(ledger, run_id, asker=asker)
            return detached(ctx, ledger, run_id)
        from ..engine.session import run_to_end
        from .live import observer

        watching = observer(ctx, ledger.state.runs[run_id], ledger.dir)
        try:
            ended = run_to_end(ledger, run_id, asker=asker, observer=watching, early=early)
        finally:
            watching.close(ledger.state)
        return conclude(ctx, ledger, run_id, ended, watching)


def conclude(
    ctx: Context,
    ledger: "Ledger",
    run_id: str,
    ended: "Session",
    watching: "Watching | None" = None,
) -> int:
    """Print the summary of a run that was seen to its end; its exit code."""
    if ended.detached:
        return 0
    from . import live, summary

    made = summary.answer(ledger.state, ledger.hydrate(run_id), interrupted=ended.interrupted)
    code: int = made["exit_code"]
    if ctx.json:
        print_json({**made, "hint": ctx.hint} if ctx.hint else made)
    elif code or not ctx.quiet:
        if watching is not None and watching.draws:
            print("", file=sys.stderr)
        print(summary.text(made, color=ctx.styled(), width=live.columns(1, 0)))
    return code


def detached(ctx: Context, ledger: "Ledger", run_id: str) -> int:
    """Say that a manager has the run, and how to see more of it."""
    run = ledger.state.runs[run_id]
    steps = [f"fleet wait {run_id}", f"fleet status {run_id}"]
    if ctx.json:
        answer = {"run": run_id, "name": run.name, "status": run.status, "tasks": len(run.order)}
        answer |= {"detached": True, "exit_code": 0, "next": steps}
        print_json({**answer, "hint": ctx.hint} if ctx.hint else answer)
    elif ctx.quiet:
        print(run_id)
    else:
        print(f"{run_id} is recorded, and a manager has it.\n\n{' · '.join(steps)}")
    return 0
