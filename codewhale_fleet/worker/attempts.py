"""Attempts that run, attempts that wait, and the slots of a run. Pure: no process is touched.

Promises: a run's waiting attempts start in the order in which they were told; whenever a slot
of a run is free and one of its attempts waits, `take_next` answers one (work-conserving). An
attempt gets the slot it was told if that is free, else any free one.
"""

from __future__ import annotations

from codewhale_fleet.worker import limits
from codewhale_fleet.worker.processes import FLEET_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from typing import Any

    from codewhale_fleet.worker.caps import Purse
    from codewhale_fleet.worker.execution import Work
    from codewhale_fleet.worker.logs import Log
    from codewhale_fleet.worker.metering import Metered
    from codewhale_fleet.worker.own import Own
    from codewhale_fleet.worker.redaction import Blind, Redactor
    from codewhale_fleet.worker.sealing import Copy
    from codewhale_fleet.worker.stalls import Stall
else:
    from _collections import deque

_KEPT_OF_A_PLAN = (
    "root",
    "out",
    "err",
    "log_limit",
    "log_ceiling",
    "timeout",
    "budget",
    "grace",
    "artifacts",
    "expected",
    "evidence",
    "stall",
    "stall_ends",
    "usage",
    "caps",
    "warn",
    "run_caps",
    "run_spent",
    "run_ack",
    "fleet",
    "given",
    "answer",
    "isolate",
    "keep",
    "shared",
    "token",
    "secrets",
    "secrets_dir",
    "sealed",
    "sandbox",
    "tools",
)
"""What an end needs of a plan; argv, environment and file texts stay out of the journal."""
_KEPT_FOR_STEPS = ("steps", "cwd", "env", "allow")
"""What verification needs besides: the runtime that performs it may not be the one that started."""


_NO_SECRETS = ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "NO_PROXY")
"""Variables that alerts need and anybody may see."""


def kept_of(plan: dict[str, Any]) -> dict[str, Any]:
    """The part of a plan that the journal keeps with the intent, empty values left out."""
    names = _KEPT_OF_A_PLAN + _KEPT_FOR_STEPS if plan.get("steps") else _KEPT_OF_A_PLAN
    found = {name: plan.get(name) for name in names}
    found["fleet"] = (plan.get("env") or {}).get(FLEET_VARIABLE)
    return {name: value for name, value in found.items() if value not in (None, "", [], {})}


def is_attempt_id(attempt: str) -> bool:
    """Is it RUN/TASK@N, printable, without quotes and backslashes?"""
    run, slash, task = attempt.partition("/")
    name, _, number = task.rpartition("@")
    plain = attempt.isprintable() and '"' not in attempt and "\\" not in attempt
    return bool(run and slash and name and number.isdigit() and plain)


class Attempt:
    """One attempt from its spawn to its end. Times are seconds on the boot clock."""

    __slots__ = (
        "adopted",
        "box",
        "cap",
        "confined",
        "copies",
        "cpu",
        "ended",
        "exit",
        "first",
        "fleet",
        "grace",
        "hides",
        "id",
        "keeper_reaps",
        "log_ceiling",
        "log_interval",
        "log_limit",
        "logs",
        "look_at",
        "metered",
        "metering",
        "of_logs",
        "oom",
        "own",
        "pid",
        "pidfd",
        "plan",
        "reading",
        "rss_kb",
        "run",
        "secrets_dir",
        "signal",
        "since",
        "slot",
        "stage",
        "stage_at",
        "stall",
        "started",
        "step",
        "stop_at",
        "stop_why",
        "stragglers",
        "sweep_delay",
        "sweep_until",
        "then",
        "why",
    )

    def __init__(self, attempt: str, run: Run, slot: str, plan: dict[str, Any], now: float) -> None:
        self.id = attempt
        self.run = run
        self.slot = slot
        self.plan = plan
        self.since = now
        self.pid = 0
        self.pidfd = -1
        self.box: dict[str, Any] | None = None
        """What bubblewrap has told of its sandbox, once that is over; None: it never began."""
        self.first: int | None = None
        """The first process inside its sandbox, once that is looked at; 0: none, or it is gone."""
        self.adopted = False
        """The process is not this one's child: another runtime started it."""
        self.keeper_reaps = False
        """It is the keeper's child: the keeper will tell its exit status."""
        self.started = False
        self.confined = False
        """A cgroup of its own was asked for: it may have one."""
        self.why: str | None = None
        """Why it was asked to end (the first reason counts), or None if nobody asked."""
        self.cap = ""
        """Which cap it crossed, where it was asked to end for that."""
        self.stage = 0
        """0 nobody asked it to end, 1 INT was sent, 2 TERM, 3 KILL."""
        self.stage_at = 0.0
        self.grace = float(plan.get("grace", limits.GRACE))
        self.log_limit = int(plan.get("log_limit") or limits.LOG_LIMIT)
        """Bytes kept of each stream."""
        self.log_ceiling = int(plan.get("log_ceiling") or 0)
        """Bytes written to a stream that make it a flood; 0: none do."""
        self.logs: dict[str, Log] = {}
        self.copies: dict[str, Copy] = {}
        """Of its streams, where they may hold secret values: what is shown of them."""
        self.hides = "sealed" in plan
        """Its run has secrets, be their values known here or not."""
        self.of_logs: dict[str, dict[str, int]] = {}
        """By stream what is told of its log besides: values that were taken out, bytes withheld."""
        self.look_at = now + limits.LOG_FAST
        self.log_interval = limits.LOG_FAST
        self.stop_at, self.stop_why = _deadline(plan, now)
        self.fleet = str(plan.get("fleet") or "")
        """The id of its fleet, as its environment names it; empty: unknown."""
        self.stall = _stall(plan, now)
        self.metering = "usage" in plan or "run_caps" in plan
        """Whether what it says or uses is followed while it runs."""
        self.secrets_dir = str(plan.get("secrets_dir") or "")
        """Where files with secrets lie for it; empty: it gets none."""
        self.metered: Metered | None = None
        self.reading: dict[str, Any] = {}
        """What an older runtime had read of it and warned of."""
        self.ended = 0.0
        """When its process ended; 0 while it runs."""
        self.exit: int | None = None
        self.signal: int | None = None
        self.cpu: float | None = None
        self.rss_kb: int | None = None
        self.own: Own | None = None
        """What it has said of itself; None until it says something."""
        self.oom = False
        """Somebody killed it while the kernel's memory killer was at work."""
        self.stragglers = 0
        self.step = 0
        """Which step of the attempt's verification this process is; 0: the attempt itself."""
        self.then: Work | None = None
        """What waits for its end; None: its own closing."""
        self.sweep_until = 0.0
        self.sweep_delay = 0.001

    @property
    def redactor(self) -> Redactor | Blind | None:
        """What takes secret values out of what it says; None where its run has none."""
        found = self.run.redactor
        if found is None and self.hides:
            from codewhale_fleet.worker.redaction import Blind

            return Blind()
        return found

    def next_due(self) -> float:
        """When time alone changes something while its process runs."""
        due = self.look_at
        if not self.started:
            due = min(due, self.since + limits.STARTED_AFTER)
        if self.stop_at and self.stop_at < due:
            due = self.stop_at
        if self.stage_at and self.stage_at < due:
            due = self.stage_at
        if self.stall and self.started and not self.stage:
            due = min(due, self.stall.due)
        return due


