"""What is wrong with a file that a person wrote: where, what, and how it is told.

Promises that all problems of a file are told together, in the order of its lines. Knows nothing of
what makes a spec right.
"""

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from ..errors import FleetError
from .literals import may_hold_secret

Path = tuple[str | int, ...]
"""Where a value stands in a document: keys and list indexes."""

Format = Literal["toml", "json"]

STDIN = "-"
SHOWN = 200
"""Problems that `problems_text` writes out; the rest is counted."""
EXCERPT = 60
"""Characters of a value that are shown."""


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One problem. `line` is 0 where it belongs to no line, `field` empty for the whole file."""

    file: str
    line: int
    field: str
    message: str
    hint: str = ""
    value: str = ""


class Found(Struct, frozen=True):
    """A problem before its line is known; the message ends with the place `also`, if any."""

    path: Path
    message: str
    hint: str = ""
    value: str = ""
    also: Path | None = None


class SpecProblems(FleetError):
    """A file that cannot be used; `problems` holds every reason, sorted by line."""

    code = "bad_spec"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line)
        first = self.problems[0]
        where = _place(first)
        what = ": ".join(part for part in (first.field, first.message) if part)
        if len(self.problems) == 1:
            sentence, hint = f"{where}: {_ended(what)}", first.hint
        else:
            sentence = (
                f"{named(first.file)} has {len(self.problems)} problems; {where}: {_ended(what)}"
            )
            hint = "" if first.file == STDIN else f"To see them all: fleet check {first.file}"
        super().__init__(
            sentence, hint, field=first.field or None, file=first.file, line=first.line or None
        )


def named(file: str) -> str:
    """A file as people call it."""
    return "standard input" if file == STDIN else file


def _place(problem: Problem) -> str:
    file = named(problem.file)
    return f"{file}:{problem.line}" if problem.line else file


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith("?") else f"{sentence}."


def field_name(path: Path) -> str:
    """`("tasks", 2, "scorer", "path")` as `tasks[2].scorer.path`."""
    name = ""
    for part in path:
        if isinstance(part, int):
            name += f"[{part}]"
        else:
            plain = part.replace("_", "").replace("-", "").replace("$", "").isalnum()
            shown = part if plain and part.isascii() else excerpt(part)
            name += f".{shown}" if name else shown
    return name


def excerpt(value: Any) -> str:
    """A value as a person would write it, short, on one line, and never a secret."""
    import json

    text = json.dumps(value, ensure_ascii=False, default=str)
    if may_hold_secret(text):
        return "[redacted]"
    if not text.isprintable():
        text = json.dumps(value, default=str)
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


def problems_text(problems: Sequence[Problem]) -> str:
    """All problems, aligned: place, field, message, and the hint below its message."""
    if not problems:
        return ""
    count = len(problems)
    lines = [f"{named(problems[0].file)}: {count} problem{'s' if count > 1 else ''}", ""]
    shown = problems[:SHOWN]
    places = [_place(problem) for problem in shown]
    left = max(map(len, places))
    middle = min(max(len(p.field) for p in shown), 40)
    for problem, place in zip(shown, places, strict=True):
        field = f"{problem.field:<{middle}}  " if middle else ""
        start = f"  {place:<{left}}  {field}"
        lines.append(start + problem.message)
        if problem.hint:
            lines.append(" " * (left + middle + (6 if middle else 4)) + problem.hint)
    if count > SHOWN:
        lines.append(f"  … and {count - SHOWN:,} more")
    return "\n".join(lines)
