"""What a manager hears and cannot understand ends in a sentence, not in another try for ever."""

import socket
import tracemalloc

import pytest

from codewhale_fleet.engine.link import READ_BYTES, Link
from codewhale_fleet.errors import Unreachable


@pytest.mark.parametrize("said", [b"nonsense\n", b'{"n":"one"}\n', b'{"m":"hello"}\n\xff\n'])
def test_a_line_of_another_version_is_told_in_a_sentence(said: bytes) -> None:
    ours, runtimes = socket.socketpair()
    with ours, runtimes:
        runtimes.sendall(said)
        with pytest.raises(Unreachable, match="do not understand each other"):
            Link(ours).receive()


def test_messages_are_whole_whatever_pieces_they_come_in() -> None:
    ours, runtimes = socket.socketpair()
    with ours, runtimes:
        link, heard = Link(ours), []
        for piece in (b'{"m":"he', b'llo","epoch":7}\n{"f":"ended","n"', b":3}\n"):
            runtimes.sendall(piece)
            heard += link.receive()
        assert [(one.m, one.epoch, one.f, one.n) for one in heard] == [
            ("hello", 7, "", 0),
            ("", 0, "ended", 3),
        ]
        runtimes.close()
        assert link.receive() == [] and link.closed


def test_a_long_line_costs_each_of_its_pieces_no_more_than_that_piece() -> None:
    ours, runtimes = socket.socketpair()
    piece, most = b"x" * (64 << 10), 0
    with ours, runtimes:
        link = Link(ours)
        runtimes.sendall(b'{"m":"refused","sentence":"')
        assert link.receive() == []
        tracemalloc.start()
        try:
            for _ in range(64):
                runtimes.sendall(piece)
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                assert link.receive() == []
                most = max(most, tracemalloc.get_traced_memory()[1] - before)
        finally:
            tracemalloc.stop()
        runtimes.sendall(b'"}\n')
        assert [len(one.sentence) for one in link.receive()] == [64 * len(piece)]
    assert most < READ_BYTES + 2 * len(piece) < 64 * len(piece) / 2


def test_what_was_said_last_is_heard_although_nothing_can_be_sent_any_more() -> None:
    ours, theirs = socket.socketpair()
    link = Link(ours)
    theirs.sendall(b'{"m":"refused","why":"transport","sentence":"no"}\n')
    theirs.close()
    link.say({"m": "hello"})
    link.flush()
    assert [one.sentence for one in link.receive()] == ["no"]
    assert link.receive() == [] and link.closed
