"""Where a fleet lives, and whether this person and this file system may have one there.

A fleet directory belongs to one user, is closed to others and lies on a local file system, because
locks and syncs on a network one promise less than the ledger needs. This module looks and refuses;
what the ledger holds it does not know.
"""

import os
import re
from errno import EDQUOT, ENOSPC
from pathlib import Path

from ..errors import FleetError, Refused

NAME = ".fleet"
REMOTE = frozenset(("nfs", "nfs4", "9p", "cifs", "smb3", "smbfs"))
"""File systems whose locks and syncs are not the local ones."""
MAX_POINTER = 4096
"""Bytes of a `.fleet` file that names the directory."""


def find_fleet_dir(start: Path) -> Path | None:
    """`.fleet` of the nearest parent that has one or has a fleet.toml, else None.

    The search ends at a `.git`, at a mount point and at $HOME (each still looked at); what another
    user owns is passed over. The path need not exist when only fleet.toml does.
    """
    home = Path(os.environ.get("HOME", "/")).absolute()
    for folder in (start.absolute(), *start.absolute().parents):
        for name in (NAME, "fleet.toml"):
            if _mine(folder / name):
                return folder / NAME
        if (folder / ".git").exists() or folder == home or folder.is_mount():
            return None
    return None


def _mine(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def resolved(fleet_dir: Path) -> Path:
    """The directory itself, also when `.fleet` is a file that says `dir: PATH`."""
    try:
        if not fleet_dir.is_file():
            return fleet_dir
    except PermissionError as error:
        raise unreadable(fleet_dir) from error
    with fleet_dir.open("rb") as file:
        text = file.read(MAX_POINTER).decode("utf-8", "replace").strip()
    word, colon, path = text.partition(":")
    if not colon or word.strip() != "dir" or not path.strip() or "\n" in path.strip():
        raise FleetError(
            f'{fleet_dir} is a file, and not one that says "dir: PATH".',
            f"Write that line into it, or remove it: rm {fleet_dir}",
            file=str(fleet_dir),
            line=1,
        )
    return (fleet_dir.parent / Path(path.strip()).expanduser()).absolute()


def check(fleet_dir: Path, mounts: str | None = None) -> None:
    """Refuse a directory that is another user's, can't be read or lies on a network.

    `mounts` is the text of /proc/self/mountinfo, for tests.
    """
    try:
        found = fleet_dir.stat()
    except PermissionError as error:
        raise unreadable(fleet_dir) from error
    if found.st_uid != os.geteuid():
        raise Refused(
            f"{fleet_dir} belongs to another user (uid {found.st_uid}).",
            "A fleet is its owner's alone: work in a directory of your own, or say --dir PATH",
        )
    if not os.access(fleet_dir, os.R_OK | os.X_OK, effective_ids=True):
        raise unreadable(fleet_dir)
    if found.st_mode & 0o077:
        try:
            fleet_dir.chmod(0o700)
        except OSError:
            pass  # a read-only file system: what is there can still be shown
    check_mount(fleet_dir, mounts)


def check_mount(path: Path, mounts: str | None = None) -> None:
    """Refuse a network file system, by the text of /proc/self/mountinfo."""
    kind = kind_of_mount(path.resolve(), read_mounts() if mounts is None else mounts)
    if kind in REMOTE:
        raise Refused(
            f"{path} lies on {kind}, where locks and syncs can't be relied on.",
            f'Keep the ledger on a local disk: write "dir: /local/path" into a file {NAME}',
        )


def read_mounts() -> str:
    """The mounts that this process sees; empty where the system has no such list."""
    try:
        return Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def kind_of_mount(path: Path, mounts: str) -> str:
    """The file system type at `path`: of its deepest mount point, the latest where two cover."""
    wanted, best, kind = str(path), -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
        below = wanted == point or wanted.startswith(point.rstrip("/") + "/")
        if below and len(point) >= best:
            best, kind = len(point), after.split(" ", 1)[0]
    return kind


def unreadable(path: Path) -> FleetError:
    """The refusal to go on without the right to read."""
    return FleetError(
        f"{path} can't be read: you lack the permission.",
        f"Give it back to yourself: chmod u+rwX {path}",
        code="unreadable",
    )


def make(fleet_dir: Path) -> None:
    """Make the directory, closed to others, with a .gitignore that keeps it out of commits."""
    try:
        if not fleet_dir.parent.is_dir():
            fleet_dir.parent.mkdir(parents=True)
        check_mount(fleet_dir.parent)
        fleet_dir.mkdir(mode=0o700)
    except FileExistsError:
        return
    except OSError as error:
        full = error.errno in (ENOSPC, EDQUOT)
        room = f"Make room there, or choose another directory: df {fleet_dir.parent}; --dir PATH"
        raise FleetError(
            f"{fleet_dir} can't be made: {error.strerror}.",
            room if full else "Choose another directory: --dir PATH",
            code="unwritable",
            exit_code=5 if full else None,
        ) from error
    ignore = fleet_dir / ".gitignore"
    try:
        ignore.touch(mode=0o600, exist_ok=True)
        ignore.write_text("*\n")
        for folder in (fleet_dir.parent, fleet_dir):
            sync_folder(folder)
    except OSError as error:
        raise FleetError(
            f"{fleet_dir} can't be written: {error.strerror}.",
            f"Make room there, or choose another directory: df {fleet_dir.parent}; --dir PATH",
            code="unwritable",
            exit_code=5,
        ) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def new_fleet() -> str:
    """An id for a fleet that begins: `fl-` and ten random characters."""
    from random import SystemRandom  # here, as most commands begin no fleet

    chance = SystemRandom()
    return "fl-" + "".join(chance.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(10))
