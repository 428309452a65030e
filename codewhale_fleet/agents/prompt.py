"""A task, as one prompt in Markdown: all that an agent is told, in the order in which it reads.

Pure. Promises that what people wrote stands in it word for word, that each promised artifact has a
place in it, and that the same task and story make the same text. Texts with NUL bytes never come
here: `wire/validate.py` refuses them.
"""

from collections.abc import Iterator

from msgspec import Struct

from ..core import spec
from ..core.roles import profile_of

ALWAYS_THERE = frozenset(("log", "receipt", "prompt", "patch"))
"""Artifact kinds that the runtime makes itself."""


class Story(Struct, frozen=True, kw_only=True):
    """What is not in the spec: which attempt this is, and what came before it."""

    run: str
    attempt: int = 1
    left: dict[str, float] = {}
    """What is left of each cap."""
    feedback: str = ""
    """What the verifier of the attempt before said."""
    continues: bool = False
    """The workspace is as the attempt before left it."""
    resumes: bool = False
    """The agent's own conversation goes on."""
    checkpoint: str = ""
    """What the attempt before noted down for this one."""
    role: tuple[str, ...] = ()
    """What its roles say."""
    reads_together: bool = False
    """The policy lets it make several calls at once that only read."""
    answer: str = ""
    """The kind of artifact that its last message is, where it hands over no file."""


def render(task: spec.Task, story: Story) -> str:
    """The prompt of one attempt."""
    parts = [f"# {(task.name or task.id).strip()}"]
    for title, lines in (
        ("", _opening(task, story)),
        ("Your role", _role(story)),
        ("The attempt before", _before(story)),
        ("Objective", _text(task.objective or task.description)),
        ("Instructions", _text(task.instructions)),
        ("Context", (f"- {line.strip()}" for line in task.context)),
        ("Input files", (f"- `{path}`" for path in task.input_files)),
        ("What must be there at the end", _results(task, story)),
        ("Limits", _limits(task, story)),
        ("While you work", _reporting()),
    ):
        text = "\n".join(lines)
        if text:
            parts.append(f"## {title}\n\n{text}" if title else text)
    return "\n\n".join(parts) + "\n"


def _text(text: str | None) -> Iterator[str]:
    if text and text.strip():
        yield text.strip("\n")


def _opening(task: spec.Task, story: Story) -> Iterator[str]:
    again = f", attempt {story.attempt}" if story.attempt > 1 else ""
    yield f"This is the task `{task.id}` of the run `{story.run}`{again}."
    yield "Nobody sits beside you: decide for yourself, finish the work, and end with a short"
    yield "summary of what you did and what is left."
    if name := _role_of(task):
        yield f"Your role: {name}."


def _role_of(task: spec.Task) -> str:
    return (task.worker.role or task.worker.agent_profile or "") if task.worker else ""


def _role(story: Story) -> Iterator[str]:
    for text in story.role:
        yield from _text(text)


def _before(story: Story) -> Iterator[str]:
    if story.resumes:
        yield "You go on with your own earlier conversation about this task."
    if story.continues:
        yield "The files are as the attempt before left them: look at what is done, and go on."
    if story.checkpoint:
        yield f"It noted down for you:\n\n{_quoted(story.checkpoint)}"
    if story.feedback:
        yield "Its result was not accepted. The verifier said:\n"
        yield _quoted(story.feedback)
        yield "\nPut that right."


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines())


def _results(task: spec.Task, story: Story) -> Iterator[str]:
    for kind in dict.fromkeys((*task.artifacts, *task.expected_artifacts)):
        if kind in ALWAYS_THERE:
            continue
        must = "" if kind in task.expected_artifacts else " (if there is one)"
        globs = task.artifacts.get(kind)
        if globs is None and kind == story.answer:
            yield f"- {kind}: your last message is it; or a file: `fleet artifact add {kind} PATH`"
        elif globs is None:
            yield f"- {kind}: write a file, and say where: `fleet artifact add {kind} PATH`"
        else:
            places = [globs] if isinstance(globs, str) else globs
            yield f"- {kind}{must}: {' or '.join(f'`{place}`' for place in places)}"
    match task.scorer:
        case spec.FileExists(path=path):
            yield f"- the file `{path}`"
        case spec.RegexMatch(path=path) | spec.JsonPath(path=path):
            yield f"- the file `{path}`, by which the result is judged"
    if task.artifacts or task.scorer is not None:
        yield from _relative(task)


def _relative(task: spec.Task) -> Iterator[str]:
    if task.workspace is not None and task.workspace.root != ".":
        up = "/".join(".." for _ in task.workspace.root.split("/"))
        yield f"\nThese paths start at the workspace, which is `{up}` from where you are."


def _limits(task: spec.Task, story: Story) -> Iterator[str]:
    place = task.workspace
    if profile_of(task.worker) == "read-only":
        yield "- Read and report: change no file of the project."
    if place is not None and place.writable_paths:
        paths = ", ".join(f"`{path}`" for path in place.writable_paths)
        yield f"- Write below {paths} only."
    if task.worker is not None and task.worker.tools:
        yield f"- Use these tools: {', '.join(task.worker.tools)}."
    if story.reads_together:
        yield "- You may make several tool calls at once, where they only read."
    for cap, words in (
        ("max_tokens", "tokens"), ("max_tool_calls", "tool calls"), ("max_cost_usd", "US dollars"),
    ):  # fmt: skip
        if cap in story.left:
            yield f"- At most {story.left[cap]:,.10g} {words}: you are stopped when they are used."
    seconds = [
        limit
        for limit in (task.timeout_seconds, story.left.get("max_seconds"))
        if limit is not None
    ]
    if seconds:
        yield f"- At most {min(seconds):,.10g} seconds."


def _reporting() -> Iterator[str]:
    yield "- To hand over a file: `fleet artifact add KIND PATH`"
    yield '- To say how far you are, in percent: `fleet progress 40 "what you do now"`'
    yield '- To ask a person, where you cannot decide: `fleet ask "QUESTION"` prints the answer'
    yield "- To leave something for the next attempt, should there be one: `fleet checkpoint PATH`"
