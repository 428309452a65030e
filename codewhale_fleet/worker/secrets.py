"""Secrets on their way to a process: by its environment, or by a file that is only in memory.

A plan names secrets, a run has their values in memory. Promises: an attempt gets those of its own
plan and no other; a file lies on a tmpfs (the kernel's word counts, not the path's), in a directory
that nobody else may enter and whose name nobody can guess; that name stands in the journal before
the directory is made, so that whoever comes after a killed runtime removes it. It knows nothing of
where values come from.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker.launch import Unstarted, blame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from codewhale_fleet.worker.attempts import Attempt, Run
    from codewhale_fleet.worker.journal import Journal

_IN_MEMORY = ("tmpfs", "ramfs")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
NAME = "fleet-secrets-"
"""What the directories' names begin with."""


def _of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = plan.get("secrets") or []
    return found


def deliver(run: Run, plan: dict[str, Any], environment: dict[str, str]) -> None:
    """Puts what the plan names into the environment; of a file its path, which `lay` makes.

    From now on the plan says in `secrets_dir` where such files are to lie, those of its
    verification too.
    """
    steps = (one for step in plan.get("steps") or () for one in _of(step))
    if "secrets_dir" not in plan and any(one["file"] for one in (*_of(plan), *steps)):
        plan["secrets_dir"] = f"{_base()}/{NAME}{os.urandom(16).hex()}"
    for one in _of(plan):
        value = run.secrets.get(one["key"])
        if value is None:
            raise Unstarted(f"the secret {one['key']} is not in memory any more")
        environment[one["as"]] = f"{plan['secrets_dir']}/{one['as']}" if one["file"] else value


def lay(run: Run, plan: dict[str, Any]) -> None:
    """Makes the files that the plan names, each with its value; Unstarted where that fails."""
    files = [one for one in _of(plan) if one["file"]]
    if not files:
        return
    directory = plan["secrets_dir"]
    try:
        _make(directory)
        fd = os.open(directory, _DIRECTORY)
        try:
            if not _is_in_memory(os.fstat(fd).st_dev):
                raise Unstarted(f"{directory} is not in memory: no secret is written there")
            for one in files:
                _write(one["as"], run.secrets[one["key"]], fd)
        finally:
            os.close(fd)
    except (OSError, Unstarted) as error:
        remove(directory)
        if isinstance(error, Unstarted):
            raise
        raise Unstarted(
            f"{blame(error)}its secrets cannot be written in {directory}: {error.strerror}"
        ) from None


def tell(journal: Journal, attempt: Attempt) -> None:
    """The fact that a process gets secrets, by name; in the journal before it has them."""
    used = {one["key"]: "file" if one["file"] else "env" for one in attempt.plan["secrets"]}
    step = {"step": attempt.step} if attempt.step else {}
    fields = {"attempt": attempt.id, "slot": attempt.slot, "secrets": used, **step}
    journal.fact("secrets", fields)
    journal.flush()


def remove(directory: str) -> None:
    """Nothing of it is left, whatever the task has put in there."""
    for part in directory.split("/"):
        if part.startswith(NAME):
            break
    else:
        return
    from codewhale_fleet.worker import emptying

    try:
        if os.path.islink(directory):
            os.unlink(directory)
            return
        for _ in emptying.piecewise(directory):
            continue
    except OSError:
        return


def _make(directory: str) -> None:
    """The directory, below that of its attempt where it is a step's: nobody else may enter."""
    parent, _, name = directory.rpartition("/")
    if not name.startswith(NAME) and not os.path.isdir(parent):
        _make(parent)
    os.mkdir(directory, 0o700)
    os.chmod(directory, 0o700)


def _write(name: str, value: str, directory: int) -> None:
    fd = os.open(name, _NEW, 0o600, dir_fd=directory)
    try:
        os.fchmod(fd, 0o600)
        data = value.encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def _base() -> str:
    """A directory of a file system in memory where this user may make others."""
    for base in (f"/run/user/{os.getuid()}", "/dev/shm"):
        try:
            if os.access(base, os.W_OK | os.X_OK) and _is_in_memory(os.stat(base).st_dev):
                return base
        except OSError:
            continue
    raise Unstarted(
        "its secrets are to come as files, and there is no file system in memory for them: "
        f"neither /run/user/{os.getuid()} nor /dev/shm is a tmpfs that can be written"
    )


def _is_in_memory(device: int) -> bool:
    """Does the kernel mount this device as a file system in memory?"""
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file.read().decode("utf-8", "replace").splitlines():
            fields = line.split(" ")
            if fields[2] == number:
                return fields[fields.index("-") + 1] in _IN_MEMORY
    return False
