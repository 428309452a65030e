"""A task's spec out of its row or line: decoded as far as somebody needs it, and not before.

And how a run comes into the state, with its tasks: the handlers of `evolve` for a draft.
"""

from heapq import heappush

from msgspec import Raw, Struct, json

from . import events as ev
from .alert_words import RunAlerts
from .liveness import seconds_of
from .spec import Scorer, Task, VerifierPrompt, claims_of
from .state import Run, State, rest_of
from .state import Task as Row

_ABSENT = Raw()

_decoder: json.Decoder[Task] | None = None


def decode_task(raw: bytes) -> Task:
    """The spec of a task, from its sparse JSON as it stands in the ledger."""
    global _decoder  # noqa: PLW0603 (made at first use: most commands never need it)
    if _decoder is None:
        _decoder = json.Decoder(Task)
    return _decoder.decode(raw)


class Top(Struct, gc=False):
    """The few fields of a task that placement needs without decoding the rest."""

    id: str
    priority: int = 0
    metadata: Raw = _ABSENT
    workspace: Raw = _ABSENT

    @property
    def needs_more(self) -> bool:
        """Whether placement may hang on what is not decoded here."""
        return self.metadata is not _ABSENT or self.workspace is not _ABSENT


decode_tops = json.Decoder(list[Top]).decode


def alike(tops: list[Top], text: bytes, first: bytes) -> bytes:
    """What follows the id in each of some tasks, where that is the same and placement needs none of
    it; else nothing. `text` is all of them with commas between: one comparison tells."""
    if not tops or tops[0].needs_more:
        return b""
    rest = rest_of(tops[0].id, first)
    names = [top.id.encode() for top in tops]
    same = text == b'{"id":"%b"%b' % ((b'"%b,{"id":"' % rest).join(names), rest)
    return rest if same else b""


def chain_of(task: Task) -> list[Scorer]:
    """The scorers of a task, in the order in which they judge; none where it names none."""
    if task.verify is not None:
        return task.verify.steps
    return [task.scorer] if task.scorer is not None else []


def judges_of(task: Task) -> list[VerifierPrompt]:
    """The verdicts of agents that a task asks for, in their order."""
    return [scorer for scorer in chain_of(task) if isinstance(scorer, VerifierPrompt)]


def priority_of(task: Task) -> int:
    """Lower runs first; `metadata.priority` counts where `priority` says nothing."""
    if task.priority:
        return task.priority
    written = task.metadata.get("priority", 0)
    return written if isinstance(written, int) else 0


# Drafts ---------------------------------------------------------------------------------------


def created(state: State, head: ev.Envelope, event: ev.RunCreated) -> None:
    """A draft."""
    state.runs[head.run] = run = Run(
        id=head.run,
        name=event.name,
        seq=head.seq,
        ts=head.ts,
        max_workers=event.max_workers,
        workspace=event.workspace,
        digest=event.digest,
        max_failures=event.max_failures,
        deadline_seconds=event.deadline_seconds,
        labels=event.labels,
        environment=event.environment,
        waived=event.waived,
        spec=event.spec,
        agents={name: bytes(agent) for name, agent in event.agents.items()},
        budget=bytes(event.budget),
        policy=bytes(event.policy),
        roles={name: bytes(role) for name, role in event.roles.items()},
        secrets=event.secrets,
        spread=event.spread,
        patience=event.patience,
        script=event.script,
    )
    if event.workers:
        from .workers import defined

        defined(state, run, event.workers)
    if len(event.alerts) > 2:
        run.alerts = RunAlerts(config=bytes(event.alerts), policies=event.alert_policies)
        state.alerts = True


def added(state: State, head: ev.Envelope, event: ev.TasksAdded) -> None:
    """It has tasks, each a row; those that are alike share their spec."""
    run = state.runs[head.run]
    order, tasks, ready, seq = run.order, run.tasks, run.ready, head.seq
    rest = order[-1].rest if order else b""
    text = b",".join(event.tasks)
    tops = decode_tops(b"[%b]" % text)
    if same := alike(tops, text, bytes(event.tasks[0]) if tops else b""):
        rows = [
            Row(index, top.id, same, top.priority, "queued", 0, 0, 0.0, 0.0, 0.0, "", "", "", seq)
            for index, top in enumerate(tops, len(order))
        ]
        order += rows
        tasks.update(zip([top.id for top in tops], rows, strict=True))
        for row in rows:
            heappush(ready, (row.priority, row.index))
        tops = []
    for index, (top, raw) in enumerate(zip(tops, event.tasks, strict=False), len(order)):
        name, priority, data = top.id, top.priority, bytes(raw)
        if data != b'{"id":"%b"%b' % (name.encode(), rest):
            rest = rest_of(name, data)
        task = Row(index, name, rest, priority)
        task.seq = seq
        if top.needs_more:
            spec = decode_task(data)
            task.has_claims = bool(claims_of(spec))
            task.priority = priority = priority_of(spec)
        order.append(task)
        tasks[name] = task
        heappush(ready, (priority, index))
    added = len(event.tasks)
    run.counts["queued"] = run.counts.get("queued", 0) + added
    run.open += added


def begin_deadline(run: Run, ts: str) -> None:
    """Its deadline counts from now on, if it has one."""
    run.until = seconds_of(ts) + run.deadline_seconds if run.deadline_seconds else 0.0


def started(state: State, head: ev.Envelope, event: ev.RunStarted) -> None:
    """Its tasks may be placed."""
    run = state.runs[head.run]
    run.status = "running"
    run.started_ts = run.asked_ts = head.ts
    begin_deadline(run, head.ts)
    state.open_runs[run.id] = run


__all__ = [
    "added",
    "alike",
    "begin_deadline",
    "chain_of",
    "claims_of",
    "created",
    "decode_task",
    "decode_tops",
    "judges_of",
    "priority_of",
    "started",
]
