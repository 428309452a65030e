"""What the ledger says of itself: segments, compaction, repair. Words of `events.py`."""

# ruff: noqa: RUF012 (msgspec copies mutable defaults)
from msgspec import Raw

from .parts import Event


class LedgerSealed(Event, frozen=True, kw_only=True):
    """A segment begins; `segment` is the one before it, with its digest, size and records."""

    word = "ledger.sealed"
    segment: int
    sha256: str
    bytes: int
    first: int
    last: int


class RunSummarized(Event, frozen=True, kw_only=True):
    """What compaction left of a finished run's detail, in several lines before its last end.

    `tasks` are rows of core/summary.py: each task with its attempts, and how they were judged.
    These lines bear the number of the `run.finished` that they stand before. `on` is when. `reason`
    and `source` say why the run was stopped, if it was and did not go on.
    """

    word = "run.summarized"
    on: str
    tasks: list[Raw]
    part: int = 0
    reason: str = ""
    source: str = ""


class LedgerCompacted(Event, frozen=True, kw_only=True):
    """Segment `segment`, records `first` to `last`, lost the detail of `runs` finished runs.

    Those are all that had finished for good before `before`, and in a segment up to `through`. The
    same word heads the new file, without `sha256`: `original` is the digest of what was sealed,
    `chain` the chain value at its end, `dropped` counts records by word, `cursors` and `latest` are
    what those told the state.
    """

    word = "ledger.compacted"
    segment: int
    first: int
    last: int
    chain: str
    original: str
    before: str
    through: int
    runs: int
    sha256: str = ""
    bytes: int = 0
    dropped: dict[str, int] = {}
    cursors: dict[str, int] = {}
    latest: str = ""


class LedgerRepaired(Event, frozen=True, kw_only=True):
    """What could not stand went to `quarantine`: `bytes`, from `offset` of `segment` on.

    A writer does that only with a tail that was never acknowledged; `asked` says that a person
    asked for it, and `behind` how many records there still followed from each other.
    """

    word = "ledger.repaired"
    segment: int
    offset: int
    bytes: int
    quarantine: str = ""
    asked: bool = False
    behind: int = 0
