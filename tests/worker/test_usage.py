"""What agents say is read while they run: usage, sessions, caps that end them, warnings."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.worker.caps import Purse
from codewhale_fleet.worker.journal import Journal
from codewhale_fleet.worker.usage import LINE_BYTES, Reader
from tests.worker.driver import RUN, Manager, Message

pytestmark = pytest.mark.slow

READER: dict[str, Any] = {
    "tokens_in": [
        {"when": {"type": "end"}, "path": "in"},
        {"when": {"type": "step"}, "path": ["use.in", "use.cached"], "once_per": "id"},
    ],
    "tokens_out": [{"when": {"type": "step"}, "path": "use.out", "once_per": "id"}],
    "tokens_cached": [{"when": {"type": "step"}, "path": "use.cached", "once_per": "id"}],
    "tool_calls": [
        {"when": {"type": "step"}, "each": "did", "where": {"kind": "tool"}, "take": "count"}
    ],
    "cost_usd": [{"when": {"type": "end"}, "path": "models.*.usd"}],
    "session": [{"path": "sid"}],
    "model": [{"path": "model", "take": "first"}],
    "note": [{"when": {"type": "step"}, "each": "did", "path": ["name", "text"]}],
    "error": [{"when": {"type": "end", "bad": True}, "path": "words"}],
    "answer": [{"when": {"type": "end"}, "path": "words"}],
}


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def step(number: int, tokens: int, **more: Any) -> bytes:
    use = {"in": tokens, "out": 1, "cached": 0}
    return line(type="step", id=number, use=use, sid="s-1", **more)


def reader(tmp_path: Path, data: bytes = b"", **more: Any) -> Reader:
    path = tmp_path / "out"
    path.write_bytes(data)
    made = Reader(READER, {"out": str(path)}, **more)
    while made.read():
        pass
    return made


# The reader -----------------------------------------------------------------------------------


def test_figures_and_texts_are_found_by_their_rules(tmp_path: Path) -> None:
    use = {"in": 5, "out": 2, "cached": 40}
    did = [{"kind": "tool", "name": "Edit", "text": "a.py"}, {"kind": "tool", "name": "Bash"}]
    said = [{"kind": "text", "text": "first\nsecond \x1b[1mline"}]
    read = reader(
        tmp_path,
        line(type="start", sid="s-0", model="m-1")
        + line(type="step", id="a", use=use, did=did, model="m-2", sid="s-1")
        + line(type="step", id="a", use={**use, "out": 7}, did=said, sid="s-1"),
    )
    assert read.facts() == {
        "usage": {"tokens_in": 45, "tokens_out": 7, "tokens_cached": 40, "tool_calls": 2},
        "session": "s-1",
        "model": "m-1",
        "note": "second [1mline",
    }


def test_what_comes_first_in_the_list_is_authoritative(tmp_path: Path) -> None:
    end = line(type="end", models={"x": {"usd": 0.25}, "y": {"usd": 0.5}}, **{"in": 70})
    read = reader(tmp_path, step(1, 30) + step(2, 30) + end)
    assert read.facts()["usage"] == {"tokens_in": 70, "tokens_out": 2, "cost_usd": 0.75}


def test_usage_that_goes_backwards_is_never_subtracted(tmp_path: Path) -> None:
    read = reader(tmp_path, step(1, 500))
    with (tmp_path / "out").open("ab") as out:
        out.write(step(1, 20) + step(2, -9) + line(type="end", **{"in": 3}))
    read.read()
    assert read.numbers["tokens_in"] == 500


def test_only_whole_lines_count_until_the_end(tmp_path: Path) -> None:
    whole = step(1, 10)
    read = reader(tmp_path, whole + step(2, 20)[:-1])
    assert read.numbers["tokens_in"] == 10
    read.finish()
    assert read.numbers["tokens_in"] == 30


def test_lines_that_are_no_objects_are_passed_over(tmp_path: Path) -> None:
    noise = b'[{"type": "step"}]\nnull\n{"type": "step", \nplain words "step"\n\xff\xfe "step"\n\n'
    wrong = line(type="step", id=[], use={"in": "12", "out": True, "cached": None}, sid=7)
    wrong += b'{"type": "step", "use": {"in": 1e999, "out": -1}}\n'
    wrong += b'{"type": "step", "id": {}, "use": 4, "did": "x"}\n{"type": "step", "did": [3]}\n'
    assert reader(tmp_path, noise + wrong + step(3, 4)).facts() == {
        "usage": {"tokens_in": 4, "tokens_out": 1},
        "session": "s-1",
    }


def test_words_of_failure_are_one_line_that_any_decoder_takes(tmp_path: Path) -> None:
    words = (
        b'{"type": "end", "bad": true, "words": "hit \\ud800 the\\n\\n limit' + b"x" * 900 + b'"}'
    )
    error = reader(tmp_path, words + b"\n").facts()["error"]
    assert error.startswith("hit ? the limitxxx") and len(error) == 500
    error.encode()


def test_the_answer_is_whole_where_it_is_asked_for(tmp_path: Path) -> None:
    data = line(type="end", words="one\ntwo")
    assert reader(tmp_path, data, answer=True).answer == "one\ntwo"
    assert reader(tmp_path, data).answer == ""


def test_a_line_that_is_too_long_is_passed_over_and_said(tmp_path: Path) -> None:
    long = step(2, 1000, text="x" * (LINE_BYTES + 5))
    facts = reader(tmp_path, step(1, 1) + long + step(3, 2)).facts()
    assert facts["usage"]["tokens_in"] == 3
    assert facts["unread"] == len(long) - 1


def test_pairs_on_standard_error_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "err").write_text(
        'INFO otel: event.name="a.done" n_in=40 cost=0.5 note="two words"\n'
        'INFO otel: event.name="a.begun" n_in=99\nINFO n_in=7 x\n'
    )
    rule = {"stream": "err", "when": {"event.name": "a.done"}}
    declared = {
        "formats": {"err": "pairs"},
        "tokens_in": [{**rule, "path": "n_in"}],
        "cost_usd": [{**rule, "path": "cost"}],
        "note": [{**rule, "path": "note"}],
    }
    read = Reader(declared, {"err": str(tmp_path / "err")})
    read.read()
    assert read.facts() == {"usage": {"tokens_in": 40, "cost_usd": 0.5}, "note": "two words"}


def test_texts_can_be_put_together_and_begun_anew(tmp_path: Path) -> None:
    declared = {
        "answer": [
            {"when": {"t": "tool"}, "take": "clear"},
            {"when": {"t": "say"}, "path": "c", "take": "append"},
        ]
    }
    said = [("say", "gone"), ("tool", ""), ("say", "a "), ("say", "b")]
    (tmp_path / "out").write_bytes(b"".join(line(t=t, c=c) for t, c in said))
    read = Reader(declared, {"out": str(tmp_path / "out")}, answer=True)
    read.read()
    assert read.answer == "a b"


def test_what_stands_in_the_place_of_a_log_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    (tmp_path / "other").write_bytes(step(1, 5))
    for name in ("fifo", "link", "absent"):
        read = Reader(READER, {"out": str(tmp_path / name)})
        assert not read.read() and read.facts() == {}


def test_another_reader_goes_on_from_a_snapshot(tmp_path: Path) -> None:
    first = reader(tmp_path, step(1, 10) + step(2, 20) + step(3, 1)[:9])
    kept = json.loads(json.dumps(first.snapshot()))
    with (tmp_path / "out").open("ab") as out:
        out.write(step(3, 1)[9:] + step(2, 25))
    later = Reader(READER, {"out": str(tmp_path / "out")})
    later.adopt(kept)
    later.read()
    assert later.numbers["tokens_in"] == 36
    anew = Reader(READER, {"out": str(tmp_path / "out")})
    anew.adopt({"rules": "of another declaration"})
    anew.read()
    assert anew.numbers["tokens_in"] == 36


# The purse of a run ---------------------------------------------------------------------------


def test_a_run_has_used_what_was_told_what_ended_since_and_what_runs() -> None:
    purse = Purse()
    purse.told({"max_tokens": 100}, {"tokens_in": 30}, 4)
    purse.open["a"] = ({"tokens_in": 20, "tokens_out": 5}, 0.0)
    purse.end("b", 5, {"agent": {"usage": {"tokens_out": 10}}, "seconds": 2.0})
    assert purse.total(1.0)["tokens_in"] == 50
    assert purse.crossed(1.0) == ""
    purse.told({"max_tokens": 100}, {"tokens_in": 40}, 5)  # the end is in what was told
    assert (purse.total(1.0)["tokens_in"], purse.total(1.0)["tokens_out"]) == (60, 5)
    purse.told({"max_tokens": 100}, {"tokens_in": 7}, 3)  # said before the latest
    assert purse.total(1.0)["tokens_in"] == 60
    purse.open["a"] = ({"tokens_in": 60}, 0.0)
    assert (purse.crossed(1.0), purse.crossed(1.0, reached=True)) == ("", "max_tokens")
    purse.open["a"] = ({"tokens_in": 61}, 0.0)
    assert purse.crossed(1.0) == "max_tokens"


def test_seconds_of_a_run_are_those_of_all_its_attempts() -> None:
    purse = Purse()
    purse.told({"max_seconds": 10}, {"seconds": 3.0}, 0)
    assert purse.seconds_left(5.0) is None
    purse.open.update({"a": ({}, 4.0), "b": ({}, 3.0)})
    assert purse.seconds_left(5.0) == 2.0
    assert purse.crossed(7.1) == "max_seconds"


def test_a_cap_of_a_run_is_warned_of_once() -> None:
    purse = Purse()
    purse.told({"max_cost_usd": 1.0, "max_tokens": 10}, {"tokens_in": 9}, 0)
    purse.open["a"] = ({"cost_usd": 0.8}, 0.0)
    assert purse.warnings(1.0) == ["max_cost_usd"]
    assert purse.warnings(1.0) == []


def test_what_a_compaction_keeps_is_what_was_used() -> None:
    purse = Purse()
    purse.told({"max_tokens": 99}, {"tokens_in": 1}, 2)
    purse.end("a", 3, {"agent": {"usage": {"tokens_in": 4}}, "seconds": 1.0})
    purse.end("b", 9, {"agent": {"usage": {"tokens_in": 40}}})
    kept = purse.line("r", 3)
    after = Purse()
    after.told({"max_tokens": 99}, kept["u"], kept["ack"])
    after.end("b", 9, {"agent": {"usage": {"tokens_in": 40}}})
    assert after.total(0.0) == purse.total(0.0)


def test_the_journal_keeps_what_was_read_and_spent_across_a_compaction(tmp_path: Path) -> None:
    plan = {"run_caps": {"max_tokens": 99}, "run_spent": {}, "run_ack": 0}
    journal = Journal(str(tmp_path), "boot", "v")
    for name in ("r/a@1", "r/b@1"):
        journal.put({"f": "intent", "a": name, "s": "s", "t": 1.0, "p": plan})
    told = {"attempt": "r/a@1", "slot": "s", "agent": {}, "warn": ["max_tokens"]}
    journal.fact("stale", {"attempt": "r/a@1", "slot": "s", "quiet": 1.0})
    journal.fact("progressed", told)
    journal.put({"f": "read", "a": "r/a@1", "s": {"unread": 7}})
    journal.fact("ended", {"attempt": "r/b@1", "slot": "s", "seconds": 1.0})
    journal.flush()
    again = Journal(str(tmp_path), "boot", "v")
    record = again.open["r/a@1"]
    assert record.reading == {"s": {"unread": 7}, "warned": ["max_tokens"]}
    assert record.stale  # what an agent says is no news of what it does
    assert [fact["attempt"] for fact in again.ended] == ["r/b@1"]
    again.acknowledge(3)
    again.compact({"r/a@1"})
    again.put(Purse().line("r", 3))
    again.flush()
    last = Journal(str(tmp_path), "boot", "v")
    assert last.open["r/a@1"].reading == {"s": {"unread": 7}}
    assert (last.open["r/a@1"].stale, last.ended) == (True, [])
    assert last.spent["r"]["ack"] == 3


# With processes -------------------------------------------------------------------------------

AGENT = """
import json, sys, time
def say(number, tokens, text="working"):
    use = {"in": tokens, "out": 0}
    line = {"type": "step", "id": number, "use": use, "sid": "s-1",
            "did": [{"kind": "tool", "name": text}]}
    print(json.dumps(line), flush=True)
