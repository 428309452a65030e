"""`fleet skill`: the manager's runbook for agents, as SKILL.md or as a section of AGENTS.md.

Made of what is declared, like --help; tests/cli/test_skill.py types every call that stands in it.
Promises that nothing which somebody else wrote is overwritten: of a file that is there only its
own marked section is replaced, by renaming a new file over it.
"""

import os
import re
from pathlib import Path

from ..errors import FleetError, Refused
from .common import Context, print_json
from .runbook import ABOUT, EXITS, HOW_TO, RESULTS, RULE, SOURCES, commands

NAME = "codewhale-fleet"
"""Of the skill, and of the directory that holds it."""

FORMATS = ("skill", "agents")

BEGIN = "<!-- fleet skill: written by the command of that name; what stands between is replaced -->"
END = "<!-- fleet skill: end -->"

MAX_BYTES = 4 * 1024 * 1024
"""Largest file that a section is put into."""

DESCRIPTION = (
    "Runs many tasks, commands or agents side by side with the fleet command, durably, with a "
    "receipt for each. Use it whenever the same thing is to be done for many inputs, files, hosts "
    "or tasks, when work must survive a crash or a closed terminal, or when a run of a fleet is to "
    "be watched, decided or verified. Use it instead of shell loops, xargs, nohup and background "
    "jobs."
)

EXAMPLE = """\
```toml
# checks.toml
[[tasks]]
id = "unit"
command = "test -e fixed"

[[tasks]]
id = "notes"
command = "echo reviewed > notes.md"
scorer = { kind = "manual" }
```

```sh
fleet check checks.toml
fleet run checks.toml --detach --json
fleet wait @last --asked --timeout 600 || echo "exit code $?"
fleet receipts @last --json
fleet logs @last
touch fixed
fleet restart @last/unit
fleet wait @last/unit
fleet verify @last/notes --pass --note "read it"
fleet status @last --json
fleet exec --on local -- uptime
printf '%s\\n' alpha beta gamma | fleet run --each - --json -- echo {}
```
"""


def skill(
    *,
    path: str | None = None,
    format: str | None = None,
    write: bool = False,
    ctx: Context,
) -> int:
    """Print the runbook, or put it where agents look."""
    kind = _format(format, path)
    if path is not None and not write:
        raise FleetError(
            f"{path} is named, and nothing is written without --write.",
            f"fleet skill --write {path}",
            field="PATH",
        )
    if not write:
        text = whole() if kind == "skill" else section()
        if ctx.json:
            print_json({"format": kind, "text": text})
        else:
            print(text, end="")
        return 0
    root = Path(ctx.find_root() or ctx.cwd or Path.cwd())
    file = (
        Path(ctx.cwd or Path.cwd(), path).expanduser() if path else root / default_path(root, kind)
    )
    done = put(file, kind)
    if ctx.json:
        print_json({"format": kind, "path": str(file), "done": done})
    elif not ctx.quiet:
        print(f"{_shown(file, ctx)}: {done}.")
    return 0


def _format(format: str | None, path: str | None) -> str:
    """As asked; else by the name of the file: SKILL.md is a skill, any other one has sections."""
    if format is None:
        return "skill" if path is None or Path(path).name == "SKILL.md" else "agents"
    if format not in FORMATS:
        raise FleetError(
            f'"{format}" is no format; there are {" and ".join(FORMATS)}.',
            "fleet skill --format agents",
            field="--format",
        )
    return format


def default_path(root: Path, kind: str) -> str:
    """Where agents look: `.agents/skills`, or `.claude/skills` in a project that has only that."""
    if kind == "agents":
        return "AGENTS.md"
    only_claude = (root / ".claude").is_dir() and not (root / ".agents").is_dir()
    return f"{'.claude' if only_claude else '.agents'}/skills/{NAME}/SKILL.md"


def _shown(file: Path, ctx: Context) -> str:
    here = Path(ctx.cwd or Path.cwd())
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)


# The text -------------------------------------------------------------------------------------


