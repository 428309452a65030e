"""Steps of verification, performed by a real runtime with real processes."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.worker.driver import RUN, Manager, is_alive

pytestmark = pytest.mark.slow

Step = dict[str, Any]


def command(number: int, argv: list[str], **more: Any) -> Step:
    stem = f"logs/{RUN}/step{number}"
    return {"kind": "command", "argv": argv, "out": f"{stem}.out", "err": f"{stem}.err", **more}


def shell(number: int, text: str, **more: Any) -> Step:
    return command(number, ["sh", "-c", text], **more)


def agent(number: int, text: str, prompt: str = "Judge it.\n", **more: Any) -> Step:
    made = {"text": prompt, "path": f"prompts/{RUN}/step{number}.md", "stdin": True}
    return {**shell(number, text), "kind": "agent", "prompt": made, **more}


def kept(manager: Manager, evidence: dict[str, Any]) -> str:
    data = (manager.fleet / "evidence" / evidence["sha256"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == evidence["sha256"]
    assert len(data) == evidence["size"]
    return str(data.decode())


def interrupt(manager: Manager, attempt: str, kill: bool = False) -> None:
    word = {"m": "interrupt", "attempt": attempt, "why": "interrupted", "kill": kill}
    manager.line.say(word)


def test_steps_come_after_the_attempt_one_after_the_other(manager: Manager) -> None:
    steps = [shell(1, "cat made; echo two >> made; echo bad >&2"), shell(2, "cat made")]
    end = manager.run("a", ["sh", "-c", "echo one > made"], steps=steps)
    assert [(step["kind"], step["exit"]) for step in end["steps"]] == [("command", 0)] * 2
    first, second = end["steps"]
    assert manager.out(first) == "one\n" and manager.out(first, "err") == "bad\n"
    assert manager.out(second) == "one\ntwo\n"
    assert end["exit"] == 0 and 0 < first["seconds"] < 20 and "why" not in end


def test_a_step_has_the_attempts_directory_and_environment_and_no_input(manager: Manager) -> None:
    (manager.root / "sub").mkdir()
    text = "pwd; echo $FLEET_ATTEMPT_ID $FLEET_STEP $GIVEN $PLAIN; cat"
    manager.environ({"PATH": os.environ["PATH"], "PLAIN": "base"}, {"GIVEN": "allowed"})
    end = manager.run(
        "a", ["true"], cwd=str(manager.root / "sub"), allow=["GIVEN"], steps=[shell(1, text)]
    )
    where, words = manager.out(end["steps"][0]).splitlines()
    assert where == str(manager.root / "sub")
    assert words == f"{RUN}/a@1 1 allowed base"


def test_after_a_step_that_does_not_pass_no_other_begins(manager: Manager) -> None:
    steps = [shell(1, "exit 3"), shell(2, "touch second")]
    end = manager.run("a", ["true"], steps=steps)
    assert [step["exit"] for step in end["steps"]] == [3]
    assert not (manager.root / "second").exists()


def test_a_verdict_outweighs_the_exit_in_both_directions(manager: Manager) -> None:
    good = '{"verdict": "pass", "reason": "known flake"}'
    steps = [
        shell(1, f"echo noise; echo '{good}'; exit 1"),
        shell(2, """echo '{"verdict": "fail"}'"""),
        shell(3, "touch third"),
    ]
    end = manager.run("a", ["true"], steps=steps)
    assert kept(manager, end["steps"][0]["verdict"]) == good
    assert [step["exit"] for step in end["steps"]] == [1, 0]
    assert not (manager.root / "third").exists()


def test_a_step_runs_even_where_the_command_failed_unless_it_needs_exit_zero(
    manager: Manager,
) -> None:
    end = manager.run("a", ["sh", "-c", "exit 2"], steps=[shell(1, "true")])
    assert end["exit"] == 2 and end["steps"][0]["exit"] == 0
    end = manager.run("b", ["sh", "-c", "exit 2"], steps=[shell(1, "true", needs_exit_zero=True)])
    assert end["exit"] == 2 and "steps" not in end


def test_a_step_that_needs_a_file_does_not_begin_without_it(manager: Manager) -> None:
    step = shell(1, "true", needs_files=["report"])
    end = manager.run("a", ["true"], steps=[step], evidence=[{"path": "report"}])
    assert "steps" not in end
    (manager.root / "report").write_text("there")
    end = manager.run("b", ["true"], steps=[step], evidence=[{"path": "report"}])
    assert end["steps"][0]["exit"] == 0


def test_what_was_cut_short_or_never_began_is_not_verified(manager: Manager) -> None:
    steps = [shell(1, "touch verified")]
    end = manager.run("late", ["sleep", "1000"], timeout=0.1, steps=steps)
    assert end["why"] == "timeout" and "steps" not in end
    end = manager.run("never", ["/nowhere/to/be/found"], steps=steps)
    assert end["unstarted"] and "steps" not in end
    assert not (manager.root / "verified").exists()


def test_a_step_that_cannot_be_started_is_told_in_a_sentence(manager: Manager) -> None:
    end = manager.run("a", ["true"], steps=[command(1, ["no-such-program-here"])])
    assert "no-such-program-here is not found" in end["steps"][0]["unstarted"]
    assert "exit" not in end["steps"][0] and end["exit"] == 0


def test_a_plan_that_makes_no_sense_is_told_and_not_fatal(manager: Manager) -> None:
    end = manager.run("a", ["true"], steps=[{"kind": "command"}])
    assert "cannot be followed" in end["steps"][0]["unstarted"]
    assert manager.run("b", ["true"])["exit"] == 0


def test_a_step_has_its_own_time_and_is_asked_before_it_is_killed(manager: Manager) -> None:
    text = "trap '' INT; trap 'echo asked; exit 7' TERM; while :; do sleep 0.01; done"
    end = manager.run("a", ["true"], grace=0.1, steps=[shell(1, text, timeout=0.3)])
    step = end["steps"][0]
    assert (step["why"], step["exit"], manager.out(step)) == ("timeout", 7, "asked\n")
    assert "why" not in end and step["seconds"] >= 0.4


def test_what_a_step_leaves_behind_is_gone_before_the_next(manager: Manager) -> None:
    leave = "setsid sleep 1000 & echo $! > daemon; sleep 1000 &"
    look = 'kill -0 $(cat daemon) 2>/dev/null && test "$(cut -d" " -f3 /proc/$(cat daemon)/stat)"'
    end = manager.run("a", ["true"], steps=[shell(1, leave), shell(2, f"{look} != Z")])
    assert end["stragglers"] == 2
    first, second = end["steps"]
    assert first["exit"] == 0 and second["exit"] != 0
    assert not is_alive(int((manager.root / "daemon").read_text()))


def test_the_slot_stays_busy_until_the_last_step_is_over(manager: Manager) -> None:
    manager.fifo("go")
    manager.fifo("ready")
    manager.start("a", ["true"], slots=1, steps=[shell(1, "echo x > ready; read line < go")])
    manager.says("ready")
    manager.start("b", ["touch", "second"], slots=1)
    manager.dial()
    assert set(manager.hello["open"]) == {f"{RUN}/a@1", f"{RUN}/b@1"}
    assert not (manager.root / "second").exists()
    (manager.root / "go").write_text("go\n")
    assert manager.end_of(f"{RUN}/a@1")["steps"][0]["exit"] == 0
    assert manager.end_of(f"{RUN}/b@1")["exit"] == 0


def test_a_step_that_takes_a_while_is_told_of_once_and_costs_no_more_words(
    manager: Manager,
) -> None:
    manager.fifo("go")
    attempt = manager.start("a", ["true"], steps=[shell(1, "true"), shell(2, "read line < go")])
    fact = manager.line.hear(lambda m: m.get("f") == "verifying")
    assert (fact["attempt"], fact["step"]) == (attempt, 2)
    (manager.root / "go").write_text("go\n")
    manager.end_of(attempt)
    facts = [m["f"] for m in manager.line.heard if m.get("attempt") == attempt]
    assert facts == ["verifying", "ended"]


def test_an_interrupt_ends_the_step_and_the_attempt_is_interrupted(manager: Manager) -> None:
    os.mkfifo(manager.root / "gate")
    # A shell that is about to start something loses an interrupt; what it became does not.
    steps = [shell(1, "exec cat gate"), shell(2, "touch second")]
    attempt = manager.start("a", ["true"], steps=steps)
    with (manager.root / "gate").open("w"):  # it reads
        interrupt(manager, attempt)
        end = manager.end_of(attempt)
    assert (end["exit"], end["why"]) == (0, "interrupted")
    assert (end["steps"][0]["signal"], end["steps"][0]["why"]) == (2, "interrupted")
    assert not (manager.root / "second").exists()


def test_a_kill_ends_a_stubborn_step_at_once(manager: Manager) -> None:
    manager.fifo("ready")
    text = "trap '' INT TERM; echo x > ready; while :; do sleep 1000; done"
    attempt = manager.start("a", ["true"], grace=1000, steps=[shell(1, text)])
    manager.says("ready")
    interrupt(manager, attempt, kill=True)
    end = manager.end_of(attempt)
    assert end["why"] == "interrupted" and end["steps"][0]["signal"] == 9


def test_a_runtime_killed_in_a_step_leaves_it_to_the_next_one_which_begins_anew(
    manager: Manager,
) -> None:
    manager.fifo("ready")
    manager.fifo("go")
    first = shell(1, "echo first >> trace; echo line")
    second = shell(2, "echo second >> trace; echo $$ > ready; echo begun; read line < go")
    argv = ["sh", "-c", "echo attempt >> trace; echo out; exit 0"]
    attempt = manager.start("a", argv, steps=[first, second])
    before = int(manager.says("ready"))
    manager.kill_runtime()
    after = int(manager.says("ready"))
    assert not is_alive(before)
    (manager.root / "go").write_text("go\n")
    end = manager.end_of(attempt)
    assert end["exit"] == 0 and [step["exit"] for step in end["steps"]] == [0, 0]
    trace = (manager.root / "trace").read_text().split()
    assert trace == ["attempt", "first", "second", "first", "second"] and before != after
    assert [manager.out(step) for step in end["steps"]] == ["line\n", "begun\n"]
    assert manager.out(end) == "out\n"


def test_an_interrupt_before_the_kill_of_the_runtime_is_not_forgotten(manager: Manager) -> None:
    manager.fifo("ready")
    text = "trap 'echo asked > ready' INT; echo x > ready; while :; do sleep 0.05; done"
    attempt = manager.start("a", ["true"], grace=1000, steps=[shell(1, text)])
    manager.says("ready")
    interrupt(manager, attempt)
    manager.says("ready")
    manager.kill_runtime()
    end = manager.end_of(attempt)
    assert (end["exit"], end["why"]) == (0, "interrupted") and "steps" not in end


def test_an_agent_is_given_its_prompt_with_what_the_attempt_left(manager: Manager) -> None:
    answer = '{"verdict": "pass", "quotes": ["all 12 tests passed"]}'
    script = f"cat > given; echo 'I looked.'; echo '```json'; echo '{answer}'; echo '```'"
    work = "mkdir out; echo '# Report' > out/r.md; printf 'a\\0b' > out/b.bin; "
    work += "echo all 12 tests passed"
    end = manager.run(
        "a",
        ["sh", "-c", work],
        artifacts={"report": ["out/*.md"], "blob": ["out/*.bin"]},
        expected=["missing"],
        steps=[agent(1, script)],
    )
    step = end["steps"][0]
    seen = kept(manager, step["seen"])
    assert (manager.root / "given").read_text() == "Judge it.\n" + seen
    for part in (f"{RUN}/a@1", "exit 0", "all 12 tests passed", "# Report", "out/b.bin", "missing"):
        assert part in seen
    assert "a\ufffdb" not in seen and "\0" not in seen
    for entry in end["artifacts"]:
        assert entry["sha256"] in seen
    assert answer in kept(manager, step["verdict"])
    path = manager.fleet / f"prompts/{RUN}/step1.md"
    assert path.stat().st_mode & 0o777 == 0o600 and path.read_text().startswith("Judge it.")


def test_a_huge_output_is_shown_by_its_ends(manager: Manager) -> None:
    code = "print('BEGIN'); print('x' * 5_000_000); print('END')"
    end = manager.run_python("a", code, steps=[agent(1, "true")])
    seen = kept(manager, end["steps"][0]["seen"])
    assert "BEGIN" in seen and "END" in seen and len(seen) < 40_000


def test_after_an_agent_that_does_not_say_pass_no_other_step_begins(manager: Manager) -> None:
    for name, says in (("none", "fine by me"), ("fail", '{"verdict": "fail"}')):
        steps = [agent(1, f"echo '{says}'"), shell(2, f"touch {name}")]
        end = manager.run(name, ["true"], steps=steps)
        assert len(end["steps"]) == 1 and not (manager.root / name).exists()
    steps = [agent(1, """echo '{"verdict": "pass"}'"""), shell(2, "touch pass")]
    assert len(manager.run("pass", ["true"], steps=steps)["steps"]) == 2


def test_an_agents_stream_is_read_for_its_answer_and_its_usage(manager: Manager) -> None:
    usage = {
        "tokens_in": [{"when": {"t": "end"}, "path": "in"}],
        "answer": [{"when": {"t": "end"}, "path": "text"}],
    }
    lines = [
        r'{"t":"said","text":"{\"verdict\": \"fail\"}"}',
        r'{"t":"end","in":12,"text":"Done: {\"verdict\": \"pass\", \"quotes\": [\"exit 0\"]}"}',
    ]
    (manager.root / "stream").write_text("\n".join(lines) + "\n")
    end = manager.run("a", ["true"], steps=[agent(1, "cat stream", usage=usage)])
    step = end["steps"][0]
    assert step["agent"]["usage"] == {"tokens_in": 12}
    assert kept(manager, step["verdict"]).startswith("Done: ")


def test_a_renamed_workspace_is_verified_where_it_is_now(manager: Manager) -> None:
    manager.fifo("ready")
    manager.fifo("go")
    text = "echo x > ready; read line < go"
    attempt = manager.start("a", ["sh", "-c", text], steps=[shell(1, "pwd -P")])
    manager.says("ready")
    there = manager.root.with_name("elsewhere")
    manager.root.rename(there)
    (there / "go").write_text("go\n")
    end = manager.end_of(attempt)
    out = there / ".fleet" / end["steps"][0]["logs"]["out"]["path"]
    assert out.read_text() == f"{there}\n"
    there.rename(manager.root)
    assert Path(manager.root).is_dir()


# What an agent uses that verifies -------------------------------------------------------------

USAGE = {
    "tokens_in": [{"path": "in", "take": "sum"}],
    "answer": [{"path": "text"}],
}
WORK = """printf '{"in": 60}\\n'"""
"""An attempt that uses 60 tokens."""
ASK = """printf '{"in": 30}\\n'; read line < go; date +%s.%N > at; printf '{"in": 30}\\n'"""
"""A verifier that uses 30, and 30 more once it is told to."""


def judged(manager: Manager, task: str, text: str, *more: Step, **plan: Any) -> str:
    """An agent's attempt, verified by another agent and by what comes after it."""
    first = agent(1, text, usage=USAGE)
    given = {"usage": USAGE, "steps": [first, *more], **plan}
    return manager.start(task, ["sh", "-c", WORK], **given)


