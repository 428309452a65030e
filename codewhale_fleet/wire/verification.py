"""Verification in a spec: what must hold for scorers that are processes, and for chains of scorers.

Promises that a chain without findings can be performed as it stands: each step can decide, each
verifier is an agent that there is, and feedback has an attempt that it can go to. `named` writes
the agent's name where a verifier names none. Knows no files and no lines.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from ..core.spec import CommandScorer, Manual, Scorer, Task, VerifierPrompt
from .problems import Found, Path, excerpt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agents import Agents
    from .unenforced import Waivers

ARGUMENT_BYTES = 131_071
"""The longest argument that Linux gives to a program (MAX_ARG_STRLEN less its NUL)."""


def problems(task: Task) -> Iterator[Found]:
    """Every rule that a task's chain, and its scorers that are processes, break."""
    for path, scorer in _scorers(task):
        if isinstance(scorer, CommandScorer):
            yield from _text(scorer.command, (*path, "command"))
            for index, argument in enumerate(scorer.args):
                yield from _argument(argument, (*path, "args", index))
        elif isinstance(scorer, VerifierPrompt):
            yield from _text(scorer.prompt, (*path, "prompt"), limited=False)
    chain = task.verify
    if chain is None:
        return
    if task.scorer is not None:
        yield Found(("verify",), "is not allowed together with scorer", "make the scorer a step")
    for index, step in enumerate(chain.steps[:-1]):
        if isinstance(step, Manual):
            message = "must be the last step: a person's verdict decides, and nothing comes after"
            yield Found(("verify", "steps", index, "kind"), message, value="manual")
    if chain.on_fail != "retry_with_feedback":
        return
    policy = task.retry_policy
    if policy is None or policy.max_attempts < 2:
        has = "there is no retry_policy" if policy is None else "retry_policy.max_attempts is 1"
        yield Found(
            ("verify", "on_fail"),
            f"is retry_with_feedback, and {has}: no attempt could be told anything",
            "add retry_policy = { max_attempts = 3 } to the task",
        )


def verifier_problems(task: Task, agents: Agents, waivers: Waivers) -> Iterator[Found]:
    """What is wrong with the agents that verify; those that are right are used from now on.

    What they use is the task's, so what its budget caps they must report.
    """
    from .agents import cap_problems

    seen = {task.agent}
    for path, scorer in judges(task):
        if scorer.agent is None:
            hint = 'name one: agent = "claude"; or set one for all: [fleet] default_agent'
            message = "is needed: there is neither an agent of the task nor a default agent"
            yield Found((*path, "agent"), message, hint)
        elif (agent := agents.use(scorer.agent)) is None:
            yield Found((*path, "agent"), *agents.unknown(scorer.agent), excerpt(scorer.agent))
        elif task.agent is not None and task.budget is not None and scorer.agent not in seen:
            seen.add(scorer.agent)
            yield from cap_problems(scorer.agent, agent, task.budget, waivers)


def named(task: Task, agents: Agents) -> Task:
    """The task, with the names of the agents that verify."""
    name = task.agent or agents.roster.default
    if task.scorer is not None:
        task = replace(task, scorer=_named(task.scorer, name))
    if task.verify is not None:
        steps = [_named(step, name) for step in task.verify.steps]
        task = replace(task, verify=replace(task.verify, steps=steps))
    return task


def _named(scorer: Scorer, name: str | None) -> Scorer:
    if isinstance(scorer, VerifierPrompt) and scorer.agent is None and name is not None:
        return replace(scorer, agent=name)
    return scorer


def judges(task: Task) -> Iterator[tuple[Path, VerifierPrompt]]:
    """The verdicts of agents that a task asks for, each with its path."""
    for path, scorer in _scorers(task):
        if isinstance(scorer, VerifierPrompt):
            yield path, scorer


def _scorers(task: Task) -> Iterator[tuple[Path, Scorer]]:
    if task.scorer is not None:
        yield ("scorer",), task.scorer
    if task.verify is not None:
        for index, step in enumerate(task.verify.steps):
            yield ("verify", "steps", index), step


def _text(text: str, path: Path, *, limited: bool = True) -> Iterator[Found]:
    if not text.strip():
        yield Found(path, "must not be blank")
    if limited:
        yield from _argument(text, path)
    elif "\0" in text:
        yield Found(path, "must not contain a NUL character")


def _argument(text: str, path: Path) -> Iterator[Found]:
    if "\0" in text:
        yield Found(path, "must not contain a NUL character")
    size = len(text.encode())
    if size > ARGUMENT_BYTES:
        message = f"takes {size:,} bytes; one argument may take {ARGUMENT_BYTES:,}"
        yield Found(path, message, "put the text into a file, and run that")
