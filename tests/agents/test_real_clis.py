"""The real command-line tools, started with a preset's argv, against the scripted API.

What they must not change without our noticing: that they take the flags, what they send, what they
leave in the workspace, and the words that stand for tokens, sessions and limits in their streams.
"""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.agents.api import Api
from tests.agents.clis import CLIS, Cli, missing, subscribed
from tests.agents.namespace import Namespace
from tests.agents.record import session_in

pytestmark = [pytest.mark.slow, pytest.mark.agents]

PROMPT = "Write the notes."
RESETS_AT = 1_900_000_000  # 2030-03-17 17:46:40 UTC


@dataclass
class Bench:
    """A namespace, the API in it, and a workspace."""

    inside: Namespace
    api: Api
    work: Path

    def run(
        self,
        cli: Cli,
        scenario: str,
        *,
        session: str = "",
        prompt: str = PROMPT,
        env: dict[str, str] | None = None,
        more: tuple[str, ...] = (),
    ) -> "CompletedProcess[str]":
        settled = cli.environment(self.inside.home, self.api.url(scenario))
        argv = cli.argv(session)
        place = 1 if argv[1].startswith("-") else 2  # after a subcommand
        argv[place:place] = more
        return self.inside.run(
            argv, cwd=self.work, env=settled if env is None else env, input=prompt, timeout=100
        )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    if told := missing():
        pytest.fail(told)
    work = tmp_path / "work"
    work.mkdir()
    with (
        Namespace(tmp_path / "home") as inside,
        Api(inside.listen(), resets_at=RESETS_AT) as api,
    ):
        yield Bench(inside, api, work)


