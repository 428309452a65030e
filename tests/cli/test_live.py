"""What a person sees while a run goes on."""

import json
import os
import pty
import re
import select
import subprocess
from pathlib import Path

import pytest
from msgspec import Raw

from codewhale_fleet.agents.definition import Agent, encode_agent
from codewhale_fleet.agents.usage import READERS
from codewhale_fleet.cli import live, view, words
from codewhale_fleet.core import events as e
from codewhale_fleet.core.state import Run, State, Task

from .driver import FLEET, environment, fleet, spec, tasks, words_of

RUN = "demo-abc234"
PASS = e.Receipt(result="pass")
FAIL = e.Receipt(result="fail", source="task", reason="exit 1\nsecond line")


def record(event: e.Event, seq: int = 1) -> tuple[e.Envelope, e.Event]:
    return e.Envelope(event.word, seq, "2026-11-21T12:04:51.123456Z", Raw(b"{}"), 1, RUN), event


def ended(task: str, receipt: e.Receipt, number: int = 1, **more: object) -> e.AttemptEnded:
    fields = {"worker": f"{RUN}-local-1", "src": ("r", 1), "seconds": 1.25, **more}
    return e.AttemptEnded(attempt=f"{RUN}/{task}@{number}", receipt=receipt, **fields)  # type: ignore[arg-type]


def lines(*events: e.Event) -> list[str]:
    shown = live.Lines(RUN)
    shown.clock._hour = "2026-11-21T12"  # as if here were UTC
    return [shown.line(one).rstrip("\n") for one in live.happenings(RUN, map(record, events))]


def test_an_event_is_one_line() -> None:
    assert lines(ended("lint", PASS), ended("unit", FAIL, 2)) == [
        "12:04:51 passed lint 1.2 s",
        "12:04:51 failed unit @2 1.2 s task: exit 1 second line",
    ]


def test_an_attempt_that_is_tried_again_says_when() -> None:
    assert lines(ended("a", FAIL, retry_after=8.0)) == [
        "12:04:51 retry a 1.2 s again in 8.0 s; task: exit 1 second line"
    ]


def progressed(*warn: str, note: str = "") -> e.AttemptProgressed:
    usage = e.Usage(tokens_in=12_000, tokens_out=400, cost_usd=0.18)
    return e.AttemptProgressed(
        attempt=f"{RUN}/a@1",
        worker=f"{RUN}-local-1",
        src=("r", 1),
        agent=e.AgentFacts(usage=usage, note=note),
        warn=list(warn),
    )


def test_an_agent_tells_what_it_uses_and_does_and_a_warning() -> None:
    assert lines(progressed(note="Edit codec.py"), progressed("max_tokens")) == [
        "12:04:51 running a 12.4k tokens  $0.18  Edit codec.py",
        "12:04:51 warning a has used 80 % of budget.max_tokens",
    ]


def test_the_last_line_of_an_agent_is_read_out_of_its_stream(tmp_path: Path) -> None:
    definition = Agent(command=["helper"], usage=READERS["claude-stream-json"])
    task = Task(0, "a", b',"agent":"helper","instructions":"x"}')
    run = Run(id=RUN, name="demo", seq=1, ts="", max_workers=1, workspace="/")
    run.tasks["a"] = task
    run.agents["helper"] = encode_agent(definition)
    content = [{"type": "text", "text": "one\ntwo"}]
    said = {"type": "assistant", "message": {"model": "m", "content": content}}
    log = tmp_path / "logs" / RUN / "a.1.out"
    log.parent.mkdir(parents=True)
    long = json.dumps({"type": "user", "message": {"content": "x" * 70_000}})
    log.write_text(f"{long}\n{json.dumps(said)}\n" + '{"type": "half')
    notes = view.Notes(tmp_path)
    assert notes.of(run, f"{RUN}/a@1") == "two"
    task.rest = b',"command":"true"}'
    assert notes.of(run, f"{RUN}/a@1") is None


def test_what_changes_nothing_is_not_shown() -> None:
    late = ended("a", PASS, late=True)
    withdrawn = ended("a", FAIL, why="withdrawn", retry_after=0.0)
    beat = e.WorkerHeartbeat(workers=[])
    assert lines(late, withdrawn, beat, e.RunStarted(count=1)) == []


def test_records_of_other_runs_are_not_shown() -> None:
    head, event = record(ended("a", PASS))
    head.run = "other-abc234"
    assert list(live.happenings(RUN, [(head, event)])) == []


def test_stops_and_pauses_are_shown_with_their_reason() -> None:
    assert lines(e.RunStopped(reason="stopped by Ctrl-C"), e.RunPaused(reason="lunch")) == [
        "12:04:51 stopping (stopped by Ctrl-C)",
        "12:04:51 paused (lunch)",
    ]


def test_control_characters_never_reach_the_terminal() -> None:
    receipt = e.Receipt(result="fail", source="task", reason="\x1b[31mred\x07")
    assert lines(ended("a", receipt)) == ["12:04:51 failed a 1.2 s task: ?[31mred?"]