def warned(manager: Manager) -> list[Any]:
    facts = {m["n"]: m for line in manager._lines for m in line.heard if "warn" in m}
    return [(m.get("step"), m["warn"]) for m in facts.values()]


def test_a_cap_stops_a_verifier_within_a_second_of_the_line_that_crosses_it(
    manager: Manager,
) -> None:
    manager.fifo("go")
    caps = {"caps": {"max_tokens": 100}, "warn": {"max_tokens": 80}}
    attempt = judged(manager, "a", f"{ASK}; sleep 600", shell(2, "touch second"), **caps)
    told = manager.line.hear(lambda m: "warn" in m)
    assert (told["step"], told["warn"]) == (1, ["max_tokens"]) and "agent" not in told
    (manager.root / "go").write_text("go\n")
    end = manager.end_of(attempt)
    late = time.time() - float((manager.root / "at").read_text())
    step = end["steps"][0]
    assert (step["why"], step["cap"], step["signal"]) == ("budget", "max_tokens", 2)
    assert step["agent"]["usage"] == {"tokens_in": 60} == end["agent"]["usage"]
    assert end["exit"] == 0 and "why" not in end and "cap" not in end
    assert len(end["steps"]) == 1 and not (manager.root / "second").exists()
    assert late < 1.0 and len(warned(manager)) == 1


