"""`fleet verify`: verdicts of people, what follows from them, and who may give none."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e

from .driver import environment, fleet, spec, words_of
from .scene import RUN, WAITS, Scene, decided, digest, the_usual

pytestmark = pytest.mark.slow

CHAIN = """
[[tasks]]
id = "write"
command = "echo draft > report.md; test -z $FLEET_FEEDBACK_FILE || cat $FLEET_FEEDBACK_FILE"
artifacts = { report = "report.md" }
"""


def records(scene: Scene) -> int:
    scene.ledger.refresh()
    return scene.ledger.seq


# What it does ---------------------------------------------------------------------------------


def test_a_pass_decides_the_task_and_the_run_keeps_its_time(scene: Scene) -> None:
    the_usual(scene)
    told = scene.fleet("verify", f"{RUN}/review", "--pass", "--note", "  looked at it ", "--json")
    assert told.code == 0
    made = told.json
    assert (made["attempt"], made["result"], made["note"]) == (
        f"{RUN}/review@1", "pass", "looked at it",
    )  # fmt: skip
    scene.ledger.refresh()
    run = scene.ledger.hydrate(RUN)
    assert (run.status, run.result, run.seconds) == ("finished", "failed", 4.5)
    assert run.tasks["review"].status == "completed"
    assert words_of(scene.root)[-2:] == ["receipt.recorded", "run.finished"]


def test_a_verdict_and_the_end_that_follows_are_one_write(scene: Scene) -> None:
    the_usual(scene)
    scene.fleet("verify", f"{RUN}/review@1", "--fail")
    lines = (scene.root / ".fleet" / "fleet.jsonl").read_text().splitlines()
    last, before = json.loads(lines[-1]), json.loads(lines[-2])
    assert (before["k"], last["k"]) == ("receipt.recorded", "run.finished")
    assert before["ts"] == last["ts"] and last["d"]["seconds"] == 4.5
    assert last["d"]["counts"] == {"completed": 1, "failed": 2}
    assert last["d"]["sources"] == {"task": 1, "human": 1}


def test_a_verdict_is_told_with_what_comes_next(scene: Scene) -> None:
    the_usual(scene)
    told = scene.fleet("verify", f"{RUN}/review", "--fail", "--note", "too long")
    assert f"{RUN}/review@1 is failed: too long" in told.out
    assert f"fleet restart {RUN}/review does it again and tells it your note" in told.out


def test_who_decided_and_when_is_shown_everywhere(scene: Scene) -> None:
    the_usual(scene)
    (scene.root / "proof.txt").write_text("proof")
    scene.fleet(
        "verify", f"{RUN}/review", "--pass", "--note", "read it", "--evidence",
        str(scene.root / "proof.txt"),
    )  # fmt: skip
    seq = records(scene) - 1
    receipt = next(
        one
        for one in scene.fleet("receipts", RUN, "--json").json["receipts"]
        if one["task_id"] == "review"
    )
    assert (receipt["by"], receipt["terminal_seq"], receipt["result"]) == ("cli:user", seq, "pass")
    assert receipt["verdict_evidence"] == f"sha256:{digest('proof')}"
    assert "cli:user" in scene.fleet("receipts", RUN).out
    assert "was passed by cli:user: read it" in scene.fleet("explain", f"{RUN}/review").out
    verdict = scene.fleet("inspect", f"{RUN}/review", "--json").json["attempts"][0]["verdicts"][0]
    assert (verdict["by"], verdict["result"], verdict["seq"]) == ("cli:user", "pass", seq)
    attempt = scene.fleet("inspect", f"{RUN}/review@1", "--json").json
    assert attempt["status"] == "completed"
    tail = scene.fleet("ledger", "tail", "--only", "receipt").out
    assert f"{RUN}/review@1 was passed by cli:user: read it" in tail
    kept = scene.ledger.dir / "evidence" / digest("proof")
    assert kept.read_text() == "proof" and kept.stat().st_mode & 0o777 == 0o600
    listed = scene.fleet("artifacts", f"{RUN}/review", "--json").json["artifacts"]
    assert any(one["kind"] == "evidence" and digest("proof") in one["path"] for one in listed)


def test_what_waits_is_named_with_the_command_that_ends_it(scene: Scene) -> None:
    the_usual(scene)
    command = f"fleet verify {RUN}/review@1 --pass"
    status = scene.fleet("status", "--json").json
    assert status["counts"]["escalated"] == 1
    assert {one["next"] for one in status["needs"]} == {command}
    for words in (("status",), ("inspect", RUN), ("explain", f"{RUN}/review"), ("status", RUN)):
        assert command in scene.fleet(*words).out, words
    decided(scene)
    after = scene.fleet("status", "--json").json
    assert after["counts"]["escalated"] == 0 and after["needs"] == []


def test_a_run_that_goes_on_is_not_ended_by_a_verdict(scene: Scene) -> None:
    scene.run("review", "other")
    scene.ended(scene.place("review"), WAITS, exit=0)
    assert scene.fleet("verify", f"{RUN}/review", "--pass").code == 0
    scene.ledger.refresh()
    assert scene.ledger.state.runs[RUN].status == "running"
    assert words_of(scene.root)[-1] == "receipt.recorded"


def test_two_that_wait_are_decided_one_after_the_other(scene: Scene) -> None:
    scene.run("a", "b")
    for task in ("a", "b"):
        scene.ended(scene.place(task), WAITS, exit=0)
    scene.finish()
    told = scene.fleet("verify", f"{RUN}/a", "--pass", "--json").json
    assert told["run_result"] == "partial"
    assert told["next"] == [f"fleet verify {RUN}/b@1 --pass decides what waits next"]
    assert scene.fleet("verify", f"{RUN}/b", "--pass", "--json").json["run_result"] == "completed"


# What it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ((f"{RUN}/review",), 2, "a verdict is --pass or --fail"),
        ((f"{RUN}/review", "--pass", "--fail"), 2, "a verdict is --pass or --fail"),
        ((RUN, "--pass"), 2, "is a run"),
        ((f"{RUN}-local-1", "--pass"), 2, "is a worker"),
        (("nobody", "--pass"), 2, "is no run"),
        ((f"{RUN}/nobody", "--pass"), 2, "has no task"),
        ((f"{RUN}/review@2", "--pass"), 2, "is no attempt"),
        ((f"{RUN}/lint", "--fail"), 4, "is decided: pass"),
        ((f"{RUN}/unit", "--pass"), 4, "is decided: fail"),
        ((f"{RUN}/review", "--pass", "--note", "x" * 5000), 2, "the note takes 5,000 bytes"),
        ((f"{RUN}/review", "--pass", "--evidence", "/nowhere"), 2, "No such file"),
        ((f"{RUN}/review", "--pass", "--evidence", "/dev/zero"), 2, "is no regular file"),
        ((f"{RUN}/review", "--pass", "--evidence", "/"), 2, "is no regular file"),
    ],
)
def test_it_says_why_not_and_records_nothing(
    scene: Scene, words: tuple[str, ...], code: int, sentence: str
) -> None:
    the_usual(scene)
    before = records(scene)
    told = scene.fleet("verify", *words, "--json")
    assert told.code == code
    assert sentence in told.error["message"] and told.error["hint"]
    assert records(scene) == before


def test_an_ambiguous_task_is_asked_back(scene: Scene) -> None:
    scene.run("review-a", "review-b")
    told = scene.fleet("verify", f"{RUN}/review", "--pass", "--json")
    assert (told.code, told.error["code"]) == (2, "ambiguous")


def test_a_second_verdict_is_refused(scene: Scene) -> None:
    the_usual(scene)
    assert scene.fleet("verify", f"{RUN}/review", "--pass").code == 0
    before = records(scene)
    told = scene.fleet("verify", f"{RUN}/review", "--fail", "--json")
    assert told.code == 4 and "is decided: pass" in told.error["message"]
    assert records(scene) == before


def test_a_task_without_an_attempt_has_nothing_to_judge(scene: Scene) -> None:
    scene.run("a")
    told = scene.fleet("verify", f"{RUN}/a", "--pass", "--json")
    assert told.code == 4 and "has had no attempt" in told.error["message"]


def test_evidence_that_is_too_large_or_a_pipe_is_refused_without_waiting(scene: Scene) -> None:
    the_usual(scene)
    (scene.root / "big").write_bytes(b"x" * 1_000_001)
    os.mkfifo(scene.root / "pipe")
    for name, sentence in (("big", "has 1,000,001 bytes"), ("pipe", "is no regular file")):
        told = scene.fleet(
            "verify", f"{RUN}/review", "--pass", "--evidence", str(scene.root / name), "--json"
        )
        assert told.code == 2 and sentence in told.error["message"]
    assert not (scene.ledger.dir / "evidence").exists()


def test_words_of_any_bytes_are_kept_as_far_as_they_are_text(scene: Scene) -> None:
    the_usual(scene)
    told = scene.fleet("verify", f"{RUN}/review", "--fail", "--note", "a\udcffb\x1b[31m\nc")
    assert told.code == 0 and "\x1b" not in told.out
    assert scene.fleet("ledger", "verify").code == 0


@pytest.mark.parametrize("hides", [False, True])
def test_a_task_judges_nothing_of_its_own_fleet(tmp_path: Path, hides: bool) -> None:
    """Whether it names itself in its environment or not: its parents do."""
    hide = "env -u FLEET_ATTEMPT_ID -u FLEET_ID -u FLEET_RUN_ID" if hides else ""
    spec(
        tmp_path,
        '[[tasks]]\nid = "a"\ncommand = "true"\nscorer = { kind = "manual" }\n'
        '[[tasks]]\nid = "b"\npriority = 1\n'
        f"""command = '''{hide} {sys.executable} -m codewhale_fleet verify @last/a --pass; """
        """echo code $?'''\n""",
    )
    (tmp_path / "fleet.toml").write_text("")
    text = (tmp_path / "tasks.toml").read_text()
    allow = '\nworkspace = { environment = { required = ["PYTHONPATH"] } }\n'
    (tmp_path / "tasks.toml").write_text(text + allow)
    done = fleet(tmp_path, "run", "tasks.toml", "-j", "1")
    assert done.returncode == 3, done.stderr
    logs = fleet(tmp_path, "logs", "@last/b")
    assert "code 4" in logs.stdout and "this is inside" in logs.stdout + logs.stderr
    assert "receipt.recorded" not in words_of(tmp_path)


def test_another_fleets_task_may(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    the_usual(scene)
    monkeypatch.setenv("FLEET_ATTEMPT_ID", "x/y@1")
    monkeypatch.setenv("FLEET_ID", "another")
    assert scene.fleet("verify", f"{RUN}/review", "--pass").code == 0


# What is kept ---------------------------------------------------------------------------------


def an_old_run_that_waits(scene: Scene) -> None:
    scene.ledger.clock = lambda: time.time() - 40 * 86_400
    the_usual(scene)
    scene.ledger.clock = time.time


def test_a_run_that_waits_is_neither_collected_nor_compacted(scene: Scene) -> None:
    an_old_run_that_waits(scene)
    logs = scene.ledger.dir / "logs" / RUN
    assert scene.ledger.rotate_if_due(1)
    assert scene.fleet("gc", "--json").json["files"] == 0 and logs.exists()
    assert scene.fleet("ledger", "compact", "--json").json["segments"] == []
    assert scene.fleet("verify", f"{RUN}/review", "--pass").code == 0


def test_verdicts_outlive_compaction(scene: Scene) -> None:
    the_usual(scene)
    proof = scene.root / "proof"
    proof.write_text("proof")
    words = ("--note", "read it", "--evidence", str(proof))
    assert scene.fleet("verify", f"{RUN}/review", "--pass", *words).code == 0
    scene.ledger.refresh()
    before = scene.fleet("receipts", RUN, "--json").json["receipts"]
    assert scene.ledger.rotate_if_due(1)
    assert scene.fleet("ledger", "compact", "--older-than", "0s", "--json").json["segments"]
    after = scene.fleet("receipts", RUN, "--json").json["receipts"]
    keys = ("task_id", "result", "by", "terminal_seq", "completed_at", "score", "verdict_evidence")
    assert [[one.get(key) for key in keys] for one in after] == [
        [one.get(key) for key in keys] for one in before
    ]
    assert scene.fleet("verify", f"{RUN}/review", "--fail").code == 4


def test_a_verdict_stands_in_the_tables(scene: Scene) -> None:
    pytest.importorskip("duckdb")
    the_usual(scene)
    scene.fleet("verify", f"{RUN}/review", "--pass", "--note", "read it")
    sql = "SELECT attempt, result, \"by\", deciding FROM receipts WHERE attempt LIKE '%review%'"

    def rows() -> list[list[object]]:
        found = scene.fleet("ledger", "query", sql, "--json").json["rows"]
        return [list(row.values()) for row in found]

    before = rows()
    name = f"{RUN}/review@1"
    assert before == [[name, "partial", "manager", False], [name, "pass", "cli:user", True]]
    scene.ledger.refresh()
    assert scene.ledger.rotate_if_due(1)
    scene.fleet("ledger", "compact", "--older-than", "0s")
    assert rows() == before


# With real processes --------------------------------------------------------------------------


def test_a_run_that_waits_exits_with_3_and_a_verdict_ends_that(tmp_path: Path) -> None:
    spec(
        tmp_path,
        CHAIN + 'verify = { steps = [{ kind = "exit_code" },'
        ' { kind = "command", command = "grep -q draft report.md" }, { kind = "manual" }] }\n',
    )
    done = fleet(tmp_path, "run", "tasks.toml")
    assert done.returncode == 3
    command = next(
        line[line.index("fleet verify") :] for line in done.stdout.splitlines() if "verify" in line
    )
    assert command.endswith("/write@1 --pass")
    assert fleet(tmp_path, "wait", "@last").returncode == 3
    assert fleet(tmp_path, *command.split()[1:]).returncode == 0
    assert fleet(tmp_path, "wait", "@last").returncode == 0


def test_feedback_reaches_the_next_attempt_of_a_command(tmp_path: Path) -> None:
    spec(
        tmp_path,
        CHAIN + "retry_policy = { max_attempts = 2, initial_backoff_seconds = 0 }\n"
        '[tasks.verify]\non_fail = "retry_with_feedback"\n'
        """steps = [{ kind = "command", command = '''cat > /dev/null; test $FLEET_ATTEMPT_ID != """
        """${FLEET_ATTEMPT_ID%@1} && echo '{"verdict": "fail", "feedback": "a longer draft"}' """
        """|| true''' }]\n""",
    )
    done = fleet(tmp_path, "run", "tasks.toml", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert fleet(tmp_path, "logs", "@last/write").stdout == "a longer draft\n"
    rows = json.loads(fleet(tmp_path, "receipts", "@last", "--attempts", "--json").stdout)
    assert [one["result"] for one in rows["receipts"]] == ["fail", "pass"]
    assert rows["receipts"][0]["feedback"] == "a longer draft"


def test_a_refusal_reaches_the_attempt_that_is_restarted(tmp_path: Path) -> None:
    spec(tmp_path, CHAIN + 'scorer = { kind = "manual" }\n')
    assert fleet(tmp_path, "run", "tasks.toml").returncode == 3
    verdict = fleet(tmp_path, "verify", "@last/write", "--fail", "--note", "add a summary")
    assert verdict.returncode == 0
    fleet(tmp_path, "restart", "@last/write")
    fleet(tmp_path, "resume", "@last")
    assert fleet(tmp_path, "wait", "@last").returncode == 3
    assert fleet(tmp_path, "logs", "@last/write").stdout == "add a summary\n"


def test_an_agent_that_judges_is_shown_the_attempt_and_what_it_is_is_kept(tmp_path: Path) -> None:
    answer = json.dumps({"verdict": "pass", "reason": "it says so", "quotes": ["draft"]})
    script = f"cat > asked.md; echo 'It is right.'; echo '{answer}'"
    (tmp_path / "fleet.toml").write_text(
        f'[agents.judge]\ncommand = ["sh", "-c", {json.dumps(script)}]\nusage = "none"\n'
    )
    spec(
        tmp_path,
        CHAIN + 'scorer = { kind = "code_whale_verifier_prompt", agent = "judge",'
        ' prompt = "Is there a draft?" }\n',
    )
    done = fleet(tmp_path, "run", "tasks.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    asked = (tmp_path / "asked.md").read_text()
    assert asked.startswith("Is there a draft?") and "report.md" in asked
    receipt = json.loads(fleet(tmp_path, "receipts", "@last", "--json").stdout)["receipts"][0]
    assert (receipt["scorer"], receipt["quotes"]) == ("code_whale_verifier_prompt", ["draft"])
    seen = [
        one for one in receipt["artifacts"] if one["kind"] == "evidence" and "seen" in one["of"]
    ]
    kept = (tmp_path / seen[0]["path"]).read_text()
    assert asked.endswith(kept) and "draft" in kept


def test_a_task_that_is_verified_is_shown_so_and_its_manager_sleeps(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    spec(
        tmp_path,
        '[[tasks]]\nid = "a"\ncommand = "true"\n'
        'scorer = { kind = "command", command = "read line < go" }\n',
    )
    assert fleet(tmp_path, "run", "tasks.toml", "--detach").returncode == 0
    try:
        with fleet_follows(tmp_path) as lines:
            assert any('"attempt.progressed"' in line for line in lines)
        inspected = json.loads(fleet(tmp_path, "inspect", "@last/a", "--json").stdout)
        assert inspected["status"] == "verifying"
        assert "is being verified" in fleet(tmp_path, "explain", "@last/a").stdout
        pid = json.loads(fleet(tmp_path, "status", "--json").stdout)["manager"]["pid"]
        select.select([], [], [], 0.5)  # until it is done with those who have just asked
        before = wake_ups(pid)
        select.select([], [], [], 1.0)
        assert wake_ups(pid) - before <= 1, "a heartbeat may be due"
    finally:
        (tmp_path / "go").write_text("go\n")
    assert fleet(tmp_path, "wait", "@last").returncode == 0


@contextmanager
def fleet_follows(where: Path) -> Iterator[Iterator[str]]:
    """The records of a fleet as they come, as JSON lines."""
    follow = subprocess.Popen(
        [sys.executable, "-m", "codewhale_fleet", "ledger", "tail", "--follow", "--json"],
        cwd=where,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert follow.stdout
        yield iter(follow.stdout)
    finally:
        follow.kill()
        follow.communicate()


def wake_ups(pid: int) -> int:
    """How often a process has waited so far."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.rpartition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_a_verdict_of_the_core_needs_a_run_that_is_known(scene: Scene) -> None:
    with pytest.raises(Exception, match="is no run"):
        scene.ask(c.Judge(run="nobody", attempt="nobody/a@1", receipt=e.Receipt(result="pass")))


