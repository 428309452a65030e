"""What a manager hears and cannot understand ends in a sentence, not in another try for ever."""

import socket

import pytest

from codewhale_fleet.engine.link import Link
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


def test_what_was_said_last_is_heard_although_nothing_can_be_sent_any_more() -> None:
    ours, theirs = socket.socketpair()
    link = Link(ours)
    theirs.sendall(b'{"m":"refused","why":"transport","sentence":"no"}\n')
    theirs.close()
    link.say({"m": "hello"})
    link.flush()
    assert [one.sentence for one in link.receive()] == ["no"]
    assert link.receive() == [] and link.closed