def test_a_cap_of_the_run_stops_its_verifiers_but_not_the_commands_that_verify(
    manager: Manager,
) -> None:
    for name in ("go", "ready", "hold"):
        manager.fifo(name)
    caps: dict[str, Any] = {"run_caps": {"max_tokens": 150, "max_seconds": 600}, "run_spent": {}}
    beside = manager.start(
        "b", ["true"], slot=2, steps=[shell(1, "echo x > ready; read line < hold")], **caps
    )
    manager.says("ready")
    step = agent(1, f"{ASK}; sleep 600", usage=USAGE)
    argv = ["sh", "-c", f"{WORK}; {WORK}"]
    attempt = manager.start("a", argv, usage=USAGE, steps=[step], **caps)
    manager.line.hear(lambda m: m.get("warn") == ["run.max_tokens"])
    (manager.root / "go").write_text("go\n")
    end = manager.end_of(attempt)
    assert (end["steps"][0]["why"], end["steps"][0]["cap"]) == ("budget", "run.max_tokens")
    (manager.root / "hold").write_text("go\n")
    other = manager.end_of(beside)
    assert other["steps"][0]["exit"] == 0 and "why" not in other["steps"][0]


def test_an_agent_that_nothing_is_left_for_is_not_asked(manager: Manager) -> None:
    attempt = judged(manager, "a", "touch asked", caps={"max_tokens": 60})
    step = manager.end_of(attempt)["steps"][0]
    assert (step["why"], step["cap"]) == ("budget", "max_tokens") and "exit" not in step
    assert step["unstarted"] == "budget.max_tokens was used up before it began"
    run = {"run_caps": {"max_tokens": 70}, "run_spent": {"tokens_in": 10}}
    step = manager.end_of(judged(manager, "b", "touch asked", **run))["steps"][0]
    assert step["unstarted"] == "the run's budget.max_tokens was used up before it began"
    assert not (manager.root / "asked").exists()