def lines(done: "CompletedProcess[str]") -> list[dict[str, Any]]:
    """What stdout holds: JSON objects, one a line, and nothing else."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def tokens(name: str, said: list[dict[str, Any]]) -> tuple[int, int, int]:
    """Not cached, cached and written tokens, as the facts of each stream have it."""
    last = said[-1]
    match name:
        case "claude":
            per_model = last["model_usage_since_last_result"].values()
            return (
                sum(used["inputTokens"] for used in per_model),
                sum(used["cacheReadInputTokens"] for used in per_model),
                sum(used["outputTokens"] for used in per_model),
            )
        case "codex":
            used = last["usage"]
            cached = used["cached_input_tokens"]
            return used["input_tokens"] - cached, cached, used["output_tokens"]
        case "gemini":
            used = last["stats"]
            return used["input_tokens"] - used["cached"], used["cached"], used["output_tokens"]
        case _:
            steps = [line["part"]["tokens"] for line in said if line["type"] == "step_finish"]
            return (
                sum(used["input"] for used in steps),
                sum(used["cache"]["read"] for used in steps),
                sum(used["output"] for used in steps),
            )


@pytest.mark.parametrize("cli", CLIS.values(), ids=list(CLIS))
def test_the_real_cli_takes_the_presets_argv_and_edits_files(bench: Bench, cli: Cli) -> None:
    done = bench.run(cli, "edits")
    assert done.returncode == 0, done.stderr + done.stdout
    assert (bench.work / "notes.txt").read_text() == "first line\nsecond line\n"
    said = lines(done)
    assert "All done: the notes are written." in done.stdout
    assert tokens(cli.name, said) == (3 * 1200, 3 * 3000, 3 * 45)
    work = [request for request in bench.api.requests if request.main]
    assert [request.step for request in work] == ["answer"] * 3
    assert {request.model for request in work} <= {cli.model.split("/")[-1], None}


@pytest.mark.parametrize("cli", CLIS.values(), ids=list(CLIS))
def test_the_real_cli_goes_on_with_its_session(bench: Bench, cli: Cli) -> None:
    first = bench.run(cli, "success")
    session = session_in(first.stdout)
    second = bench.run(cli, "success", session=session, prompt="Go on.")
    assert second.returncode == 0, second.stderr + second.stdout
    assert session_in(second.stdout) == session
    earlier, later = [request.bytes for request in bench.api.requests if request.main]
    assert later > earlier  # the second conversation holds the first
    twice = 2 if cli.name == "codex" else 1  # its totals are the session's
    assert tokens(cli.name, lines(second)) == (twice * 1200, twice * 3000, twice * 45)


@pytest.mark.parametrize("cli", CLIS.values(), ids=list(CLIS))
def test_the_real_cli_refuses_a_flag_that_it_does_not_know(bench: Bench, cli: Cli) -> None:
    done = bench.run(cli, "success", more=("--no-such-flag",))
    assert done.returncode in (1, 2)
    named = "such-flag" if cli.name != "opencode" else "opencode run [message..]"
    assert named in done.stderr  # opencode shows its usage, and does not say why
    assert done.stdout == ""
    assert bench.api.requests == []


@pytest.mark.parametrize("cli", CLIS.values(), ids=list(CLIS))
def test_the_real_cli_outlasts_an_overload(bench: Bench, cli: Cli) -> None:
    done = bench.run(cli, "overload")
    assert done.returncode == 0, done.stderr + done.stdout
    steps = [request.step for request in bench.api.requests if request.main]
    assert steps == ["overload", "answer"]


def test_claude_and_codex_say_when_a_limit_ends(bench: Bench) -> None:
    claude = bench.run(CLIS["claude"], "limit", env=subscribed(bench.api.url("limit")))
    assert claude.returncode == 1
    said = lines(claude)
    (event,) = [line for line in said if line["type"] == "rate_limit_event"]
    assert event["rate_limit_info"]["status"] == "rejected"
    assert event["rate_limit_info"]["resetsAt"] == RESETS_AT
    assert (said[-1]["is_error"], said[-1]["api_error"]) == (True, "usage_limit_reached")
    assert said[-1]["result"].endswith("limit · resets Mar 17, 2030, 5:46pm (UTC)")

    by_key = lines(bench.run(CLIS["claude"], "limit"))
    assert "You will regain access on 2030-03-17 at 17:46 UTC." in by_key[-1]["result"]

    codex = bench.run(CLIS["codex"], "limit")
    assert codex.returncode == 1
    failed = lines(codex)[-1]
    assert failed["type"] == "turn.failed"
    until = re.search(r"usage limit.*try again at (?P<until>.+)\.", failed["error"]["message"])
    assert until is not None
    assert until["until"] == "Mar 17th, 2030 5:46 PM"


def test_a_broken_stream_for_good_ends_claude_and_codex_with_an_error(bench: Bench) -> None:
    claude = CLIS["claude"]
    env = {**claude.settle(bench.inside.home, bench.api.url("broken-for-good"))}
    done = bench.run(claude, "broken-for-good", env={**env, "CLAUDE_CODE_MAX_RETRIES": "1"})
    assert done.returncode == 1
    assert lines(done)[-1]["is_error"] is True
    done = bench.run(CLIS["codex"], "broken-for-good")
    assert done.returncode == 1
    assert lines(done)[-1]["type"] == "turn.failed"


def test_a_namespace_reaches_its_own_loopback_and_nothing_else(tmp_path: Path) -> None:
    """Who listens outside can't be called from inside, under the same address."""
    program = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)"
    with Namespace(tmp_path / "home") as inside, Api() as outside:
        address = outside.url("success") + "/v1/models"
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(address, timeout=10)
        done = inside.run(["python3", "-c", program, address], cwd=tmp_path)
        assert "Connection refused" in done.stderr
        assert len(outside.requests) == 1
        away = inside.run(["python3", "-c", program, "http://192.0.2.1/"], cwd=tmp_path)
        assert "Network is unreachable" in away.stderr
        with Api(inside.listen()) as within:
            address = within.url("success") + "/v1/models"
            done = inside.run(["python3", "-c", program, address], cwd=tmp_path)
            assert "HTTP Error 404" in done.stderr
            assert len(within.requests) == 1
