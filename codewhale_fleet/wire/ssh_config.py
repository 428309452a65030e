"""Hosts of an ssh configuration: the names that `Host` lines give, as workers.

Only names are read here. How a host is reached, as whom and through what stays in that file, which
the ssh connection reads itself each time. Promises to follow `Include` as ssh does, and to pass
over patterns, which name no machine.
"""

from collections.abc import Iterator
from pathlib import Path

from ..core.spec_hosts import SshHost, Worker
from ..errors import FleetError
from .worker_ids import id_of

DEPTH = 16
"""Files that may include each other, as with ssh."""

DEFAULT = Path("~/.ssh/config")


def ssh_hosts(path: Path = DEFAULT) -> list[Worker]:
    """A worker for each name that the file gives, in order; FleetError where there is none."""
    path = path.expanduser()
    names = dict.fromkeys(_names(path, path.parent, DEPTH))
    if not names:
        raise FleetError(
            f"{path} names no host: it has no Host line without a pattern.",
            "A host is named there by: Host web01",
            file=str(path),
        )
    return [Worker(id=id_of(name), name=name, host=SshHost(host=name)) for name in names]


def _names(path: Path, base: Path, depth: int) -> Iterator[str]:
    for number, (word, values) in enumerate(_lines(path), 1):
        if word == "include" and values:
            if not depth:
                hint = "does it include itself?"
                raise FleetError(
                    f"{path}:{number}: files include each other more than {DEPTH} times.", hint
                )
            for value in values:
                for one in _files(base, value):
                    yield from _names(one, base, depth - 1)
        elif word == "host":
            yield from (one for one in values if not any(sign in one for sign in "*?!"))


def _files(base: Path, pattern: str) -> list[Path]:
    """The files that an `Include` names; none is no mistake, as with ssh."""
    whole = base / Path(pattern).expanduser()
    return sorted(Path(whole.anchor).glob(str(whole.relative_to(whole.anchor))))


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(word in small letters, values) of each line."""
    try:
        text = path.read_text("utf-8", errors="surrogateescape")
    except OSError as error:
        hint = f"ls -l {path}" if path.exists() else "It is written for ssh: Host web01"
        raise FleetError(f"{path} cannot be read: {error.strerror}.", hint) from None
    for line in text.splitlines():
        word, values = _split(line)
        yield word.lower(), values


def _split(line: str) -> tuple[str, list[str]]:
    """A line as ssh splits it: blanks or one `=` behind the word, quotes around values."""
    line = line.strip()
    if not line or line.startswith("#"):
        return "", []
    end = next((at for at, sign in enumerate(line) if sign.isspace() or sign == "="), len(line))
    word, rest = line[:end], line[end:].strip().removeprefix("=").strip()
    values, value, quoted, begun = [], "", False, False
    for sign in rest:
        if sign == '"':
            quoted, begun = not quoted, True
        elif sign.isspace() and not quoted:
            if begun:
                values.append(value)
            value, begun = "", False
        elif sign == "#" and not begun:
            break
        else:
            value, begun = value + sign, True
    return word, [*values, value] if begun else values
