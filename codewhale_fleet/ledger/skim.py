"""Which lines of a block need no decoding, because they are detail of a run that finishes later.

Looks at bytes only: how a line begins, and the run that its head names.
"""

import re
from collections.abc import Container

RUN = b'"run":"'
SEQ = b'"seq":'
ATTEMPT = b'{"k":"attempt.'
TASKS = b'{"k":"tasks.added"'
TOLD = (ATTEMPT, b'{"k":"question.', b'{"k":"data.')
"""How lines begin that may name a fact of a worker runtime, and no spec."""
DETAIL = (*TOLD, b'{"k":"task', b'{"k":"control.', b'{"k":"receipt.')
"""How lines begin that say something only about the rows of one run."""
SUMMARY = b'{"k":"run.summarized"'
"""How lines begin that sum up a run whose detail is gone."""
HEAD_BYTES = 120
"""More than stands before a line's `run`, less than stands before the specs in its payload."""
_SOURCE = re.compile(rb'"src":\["([^"]+)",(\d+)\]')


def skim(
    lines: list[bytes], first: int, last: int, unfinished: Container[bytes], wanted: list[int]
) -> None:
    """Add to `wanted` the lines from `first` to `last` that are not detail of unfinished runs.

    Most lines are of one run, and one search a line tells them.
    """
    if first == last:
        return
    likely = run_in(lines[(first + last) // 2])
    mark = b'"run":"%b",' % likely if likely in unfinished else b"\n"
    reach = HEAD_BYTES + len(mark)
    for index in [
        index
        for index in range(first, last)
        if not (line := lines[index]).startswith(DETAIL) or line.find(mark, 40, reach) < 0
    ]:
        line = lines[index]
        if not line.startswith(DETAIL) or run_in(line) not in unfinished:
            wanted.append(index)


def run_in(line: bytes) -> bytes:
    """The run that a line's head names; the first one is the head's where the word has one."""
    first = line.find(RUN) + len(RUN)
    return line[first : line.find(b'"', first)] if first >= len(RUN) else b""


def number_in(line: bytes) -> int:
    """The number of the record, as the line's head says it."""
    first = line.find(SEQ) + len(SEQ)
    return int(line[first : line.find(b",", first)])


def see_sources(data: bytes, lines: list[bytes], cursors: dict[str, int]) -> None:
    """Move the journal cursors over attempts that are not decoded; `data` is all lines together.

    A runtime's facts stand in its order, so the last one of each counts. Specs may hold anything,
    so lines of tasks are left out.
    """
    if data.find(TASKS) >= 0:
        data = b"\n".join([line for line in lines if line.startswith(TOLD)])
    for runtime, number in dict(_SOURCE.findall(data)).items():
        name = runtime.decode()
        cursors[name] = max(int(number), cursors.get(name, 0))
