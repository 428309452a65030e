"""What `fleet` on another machine says of the commands of tasks is what they take."""

import os
import re

import pytest

from codewhale_fleet.cli import main, there
from codewhale_fleet.cli.hot import COMMON
from codewhale_fleet.cli.table import COMMANDS


@pytest.mark.parametrize("name", there.USAGE)
def test_the_usage_names_every_argument_and_option(name: str) -> None:
    arguments, options, _ = COMMANDS[name]
    wanted = {word for word, (key, *_) in options.items() if key not in (*COMMON, "run")}
    assert set(re.findall(r"--[a-z-]+", there.USAGE[name])) == wanted
    plain = re.sub(r"\[?--[a-z-]+ [^\]]+\]?", "", there.USAGE[name])
    assert bool(plain.strip()) == bool(arguments)


def test_whoever_is_no_task_gets_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in filter(lambda one: one.startswith("FLEET_"), [*os.environ]):
        monkeypatch.delenv(name)  # these tests may be a task themselves
    for words, code, said in (
        (["run", "x"], 2, "no command of theirs"),
        (["data", "list"], 2, "is for tasks"),
        (["ask"], 2, "fleet ask QUESTION"),
        (["artifact", "-h"], 0, "fleet artifact add KIND PATH"),
    ):
        assert main(words, there.carry_out) == code
        told = capsys.readouterr()
        assert said in told.out + told.err