def _stall(plan: dict[str, Any], now: float) -> Stall | None:
    if not plan.get("stall"):
        return None
    from codewhale_fleet.worker.stalls import Stall

    return Stall(float(plan["stall"]), bool(plan.get("stall_ends")), now)


def _deadline(plan: dict[str, Any], since: float) -> tuple[float, str]:
    timeout, budget = plan.get("timeout"), plan.get("budget")
    if timeout is not None and (budget is None or timeout <= budget):
        return since + timeout, "timeout"
    if budget is not None:
        return since + budget, "budget"
    return 0.0, ""


class Waiting:
    """An attempt that was told and has no slot yet."""

    __slots__ = ("attempt", "plan", "slot")

    def __init__(self, attempt: str, slot: str, plan: dict[str, Any]) -> None:
        self.attempt = attempt
        self.slot = slot
        self.plan = plan


class Run:
    """The slots, the queue and the values of one run on this host."""

    __slots__ = (
        "_order",
        "_redactor",
        "alerts",
        "allowed",
        "base",
        "busy",
        "name",
        "purse",
        "secrets",
        "slots",
        "umask",
        "waiting",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.slots = 1
        self.busy: set[str] = set()
        self.purse: Purse | None = None
        """Its caps, where it has some."""
        self.waiting: dict[str, Waiting] = {}
        self._order: deque[str] = deque()
        self.base: dict[str, str] | None = None
        """None until its environment is known."""
        self.allowed: dict[str, str] = {}
        self.alerts: dict[str, str] = {}
        """What managers need to tell people of it: no attempt's."""
        self.secrets: dict[str, str] = {}
        """Key -> value of every secret that its attempts may get: in memory only."""
        self.umask = 0o022
        self._redactor: Redactor | None = None

    @property
    def redactor(self) -> Redactor | None:
        """What takes its secret values out of texts; None where it has none, or none is known."""
        if not self.secrets:
            return None
        if self._redactor is None or self._redactor.values is not self.secrets:
            from codewhale_fleet.worker.redaction import Redactor

            named = {key: one for key, one in self.alerts.items() if key.upper() not in _NO_SECRETS}
            self._redactor = Redactor({**named, **self.secrets}, self._redactor)
            self._redactor.values = self.secrets
        return self._redactor

    def given(self) -> dict[str, Any]:
        """Its umask and values, for a manager that takes it to other hosts; empty: unknown here."""
        if self.base is None:
            return {}
        return {"umask": self.umask, "values": {"allowed": self.allowed, "secrets": self.secrets}}

    def lacks(self, plan: dict[str, Any]) -> bool:
        """Whether secrets that an attempt, or its verification, is to get are not known here."""
        parts = (plan, *(plan.get("steps") or ()))
        return any(
            one["key"] not in self.secrets for part in parts for one in part.get("secrets") or ()
        )

    def add(self, item: Waiting, slots: int) -> None:
        """`item` waits behind those that came before it."""
        self.slots = max(slots, 1)
        self.waiting[item.attempt] = item
        self._order.append(item.attempt)

    def withdraw(self, attempt: str) -> Waiting | None:
        """Takes a waiting attempt out."""
        return self.waiting.pop(attempt, None)

    def take_next(self) -> tuple[Waiting, str] | None:
        """The first that waits and the slot it gets; None if none waits or none is free.

        The slot is busy from now on.
        """
        if not self.waiting or len(self.busy) >= self.slots:
            return None
        order = self._order
        while order[0] not in self.waiting:
            order.popleft()
        item = self.waiting[order[0]]
        slot = item.slot if item.slot not in self.busy else self._any_free(item.slot)
        if slot is None:
            return None
        order.popleft()
        del self.waiting[item.attempt]
        self.busy.add(slot)
        return item, slot

    def _any_free(self, like: str) -> str | None:
        prefix = like.rpartition("-")[0]
        for number in range(1, self.slots + 1):
            slot = f"{prefix}-{number}"
            if slot not in self.busy:
                return slot
        return None
