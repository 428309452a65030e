"""fleet.toml: what holds for every run of a fleet.

So far `[fleet] max_workers`. Promises that nothing else in the file is passed over: an unknown name
is refused with the nearest known one, a name whose enforcement comes later is refused with a
sentence, and all problems are told at once. Knows nothing of where fleets lie.
"""

from pathlib import Path
from typing import Any

from msgspec import Struct

from ..core.spec import MAX_WORKERS
from .problems import Problem, SpecProblems, excerpt

NAME = "fleet.toml"
MAX_BYTES = 1024 * 1024
"""Largest file that is read."""

NOT_YET = {
    "agents": "agents come later",
    "alerts": "alerts come later",
    "inventory": "discovery of workers comes later",
    "retention": "clean-up by age comes later",
    "roles": "roles come later",
    "security_policy": "trust levels and secret policies come later",
    "workers": "only local workers run tasks so far",
    "fleet.allow_unenforced": "waive with fleet run --allow-unenforced so far",
    "fleet.default_agent": "agents come later",
    "fleet.heartbeat_record_seconds": "the timings are fixed so far",
    "fleet.lease_seconds": "leases of remote workers come later",
}
"""Names that will have a meaning -> why they are refused today."""

_KNOWN = ("fleet", "fleet.max_workers", *NOT_YET)


class FleetFile(Struct, frozen=True, kw_only=True):
    """What a fleet.toml says; None where it says nothing."""

    max_workers: int | None = None
    """Most attempts of a run at once, where neither the run nor its spec says."""


def read(root: Path) -> FleetFile:
    """The fleet.toml of a fleet's root; all defaults where there is none."""
    path = root / NAME
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return FleetFile()
    except OSError as error:
        _refuse(str(path), f"cannot be read: {error.strerror}", f"ls -ld {path}")
    return parse(data, str(path))


def parse(data: bytes, name: str = NAME) -> FleetFile:
    """A fleet.toml from its bytes; SpecProblems with everything that is wrong."""
    import tomllib

    if len(data) > MAX_BYTES:
        _refuse(name, "is larger than 1 MiB", "fleet init writes one in an empty directory")
    try:
        text = data.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        _refuse(name, f"not UTF-8 (byte 0x{data[error.start]:02x})", line=line)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        _refuse(name, f"no TOML: {str(error) or 'too deep'}", line=_line_in(str(error)))
    problems = list(_problems(document, text, name))
    if problems:
        raise SpecProblems(problems)
    return FleetFile(max_workers=document.get("fleet", {}).get("max_workers"))


def _problems(document: dict[str, Any], text: str, name: str) -> "list[Problem]":
    found = []

    def add(field: str, message: str, hint: str = "") -> None:
        line = _line_of(text, field)
        found.append(Problem(file=name, line=line, field=field, message=message, hint=hint))

    for key, value in document.items():
        if key in NOT_YET:
            add(key, f"not enforced yet: {NOT_YET[key]}", "remove it")
        elif key != "fleet":
            add(key, *_unknown(key))
        elif not isinstance(value, dict):
            add(key, f"{excerpt(value)} where the table [fleet] is allowed")
        else:
            for inner in value:
                field = f"fleet.{inner}"
                if field in NOT_YET:
                    add(field, f"not enforced yet: {NOT_YET[field]}", "remove it")
                elif inner != "max_workers":
                    add(field, *_unknown(field))
            workers = value.get("max_workers", 1)
            if type(workers) is not int or not 1 <= workers <= MAX_WORKERS:
                allowed = f"allowed is a whole number from 1 to {MAX_WORKERS}"
                add("fleet.max_workers", f"{excerpt(workers)}; {allowed}")
    return found


def _unknown(field: str) -> tuple[str, str]:
    from difflib import get_close_matches

    near = get_close_matches(field, _KNOWN, 1) or get_close_matches(
        f"fleet.{field}", [name for name in _KNOWN if "." in name], 1
    )
    if near:
        return f"unknown; did you mean {near[0]}?", ""
    return "unknown", "so far fleet.toml knows [fleet] max_workers"


def _line_of(text: str, field: str) -> int:
    """The line where a key of the top or of [fleet] is written; 0 where it cannot be told."""
    import re

    key = rf"""["']?{re.escape(field.rpartition(".")[2])}["']?"""
    wanted = re.compile(
        rf"\s*\[\[?\s*{key}[\s.\]]|\s*(?:fleet\.)?{key}\s*[=.]|[^#]*[{{,]\s*{key}\s*="
    )
    for number, line in enumerate(text.split("\n"), 1):
        if wanted.match(line):
            return number
    return 0


def _line_in(message: str) -> int:
    _, found, rest = message.partition("(at line ")
    number = rest.partition(",")[0]
    return int(number) if found and number.isdigit() else 0


def _refuse(name: str, message: str, hint: str = "", line: int = 0) -> "Any":
    raise SpecProblems([Problem(file=name, line=line, field="", message=message, hint=hint)])
