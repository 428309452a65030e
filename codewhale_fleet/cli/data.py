"""`fleet data …`: values that the tasks of a run share, in versions; for tasks and for people.

Inside a task they go through its runtime, so that another task has them at once. With --run (or
outside a task) the ledger is asked, in rundata.py.
"""

# ruff: noqa: PTH123 (pathlib takes 12 ms)

import sys

from ..errors import FleetError
from ..worker.limits import DATA_BYTES
from ..worker.tags import Query, Wrong, name_of, read_tags
from . import inside
from .common import Context, import_msgspec, write_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any


def data_put(
    *,
    name: str,
    value: "str | None" = None,
    file: "str | None" = None,
    tags: "list[str] | None" = None,
    run: "str | None" = None,
    ctx: Context,
) -> int:
    """Put a value under the next version of its name."""
    task = _is_task(ctx, "data put", run, writes=True)
    try:
        name_of(name)
        given = read_tags(tags or ())
    except Wrong as wrong:
        raise _sentence(wrong) from None
    content = _content(value, file)
    if len(content) > DATA_BYTES:
        raise FleetError(
            f"a value may have {DATA_BYTES:,} bytes, and this has {len(content):,}.",
            "Hand over a file: fleet artifact add KIND PATH",
            code="too_large",
        )
    if task:
        import binascii

        encoded = binascii.b2a_base64(content, newline=False).decode()
        told = inside.request(ctx, "data put", "put", name=name, value=encoded, tags=given)
    else:
        told = _rundata().put(ctx, str(run), name, content, given)
    number = f"{told['name']} version {told['version']}"
    later = f"{told['name']} is kept; its version is given when this machine is connected again"
    return inside.say(ctx, told, number if told["version"] else later)


def _content(value: "str | None", file: "str | None") -> bytes:
    if (value is None) == (file is None):
        raise FleetError(
            "fleet data put needs a value: as a word, from stdin (-), or from a file.",
            "fleet data put NAME VALUE, or fleet data put NAME --file PATH",
        )
    if file is not None:
        with open(file, "rb") as source:
            return source.read(DATA_BYTES + 1)
    if value == "-":
        return sys.stdin.buffer.read(DATA_BYTES + 1)
    return str(value).encode("utf-8", "surrogateescape")


def data_get(
    *, name: str, version: "int | None" = None, run: "str | None" = None, ctx: Context
) -> int:
    """Print a value as it was put."""
    if _is_task(ctx, "data get", run):
        import binascii

        told = inside.request(ctx, "data get", "get", name=name, version=version)
        content = binascii.a2b_base64(told.pop("value"))
    else:
        told, content = _rundata().get(ctx, str(run), name, version or 0)
    if not ctx.json:
        write_bytes(content)
        return 0
    try:
        told["value"] = content.decode()
    except UnicodeDecodeError:
        import binascii

        told["base64"] = binascii.b2a_base64(content, newline=False).decode()
    return inside.say(ctx, told)


def data_list(*, run: "str | None" = None, ctx: Context) -> int:
    """List names with their newest version."""
    return _show(ctx, "data list", run, None)


def data_query(*, tagexpr: str, run: "str | None" = None, ctx: Context) -> int:
    """List those whose tags fit."""
    try:
        Query(tagexpr)
    except Wrong as wrong:
        raise _sentence(wrong) from None
    return _show(ctx, "data query", run, tagexpr)


def _show(ctx: Context, command: str, run: "str | None", query: "str | None") -> int:
    if _is_task(ctx, command, run):
        told = inside.request(ctx, command, "list", query=query)
    else:
        told = _rundata().listed(ctx, str(run), query)
    if ctx.json:
        return inside.say(ctx, told)
    for line in _columns(told["data"]):
        print(line)
    return 0


def _columns(rows: "list[dict[str, Any]]") -> "Iterable[str]":
    wide = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        tags = " ".join(f"{key}={value}" for key, value in sorted(row["tags"].items()))
        line = (
            f"{row['name']:<{wide}}  version {row['version'] or '-'}  {row['size']:,} bytes  {tags}"
        )
        yield line.rstrip()


def data_delete(*, name: str, run: "str | None" = None, ctx: Context) -> int:
    """Show a name no more; its versions keep their numbers."""
    if _is_task(ctx, "data delete", run, writes=True):
        told = inside.request(ctx, "data delete", "delete", name=name)
    else:
        told = _rundata().delete(ctx, str(run), name)
    return inside.say(ctx, told, f"{name} is deleted")


def _is_task(ctx: Context, command: str, run: "str | None", *, writes: bool = False) -> bool:
    """Whether the runtime is asked, for the run of the task that calls; else a run is named."""
    if run is None:
        if inside.is_inside(ctx):
            return True
        raise FleetError(
            f"fleet {command} needs a run where no task calls it.",
            f"fleet {command} … --run @last",
            code="outside",
        )
    mine = ctx.environ.get("FLEET_RUN_ID")
    if not inside.is_inside(ctx):
        return False
    if run == mine:
        return True
    if writes:
        raise FleetError(f"a task changes the data of its own run only, which is {mine}.")
    return False


def _rundata() -> "ModuleType":
    import_msgspec()
    from . import rundata

    return rundata


def _sentence(wrong: Wrong) -> FleetError:
    return FleetError(f"{wrong}.", code="bad_data")
