"""What agents used, and what follows from it: caps of tasks and runs, and usage limits.

Handlers of `evolve`, and the questions that `decide` and `placement` ask. Usage counts when it is
recorded: caps while an attempt runs are held by the worker runtime, outside the agent.
"""

from typing import Any

from msgspec import json, structs

from . import events as ev
from .liveness import seconds_of, see
from .load import place_of
from .spec import Budget
from .state import Breaker, Run, State, Task, TaskMore
from .tasks import decode_task, judges_of

CAPS = ("max_tokens", "max_tool_calls", "max_cost_usd")
"""Caps on what only an agent's own stream tells."""

WARN_SHARE = 0.8
"""The share of a cap at which somebody is warned."""

FIRST_WAIT_SECONDS = 60.0
"""How long an agent rests after a usage limit that names no time; twice as long each next time."""
LONGEST_WAIT_SECONDS = 3600.0

_budget = json.Decoder(Budget).decode


def more_of(task: Task) -> TaskMore:
    """What only few tasks have, made when first needed."""
    if task.more is None:
        task.more = TaskMore()
    return task.more


def progressed(state: State, head: ev.Envelope, event: ev.AttemptProgressed) -> None:
    """An agent told something while it ran; its usage counts at its end."""
    see(state, event.src)
    run = state.runs[head.run]
    flight = run.flights.get(event.attempt)
    if flight is None:
        return
    flight.step = event.step
    if event.step and not event.warn:
        return
    more = more_of(run.tasks[flight.task])
    flight.percent = event.percent if event.percent is not None else flight.percent
    flight.note = event.note or event.agent.note or flight.note
    more.checkpoint = event.checkpoint or more.checkpoint
    if event.agent.session:
        more.session, more.session_at = event.agent.session, place_of(run.id, event.worker)
    more.warned = more.warned + event.warn if event.warn else more.warned


def used(state: State, run: Run, head: ev.Envelope, event: ev.AttemptEnded) -> None:
    """Count what an attempt and its verifiers used; late ends count too.

    The rows of a run that has finished are not held by everybody.
    """
    run.spent += event.seconds
    name = event.attempt[len(run.id) + 1 :].rpartition("@")[0]
    if run.status == "finished" and name not in run.tasks:
        run.usage += usage_of(event)
        return
    task = run.tasks[name]
    silent = event.agent is None and not event.steps and not event.quota
    if silent and not state.breakers and not (task.more and task.more.session):
        return
    if total := usage_of(event):
        more_of(task).usage += total
        run.usage += total
    if event.agent and event.agent.session:
        more = more_of(task)
        more.session, more.session_in = event.agent.session, event.isolated
        more.session_at = place_of(run.id, event.worker)
    if task.more and task.more.session and _came_to_nothing(event):
        task.more.session = task.more.session_at = task.more.session_in = ""
    if not event.late:
        _see_limit(state, task, head, event)


def conversation_at(row: Task) -> str:
    """The worker where an agent's conversation is that the next attempt goes on with, if any."""
    more = row.more
    if more is None or not more.session_at or b'"resume_session"' not in row.rest:
        return ""
    policy = decode_task(row.raw).retry_policy
    return more.session_at if policy is not None and policy.resume_session else ""


def as_seen_there(run: Run, row: Task) -> Task:
    """A task as it is where its latest attempt was placed: a conversation that another worker has
    is none there."""
    if row.more is None or row.more.session_at in ("", place_of(run.id, row.worker)):
        return row
    more = structs.replace(row.more, session="", session_at="", session_in="")
    return structs.replace(row, more=more)


def _came_to_nothing(event: ev.AttemptEnded) -> bool:
    """Whether the agent failed by itself before it had said anything: its conversation, which may
    not be there any more, is not what the next attempt should begin with."""
    if event.exit == 0 or event.why or event.quota:
        return False
    return event.agent is None or not event.agent.usage.of("max_tokens")


def usage_of(event: ev.AttemptEnded) -> ev.Usage:
    """What the agent of an attempt and those of its verifiers used."""
    return sum(
        (step.agent.usage for step in event.steps if step.agent),
        event.agent.usage if event.agent else ev.Usage(),
    )


