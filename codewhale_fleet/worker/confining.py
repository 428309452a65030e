"""Attempts in a sandbox, as the runtime sees them: how one begins, hears signals, and is over.

The attempt's process is bubblewrap, which waits outside; the first process inside ends with it, and
everything else inside with that one. bubblewrap tells, into a file beside the logs, which process
is the first inside and how the program ended: 128 + n stands for signal n and for exit 128 + n, as
in a shell, and is told as the exit that it is. Promises: signals reach the program's group and not
bubblewrap; a program that never began inside has not started, and nothing ran unconfined in its
place; the attempt's own directory goes when the attempt is over. What is in a sandbox is known to
sandbox.py.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import codec, limits, processes, sandbox
from codewhale_fleet.worker.launch import DEFAULT_PATH, Unstarted, blame
from codewhale_fleet.worker.sandbox import Unconfined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from typing import Any

    from codewhale_fleet.worker.attempts import Attempt

PLACE = "attempts"
"""Below the fleet's directory: one directory for each confined attempt that runs."""
TOOLS = "tools"
SCRATCH, SCRATCH_VARIABLE = "scratch", "FLEET_SCRATCH"
_HANDED = ("FLEET_CHECKPOINT", "FLEET_FEEDBACK_FILE")
"""Variables that name a file of the fleet's which the attempt is to read."""
_LEFT_OUT = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
_BOX = ".box"
_KILL = 9
_TICK = 0.011


def own_of(fleet_dir: str, plan: dict[str, Any]) -> str:
    """The attempt's own directory. A step's is that of its attempt."""
    out = plan.get("sealed", plan)["out"]
    stem = plan.get("own") or out.removeprefix("logs/").removesuffix(".out")
    if ".." in stem.split("/"):
        raise Unstarted(f"{stem} is no place for an attempt's own directory")
    return f"{fleet_dir}/{PLACE}/{stem}"


def scratch_of(fleet_dir: str, plan: dict[str, Any]) -> str:
    """What the attempt knows as FLEET_SCRATCH, as it is called outside."""
    return f"{own_of(sandbox.real_path(fleet_dir), plan)}/{SCRATCH}"


def scratch_path(fleet_dir: str, path: str) -> str | None:
    """A path inside the attempt's FLEET_SCRATCH, relative to that; None of any other."""
    top = f"{os.path.realpath(fleet_dir)}/{SCRATCH}/"
    return path[len(top) :] if path.startswith(top) else None


def status_of(plan: dict[str, Any]) -> str:
    """Where bubblewrap tells of it, below the fleet's directory."""
    return str(plan.get("sealed", plan)["out"]) + _BOX


# ---- beginning


def begin(
    fleet_dir: str, plan: dict[str, Any], program: str, environ: dict[str, str]
) -> tuple[str, list[str]]:
    """The program and the arguments by which the attempt begins as confined as it must be.

    `plan` may say what a directory of its own needs: `directory`, `written` and `shown`. The
    environment is changed to what holds inside.
    """
    try:
        return _begin(fleet_dir, plan, program, environ)
    except Unstarted:
        if "own" not in plan:
            for _ in removed(fleet_dir, plan):
                continue
        raise


def _begin(
    fleet_dir: str, plan: dict[str, Any], program: str, environ: dict[str, str]
) -> tuple[str, list[str]]:
    fleet = sandbox.real_path(fleet_dir)
    own = own_of(fleet, plan)
    try:
        if "sandbox" not in plan:
            os.makedirs(own, 0o700, exist_ok=True)
            environ["PATH"] = _linked(plan["tools"], environ, own, own)
            return program, plan["argv"]
        _prepare(fleet, own, plan, environ)
    except OSError as error:
        words = f"its own directory cannot be made: {error.strerror}"
        raise Unconfined(blame(error) + words) from None
    shown = [*plan.get("shown", ())]
    door = f"{fleet}/runtime/tasks.sock"
    if os.path.exists(door):
        shown.append((door, door))
    around = {**plan, "fleet": fleet, "own": own, "shown": shown}
    argv = [*sandbox.command(around, plan["cwd"], environ), program, *plan["argv"][1:]]
    return argv[0], argv


