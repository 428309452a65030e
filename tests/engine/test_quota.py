"""Usage limits: which words tell of one, and when it ends."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs

from codewhale_fleet.agents.definition import Agent, Limits, encode_agent
from codewhale_fleet.agents.until import until
from codewhale_fleet.core import events as e
from codewhale_fleet.core.tasks import decode_task
from codewhale_fleet.engine.quota import quota_of
from tests.core.playbook import Playbook

NOW = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("words", "then"),
    [
        ("1795293360", "2026-11-21T20:36:00+00:00"),
        ("1795293360000", "2026-11-21T20:36:00+00:00"),
        ("2026-11-21T20:36:00Z", "2026-11-21T20:36:00+00:00"),
        ("2026-11-21T20:36:00+01:00", "2026-11-21T19:36:00+00:00"),
        ("2026-11-21 at 20:36 UTC", "2026-11-21T20:36:00+00:00"),
        ("3pm (UTC)", "2026-11-21T15:00:00+00:00"),
        ("8:36pm (UTC)", "2026-11-21T20:36:00+00:00"),
        ("15:00 (Europe/Berlin)", "2026-11-21T14:00:00+00:00"),
        ("8:42 PM (America/New_York)", "2026-11-22T01:42:00+00:00"),
        ("2am (UTC)", "2026-11-22T02:00:00+00:00"),
        ("Nov 24, 7:38pm (UTC)", "2026-11-24T19:38:00+00:00"),
        ("Nov 24th, 2026 7:42 PM (UTC)", "2026-11-24T19:42:00+00:00"),
        ("Jun 9, 2027, 7:38pm (UTC)", "2027-06-09T19:38:00+00:00"),
        ("Jan 2, 7am (UTC)", "2027-01-02T07:00:00+00:00"),
        ("in 2 h 10 min", "2026-11-21T14:10:30+00:00"),
        ("in 5 minutes", "2026-11-21T12:05:30+00:00"),
        ("3600s", "2026-11-21T13:00:30+00:00"),
        ("1 day and 2 hours", "2026-11-22T14:00:30+00:00"),
    ],
)
def test_a_time_is_read_as_people_and_agents_write_it(words: str, then: str) -> None:
    found = until(words, NOW)
    assert found is not None
    assert datetime.fromtimestamp(found, UTC).isoformat() == then


@pytest.mark.parametrize(
    "words",
    [
        "", "soon", "later.", "11:59 (UTC)", "1700000000", "2020-01-01T00:00:00Z", "99:99",
        "13pm", "3pm (Mars/Olympus)", "3pm (../../etc/passwd)", "Foo 24, 7pm", "Feb 31, 7pm",
        "in 5 parsecs", "2099-01-01T00:00:00Z", "0 s", "in 99999999999999999999 days", "Nov 3, 7pm",
    ],
)  # fmt: skip
def test_what_has_passed_or_cannot_be_read_is_unknown(words: str) -> None:
    assert until(words, NOW) is None


def limit_of(tmp_path: Path, definition: Agent | None = None, **more: object) -> e.Quota | None:
    book = Playbook()
    run = book.run({"id": "a", "agent": "helper", "command": None})
    patterns = [r"limit · resets (?P<until>[^()]+ \([\w/]+\))", r"usage limit"]
    made = definition or Agent(command=["helper"], quota=Limits(patterns=patterns))
    run.agents["helper"] = encode_agent(made)
    blank = e.AttemptEnded(
        attempt="r/a@1", worker="w", src=("rt", 1), seconds=1.0, receipt=e.Receipt(result="fail")
    )
    end = structs.replace(blank, **more)
    return quota_of(run, decode_task(book.task("a").raw), end, NOW, tmp_path)


def test_the_agents_own_words_tell_of_it_and_of_its_end(tmp_path: Path) -> None:
    words = "You've hit your 5-hour limit · resets 3pm (UTC)"
    quota = limit_of(tmp_path, exit=1, agent=e.AgentFacts(error=words))
    assert quota == e.Quota(agent="helper", seconds=3 * 3600 - 30, words=words)
    quota = limit_of(tmp_path, exit=0, agent=e.AgentFacts(error=words))
    assert quota is not None
    exact = e.AgentFacts(error=words, resets_at=NOW + 77)
    assert limit_of(tmp_path, exit=1, agent=exact) == structs.replace(quota, seconds=77.0)


def test_it_may_stand_in_the_end_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "a.err").write_text("x\n" * 9000 + "error: usage limit reached\nbye\n")
    logs = {"err": e.Log(path="a.err", size=9)}
    quota = limit_of(tmp_path, exit=1, logs=logs)
    assert quota == e.Quota(agent="helper", seconds=0.0, words="error: usage limit reached")


def test_a_definition_says_how_long_to_wait_where_no_time_is_named(tmp_path: Path) -> None:
    agent = Agent(command=["helper"], quota=Limits(patterns=["limit"], wait_seconds=90))
    quota = limit_of(tmp_path, agent, exit=1, agent=e.AgentFacts(error="limit"))
    assert quota is not None and quota.seconds == 90


def test_who_did_not_fail_or_was_ended_met_no_limit(tmp_path: Path) -> None:
    note = e.AgentFacts(note="this code handles the usage limit")
    assert limit_of(tmp_path, exit=0, agent=note) is None
    told = e.AgentFacts(error="usage limit")
    assert limit_of(tmp_path, why="timeout", signal=2, agent=told) is None
    assert limit_of(tmp_path, exit=1, agent=e.AgentFacts(error="exploded")) is None
