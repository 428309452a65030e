"""What must hold in a spec beyond the types: rules about values, and about fields together.

Each rule yields what it finds, so that all problems are told at once; paths begin at the value
that is checked. Promises that a task without findings can be run as it stands. Knows nothing of
files, lines or TOML, nor of what this version holds (`wire/unenforced.py`).
"""

from collections.abc import Iterable, Iterator
from math import isfinite
from operator import attrgetter
from typing import Any

from ..core.spec import (
    Document,
    FileExists,
    JsonPath,
    Manual,
    RegexMatch,
    Scorer,
    Task,
    Workspace,
    clean_path,
)
from ..core.spec_hosts import AlertPolicy, PagerDutyChannel, SlackChannel
from .literals import name_looks_secret
from .problems import Found, Path, excerpt

NAME_BYTES = 256
PATH_CHARACTERS = 512
ARGUMENT_BYTES = 131_071
"""The longest argument that Linux gives to a program (MAX_ARG_STRLEN less its NUL)."""
CONTRACTS = 16
CONTRACT_CHARACTERS = 128
ALWAYS_THERE = frozenset(("log", "receipt"))
"""Artifact kinds that every attempt has."""
PATCH = "patch"
"""Artifact kind of what an attempt with a directory of its own has changed."""
PROMPT = "prompt"
"""Artifact kind of what an agent was told."""

_QUICK = ("id", "name", "command", "agent", "timeout_seconds")
_REST = attrgetter(*(field for field in Task.__struct_fields__ if field not in _QUICK))
_REST_BLANK = _REST(Task(id="a"))


def is_plain_and_right(task: Task) -> bool:
    """Whether a task says only what to run, and breaks no rule: a quick yes for most tasks."""
    command = task.command
    if not command or _REST(task) != _REST_BLANK or task.agent is not None:
        return False
    text = command if type(command) is str else "\n".join(command)
    if "\0" in text or len(text) > ARGUMENT_BYTES // 4 or not command[0].lstrip():
        return False
    if text.isspace() or task.id in (".", ".."):
        return False
    name = task.name
    return name is None or (len(name) < 64 and name.isprintable() and name.strip() != "")


def task_problems(task: Task) -> Iterator[Found]:
    """Every rule that one task breaks."""
    if task.id in (".", ".."):
        yield Found(("id",), "must be more than dots: it names files")
    yield from _work(task)
    yield from _texts(task)
    if task.workspace is not None:
        yield from _workspace(task.workspace)
    yield from _artifacts(task)
    if task.retry_policy is not None and task.retry_policy.continue_ and not _isolated(task):
        yield Found(
            ("retry_policy", "continue"),
            "needs workspace.isolation: without it there is no patch to go on from",
            'add workspace = { isolation = "worktree" } to the task',
        )
    if task.retry_policy is not None and task.retry_policy.resume_session:
        yield from _resumed(task)
    if task.scorer is not None:
        yield from _scorer(task.scorer, ("scorer",))
    if task.verify is not None:
        for index, step in enumerate(task.verify.steps):
            yield from _scorer(step, ("verify", "steps", index))
    if task.scorer is not None or task.verify is not None:
        from . import verification

        yield from verification.problems(task)
    if task.worker is not None and task.worker.type and task.worker.name:
        yield Found(("worker", "name"), "is not allowed together with worker.type")
    if task.alert_policy is not None:
        yield from _channels(task.alert_policy)
    if task.metadata:
        yield from _metadata(task)
    for field in ("for_each", "outputs"):
        yield from _numbers(getattr(task, field), (field,))
    if task.worker is not None:
        yield from _numbers(task.worker.args, ("worker", "args"))


def document_problems(document: Document) -> Iterator[Found]:
    """Every rule that is broken outside the tasks."""
    if document.name:
        yield from title_problems(document.name, ("name",))
    for name, given in document.inputs.items():
        yield from _numbers(given.default, ("inputs", name, "default"))
        yield from _numbers(given.choices, ("inputs", name, "choices"))
    for name, kind in document.worker_types.items():
        yield from _numbers(kind.args, ("worker_types", name, "args"))


def _work(task: Task) -> Iterator[Found]:
    if task.command is None:  # wire/agents.py looks at it
        return
    if task.agent is not None:
        yield Found(("agent",), "is not allowed together with command", "leave one of them out")
    if isinstance(task.command, str):
        if not task.command or task.command.isspace():
            yield Found(("command",), "must not be blank")
        yield from _argument(task.command, ("command",))
        return
    if not task.command[0] or task.command[0].isspace():
        yield Found(("command", 0), "must not be blank: it is the program")
    for index, argument in enumerate(task.command):
        yield from _argument(argument, ("command", index))


