"""Removing the files of runs that finished long ago: logs, scratch, evidence, quarantine.

Promises to touch nothing of a run that is open or unknown, nothing that is younger, and nothing
outside the fleet's directory: no link is followed. The ledger keeps its references; whoever shows
them says that the file was removed. The worker runtime's journal is not of its business: the
runtime itself drops what was acknowledged.
"""

import os
from collections.abc import Iterator

from msgspec import Struct

from ..core.events import AttemptEnded, AttemptProgressed, DataPut, Event, ReceiptRecorded
from ..core.state import Run
from ..core.summary import waits
from ..ledger.reader import Reader
from ..ledger.record import stamp
from . import isolated

OF_RUNS = ("logs", "prompts", "scratch")
"""Directories with one directory a run."""
EVIDENCE = "evidence"
QUARANTINE = "quarantine"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


class Collected(Struct, kw_only=True):
    """What was removed, or would be. Bytes are those that the disk gets back."""

    before: str
    """Runs that finished before this instant were looked at."""
    dry_run: bool
    runs: int = 0
    """Runs that lost files."""
    files: int = 0
    bytes: int = 0
    kinds: dict[str, dict[str, int]] = {}
    """Files and bytes by directory."""
    kept: str = ""
    """What was passed over, and why; empty for nothing."""


def collect(ledger: Reader, age: float, *, dry_run: bool) -> Collected:
    """Remove what is older than `age` seconds."""
    return _Collecting(ledger, age, dry_run).done()


class _Collecting:
    """One pass over a fleet's directory."""

    def __init__(self, ledger: Reader, age: float, dry_run: bool) -> None:
        self.ledger = ledger
        self.oldest = ledger.clock() - age
        self.dry_run = dry_run
        self.found = Collected(before=stamp(max(0.0, self.oldest)), dry_run=dry_run)
        self.losers: set[str] = set()

    def done(self) -> Collected:
        """Everything, in order."""
        self.ledger.refresh()
        for kind in OF_RUNS:
            with _opened(kind, self.ledger.dir) as folder:
                if folder >= 0:
                    self.of_runs(kind, folder)
        with _opened(isolated.PLACE, self.ledger.dir) as folder:
            if folder >= 0:
                self.own_directories(folder)
        with _opened(EVIDENCE, self.ledger.dir) as folder:
            if folder >= 0:
                self.evidence(folder)
        with _opened(QUARANTINE, self.ledger.dir) as folder:
            if folder >= 0:
                self.below(QUARANTINE, folder, self.oldest)
        self.found.runs = len(self.losers)
        return self.found

    def is_over(self, run: Run | None) -> bool:
        """Whether a run finished so long ago that its files may go: not while somebody's verdict is
        waited for."""
        if run is None or run.status != "finished" or waits(run):
            return False
        return run.finished_ts < self.found.before

    def of_runs(self, kind: str, folder: int) -> None:
        """The directories of runs in `kind`."""
        for name in sorted(os.listdir(folder)):
            if not self.is_over(self.ledger.state.runs.get(name)):
                continue
            self.ledger.refresh()  # somebody may have brought it back by now
            if not self.is_over(self.ledger.state.runs.get(name)):
                continue
            before = self.found.files
            try:
                inner = os.open(name, _FOLDER, dir_fd=folder)
            except OSError:
                continue  # no directory, or a link
            try:
                self.below(kind, inner, None)
            finally:
                os.close(inner)
            if not self.dry_run:
                _remove_folder(name, folder)
            if self.found.files > before:
                self.losers.add(name)

    def own_directories(self, folder: int) -> None:
        """Those that attempts had for themselves, with what git keeps about them."""
        for run in sorted(os.listdir(folder)):
            for name in isolated.of_run(self.ledger.dir, run):
                if not self.is_over(self.ledger.state.runs.get(run)):
                    break
                self.ledger.refresh()
                directory = self.ledger.dir / isolated.PLACE / run / name
                files, size = isolated.size_of(directory)
                if not self.dry_run:
                    try:
                        isolated.remove(os.path.realpath(directory))
                    except (OSError, isolated.Refusal) as reason:
                        self.found.kept = f"{isolated.PLACE}/{run}/{name}: {reason}"
                        continue
                self.count(isolated.PLACE, files, size)
                self.losers.add(run)

    def below(self, kind: str, folder: int, oldest: float | None) -> None:
        """Everything in an open directory that is older than `oldest`."""
        for entry in _entries(folder):
            if entry.is_dir(follow_symlinks=False):
                inner = os.open(entry.name, _FOLDER, dir_fd=folder)
                try:
                    self.below(kind, inner, oldest)
                finally:
                    os.close(inner)
                if not self.dry_run:
                    _remove_folder(entry.name, folder)
            else:
                self.remove(kind, folder, entry.name, oldest)

    def remove(self, kind: str, folder: int, name: str, oldest: float | None) -> None:
        """One file, or link."""
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if oldest is not None and status.st_mtime >= oldest:
                return
            if not self.dry_run:
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return
        self.count(kind, 1, status.st_blocks * 512 if status.st_nlink == 1 else 0)

    def count(self, kind: str, files: int, size: int) -> None:
        """So many files are gone, or would be."""
        counted = self.found.kinds.setdefault(kind, {"files": 0, "bytes": 0})
        counted["files"] += files
        counted["bytes"] += size
        self.found.files += files
        self.found.bytes += size

    def evidence(self, folder: int) -> None:
        """Kept files that no younger run refers to. Not while something is open: an attempt that
        ends now may refer to a file that was kept long ago.
        """
        names = set(os.listdir(folder))
        if not names:
            return
        if self.ledger.state.open_runs:
            self.found.kept = "evidence, because a run is open"
            return
        for run in self.ledger.state.runs.values():
            if self.is_over(run) or run.status == "draft" or not names:
                continue
            names.discard(run.script)
            for _, event in self.ledger.records(run.id, run.opened_at, containing=b'"sha256":"'):
                names.difference_update(_kept_for(event))
        self.ledger.refresh()
        if not self.ledger.state.open_runs:
            for name in sorted(names):
                self.remove(EVIDENCE, folder, name, self.oldest)


def _kept_for(event: Event) -> "Iterator[str]":
    """Digests of everything that a record refers to and that may lie in the evidence."""
    if isinstance(event, ReceiptRecorded) and event.evidence is not None:
        yield event.evidence.sha256
    if isinstance(event, DataPut):
        yield event.sha256
    if isinstance(event, AttemptProgressed) and event.checkpoint is not None:
        yield event.checkpoint.sha256
    if not isinstance(event, AttemptEnded):
        return
    yield from (one.sha256 for one in event.evidence.values())
    yield from (one.sha256 for one in event.artifacts)
    for step in event.steps:
        yield from (one.sha256 for one in (step.verdict, step.seen) if one is not None)


class _opened:
    """A directory of the fleet, open for its block; -1 where there is none, or a link."""

    def __init__(self, name: str, folder: "os.PathLike[str]") -> None:
        try:
            self.descriptor = os.open(os.path.join(folder, name), _FOLDER)  # noqa: PTH118
        except OSError:
            self.descriptor = -1

    def __enter__(self) -> int:
        return self.descriptor

    def __exit__(self, *error: object) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def _entries(folder: int) -> "Iterator[os.DirEntry[str]]":
    with os.scandir(folder) as found:
        yield from sorted(found, key=lambda entry: entry.name)


def _remove_folder(name: str, folder: int) -> None:
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError:
        pass  # something younger is in it, or somebody writes there again
