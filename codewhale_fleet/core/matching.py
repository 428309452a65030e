"""Which workers may run a task: by target, labels, platform, capabilities, trust and size.

Pure, and the one place where it is decided: `fleet run` refuses at load what no worker can ever
match, placement asks for what matches now, `fleet explain` says why one does not. What is not known
of a worker before it was heard of speaks for it: it is tried. Nothing here knows who is busy.
"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Raw, Struct, json, structs

from . import spec
from .fleet_words import LOCAL, WorkerRow
from .posture import LEVEL as WAIVED_LEVEL
from .posture import LEVELS, ROLE, decode_policy, level_of, roles_of
from .roles import Role
from .spec_hosts import (
    THIS_MACHINE,
    LocalHost,
    SecurityPolicy,
    SshHost,
    TrustLevel,
    Worker,
    decode_worker,
)
from .state import Run

SIZES = {"cores": "cores", "memory_mb": "MiB of memory", "gpus": "GPUs"}
"""What a task may take of a worker for itself, in words."""

NAMED = 3
"""Workers, and reasons, that a sentence names; the rest is counted."""


class Need(Struct, frozen=True, kw_only=True):
    """What a task asks of a worker. Tasks with equal needs wait on one shelf."""

    targets: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    platform: str = ""
    capabilities: tuple[str, ...] = ()
    level: TrustLevel = "local"
    cores: int = 0
    memory_mb: int = 0
    gpus: int = 0
    keeps: bool = False
    """Its first target is where its agent's conversation goes on; another place will do."""
    stays: bool = False
    """It asks for no worker, in a run whose tasks go elsewhere only if they ask."""

    @property
    def takes(self) -> bool:
        """Whether it takes part of a worker for itself."""
        return bool(self.cores or self.memory_mb or self.gpus)


class Facts(Struct, frozen=True, kw_only=True):
    """A worker as it is: its definition, and what it told of itself. None: not known yet."""

    worker: Worker
    level: TrustLevel
    platform: str | None = None
    cores: int | None = None
    memory_mb: int | None = None
    gpus: int | None = None


# Tasks ----------------------------------------------------------------------------------------


def asks(task: spec.Task) -> bool:
    """Whether a task asks for a worker, so that its run needs to know which there are."""
    named = task.worker is not None and task.worker.name is not None
    return named or (task.requires is not None and task.requires != spec.Requires())


def need_of(
    task: spec.Task,
    policy: SecurityPolicy | None = None,
    roles: Iterable[tuple[str, Role]] = (),
    *,
    waived: Iterable[str] = (),
    spread: bool = True,
) -> Need:
    """What a task asks of its worker; `spread` as in its run, `roles` those that it builds on."""
    roles = list(roles)
    wants, does = task.requires or spec.Requires(), task.worker
    names = (wants.target, does.name if does is not None else None)
    return Need(
        targets=tuple(dict.fromkeys(name for name in names if name)),
        labels=tuple(sorted(wants.labels.items())),
        platform=(wants.platform or "").lower(),
        capabilities=tuple(sorted(does.capabilities)) if does is not None else (),
        level=_level(policy, roles, frozenset(waived)),
        cores=wants.cores or 0,
        memory_mb=wants.memory_mb or 0,
        gpus=wants.gpus or 0,
        stays=not spread and not asks(task),
    )


def _level(
    policy: SecurityPolicy | None, roles: list[tuple[str, Role]], waived: frozenset[str]
) -> TrustLevel:
    level, _ = level_of(policy, roles)
    by_role = any(role.trust_level is not None for _, role in roles)
    if level == "sandbox" and (ROLE if by_role else WAIVED_LEVEL) in waived:
        return "local"
    return level


class Asking(Struct, gc=False):
    """The parts of a task's spec that its need is made of, not yet decoded."""

    requires: Raw = Raw()
    worker: Raw = Raw()


class _Asked(Struct):
    requires: spec.Requires | None = None
    worker: spec.TaskWorker | None = None


parts_of = json.Decoder(Asking).decode
_asked = json.Decoder(_Asked).decode


def need_in(run: Run, raw: bytes) -> Need:
    """What a task of a run asks, from its spec as JSON."""
    found = _asked(raw)
    task = spec.Task(id="x", requires=found.requires, worker=found.worker)
    roles = roles_of(task, run.roles)
    policy = decode_policy(run.policy)
    return need_of(task, policy, roles, waived=run.waived, spread=run.spread)


# Workers --------------------------------------------------------------------------------------


