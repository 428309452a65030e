"""`fleet doctor`: does this machine have what a fleet needs, and if not, what to do.

Every check is tried, not looked up: a lock is taken, a hole is punched, a sync is timed, in a
scratch directory beside the fleet's. Changes nothing that stays. Exit code 1 when a check fails; a
remark (something is missing that only some tasks need) does not count.
"""

import errno
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct

from ..errors import FleetError
from ..ledger import place
from ..views.units import many
from .common import Context, fleet_dir_of, manager_answers, print_json, refuse_others
from .words import duration, paint, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agents import Seen

PYTHON = (3, 11)
SLOW_SYNC_SECONDS = 0.02
SYNCS = 20
PROGRAMS = ("sh", "git", "ssh", "bwrap")
"""Looked for on PATH; only `sh` is needed."""

_OK, _REMARK, _BAD = "ok", "note", "bad"
_SHADES = {_OK: "green", _REMARK: "yellow", _BAD: "red"}


class Check(Struct, frozen=True, omit_defaults=True):
    """One line: what was tried, how it went (ok, note, bad), what was seen, what to do."""

    name: str
    state: str
    seen: str
    advice: str = ""


def doctor(ctx: Context) -> int:
    """Try everything and tell it, one line each."""
    root = Path(ctx.find_root() or ctx.cwd or Path.cwd())
    refuse_others(str(root))
    checks = [python(sys.version_info[:3]), platform(sys.platform), *on_disk(root)]
    checks += [
        tried("sockets", unix_socket, root),
        tried("processes", processes),
        tried("cgroup.kill", cgroup_kill),
        tried("sandbox", sandbox),
        *programs(ctx.environ.get("PATH", "")),
        *agents(root, dict(ctx.environ)),
        *alerts(root, dict(ctx.environ)),
        *workers(ctx),
    ]
    bad = [check for check in checks if check.state == _BAD]
    if ctx.json:
        print_json({"root": str(root), "ok": not bad, "checks": checks})
    else:
        color = ctx.styled()
        for check in checks:
            if not (ctx.quiet and check.state == _OK):
                print(line(check, color))
        print("")
        print(f"{len(bad)} to do, see above." if bad else "All is well: fleet run SPEC")
    return 1 if bad else 0


def line(check: Check, color: bool) -> str:
    """A check as a line, and what to do below it."""
    word = paint(f"{check.state:<5}", _SHADES[check.state], color)
    text = f"  {word}{check.name:<14} {check.seen}"
    return f"{text}\n{' ' * 22}{check.advice}" if check.advice else text


def tried(name: str, attempt: Callable[..., Check], *args: Any) -> Check:
    """The check, or what kept it from being made."""
    try:
        return attempt(*args)
    except FleetError as error:
        return Check(name, _BAD, error.sentence, error.hint)
    except (OSError, AttributeError) as error:
        if isinstance(error, PermissionError) and error.filename:
            advice = f"To see which directory keeps you out: namei -l {error.filename}"
            return Check(name, _BAD, f"{error.filename} is closed to you", advice)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Check(name, _BAD, "could not be tried: no space is left", "Make room, as above.")
        return Check(name, _BAD, f"failed: {error}", "A fleet needs this.")


# The machine ----------------------------------------------------------------------------------


def python(version: Iterable[int]) -> Check:
    """The interpreter, 3.11 or newer."""
    shown = ".".join(map(str, version))
    if tuple(version)[:2] >= PYTHON:
        return Check("python", _OK, f"{shown} ({sys.executable})")
    return Check("python", _BAD, shown, "Install Python 3.11 or newer.")


def platform(name: str) -> Check:
    """Linux, the only platform that is tested."""
    uname = os.uname()
    seen = f"{uname.sysname} {uname.release} {uname.machine}, {len(os.sched_getaffinity(0))} cores"
    if name.startswith("linux"):
        return Check("platform", _OK, seen)
    return Check("platform", _BAD, seen, "Only Linux is tested; run the fleet on a Linux machine.")


def unix_socket(root: Path) -> Check:
    """A socket under a path of any length, answered."""
    from ..engine.sockets import connect, listen

    with tempfile.TemporaryDirectory(prefix=".fleet-doctor-", dir=_writable(root)) as folder:
        deep = Path(folder, "d" * 120)
        deep.mkdir()
        server = listen(deep / "manager.sock")
        client = connect(deep / "manager.sock")
        server.close()
        if client is None:
            return Check("sockets", _BAD, "a unix socket was made and nobody could connect to it")
        client.close()
    return Check("sockets", _OK, "unix sockets, under paths of any length")


def processes() -> Check:
    """pidfd, to wait for tasks, and subreaper, to find what they leave behind."""
    import ctypes

    pidfd = os.pidfd_open(os.getpid())
    os.close(pidfd)
    libc = ctypes.CDLL(None, use_errno=True)
    held = ctypes.c_int()
    if libc.prctl(37, ctypes.byref(held), 0, 0, 0):  # PR_GET_CHILD_SUBREAPER
        advice = "Linux 3.4 or newer is needed, and a sandbox that allows prctl."
        return Check("processes", _BAD, "no subreaper", advice)
    return Check("processes", _OK, "pidfd and subreaper")


