"""Making a run: its id, its environment, its records.

The environment belongs to the run, not to whoever is manager: the asker's safe base and the values
of allowlisted names travel to the worker runtime and stay in memory there; the ledger has names.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from random import SystemRandom

from msgspec import Raw, Struct
from msgspec.structs import replace

from ..core import commands as c
from ..core import events as e
from ..core.parts import SecretName
from ..core.state import State
from ..ledger.store import Ledger, Transaction

BASE_NAMES = (
    "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
)  # fmt: skip
"""Variables that every task sees; so it does every `LC_…`."""

LINE_BYTES = 200 * 1024
"""Most bytes of tasks in one `tasks.added` line; a whole line stays below 256 KiB."""

Choose = Callable[[State], tuple[list[bytes], Mapping[str, bytes]]]
"""Tasks and workers of a run, chosen under the ledger's lock."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


class Asker(Struct, frozen=True, kw_only=True):
    """What a run takes from the environment of the person who asked for it."""

    cwd: str
    umask: int
    base: dict[str, str]
    allowed: dict[str, str]
    secrets: dict[str, str] = {}
    """Key -> value: in memory only, as long as somebody may have to hand them over again."""

    alerts: dict[str, str] = {}
    """Values that its alerts need: in memory only, and no task's."""

    def __repr__(self) -> str:
        return f"Asker(cwd={self.cwd!r}, secrets={sorted(self.secrets)})"


def asker_environment(
    names: Iterable[str],
    environ: Mapping[str, str] | None = None,
    secrets: dict[str, str] | None = None,
    alerts: dict[str, str] | None = None,
) -> Asker:
    """The safe base, and the values of `names` that are set.

    `secrets`, and what `alerts` need, are values already.
    """
    env = os.environ if environ is None else environ
    umask = os.umask(0o077)
    os.umask(umask)
    base = {name: env[name] for name in BASE_NAMES if name in env}
    base.update({name: value for name, value in env.items() if name.startswith("LC_")})
    if "PATH" in base:
        base["PATH"] = with_fleet(base["PATH"], Path(sys.executable).parent)
    return Asker(
        cwd=str(Path.cwd()),
        umask=umask,
        base=base,
        allowed={name: env[name] for name in names if name in env},
        secrets=secrets or {},
        alerts=alerts or {},
    )


def with_fleet(path: str, ours: Path) -> str:
    """PATH with this very `fleet` behind it where it has none: tasks report by that name."""
    if any(os.access(f"{folder}/fleet", os.X_OK) for folder in path.split(":")):
        return path
    return f"{path}:{ours}" if os.access(ours / "fleet", os.X_OK) else path


def new_run_id(name: str) -> str:
    """A slug of `name` and six random characters: `release-triage-7k3f2a`."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "run"
    return slug + "-" + "".join(SystemRandom().choice(_ALPHABET) for _ in range(6))


def create_run(
    ledger: Ledger,
    tasks: list[bytes],
    *,
    name: str,
    max_workers: int,
    workspace: Path,
    max_failures: int = 0,
    deadline_seconds: float = 0.0,
    labels: Mapping[str, str] | None = None,
    environment: Iterable[str] = (),
    waived: Iterable[str] = (),
    spec: str = "",
    digest: str = "",
    agents: Mapping[str, bytes] | None = None,
    budget: bytes = b"{}",
    alerts: bytes = b"{}",
    policy: bytes = b"null",
    roles: Mapping[str, bytes] | None = None,
    secrets: Iterable[SecretName] = (),
    workers: Mapping[str, bytes] | None = None,
    spread: bool = False,
    patience: float = 0.0,
    script: str = "",
    choose: Choose | None = None,
    by: str = "cli:user",
    durable: bool = True,
) -> str:
    """Record a run and its tasks (each a sparse JSON object) in one write; answers the run's id.

    `workers`, by id, are definitions of those that it may use; none: this machine's slots only.
    `choose` is asked for both where it depends on what everybody else does at that moment.

    `tasks` is empty on return: each is let go once its row is made, so that no two are in memory.
    Durable on return, unless `durable` is False: then the caller's next sync makes it so, before
    anything is acted on.
    """
    run = new_run_id(name)
    created = e.RunCreated(
        name=name,
        digest=digest,
        max_workers=max_workers,
        workspace=str(workspace),
        labels=dict(labels or {}),
        max_failures=max_failures,
        deadline_seconds=deadline_seconds,
        environment=sorted(environment),
        waived=sorted(waived),
        spec=spec,
        agents={agent: Raw(raw) for agent, raw in (agents or {}).items()},
        budget=Raw(budget),
        alerts=Raw(alerts),
        alert_policies=alerts != b"{}" and any(b'"alert_policy"' in task for task in tasks),
        policy=Raw(policy),
        roles={role: Raw(raw) for role, raw in (roles or {}).items()},
        secrets=list(secrets),
        spread=spread,
        patience=patience,
        script=script,
    )
    with ledger.transaction(by) as transaction:
        if choose is not None:
            tasks, workers = choose(transaction.state)
        _record(transaction, run, created, tasks, workers)
    if durable:
        ledger.sync()
    return run


def _record(
    transaction: Transaction,
    run: str,
    created: e.RunCreated,
    tasks: list[bytes],
    workers: Mapping[str, bytes] | None,
) -> None:
    count, parts = len(tasks), _in_lines(workers)
    if first := next(parts, {}):
        created = replace(created, workers={id: Raw(raw) for id, raw in first.items()})
    transaction.submit(c.CreateRun(run=run, created=created))
    for part in parts:
        transaction.submit(c.AddWorkers(run=run, workers=part))
    for batch in _batches(tasks):
        transaction.submit(c.AddTasks(run=run, tasks=batch))
    transaction.submit(c.StartRun(run=run, count=count))


def _in_lines(workers: Mapping[str, bytes] | None) -> Iterator[dict[str, bytes]]:
    if not workers:
        return iter(())
    from ..core.workers import in_lines

    return in_lines(workers)


def _batches(tasks: list[bytes]) -> Iterator[tuple[bytes, ...]]:
    """All tasks in their order, a line's worth at a time; empties the list."""
    tasks.reverse()
    while tasks:
        size = len(tasks[-1])
        batch = [tasks.pop()]
        while tasks and (size := size + len(tasks[-1]) + 1) <= LINE_BYTES:
            batch.append(tasks.pop())
        yield tuple(batch)
