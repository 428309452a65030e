"""Attempts start once, in order, where a slot is free, with the environment of their run."""

from __future__ import annotations

import os
from pathlib import Path

from tests.worker.driver import RUN, Manager


def test_a_command_that_succeeds_ends_with_exit_0_and_its_resource_use(manager: Manager) -> None:
    end = manager.run("a", ["true"])

    assert end["exit"] == 0
    assert end["slot"] == f"{RUN}-local-1"
    assert 0 <= end["cpu"] < 5 and 0 < end["seconds"] < 5
    assert not {"logs", "why", "stragglers", "artifacts", "evidence"} & set(end)


def test_exit_codes_and_signals_are_told_as_they_are(manager: Manager) -> None:
    assert manager.run("code", ["sh", "-c", "exit 7"])["exit"] == 7
    killed = manager.run("signal", ["sh", "-c", "kill -9 $$"])
    assert killed["signal"] == 9 and "exit" not in killed


def test_peak_memory_is_told_where_it_exceeds_the_runtimes_own(manager: Manager) -> None:
    end = manager.run_python("big", "x = bytearray(80_000_000)")
    assert end["rss_kb"] > 80_000
    assert "rss_kb" not in manager.run("small", ["true"])


def test_output_goes_to_the_named_logs_with_size_and_digest(manager: Manager) -> None:
    end = manager.run("hello", ["sh", "-c", "echo hello; echo oops >&2"])

    assert manager.out(end) == "hello\n" and manager.out(end, "err") == "oops\n"
    assert end["logs"]["out"] == {
        "path": f"logs/{RUN}/hello.1.out",
        "size": 6,
        "dropped": 0,
        "sha256": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
    }
    assert (manager.fleet / f"logs/{RUN}/hello.1.out").stat().st_mode & 0o777 == 0o600


def test_stdin_is_closed_and_the_child_leads_its_own_session(manager: Manager) -> None:
    code = "import os,sys; print(os.getsid(0) == os.getpid(), sys.stdin.read() == '')"
    assert manager.out(manager.run_python("a", code)) == "True True\n"


def test_no_descriptor_of_the_runtime_reaches_the_child(manager: Manager) -> None:
    assert manager.out(manager.run("a", ["ls", "/proc/self/fd"])).split() == ["0", "1", "2", "3"]


def test_no_signal_is_ignored_in_the_child(manager: Manager) -> None:
    out = manager.out(manager.run("a", ["grep", "-E", "SigIgn|SigBlk", "/proc/self/status"]))
    ordinary = 0x7FFFFFFF  # 1 to 31; the C library keeps two above them for itself
    assert [int(line.split()[1], 16) & ordinary for line in out.splitlines()] == [0, 0]


def test_a_second_start_of_an_attempt_does_nothing(manager: Manager) -> None:
    for _ in range(3):
        manager.start("a", ["sh", "-c", "echo once >> count"], slots=1)
    manager.run("b", ["true"], slots=1)
    manager.start("a", ["sh", "-c", "echo once >> count"], slots=1)
    manager.run("c", ["true"], slots=1)

    assert (manager.root / "count").read_text() == "once\n"
    assert sum(m.get("attempt") == f"{RUN}/a@1" for m in manager.line.heard) == 1


def test_attempts_of_a_run_wait_for_a_slot_in_their_order(manager: Manager) -> None:
    manager.fifo("go")
    manager.start("first", ["sh", "-c", "read line < go"], slots=1)
    for name in ("second", "third", "fourth"):
        manager.start(name, ["sh", "-c", f"echo {name} >> order"], slots=1)
    manager.line.say({"m": "ping"})
    manager.line.hear(lambda m: m.get("m") == "pong")
    assert not (manager.root / "order").exists()

    (manager.root / "go").write_text("go\n")
    manager.end_of(f"{RUN}/fourth@1")
    assert (manager.root / "order").read_text().split() == ["second", "third", "fourth"]


def test_a_free_slot_takes_what_was_meant_for_a_busy_one(manager: Manager) -> None:
    manager.fifo("go")
    manager.start("long", ["sh", "-c", "read line < go"], slot=1, slots=2)
    end = manager.run("short", ["true"], slot=1, slots=2)
    assert end["slot"] == f"{RUN}-local-2"
    (manager.root / "go").write_text("go\n")


def test_the_environment_is_base_then_allowed_then_literal(manager: Manager) -> None:
    path = os.environ["PATH"]
    manager.environ(
        {"PATH": path, "A": "base", "B": "base"}, {"B": "allowed", "C": "allowed", "D": "no"}
    )
    end = manager.run("a", ["env"], allow=["B", "C", "MISSING"], env={"C": "literal ü"})

    lines = set(manager.out(end).splitlines())
    door = {line for line in lines if line.startswith(("FLEET_TOKEN=", "FLEET_SOCKET="))}
    assert len(door) == 2
    assert lines - door == {
        f"PATH={path}",
        "A=base",
        "B=allowed",
        "C=literal ü",
        f"FLEET_ATTEMPT_ID={RUN}/a@1",
    }