def test_the_time_of_day_is_the_local_one() -> None:
    clock = live.Clock()
    clock._hour, clock._shift = "2026-11-21T23", 3600 + 1800
    assert clock.of("2026-11-21T23:10:09.000000Z") == "00:40:09"


def test_a_reader_that_went_away_does_not_end_the_run() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    shown = live.Lines(RUN, writer)
    shown.changed(State(), [record(ended("a", PASS))])
    shown.changed(State(), [record(ended("b", PASS))])
    shown.note("still here")
    os.close(writer)


def test_a_closed_stderr_never_puts_lines_into_the_ledger(tmp_path: Path) -> None:
    wrapper = ("sh", "-c", 'exec "$@" 2>&-', "sh")
    done = fleet(tmp_path, "run", spec(tmp_path, tasks("true")), before=wrapper)
    assert done.stderr == ""
    assert "run.finished" in words_of(tmp_path)  # and every line of the ledger is JSON


def a_run(*ids: str) -> Run:
    run = Run(id=RUN, name="demo", seq=1, ts="", max_workers=4, workspace="/w")
    for index, name in enumerate(ids):
        run.order.append(Task(index=index, id=name, rest=b""))
        run.tasks[name] = run.order[-1]
    return run


def test_a_burst_scrolls_by_as_a_count_and_failures_stay(tmp_path: Path) -> None:
    shown = live.Terminal(a_run("a"), tmp_path, color=False)
    shown.pending = []
    shown.changed(State(), [record(ended(f"t{n}", PASS)) for n in range(100)])
    shown.changed(State(), [record(ended("bad", FAIL))])
    told = shown._lines()
    assert len(told) == 2
    assert told[0].startswith("  failed    bad")
    assert told[1] == "  passed    100 tasks"


def test_ids_are_never_cut_and_prose_is(tmp_path: Path) -> None:
    name = "x" * 100
    shown = live.Terminal(a_run(name), tmp_path, color=False)
    receipt = e.Receipt(result="fail", source="task", reason="y" * 300)
    (one,) = live.happenings(RUN, [record(ended(name, receipt))])
    told = shown._line(one, 120)
    assert name in told
    assert told.endswith("y…")


def test_the_last_line_of_a_log_is_shown_without_control_characters(tmp_path: Path) -> None:
    (tmp_path / "t.1.out").write_bytes(b"first\n\x1b[32m 10%\r 20%\x1b[0m\r\n\n")
    assert view.last_line(tmp_path, "t.1") == "20%"
    assert view.last_line(tmp_path, "none.1") == ""


def test_durations_are_said_as_people_do() -> None:
    said = [words.duration(n) for n in (0.0014, 0.04, 0.2, 4.21, 9.96, 41, 59.7, 180, 3600, 7800)]
    assert said == ["1 ms", "40 ms", "0.2 s", "4.2 s", "10 s", "41 s", "1 min", "3 min", "1 h",
                    "2 h 10 min"]  # fmt: skip
    assert words.duration(552, exact=True) == "9 min 12 s"
    assert words.duration(3 * 86400) == "3 d"


# On a real terminal ---------------------------------------------------------------------------


def on_a_terminal(where: Path, *words: str) -> tuple[int, str, str]:
    """(exit code, what the terminal got, stdout) of a run whose stderr is a terminal."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [*FLEET, *words], cwd=where, env=environment(TERM="xterm"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    assert running.stdout is not None
    seen, out = b"", b""
    open_ends = {ours, running.stdout.fileno()}
    while open_ends:
        ready = select.select(open_ends, [], [], 30)[0]
        assert ready, seen
        for end in ready:
            try:
                data = os.read(end, 65536)
            except OSError:
                data = b""
            if not data:
                open_ends.discard(end)
            elif end == ours:
                seen += data
            else:
                out += data
    os.close(ours)
    return running.wait(), seen.decode(), out.decode()


@pytest.mark.slow
def test_a_lasting_run_is_drawn_and_its_finished_tasks_stay(tmp_path: Path) -> None:
    name = spec(tmp_path, "max_workers = 2\n" + tasks("echo at work; sleep 1.6", "true", "exit 4"))
    code, seen, out = on_a_terminal(tmp_path, "run", name)
    assert code == 1
    assert " · 3 tasks · 2 at once" in seen
    assert re.search(r"passed +\x1b\[0mt2", seen)
    assert re.search(r"failed +\x1b\[0mt3 .*exit 4", seen)
    assert re.search(r"running +t1 .*at work", seen)
    assert "2/3" in seen
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") == 1
    assert "\x1b" not in out
    assert "2 passed, 1 failed" in out


def test_a_short_run_is_written_plainly(tmp_path: Path) -> None:
    code, seen, _ = on_a_terminal(tmp_path, "run", spec(tmp_path, tasks("true")))
    assert code == 0
    assert "passed" in seen
    assert "\x1b[?25l" not in seen


def test_no_color_means_none(tmp_path: Path) -> None:
    _, seen, _ = on_a_terminal(tmp_path, "run", spec(tmp_path, tasks("sleep 0.6")), "--no-color")
    assert not re.search(r"\x1b\[[0-9;]*m", seen)
