"""The logs of attempts that may hold secret values: written apart, shown only without them.

A process of a run with secrets writes into `LOG.raw`, which nobody is shown. Its *copy*, `LOG`, is
made from that without the values: piece by piece while it runs, whole at its end, when the raw
file goes. Promises: no byte reaches a copy but through the redactor; a copy is bounded as a log is,
and says in the same way what is not in it; a runtime that was killed at any instant leaves a raw
file, from which the next one makes the copy anew; without the values it makes none, and says how
much is withheld. Such a raw file waits until the run's values come again.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import limits, logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from codewhale_fleet.worker.attempts import Attempt, Run
    from codewhale_fleet.worker.execution import Execution
    from codewhale_fleet.worker.redaction import Redactor

STREAMS = ("out", "err")
RAW = ".raw"
_PIECE = 256 * 1024
"""Bytes redacted before other work has its turn: about 5 ms."""
_LIVE = 64 * 1024
"""The same of one stream at one look while its process runs."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
_MORE = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


def hide(plan: dict[str, Any]) -> None:
    """Its logs are shown as copies only; from now on `sealed` says where these lie."""
    plan["sealed"] = {stream: plan[stream] for stream in STREAMS}
    for stream in STREAMS:
        plan[stream] += RAW


def hidden(plan: dict[str, Any]) -> dict[str, Any]:
    """The same as another plan."""
    plan = dict(plan)
    hide(plan)
    return plan


def shown(plan: dict[str, Any]) -> dict[str, Any]:
    """The same plan once the copies are whole."""
    left = {name: value for name, value in plan.items() if name != "sealed"}
    return {**left, **plan["sealed"]}


def existing(folder: str, plan: dict[str, Any]) -> dict[str, str]:
    """Stream -> where its log can be read in full, whether it is sealed already or not."""
    paths = {stream: f"{folder}/{plan[stream]}" for stream in STREAMS}
    for stream, name in plan.get("sealed", {}).items():
        if not os.path.exists(paths[stream]):  # its runtime was killed just after it was sealed
            paths[stream] = f"{folder}/{name}"
    return paths