def _see_limit(state: State, task: Task, head: ev.Envelope, event: ev.AttemptEnded) -> None:
    quota = event.quota
    if quota is None:
        if state.breakers and (agent := decode_task(task.raw).agent):
            breaker = state.breakers.get(agent)
            if breaker and breaker.until <= seconds_of(head.ts):  # else it began before the limit
                del state.breakers[agent]
        return
    before = state.breakers.get(quota.agent)
    state.breakers[quota.agent] = Breaker(
        until=seconds_of(head.ts) + quota.seconds,
        seq=head.seq,
        attempt=event.attempt,
        words=quota.words,
        trips=before.trips + 1 if before else 1,
    )


def wait_of(state: State, quota: ev.Quota) -> float:
    """Seconds that an agent rests after this usage limit."""
    if quota.seconds > 0:
        return quota.seconds
    before = state.breakers.get(quota.agent)
    wait = FIRST_WAIT_SECONDS * 2.0 ** (before.trips if before else 0)
    return min(wait, LONGEST_WAIT_SECONDS)


def limited(quota: ev.Quota) -> ev.Receipt:
    """The receipt of an attempt whose agent had reached a usage limit: it counts for nothing.

    Where it was the verifier's, the work is done, and waits for somebody's verdict.
    """
    reason = f"{quota.agent} has reached a usage limit: {quota.words}"
    if quota.verifier:
        return ev.Receipt(result="partial", source="verifier", reason=f"not verified: {reason}")
    return ev.Receipt(result="skip", source="budget", reason=reason)


def limit_of(breakers: dict[str, Breaker], task: Task, now: float) -> tuple[str, Breaker] | None:
    """An agent that a task needs and that may not be asked now, with its usage limit, or None.

    Its verifiers' agents are needed too: work that nobody can judge would be done too early.
    """
    if not breakers:
        return None
    spec = decode_task(task.raw)
    for agent in (spec.agent, *(judge.agent for judge in judges_of(spec))):
        breaker = breakers.get(agent) if agent else None
        if agent and breaker and breaker.until > now:
            return agent, breaker
    return None


# Caps -----------------------------------------------------------------------------------------


def budget_of(run: Run) -> Budget | None:
    """The limits over all tasks of a run together."""
    return _budget(run.budget) if len(run.budget) > 2 else None


def used_up(budget: Budget | None, usage: ev.Usage, seconds: float) -> str:
    """The first cap that is reached, in words; empty where none is."""
    if budget is None:
        return ""
    for cap in CAPS:
        most = getattr(budget, cap)
        if most is not None and usage.of(cap) >= most:
            return f"budget.{cap} = {_short(most)} is used up ({_short(usage.of(cap))})"
    if budget.max_seconds is not None and seconds >= budget.max_seconds:
        most = _short(budget.max_seconds)
        return f"budget.max_seconds = {most} is used up ({_short(round(seconds, 3))})"
    return ""


def left_of(budget: Budget | None, usage: ev.Usage) -> dict[str, float]:
    """What is left of each cap on an agent's own figures; caps that are not set are left out."""
    if budget is None:
        return {}
    return {
        cap: max(0, round(most - usage.of(cap), 9))
        for cap in CAPS
        if (most := getattr(budget, cap)) is not None
    }


def warned_at(budget: Budget | None, usage: ev.Usage) -> dict[str, float]:
    """How much more an attempt may use of each cap before a warning is due.

    Caps of which so much was used before are left out: that was warned of.
    """
    if budget is None:
        return {}
    return {
        cap: round(WARN_SHARE * most - usage.of(cap), 9)
        for cap in CAPS
        if (most := getattr(budget, cap)) is not None and usage.of(cap) < WARN_SHARE * most
    }


def shared_caps(run: Run) -> dict[str, dict[str, float]]:
    """The caps of a run as a whole, and what it has used, for the host; empty without any."""
    budget = budget_of(run)
    if budget is None:
        return {}
    caps = {
        cap: most for cap in (*CAPS, "max_seconds") if (most := getattr(budget, cap)) is not None
    }
    if not caps:
        return {}
    spent = {name: value for name, value in structs.asdict(run.usage).items() if value}
    return {"run_caps": caps, "run_spent": {**spent, "seconds": round(run.spent, 6)}}


def _short(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.6g}"
