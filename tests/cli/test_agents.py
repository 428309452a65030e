"""Tasks for an agent, from a spec to a receipt: real runs with the scripted stand-in."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.agents.stand_in import until_there

from .driver import REPOSITORY, fleet
from .test_init import a_program, with_programs

pytestmark = pytest.mark.slow

STAND_IN = REPOSITORY / "tests" / "agents" / "stand_in.py"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A fleet whose default agent is the stand-in; it writes down what it was given."""
    definition(tmp_path)
    return tmp_path


def definition(where: Path, more: str = "", flags: str = "") -> None:
    (where / "fleet.toml").write_text(
        '[fleet]\ndefault_agent = "helper"\n\n[agents.helper]\n'
        f'command = ["{sys.executable}", "{STAND_IN}", "--saw", "saw.json"{flags}]\n'
        'usage = "claude-stream-json"\nmodel_flag = ["--model", "{model}"]\n' + more
    )


def task(where: Path, script: str, more: str = "") -> str:
    name = "agents.toml"
    (where / name).write_text(
        f'[[tasks]]\nid = "notes"\ninstructions = """\n{script}\n"""\n{more}\n'
    )
    return name


def saw(where: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((where / "saw.json").read_text())
    return found


def ends(where: Path) -> list[dict[str, Any]]:
    """The payloads of the ends of all attempts."""
    records = map(json.loads, (where / ".fleet" / "fleet.jsonl").read_text().splitlines())
    return [record["d"] for record in records if record["k"] == "attempt.ended"]


def ended(where: Path) -> dict[str, Any]:
    """The payload of the one attempt's end."""
    (found,) = ends(where)
    return found


def test_the_default_agent_does_what_the_prompt_says(here: Path) -> None:
    spec = task(
        here,
        "@write out/notes.md all is well",
        'artifacts = { report = "out/*.md" }\nexpected_artifacts = ["report"]\n'
        'scorer = { kind = "regex_match", path = "out/notes.md", pattern = "well" }',
    )
    done = fleet(here, "run", spec)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (here / "out" / "notes.md").read_text() == "all is well"
    assert saw(here)["prompt"].startswith("# notes\n\nThis is the task `notes` of the run")


def test_without_a_scorer_nobody_has_verified_it(here: Path) -> None:
    done = fleet(here, "run", task(here, "@say done"), "--json")
    assert done.returncode == 3, done.stderr
    assert ended(here)["receipt"]["result"] == "partial"


def test_an_agent_that_fails_fails_its_task(here: Path) -> None:
    assert fleet(here, "run", task(here, "@fail no idea")).returncode == 1
    assert ended(here)["exit"] == 1


def test_the_prompt_is_an_artifact_and_inspect_shows_it_and_the_agent(here: Path) -> None:
    fleet(here, "run", task(here, "@tool Bash ls\n@say hi", 'worker = { model = "small-1" }'))
    kept = next(one for one in ended(here)["artifacts"] if one["kind"] == "prompt")
    prompt = here / ".fleet" / kept["path"]
    assert prompt.read_text() == saw(here)["prompt"]
    assert prompt.stat().st_mode & 0o777 == 0o600
    assert (here / ".fleet" / "evidence" / kept["sha256"]).read_text() == prompt.read_text()
    assert saw(here)["argv"][-2:] == ["--model", "small-1"]
    used = fleet(here, "inspect", "@last/notes").stdout
    assert "0 tokens, 1 tool call\n" in used
    shown = json.loads(fleet(here, "inspect", "@last/notes", "--json").stdout)
    assert (shown["agent"], shown["model"]) == ("helper", "small-1")
    path = f".fleet/{kept['path']}"
    assert path in [one["path"] for one in shown["artifacts"] if one["kind"] == "prompt"]
    fleet(here, "artifacts", "@last", "--copy-to", "copy")
    (copy,) = (here / "copy").rglob("*.md")
    assert copy.read_text() == prompt.read_text()


@pytest.mark.parametrize("size", [10, 150_000])
def test_a_prompt_of_any_length_arrives_as_an_argument(here: Path, size: int) -> None:
    definition(here, 'prompt = "argument"\n', ', "--"')
    done = fleet(here, "run", task(here, "@write got.txt yes\n" + "x" * size))
    assert done.returncode == 3, done.stdout
    assert (here / "got.txt").read_text() == "yes"
    assert len(saw(here)["argv"][-1].encode()) < 131_072


def test_a_prompt_may_go_as_a_file(here: Path) -> None:
    definition(here, 'prompt = "file"\n', ', "--prompt-file"')
    assert fleet(here, "run", task(here, "@write got.txt yes")).returncode == 3
    assert (here / "got.txt").read_text() == "yes"


def test_an_agent_sees_its_own_variables_and_no_others(here: Path) -> None:
    definition(
        here,
        'env = { PLAIN = "1" }\nenvironment = { allowlist = ["MY_PLACE"] }\n'
        'secrets = ["MY_API_KEY"]\n',
    )
    spec = task(here, "@say hi")
    fleet(here, "run", spec, MY_PLACE="p", MY_API_KEY="its-value", OTHER_API_KEY="o")
    names = saw(here)["names"]
    assert {"PLAIN", "MY_PLACE", "MY_API_KEY", "HOME", "FLEET_ATTEMPT_ID"} <= set(names)
    assert "OTHER_API_KEY" not in names
    assert "its-value" not in (here / ".fleet" / "fleet.jsonl").read_text()


def test_a_variable_that_an_agent_requires_is_asked_for_before_anything_runs(here: Path) -> None:
    definition(here, 'environment = { required = ["MY_PLACE"] }\n')
    done = fleet(here, "run", task(here, "@say hi"))
    assert done.returncode == 2
    assert "MY_PLACE (required by agent helper)" in done.stderr
    assert not (here / ".fleet").exists()


def test_an_agent_that_is_not_installed_is_told_by_name(here: Path) -> None:
    (here / "fleet.toml").write_text('[agents.helper]\ncommand = ["no-such-agent"]\n')
    assert fleet(here, "run", task(here, "@say hi", 'agent = "helper"')).returncode == 1
    assert "no-such-agent is not found on PATH" in ended(here)["unstarted"]


def test_a_run_keeps_the_definitions_that_it_uses_and_no_others(here: Path) -> None:
    fleet(here, "run", task(here, "@say hi"))
    definition(here, 'args = ["--later"]\n')
    lines = (here / ".fleet" / "fleet.jsonl").read_text().splitlines()
    (made,) = [one["d"] for one in map(json.loads, lines) if one["k"] == "run.created"]
    assert list(made["agents"]) == ["helper"]
    fleet(here, "restart", "@last/notes")
    assert "--later" not in saw(here)["argv"]


def test_a_mistake_in_a_definition_stops_a_run_with_its_line(here: Path) -> None:
    definition(here, 'promt = "stdin"\n')
    done = fleet(here, "run", task(here, "@say hi"))
    assert done.returncode == 2
    assert "fleet.toml:8: agents.helper.promt: unknown field; did you mean prompt?" in done.stderr


def test_check_and_a_dry_run_show_who_does_what(here: Path) -> None:
    spec = task(here, "@say hi", 'worker = { model = "small-1" }\nbudget = { max_tokens = 5000 }')
    for words in (("check", spec, "--explain"), ("run", spec, "--dry-run")):
        done = fleet(here, *words)
        assert "helper (small-1): @say hi" in done.stdout, done.stdout + done.stderr
        assert "max_tokens = 5,000" in done.stdout
        assert "judged by nobody" in done.stdout
        made = json.loads(fleet(here, *words, "--json").stdout)
        assert made["agents"]["helper"]["prompt"] == "stdin"
        assert made["tasks"][0]["agent"] == "helper"
    assert not (here / ".fleet").exists()


def test_check_tells_an_unknown_agent_with_its_line(here: Path) -> None:
    done = fleet(here, "check", task(here, "@say hi", 'agent = "helpr"'))
    assert done.returncode == 2
    assert "agents.toml:6  tasks[0].agent" in done.stdout
    assert "did you mean helper?" in done.stdout


def test_doctor_tells_which_agents_are_here(here: Path) -> None:
    a_program(here / "bin" / "codex", "echo codex-cli 0.1")
    a_program(here / "bin" / "gemini", "exit 3")
    done = fleet(here, "doctor", "--json", PATH=with_programs(here))
    checks = {one["name"]: one for one in json.loads(done.stdout)["checks"]}
    assert checks["agent helper"]["seen"] == f"{sys.executable}, as fleet.toml says, the default"
    assert checks["agent codex"]["seen"] == "codex-cli 0.1, tried"
    assert (checks["agent gemini"]["state"], checks["agent gemini"]["seen"]) == (
        "note", f"{here}/bin/gemini --version ends with 3",
    )  # fmt: skip
    assert "agent claude" not in checks


def test_a_default_agent_that_is_not_here_is_something_to_do(here: Path) -> None:
    (here / "fleet.toml").write_text('[fleet]\ndefault_agent = "claude"\n')
    done = fleet(here, "doctor", PATH=with_programs(here))
    assert done.returncode == 1
    assert "claude is not on PATH" in done.stdout


PATIENT = """
[agents.patient]
command = ["sh", "patient.sh"]

[agents.patient.usage]
formats = { err = "pairs" }
limit = [{ stream = "err", when = { event = "retry", why = { has = "Used UP" } }, path = "why" }]

[agents.patient.quota]
patterns = ["until in (?P<until>.+)"]
"""


def test_an_agent_that_would_wait_out_a_usage_limit_is_ended_and_asked_again(here: Path) -> None:
    (here / "fleet.toml").write_text(PATIENT)
    (here / "patient.sh").write_text("""
echo 'event=retry why="too many at once"' >&2
test -e met && exit
touch met
echo 'event=retry why="used up until in 1 s"' >&2
exec sleep 600
""")
    spec = task(here, "work", 'agent = "patient"\nscorer = { kind = "exit_code" }\n')
    assert fleet(here, "run", spec).returncode == 0
    first, second = ends(here)
    assert (first["why"], first["receipt"]["result"]) == ("limit", "skip")
    assert first["quota"] == {"agent": "patient", "seconds": 1.0, "words": "used up until in 1 s"}
    assert second["receipt"]["result"] == "pass"
    told = fleet(here, "explain", "@last/notes").stdout
    assert "patient has reached a usage limit and rests for 1.0 s: used up until in 1 s" in told


def test_a_verifier_that_would_wait_out_a_usage_limit_is_ended_too(here: Path) -> None:
    (here / "fleet.toml").write_text(PATIENT)
    program = "echo 'event=retry why=\"used up until in 1 h\"' >&2\nexec sleep 600\n"
    (here / "patient.sh").write_text(program)
    judged = 'scorer = { kind = "code_whale_verifier_prompt", agent = "patient", prompt = "?" }\n'
    (here / "spec.toml").write_text(f'[[tasks]]\nid = "notes"\ncommand = "true"\n{judged}')
    assert fleet(here, "run", "spec.toml").returncode == 3
    assert "patient has reached a usage limit" in ended(here)["receipt"]["reason"]


@pytest.mark.parametrize("isolation", ["none", "copy"])
def test_a_restart_goes_on_with_the_conversation_where_it_was(here: Path, isolation: str) -> None:
    """Of an attempt that runs, of one that has failed, and of one that its policy tried again."""
    definition(here, 'resume_flag = ["--resume", "{session}"]\n', f', "--cwd", "{here}/cwd"')
    more = "retry_policy = { max_attempts = 1, resume_session = true }\n"
    more += f'workspace = {{ isolation = "{isolation}" }}\n'
    spec = task(here, "@tokens 5 5\n@append log.txt x\n@wait go\n@fail no", more)
    fleet(here, "run", spec, "--detach")
    cwd = here / "cwd"
    until_there(cwd)
    place = Path(cwd.read_text())
    until_there(place / "log.txt")
    fleet(here, "restart", "@last/notes")
    (place / "go").touch()
    assert fleet(here, "wait", "@last").returncode == 1
    fleet(here, "restart", "@last/notes")
    assert fleet(here, "wait", "@last").returncode == 1
    sessions = [one["agent"]["session"] for one in ends(here)]
    assert len(sessions) == 3 and len(set(sessions)) == 1
    assert Path(cwd.read_text()) == place and (place / "log.txt").read_text() == "xxx"
    assert (place == here) == (isolation == "none")
    assert "You go on with your own earlier conversation" in saw(place)["prompt"]
    assert saw(place)["argv"][-2:] == ["--resume", sessions[0]]


def test_a_restart_of_what_has_passed_in_its_own_directory_begins_anew(here: Path) -> None:
    definition(here, 'resume_flag = ["--resume", "{session}"]\n')
    more = 'retry_policy = { resume_session = true }\nworkspace = { isolation = "copy" }\n'
    more += 'scorer = { kind = "exit_code" }\n'
    assert fleet(here, "run", task(here, "@tokens 5 5\n@say hi", more)).returncode == 0
    fleet(here, "restart", "@last/notes")
    assert fleet(here, "wait", "@last").returncode == 0
    first, second = ends(here)
    assert first["agent"]["session"] != second["agent"]["session"]
    assert first["isolated"] != second["isolated"]


def test_the_prompts_of_old_runs_go_with_their_logs(here: Path) -> None:
    fleet(here, "run", task(here, "@say hi", 'scorer = { kind = "exit_code" }'))
    assert list((here / ".fleet" / "prompts").rglob("*.md"))
    done = fleet(here, "gc", "--older-than", "0s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list((here / ".fleet" / "prompts").rglob("*.md")), done.stdout
    assert not list((here / ".fleet" / "evidence").iterdir())
