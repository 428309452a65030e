"""The pure parts: codec, timers, journal, slots, protocol; and what a start may import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import codewhale_fleet
from codewhale_fleet.worker import codec, journal, limits
from codewhale_fleet.worker.attempts import Run, Waiting, is_attempt_id
from codewhale_fleet.worker.journal import Journal
from codewhale_fleet.worker.protocol import Broken, Conversation
from codewhale_fleet.worker.timers import Timers

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(values)
def test_the_codec_agrees_with_json(value: object) -> None:
    line = codec.encode(value)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert json.loads(line) == value
    assert codec.decode(line) == json.loads(line)


@given(st.binary(max_size=30))
def test_the_codec_raises_nothing_but_value_errors(data: bytes) -> None:
    try:
        found = codec.decode(data)
    except ValueError:
        return
    assert json.loads(data) == found


@pytest.mark.parametrize("line", [b"[1] 2", b"NaN", b"[" * 100_000, b"", b"{'a':1}"])
def test_what_is_not_one_json_value_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        codec.decode(line)


def test_file_names_that_are_not_unicode_survive() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert codec.decode(codec.encode(name)) == name


def test_a_timer_has_one_time_and_is_cleared() -> None:
    timers = Timers()
    timers.set("a", 5.0)
    timers.set("b", 2.0)
    timers.set("a", 1.0)
    timers.set("c", 1.5)
    timers.clear("c")
    assert timers.next() == 1.0
    assert timers.due(3.0) == ["a", "b"] and timers.due(9.0) == [] and timers.next() is None


def test_many_long_timers_that_were_cleared_leave_nothing() -> None:
    timers = Timers()
    for number in range(10_000):
        timers.set(str(number), 1e9)
        timers.clear(str(number))
    assert len(timers._heap) < 200


def a_journal(path: Path) -> Journal:
    return Journal(str(path), "boot", "1.0")


def an_end(attempt: str) -> dict[str, object]:
    return {"attempt": attempt, "slot": "r-local-1", "exit": 0}


def test_a_journal_is_read_back_and_a_torn_line_is_cut(tmp_path: Path) -> None:
    first = a_journal(tmp_path)
    for name in ("r/a@1", "r/b@1"):
        first.put({"f": "intent", "a": name, "s": "r-local-1", "t": 1.0, "p": {}})
        first.put({"f": "pid", "a": name, "pid": 7, "t": 1.1})
    first.fact("ended", an_end("r/a@1"))
    first.raise_epoch(4)
    assert first.flush()
    with Path(first.path).open("a") as file:
        file.write('{"f":"intent","a":"r/c@1"')

    second = a_journal(tmp_path)
    assert second.id == first.id and second.epoch == 4 and second.n == 1
    assert list(second.open) == ["r/b@1"] and second.open["r/b@1"].pid == 7
    assert second.knows("r/a@1") and second.knows("r/b@1") and not second.knows("r/c@1")
    second.fact("ended", an_end("r/b@1"))
    assert second.flush()
    assert [journal.number_of(line) for line in second.after(0).splitlines()] == [1, 2]


def test_compaction_keeps_what_is_open_unacknowledged_or_known(tmp_path: Path) -> None:
    first = a_journal(tmp_path)
    for number in range(1200):
        name = f"r/t{number}@1"
        first.put({"f": "intent", "a": name, "s": "r-local-1", "t": 1.0, "p": {}})
        first.put({"f": "pid", "a": name, "pid": number, "t": 1.1})
        first.put({"f": "exit", "a": name, "t": 1.2, "exit": 0})
        first.fact("ended", an_end(name))
    first.put({"f": "intent", "a": "r/open@1", "s": "r-local-1", "t": 1.0, "p": {"out": "x"}})
    first.put({"f": "pid", "a": "r/open@1", "pid": 5, "t": 1.1})
    first.fact("started", {"attempt": "r/open@1", "slot": "r-local-1", "pid": 5, "since": 1.0})
    first.fact("ended", an_end("r/last@1"))
    first.raise_epoch(3)
    assert first.flush()
    first.acknowledge(1201)
    size = Path(first.path).stat().st_size
    first.compact({"r/open@1"})
    first.compact({"r/open@1"})
    assert Path(first.path).stat().st_size < size / 15

    first.fact("ended", an_end("r/after@1"))
    assert first.flush()
    second = a_journal(tmp_path)
    assert (second.n, second.epoch, second.id) == (1203, 3, first.id)
    assert all(second.knows(f"r/t{number}@1") for number in range(1200))
    assert second.knows("r/last@1") and list(second.open) == ["r/open@1"]
    record = second.open["r/open@1"]
    assert record.pid == 5 and record.started and record.intent["p"] == {"out": "x"}
    assert [n for n, _ in second.unacknowledged] == [1202, 1203]
    assert second.after(1201) == b"".join(line for _, line in second.unacknowledged)


def test_a_full_disk_writes_nothing_by_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = a_journal(tmp_path)
    before = Path(found.path).read_bytes()
    real = journal.os.write
    calls: list[int] = []

    def short(fd: int, data: bytes) -> int:
        calls.append(fd)
        if len(calls) == 1:
            return real(fd, data[:10])
        raise OSError(28, "No space left on device")

    found.fact("ended", an_end("r/a@1"))
    monkeypatch.setattr(journal.os, "write", short)
    assert not found.flush() and found.written_n == 0 and found.after(0) == b""
    monkeypatch.setattr(journal.os, "write", real)
    assert Path(found.path).read_bytes() == before
    assert found.flush() and found.written_n == 1


@given(st.lists(st.sampled_from(["add", "take", "free", "withdraw"]), max_size=60))
def test_slots_are_work_conserving_and_in_order(steps: list[str]) -> None:
    run = Run("r")
    run.slots = 2
    told: list[str] = []
    taken: list[str] = []
    for number, step in enumerate(steps):
        if step == "add":
            told.append(f"r/{number}@1")
            run.add(Waiting(told[-1], f"r-local-{number % 2 + 1}", {}), 2)
        elif step == "withdraw" and run.waiting:
            name = next(iter(run.waiting))
            run.withdraw(name)
            told.remove(name)
        elif step == "free" and run.busy:
            run.busy.pop()
        elif step == "take":
            expected = bool(run.waiting) and len(run.busy) < 2
            found = run.take_next()
            assert (found is not None) == expected
            if found:
                taken.append(found[0].attempt)
        assert run.busy <= {"r-local-1", "r-local-2"}
    assert taken == told[: len(taken)]


@pytest.mark.parametrize(
    ("attempt", "good"),
    [("r/t@1", True), ("r/a@b@12", True), ("r@1", False), ("/t@1", False), ("r/@1", False),
     ("r/t@", False), ("r/t@x", False), ('r/"@1', False), ("r/\\@1", False), ("r/\n@1", False)],
)  # fmt: skip
def test_attempt_ids(attempt: str, good: bool) -> None:
    assert is_attempt_id(attempt) == good


@given(st.integers(1, 40))
def test_messages_are_the_same_however_the_bytes_arrive(step: int) -> None:
    said = [
        {"m": "hello", "protocol": 1, "epoch": 3, "cursors": {}},
        {"m": "ack", "n": 4},
        {"m": "ping"},
    ]
    data = b"".join(codec.encode(message) for message in said)
    conversation = Conversation()
    heard = []
    for at in range(0, len(data), step):
        heard += conversation.receive(data[at : at + step])
    assert heard == said and conversation.epoch == 3


def test_a_message_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINE_BYTES", 1000)
    conversation = Conversation()
    with pytest.raises(Broken, match="longer than 1000 bytes"):
        for _ in range(20):
            conversation.receive(b"x" * 100)


HEAVY = {"json", "re", "enum", "typing", "asyncio", "subprocess", "socket", "signal", "ctypes",
         "hashlib", "collections", "mimetypes", "threading", "fnmatch", "resource"}  # fmt: skip


def test_a_start_imports_nothing_heavy() -> None:
    packages = str(Path(codewhale_fleet.__file__).parent.parent)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import codewhale_fleet.worker.main;"
        "print(*sys.modules)"
    )
    words = [sys.executable, "-I", "-S", "-c", code, packages]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(found)
    ours = {name for name in found if name.startswith("codewhale_fleet.")}
    assert all(name.startswith("codewhale_fleet.worker") for name in ours)