def cgroup_kill() -> Check:
    """Whether each attempt gets a cgroup of its own, so that nothing of it can hide at its end."""
    from ..worker import cgroups

    lacking = cgroups.lacking()
    if not lacking:
        seen = f"used: after a second each attempt is in a cgroup below {cgroups.own()[1]}"
        return Check("cgroup.kill", _OK, seen)
    advice = "Daemons are found by their parents, sessions and environment instead."
    return Check("cgroup.kill", _REMARK, f"not used: {lacking}", advice)


def sandbox() -> Check:
    """Whether tasks can be confined, and how many processes those may have."""
    from ..worker import limits, nursery
    from ..worker import sandbox as box

    lacks = box.lacking()
    if lacks:
        why, _, way = lacks.partition("; ")
        advice = f"Tasks of the trust sandbox, and those that may write less, need it: {way}"
        return Check("sandbox", _REMARK, f"none: {why}", advice)
    without = nursery.lacking()
    most = without or f"{limits.SANDBOX_PROCESSES:,} processes and threads of all together"
    return Check("sandbox", _OK, f"bubblewrap works: tasks can be confined; {most}")


def programs(path: str) -> list[Check]:
    """What tasks may want to call, found on PATH; only sh must be there."""
    from shutil import which

    found = [name for name in PROGRAMS if which(name, path=path)]
    missing = [name for name in PROGRAMS if name not in found]
    checks = [Check("on PATH", _OK, ", ".join(found) or "nothing")]
    if missing:
        checks.append(Check("not on PATH", _REMARK, ", ".join(missing), _wanted(missing)))
    if not Path("/bin/sh").exists():
        advice = "Commands that are text need it; commands that are lists do not."
        checks.append(Check("shell", _BAD, "there is no /bin/sh", advice))
    return checks


def _wanted(missing: list[str]) -> str:
    return "Only tasks that call these need them." if missing else ""


def agents(root: Path, environ: dict[str, str]) -> list[Check]:
    """Who can follow instructions here: the agents of fleet.toml, and the presets on PATH."""
    from ..agents.roster import Roster
    from ..wire import fleetfile
    from .agents import seen

    try:
        roster = fleetfile.read(root).roster
    except FleetError:  # told above
        roster = Roster()
    checks = [_agent(one, is_default=one.name == roster.default) for one in seen(roster, environ)]
    if not checks:
        advice = "Tasks with instructions and no command need one: docs/how-to/agents.md"
        checks.append(Check("agents", _REMARK, "none on PATH, none in fleet.toml", advice))
    return checks


def _agent(one: "Seen", *, is_default: bool) -> Check:
    name = f"agent {one.name}"
    if not one.path:
        advice = "Install it, or take its section out of fleet.toml."
        if is_default:
            advice = f"Install it, or name another default_agent in fleet.toml than {one.name}."
        return Check(name, _BAD if is_default else _REMARK, f"{one.program} is not on PATH", advice)
    if one.trouble:
        return Check(name, _REMARK, one.trouble, "Does it work at all? Tasks for it will tell.")
    known = "as fleet.toml says" if one.own else "tried" if one.tried else "untried"
    what = [one.version or one.path, known]
    if is_default:
        what.append("the default")
    return Check(name, _OK, ", ".join(what))


def alerts(root: Path, environ: dict[str, str]) -> list[Check]:
    """Whether the adapters that fleet.toml routes alerts to could send from this shell."""
    from .alerting import looked_at

    return [
        Check("alerts", _OK if fine else _REMARK, seen, advice)
        for fine, seen, advice in looked_at(root, environ)
    ]


def workers(ctx: Context) -> list[Check]:
    """How the other machines were when last heard of, and whether they can be reached at all."""
    from shutil import which

    from ..core.fleet_words import LOCAL
    from ..core.spec_hosts import SshHost
    from . import fleet_workers as shared

    try:
        there = shared.opened(ctx)
    except FleetError:
        return []  # fleet.toml, or the ledger, is told of above
    found = {id: one.worker for id, one in there.known.items() if id != LOCAL}
    if not found:
        return []
    by_client = [
        id
        for id, one in found.items()
        if isinstance(one.host, SshHost) and one.host.transport == "openssh"
    ]
    if by_client and which("ssh", path=ctx.environ.get("PATH", "")) is None:
        seen = f"{by_client[0]} has transport = openssh, and there is no ssh on PATH"
        return [Check("workers", _BAD, seen, "Install openssh-client, or take transport out.")]
    lacks = {id: why for id, one in found.items() if (why := shared.lacking(one))}
    if lacks:
        id, why = next(iter(lacks.items()))
        more = f", and {len(lacks) - 1:,} more lack a file" if len(lacks) > 1 else ""
        return [Check("workers", _REMARK, f"{id}: {why}{more}", "fleet worker list shows which.")]
    states = [
        shared.condition(there.state, id, one.max_concurrent_tasks or 1)
        for id, one in found.items()
    ]
    counts = {word: states.count(word) for word in dict.fromkeys(states)}
    seen = ", ".join(f"{count:,} {word}" for word, count in counts.items())
    if "offline" in counts:
        return [Check("workers", _REMARK, seen, "Try them: fleet worker test unreachable")]
    if "unknown" in counts:
        return [Check("workers", _REMARK, seen, "Try them: fleet worker test all")]
    return [Check("workers", _OK, f"{seen}, when last heard of")]


