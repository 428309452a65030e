"""What agents used and cost: by run, task, agent, model and label, and for each task that passed.

Pure: runs with their rows, and their records. An attempt that still runs counts by what it told
last. Verifiers are told apart from the agents whose work they judged. A cost that an agent does not
report is None and never guessed: sums then say that they are of the rest.
"""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from ..core import events as e
from ..core.state import Run, split_attempt
from ..core.tasks import decode_task, judges_of
from .usage import figures

UNKNOWN = "unknown"
"""The model, or the agent, that nobody named."""


class Use(Struct, frozen=True):
    """What one process of an agent used."""

    task: str
    agent: str
    model: str
    usage: e.Usage
    verifies: bool
    prices: bool
    """Whether its cost is known: some agents tell it at the end only, or never."""
    unread: int


def uses(run: Run, records: Iterable[tuple[e.Envelope, e.Event]]) -> list[Use]:
    """Every process of an agent that a run's records tell of."""
    found: list[Use] = []
    running: dict[str, e.AgentFacts] = {}
    for _, event in records:
        if isinstance(event, e.AttemptProgressed) and not event.step:
            running[event.attempt] = event.agent
        elif isinstance(event, e.AttemptEnded):
            running.pop(event.attempt, None)
            found += _of_end(run, event)
        elif isinstance(event, e.AttemptLost) and (facts := running.pop(event.attempt, None)):
            found += _of_attempt(run, event.attempt, facts)
    for attempt, facts in running.items():
        found += _of_attempt(run, attempt, facts)
    return found


def _of_end(run: Run, event: e.AttemptEnded) -> list[Use]:
    found = _of_attempt(run, event.attempt, event.agent) if event.agent else []
    row = run.tasks.get(split_attempt(event.attempt)[1])
    steps = [step for step in event.steps if step.agent]
    if row is None or not steps:
        return found
    judges = judges_of(decode_task(row.raw))
    for number, step in enumerate(steps):
        name = (judges[number].agent or "") if number < len(judges) else ""
        if step.agent is not None:
            found.append(_use(row.id, name, step.agent, verifies=True))
    return found


def _of_attempt(run: Run, attempt: str, facts: e.AgentFacts) -> list[Use]:
    row = run.tasks.get(split_attempt(attempt)[1])
    if row is None:
        return []
    return [_use(row.id, decode_task(row.raw).agent or "", facts, verifies=False)]


def _use(task: str, agent: str, facts: e.AgentFacts, *, verifies: bool) -> Use:
    usage = facts.usage
    prices = bool(usage.cost_usd) or not usage.tokens_in + usage.tokens_out
    return Use(
        task, agent or UNKNOWN, facts.model or UNKNOWN, usage, verifies, prices, facts.unread
    )


class Sums:
    """Sums by the names that something was used under."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.rows: dict[str, list[Use]] = {}

    def add(self, name: str, use: Use) -> None:
        """One more."""
        self.rows.setdefault(name, []).append(use)

    def told(self, passed: dict[str, int] | None = None) -> list[dict[str, Any]]:
        """Rows, the dearest first, then those with most tokens."""
        made = []
        for name, those in self.rows.items():
            row = {self.key: name, **summed(those)}
            if passed is not None:
                row.update(per_passed(row, passed.get(name, 0)))
            made.append(row)
        return sorted(made, key=_dearest)


def _dearest(row: dict[str, Any]) -> tuple[float, float]:
    return (-(row["cost_usd"] or 0.0), -row["tokens"])


def summed(those: list[Use]) -> dict[str, Any]:
    """Figures of some uses together; `unpriced`: how many of them have no known cost."""
    total = sum((use.usage for use in those), e.Usage())
    made: dict[str, Any] = {"processes": len(those), **figures(total)}
    unpriced = sum(not use.prices for use in those)
    if unpriced:
        made["unpriced"] = unpriced
        if unpriced == len(those):
            made["cost_usd"] = None
    if unread := sum(use.unread for use in those):
        made["unread"] = unread
    return made


def per_passed(row: dict[str, Any], passed: int) -> dict[str, Any]:
    """How many tasks passed, and what each of them cost, failures included."""
    cost = row["cost_usd"]
    each = round(cost / passed, 6) if passed and cost is not None else None
    return {"passed": passed, "cost_per_passed_usd": each}


def cost(runs: Iterable[tuple[Run, list[Use]]], *, only: str = "") -> dict[str, Any]:
    """The answer for some runs, or for the task `only` of one."""
    sums = {key: Sums(key) for key in ("run", "task", "agent", "model", "label")}
    passed: dict[str, dict[str, int]] = {key: {} for key in sums}
    every: list[Use] = []
    verifying: list[Use] = []
    ids: list[str] = []
    good = 0
    for run, found in runs:
        those = [use for use in found if not only or use.task == only]
        ids.append(run.id)
        for use in those:
            every.append(use)
            if use.verifies:
                verifying.append(use)
            for key, name in _names(run, use):
                sums[key].add(name, use)
        for name in {use.task for use in those if run.tasks[use.task].result == "pass"}:
            good += 1
            for key, under in {
                pair for use in those if use.task == name for pair in _names(run, use)
            }:
                passed[key][under] = passed[key].get(under, 0) + 1
    total = summed(every)
    made: dict[str, Any] = {"runs": len(ids), "total": {**total, **per_passed(total, good)}}
    if verifying:
        made["verifiers"] = summed(verifying)
    for key, one in sums.items():
        made[f"by_{key}"] = one.told(passed[key])
    unpriced = [use.agent for use in every if not use.prices]
    made["no_cost"] = {agent: unpriced.count(agent) for agent in sorted(set(unpriced))}
    return made


def _names(run: Run, use: Use) -> list[tuple[str, str]]:
    labels = [("label", f"{key}={value}") for key, value in run.labels.items()]
    task = f"{run.id}/{use.task}"
    return [("run", run.id), ("task", task), ("agent", use.agent), ("model", use.model), *labels]