def workers_of(run: Run) -> Iterator[tuple[str, Worker]]:
    """The workers that a run may use, by id in their order; this machine where it is one."""
    ids = run.workers.keys() if run.spread else run.workers.keys() | {LOCAL}
    for worker in sorted(ids):
        raw = run.workers.get(worker)
        yield worker, decode_worker(raw) if raw else THIS_MACHINE


def is_here(worker: Worker) -> bool:
    """Whether it is this machine."""
    return isinstance(worker.host, LocalHost)


def level_of_worker(worker: Worker, policy: SecurityPolicy | None = None) -> TrustLevel:
    """How far a worker is trusted: as it says, else by the road that leads there.

    A connection by ssh proves the host's key, or there is none; a policy may ask that the worker
    itself names that key, or the file that has it.
    """
    host = worker.host
    if isinstance(host, LocalHost):
        return worker.trust_level or "operator"
    proven = isinstance(host, SshHost)
    if policy is not None and policy.require_identity_verification:
        proven = isinstance(host, SshHost) and bool(host.known_hosts or host.host_key_fingerprint)
        if not proven:
            return "sandbox"
    return worker.trust_level or ("remote_verified" if proven else "sandbox")


def facts_of(
    worker: Worker, row: WorkerRow | None = None, policy: SecurityPolicy | None = None
) -> Facts:
    """A worker as far as it is known; what its definition says of its size counts."""
    level = level_of_worker(worker, policy)
    known = row if row is not None and row.enrolled else None
    platform = known.platform if known else None
    sizes = {
        name: _told(known, name) if (size := getattr(worker, name)) is None else size
        for name in SIZES
    }
    return structs.replace(Facts(worker=worker, level=level, platform=platform), **sizes)


def _told(row: WorkerRow | None, size: str) -> int | None:
    """What a host has, as it said; 0 processors or no memory: it could not say."""
    told: int | None = getattr(row, size, None)
    return told if told or size == "gpus" else None


def row_of(rows: Mapping[str, WorkerRow], worker: Worker) -> WorkerRow | None:
    """What is known of a worker; of one that is this machine, what is known of that."""
    row = rows.get(worker.id)
    if (row is None or not row.enrolled) and is_here(worker):
        here = rows.get(LOCAL)
        return here if here is not None and here.enrolled else row
    return row


# Both -----------------------------------------------------------------------------------------


def why_not(
    need: Need,
    worker: Worker,
    row: WorkerRow | None = None,
    policy: SecurityPolicy | None = None,
) -> str:
    """Why a worker can't run a task, in words; nothing where it can, or may for all one knows."""
    return mismatch(need, facts_of(worker, row, policy))


def mismatch(need: Need, facts: Facts) -> str:
    """The same, from facts."""
    worker = facts.worker
    if need.stays and worker.id != LOCAL:
        return "its task asks for no worker"
    for target in need.targets:
        if target not in (worker.id, worker.name):
            return f"it is not {target}"
    for label, value in need.labels:
        if worker.labels.get(label) != value:
            has = worker.labels.get(label)
            return f"its label {label} is {has}, not {value}" if has else f"it has no label {label}"
    if need.platform and facts.platform not in (None, need.platform):
        return f"it is {facts.platform}, not {need.platform}"
    for capability in need.capabilities:
        if capability not in worker.capabilities:
            return f"it has no capability {capability}"
    if LEVELS.index(facts.level) < LEVELS.index(need.level):
        return f"its trust level is {facts.level}, the task's is {need.level}"
    for name, unit in SIZES.items():
        wanted, there = getattr(need, name), getattr(facts, name)
        if wanted and there is not None and there < wanted:
            return f"it has {there:,} {unit if there != 1 else unit.rstrip('s')}, not {wanted:,}"
    return ""


def holds(size: int | None, taken: int, wanted: int) -> bool:
    """Whether so much is left; of what nobody knows the size, one task at a time may have it."""
    return taken == 0 or not wanted if size is None else wanted <= size - taken


def listed(reasons: Iterable[tuple[str, str]]) -> str:
    """Workers with their reasons in a few words: `web1, web2 and 3 more: it is darwin; db: …`."""
    alike: dict[str, list[str]] = {}
    for worker, why in reasons:
        alike.setdefault(why, []).append(worker)
    groups = list(alike.items())
    told = "; ".join(f"{named(workers)}: {why}" for why, workers in groups[:NAMED])
    rest = sum(len(workers) for _, workers in groups[NAMED:])
    return f"{told}; and {rest:,} more" if rest else told


def named(names: list[str]) -> str:
    """The first few of some names, and how many more there are."""
    more = len(names) - NAMED
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {more:,} more" if more > 0 else shown
