"""The room that a fleet's file system has: warn, then place nothing, and keep a little in reserve.

`room_of` looks, at any time and for anybody. A manager's `Guard` looks at most every LOOK_SECONDS,
when its manager is awake (it sets a timer of its own only while it waits for room), and tells once
when the room is low or too low; below the lower limit it places nothing. A small
file is kept allocated, which the manager and the worker runtime remove when the disk is full
after all, so that the ends of what runs can still be recorded. It promises no more than its size:
a task that writes on and on may take that room too; then the ends wait in the runtime's memory and
journal, and nothing that was acknowledged is lost.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from ..errors import FleetError

if TYPE_CHECKING:
    from ..core.state import State
    from ..wire.fleetfile import Disk, FleetFile

RESERVE = "reserve"
"""Name of the file; the worker runtime knows it too."""

LOOK_SECONDS = 2.0
"""Shortest time between two looks."""

MEGABYTE = 1_000_000
WARN_BELOW, STOP_BELOW = 1_000 * MEGABYTE, 100 * MEGABYTE
WARN_SHARE, STOP_SHARE = 10, 5
"""Where fleet.toml does not say: so many bytes, and at most so many percent of the file system."""

RESERVE_BYTES, RESERVE_SHARE, LEAST_RESERVE = 256 * 1024, 64, 4096
"""Size of the reserve; on a small file system a 64th of it, and at least a block."""


class Room(Struct, frozen=True):
    """What is free, and the limits that hold. Bytes."""

    size: int
    free: int
    warn: int
    stop: int

    @property
    def least(self) -> int:
        """What must be free for nothing to be told; 0 while something is told."""
        return 0 if self.low else max(self.warn, self.stop)

    @property
    def low(self) -> bool:
        """Whether that is to be told."""
        return self.free < max(self.warn, self.stop)

    @property
    def full(self) -> bool:
        """Whether nothing may be placed."""
        return self.free < self.stop

    def why(self) -> str:
        """In words, while it is low."""
        free = f"only {megabytes(self.free)} are free on the fleet's disk"
        if self.full:
            return f"{free}; nothing starts below {megabytes(self.stop)} (disk.stop_below_mb)"
        return f"{free}; below {megabytes(self.stop)} nothing starts (disk.stop_below_mb)"


def megabytes(count: int) -> str:
    """Bytes as fleet.toml counts them: `1,024 MB`, `0.05 MB`."""
    return f"{count / MEGABYTE:,.0f} MB" if count >= 10 * MEGABYTE else f"{count / MEGABYTE:.2f} MB"


def room_of(fleet_dir: Path, state: State) -> Room | None:
    """The room that there is now; None where the system does not tell."""
    try:
        return _room(fleet_dir, limits_of(roots(fleet_dir, state)))
    except FleetError:  # a fleet.toml that cannot be read is told by whoever needs more of it
        return _room(fleet_dir, None)


def too_full(fleet_dir: Path, state: State) -> str:
    """Why there is too little room for another attempt; empty where there is enough."""
    room = room_of(fleet_dir, state)
    return room.why() if room and room.full else ""


def _room(fleet_dir: Path, limits: Disk | None) -> Room | None:
    try:
        found = os.statvfs(fleet_dir)
    except OSError:
        return None
    size = found.f_blocks * found.f_frsize
    if not size:  # a file system that has no size tells nothing
        return None
    warn = min(WARN_BELOW, size * WARN_SHARE // 100)
    stop = min(STOP_BELOW, size * STOP_SHARE // 100)
    if limits is not None and limits.warn_below_mb is not None:
        warn = limits.warn_below_mb * MEGABYTE
    if limits is not None and limits.stop_below_mb is not None:
        stop = limits.stop_below_mb * MEGABYTE
    return Room(size, found.f_bavail * found.f_frsize, warn, stop)


def roots(fleet_dir: Path, state: State) -> list[Path]:
    """Where fleet.toml may be: the workspaces of what is open, of the newest run, and here."""
    runs = [*state.open_runs.values(), *list(state.runs.values())[-1:]]
    return list(dict.fromkeys([*(Path(run.workspace) for run in runs), fleet_dir.parent]))


def settings_of(places: list[Path]) -> FleetFile | None:
    """The first fleet.toml; None where there is none."""
    for place in places:
        if (place / "fleet.toml").exists():
            from ..wire import fleetfile

            return fleetfile.read(place)
    return None


def limits_of(places: list[Path]) -> Disk | None:
    """What the first fleet.toml says of the disk; None where there is none."""
    found = settings_of(places)
    return found.disk if found else None


class Guard:
    """What one manager knows of the room, and its reserve."""

    def __init__(self, fleet_dir: Path) -> None:
        self.full = False
        """Whether there is too little room."""
        self.refused = False
        """Whether the worker runtime has refused a start for want of room since the last look."""
        self.next = 0.0
        """When it looks again, by the clock that it is told."""
        self._dir = fleet_dir
        self._low = False
        self._bad = ""
        self._told = False

    @property
    def stops(self) -> bool:
        """Whether nothing may be placed for now."""
        return self.full or self.refused

    def refuse(self, now: float) -> bool:
        """The worker runtime has no room for another start; whether a person should be told."""
        news, self._told = not self._told, True
        self.refused, self.next = True, now + LOOK_SECONDS
        return news

    def look(self, state: State, now: float) -> list[str]:
        """Look, if it is time; what a person should be told."""
        if now < self.next:
            return []
        self.next = now + LOOK_SECONDS
        self._told, self.refused = self.refused, False
        told: list[str] = []
        try:
            room = _room(self._dir, limits_of(roots(self._dir, state)))
            self._bad = ""
        except FleetError as error:
            room = _room(self._dir, None)
            if error.sentence != self._bad:
                told.append(f"[disk] of fleet.toml is not heeded: {error.sentence}")
            self._bad = error.sentence
        if room is None:
            self.full = self._low = False
            return told
        if (room.low and not self._low) or (room.full and not self.full):
            told.append(room.why())
        elif self.full and not room.full:
            told.append(f"{megabytes(room.free)} are free again: it goes on")
        self._low, self.full = room.low, room.full
        if not room.full:
            self._keep_reserve(room)
        return told

    def _keep_reserve(self, room: Room) -> None:
        path = self._dir / RESERVE
        size = max(LEAST_RESERVE, min(RESERVE_BYTES, room.size // RESERVE_SHARE))
        try:
            if path.stat().st_size >= size:
                return
        except OSError:
            pass
        if room.free < size + room.stop:
            return
        try:
            made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(made, 0, size)
        except OSError:
            self.spare()
        finally:
            os.close(made)

    def spare(self) -> bool:
        """Give up the reserve; whether there was one."""
        try:
            (self._dir / RESERVE).unlink()
        except OSError:
            return False
        self.full, self.next = True, 0.0
        return True
