"""What a discovery command printed, as workers.

JSON: a list of names or of tables as below [[workers]], or what an inventory script of Ansible
prints for --list; else a name a line. Promises that what comes back could stand in fleet.toml, or
one sentence about the first thing that could not; and that no secret in it is kept.
"""

from typing import Any, NoReturn

import msgspec

from ..core.spec_hosts import Worker
from ..errors import FleetError
from . import workers as written
from .aliases import settle_workers
from .ansible import Inventory
from .literals import hints, may_hold_secret
from .problems import Found, Path, excerpt, field_name
from .walker import shape_of, walk

MAX_BYTES = 16 * 1024 * 1024


def workers_of(name: str, data: bytes) -> list[Worker]:
    """The workers that the command of [inventory.NAME] printed; FleetError where it printed none.

    An empty list is an answer."""
    if len(data) > MAX_BYTES:
        _refuse(name, f"printed more than {MAX_BYTES // 2**20} MiB")
    try:
        text = data.decode().strip()
    except UnicodeDecodeError as error:
        _refuse(name, f"printed what is not UTF-8 (byte {error.start:,})")
    wanted = hints(data)
    if text[:1] not in ("[", "{"):
        return _settled(name, _names(name, text), "line")
    try:
        tree = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        _refuse(name, f"printed no JSON: {error}")
    if isinstance(tree, dict):
        inventory = Inventory(f"inventory {name}")
        inventory.read_printed(tree)
        found = inventory.workers()
        return _checked(name, found, [(index, one) for index, one in enumerate(found)], "host")
    if wanted and may_hold_secret(text, wanted):
        _refuse(name, "printed what is plainly a secret, and the ledger would keep it")
    return _settled(name, [{"id": one} if isinstance(one, str) else one for one in tree], "entry")


def _names(name: str, text: str) -> list[Any]:
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    for number, line in enumerate(lines, 1):
        if len(line.split()) > 1:
            _refuse(name, f"printed {excerpt(line)} on line {number}, which is no name")
    return [{"id": line} for line in lines if line]


def _settled(name: str, entries: list[Any], what: str) -> list[Worker]:
    tree = {"workers": entries}
    settle_workers(tree)
    settled = written.settle(entries)
    found = list(settled.found)
    walk(entries, shape_of(list[Worker]), ("workers",), found)
    if found:
        _tell(name, found, what)
    made = msgspec.convert(entries, list[Worker])
    return _checked(name, made, list(written.all_of(made, settled)), what)


def _checked(
    name: str, made: list[Worker], whole: list[tuple[int, Worker]], what: str
) -> list[Worker]:
    if found := list(written.problems(whole)):
        _tell(name, found, what)
    return [worker for _, worker in whole]


def _tell(name: str, found: list[Found], what: str) -> NoReturn:
    first = found[0]
    more = f" (and {len(found) - 1:,} more like that)" if len(found) > 1 else ""
    also = f" {_place(first.also, what)}" if first.also else ""
    place = _place(first.path, what)
    _refuse(name, f"printed what is no worker: {place}: {first.message}{also}{more}", first.hint)


def _place(path: Path, what: str) -> str:
    index, rest = path[1] if len(path) > 1 else 0, path[2:]
    number = index + 1 if isinstance(index, int) else index
    return f"{what} {number}" + (f", {field_name(rest)}" if rest else "")


def _refuse(name: str, what: str, hint: str = "") -> NoReturn:
    raise FleetError(
        f"the command of inventory {name} {what}.",
        hint or f"[inventory.{name}] in fleet.toml says which it is: try it by hand.",
        field=f"inventory.{name}.command",
    )
