import pytest
from msgspec import Raw

from codewhale_fleet.core import events as e
from codewhale_fleet.views.sentences import say

SRC = ("rt", 1)
FAIL = e.Receipt(result="fail", source="task", scorer="exit_code", reason="exit 1")

SAID: list[tuple[e.Event, str]] = [
    (e.FleetInitialized(fleet="fl-1"), "the ledger of fl-1 begins"),
    (
        e.ManagerElected(epoch=7, pid=12, host="h", boot="b", version="1", device=1, inode=2),
        "process 12 on h became manager, epoch 7",
    ),
    (e.FleetCopied(fleet="fl-2", was="fl-1"), "this is a copy of fl-1; from here on it is fl-2"),
    (
        e.WorkerStale(worker="w", attempt="r/a@1", quiet=60.0, src=SRC),
        "r/a@1 on w is stale: nothing written, no processor time for 1 min",
    ),
    (
        e.WorkerRecovered(worker="w", attempt="r/a@1", quiet=90.0, src=SRC),
        "r/a@1 on w moves again after 1 min",
    ),
    (e.ManagerLeft(epoch=7), "the manager of epoch 7 left in order"),
    (
        e.RunCreated(name="r", digest="", max_workers=2, workspace="/w", spec="s.toml"),
        "r was drafted from s.toml for cli:user",
    ),
    (e.TasksAdded(tasks=[Raw(b"{}")]), "r got 1 task"),
    (e.RunStarted(count=2), "r was started with 2 tasks"),
    (
        e.WorkerEnrolled(slots=2, host="h", boot="b", cores=4),
        "r got 2 worker slots on h (4 cores)",
    ),
    (
        e.WorkerEnrolled(
            worker="web1", slots=1, host="h1", boot="b", cores=4, memory_mb=8000, gpus=1
        ),
        "web1 is h1: linux, 4 cores, 8,000 MiB, 1 GPU",
    ),
    (
        e.WorkerEnrolled(worker="web1", slots=1, host="h1", boot="b", cores=1),
        "web1 is h1: linux, 1 core",
    ),
    (e.WorkersAdded(workers={"web1": Raw(b"{}")}), "r may use 1 more worker"),
    (
        e.WorkerRegistered(worker="web1", definition=Raw(b"{}"), origin="~/.ssh/config"),
        "web1 is a worker of this fleet (~/.ssh/config)",
    ),
    (e.WorkerRegistered(worker="web1", definition=Raw(b"{}")), "web1 is a worker of this fleet"),
    (e.WorkerDraining(worker="web1", reason="new disk"), "web1 gets nothing new: new disk"),
    (e.WorkerDraining(worker="web1", on=False), "web1 gets work again"),
    (e.WorkerRetired(worker="web1", reason="sold"), "web1 was retired: sold"),
    (e.WorkerUnreachable(worker="web1", why="no route"), "web1 can't be reached: no route"),
    (
        e.InventoryDiscovered(name="cloud", digest="d", workers={"a": Raw(b"{}")}),
        "the inventory cloud has 1 worker",
    ),
    (
        e.InventoryDiscovered(name="cloud", digest="d", workers={"a": Raw(b"{}")}, part=1),
        "the inventory cloud has 1 more worker",
    ),
    (
        e.TaskUnplaced(
            tasks=["a", "b"],
            receipt=e.Receipt(result="fail", source="transport", reason="web1: no route"),
        ),
        "r/a, r/b failed (transport): web1: no route",
    ),
    (
        e.QuestionAsked(attempt="r/a@1", worker="w", src=SRC, text="Which?"),
        "r/a@1 asks: Which?",
    ),
    (e.QuestionAnswered(attempt="r/a@1", answer="this"), "cli:user answered r/a@1: this"),
    (
        e.DataPut(name="site", version=2, sha256="ab", size=2, attempt="r/a@1", src=SRC),
        "r/a@1 put site version 2 (2 bytes)",
    ),
    (e.DataDeleted(name="site", version=2), "cli:user deleted site up to version 2"),
    (
        e.SecretsUsed(
            attempt="r/a@1", worker="w", src=SRC, secrets={"B": "env", "A": "env", "C": "file"}
        ),
        "r/a@1 got A, B as a variable and C as a file",
    ),
    (
        e.SecretsUsed(attempt="r/a@1", worker="w", src=SRC, secrets={"A": "env"}, step=2),
        "r/a@1 (step 2 of its verification) got A as a variable",
    ),
    (
        e.AttemptProgressed(attempt="r/a@1", worker="w", src=SRC, percent=40, note="linking"),
        "r/a@1 goes on: [ 40 %] linking",
    ),
    (
        e.AttemptProgressed(
            attempt="r/a@1", worker="w", src=SRC, checkpoint=e.Evidence(sha256="ab", size=9)
        ),
        "r/a@1 left a checkpoint of 9 bytes",
    ),
    (e.WorkerHeartbeat(workers=["w1", "w2", "w3", "w4"]), "heard of w1, w2, w3 and 1 more"),
    (
        e.AttemptDispatched(attempt="r/a@1", worker="r-local-1", boot="b", why="free slot"),
        "r/a@1 went to r-local-1: free slot",
    ),
    (
        e.AttemptStarted(attempt="r/a@1", worker="r-local-1", pid=5, src=SRC),
        "r/a@1 runs on r-local-1 as process 5",
    ),
    (
        e.AttemptEnded(
            attempt="r/a@1", worker="w", src=SRC, seconds=41, receipt=FAIL, exit=1, retry_after=10.0
        ),
        "r/a@1 failed (task): exit 1 after 41 s; again in 10 s",
    ),
    (
        e.AttemptLost(attempt="r/a@1", why="the machine was restarted", receipt=FAIL),
        "r/a@1 was lost: the machine was restarted",
    ),
    (
        e.ReceiptRecorded(
            attempt="r/a@1", receipt=e.Receipt(result="fail", source="human", reason="too long")
        ),
        "r/a@1 was failed by cli:user: too long",
    ),
    (
        e.AttemptProgressed(
            attempt="r/a@1",
            worker="r-local-1",
            src=("rt", 1),
            agent=e.AgentFacts(
                usage=e.Usage(tokens_in=12_000, tokens_out=400, cost_usd=0.18), note="reading"
            ),
        ),
        "r/a@1 goes on: 12.4k tokens  $0.18, reading",
    ),
    (
        e.AttemptProgressed(
            attempt="r/a@1",
            worker="r-local-1",
            src=("rt", 2),
            agent=e.AgentFacts(),
            warn=["max_tokens"],
        ),
        "r/a@1 has used 80 % of budget.max_tokens",
    ),
    (e.TaskQueued(tasks=["a"], why="restart"), "r/a queued again: restart"),
    (e.TaskCancelled(tasks=["a", "b"], why="enough"), "r/a, r/b cancelled: enough"),
    (
        e.ControlRequested(verb="interrupt", attempts=["r/a@1"], reason="wrong branch"),
        "cli:user asked to interrupt r/a@1: wrong branch",
    ),
    (e.RunStopped(reason="stopped by Ctrl-C"), "r was stopped (human): stopped by Ctrl-C"),
    (e.RunPaused(reason="lunch"), "r was paused: lunch"),
    (e.RunResumed(failed=True), "r goes on, failed tasks too"),
    (
        e.RunFinished(status="failed", counts={"completed": 3, "failed": 1}, seconds=552),
        "r finished in 9 min 12 s: 3 completed, 1 failed",
    ),
    (
        e.LedgerRepaired(segment=1, offset=9, bytes=12, quarantine="q"),
        "12 bytes that were never acknowledged went to q",
    ),
    (
        e.LedgerRepaired(segment=1, offset=9, bytes=0, asked=True),
        "the ledger was repaired; nothing had to be set aside",
    ),
    (
        e.LedgerRepaired(segment=1, offset=9, bytes=12, quarantine="q", asked=True),
        "the ledger was repaired: 12 bytes went to q",
    ),
    (
        e.LedgerSealed(segment=1, sha256="a" * 64, bytes=9, first=1, last=2000),
        "segment 1 was sealed with records 1 to 2,000",
    ),
    (
        e.RunSummarized(on="2026-11-21T06:25:58.123456Z", tasks=[Raw(b"{}"), Raw(b"{}")]),
        "r is summed up since 2026-11-21: 2 tasks",
    ),
    (
        e.LedgerCompacted(
            segment=1,
            first=1,
            last=9,
            chain="0",
            original="",
            before="",
            through=1,
            runs=2,
            dropped={"attempt.ended": 3},
        ),
        "segment 1 was compacted: 3 records of 2 finished runs dropped",
    ),
    (
        e.AlertSent(cls="stale", adapter="ops", key="k", count=3),
        "ops was told of stale of r (for 3)",
    ),
    (
        e.AlertSent(cls="stale", adapter="ops", key="k", action="resolve"),
        "ops was told that stale of r is over",
    ),
    (
        e.AlertSent(cls="needs_human", adapter="ops", key="k", dry=True),
        "ops would have been told of needs human of r: dry run",
    ),
    (
        e.AlertDelayed(cls="stale", adapter="ops", key="k", why="answered HTTP 500", seconds=2),
        "ops could not be told of stale of r: answered HTTP 500; again in 2.0 s",
    ),
    (
        e.AlertFailed(cls="stale", adapter="ops", key="k", why="answered HTTP 404"),
        "ops is not told of stale of r: answered HTTP 404",
    ),
    (
        e.AlertSuppressed(cls="stale", adapter="ops", key="k", why="grouped", count=499),
        "499 alerts to ops, stale of r: one message",
    ),
    (
        e.AlertSuppressed(cls="stale", adapter="ops", key="k", why="limited", count=1, into="i"),
        "ops has had enough for now: stale of r goes out with i",
    ),
    (
        e.AlertSuppressed(cls="stale", adapter="ops", key="k", why="carried", count=2, into="i"),
        "ops has had enough for now: i stands for 2 other alerts too",
    ),
]


@pytest.mark.parametrize(("event", "sentence"), SAID, ids=lambda one: getattr(one, "word", ""))
def test_a_record_is_said_in_plain_words(event: e.Event, sentence: str) -> None:
    head = e.Envelope(k=event.word, seq=1, ts="", d=Raw(b"{}"), run="r", by="cli:user")
    assert say(head, event) == sentence


def test_every_word_of_the_ledger_is_said_above() -> None:
    assert {event.word for event, _ in SAID} == set(e.EVENTS)