# The disk -------------------------------------------------------------------------------------


def on_disk(root: Path) -> list[Check]:
    """What the fleet's directory and its file system can do."""
    checks = [
        tried("file system", file_system, root, place.read_mounts()),
        tried("free disk", free_disk, root),
        tried("locks", locks, root),
        tried("sync", sync, root),
        tried("holes", holes, root),
        tried("fleet", fleet, root),
    ]
    from ..wire import fleetfile

    try:
        fleetfile.read(root)
    except FleetError as error:
        checks.append(Check("fleet.toml", _BAD, error.sentence, error.hint))
    return checks


def file_system(root: Path, mounts: str) -> Check:
    """A local one: locks and syncs on others promise too little."""
    kind = place.kind_of_mount(root.resolve(), mounts) or "unknown"
    if kind in place.REMOTE:
        advice = 'Put the ledger on a local disk: a file .fleet that says "dir: /local/path"'
        return Check("file system", _BAD, f"{kind} at {root}", advice)
    return Check("file system", _OK, f"{kind} at {root}")


def free_disk(root: Path) -> Check:
    """Room for ledger and logs, by the limits that hold for runs."""
    from ..core.state import State
    from ..engine.disk import room_of

    fleet_dir = root / ".fleet"
    room = room_of(fleet_dir if fleet_dir.is_dir() else root, State())
    if room is None:
        return Check("free disk", _REMARK, "the system does not tell")
    if room.low:
        advice = f"Make room: logs alone may take more. du -sh {fleet_dir}"
        return Check("free disk", _BAD if room.full else _REMARK, room.why(), advice)
    return Check("free disk", _OK, size(room.free))


def locks(root: Path) -> Check:
    """flock excludes a second holder, and lets go."""
    import fcntl

    with tempfile.TemporaryFile(dir=_writable(root)) as first:
        path = f"/proc/self/fd/{first.fileno()}"
        fcntl.flock(first, fcntl.LOCK_EX)
        with Path(path).open("rb") as second:
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return Check("locks", _OK, "flock excludes")
    advice = "Put the ledger on another file system: fleet init --dir PATH"
    return Check("locks", _BAD, "flock does not exclude a second holder", advice)


def sync(root: Path) -> Check:
    """How long a durable append takes: the median of a few."""
    times = []
    with tempfile.TemporaryFile(dir=_writable(root), buffering=0) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(b"x" * 300)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    median = max(sorted(times)[SYNCS // 2], 1e-6)
    seen = f"{duration(median) if median >= 0.001 else f'{median * 1e6:.0f} µs'} a durable append"
    if median > SLOW_SYNC_SECONDS:
        advice = "The disk is slow to sync; many short tasks will wait for it."
        return Check("sync", _REMARK, seen, advice)
    return Check("sync", _OK, f"{seen} ({1 / median:,.0f} a second)")


def holes(root: Path) -> Check:
    """Punching the middle out of a log that grew too long."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    with tempfile.TemporaryFile(dir=_writable(root), buffering=0) as file:
        file.write(b"x" * 65536)
        flags = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
        if libc.fallocate(file.fileno(), flags, 4096, 32768):
            reason = os.strerror(ctypes.get_errno())
            advice = "Logs are not bounded here, only ended at their ceiling."
            return Check("holes", _REMARK, f"cannot be punched: {reason}", advice)
    return Check("holes", _OK, "can be punched: long logs keep head and tail")


def fleet(root: Path) -> Check:
    """The ledger, read to its end, and whether a manager is at work."""
    fleet_dir = Path(fleet_dir_of(str(root)))
    if not (fleet_dir / "fleet.jsonl").exists():
        return Check("fleet", _OK, "none here yet; fleet run makes one")
    from ..ledger.store import Ledger

    ledger = Ledger.open(fleet_dir)
    state = ledger.state
    ledger.close()
    working = "a manager is at work" if manager_answers(str(fleet_dir)) else "no manager at work"
    still = f"{len(state.open_runs)} of {many(len(state.runs), 'run')} open"
    seen = f"{state.fleet}: {many(state.seq, 'record')}, {still}, {working}"
    if state.open_runs and not manager_answers(str(fleet_dir)):
        name = next(iter(state.open_runs))
        return Check("fleet", _REMARK, seen, f"To go on with it: fleet resume {name}")
    return Check("fleet", _OK, seen)


def _writable(root: Path) -> Path:
    """Where scratch files may lie: the fleet's directory, or the root before there is one."""
    fleet_dir = Path(fleet_dir_of(str(root)))
    folder = fleet_dir if fleet_dir.is_dir() else root
    if not os.access(folder, os.W_OK):
        raise FleetError(f"{folder} cannot be written.", f"chmod u+rwx {folder}")
    return folder