def test_what_a_verifier_used_before_its_runtime_was_killed_stays_counted(
    manager: Manager,
) -> None:
    manager.fifo("go")
    manager.fifo("ready")
    caps = {"caps": {"max_tokens": 200}, "warn": {"max_tokens": 160}}
    text = f"""printf '{{"in": 5}}\\n'; echo x > ready; {ASK}; sleep 600"""
    attempt = judged(manager, "a", text, **caps)
    for _ in range(3):
        manager.says("ready")
        manager.line.say({"m": "ping"})
        manager.line.hear(lambda m: m.get("m") == "pong")
        out = manager.fleet / f"logs/{RUN}/step1.out"
        until = time.monotonic() + 20
        while out.read_text().count("\n") < 2 and time.monotonic() < until:
            time.sleep(0.01)
        manager.kill_runtime()
    manager.says("ready")
    (manager.root / "go").write_text("go\n")
    end = manager.end_of(attempt)
    assert end["agent"]["usage"] == {"tokens_in": 60 + 3 * 35}
    assert end["steps"][0]["agent"]["usage"] == {"tokens_in": 65}
    assert end["steps"][0]["cap"] == "max_tokens"
    assert warned(manager) == [(1, ["max_tokens"])]


def test_the_seconds_of_a_run_do_not_count_while_an_attempt_is_verified(manager: Manager) -> None:
    manager.fifo("ready")
    manager.fifo("go")
    caps: dict[str, Any] = {"run_caps": {"max_seconds": 1.0}, "run_spent": {}}
    one = manager.start("a", ["true"], steps=[shell(1, "echo x > ready; read line < go")], **caps)
    manager.says("ready")
    other = manager.run("b", ["sleep", "0.7"], slot=2, **caps)
    assert other["exit"] == 0
    third = manager.run("c", ["sleep", "600"], slot=3, **caps)
    assert third["cap"] == "run.max_seconds" and 0.1 < third["seconds"] < 0.6
    (manager.root / "go").write_text("go\n")
    assert manager.end_of(one)["steps"][0]["exit"] == 0
