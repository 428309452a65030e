"""From a task for an agent to its prompt, its command line and its plan; nothing is started."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from codewhale_fleet.agents.command import Choice, as_argument, command_line
from codewhale_fleet.agents.definition import Agent, encode_agent
from codewhale_fleet.agents.presets import PRESETS
from codewhale_fleet.agents.prompt import Story, render
from codewhale_fleet.agents.roster import resolve
from codewhale_fleet.agents.usage import READERS
from codewhale_fleet.core.events import Evidence, Usage
from codewhale_fleet.core.parts import SecretName
from codewhale_fleet.core.spec import Task as Spec
from codewhale_fleet.core.state import Run, Task, TaskMore, rest_of
from codewhale_fleet.engine.launch import There, plan
from codewhale_fleet.engine.runs import with_fleet

FLEET = Path("/place/.fleet")


def a_spec(**fields: Any) -> Spec:
    return json.decode(
        json.encode({"id": "a", "agent": "own", "instructions": "do it", **fields}), type=Spec
    )


def a_plan(
    agent: Agent,
    more: TaskMore | None = None,
    *,
    policy: bytes = b"null",
    roles: dict[str, bytes] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    raw = json.encode(a_spec(**fields))
    run = Run(
        id="r-1",
        name="r",
        seq=1,
        ts="",
        max_workers=1,
        workspace="/place",
        agents={"own": encode_agent(resolve("own", agent))},
        policy=policy,
        roles=roles or {},
    )
    row = Task(index=0, id="a", rest=rest_of("a", raw), attempt=2, more=more)
    return plan(run, row, "fl-1", FLEET)


def preset(name: str, **more: Any) -> Agent:
    return Agent(preset=name, **more)


# The prompt -----------------------------------------------------------------------------------


def test_a_prompt_holds_all_that_the_task_says() -> None:
    text = render(
        a_spec(
            name="Notes",
            objective="Have notes.",
            context=["be short", "be nice"],
            input_files=["src/*.py"],
            artifacts={"report": ["out/a.md", "out/b.md"], "test_result": "t.xml"},
            expected_artifacts=["report", "diagram", "log"],
            workspace={"root": "sub", "writable_paths": ["out"]},
            scorer={"kind": "file_exists", "path": "out/a.md"},
            worker={"role": "writer", "tools": ["git"]},
            timeout_seconds=60,
        ),
        Story(run="r-1", attempt=2, left={"max_tokens": 1500, "max_cost_usd": 0.5}),
    )
    for said in (
        "# Notes\n",
        "task `a` of the run `r-1`, attempt 2.",
        "Your role: writer.",
        "## Objective\n\nHave notes.",
        "## Instructions\n\ndo it",
        "- be short\n- be nice",
        "- `src/*.py`",
        "- report: `out/a.md` or `out/b.md`",
        "- test_result (if there is one): `t.xml`",
        "- diagram: write a file, and say where: `fleet artifact add diagram PATH`",
        "- the file `out/a.md`",
        "which is `..` from where you are",
        "- Write below `out` only.",
        "- Use these tools: git.",
        "- At most 1,500 tokens",
        "- At most 0.5 US dollars",
        "- At most 60 seconds.",
    ):
        assert said in text, said
    assert "- log:" not in text
    assert "attempt before" not in text


def test_a_prompt_tells_what_came_before() -> None:
    story = Story(
        run="r", attempt=2, feedback="no tests\nat all", checkpoint="step 3", continues=True,
        resumes=True,
    )  # fmt: skip
    text = render(a_spec(), story)
    assert "## The attempt before" in text
    assert "> no tests\n> at all" in text
    assert "> step 3" in text
    assert "as the attempt before left them" in text
    assert "your own earlier conversation" in text


def test_instructions_stand_in_the_prompt_word_for_word() -> None:
    said = "Use {prompt} and {model}.\n\n\tTabs, `ticks` and\n# headings stay. é🐋"
    assert said in render(a_spec(instructions=said), Story(run="r"))


def test_a_role_that_only_reads_is_told_so() -> None:
    assert "change no file" in render(a_spec(worker={"role": "Reviewer"}), Story(run="r"))
    assert "change no file" not in render(a_spec(worker={"role": "builder"}), Story(run="r"))


# The command line -----------------------------------------------------------------------------


def test_the_prompt_goes_by_standard_input() -> None:
    made = a_plan(preset("claude"))
    assert made["argv"] == [
        "claude", "-p", "--output-format", "stream-json", "--verbose",
        "--permission-mode=acceptEdits", "--allowedTools=Bash",
    ]  # fmt: skip
    assert made["prompt"]["stdin"] is True
    assert made["prompt"]["path"] == "prompts/r-1/a.2.md"
    assert "do it" in made["prompt"]["text"]


def test_the_prompt_goes_as_one_argument_where_marked_and_last_where_not() -> None:
    text = a_plan(Agent(command=["x"], prompt="argument"))["prompt"]["text"]
    plain = Agent(command=["x"], args=["-v"], prompt="argument")
    assert a_plan(plain)["argv"] == ["x", "-v", text]
    marked = Agent(command=["x", "{prompt}", "y"], prompt="argument")
    assert a_plan(marked)["argv"] == ["x", text, "y"]
    assert a_plan(marked)["prompt"]["stdin"] is False


def test_a_prompt_longer_than_an_argument_goes_by_a_file_that_the_argument_names() -> None:
    agent = Agent(command=["x"], prompt="argument")
    made = a_plan(agent, instructions="é" * 70_000)
    assert made["argv"][1].startswith("Read the file /place/.fleet/prompts/r-1/a.2.md and ")
    assert len(made["prompt"]["text"]) > 70_000
    assert as_argument("x" * 131_071, "/p") == "x" * 131_071
    assert as_argument("x" * 131_072, "/p").startswith("Read the file /p ")


def test_the_prompt_goes_as_the_path_of_a_file() -> None:
    made = a_plan(preset("aider"))
    assert made["argv"][-2:] == ["--message-file", "/place/.fleet/prompts/r-1/a.2.md"]


def test_what_is_chosen_stands_where_the_command_marks_it() -> None:
    made = a_plan(preset("codex"), worker={"model": "gpt-5.5", "role": "builder"})
    assert made["argv"] == [
        "codex", "exec", "--sandbox", "workspace-write", "--json", "--skip-git-repo-check",
        "--model", "gpt-5.5", "-",
    ]  # fmt: skip
    assert made["env"]["RUST_LOG"] == "codex_otel.trace_safe=info"
    codewhale = a_plan(preset("codewhale"), worker={"model": "m", "tools": ["shell"]})
    assert codewhale["argv"][:3] == ["codewhale", "--model", "m"]
    assert codewhale["argv"][7:9] == ["--allowed-tools", "shell"]


def test_a_tool_profile_says_more_than_a_role_does() -> None:
    reads = a_plan(preset("gemini"), worker={"role": "builder", "tool_profile": "read-only"})
    assert "plan" in reads["argv"] and reads["sandbox"]["workspace"] == "read"
    writes = a_plan(preset("gemini"), worker={"role": "reviewer", "tool_profile": "read-write"})
    assert "plan" not in writes["argv"] and "sandbox" not in writes


def test_programs_become_rules_of_the_agents_own_and_the_fleet_may_be_called() -> None:
    made = a_plan(preset("claude"), worker={"tools": ["git", "Edit", "mcp__x", "Bash(ls:*)"]})
    assert "--tools=Bash,Edit,mcp__x,Read,Glob,Grep" in made["argv"]
    rules = "--allowedTools=Bash(git:*),Edit,mcp__x,Bash(ls:*),Bash(fleet:*)"
    assert rules in made["argv"]


def test_a_prompt_is_never_filled_in() -> None:
    agent = resolve("own", Agent(command=["x", "{prompt}"], prompt="argument"))
    argv = command_line(agent, Choice(model="m"), "{model} {prompt} {session}", "/p")
    assert argv == ["x", "{model} {prompt} {session}"]


@pytest.mark.parametrize("name", ["claude", "codex", "gemini", "opencode"])
def test_a_session_is_continued_by_the_presets_own_flag(name: str) -> None:
    agent = PRESETS[name]
    argv = command_line(agent, Choice(session="s-1"), "p", "/p")
    flag = [part.replace("{session}", "s-1") for part in agent.resume_flag]
    at = argv.index("s-1")
    assert argv[at - 1 : at + 1] == flag


# Caps, readers, variables ---------------------------------------------------------------------


def test_a_plan_goes_on_with_the_session_only_where_the_retry_policy_says_so() -> None:
    more = TaskMore(session="s-7")
    plain = a_plan(preset("claude"), more, retry_policy={"max_attempts": 2})
    assert "--resume" not in plain["argv"]
    again = a_plan(preset("claude"), more, retry_policy={"resume_session": True})
    assert again["argv"][-2:] == ["--resume", "s-7"]
    assert "You go on with your own earlier conversation" in again["prompt"]["text"]
    first = a_plan(preset("claude"), None, retry_policy={"resume_session": True})
    assert "--resume" not in first["argv"]
    assert "conversation" not in first["prompt"]["text"]


def test_a_conversation_goes_on_in_its_own_directory() -> None:
    fields = {"retry_policy": {"resume_session": True}, "workspace": {"isolation": "worktree"}}
    more = TaskMore(
        session="s-7", session_in="worktrees/r-1/a.1", patch="5ab", base="c0", patch_of=1
    )
    made = a_plan(preset("claude"), more, **fields)
    assert made["isolate"]["directory"] == more.session_in and made["isolate"]["again"]
    assert made["cwd"] == made["root"] == str(FLEET / more.session_in)
    assert (made["isolate"]["continue"], made["isolate"]["base"]) == ("evidence/5ab", "c0")
    assert "The files are as the attempt before left them" in made["prompt"]["text"]
    lost = a_plan(preset("claude"), TaskMore(session="s-7"), **fields)  # its place is not known
    assert lost["isolate"]["directory"] == "worktrees/r-1/a.2" and "again" not in lost["isolate"]
    assert "--resume" not in lost["argv"]


def test_caps_are_what_earlier_attempts_have_left() -> None:
    more = TaskMore(usage=Usage(tokens_in=900, tokens_out=50, tool_calls=1, cost_usd=0.25))
    budget = {"max_tokens": 1000, "max_tool_calls": 3, "max_cost_usd": 1.0}
    made = a_plan(preset("claude"), more, budget=budget)
    assert made["caps"] == {"max_tokens": 50, "max_tool_calls": 2, "max_cost_usd": 0.75}
    assert made["argv"][-2:] == ["--max-budget-usd", "0.75"]
    assert "At most 50 tokens" in made["prompt"]["text"]


def test_the_reader_goes_along_as_data() -> None:
    made = a_plan(preset("claude"))
    assert (
        json.decode(json.encode(made["usage"]), type=type(READERS["codex-json"]))
        == (READERS["claude-stream-json"])
    )
    assert "usage" not in a_plan(preset("claude", usage="none"))


def test_variables_go_by_name_and_never_by_value() -> None:
    agent = preset("claude", env={"A": "1", "FLEET_ID": "mine"})
    made = a_plan(agent, workspace={"environment": {"required": ["HERE"]}})
    assert {"HERE", "ANTHROPIC_API_KEY"} <= set(made["allow"])
    assert (made["env"]["A"], made["env"]["FLEET_ID"]) == ("1", "fl-1")


def test_the_verifiers_words_reach_the_next_prompt() -> None:
    made = a_plan(preset("claude"), TaskMore(feedback="line 3 is wrong"))
    assert "> line 3 is wrong" in made["prompt"]["text"]


def test_tasks_find_fleet_by_its_name(tmp_path: Path) -> None:
    program = tmp_path / "own" / "fleet"
    program.parent.mkdir()
    assert with_fleet("/bin", program.parent) == "/bin"
    program.touch(0o755)
    assert with_fleet("/bin", program.parent) == f"/bin:{program.parent}"
    assert with_fleet(f"/bin:{program.parent}", tmp_path) == f"/bin:{program.parent}"


# What holds it --------------------------------------------------------------------------------


def test_a_plan_says_what_holds_the_task_and_its_verifiers() -> None:
    agent = Agent(command=["own"], keeps=["~/.own"])
    chain = {
        "steps": [
            {"kind": "command", "command": "true"},
            {"kind": "code_whale_verifier_prompt", "prompt": "is it good?", "agent": "own"},
        ]
    }
    made = a_plan(agent, verify=chain, workspace={"writable_paths": ["out"]})
    assert made["sandbox"]["write"] == ["out"] and made["sandbox"]["keep"] == ["~/.own"]
    command, judge = (step["sandbox"] for step in made["steps"])
    assert command == made["sandbox"]
    assert (judge["workspace"], judge["write"], judge["keep"]) == ("read", [], ["~/.own"])


def test_in_the_sandbox_an_agent_does_not_see_keys() -> None:
    policy = b'{"capability_grants":[{"capability":"network"}]}'
    agent = preset("claude", environment={"allowlist": ["ANTHROPIC_API_KEY", "LANG"]})
    open_, shut = (a_plan(agent, policy=one)["allow"] for one in (b"null", policy))
    assert "ANTHROPIC_API_KEY" in open_
    assert "ANTHROPIC_API_KEY" not in shut and {"LANG", "CLAUDE_CONFIG_DIR"} <= set(shut)


def test_a_task_of_a_role_has_the_trust_of_the_role() -> None:
    role = {"strict": b'{"trust_level":"sandbox"}'}
    made = a_plan(preset("claude"), roles=role, worker={"role": "strict"})
    assert made["sandbox"]["level"] == "sandbox"
    assert "sandbox" not in a_plan(preset("claude"), roles=role)


def test_a_prompt_says_what_its_role_does() -> None:
    roles = {"linter": b'{"instructions":"Say only what you are sure of."}'}
    told = a_plan(preset("claude"), roles=roles, worker={"role": "linter"})["prompt"]["text"]
    assert "Your role: linter." in told
    assert "## Your role\n\nSay only what you are sure of." in told


def test_a_policy_may_let_agents_read_in_parallel() -> None:
    policy = b'{"default_trust_level":"local","allow_parallel_reads":true}'
    told = [a_plan(preset("claude"), policy=one)["prompt"]["text"] for one in (b"null", policy)]
    assert ["several tool calls at once" in text for text in told] == [False, True]


def test_an_agent_whose_own_sandbox_cannot_work_in_ours_is_told_so() -> None:
    place = {"writable_paths": ["out"]}
    assert "danger-full-access" in a_plan(preset("codex"), workspace=place)["argv"]
    assert "danger-full-access" not in a_plan(preset("codex"))["argv"]
    judged = {"kind": "code_whale_verifier_prompt", "prompt": "is it good?", "agent": "own"}
    (step,) = a_plan(preset("codex"), workspace=place, scorer=judged)["steps"]
    assert "danger-full-access" in step["argv"] and step["sandbox"]["workspace"] == "read"
    (step,) = a_plan(preset("codex"), scorer=judged)["steps"]
    assert "read-only" in step["argv"]


# Secrets --------------------------------------------------------------------------------------


def named(known: list[str], policy: bytes = b"null", **fields: Any) -> list[dict[str, Any]]:
    """What the plan says of secrets, in a run that was allowed those that are known."""
    raw = json.encode(a_spec(**fields))
    agent = Agent(command=["own"], secrets=["OF_AGENT"])
    run = Run(
        id="r-1",
        name="r",
        seq=1,
        ts="",
        max_workers=1,
        workspace="/place",
        agents={"own": encode_agent(resolve("own", agent))},
        secrets=[SecretName(key=key) for key in known],
        policy=policy,
    )
    row = Task(index=0, id="a", rest=rest_of("a", raw), attempt=1)
    found: list[dict[str, Any]] = plan(run, row, "fl-1", FLEET).get("secrets", [])
    return found


def test_a_plan_names_the_secrets_of_its_own_task_and_agent_and_says_no_value() -> None:
    filed = {"key": "FILED", "as": "PLACE", "deliver": "file"}
    assert named(["MINE", "FILED", "OF_AGENT", "OTHER"], secrets=["MINE", filed]) == [
        {"key": "MINE", "source": "", "as": "MINE", "file": False},
        {"key": "FILED", "source": "", "as": "PLACE", "file": True},
        {"key": "OF_AGENT", "source": "", "as": "OF_AGENT", "file": False},
    ]


def test_what_a_run_or_its_policy_does_not_allow_is_in_no_plan_whatever_the_task_says() -> None:
    assert [one["key"] for one in named(["MINE"], secrets=["MINE", "NOT_OF_THE_RUN"])] == ["MINE"]
    known = ["MINE", "OF_AGENT"]
    local = b'{"default_trust_level":"local","allowed_secrets":["OF_*"]}'
    assert [one["key"] for one in named(known, local, secrets=["MINE"])] == ["OF_AGENT"]
    shut = b'{"allowed_secrets":["*"]}'
    assert named(known, shut, secrets=["MINE"]) == []
    granted = (
        b'{"allowed_secrets":["*"],'
        b'"capability_grants":[{"capability":"provider-secrets","scope":"MINE"}]}'
    )
    assert [one["key"] for one in named(known, granted, secrets=["MINE"])] == ["MINE"]


# On another machine ---------------------------------------------------------------------------


def test_a_plan_for_another_machine_names_no_path_of_this_one() -> None:
    place = {"isolation": "worktree", "root": "app", "required_files": ["a"]}
    task = {
        "id": "a",
        "agent": "own",
        "instructions": "do it",
        "workspace": place,
        "retry_policy": {"max_attempts": 3, "continue": True},
        "artifacts": {"report": "out/*"},
        "scorer": {"kind": "command", "command": "true"},
    }
    raw = json.encode(json.decode(json.encode(task), type=Spec))
    run = Run(
        id="r-1",
        name="r",
        seq=1,
        ts="",
        max_workers=1,
        workspace="/place",
        agents={"own": encode_agent(resolve("own", preset("claude")))},
    )
    left = Evidence(sha256="c" * 64, size=9)
    more = TaskMore(checkpoint=left, patch="d" * 64, patch_of=1, base="e" * 40, feedback="again")
    row = Task(index=0, id="a", rest=rest_of("a", raw), attempt=2, more=more)
    there = There(root="/srv/app", state="/home/me/state")
    made = plan(run, row, "fl-1", FLEET, there)
    assert b"/place" not in json.encode(made)
    assert made["cwd"] == "/home/me/state/worktrees/r-1/a.2/app"
    assert made["isolate"]["from"] == "/srv/app"
    assert made["env"]["FLEET_DIR"] == "/srv/app"
    assert made["env"]["FLEET_CHECKPOINT"] == f"/home/me/state/inputs/{left.sha256}"
    assert made["isolate"]["continue"] == f"inputs/{more.patch}"
    assert made["carry"] == [left.sha256, more.patch]
    assert made["keep"]
    assert b"/place" in json.encode(plan(run, row, "fl-1", FLEET))