# Directories that attempts had for themselves --------------------------------------------------

ISOLATED = """
[[tasks]]
id = "write"
command = "echo more >> a.txt"
workspace = { isolation = "KIND" }
scorer = { kind = "manual" }
"""


def isolated(where: Path, kind: str) -> Path:
    """A task with a directory of its own waits for a verdict; that directory."""
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    (where / "a.txt").write_text("one\n")
    spec(where, ISOLATED.replace("KIND", kind))
    for words in (("init", "-q"), ("add", "a.txt"), (*who, "commit", "-qm", "base")):
        subprocess.run(["git", *words], cwd=where, check=True)
    assert fleet(where, "run", "tasks.toml").returncode == 3
    (directory,) = where.glob(".fleet/worktrees/*/write.1")
    return directory


def worktrees(where: Path) -> int:
    told = subprocess.run(["git", "worktree", "list"], cwd=where, capture_output=True, check=True)
    return told.stdout.count(b"\n")


@pytest.mark.parametrize("kind", ["worktree", "copy"])
def test_a_pass_removes_the_attempts_directory_then_and_there(tmp_path: Path, kind: str) -> None:
    directory = isolated(tmp_path, kind)
    assert fleet(tmp_path, "verify", "@last/write", "--pass").returncode == 0
    assert not directory.exists() and not (tmp_path / ".fleet/worktrees").exists()
    assert worktrees(tmp_path) == 1
    applied = fleet(tmp_path, "apply", "@last/write")
    assert applied.returncode == 0, applied.stderr
    assert (tmp_path / "a.txt").read_text() == "one\nmore\n"