def _prepare(fleet: str, own: str, plan: dict[str, Any], environ: dict[str, str]) -> None:
    """The directory that stands inside for the fleet's, and the variables that hold there."""
    try:
        os.mkdir(own, 0o700)
        os.mkdir(f"{own}/{SCRATCH}", 0o700)
    except OSError:  # the first one of its run, or a step
        os.makedirs(own, 0o700, exist_ok=True)
        _folder(own, SCRATCH)
    handed = [environ[name] for name in _HANDED if name in environ]
    if plan.get("prompt"):
        handed.append(f"{fleet}/{plan['prompt']['path']}")
    for path in handed:
        real = os.path.realpath(path)
        if real.startswith(fleet + "/"):
            inner, _, name = real[len(fleet) + 1 :].rpartition("/")
            _copy(real, f"{_folder(own, inner)}/{name}")
    environ[SCRATCH_VARIABLE] = f"{fleet}/{SCRATCH}"
    for name in _LEFT_OUT:
        environ.pop(name, None)
    if "TMPDIR" in environ:
        environ["TMPDIR"] = "/tmp"
    tools = plan["sandbox"].get("tools")
    if tools is not None:
        environ["PATH"] = _linked(tools, environ, own, fleet)


def _folder(own: str, inner: str) -> str:
    """A directory in the attempt's own one; what an earlier program made of its names goes."""
    path = own
    for part in inner.split("/"):
        path = f"{path}/{part}" if part else path
        if not os.path.isdir(path) or os.path.islink(path):
            _unlink(path)
            os.mkdir(path, 0o700)
    return path


def _copy(source: str, target: str) -> None:
    _unlink(target)
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writer = os.open(target, flags, 0o600)
        try:
            while data := os.read(reader, limits.CHUNK_BYTES):
                while data:
                    data = data[os.write(writer, data) :]
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _linked(tools: list[str], environ: dict[str, str], own: str, seen_as: str) -> str:
    """A directory of links to just these programs and `fleet`; answers it as it is to be seen."""
    directory = _folder(own, TOOLS)
    path = environ.get("PATH", DEFAULT_PATH)
    for name in dict.fromkeys((*tools, "fleet")):
        leads = name if name.startswith("/") else sandbox.on_path(name, path)
        if not leads or not os.access(leads, os.X_OK):
            if name == "fleet":
                continue
            raise Unconfined(f"its tool {name} is not found on PATH")
        link = f"{directory}/{os.path.basename(name)}"
        if os.path.lexists(link):
            os.unlink(link)
        os.symlink(leads, link)
    return f"{seen_as}/{TOOLS}"


# ---- signals


def _told(fleet_dir: str, plan: dict[str, Any]) -> dict[str, Any] | None:
    """What bubblewrap has told so far: `child-pid`, and after the program's end `exit-code`.

    None where it was never started.
    """
    found: dict[str, Any] = {}
    text = processes.read_file(f"{fleet_dir}/{status_of(plan)}", 1 << 16)
    if text is None:
        return None
    for line in text.splitlines():
        try:
            entry = codec.decode(line)
            found.update(entry if type(entry) is dict else {})
        except ValueError:
            continue
    return found


def first_inside(fleet_dir: str, attempt: Attempt) -> int:
    """The first process inside, of which all others there are; 0 where there is none (any more)."""
    pid = _first_or_zombie(_told(fleet_dir, attempt.plan))
    return pid if pid and _is_its(pid, attempt) else 0


def _is_its(pid: int, attempt: Attempt) -> bool:
    facts = processes.facts_of(pid)
    if facts is None or facts.start < attempt.since - _TICK:
        return False
    if facts.parent == attempt.pid or facts.state == b"Z":
        return True
    return processes.attempt_of(pid) == attempt.id


def signal(fleet_dir: str, attempt: Attempt, number: int) -> None:
    """A signal for the program's group. Before there is one, whatever prepares it ends by it."""
    first = first_inside(fleet_dir, attempt)
    if number == _KILL:
        processes.send_signal(attempt.pid, number, group=True)
        if first:
            processes.send_signal(first, number)
        return
    if first and processes.below(first) and processes.send_signal(first, number, group=True):
        return
    processes.send_signal(attempt.pid, number, group=True)


# ---- the end


def is_empty(attempt: Attempt, uses: dict[int, Any], fleet_dir: str) -> bool:
    """Is the sandbox of an attempt that is over gone? Ends what is left in it, and counts that."""
    if attempt.first is None:
        attempt.box = _told(fleet_dir, attempt.plan)
        attempt.first = _first_or_zombie(attempt.box)
        if attempt.adopted:  # what was noted of it is bubblewrap's own
            attempt.cpu = None
        attempt.rss_kb = None
    first = attempt.first
    if not first:
        return True
    if not _reaped(first, attempt, uses):
        left = processes.below(first)
        attempt.stragglers += len(left) if attempt.stage < 3 else 0
        processes.send_signal(first, _KILL)
        _wait_for(first)
        if not _reaped(first, attempt, uses):
            attempt.stage = max(attempt.stage, 3)  # it was counted
            return False
    attempt.first = 0
    return True


