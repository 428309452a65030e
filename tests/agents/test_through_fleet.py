"""The real agents through `fleet run`: the presets as shipped, the scripted API, loopback only.

What is on record afterwards is what the program itself has said or done; nothing is stood in for
but the model. A preset is called tried (`agents.presets.TRIED`) because it is driven here.
"""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.agents.presets import PRESETS, TRIED
from tests.agents import scenarios
from tests.agents.clis import CLIS, ROOT, subscribed
from tests.agents.driving import Drive, driving
from tests.agents.scenarios import EDITS, Answer, Hang, Limit, Scenario, Shell, Write

pytestmark = [pytest.mark.slow, pytest.mark.agents]

DRIVEN = ("claude", "codex", "gemini", "opencode")
COSTS = ("claude", "opencode")
"""Those that say what they cost."""
LIVE = ("claude", "codex", "opencode")
"""Those that say what they use while they work."""
BOTH = ("claude", "codex")
REPORTED = {"tokens_in": 12600, "tokens_out": 135, "tokens_cached": 9000, "tool_calls": 2}


@pytest.fixture
def drive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Drive]:
    with driving(tmp_path, request.param) as made:
        yield made


def agents(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("drive", names, indirect=True)


def test_what_is_called_tried_is_what_is_driven_here() -> None:
    assert set(DRIVEN) == TRIED == set(CLIS)
    assert set(PRESETS) - TRIED == {"aider", "codewhale"}


@agents(*DRIVEN)
def test_a_real_agent_edits_files_and_all_of_it_is_on_record(drive: Drive) -> None:
    matches = {"kind": "regex_match", "path": "notes.txt", "pattern": "first line\nsecond line\n"}
    task = drive.task(scorer=matches, budget={"max_tokens": 100_000})
    said = drive.run(task, scenario="edits").stdout
    assert "1 passed, 12.7k tokens" in said
    (ended,) = drive.ended()
    usage = dict(ended["agent"]["usage"])
    cost = usage.pop("cost_usd", None)
    assert usage == REPORTED
    assert cost == (pytest.approx(0.015525) if drive.cli.name in COSTS else None)
    assert ended["agent"]["session"]
    assert ended["agent"]["note"] == "All done: the notes are written."
    assert ended["receipt"]["result"] == "pass"
    (prompt,) = ended["artifacts"]
    assert prompt["kind"] == "prompt"
    kept = (drive.work / ".fleet" / "evidence" / prompt["sha256"]).read_text()
    assert "## Instructions\n\nWrite the notes.\n" in kept
    assert "Write the notes." in str(drive.body(0))
    models = {request.model for request in drive.api.requests if request.main}
    assert models <= {drive.cli.model.split("/")[-1], None}  # gemini names it in the path
    assert ended["agent"].get("model") == (
        None if drive.cli.name == "opencode" else drive.cli.model
    )
    told = drive.records("attempt.progressed")  # none where it was over before a look
    assert {one["agent"]["session"] for one in told} <= {ended["agent"]["session"]}


SHELLS = (
    Shell("echo intruded >> notes.txt"),
    Shell("python3 -c \"open('notes.txt', 'w')\""),
)
INTRUSIONS: dict[str, tuple[Write | Shell, ...]] = {
    "claude": SHELLS,
    "codex": (Write("notes.txt", "intruded\n"), *SHELLS),
    "gemini": (Write("notes.txt", "intruded\n"),),
}
"""What each offers, of that which could write, while it is held to reading."""


@agents(*INTRUSIONS)
def test_a_read_only_profile_leaves_the_files_alone(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = [Answer("I write.", (call,)) for call in INTRUSIONS[drive.cli.name]]
    monkeypatch.setitem(scenarios.SCENARIOS, "intrude", Scenario((*tries, Answer("Done."))))
    (drive.work / "notes.txt").write_text("mine\n")
    drive.run(drive.task(worker={"tool_profile": "read-only"}), scenario="intrude")
    assert drive.steps() == ["answer"] * (len(tries) + 1)
    assert (drive.work / "notes.txt").read_text() == "mine\n"


def test_who_could_not_be_held_to_reading_says_so() -> None:
    assert {name for name in DRIVEN if "read-only" in PRESETS[name].profiles} == set(INTRUSIONS)


def test_after_a_usage_limit_the_work_goes_on_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attempt is burnt: neither the one that met the limit counts, nor is another begun."""
    script = Scenario((Answer("All done."),), first=(Limit(),))
    monkeypatch.setitem(scenarios.SCENARIOS, "limit-once", script)
    resets_at = int(time.time()) + 8
    with driving(tmp_path, "claude", resets_at) as drive:
        url = drive.api.url("limit-once")
        drive.more = {"ANTHROPIC_API_KEY": "", **subscribed(url)}
        tasks = [drive.task(id=name) for name in ("one", "two", "three")]
        drive.run(*tasks, scenario="limit-once", max_workers=1)
        assert time.time() >= resets_at
        assert drive.steps() == ["limit", "answer", "answer", "answer"]
        ends = drive.ended()
    assert ends[0]["quota"]["agent"] == "claude"
    assert "hit your" in ends[0]["quota"]["words"]
    assert 0 < ends[0]["quota"]["seconds"] <= 8
    assert ends[0]["receipt"]["result"] == "skip"
    assert [one["receipt"]["result"] for one in ends[1:]] == ["pass"] * 3
    assert sorted(one["attempt"].rpartition("/")[2] for one in ends) == [
        "one@1", "one@2", "three@1", "two@1",
    ]  # fmt: skip


@agents(*DRIVEN)
def test_a_usage_limit_is_told_with_its_time_and_holds_other_work_back(drive: Drive) -> None:
    tasks = [drive.task(id=name) for name in ("one", "two")]
    drive.run(*tasks, scenario="limit", max_workers=1, detach=True)
    drive.until(lambda: drive.ended() != [])
    (ended,) = drive.ended()
    assert ended["why"] == "limit" if drive.cli.name == "opencode" else "why" not in ended
    named = drive.cli.name in BOTH  # the others name no time, and rest for a minute
    assert abs(ended["quota"]["seconds"] - (3600 if named else 60)) < (120 if named else 1)
    words = ended["quota"]["words"][:60]
    assert words in drive.fleet("status").stdout
    explained = drive.fleet("explain", "@last/two").stdout
    assert f"{drive.cli.name} has reached a usage limit: {words}" in explained
    drive.fleet("stop", "@last")
    assert set(drive.steps()) == {"limit"} and len(drive.ended()) == 1


@agents(*BOTH)
def test_an_overload_that_passes_costs_no_attempt(drive: Drive) -> None:
    drive.run(drive.task(), scenario="overload")
    assert drive.steps() == ["overload", "answer"]
    (ended,) = drive.ended()
    assert ended["receipt"]["result"] == "pass"
    assert "error" not in ended["agent"] and "quota" not in ended


@agents(*BOTH)
def test_a_stream_that_breaks_for_good_fails_in_the_agents_own_words(drive: Drive) -> None:
    drive.more = {"CLAUDE_CODE_MAX_RETRIES": "1"}
    drive.run(drive.task(), scenario="broken-for-good", code=1)
    (ended,) = drive.ended()
    assert ended["exit"] == 1
    assert ended["agent"]["error"]
    assert ended["receipt"]["source"] == "task"
    assert "quota" not in ended


@agents(*BOTH)
def test_a_stream_that_broke_once_is_nothing_to_tell(drive: Drive) -> None:
    drive.run(drive.task(), scenario="broken")
    assert drive.steps() == ["broken", "answer"]


@agents(*BOTH)
def test_an_agent_that_hangs_is_ended_when_its_time_is_up(drive: Drive) -> None:
    drive.run(drive.task(timeout_seconds=8), scenario="hang", code=1)
    (ended,) = drive.ended()
    assert ended["why"] == "timeout"
    assert ended["receipt"]["result"] == "timeout"
    assert drive.steps() == ["hang"]


def working_in(place: Path) -> list[str]:
    """Programs at work in a directory, but for the fleet's own."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == place:
                found.append((process / "comm").read_text().strip())
    return [name for name in found if not name.startswith("python")]


@agents(*DRIVEN)
def test_an_agent_that_is_interrupted_in_mid_answer_goes_with_all_that_it_started(
    drive: Drive,
) -> None:
    drive.run(drive.task(), scenario="hang", detach=True)
    drive.api.wait_for(lambda requests: any(one.step == "hang" for one in requests), 90)
    seen = working_in(drive.work)
    drive.fleet("interrupt", "@last/notes")
    (ended,) = drive.ended()
    assert ended["why"] == "interrupted"
    assert ended["receipt"]["result"] != "pass"  # though gemini says exit 0 to a signal
    assert seen and not working_in(drive.work)


@agents(*BOTH)
def test_an_agent_that_does_nothing_is_stale_and_tried_again(drive: Drive) -> None:
    again = {"max_attempts": 2, "initial_backoff_seconds": 0}
    drive.run(drive.task(stall_seconds=3, retry_policy=again), scenario="hang", code=1)
    assert [one["why"] for one in drive.ended()] == ["stall", "stall"]
    assert drive.steps() == ["hang", "hang"]


@agents(*LIVE)
def test_a_cap_on_tokens_stops_an_agent_while_it_works(drive: Drive) -> None:
    drive.run(drive.task(budget={"max_tokens": 300_000}), scenario="burning", code=1)
    (ended,) = drive.ended()
    assert (ended["why"], ended["cap"]) == ("budget", "max_tokens")
    assert ended["receipt"]["source"] == "budget"
    usage = ended["agent"]["usage"]
    assert 300_000 <= usage["tokens_in"] + usage["tokens_out"] < 900_000
    warned = [cap for one in drive.records("attempt.progressed") for cap in one.get("warn", ())]
    assert warned == ["max_tokens"]


@agents("claude")
def test_huge_usage_counts_whole(drive: Drive) -> None:
    drive.run(drive.task(), scenario="huge")
    (ended,) = drive.ended()
    assert ended["agent"]["usage"]["tokens_in"] == 3 * 3_500_000
    assert ended["agent"]["usage"]["tokens_out"] == 3 * 250_000
    assert "M tokens" in drive.fleet("cost", "@last").stdout


@agents("claude")
def test_tools_are_limited_to_those_that_a_task_names(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = (
        "git --version", "python3 -c \"open('notes.txt', 'w')\"", "echo x > notes.txt",
        "mkdir notes.txt", "cp spec.json notes.txt", "rm spec.json", "sed -i s/t/T/ spec.json",
        "git --version && touch notes.txt",
    )  # fmt: skip
    script = Scenario((*(Answer("I try.", (Shell(one),)) for one in tries), Answer("Done.")))
    monkeypatch.setitem(scenarios.SCENARIOS, "tools", script)
    drive.run(drive.task(worker={"tools": ["git", "Grep"]}), scenario="tools")
    offered = {tool["name"] for tool in drive.body(0)["tools"]}
    assert offered == {"Bash", "Grep", "Read", "Glob"}
    said = [drive.body(at)["messages"][-1]["content"][0] for at in range(1, len(tries) + 1)]
    assert [one.get("is_error", False) for one in said] == [False] + [True] * (len(tries) - 1)
    assert "git version" in str(said[0])
    assert not (drive.work / "notes.txt").exists()
    assert json.loads((drive.work / "spec.json").read_text())["tasks"]


@agents("claude")
def test_an_agent_with_a_list_of_tools_writes_where_the_list_says_so(drive: Drive) -> None:
    drive.run(drive.task(worker={"tools": ["Write", "echo"]}), scenario="edits")
    assert (drive.work / "notes.txt").read_text().startswith("first line")


def opened_codex() -> str:
    """What docs/how-to/agents.md writes for a codex whose commands may use unix sockets."""
    page = (ROOT / "docs" / "how-to" / "agents.md").read_text()
    lines = page[page.index("[agents.codex.profiles]") :].partition("```")[0]
    return "\n".join(line.strip() for line in lines.splitlines()) + "\n"


@agents(*BOTH)
def test_an_agent_speaks_to_the_fleet_while_it_works(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    (drive.work / "away.py").write_text(
        "import socket, sys\n"
        "try: socket.create_connection(sys.argv[1:3], 2)\n"
        "except OSError: open('refused', 'w')\n"
    )
    host, port = drive.api.listener.getsockname()
    script = (
        "fleet progress 40 'half of it'",
        "echo mine > r.md",
        "fleet artifact add report r.md",
        f"python3 away.py {host} {port}",
    )
    calls = [Answer("I do it.", (Shell(line),)) for line in script]
    monkeypatch.setitem(scenarios.SCENARIOS, "speaks", Scenario((*calls, Answer("Done."))))
    if drive.cli.name == "codex":
        with (drive.work / "fleet.toml").open("a") as file:
            file.write(opened_codex())
    drive.run(drive.task(expected_artifacts=["report"]), scenario="speaks")
    (ended,) = drive.ended()
    assert [one["path"] for one in ended["artifacts"] if one["kind"] == "report"] == ["r.md"]
    told = [one for one in drive.records("attempt.progressed") if one.get("percent")]
    assert [(one["percent"], one["note"]) for one in told] == [(40, "half of it")]
    assert (drive.work / "refused").exists() == (drive.cli.name == "codex")  # still no network


# A conversation that goes on --------------------------------------------------------------------

NEVER = {"kind": "file_exists", "path": "never.txt"}


def said_before(body: dict[str, Any]) -> bool:
    """Whether the conversation holds the answer that ended the one before."""
    return EDITS[-1].text in str(body)


@agents(*DRIVEN)
def test_the_next_attempt_goes_on_with_the_conversation_where_its_policy_says_so(
    drive: Drive,
) -> None:
    policy = {"max_attempts": 2, "initial_backoff_seconds": 0, "resume_session": True}
    drive.run(drive.task(scorer=NEVER, retry_policy=policy), scenario="success", code=1)
    first, second = drive.ended()
    assert first["agent"]["session"] == second["agent"]["session"]
    assert first["agent"]["usage"]["tokens_in"] == second["agent"]["usage"]["tokens_in"] == 4200
    assert not said_before(drive.body(0)) and said_before(drive.body(1))
    assert "You go on with your own earlier conversation" in str(drive.body(1))


@agents("claude")
def test_fleet_resume_goes_on_with_it_too_and_without_the_policy_it_begins_anew(
    drive: Drive,
) -> None:
    policy = {"max_attempts": 1, "resume_session": True}
    drive.run(drive.task(scorer=NEVER, retry_policy=policy), scenario="success", code=1)
    drive.fleet("resume", "@last", "--failed", code=1)
    first, second = drive.ended()
    assert first["agent"]["session"] == second["agent"]["session"]
    assert said_before(drive.body(1))
    drive.run(drive.task(scorer=NEVER), scenario="success", code=1)
    drive.fleet("resume", "@last", "--failed", code=1)
    third, fourth = drive.ended()[2:]
    assert third["agent"]["session"] != fourth["agent"]["session"]
    assert not said_before(drive.body(3))


@agents("claude")
def test_fleet_restart_goes_on_with_it_whether_the_attempt_has_ended_or_not(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Scenario((EDITS[-1],), first=(Hang(),))
    monkeypatch.setitem(scenarios.SCENARIOS, "hang-once", script)
    policy = {"max_attempts": 1, "resume_session": True}
    drive.run(drive.task(scorer=NEVER, retry_policy=policy), scenario="hang-once", detach=True)
    drive.api.wait_for(lambda requests: any(one.step == "hang" for one in requests), 90)
    drive.fleet("restart", "@last/notes")
    drive.fleet("wait", "@last", code=1)
    drive.fleet("restart", "@last/notes", code=None)
    drive.fleet("wait", "@last", code=1)
    ends = drive.ended()
    assert len({one["agent"]["session"] for one in ends}) == 1 and len(ends) == 3
    prompts = [str(drive.body(at)).count("This is the task `notes`") for at in range(3)]
    assert prompts == [1, 2, 3] and said_before(drive.body(2))


@agents(*DRIVEN)
def test_a_conversation_goes_on_in_the_directory_of_its_own(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts with a directory of their own: the files are there, and so is the conversation."""
    script = Scenario((Answer("I write.", (Shell("echo line >> notes.txt"),)), EDITS[-1]))
    monkeypatch.setitem(scenarios.SCENARIOS, "appends", script)
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "Begin"]):
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *who, *words], cwd=drive.work, check=True)
    policy = {"max_attempts": 2, "initial_backoff_seconds": 0, "resume_session": True}
    task = drive.task(scorer=NEVER, retry_policy=policy, workspace={"isolation": "worktree"})
    drive.run(task, scenario="appends", code=1)
    drive.fleet("restart", "@last/notes", code=None)
    drive.fleet("wait", "@last", code=1)
    ends = drive.ended()[:3]
    assert len({one["agent"]["session"] for one in ends}) == 1
    assert len({one["isolated"] for one in ends}) == 1
    assert said_before(drive.body(2)) and said_before(drive.body(4))
    (patch,) = [one["sha256"] for one in ends[-1]["artifacts"] if one["kind"] == "patch"]
    assert (drive.work / ".fleet" / "evidence" / patch).read_text().count("+line\n") == 3


@agents("claude")
def test_a_conversation_that_is_gone_costs_one_attempt(drive: Drive) -> None:
    policy = {"max_attempts": 1, "resume_session": True}
    drive.run(drive.task(scorer=NEVER, retry_policy=policy), scenario="success", code=1)
    for kept in drive.inside.home.glob(".claude/projects/*/*.jsonl"):
        kept.unlink()
    drive.fleet("resume", "@last", "--failed", code=1)
    assert "No conversation found" in drive.ended()[1]["agent"]["error"]
    drive.fleet("resume", "@last", "--failed", code=1)
    assert drive.steps() == ["answer", "answer"]
    assert "error" not in drive.ended()[2]["agent"]


# A verdict --------------------------------------------------------------------------------------


@agents("claude")
def test_a_real_verifiers_words_reach_the_next_attempt(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge is a claude of its own, asked elsewhere: it refuses once, then it passes."""
    quoted = {"reason": "I read it.", "quotes": [EDITS[-1].text]}
    refused = {**quoted, "verdict": "fail", "feedback": "Say it in French."}
    verdicts = [json.dumps(one) for one in (refused, {**quoted, "verdict": "pass"})]
    no, yes = (Answer(f"My verdict:\n```json\n{one}\n```") for one in verdicts)
    monkeypatch.setitem(scenarios.SCENARIOS, "judge", Scenario((yes,), first=(no,)))
    with (drive.work / "fleet.toml").open("a") as file:
        url = drive.api.url("judge")
        file.write(f'[agents.judge]\npreset = "claude"\nenv = {{ ANTHROPIC_BASE_URL = "{url}" }}\n')
    judged = {"kind": "code_whale_verifier_prompt", "agent": "judge", "prompt": "Is it good?"}
    verify = {"steps": [{"kind": "exit_code"}, judged], "on_fail": "retry_with_feedback"}
    again = {"max_attempts": 2, "initial_backoff_seconds": 0}
    task = drive.task(retry_policy=again)
    del task["scorer"]
    drive.run({**task, "verify": verify}, scenario="success")
    first, second = (one["receipt"] for one in drive.ended())
    assert (first["result"], first["feedback"]) == ("fail", "Say it in French.")
    assert (second["result"], second["quotes"]) == ("pass", quoted["quotes"])
    asked = [request.scenario for request in drive.api.requests if request.main]
    assert asked == ["success", "judge", "success", "judge"]
    assert "Say it in French." in str(drive.body(2))
    assert "Is it good?" in str(drive.body(1)) and "Write the notes." not in str(drive.body(1))
    offered = {tool["name"] for tool in drive.body(1)["tools"]}
    assert not offered & {"Edit", "Write", "NotebookEdit"}  # who judges changes nothing
