"""Where the tasks of one spec may go: to which workers, or, as ever, to this machine only.

A run stays here unless its spec has `workers`, somebody chose workers for it, or a task requires
one. Promises that a task which no worker could ever run is refused with what there is instead, and
that a run gets the definitions of just those workers that one of its tasks may use. What is not
known of a worker yet (it was never reached) is no reason against it. How tasks are spread over
workers while they run is the core's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ..core.fleet_words import LOCAL
from ..core.matching import level_of_worker
from ..core.posture import LEVELS
from ..core.selectors import exists
from ..core.spec import Requires, Task
from ..core.spec_hosts import THIS_MACHINE, LocalHost, SecurityPolicy, TrustLevel, Worker
from .inventory import encode_worker
from .problems import Found, Path, excerpt
from .walker import nearest

SHOWN = 6
"""Names that a sentence writes out."""


class Asks(Struct, frozen=True, kw_only=True):
    """What a task needs of its worker."""

    requires: Requires = Requires()
    target: str = ""
    """By requires.target, or by worker.name."""
    capabilities: tuple[str, ...] = ()
    level: TrustLevel = "local"

    @property
    def chooses(self) -> bool:
        """Whether it says itself that it may leave this machine."""
        return bool(self.target) or self.requires != Requires()


class Facts(Struct, frozen=True):
    """What is known of the machine of a worker; 0 and empty: nothing yet."""

    platform: str = ""
    cores: int = 0
    memory_mb: int = 0
    gpus: int | None = None


class Fleet(Struct, frozen=True, kw_only=True):
    """What there is to be chosen from."""

    workers: Mapping[str, Worker] = {}
    """The fleet's whole inventory."""
    facts: Mapping[str, Facts] = {}
    slots_here: int = 1
    """Tasks at once on this machine, where nobody says."""
    capabilities_here: tuple[str, ...] | None = None
    """What this machine can do; None: whatever is asked for."""


class Source(Struct, frozen=True):
    """Where the workers of a run come from: the fleet, and what somebody selected of it."""

    fleet: Callable[[bool], Fleet] = lambda _: Fleet()
    chosen: Callable[[Mapping[str, Worker]], list[str]] | None = None


def asks_of(task: Task, level: TrustLevel = "local") -> Asks:
    """What a task needs."""
    requires = task.requires or Requires()
    named = task.worker.name if task.worker is not None else None
    return Asks(
        requires=requires,
        target=requires.target or named or "",
        capabilities=tuple(task.worker.capabilities) if task.worker is not None else (),
        level=level,
    )