def _argument(text: str, path: Path) -> Iterator[Found]:
    if "\0" in text:
        yield Found(path, "must not contain a NUL character")
    if len(text) > ARGUMENT_BYTES // 4:
        size = len(text.encode())
        if size > ARGUMENT_BYTES:
            yield Found(
                path,
                f"takes {size:,} bytes; one argument may take {ARGUMENT_BYTES:,}",
                "put the text into a file, and run that",
            )


def _texts(task: Task) -> Iterator[Found]:
    if task.name is not None:
        yield from title_problems(task.name, ("name",))
    for field in ("objective", "instructions"):
        text = getattr(task, field)
        if text is not None and not text.strip():
            yield Found((field,), "must not be blank", "leave it out, or write it")
    for index, tag in enumerate(task.tags):
        if not tag.strip():
            yield Found(("tags", index), "must not be blank")
        elif tag in task.tags[:index]:
            yield Found(("tags", index), f"{excerpt(tag)} stands there twice", value=excerpt(tag))


def title_problems(name: str, path: Path) -> Iterator[Found]:
    """What is wrong with a title."""
    if not name.strip():
        yield Found(path, "must not be blank", "leave it out, or write it")
    if len(name.encode()) > NAME_BYTES:
        yield Found(path, f"takes {len(name.encode())} bytes; at most {NAME_BYTES} are allowed")
    if not name.isprintable() and any(ord(sign) < 32 or ord(sign) == 127 for sign in name):
        yield Found(path, "must not contain control characters", value=excerpt(name))


def _path(text: str, path: Path) -> Iterator[Found]:
    try:
        clean_path(text)
    except ValueError as error:
        yield Found(path, f"is {excerpt(text)}: {error}", value=excerpt(text))
    if len(text) > PATH_CHARACTERS:
        yield Found(path, f"has {len(text)} characters; at most {PATH_CHARACTERS} are allowed")


def _file(text: str, path: Path) -> Iterator[Found]:
    """A path that must name a file, not the workspace itself."""
    if text.strip():
        yield from _path(text, path)
    else:
        yield Found(path, "must not be blank")


def _workspace(workspace: Workspace) -> Iterator[Found]:
    yield from _path(workspace.root, ("workspace", "root"))
    for index, text in enumerate(workspace.writable_paths):
        yield from _path(text, ("workspace", "writable_paths", index))
    for field in ("required_files", "include"):
        for index, text in enumerate(getattr(workspace, field)):
            yield from _file(text, ("workspace", field, index))
    if workspace.include and workspace.isolation == "worktree":
        yield Found(
            ("workspace", "include"),
            "says what the task gets, and isolation by worktree says another thing",
            'isolation = "copy" makes the copy, and the patch, of what is included',
        )
    if workspace.environment is None:
        return
    for field in ("required", "allowlist"):
        for index, name in enumerate(getattr(workspace.environment, field)):
            yield from variable_problems(name, ("workspace", "environment", field, index))


def variable_problems(
    name: str, path: Path, *, of_agent: bool = False, valued: bool = False
) -> Iterator[Found]:
    """What is wrong with a variable's name; one that looks like a secret's where it is passed on.

    `valued`: a value is written beside it, which is looked at instead.
    """
    if not name.strip():
        yield Found(path, "must not be blank")
    elif not name.isprintable() or any(sign in name for sign in "= *?[]$"):
        yield Found(
            path, f"{excerpt(name)} is no variable's name", "names are whole, without = or *"
        )
    elif not valued and name_looks_secret(name):
        whose = "the agent" if of_agent else "the task"
        yield Found(
            path,
            f"{excerpt(name)} looks like a secret's name, and may not be passed on this way",
            f'make it a secret of {whose}: secrets = ["{name}"]',
            value=excerpt(name),
        )


def _artifacts(task: Task) -> Iterator[Found]:
    for kind, globs in task.artifacts.items():
        if not kind.strip():
            yield Found(("artifacts", kind), "has a blank kind")
        elif kind == PROMPT or (kind == PATCH and _isolated(task)):
            yield Found(("artifacts", kind), f"{kind} is what the fleet keeps itself", "rename it")
        if isinstance(globs, str):
            yield from _file(globs, ("artifacts", kind))
            continue
        if not globs:
            yield Found(("artifacts", kind), "must not be empty", "write where it lies")
        for index, glob in enumerate(globs):
            yield from _file(glob, ("artifacts", kind, index))
    for index, kind in enumerate(task.expected_artifacts):
        if kind in task.artifacts or kind in ALWAYS_THERE:
            continue
        if kind == PATCH and _isolated(task):
            continue
        if not kind.strip():
            yield Found(("expected_artifacts", index), "must not be blank")
            continue
        if task.command is None:  # an agent says it itself: fleet artifact add
            continue
        yield Found(
            ("expected_artifacts", index),
            f"nothing says where {excerpt(kind)} lies, so it could never appear",
            f'add artifacts = {{ {excerpt(kind)} = "out/*" }} to the task',
            value=excerpt(kind),
        )


