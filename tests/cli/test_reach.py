"""Each command says how far one call of it reaches, where it is declared."""

import re
import shlex

from codewhale_fleet.cli import app
from codewhale_fleet.cli.hot import Call

from .scene import told

PLACES = re.compile(r"\b(RUN|SPEC|HOST|ID|SELECTOR|CMD)\b")


def visible() -> set[str]:
    hidden = {"manager"}
    return set(app.DECLARED) - hidden


def test_every_command_says_whether_it_is_fleet_aware_and_fans_out() -> None:
    silent = visible() - set(app.REACHES)
    assert silent == set(), "say reach=ONE, FLEET or many(CALL) where it is declared (cli/reach.py)"
    assert set(app.REACHES) <= visible()


def test_what_is_to_be_used_instead_of_a_loop_is_a_call_of_that_command() -> None:
    for name, reach in app.REACHES.items():
        assert bool(reach.use_instead) == reach.fan_out
        assert reach.fleet_aware or not reach.fan_out
        for call in filter(None, reach.use_instead.split(", or: ")):
            words = shlex.split(PLACES.sub("x", call.rpartition("| ")[2]))
            assert words[0] == "fleet"
            made = app.read(words[1:])
            assert isinstance(made, Call) and made.name == name, call


def test_help_names_the_call_for_many() -> None:
    text = " ".join(told("logs", "--help").out.split())
    assert "For many at once: fleet logs RUN" in text
    assert "fleet describe --json" in " ".join(told("--help").out.split())
