"""A script that came by its digest: what is executed for it, with the words of its command.

Promises that its first line decides, as the kernel has it decide (`#!PROGRAM [ONE ARGUMENT]`), and
`/bin/sh` where it has none; the file needs no rights and may lie where nothing can be executed.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LINE_BYTES = 256
"""How much of a first line the kernel reads."""


def path_of(fleet_dir: str, digest: str) -> str:
    """Where the file lies, as a child sees it: carried here, or kept here from the beginning."""
    place = os.path.realpath(fleet_dir)
    found = f"{place}/inputs/{digest}"
    return found if os.path.exists(found) else f"{place}/evidence/{digest}"


def command(path: str, words: Sequence[str]) -> list[str]:
    """What runs the script at `path`; `words` are its name and its arguments. Raises OSError."""
    with open(path, "rb") as file:
        line = file.read(_LINE_BYTES).partition(b"\n")[0]
    program = ["/bin/sh"]
    if line[:2] == b"#!":
        program = line[2:].decode("utf-8", "surrogateescape").split(None, 1) or program
    return [*(word.strip() for word in program), path, *words[1:]]