def _resumed(task: Task) -> Iterator[Found]:
    path: Path = ("retry_policy", "resume_session")
    if task.command is not None:
        yield Found(path, "is for agents: a command has no conversation", "leave it out")


def _isolated(task: Task) -> bool:
    return task.workspace is not None and task.workspace.isolation != "none"


def _scorer(scorer: Scorer, path: Path) -> Iterator[Found]:
    if isinstance(scorer, Manual):
        return
    if isinstance(scorer, (FileExists, RegexMatch, JsonPath)):
        yield from _file(scorer.path, (*path, "path"))
    if isinstance(scorer, RegexMatch):
        from .patterns import pattern_flaw

        if flaw := pattern_flaw(scorer.pattern):
            hint = "RE2 has no look-around and no back-references"
            found = f"is no RE2 pattern: {flaw}"
            yield Found((*path, "pattern"), found, hint, excerpt(scorer.pattern))
    if isinstance(scorer, JsonPath):
        from .patterns import expression_flaw

        if flaw := expression_flaw(scorer.expression):
            hint = "such as $.a.b, .a.b or $.list[0].name"
            found = f"is no JSON path: {flaw}"
            yield Found((*path, "expression"), found, hint, excerpt(scorer.expression))


def _channels(policy: AlertPolicy) -> Iterator[Found]:
    from typing import get_args

    from ..core.alert_config import Severity
    from ..core.secrets import KEY

    severities = get_args(Severity)
    for index, channel in enumerate(policy.channels):
        path: Path = ("alert_policy", "channels", index)
        field = "routing_key" if isinstance(channel, PagerDutyChannel) else "url"
        hint = "write url_ref with the name of the secret that holds it"
        if getattr(channel, field) is not None:
            yield Found((*path, field), "must not stand in a spec: the ledger would keep it", hint)
        elif channel.url_ref is None:
            yield Found(path, "does not say where to", hint)
        if isinstance(channel, SlackChannel) and channel.secret_ref is not None:
            yield Found((*path, "secret_ref"), "means nothing to Slack", "leave it out")
        if isinstance(channel, PagerDutyChannel) and channel.severity not in severities:
            known = f"one of {', '.join(severities)}"
            found = f"is {excerpt(channel.severity)}, and must be {known}"
            yield Found((*path, "severity"), found, value=excerpt(channel.severity))
        for field in ("url_ref", "secret_ref"):
            name = getattr(channel, field, None)
            if name is not None and not KEY.fullmatch(name):
                yield Found((*path, field), f"{excerpt(name)} can be no secret's name")


def _metadata(task: Task) -> Iterator[Found]:
    yield from _numbers(task.metadata, ("metadata",))
    if "priority" in task.metadata:
        path: Path = ("metadata", "priority")
        priority = task.metadata["priority"]
        if type(priority) is not int or not -(2**31) <= priority < 2**31:
            yield Found(
                path,
                f"must be an integer of 32 bits, not {excerpt(priority)}",
                value=excerpt(priority),
            )
        elif task.priority not in (0, priority):
            yield Found(path, f"contradicts priority, which is {task.priority}")
    if "coordination_contracts" in task.metadata:
        yield from _contracts(task.metadata["coordination_contracts"])


def _contracts(names: Any) -> Iterator[Found]:
    path: Path = ("metadata", "coordination_contracts")
    if not isinstance(names, list):
        yield Found(path, "must be a list of names")
        return
    if len(names) > CONTRACTS:
        yield Found(path, f"has {len(names)} names; at most {CONTRACTS} are allowed")
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            yield Found((*path, index), "must be a name that is not blank")
        elif any(sign in name for sign in "\0\r\n"):
            yield Found((*path, index), "must be one line")
        elif len(name.strip()) > CONTRACT_CHARACTERS:
            yield Found((*path, index), f"may have at most {CONTRACT_CHARACTERS} characters")


def _numbers(tree: Any, path: Path) -> Iterator[Found]:
    """Free values must survive JSON: TOML's nan and inf would become null."""
    if type(tree) is float:
        if not isfinite(tree):
            yield Found(path, f"is {tree}, which is no number in JSON")
        return
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list):
        items = enumerate(tree)
    for key, value in items:
        yield from _numbers(value, (*path, key))