def _first_or_zombie(told: dict[str, Any] | None) -> int:
    pid = (told or {}).get("child-pid", 0)
    return pid if type(pid) is int and pid > 1 else 0


def _reaped(first: int, attempt: Attempt, uses: dict[int, Any]) -> bool:
    try:
        done, _, use = os.wait4(first, os.WNOHANG)
    except ChildProcessError:
        use = uses.pop(first, None)
        if use is None:  # the keeper's, or nobody's any more
            return not _is_its(first, attempt) or _is_zombie(first)
        done = first
    if not done:
        return False
    attempt.cpu = (attempt.cpu or 0.0) + use.ru_utime + use.ru_stime
    attempt.rss_kb = use.ru_maxrss
    return True


def _is_zombie(pid: int) -> bool:
    facts = processes.facts_of(pid)
    return facts is None or facts.state == b"Z"


def _wait_for(pid: int) -> None:
    """It is about to end: waiting for that is shorter than coming back."""
    try:
        fd = os.pidfd_open(pid, 0)
    except OSError:
        return
    try:
        import select

        select.select([fd], [], [], limits.SANDBOX_WAIT_SECONDS)
    except ValueError:  # a number beyond what select can take
        pass
    finally:
        os.close(fd)


def tell(fleet_dir: str, attempt: Attempt, fields: dict[str, Any]) -> None:
    """What the sandbox knows of an end, put into its fields.

    Where a runtime has read it and was killed before it stated the end, the journal has the exit.
    """
    if attempt.box is None:
        return
    code = attempt.box.get("exit-code")
    if "unstarted" in fields:
        return
    if code is not None:
        if fields.pop("unknown", None):
            fields["exit"] = code
    elif fields.pop("exit", None) is not None:
        fields["unstarted"] = _sentence(f"{fleet_dir}/{attempt.plan['err']}")


def _sentence(log: str) -> str:
    """Why bubblewrap did not come to the program: the last it said."""
    lines = (processes.read_file(log, 1 << 16) or b"").decode("utf-8", "replace").split("\n")
    said = [line[len("bwrap: ") :].strip() for line in lines if line.startswith("bwrap: ")]
    reason = said[-1] if said else "bubblewrap ended without a word"
    if reason.startswith("execvp "):
        program, _, why = reason[len("execvp ") :].rpartition(": ")
        return f"its program {program} cannot be run inside its sandbox: {why}"
    return f"its sandbox could not be made: {reason} (fleet doctor tells more)"


def forget(fleet_dir: str, plan: dict[str, Any]) -> None:
    """What bubblewrap has told is not needed any more."""
    _unlink(f"{fleet_dir}/{status_of(plan)}")


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


def removed(
    fleet_dir: str, plan: dict[str, Any], *, last: bool = True
) -> Generator[None, None, None]:
    """Removes the attempt's own directory, piece by piece; no link is followed.

    `last`: no other one of its run has a directory.
    """
    forget(fleet_dir, plan)
    yield from _removed(own_of(sandbox.real_path(fleet_dir), plan), last)


def leftovers(fleet_dir: str, plans: Iterable[dict[str, Any]]) -> Generator[None, None, None]:
    """The same of attempts that are over, and whose runtime was killed before it came to that.

    `plans`: of those that are not over. What begins from now on is left alone.
    """
    top = f"{sandbox.real_path(fleet_dir)}/{PLACE}"
    if not os.path.isdir(top) or os.path.islink(top):
        return
    kept = {own_of(os.path.dirname(top), plan) for plan in plans}
    found = [f"{top}/{run}/{name}" for run in os.listdir(top) for name in _names(f"{top}/{run}")]
    for own in found:
        yield
        if own not in kept:
            _unlink(f"{os.path.dirname(top)}/logs{own[len(top) :]}.out{_BOX}")
            yield from _removed(own, True)


def _names(directory: str) -> list[str]:
    return os.listdir(directory) if os.path.isdir(directory) else []


def _removed(own: str, last: bool) -> Generator[None, None, None]:
    if not os.path.isdir(own) or os.path.islink(own):
        return
    from codewhale_fleet.worker import emptying

    try:
        yield from emptying.piecewise(own)
        if last:
            os.rmdir(os.path.dirname(own))
    except OSError:  # another attempt of the run has its own there
        return
