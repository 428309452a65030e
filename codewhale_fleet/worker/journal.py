"""The runtime's journal: what is true on this host, one JSON line each, never synced.

Two kinds of lines. *Facts* carry `n`, counted from 1 without a gap, and are sent to managers byte
for byte. *Internal* lines carry none: the heading (`runtime`), `epoch`, `intent` (written before
a spawn), `pid` (right after it), `stop` (it was asked to end), `exit` (before it is reaped),
`swept` (before a process that an attempt left behind is killed), `read` (what its streams said,
before their middle goes), `own` (what an attempt said of itself), `shelf` (a version of a run's
data), `spent` (what a run with caps had used, after a compaction), `told`,
`stuck`, `moved` and `known` (what compaction left of facts that were acknowledged: it was started,
it is stale, it is no longer, it is over).

Promises: what `flush` returned True for is in the file, whole; a torn last line is cut off when
the file is read; an attempt id that ever stood in it is known for ever; facts are kept until
acknowledged; memory and file stay bounded by what is open and unacknowledged plus the known
ids. Power loss is another boot id, after which the old journal is set aside: nothing is synced.
So is one that was copied here from another directory: what it tells of runs elsewhere.
It knows nothing of processes.
"""

from __future__ import annotations

import os
import time

from codewhale_fleet.worker import codec, limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from typing import Any

    from codewhale_fleet.worker.attempts import Attempt
    from codewhale_fleet.worker.screening import Guard
else:
    from _collections import deque

FILE_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_FULL = (28, 122)
"""ENOSPC, EDQUOT."""
_ATTEMPT = b'"attempt":"'
_OF_AN_ATTEMPT = tuple(
    b'{"f":"%s","a":"' % word
    for word in (b"intent", b"pid", b"exit", b"stop", b"told", b"stuck", b"moved", b"read", b"own")
)
_KEPT_OF_A_FACT = {b"stale": b"stuck", b"recovered": b"moved"}
"""What compaction writes in the place of an acknowledged fact about an open attempt."""
_SILENT = (b"progressed", b"asked", b"data", b"secrets")
"""Facts that leave nothing behind when they are acknowledged."""
_SHELF = b'{"f":"shelf","r":"'
_KNOWN_A_LINE = 500


class Record:
    """An attempt that the journal knows to be open: from its intent to before its end."""

    __slots__ = ("exit", "intent", "own", "pid", "pid_at", "reading", "stale", "started", "stop")

    def __init__(self, intent: dict[str, Any]) -> None:
        self.intent = intent
        self.pid = 0
        self.pid_at = 0.0
        self.started = False
        self.stale = False
        self.reading: dict[str, Any] = {}
        """`s`: snapshot of what was read of its streams (`s2`: of those of step 2 of its
        verification); `warned`: caps that were warned of."""
        self.own: list[dict[str, Any]] = []
        """What it has said of itself, in order."""
        self.exit: dict[str, Any] | None = None
        self.stop: dict[str, Any] | None = None


