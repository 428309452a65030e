"""What is left of a value of the wrong shape, so that rules about the rest can be told too."""

from typing import Any, TypeVar

import msgspec

from ..core.spec import Document, Task
from .problems import Found, Path
from .walker import GONE, shape_of, walk

Kind = TypeVar("Kind", Document, Task)


def mended(tree: Any, kind: type[Kind], path: Path, reason: str, found: list[Found]) -> Kind | None:
    """The value without its wrong parts, which go to `found`; None if nothing is left.

    `reason` is told where no part of it is found to be wrong. A task without an id gets one that
    no other has.
    """
    before = len(found)
    left = walk(tree, shape_of(kind), path, found)
    if len(found) == before:
        found.append(Found(path, reason))
    stand_in = f"\0{len(found)}"
    is_nameless = left is GONE and kind is Task and isinstance(tree, dict)
    if is_nameless:
        left = walk({**tree, "id": "a"}, shape_of(kind), path, [])
    try:
        value = msgspec.convert(left, kind)
    except msgspec.ValidationError:
        return None
    return msgspec.structs.replace(value, id=stand_in) if is_nameless else value
