"""Whether an agent that failed had reached a usage limit, and until when it is not to be asked.

Looks for the patterns of its definition in its own words of failure, then in its last line, then in
the ends of its logs. Promises: an attempt that did not fail, or that was ended for another
reason, met no limit; of a time that cannot be read, or has passed, nothing is said.
"""

from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from ..agents.definition import Agent, decode_agent
from ..agents.until import until
from ..core.events import AttemptEnded, Quota, Step
from ..core.spec import Task
from ..core.state import Run
from ..core.tasks import judges_of
from ..scoring.reading import quote
from ..worker.logs import read_log

WAITS = "limit"
"""Why the runtime ends an agent that said so itself, and would wait instead of ending."""

TAIL_BYTES = 4096
"""How much of the end of a log is looked through."""


def quota_of(run: Run, task: Task, ended: AttemptEnded, now: float, folder: Path) -> Quota | None:
    """The usage limit that ended an attempt, or kept its verifier from judging it; None where there
    was none. `folder`: the fleet's."""
    if ended.why not in ("", WAITS) or ended.unstarted:
        return None
    if found := _met(run, task.agent, ended, now, folder):
        return found
    asked = [step for step in ended.steps if step.kind == "agent"]
    for judge, step in zip(judges_of(task), asked, strict=False):
        if step.why not in ("", WAITS):
            break
        if found := _met(run, judge.agent, step, now, folder):
            return replace(found, verifier=True)
    return None


def _met(
    run: Run, name: str | None, ended: AttemptEnded | Step, now: float, folder: Path
) -> Quota | None:
    """The usage limit that the agent of this name met in a process of its own."""
    said = ended.agent
    if name not in run.agents or (ended.exit == 0 and not (said and said.error)):
        return None
    agent = decode_agent(run.agents[name])
    found = _limit(agent, ended, folder)
    at = said.resets_at if said else 0.0
    if found is None and at <= now and ended.why != WAITS:
        return None
    words, time = found or ((said.error or said.note) if said else "", "")
    when = at if at > now else until(time, now) if time else None
    seconds = when - now if when else (agent.quota.wait_seconds or 0) if agent.quota else 0
    return Quota(agent=name, seconds=round(max(0.0, seconds), 3), words=quote(words, 200))


def _limit(agent: Agent, ended: AttemptEnded | Step, folder: Path) -> tuple[str, str] | None:
    """The line that tells of a limit, and its words for the time."""
    if agent.quota is None or not agent.quota.patterns:
        return None
    from ..scoring.regex_match import compiled

    for text in _texts(ended, folder):
        data = text.encode(errors="replace")
        for pattern in agent.quota.patterns:
            match = compiled(pattern).search(data)
            if match is None:
                continue
            start = data.rfind(b"\n", 0, match.start()) + 1
            end = data.find(b"\n", match.end())
            line = data[start : end if end >= 0 else len(data)]
            words = line if len(line) <= 500 else match.group()
            time = match.groupdict().get("until") or b""
            return words.decode(errors="replace"), time.decode(errors="replace")
    return None


def _texts(ended: AttemptEnded | Step, folder: Path) -> Iterator[str]:
    if ended.agent:
        yield ended.agent.error
        if not ended.agent.error:
            yield ended.agent.note
    for stream in ("err", "out"):
        if stream in ended.logs:
            data, _ = read_log(folder / ended.logs[stream].path, TAIL_BYTES)
            yield data.decode(errors="replace")
