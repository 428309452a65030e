"""Names, by a real resolver, in a network where nothing leads outside: tests/alerts/names.py."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
ip link set lo up && ip addr add 169.254.7.7/32 dev lo || exit 99
file=$(mktemp) && printf 'nameserver 127.0.0.1\\noptions timeout:20 attempts:1\\n' >"$file"
mount --bind "$file" /etc/resolv.conf || exit 98
rm -f "$file"
exec "$0" -m tests.alerts.names
"""
REFUSED = "its host is {}, and such addresses are refused"


@cache
def found() -> dict[str, dict[str, Any]]:
    """What came of each name."""
    who = "-mn" if os.geteuid() == 0 else "-rmn"
    done = subprocess.run(
        ["unshare", who, "sh", "-c", SCRIPT, sys.executable],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    made: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return made


def test_a_name_is_asked_for_once_and_what_was_looked_at_is_connected_to() -> None:
    for name in ("plain", "turns-bad"):
        assert found()[name] == {
            "state": "sent", "words": "taken (HTTP 204)", "connections": 1, "asked": 1,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("turns-good", "link-local"),
        ("mapped", "link-local"),
        ("metadata6", "of a cloud's metadata"),
        ("local", "link-local"),
    ],
)
def test_a_name_of_an_address_that_is_refused_is_refused(name: str, kind: str) -> None:
    one = found()[name]
    assert (one["state"], one["words"]) == ("failed", REFUSED.format(kind))
    assert (one["connections"], one["asked"]) == (0, 1)


@pytest.mark.parametrize("name", ["mixed", "refused-first"])
def test_of_several_addresses_one_that_may_be_reached_and_answers_is_enough(name: str) -> None:
    assert found()[name]["state"] == "sent"


def test_a_link_local_network_that_is_allowed_by_name_is_reached() -> None:
    assert found()["local, allowed"]["state"] == "sent"


def test_a_name_that_nobody_knows_may_be_known_later() -> None:
    one = found()["nobody"]
    assert (one["state"], one["words"]) == ("retry", "its host's name could not be resolved")


def test_a_resolver_that_says_nothing_is_not_waited_for() -> None:
    assert found()["silent"] == {"words": "there was no answer within 0.5 s"}