def test_a_run_without_values_is_refused_and_can_be_told_again(manager: Manager) -> None:
    plan = manager.plan("other-abcdef/t@1", ["true"])
    start = {"m": "start", "attempt": "other-abcdef/t@1", "slot": "o-local-1", "slots": 1}
    manager.line.say({**start, "plan": plan})
    refused = manager.line.hear(lambda m: m.get("m") == "refused")
    assert refused["why"] == "values" and "other-abcdef" in refused["sentence"]

    values = {"base": {"PATH": os.environ["PATH"]}}
    manager.line.say(
        {"m": "environment", "run": "other-abcdef", "umask": 18, "values": values},
        {**start, "plan": plan},
    )
    assert manager.end_of("other-abcdef/t@1")["exit"] == 0


def test_the_umask_of_the_run_is_the_childs(manager: Manager) -> None:
    values = {"base": {"PATH": os.environ["PATH"]}, "allowed": {}}
    manager.line.say({"m": "environment", "run": RUN, "umask": 0o027, "values": values})
    manager.run("a", ["touch", "made"])
    assert (manager.root / "made").stat().st_mode & 0o777 == 0o640


def test_files_of_the_plan_are_there_before_the_program(manager: Manager) -> None:
    file = manager.root / "deep" / "input.txt"
    files = [{"path": str(file), "text": "what to do", "mode": 0o600}]
    end = manager.run("a", ["cat", str(file)], files=files)
    assert manager.out(end) == "what to do" and file.stat().st_mode & 0o777 == 0o600


def test_a_missing_writable_path_is_made(manager: Manager) -> None:
    assert manager.run("a", ["touch", "out/deep/x"], writable=["out/deep"])["exit"] == 0


def unstarted(manager: Manager, name: str, argv: list[str], **more: object) -> str:
    end = manager.run(name, argv, **more)
    assert not {"exit", "signal", "unknown"} & set(end)
    return str(end["unstarted"])


def test_what_never_starts_says_what_is_missing(manager: Manager) -> None:
    root = manager.root
    (root / "plain").write_text("no program")
    (root / "odd").write_text("#!/nowhere/at/all\n")
    (root / "odd").chmod(0o755)
    (root / "noise").write_bytes(b"\x00\x01")
    (root / "noise").chmod(0o755)
    (root / "away").symlink_to("/var/tmp")

    said = unstarted(manager, "a", ["no-such-program"])
    assert "its program no-such-program is not found on PATH (" in said
    assert "searched)" in said and "/bin" not in said
    assert "./gone does not exist" in unstarted(manager, "b", ["./gone"])
    assert "./plain is not executable" in unstarted(manager, "c", ["./plain"])
    assert "interpreter" in unstarted(manager, "d", ["./odd"])
    assert "neither a program" in unstarted(manager, "e", ["./noise"])
    assert "/nowhere cannot be entered" in unstarted(manager, "f", ["true"], cwd="/nowhere")
    said = unstarted(manager, "g", ["true"], required_files=["plain", "gone.txt", "gone.toml"])
    assert "gone.txt, gone.toml" in said and "plain," not in said
    said = unstarted(manager, "h", ["true"], writable=["away/deep"])
    assert "away/deep leads outside" in said
    assert "empty" in unstarted(manager, "i", [])
    assert "cannot be run" in unstarted(manager, "j", ["true", "a\0b"])
    assert "outside the fleet" in unstarted(manager, "k", ["true"], out="../x.out")


def test_the_program_is_found_on_the_path_of_the_run_not_of_the_runtime(manager: Manager) -> None:
    bin_directory = manager.root / "bin"
    bin_directory.mkdir()
    (bin_directory / "special").write_text("#!/bin/sh\necho special\n")
    (bin_directory / "special").chmod(0o755)
    manager.environ({"PATH": f"{bin_directory}:/usr/bin:/bin"})
    assert manager.out(manager.run("a", ["special"])) == "special\n"


def test_three_hundred_short_attempts_end_once_each_and_leave_no_process(manager: Manager) -> None:
    names = [f"t{number}" for number in range(300)]
    for name in names:
        manager.start(name, ["true"], slots=4)
    for name in names:
        assert manager.end_of(f"{RUN}/{name}@1")["exit"] == 0
    ends = [m["attempt"] for m in manager.line.heard if m.get("f") == "ended"]
    assert len(ends) == len(set(ends)) == 300
    assert [m["n"] for m in manager.line.heard if "n" in m] == list(range(1, 301))
    assert Path(f"/proc/{manager.pid}/task/{manager.pid}/children").read_text() == ""


def test_what_outlives_a_second_is_told_as_started(manager: Manager) -> None:
    manager.fifo("go")
    attempt = manager.start("long", ["sh", "-c", "read line < go"])
    started = manager.line.hear(lambda m: m.get("f") == "started")
    assert started["attempt"] == attempt and started["slot"] == f"{RUN}-local-1"
    assert Path(f"/proc/{started['pid']}").exists() and started["since"] > 0
    (manager.root / "go").write_text("go\n")
    assert manager.end_of(attempt)["exit"] == 0