def whole() -> str:
    """The text of a SKILL.md."""
    return f"---\nname: {NAME}\ndescription: {DESCRIPTION}\n---\n\n{section()}"


def section() -> str:
    """The marked section: all of a SKILL.md but its head, and what AGENTS.md gets."""
    return f"{BEGIN}\n{body()}{END}\n"


def body() -> str:
    """The runbook."""
    parts = [
        "# Many tasks at once: fleet\n",
        "`fleet` runs commands and agents side by side. Each attempt stands in one ledger before "
        "it starts, goes on when you are gone, and ends with a receipt. Answers go to stdout, "
        "progress to stderr; every command takes `--json`. `@last` is the newest run.\n",
        "What this fleet has, its limits and every command in 8 KB: `fleet describe --json`\n",
        "## Instead of a loop\n",
        f"{RULE}\n",
        *(
            f"- {one.does}: {_calls(one.reach.use_instead)}"
            for one in commands()
            if one.reach.fan_out
        ),
        "",
    ]
    for what, steps in HOW_TO.items():
        parts += [f"## To {what}\n", f"{ABOUT[what]}\n"]
        parts += [f"- `{step.call}`: {step.does}" for step in steps] + [""]
    parts += [
        "## From beginning to end\n",
        EXAMPLE,
        "## What a receipt says\n",
        "A result names its judge and the evidence that it rests on:\n",
        *_listed(RESULTS),
        "Its source says whose fault it is when it is no pass:\n",
        *_listed(SOURCES),
        "## Exit codes\n",
        *_listed({str(code): words for code, words in EXITS.items()}),
        "A mistake with `--json` is one object on stderr; its `hint` says what to type.\n",
    ]
    return "\n".join(parts)


def _listed(words: dict[str, str]) -> list[str]:
    return [*(f"- {word}: {says}" for word, says in words.items()), ""]


def _calls(typed: str) -> str:
    return " or ".join(f"`{call}`" for call in typed.split(", or: "))


# Writing --------------------------------------------------------------------------------------


def put(file: Path, kind: str) -> str:
    """Write the text into a file, and say what was done. Only its own section is ever replaced."""
    file = Path(os.path.realpath(file))  # a link stays one
    try:
        before = _read(file)
        if before is None:
            file.parent.mkdir(parents=True, exist_ok=True)
            _replace(file, whole() if kind == "skill" else section())
            return "written"
        after = _renewed(before, kind, file)
        if after == before:
            return "already as it should be"
        _replace(file, after)
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise FleetError(
            f"{file} can't be written: {what}.", "Name another: fleet skill --write PATH"
        ) from None
    return "its section was renewed" if BEGIN in before else "a section was added at its end"


def _read(file: Path) -> str | None:
    """Its text; None where there is no such file. What is no text is refused."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(data) > MAX_BYTES:
        raise Refused(f"{file} is larger than 4 MiB.", "Name another: fleet skill --write PATH")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Refused(
            f"{file} is not UTF-8, so nothing is put into it.",
            "Name another: fleet skill --write PATH",
        ) from None


def _renewed(text: str, kind: str, file: Path) -> str:
    """The text with the section as it is now."""
    if BEGIN not in text and END not in text:
        if kind == "skill":
            raise Refused(
                f"{file} is there, and fleet has not written it.",
                "Move it, or name another: fleet skill --write PATH",
            )
        gap = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
        return f"{text}{gap}{section()}"
    own = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}\n?", re.DOTALL)
    if (text.count(BEGIN), text.count(END), len(own.findall(text))) != (1, 1, 1):
        raise Refused(
            f"{file} has the marks of fleet's section more than once, or one without the other.",
            f"Leave one section, from a line\n{BEGIN}\nto a line\n{END}\nor none.",
        )
    return own.sub(lambda _: section(), text)


def _replace(file: Path, text: str) -> None:
    """All of it, or nothing; what may be done with the file stays as it was."""
    new = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        with new.open("x", encoding="utf-8", newline="") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        if file.exists():
            new.chmod(file.stat().st_mode & 0o7777)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
