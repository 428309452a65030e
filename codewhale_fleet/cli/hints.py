"""One line for who calls in a loop what one call does, told at the third call of the same shape.

`seen` remembers calls that have one target each, and answers with the call that does them all when
a third target comes within a minute; never more than once a minute and shape, however many call at
once: the order of the lines in the file says whose call is the third. Nobody waits for a lock, and
what cannot be remembered is passed over. Knows nothing of what the calls do.
"""

import os
import time
from zlib import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .names import Target
    from .run import Plan

FILE = "calls"
"""Below the fleet's directory; may go at any time."""

THIRD = 3
"""So many targets make a loop."""

WINDOW_SECONDS = 60.0

MAX_BYTES = 48 * 1024
"""Size at which the file begins anew."""

MAX_CALL_BYTES = 400
"""What is longer is not remembered."""

MAX_WORDS = 12
"""Words of a command, more than which are not compared."""

LISTED = 20
"""Targets that a hint names."""

PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-")
"""What needs no quotes in a shell."""

Line = tuple[float, bytes, str | None]
"""When, whose (a stamp that no other line has), and of which target; None: a hint was given."""


def seen(fleet_dir: str, shape: str, target: str) -> str | None:
    """The hint for a call with one target, where it is due.

    `shape` is the one call that does the same for many, as a person types it: the targets take the
    place of `{,}` (with commas between) or `{ }` (with blanks). Calls of one shape are counted
    together. Costs less than a millisecond; tests/cli/test_hints.py holds it for 500 at once.
    """
    for _, found in _due(fleet_dir, [_key(shape)], [target]):
        return _sentence(shape, found)
    return None


def typed(words: "Sequence[str]") -> str:
    """Words as a shell takes them; shlex would be one more import for each call."""
    return " ".join(_quoted(word) for word in words)


def of_id(fleet_dir: str, command: str, ids: "Sequence[str]") -> str | None:
    """The hint for a command that was given one id, and takes many."""
    return seen(fleet_dir, f"fleet {command} {{ }}", ids[0]) if len(ids) == 1 else None


def of_task(fleet_dir: str, command: str, target: "Target") -> str | None:
    """The hint for a command that shows one task, and could show all of its run."""
    if target.task is None:
        return None
    return seen(fleet_dir, f"fleet {command} {target.run.id}", target.task.id)


def of_run(fleet_dir: str, plan: "Plan") -> str | None:
    """The hint for a run of one task: a spec's, or that of one line."""
    from msgspec import DecodeError, json

    try:
        task = json.decode(plan.tasks[0])
    except DecodeError:
        return None
    words = _words(task.get("command"))
    if words and not set(task) - {"id", "command", "name", "objective"}:
        return _of_words(fleet_dir, words)
    fields = ",".join(sorted(key for key in task if key != "id"))
    shape = f"run {fields} {task.get('agent', '')}"
    if not _due(fleet_dir, [_key(shape)], [str(crc32(plan.tasks[0]))]):
        return None
    return (
        "three runs of one task each within a minute. One run does them side by side, with one "
        "summary: put each as [[tasks]] into one file, then fleet run FILE"
    )


def _words(command: object) -> list[str]:
    """The words of a command; none where a shell is to make more of it."""
    if isinstance(command, list):
        return [str(word) for word in command]
    if isinstance(command, str):
        words = command.split()
        if all(PLAIN.issuperset(word) for word in words):
            return words
    return []


def _of_words(fleet_dir: str, words: list[str]) -> str | None:
    """The hint where other calls differ in one word only."""
    if len(words) > MAX_WORDS or any("{}" in word for word in words) or _is_builtin(words[0]):
        return None
    blanked = [[*words[:at], "{}", *words[at + 1 :]] for at in range(1, len(words))]
    for at, found in _due(fleet_dir, [_key("\0".join(one)) for one in blanked], words[1:]):
        command = typed(blanked[at]).replace("'{}'", "{}")
        return _sentence(f"printf '%s\\n' {{ }} | fleet run --each - -- {command}", found)
    return None


def _is_builtin(program: str) -> bool:
    """Whether it is a shell's own command, as far as PATH tells."""
    places = os.environ.get("PATH", "").split(":")
    return "/" not in program and not any(
        os.access(f"{place}/{program}", os.X_OK) for place in places
    )


def _sentence(shape: str, targets: list[str]) -> str:
    names = targets[-LISTED:]
    call = shape.replace("{,}", _quoted(",".join(names)), 1).replace("{ }", typed(names), 1)
    return (
        f"{len(targets)} calls within a minute differ only in their target; one call does them "
        f"all: {call}"
    )


