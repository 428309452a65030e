"""`fleet check SPEC`: every problem of a spec at once, and nothing run.

Prints where (file:line), which field, what is wrong and what is allowed. Looks at the spec, and at
fleet.toml where a task is for an agent: it needs no fleet and makes none.
"""

from pathlib import Path

from msgspec import to_builtins

from ..wire import specfile
from ..wire.specfile import LoadedSpec, SpecProblems, problems_text
from ..wire.unenforced import waived_by
from .common import EXIT_WRONG, Context, print_json
from .each import files_of, read
from .run import lacking, placing, plan_of, roster_of, settle_slots, trust_of


def check(
    ctx: Context,
    *,
    spec: str,
    explain: bool = False,
    allow_unenforced: list[str] | None = None,
    alerts: str | None = None,
) -> int:
    """Check a spec (`-`: standard input); `explain` prints what a run of it would do."""
    file = "standard input" if spec == "-" else spec
    root = Path(ctx.find_root() or ctx.cwd or Path.cwd())
    try:
        trust = trust_of(root)
        loaded = specfile.load(
            read(spec),
            file=spec,
            waivers=allow_unenforced or [],
            roster=lambda: roster_of(root),
            trust=trust,
            lacking=lacking,
            placing=lambda: placing(root, None, recording=False),
            files=files_of(root),
        )
        if alerts is not None:
            from .alerting import alerts_for

            alerts_for(root, alerts, ctx.environ)
    except SpecProblems as error:
        if ctx.json:
            problems = [to_builtins(problem) for problem in error.problems]
            print_json({"file": spec, "ok": False, "problems": problems, "exit_code": EXIT_WRONG})
        else:
            print(problems_text(error.problems))
        return EXIT_WRONG
    if explain:
        return _explained(ctx, loaded, root)
    count = len(loaded.tasks)
    lacks = _lacking(loaded)
    if ctx.json:
        made = {"file": spec, "ok": True, "tasks": count, "digest": loaded.digest}
        more = {"unenforced": loaded.waived, "workers": lacks, "problems": [], "exit_code": 0}
        print_json({**made, **more})
    elif not ctx.quiet:
        print(f"{file}: {count:,} task{'' if count == 1 else 's'}, fine")
        if loaded.waived:
            print(f"Not enforced, as allowed: {', '.join(loaded.waived)}")
        for id, why in lacks.items():
            print(f"{id} cannot be used from here: {why}")
        asked = [] if trust is None else waived_by(trust.waived)
        allowed = "".join(
            f" --allow-unenforced {name}" for name in loaded.waived if name not in asked
        )
        allowed += f" --alerts {alerts}" if alerts is not None else ""
        print(f"\nTo run it: fleet run {spec}{allowed}")
    return 0


def _lacking(loaded: LoadedSpec) -> dict[str, str]:
    """Workers that its tasks may go to, and that cannot be reached for want of a file here."""
    if loaded.places is None:
        return {}
    from ..core.spec_hosts import decode_worker
    from .fleet_workers import lacking

    used = {id: lacking(decode_worker(raw)) for id, raw in loaded.places.used().items()}
    return {id: why for id, why in used.items() if why}


def _explained(ctx: Context, loaded: LoadedSpec, root: Path) -> int:
    """What a run of it would do."""
    from . import plan

    planned = plan_of(loaded, root, loaded.tasks)
    settle_slots(planned, None, root)
    return plan.show(ctx, planned, explain=True)