def test_a_refusal_keeps_the_attempts_directory_and_so_does_one_that_cannot_go(
    tmp_path: Path,
) -> None:
    directory = isolated(tmp_path, "worktree")
    assert fleet(tmp_path, "verify", "@last/write", "--fail").returncode == 0
    assert directory.is_dir() and worktrees(tmp_path) == 2
    fleet(tmp_path, "restart", "@last/write")
    fleet(tmp_path, "resume", "@last")
    assert fleet(tmp_path, "wait", "@last").returncode == 3
    second = directory.with_name("write.2")
    record = second.with_name("write.2.json")
    record.write_text(record.read_text().replace("write@2", "write@1"))  # another's by now
    assert fleet(tmp_path, "verify", "@last/write", "--pass").returncode == 0
    assert second.is_dir() and directory.is_dir() and worktrees(tmp_path) == 3


def test_a_directory_that_goes_leaves_its_name_to_the_next_one(tmp_path: Path) -> None:
    from codewhale_fleet.worker.removing import remove, set_aside

    directory = isolated(tmp_path, "worktree")
    aside = set_aside(str(directory))
    assert worktrees(tmp_path) == 1 and not list(directory.parent.glob("write.1.json"))
    subprocess.run(["git", "worktree", "add", "-q", str(directory)], cwd=tmp_path, check=True)
    remove(aside)
    assert (directory / "a.txt").exists() and worktrees(tmp_path) == 2
    assert [one.name for one in directory.parent.iterdir()] == ["write.1"]