class Copy:
    """One stream without the values. Where a copy is there already, the new one replaces it."""

    def __init__(self, raw: str, path: str, limit: int, redactor: Redactor) -> None:
        self._raw = raw
        self._path = path
        self._redactor = redactor
        self._at = 0
        self._limit = limit
        self.stream = redactor.stream()
        self.count = 0
        """Values taken out."""
        target = path + ".new" if os.path.exists(path) else path
        for name in (target, target + ".hole"):
            if os.path.lexists(name):
                os.unlink(name)
        os.close(os.open(target, _NEW, 0o600))
        self.log = logs.Log(target, limit)

    def advance(self, hole: tuple[int, int], most: int, *, soon: bool = False) -> bool:
        """Take what is new of the raw log, `most` bytes; whether there is more."""
        try:
            size = os.stat(self._raw, follow_symlinks=False).st_size
            fd = os.open(self._raw, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # the task took it away
            return False
        try:
            if hole[0] <= self._at < hole[1]:
                self._leap(fd, hole[1])
            until = min(self._at + most, hole[0] if self._at < hole[0] else size)
            data = os.pread(fd, max(until - self._at, 0), self._at)
        finally:
            os.close(fd)
        if data:
            self._at += len(data)
            self._write(self.stream.feed(data, soon=soon))
        more = bool(data) and self._at < size
        if not more:
            self._replace()
        return more

    def finish(self) -> None:
        """Nothing more comes."""
        self._write(self.stream.finish(cut=True))
        self._count()
        self._replace()
        self.log.seal()

    def _leap(self, fd: int, end: int) -> None:
        """The middle is gone. What a value that was cut there has left behind it goes with it."""
        self._write(self.stream.finish(cut=True))
        self._count()
        self.stream = self._redactor.stream()
        first = os.pread(fd, self._redactor.reach, end)
        dropped = end - self._at + len(first)
        self.stream.feed(first)
        self._at = end + len(first)
        self.log.leap(dropped - self.stream.held)

    def _count(self) -> None:
        self.count += self.stream.count
        self.stream.count = 0

    def _write(self, data: bytes) -> None:
        if not data:
            return
        fd = os.open(self.log.path, _MORE)
        try:
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
        self.log.look()

    def _replace(self) -> None:
        """It has caught up: from now on it is the copy."""
        if self.log.path != self._path:
            logs.move(self.log.path, self._path)
            self.log = logs.Log(self._path, self._limit)
            self.log.look()


def look(fleet_dir: str, attempt: Attempt) -> bool:
    """Brings the copies of a running process up to date; whether one of them is behind."""
    redactor = attempt.run.redactor
    if redactor is None:
        return False
    behind = False
    for stream, log in attempt.logs.items():
        if not log.size:
            continue
        try:
            copy = _copy_of(fleet_dir, attempt, stream, redactor)
            behind = copy.advance(log.hole, _LIVE, soon=True) or behind
        except OSError:  # a full disk: at its end it is made anew
            attempt.copies.pop(stream, None)
    return behind


def _copy_of(fleet_dir: str, attempt: Attempt, stream: str, redactor: Redactor) -> Copy:
    copy = attempt.copies.get(stream)
    if copy is None:
        plan = attempt.plan
        raw, path = f"{fleet_dir}/{plan[stream]}", f"{fleet_dir}/{plan['sealed'][stream]}"
        copy = attempt.copies[stream] = Copy(raw, path, attempt.log_limit, redactor)
    return copy


def seal(fleet_dir: str, attempt: Attempt) -> Generator[None, None, None]:
    """Makes the copies whole, and its plan one that names them; the raw files go."""
    redactor = attempt.run.redactor
    for stream in STREAMS:
        raw = f"{fleet_dir}/{attempt.plan[stream]}"
        log = logs.Log(raw, attempt.log_limit)
        log.seal()
        path = f"{fleet_dir}/{attempt.plan['sealed'][stream]}"
        if log.size and redactor is not None:
            yield from _sealed(fleet_dir, attempt, stream, log, redactor)
        elif log.size:
            attempt.of_logs[stream] = {"withheld": log.size - log.dropped}
            log = logs.Log(path, attempt.log_limit)
        else:
            _remove(raw)
            log = logs.Log(path, attempt.log_limit)
        attempt.logs[stream] = log if log.path == path else logs.Log(path, attempt.log_limit)
    attempt.plan = shown(attempt.plan)


def _sealed(
    fleet_dir: str, attempt: Attempt, stream: str, log: logs.Log, redactor: Redactor
) -> Generator[None, None, None]:
    try:
        copy = _copy_of(fleet_dir, attempt, stream, redactor)
        while copy.advance(log.hole, _PIECE):
            yield
        copy.finish()
        if copy.count:
            attempt.of_logs[stream] = {"redacted": copy.count}
        _remove(log.path)
    except OSError:  # a full disk: the raw file waits as if the values were not known
        attempt.of_logs[stream] = {"withheld": log.size - log.dropped}


def leftovers(execution: Execution, run: Run) -> Generator[None, None, None]:
    """Seals what runtimes have left raw that did not know the values of a run."""
    redactor = run.redactor
    folder = f"{execution.fleet_dir}/logs/{run.name}"
    if redactor is None or not os.path.isdir(folder):
        return
    for name in sorted(os.listdir(folder)):
        raw = f"{folder}/{name}"
        if not name.endswith(RAW):
            continue
        busy = {attempt.plan.get(stream) for attempt in execution.running.values()
                for stream in STREAMS}  # fmt: skip
        if f"logs/{run.name}/{name}" in busy:
            continue
        try:
            copy = Copy(raw, raw[: -len(RAW)], limits.LOG_LIMIT, redactor)
            while copy.advance(logs.hole_of(raw), _PIECE):
                yield
            copy.finish()
            _remove(raw)
        except OSError:
            continue
        yield


def _remove(raw: str) -> None:
    for path in (raw, raw + ".hole"):
        try:
            os.unlink(path)
        except OSError:
            continue
