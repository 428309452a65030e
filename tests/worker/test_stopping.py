"""Ends that are asked for, by managers or by time, and what attempts leave behind."""

from __future__ import annotations

from pathlib import Path

from tests.worker.driver import RUN, Manager, is_alive

STUBBORN = """
import os, signal
def note(number, frame):
    os.write(1, b'%d ' % number)
    if number == LAST: os._exit(3)
for number in (2, 15): signal.signal(number, note)
os.write(os.open('ready', os.O_WRONLY), b'ready')
while True: signal.pause()
"""


def stubborn(manager: Manager, task: str, last: int, **more: object) -> str:
    """Starts a task that survives signals up to `last` and waits until it is ready."""
    manager.fifo("ready")
    attempt = manager.start_python(task, STUBBORN.replace("LAST", str(last)), **more)
    assert manager.says("ready") == "ready"
    return attempt


def interrupt(manager: Manager, attempt: str, why: str = "interrupted", kill: bool = False) -> None:
    manager.line.say({"m": "interrupt", "attempt": attempt, "why": why, "kill": kill})


def test_an_interrupt_first_asks_with_int(manager: Manager) -> None:
    attempt = stubborn(manager, "a", 2)
    interrupt(manager, attempt)
    end = manager.end_of(attempt)
    assert (end["exit"], end["why"], manager.out(end)) == (3, "interrupted", "2 ")


def test_after_the_grace_it_asks_with_term(manager: Manager) -> None:
    attempt = stubborn(manager, "a", 15, grace=0.2)
    interrupt(manager, attempt, "stopped")
    end = manager.end_of(attempt)
    assert (end["exit"], end["why"], manager.out(end)) == (3, "stopped", "2 15 ")


def test_after_another_grace_it_kills(manager: Manager) -> None:
    attempt = stubborn(manager, "a", 0, grace=0.2)
    interrupt(manager, attempt)
    end = manager.end_of(attempt)
    assert (end["signal"], end["why"], manager.out(end)) == (9, "interrupted", "2 15 ")
    assert end["seconds"] >= 0.4


def test_without_grace_it_kills_at_once(manager: Manager) -> None:
    attempt = stubborn(manager, "a", 0, grace=0)
    interrupt(manager, attempt)
    assert manager.end_of(attempt)["signal"] == 9


def test_a_second_interrupt_that_kills_does_not_wait_and_keeps_the_first_reason(
    manager: Manager,
) -> None:
    attempt = stubborn(manager, "a", 0, grace=1000)
    interrupt(manager, attempt, "stopped")
    interrupt(manager, attempt, "interrupted", kill=True)
    end = manager.end_of(attempt)
    assert (end["signal"], end["why"]) == (9, "stopped")


def test_the_whole_group_is_asked_to_end(manager: Manager) -> None:
    manager.fifo("ready")
    attempt = manager.start("a", ["sh", "-c", "sleep 1000 & echo $! > ready; wait"])
    child = int(manager.says("ready"))
    interrupt(manager, attempt)
    end = manager.end_of(attempt)
    assert end["signal"] == 2 and not is_alive(child)


def test_a_timeout_and_a_budget_are_enforced_here(manager: Manager) -> None:
    late = manager.start("late", ["sleep", "1000"], timeout=0.1, budget=900)
    dear = manager.start("dear", ["sleep", "1000"], timeout=900, budget=0.1)
    assert manager.end_of(late)["why"] == "timeout" and manager.end_of(late)["signal"] == 2
    assert manager.end_of(dear)["why"] == "budget"


def test_an_attempt_that_ends_in_time_has_no_reason(manager: Manager) -> None:
    assert "why" not in manager.run("a", ["true"], timeout=900)


def test_what_waits_is_withdrawn_and_never_starts(manager: Manager) -> None:
    manager.fifo("go")
    manager.start("first", ["sh", "-c", "read line < go"], slots=1)
    attempt = manager.start("second", ["touch", "started"], slots=1)
    interrupt(manager, attempt)
    end = manager.end_of(attempt)
    assert end["why"] == "withdrawn" and "withdrawn" in end["unstarted"]

    (manager.root / "go").write_text("go\n")
    manager.end_of(f"{RUN}/first@1")
    manager.start("second", ["touch", "started"], slots=1)
    manager.run("third", ["true"], slots=1)
    assert not (manager.root / "started").exists()


def test_an_attempt_never_heard_of_is_fenced_by_its_interrupt(manager: Manager) -> None:
    interrupt(manager, f"{RUN}/a@1")
    assert manager.end_of(f"{RUN}/a@1")["why"] == "withdrawn"
    manager.start("a", ["touch", "started"])
    manager.run("b", ["true"])
    assert not (manager.root / "started").exists()


def test_a_background_process_goes_with_its_attempt(manager: Manager) -> None:
    end = manager.run("a", ["sh", "-c", "sleep 1000 & echo $!"])
    assert end["exit"] == 0 and end["stragglers"] == 1
    assert not is_alive(int(manager.out(end)))


def test_a_daemon_in_a_session_of_its_own_goes_with_its_attempt(manager: Manager) -> None:
    end = manager.run("a", ["sh", "-c", "setsid sh -c 'setsid sleep 1000 & sleep 1000' & echo $!"])
    assert end["exit"] == 0 and end["stragglers"] >= 1
    assert not is_alive(int(manager.out(end)))
    children = Path(f"/proc/{manager.pid}/task/{manager.pid}/children").read_text()
    assert children == ""


def test_a_daemon_that_hides_its_environment_goes_too(manager: Manager) -> None:
    end = manager.run("a", ["sh", "-c", "env -i setsid -f sleep 1000"])
    assert end["exit"] == 0 and end["stragglers"] == 1


def test_a_daemon_of_an_attempt_that_still_runs_is_left_alone(manager: Manager) -> None:
    manager.fifo("ready")
    manager.fifo("go")
    script = "sh -c 'setsid sleep 1000 & echo $! > ready'; read line < go"
    attempt = manager.start("long", ["sh", "-c", script])
    daemon = int(manager.says("ready"))

    for name in ("b", "c", "d"):
        assert "stragglers" not in manager.run(name, ["true"])
    assert is_alive(daemon)

    (manager.root / "go").write_text("go\n")
    assert manager.end_of(attempt)["stragglers"] == 1
    assert not is_alive(daemon)


def test_what_a_daemon_leaves_dead_is_reaped_while_its_attempt_runs(manager: Manager) -> None:
    manager.fifo("go")
    manager.fifo("up")
    manager.start("long", ["sh", "-c", "setsid -f true; echo > up; read line < go"])
    manager.until_up("up")
    children = Path(f"/proc/{manager.pid}/task/{manager.pid}/children")
    for _ in range(50):
        if len(children.read_text().split()) == 1:
            break
        manager.run(f"t{_}", ["sleep", "0.1"])
    assert len(children.read_text().split()) == 1
    (manager.root / "go").write_text("go\n")
