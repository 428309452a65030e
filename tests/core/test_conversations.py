"""Where an agent goes on with its conversation: on the worker that has it, while that is there."""

from codewhale_fleet.core import commands as c
from codewhale_fleet.core import events as e
from codewhale_fleet.core.parts import AgentFacts, Usage
from codewhale_fleet.core.usage import as_seen_there

from .crew import Crew, worker
from .playbook import FAIL

WEB = {name: worker(name, 2) for name in ("web1", "web2")}
TALK = AgentFacts(session="s-1", usage=Usage(tokens_in=5))


def talking(*ids: str, **more: object) -> Crew:
    crew = Crew()
    policy = {"max_attempts": 9, "initial_backoff_seconds": 0, "resume_session": True, **more}
    crew.crew(*({"id": one, "retry_policy": policy} for one in ids), workers=WEB)
    crew.up("web1", "web2")
    return crew


def session(crew: Crew, task: str) -> str:
    run = crew.state.runs["r"]
    row = as_seen_there(run, run.tasks[task])
    return row.more.session if row.more else ""


def test_the_next_attempt_goes_where_the_conversation_is() -> None:
    crew = talking("a", "b", "c")
    assert crew.place() == ["a web1-1", "b web2-1", "c web1-2"]
    crew.end("b", FAIL, agent=TALK)
    crew.end("a", FAIL, agent=TALK)
    assert crew.place() == ["a web1-1", "b web2-1"]
    crew.end("b", FAIL, agent=TALK)
    crew.end("c")
    crew.end("a", FAIL, agent=TALK)
    assert crew.place() == ["a web1-1", "b web2-1"]
    assert session(crew, "a") == session(crew, "b") == "s-1"


def test_it_begins_anew_elsewhere_once_that_worker_is_lost_or_drained() -> None:
    crew = talking("a", "b")
    assert crew.place() == ["a web1-1", "b web2-1"]
    crew.down("web1")
    crew.end("a", FAIL, agent=TALK)
    crew.end("b", FAIL, agent=TALK)
    assert crew.place() == ["b web2-1"]
    assert crew.strand({"web1": "no route"}) == {}
    assert crew.place() == ["a web2-2"]
    assert (session(crew, "a"), session(crew, "b")) == ("", "s-1")
    crew.up("web1")
    crew.end("b", FAIL, agent=TALK)
    crew.ask(c.Drain(worker="web2", on=True, reason="new kernel"))
    assert crew.strand({}) == {} and crew.place() == ["b web1-1"]
    assert session(crew, "b") == ""


def test_who_does_not_go_on_with_it_goes_anywhere() -> None:
    crew = talking("a", "b", "c", resume_session=False)
    assert crew.place() == ["a web1-1", "b web2-1", "c web1-2"]
    crew.end("b")
    crew.end("a", FAIL, agent=TALK)
    assert crew.place() == ["a web2-1"]


def test_what_it_said_while_it_ran_is_where_it_ran() -> None:
    crew = talking("a")
    (placed,) = crew.due()
    heard = c.ReportProgress(
        attempt=placed.attempt, worker=placed.worker, src=("j", 1), agent=AgentFacts(session="s-2")
    )
    assert isinstance(crew.ask(heard), e.AttemptProgressed)
    crew.down("web2")
    assert session(crew, "a") == "s-2"
