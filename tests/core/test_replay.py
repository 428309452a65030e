"""Reading attempts back in stretches gives the very state that record after record gives."""

import random
from itertools import groupby
from typing import Any

import pytest
from msgspec import Raw, to_builtins
from msgspec import json as mjson

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.evolve import evolve
from codewhale_fleet.core.outbox import sendable
from codewhale_fleet.core.replay import WORDS, Line, replay
from codewhale_fleet.core.state import State

from .playbook import FAIL, PAGER, PASS, Playbook

Record = tuple[e.Envelope, e.Event]
SLIM = mjson.Decoder(Line)
RETRY = {"max_attempts": 3, "initial_backoff_seconds": 1, "jitter": 0, "retry_on": ["task"]}


def a_run(chance: random.Random) -> list[Record]:
    """The records of a run in which everything happens that attempts can meet."""
    book = Playbook()
    tasks: list[dict[str, Any]] = [{"id": f"t{n}"} for n in range(30)]
    for task in tasks[:12]:
        task["retry_policy"] = RETRY
    for task in tasks[12:16]:
        task["workspace"] = {"writable_paths": ["same"]}
    run = book.run(*tasks, workers=3, alerts=chance.choice((None, PAGER)))
    for _ in range(120):
        book.later(chance.random())
        book.place()
        flying = [name for name, flight in run.flights.items() if not flight.started]
        if flying and chance.random() < 0.3:
            book.started(chance.choice(flying))
        if run.flights:
            receipt = chance.choice([PASS, PASS, PASS, FAIL])
            book.ended(chance.choice(list(run.flights)), receipt, seconds=chance.random())
        for letter in list(sendable(book.state, book.now))[: chance.randrange(2)]:
            where = {"run": "r", "cls": letter.cls, "adapter": letter.adapter}
            book.ask(c.ReportAlert(**where, key=letter.key, state="sent"))
        if chance.random() < 0.05:
            ended = [task.id for task in run.order if task.status in ("completed", "failed")]
            if ended:
                book.ask(c.Restart(run="r", tasks=(chance.choice(ended),), reason="again"))
        if run.flights and chance.random() < 0.05:
            name = next(iter(run.flights.values())).task
            book.ask(c.Interrupt(run="r", tasks=(name,), reason="enough"))
    return [
        (e.Envelope(k=event.word, seq=seq, ts=a_time(chance), d=Raw(), run=run), event)
        for seq, (run, event) in enumerate(book.log, 2)
    ]


def a_time(chance: random.Random) -> str:
    """Any time: clocks jump, and records of different writers need not be in order."""
    return f"2026-11-21T06:25:58.{chance.randrange(1_000_000):06d}Z"


def line_of(record: Record) -> Line:
    head, event = record
    text = b'{"k":"%b","seq":%d,"ts":"%b","run":"%b","d":%b}' % (
        head.k.encode(), head.seq, head.ts.encode(), head.run.encode(), mjson.encode(event),
    )  # fmt: skip
    return SLIM.decode(text)


def one_by_one(records: list[Record]) -> State:
    state = State(seq=1)
    for record in records:
        evolve(state, *record)
    return state


def in_stretches(records: list[Record], cut: int) -> State:
    state = State(seq=1)
    for part in (records[:cut], records[cut:]):
        for of_attempts, stretch in groupby(part, lambda record: record[0].k in WORDS):
            found = list(stretch)
            if of_attempts:
                replay(state, [line_of(record) for record in found], found.__getitem__)
            else:
                for record in found:
                    evolve(state, *record)
    return state


def seen(state: State) -> Any:
    """The state as plain values; that a slot once held more attempts leaves empty sets behind."""
    for run in state.runs.values():
        while run.crowd and not run.crowd[-1]:
            run.crowd.pop()
    return to_builtins(state)


@pytest.mark.parametrize("seed", range(40))
def test_stretches_give_the_state_that_single_records_give(seed: int) -> None:
    chance = random.Random(seed)
    records = a_run(chance)
    words = {head.k for head, _ in records}
    assert set(WORDS) <= words
    cut = chance.randrange(len(records))
    assert seen(in_stretches(records, cut)) == seen(one_by_one(records))


def test_a_passing_attempt_of_a_stretch_is_never_decoded_in_full() -> None:
    book = Playbook()
    book.run(*({"id": f"t{n}"} for n in range(50)))
    while placed := book.place():
        for attempt in placed:
            book.ended(attempt)
    records = [
        (e.Envelope(k=event.word, seq=seq, ts="", d=Raw(), run=run), event)
        for seq, (run, event) in enumerate(book.log, 2)
    ]
    first = next(at for at, (head, _) in enumerate(records) if head.k in WORDS)
    state = one_by_one(records[:first])
    stretch = records[first:]
    decoded: list[int] = []

    def record(index: int) -> Record:
        decoded.append(index)
        return stretch[index]

    replay(state, [line_of(one) for one in stretch], record)
    assert decoded == []
    assert state.runs["r"].counts["completed"] == 50


def test_a_line_that_contradicts_what_stands_before_it_is_named() -> None:
    book = Playbook()
    book.run({"id": "a"}, {"id": "b"})
    for attempt in book.place():
        book.ended(attempt)
    records = [
        (e.Envelope(k=event.word, seq=seq, ts="", d=Raw(), run=run), event)
        for seq, (run, event) in enumerate(book.log, 2)
    ]
    state = one_by_one([record for record in records if record[0].k not in WORDS])
    stretch = [record for record in records if record[0].k in WORDS]
    del state.runs["r"].tasks["b"]
    with pytest.raises(KeyError):
        replay(state, [line_of(record) for record in stretch], stretch.__getitem__)
    assert state.seq == stretch[-1][0].seq