class Places:
    """The candidates of one run; `problems` is asked for each task, `used` at the end.

    `written` are the workers of its spec, `chosen` what somebody selected (None: nobody did);
    `fleet` is asked for the inventory once that matters, with what commands discover unless the
    spec has workers of its own.
    """

    def __init__(
        self,
        written: Mapping[str, Worker],
        chosen: Callable[[Mapping[str, Worker]], list[str]] | None = None,
        fleet: Callable[[bool], Fleet] = lambda _: Fleet(),
        policy: SecurityPolicy | None = None,
    ) -> None:
        self.spread = bool(written) or chosen is not None
        self._written = dict(written)
        self._chosen = chosen
        self._ask = fleet
        self._policy = policy
        self._fleet: Fleet | None = None
        self._all: dict[str, Worker] | None = None
        self._fits: dict[bytes, list[str]] = {}
        self._wanted: set[str] = set()
        self._of: dict[str, list[str]] = {}
        self._plain: list[str] = [LOCAL]
        """Where tasks go that ask for nothing."""
        self._asked_here: set[str] = set()
        """Capabilities that tasks ask of this machine."""

    @property
    def fleet(self) -> Fleet:
        """What there is, read when it is first needed."""
        if self._fleet is None:
            self._fleet = self._ask(not self._written)
        return self._fleet

    @property
    def candidates(self) -> dict[str, Worker]:
        """Who may run tasks of this run, by id."""
        if self._all is None:
            here = {LOCAL: self.fleet.workers.get(LOCAL, THIS_MACHINE)}
            if self._written:
                found = dict(self._written)
            elif self._chosen is not None:
                found = dict(self.fleet.workers)
            else:
                found = {**here, **self.fleet.workers}
            if self._chosen is not None:
                ids = self._chosen(found)
                found = {id: found[id] if id in found else here[id] for id in ids}
            self._all = found
        return self._all

    def clashes(self) -> Iterator[Found]:
        """Workers of the spec whose ids are those of other machines of the fleet."""
        for index, (id, worker) in enumerate(self._written.items()):
            other = self.fleet.workers.get(id)
            if other is not None and other.host != worker.host:
                message = f'"{id}" is another machine in this fleet'
                yield Found(("workers", index, "id"), message, "fleet worker list shows it", id)

    def problems(self, task: Task, level: TrustLevel = "local") -> Iterator[Found]:
        """Why no worker could ever run a task; otherwise those that could are wanted."""
        asks = asks_of(task, level)
        if not asks.chooses and not self.spread:
            self.keep_here()
            self._asked_here.update(asks.capabilities)
            return
        named = task.worker.name if task.worker is not None else None
        if named and asks.target != named:
            message = f"contradicts requires.target, which is {asks.target}"
            yield Found(("worker", "name"), message, value=excerpt(named))
            return
        found = self.fitting(asks)
        if isinstance(found, Found):
            yield found
            return
        self._wanted.update(found)
        if asks.chooses or asks.capabilities:
            self._of[task.id] = found
        else:
            self._plain = found
        if LOCAL in found:
            self._asked_here.update(asks.capabilities)

    def keep_here(self) -> None:
        """Some tasks ask for nothing, and nobody was chosen: they stay on this machine."""
        self._wanted.add(LOCAL)

    def of(self, task: str) -> list[str]:
        """Ids of the workers that may run a task of the spec."""
        return self._of.get(task, self._plain)

    def may_stay(self, task: str) -> bool:
        """Whether this machine is among them."""
        return any(isinstance(self.candidates[id].host, LocalHost) for id in self.of(task))

    def only(self, tasks: Iterable[str]) -> None:
        """The run has just these tasks of the spec."""
        self._wanted = {id for task in tasks for id in self.of(task)}

    def fitting(self, asks: Asks) -> "list[str] | Found":
        """Ids of those that may run a task, or why there is none."""
        key = encode_asks(asks)
        if key in self._fits:
            return self._fits[key]
        left = dict(self.candidates)
        if not left:
            return Found(_path_of(asks), "there is no worker that it could go to", exists({}))
        for step in self._steps(asks):
            kept = {id: worker for id, worker in left.items() if step.holds(id, worker)}
            if not kept:
                return Found(step.path, step.message(left), step.hint(left), step.value)
            left = kept
        self._fits[key] = list(left)
        return self._fits[key]

    def used(self) -> dict[str, bytes]:
        """Definitions, as JSON, of the workers that at least one task may use.

        Empty where no task asks for anything, and nobody chose: it runs on this machine, then.
        """
        if not self.spread and not self._fits:
            return {}
        made = {}
        for id, worker in self.candidates.items():
            if id in self._wanted:
                made[id] = encode_worker(self._here(worker) if id == LOCAL else worker)
        return made

    def slots(self) -> int:
        """Tasks at once on all that are used, together."""
        used = [one for id, one in self.candidates.items() if id in self._wanted]
        return sum(self._slots(one) for one in used)

    def _slots(self, worker: Worker) -> int:
        if worker.max_concurrent_tasks is not None:
            return worker.max_concurrent_tasks
        return self.fleet.slots_here if isinstance(worker.host, LocalHost) else 1

    def _here(self, worker: Worker) -> Worker:
        """This machine, as a worker among others: with its slots, its size, what it can do."""
        can = self.fleet.capabilities_here
        able = sorted(self._asked_here) if can is None else list(can)
        known = self._facts(LOCAL)
        return replace(
            worker,
            max_concurrent_tasks=self._slots(worker),
            capabilities=list(dict.fromkeys((*worker.capabilities, *able))),
            cores=worker.cores or known.cores or None,
            memory_mb=worker.memory_mb or known.memory_mb or None,
            gpus=known.gpus if worker.gpus is None else worker.gpus,
        )

    # What a task asks, one thing after the other --------------------------------------------------

    def _steps(self, asks: Asks) -> "Iterator[_Step]":
        needs = asks.requires
        if asks.target:
            field: Path = ("requires", "target") if needs.target else ("worker", "name")
            yield _Step(field, asks.target, partial(_is_called, asks.target), _no_target)
        for key, value in needs.labels.items():
            path: Path = ("requires", "labels", key)
            yield _Step(path, f"{key}={value}", partial(_has_label, key, value), _no_label)
        if needs.platform:
            path = ("requires", "platform")
            yield _Step(path, needs.platform, self._is_on(needs.platform), self._other_platform)
        for name in asks.capabilities:
            path = ("worker", "capabilities")
            yield _Step(path, name, partial(self._can, name), _no_capability)
        yield _Step((), asks.level, partial(self._is_trusted, asks.level), self._less_trusted)
        for field_name, unit in (("cores", "cores"), ("memory_mb", "MiB"), ("gpus", "GPUs")):
            wanted = getattr(needs, field_name)
            if wanted:
                path = ("requires", field_name)
                holds = partial(self._has, field_name, wanted)
                short = partial(self._has_less, field_name, unit)
                yield _Step(path, str(wanted), holds, short)

    def _facts(self, id: str) -> Facts:
        return self.fleet.facts.get(id, Facts())

    def _is_on(self, platform: str) -> Callable[[str, Worker], bool]:
        return lambda id, _: self._facts(id).platform in ("", platform.lower())

    def _can(self, name: str, id: str, worker: Worker) -> bool:
        if name in worker.capabilities:
            return True
        here = self.fleet.capabilities_here
        return id == LOCAL and (here is None or name in here)

    def _is_trusted(self, level: TrustLevel, id: str, worker: Worker) -> bool:
        return LEVELS.index(level_of_worker(worker, self._policy)) >= LEVELS.index(level)

    def _has(self, what: str, wanted: int, id: str, worker: Worker) -> bool:
        total = self._total(what, id, worker)
        return total is None or total >= wanted

    def _total(self, what: str, id: str, worker: Worker) -> int | None:
        """How much of it a worker has; None: nobody knows yet."""
        said: int | None = getattr(worker, what)
        if said is not None:
            return said
        known: int | None = getattr(self._facts(id), what)
        return known if known or what == "gpus" else None

    def _other_platform(self, value: str, left: Mapping[str, Worker]) -> tuple[str, str]:
        there = sorted({self._facts(id).platform for id in left})
        return f"no worker runs {value}", f"There are: {', '.join(there)}"

    def _less_trusted(self, value: str, left: Mapping[str, Worker]) -> tuple[str, str]:
        there = sorted(
            {level_of_worker(one, self._policy) for one in left.values()}, key=LEVELS.index
        )
        named = _named(left)
        return (
            f"needs the trust {value}, and {named} {_have(left)} {', '.join(there)}",
            "trust_level of a worker says how far it is trusted; ssh: remote_verified",
        )

    def _has_less(
        self, what: str, unit: str, value: str, left: Mapping[str, Worker]
    ) -> tuple[str, str]:
        most = max(left, key=lambda id: self._total(what, id, left[id]) or 0)
        has = self._total(what, most, left[most]) or 0
        message = f"{int(value):,} {unit} are more than any worker has"
        return message, f"most has {most}: {has:,}"


