"""The stream between connector and relay: any pieces, files between lines, and nonsense."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codewhale_fleet.worker import frames, limits, relay
from codewhale_fleet.worker.protocol import Broken

LINES = st.binary(max_size=20).map(lambda data: b"x" + data.replace(b"\n", b"") + b"\n")
FILES = st.binary(max_size=60)


@given(st.lists(st.one_of(LINES, st.tuples(FILES)), max_size=12), st.data())
def test_lines_and_files_come_out_as_they_went_in_whatever_the_pieces(
    items: list[bytes | tuple[bytes]], data: st.DataObject
) -> None:
    stream = b""
    for item in items:
        if isinstance(item, bytes):
            stream += item
        else:
            fields = {"path": "logs/a", "size": len(item[0]), "parts": [[0, len(item[0])]]}
            stream += frames.line_of("file", fields) + item[0]
    reader = frames.Reader()
    lines, files = b"", []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        for frame, piece in reader.receive(stream[:cut]):
            if frame is None:
                lines += piece
            elif not piece:
                files.append(b"")
            else:
                files[-1] += piece
        stream = stream[cut:]
    assert lines == b"".join(item for item in items if isinstance(item, bytes))
    assert files == [item[0] for item in items if not isinstance(item, bytes)]


@pytest.mark.parametrize(
    "line",
    [
        b"!file {\n",
        b"!file []\n",
        b"!f1le {}\n",
        b'!file {"parts":[[0]]}\n',
        b'!file {"parts":[[0,-1]]}\n',
        b'!file {"parts":[["a",1]]}\n',
        b'!file {"parts":7}\n',
    ],
)
def test_what_is_no_frame_is_broken(line: bytes) -> None:
    with pytest.raises(Broken):
        list(frames.Reader().receive(line))


def test_a_line_without_end_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINE_BYTES", 1 << 20)
    reader = frames.Reader()
    with pytest.raises(Broken, match="longer"):
        for _ in range(3):
            list(reader.receive(b"a" * (1 << 19)))


def test_the_holes_of_a_file_are_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(b"a" * 4096)
        file.seek(8 << 20)
        file.write(b"b" * 4096)
    fd = os.open(path, os.O_RDONLY)
    parts = frames.extents(fd, path.stat().st_size)
    assert sum(count for _, count in parts) <= 1 << 16
    sent = b"".join(frames.pieces(fd, parts))
    assert sent.replace(b"\0", b"") == b"a" * 4096 + b"b" * 4096
    os.close(fd)


def test_the_files_that_a_fact_names_are_found_and_none_outside() -> None:
    digest = "0" * 64
    fact = {
        "logs": {"out": {"path": "logs/r/a.1.out", "size": 3, "sha256": "f" * 64}},
        "evidence": {"x": {"sha256": digest, "size": 2}},
        "steps": [{"verdict": {"sha256": "1" * 64}}],
        "artifacts": [{"kind": "report", "path": "out/report.md", "sha256": ""}],
    }
    kept = [f"evidence/{digest}", "evidence/" + "1" * 64]
    assert list(relay.named(fact)) == ["logs/r/a.1.out", *kept]
    for path in ("logs/../runtime/journal", "runtime/journal.jsonl", "/etc/passwd"):
        with pytest.raises(Broken):
            relay.log_path(path)
    for sha in ("../../etc/passwd", "A" * 64, "0" * 63, 7):
        with pytest.raises(Broken):
            relay.evidence_path(sha)


def test_a_long_line_in_small_pieces_is_moved_once() -> None:
    piece, count = b"a" * 4096, 8000  # moved anew for each piece: 130 GB
    reader, lines = frames.Reader(), frames.Lines()
    for _ in range(count):
        assert not list(reader.receive(piece))
        assert not lines.receive(piece)
    whole = piece * count + b"\n"
    assert list(reader.receive(b"\nb")) == [(None, whole)]
    assert lines.receive(b"\nb") == whole
    assert lines.receive(b"\n") == b"b\n"


def test_inputs_go_a_week_after_they_were_last_asked_for(tmp_path: Path) -> None:
    relay.forget_inputs(str(tmp_path))
    (tmp_path / "inputs").mkdir()
    for name, days in (("old", 8), ("new", 6)):
        path = tmp_path / "inputs" / name
        path.write_text("")
        then = time.time() - days * 86400
        os.utime(path, (then, then))
    relay.forget_inputs(str(tmp_path))
    assert [path.name for path in (tmp_path / "inputs").iterdir()] == ["new"]
