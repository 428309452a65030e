"""`fleet run --only`: some of a spec's tasks, by id or glob."""

from msgspec import Struct

from ..errors import FleetError
from ..wire.specfile import LoadedSpec
from .common import nearest


class _Id(Struct):
    id: str


def selected(loaded: LoadedSpec, only: list[str], file: str) -> list[bytes]:
    """The tasks whose id is one of `only`, or matches one as a glob; in the order of the file."""
    from fnmatch import fnmatchcase

    from msgspec.json import Decoder

    decode = Decoder(_Id).decode
    tasks = loaded.tasks
    ids = [decode(task).id for task in tasks]
    wanted: set[str] = set()
    for pattern in only:
        found = [one for one in ids if fnmatchcase(one, pattern)]
        if not found:
            near = nearest(pattern, ids)
            hint = f"Nearest: {', '.join(near)}" if near else f"fleet check {file} --explain"
            raise FleetError(f'no task of {file} is called "{pattern}".', hint, field="--only")
        wanted.update(found)
    if loaded.places is not None:
        loaded.places.only(wanted)
    return [task for one, task in zip(ids, tasks, strict=True) if one in wanted]