class Journal:
    """One file. `unacknowledged` holds (n, line) of the facts that no manager has confirmed."""

    def __init__(self, directory: str, boot: str, version: str) -> None:
        self.path = os.path.join(directory, "journal.jsonl")
        self.id = ""
        self.boot = boot
        self.version = version
        place = os.stat(directory)
        self.place = [place.st_dev, place.st_ino]
        """Device and inode of its directory: a copy of a journal is of no use elsewhere."""
        self.epoch = 0
        self.n = 0
        self.written_n = 0
        self.acknowledged = 0
        self.unacknowledged: deque[tuple[int, bytes]] = deque()
        self.open: dict[str, Record] = {}
        self.known_pids: dict[int, float] = {}
        """Pid and boot clock of each `pid` and `swept` line read back: for recovery only."""
        self.spent: dict[str, dict[str, Any]] = {}
        """Run with caps -> what it had used before a compaction: for recovery only."""
        self.ended: list[dict[str, Any]] = []
        """Ends of attempts of such runs: for recovery only."""
        self.shelves: dict[str, list[dict[str, Any]]] = {}
        """Run -> versions of its data: for whoever serves them."""
        self.guard: Guard | None = None
        """What takes secret values out of facts, once a run has some."""
        self._known: set[int] = set()
        self._pending: list[bytes] = []
        self._size = 0
        self._compact_at = 0
        self._fd = -1
        self._load()

    # ---- reading back

    def _load(self) -> None:
        self._fd = os.open(self.path, FILE_FLAGS, 0o600)
        with os.fdopen(os.dup(self._fd), "rb", 1 << 20) as file:
            file.seek(0)
            heading = file.readline()
            if not heading.endswith(b"\n") or not self._take_heading(heading):
                self._begin_anew(bool(heading))
                return
            self._size = len(heading)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._take(line)
                self._size += len(line)
        os.ftruncate(self._fd, self._size)
        self.written_n = self.n
        self._compact_at = self._size + limits.JOURNAL_BYTES

    def _take_heading(self, line: bytes) -> bool:
        try:
            heading = codec.decode(line)
            if heading["f"] != "runtime" or heading["boot"] != self.boot:
                return False
            if heading["place"] != self.place:
                return False
            self.id = heading["id"]
            self.n = self.acknowledged = heading.get("n", 0)
            self.epoch = heading.get("epoch", 0)
        except (ValueError, KeyError, TypeError):
            return False
        return True

    def _begin_anew(self, old: bool) -> None:
        if old:  # another boot, copied or damaged: set aside, its attempts are never started again
            os.close(self._fd)
            os.replace(self.path, self.path + ".old")
            self._fd = os.open(self.path, FILE_FLAGS, 0o600)
        self.id = os.urandom(6).hex()
        self._pending.append(codec.encode(self._heading()))
        self.flush()  # on a full disk: with the next one; until then nothing is started
        self._compact_at = self._size + limits.JOURNAL_BYTES

    def _heading(self) -> dict[str, Any]:
        heading = {"f": "runtime", "id": self.id, "boot": self.boot, "version": self.version}
        return {**heading, "place": self.place}

    def _take(self, line: bytes) -> None:
        try:
            entry = codec.decode(line)
        except ValueError:  # a torn line that a later one was glued to: not a fact
            return
        word = entry.get("f")
        if "n" in entry:
            self._take_fact(entry, line)
        elif word == "intent":
            self.learn(entry["a"])
            self.open[entry["a"]] = Record(entry)
        elif word == "swept":
            self.known_pids[entry["pid"]] = entry["t"]
        elif word == "pid":
            self.known_pids[entry["pid"]] = entry["t"]
            record = self.open.get(entry["a"])
            if record:
                record.pid, record.pid_at = entry["pid"], entry["t"]
        elif word == "exit" and entry["a"] in self.open:
            self.open[entry["a"]].exit = entry
        elif word == "stop" and entry["a"] in self.open:
            self.open[entry["a"]].stop = entry
        elif word in ("told", "stuck", "moved") and entry["a"] in self.open:
            self.open[entry["a"]].started = True
            self.open[entry["a"]].stale = word == "stuck"
        elif word == "read" and entry["a"] in self.open:
            step = entry.get("step") or ""
            self.open[entry["a"]].reading[f"s{step}"] = entry["s"]
        elif word == "own":
            if entry["a"] in self.open:
                self.open[entry["a"]].own.append(entry)
        elif word == "shelf":
            self.shelves.setdefault(entry["r"], []).append(entry["e"])
        elif word == "spent":
            self.spent[entry["r"]] = entry
        elif word == "epoch":
            self.epoch = entry["e"]
        elif word == "known":
            for attempt in entry["ids"]:
                self.learn(attempt)

    def _take_fact(self, entry: dict[str, Any], line: bytes) -> None:
        self.n = entry["n"]
        self.unacknowledged.append((self.n, line))
        attempt = entry["attempt"]
        if entry["f"] == "ended":
            self.learn(attempt)
            record = self.open.pop(attempt, None)
            if record and "run_caps" in record.intent["p"]:
                self.ended.append(entry)
        elif entry["f"] == "progressed":
            if attempt in self.open:
                self.open[attempt].reading.setdefault("warned", []).extend(entry.get("warn", ()))
        elif entry["f"] in ("asked", "data", "secrets"):
            pass
        elif attempt in self.open:
            self.open[attempt].started = True
            self.open[attempt].stale = entry["f"] == "stale"

    # ---- what is known

    def learn(self, attempt: str) -> None:
        """From now on `attempt` may not be started (again).

        64-bit hashes instead of strings: 7 MB less at 100,000 attempts. Two ids that share one
        would leave the second waiting; at 100,000 attempts the chance is 3 in 10,000,000,000.
        """
        self._known.add(hash(attempt))

    def knows(self, attempt: str) -> bool:
        """Was `attempt` ever told to this runtime to be run or to be forgotten?"""
        return hash(attempt) in self._known

    def forget(self, attempt: str) -> None:
        """Takes `learn` back: nothing was started and no line of it is in the file."""
        self._known.discard(hash(attempt))

    # ---- writing

    def put(self, entry: dict[str, Any]) -> None:
        """An internal line; in the file after the next flush."""
        self._pending.append(codec.encode(entry))

    def exited(self, attempt: Attempt) -> None:
        """The line about the end of an attempt's process, as it stands in `attempt`."""
        entry: dict[str, Any] = {"f": "exit", "a": attempt.id, "t": attempt.ended}
        if attempt.exit is not None:
            entry["exit"] = attempt.exit
        elif attempt.signal is not None:
            entry["signal"] = attempt.signal
        self.put(entry)

    def swept(self, pid: int) -> None:
        """Before the end of a process that an attempt left: after a kill of this runtime its
        note could be taken for that of an attempt which was just being spawned."""
        self.put({"f": "swept", "pid": pid, "t": time.clock_gettime(time.CLOCK_BOOTTIME)})
        self.flush()

    def drop_last(self) -> None:
        """Takes back the last `put` that could not be flushed."""
        self._pending.pop()

    def fact(self, word: str, fields: dict[str, Any]) -> None:
        """A fact; in the file after the next flush, and then to be sent."""
        self.n += 1
        if self.guard is not None:
            fields = self.guard.screened(fields["attempt"], fields)
        line = codec.encode_strictly({"n": self.n, "f": word, **fields})
        self._pending.append(line)
        self.unacknowledged.append((self.n, line))

    def flush(self, *, spare: bool = True) -> bool:
        """Writes what is pending in one write; False (and nothing of it written) on a full disk.

        With `spare` the room that the fleet keeps in reserve is given up for it first.
        """
        if not self._pending:
            return True
        data = b"".join(self._pending)
        try:
            sent = os.write(self._fd, data)
            while sent < len(data):
                sent += os.write(self._fd, data[sent:])
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            if error.errno not in _FULL or not spare or not self._spare():
                return False
            return self.flush(spare=False)
        self._pending.clear()
        self._size += len(data)
        self.written_n = self.n
        return True

    def _spare(self) -> bool:
        """Makes a little room; whether there was any in reserve."""
        try:
            os.unlink(os.path.join(os.path.dirname(self.path), "..", "reserve"))
        except OSError:
            return False
        return True

    def raise_epoch(self, epoch: int) -> None:
        """A higher epoch than any before: lower ones are fenced from now on, restarts included."""
        self.epoch = epoch
        self.put({"f": "epoch", "e": epoch})

    # ---- sending and forgetting

    def acknowledge(self, n: int) -> None:
        """A manager holds every fact up to `n` durably."""
        facts = self.unacknowledged
        while facts and facts[0][0] <= n:
            facts.popleft()
        self.acknowledged = max(self.acknowledged, min(n, self.n))

    def after(self, cursor: int) -> bytes:
        """The written facts with n > cursor, as they stand in the file."""
        last = self.written_n
        if cursor >= self.acknowledged:
            return b"".join([line for n, line in self.unacknowledged if cursor < n <= last])
        with open(self.path, "rb") as file:
            found = [line for line in file if cursor < number_of(line) <= last]
        return b"".join(found)

    def due_for_compaction(self) -> bool:
        """Has the file grown so much that the acknowledged part should go?"""
        return self._size > self._compact_at and not self._pending

    def compact(self, open_attempts: set[str]) -> None:
        """Rewrites the file: heading, known ids, lines of open attempts, unacknowledged facts."""
        oldest = self.unacknowledged[0][0] if self.unacknowledged else self.n + 1
        heading = {**self._heading(), "n": oldest - 1, "epoch": self.epoch}
        temporary = self.path + ".new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o600), "wb", 1 << 18) as new:
            new.write(codec.encode(heading))
            with open(self.path, "rb") as old:
                next(old)
                _copy_compacted(old, new, {_quoted(name) for name in open_attempts}, oldest)
        os.replace(temporary, self.path)
        os.close(self._fd)
        self._fd = os.open(self.path, FILE_FLAGS, 0o600)
        self._size = os.fstat(self._fd).st_size
        self._compact_at = 2 * self._size + limits.JOURNAL_BYTES