class _Step(Struct, frozen=True):
    """One thing that a task asks."""

    path: Path
    value: str
    holds: Callable[[str, Worker], bool]
    tells: Callable[[str, Mapping[str, Worker]], tuple[str, str]]

    def message(self, left: Mapping[str, Worker]) -> str:
        return self.tells(self.value, left)[0]

    def hint(self, left: Mapping[str, Worker]) -> str:
        return self.tells(self.value, left)[1]


def encode_asks(asks: Asks) -> bytes:
    """Equal for tasks that ask for the same."""
    from msgspec import json

    return json.encode(asks, order="deterministic")


def _path_of(asks: Asks) -> Path:
    return ("requires",) if asks.requires != Requires() else ("worker", "name")


def _is_called(name: str, id: str, worker: Worker) -> bool:
    return name in (id, worker.name)


def _has_label(key: str, value: str, id: str, worker: Worker) -> bool:
    return worker.labels.get(key) == value


def _no_target(value: str, left: Mapping[str, Worker]) -> tuple[str, str]:
    names = tuple(dict.fromkeys(name for id, one in left.items() for name in (id, one.name)))
    near = nearest(value, names)
    hint = f"did you mean {near}?" if near else exists(left)
    return f"no worker is called {excerpt(value)}", hint


def _no_label(value: str, left: Mapping[str, Worker]) -> tuple[str, str]:
    key = value.partition("=")[0]
    there = sorted({f"{key}={one.labels[key]}" for one in left.values() if key in one.labels})
    every = sorted({name for one in left.values() for name in one.labels})
    if there:
        return f"no worker has the label {value}", f"There are: {', '.join(there[:SHOWN])}"
    hint = f"labels there are: {', '.join(every[:SHOWN])}" if every else "no worker has labels"
    return f"no worker has the label {value}", hint


def _no_capability(value: str, left: Mapping[str, Worker]) -> tuple[str, str]:
    there = sorted({name for one in left.values() for name in one.capabilities})
    hint = f"there are: {', '.join(there[:SHOWN])}" if there else "no worker says what it can do"
    return f"{_named(left)} cannot do {excerpt(value)}", hint


def _named(left: Mapping[str, Any]) -> str:
    ids = list(left)
    more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more


def _have(left: Mapping[str, Any]) -> str:
    return "has" if len(left) == 1 else "have"