def _quoted(word: str) -> str:
    if word and PLAIN.issuperset(word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


# What is remembered ---------------------------------------------------------------------------


def _key(shape: str) -> bytes:
    return b"%08x" % crc32(shape.encode(errors="replace"))


def _due(fleet_dir: str, keys: list[bytes], targets: list[str]) -> list[tuple[int, list[str]]]:
    """Remember a call by its keys, with a target for each; (which key, all targets) where due."""
    call = "\0".join(targets).encode(errors="replace")
    for sign, instead in ESCAPES:
        call = call.replace(sign, instead)
    if len(call) > MAX_CALL_BYTES:
        return []
    now = time.time()
    mine = b"%.6f-%d" % (now, os.getpid())
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        file = os.open(f"{fleet_dir}/{FILE}", flags, 0o600)
    except OSError:
        return []
    try:
        os.write(file, b"%b\t%b\t%b\n" % (mine, b",".join(keys), call))  # whole, or not at all
        data = os.pread(file, 2 * MAX_BYTES, 0)
        if len(data) > MAX_BYTES:
            _begin_anew(file, data, now)
        keys = [b"" if _was_told(data, key, now) else key for key in keys]
        wanted = [key for key in keys if key]
        known = _by_key(line for line in data.split(b"\n") if any(key in line for key in wanted))
        due = [
            (at, found)
            for at, key in enumerate(keys)
            for _, stamp, found in _tellings(known.get(key, ()))
            if stamp == mine
        ]
        for at, _ in due:
            os.write(file, TOLD % (mine, keys[at]))
    except OSError:
        return []
    finally:
        os.close(file)
    return due


ESCAPES = ((b"%", b"%25"), (b"\n", b"%0a"), (b"\t", b"%09"))
"""What stands for signs that separate; in this order."""

TOLD = b"%b\t%b\t%%\n"
"""A line that says: there was a hint. Its target is what no name is escaped to."""


def _was_told(data: bytes, key: bytes, now: float) -> bool:
    """Whether there was a hint within the last minute, as far as that was noted by now."""
    end = data.rfind(b"\t%b\t%%\n" % key)
    stamp = data[data.rfind(b"\n", 0, end) + 1 : end].partition(b"-")[0] if end > 0 else b""
    return stamp.replace(b".", b"", 1).isdigit() and abs(now - float(stamp)) < WINDOW_SECONDS


def _by_key(data: "Iterable[bytes]") -> dict[bytes, list[Line]]:
    """The calls of each key, in the order of the file."""
    found: dict[bytes, list[Line]] = {}
    for line in data:
        stamp, _, rest = line.partition(b"\t")
        keys, _, call = rest.partition(b"\t")
        when = stamp.partition(b"-")[0]
        if not when.replace(b".", b"", 1).isdigit():
            continue
        targets: list[str | None] = [None]
        if call != b"%":
            for sign, instead in reversed(ESCAPES):
                call = call.replace(instead, sign)
            targets = [*call.decode(errors="replace").split("\0")]
        for key, target in zip(keys.split(b","), targets, strict=False):
            found.setdefault(key, []).append((float(when), stamp, target))
    return found


def _tellings(lines: "Iterable[Line]") -> "Iterator[tuple[float, bytes, list[str]]]":
    """Each call of a key that is told of the others: when, whose, and the targets of the minute."""
    told_at = 0.0
    recent: dict[str, float] = {}
    for when, stamp, target in lines:
        if target is None:
            told_at = when
            continue
        recent.pop(target, None)
        recent[target] = when
        if abs(when - told_at) < WINDOW_SECONDS:
            continue
        recent = {one: at for one, at in recent.items() if abs(when - at) < WINDOW_SECONDS}
        if len(recent) >= THIRD:
            told_at = when
            yield when, stamp, list(recent)


def _begin_anew(file: int, data: bytes, now: float) -> None:
    """Forget all calls, but not that hints were given within the last minute."""
    kept = b""
    for key, lines in _by_key(data.split(b"\n")).items():
        told = [(when, stamp) for when, stamp, target in lines if target is None]
        told += [(when, stamp) for when, stamp, _ in _tellings(lines)]
        for when, stamp in sorted(told)[-1:]:
            if abs(now - when) < WINDOW_SECONDS:
                kept += TOLD % (stamp, key)
    os.ftruncate(file, 0)
    os.write(file, kept)