def number_of(line: bytes) -> int:
    """The n of a fact line; 0 of an internal one."""
    if not line.startswith(b'{"n":'):
        return 0
    return int(line[5 : line.index(b",", 5)])


def _quoted(attempt: str) -> bytes:
    return codec.encode(attempt)[1:-2]


def _copy_compacted(old: Any, new: Any, open_ids: set[bytes], oldest: int) -> None:
    """Lines are cut by their fixed beginnings: decoding 8 MB of them would take 0.2 s."""
    known: list[bytes] = []
    open_runs = {name.partition(b"/")[0] for name in open_ids}

    def write_known() -> None:
        if known:
            new.write(b'{"f":"known","ids":["' + b'","'.join(known) + b'"]}\n')
            known.clear()

    for line in old:
        n = number_of(line)
        if n >= oldest:
            new.write(line)
        elif n:
            at = line.index(_ATTEMPT) + len(_ATTEMPT)
            attempt = line[at : line.index(b'"', at)]
            word = line[line.index(b'"f":"') + 5 : at - len(_ATTEMPT) - 2]
            if word == b"ended":
                known.append(attempt)
                if len(known) >= _KNOWN_A_LINE:
                    write_known()
            elif attempt in open_ids and word not in _SILENT:
                kept = _KEPT_OF_A_FACT.get(word, b"told")
                new.write(b'{"f":"' + kept + b'","a":"' + attempt + b'"}\n')
        elif line.startswith(b'{"f":"known"'):
            new.write(line)
        elif line.startswith(_SHELF):
            if line[len(_SHELF) : line.index(b'"', len(_SHELF))] in open_runs:
                new.write(line)
        elif line.startswith(_OF_AN_ATTEMPT):
            at = line.index(b'"a":"') + 5
            if line[at : line.index(b'"', at)] in open_ids:
                new.write(line)
    write_known()