def wait(name):
    return open(name).readline().strip()
"""


def agent(manager: Manager, task: str, code: str, **more: Any) -> str:
    return manager.start_python(task, AGENT + code, usage=READER, **more)


def crossed_at(manager: Manager, task: str) -> float:
    return float((manager.root / f"{task}.at").read_text())


CROSS = """
say(1, 60)
wait("go")
open("{task}.at", "w").write(str(time.time()))
say(2, 60)
time.sleep(600)
"""


def ended_in_time(manager: Manager, attempt: str, task: str) -> Message:
    end = manager.end_of(attempt)
    path = manager.fleet / end["logs"]["out"]["path"]
    assert path.read_text().count("\n") == 2
    return end


def test_a_cap_stops_an_agent_within_a_second_of_the_line_that_crosses_it(
    manager: Manager,
) -> None:
    manager.fifo("go")
    attempt = agent(manager, "a", CROSS.format(task="a"), caps={"max_tokens": 100})
    told = manager.line.hear(lambda m: m.get("f") == "progressed")
    assert told["agent"]["session"] == "s-1"
    assert told["agent"]["usage"] == {"tokens_in": 60, "tool_calls": 1}
    (manager.root / "go").write_text("go\n")
    end = ended_in_time(manager, attempt, "a")
    late = time.time() - crossed_at(manager, "a")
    assert (end["why"], end["cap"], end["signal"]) == ("budget", "max_tokens", 2)
    assert end["agent"]["usage"] == {"tokens_in": 120, "tool_calls": 2}
    assert late < 1.0


def test_a_cap_holds_with_the_manager_gone(manager: Manager) -> None:
    manager.fifo("go")
    attempt = agent(manager, "a", CROSS.format(task="a"), caps={"max_tokens": 100})
    manager.line.hear(lambda m: m.get("f") == "progressed")
    cursor = manager.cursor
    manager.line.close()
    (manager.root / "go").write_text("go\n")
    manager.epoch += 1
    manager.dial(cursors={manager.hello["runtime"]: cursor})
    end = manager.end_of(attempt)
    assert (end["why"], end["cap"]) == ("budget", "max_tokens")
    assert end["seconds"] < 30


def test_a_cap_holds_after_the_runtime_was_killed(manager: Manager) -> None:
    manager.fifo("go")
    attempt = agent(manager, "a", CROSS.format(task="a"), caps={"max_tokens": 100})
    manager.line.hear(lambda m: m.get("f") == "progressed")
    manager.kill_runtime()
    (manager.root / "go").write_text("go\n")
    end = ended_in_time(manager, attempt, "a")
    assert (end["why"], end["cap"]) == ("budget", "max_tokens")
    assert end["agent"]["usage"]["tokens_in"] == 120
    assert time.time() - crossed_at(manager, "a") < 5.0


def test_attempts_of_a_run_share_its_caps_across_a_kill_of_the_runtime(manager: Manager) -> None:
    manager.fifo("go")
    first = agent(
        manager, "first", "say(1, 40)", slots=4, run_caps={"max_tokens": 200}, run_spent={}
    )
    assert manager.end_of(first)["agent"]["usage"]["tokens_in"] == 40
    code = "say(1, 40)\nwait('go')\nsay(2, 60)\ntime.sleep(600)"
    attempts = [
        agent(manager, name, code, run_caps={"max_tokens": 200}, run_spent={}) for name in "bcd"
    ]
    for _ in attempts:
        manager.line.hear(lambda m: m.get("f") == "progressed")
    manager.kill_runtime()
    (manager.root / "go").write_text("go\n")
    ends = [manager.end_of(attempt) for attempt in attempts]
    assert [(end["why"], end["cap"]) for end in ends] == [("budget", "run.max_tokens")] * 3
    warned = [m for line in manager._lines for m in line.heard if m.get("warn")]
    assert {m["n"]: m["warn"] for m in warned}.popitem()[1] == ["run.max_tokens"]
    assert len({m["n"] for m in warned}) == 1


def test_what_waited_for_a_slot_does_not_start_once_the_run_has_used_up_its_cap(
    manager: Manager,
) -> None:
    caps: Message = {"run_caps": {"max_tokens": 50}, "run_spent": {"tokens_in": 10}}
    one = agent(manager, "one", "say(1, 60)\ntime.sleep(600)", slots=1, **caps)
    two = agent(manager, "two", "say(1, 1)", slots=1, **caps)
    assert manager.end_of(one)["cap"] == "run.max_tokens"
    end = manager.end_of(two)
    assert (end["why"], end["cap"]) == ("budget", "run.max_tokens")
    assert end["unstarted"] == "the run's budget.max_tokens was used up before it started"


def test_seconds_of_a_run_end_its_commands_too(manager: Manager) -> None:
    caps: Message = {"run_caps": {"max_seconds": 11.0}, "run_spent": {"seconds": 10.0}}
    one, two = (manager.start(name, ["sleep", "600"], **caps) for name in ("one", "two"))
    ends = [manager.end_of(attempt) for attempt in (one, two)]
    assert [end["cap"] for end in ends] == ["run.max_seconds"] * 2
    assert 0.9 < sum(end["seconds"] for end in ends) < 2.0


def test_a_warning_is_told_once(manager: Manager) -> None:
    code = "say(1, 70)\ntime.sleep(0.3)\nsay(2, 15)\ntime.sleep(0.6)\nsay(3, 5)\ntime.sleep(0.6)"
    attempt = agent(manager, "a", code, caps={"max_tokens": 100}, warn={"max_tokens": 80})
    assert manager.end_of(attempt)["exit"] == 0
    told = [m for m in manager.line.heard if m.get("f") == "progressed" and "warn" in m]
    assert [m["warn"] for m in told] == [["max_tokens"]]
    assert told[0]["agent"]["usage"]["tokens_in"] == 85


def test_an_agent_that_says_nothing_new_is_not_told_of(manager: Manager) -> None:
    manager.fifo("go")
    attempt = agent(manager, "a", "say(1, 5)\nwait('go')")
    manager.line.hear(lambda m: m.get("f") == "progressed")
    before = len(manager.line.heard)
    time.sleep(1.5)  # nothing may come: there is no event to wait for
    manager.line.say({"m": "ping"})
    assert manager.line.hear(lambda m: m.get("m") == "pong")
    assert [m.get("f") for m in manager.line.heard[before:]] == [None]
    (manager.root / "go").write_text("go\n")
    assert manager.end_of(attempt)["exit"] == 0


def test_nothing_goes_out_of_the_middle_before_it_was_read(manager: Manager) -> None:
    manager.fifo("go")
    noise = 'print(json.dumps({"type": "noise", "text": "x" * 9000}))'
    code = f"""
for number in range(2000):
    say(number, 1)
    {noise}
wait("go")
say("last", 1)
"""
    attempt = agent(manager, "a", code, log_limit=1 << 20)
    log = manager.fleet / f"logs/{RUN}/a.1.out"
    until = time.monotonic() + 20
    while not log.with_name("a.1.out.hole").exists() and time.monotonic() < until:
        time.sleep(0.01)
    manager.kill_runtime()
    (manager.root / "go").write_text("go\n")
    end = manager.end_of(attempt)
    assert end["logs"]["out"]["dropped"] > 1 << 20
    assert end["agent"]["usage"] == {"tokens_in": 2001, "tool_calls": 2001}
    assert "unread" not in end["agent"]
