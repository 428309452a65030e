import subprocess
from pathlib import Path

from codewhale_fleet.cli.logs import without_controls
from codewhale_fleet.worker import logs as bounded

from .driver import FLEET, environment
from .scene import FAIL, RUN, Scene


def test_what_went_to_stdout_goes_to_stdout_and_stderr_to_stderr(scene: Scene) -> None:
    scene.run("a")
    attempt = scene.place("a")
    scene.ended(attempt, logs={**scene.log(attempt, "out\n"), **scene.log(attempt, "err\n", "err")})
    told = scene.fleet("logs", "a")
    assert (told.out, told.err, told.code) == ("out\n", "err\n", 0)
    told = scene.fleet("logs", "a", "--stderr")
    assert (told.out, told.err) == ("err\n", "")


def test_an_earlier_attempt_can_be_asked_for(scene: Scene) -> None:
    scene.run("a")
    first = scene.place("a")
    scene.ended(first, FAIL, logs=scene.log(first, "first\n"))
    from codewhale_fleet.core import commands as c

    scene.ask(c.Restart(run=RUN, tasks=("a",), reason="again"))
    second = scene.place("a")
    scene.log(second, "second\n")
    assert scene.fleet("logs", "a").out == "second\n"
    assert scene.fleet("logs", "a", "--attempt", "1").out == "first\n"
    assert scene.fleet("logs", "a@1").out == "first\n"
    assert scene.fleet("logs", "a", "--attempt", "3").code == 2


def test_a_run_prints_the_logs_of_every_task_with_a_heading(scene: Scene) -> None:
    scene.run("a", "b", "c")
    for task in ("a", "b"):
        attempt = scene.place(task)
        scene.ended(attempt, logs=scene.log(attempt, f"{task} says\n"))
    assert scene.fleet("logs", "@last").out == (f"== {RUN}/a@1\na says\n== {RUN}/b@1\nb says\n")
    assert scene.fleet("logs", "@last", "-q").out == "a says\nb says\n"


def test_a_line_that_looks_like_the_heading_of_another_task_is_shown_as_none(scene: Scene) -> None:
    scene.run("a", "b")
    for task in ("a", "b"):
        attempt = scene.place(task)
        scene.ended(attempt, logs=scene.log(attempt, f"== {RUN}/x@1\n{task} says\n"))
    headings = [line for line in scene.fleet("logs", "@last").out.split("\n") if line[:2] == "=="]
    assert headings == [f"== {RUN}/a@1", f"== {RUN}/b@1"]


def test_dropped_bytes_are_stated(scene: Scene) -> None:
    scene.run("a")
    attempt = scene.place("a")
    text = "".join(f"line {number:05}\n" for number in range(20_000))
    made = scene.log(attempt, text)
    log = bounded.Log(str(scene.ledger.dir / made["out"].path), 32 * 1024)
    log.look()
    log.seal()
    told = scene.fleet("logs", "a")
    assert told.out.startswith("line 00000\n") and told.out.endswith("line 19999\n")
    assert f"[... {log.dropped} bytes dropped ...]" in told.out
    assert told.err == f"fleet: {log.dropped:,} bytes of its stdout were dropped\n"
    assert scene.fleet("logs", "a", "--json").json["dropped"] == {
        "stdout": log.dropped,
        "stderr": 0,
    }


def test_a_task_that_has_not_started_has_no_logs(scene: Scene) -> None:
    scene.run("a")
    told = scene.fleet("logs", "a")
    assert told.code == 2
    assert told.err == (
        "fleet: demo-abc234/a has not started yet.\n"
        "       To see why: fleet explain demo-abc234/a\n"
    )


def test_an_attempt_is_followed_until_it_ends(scene: Scene) -> None:
    scene.run("a")
    process = subprocess.Popen(
        [*FLEET, "logs", "@last/a", "--follow"],
        cwd=scene.root, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    attempt = scene.place("a")
    path = scene.ledger.dir / "logs" / RUN / "a.1.out"
    path.parent.mkdir(parents=True)
    write(path, "one\n")
    assert process.stdout.readline() == b"one\n"
    write(path, "two\n")
    assert process.stdout.readline() == b"two\n"
    write(path, "three\n")
    scene.ended(attempt)
    out, _ = process.communicate(timeout=20)
    assert (out, process.returncode) == (b"three\n", 0)


def test_a_middle_that_was_dropped_while_following_is_stated(scene: Scene) -> None:
    scene.run("a")
    attempt = scene.place("a")
    made = scene.log(attempt, "x" * 99 + "\n")
    process = subprocess.Popen(
        [*FLEET, "logs", "@last/a", "--follow"],
        cwd=scene.root, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.read(100) == b"x" * 99 + b"\n"
    path = scene.ledger.dir / made["out"].path
    path.with_name(path.name + ".hole").write_text('{"hole": [4096, 81920]}')
    write(path, "y" * 81820 + "end\n")
    scene.ended(attempt)
    out, _ = process.communicate(timeout=20)
    assert out == b"y" * 3996 + b"[... 77824 bytes dropped ...]\nend\n"


def test_a_run_cannot_be_followed_as_one_log(scene: Scene) -> None:
    scene.run("a")
    assert "fleet logs demo-abc234/TASK --follow" in scene.fleet("logs", "@last", "-f").err


def test_on_a_terminal_only_colours_are_let_through() -> None:
    hostile = b"\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jgone\x1b[5;5H\x08\x07 tab\there\r\n"
    assert without_controls(hostile) == b"\x1b[31mred\x1b[0m gone tab\there\r\n"
    hidden = "\x9b2Jpa\u202etxt.exe\u2066 é\x85".encode()
    assert without_controls(hidden) == "2Jpatxt.exe é".encode()
    assert without_controls(b"cut \xc2") == b"cut "


def write(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)
