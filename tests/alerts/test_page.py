"""docs/reference/alerts.md: its function for receivers does what it says, on what arrives."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from codewhale_fleet.alerts import payload
from codewhale_fleet.alerts.message import event_of
from codewhale_fleet.alerts.send import deliver

from .builders import HOOK, MESSAGE, changed
from .receiver import SECRET, Received, Receiver

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "alerts.md"


@pytest.fixture
def snippet() -> dict[str, Any]:
    """What the page's one block of Python defines."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    made: dict[str, Any] = {}
    exec(code, made)
    return made


def arrived(receiver: Receiver) -> tuple[dict[str, str], bytes]:
    assert deliver(HOOK, MESSAGE, receiver.values).state == "sent"
    one: Received = receiver.wait_for(1)[0]
    titles = {
        name.title().replace("Codewhale", "CodeWhale"): one.headers[name] for name in one.headers
    }
    return titles, one.raw


def test_a_genuine_request_is_taken_once(receiver: Receiver, snippet: dict[str, Any]) -> None:
    headers, body = arrived(receiver)
    event = snippet["verified"](headers, body, SECRET.encode())
    assert event == event_of(MESSAGE)
    assert snippet["verified"](headers, body, SECRET.encode()) is None


def test_what_was_changed_is_old_or_has_another_key_is_not_taken(
    receiver: Receiver, snippet: dict[str, Any]
) -> None:
    headers, body = arrived(receiver)
    verified, key = snippet["verified"], SECRET.encode()
    assert verified(headers, body + b" ", key) is None
    assert verified(headers, body, b"another") is None
    assert verified({}, body, key) is None
    assert verified({**headers, "X-CodeWhale-Signature": "sha256=é"}, body, key) is None
    stamp = str(int(headers["X-CodeWhale-Timestamp"]) + 1)
    assert verified({**headers, "X-CodeWhale-Timestamp": stamp}, body, key) is None
    late = time.time() + snippet["WINDOW_SECONDS"] + 5
    assert verified(headers, body, key, now=lambda: late) is None
    assert verified(headers, body, key) is not None


def test_the_end_of_something_is_another_delivery(
    receiver: Receiver, snippet: dict[str, Any]
) -> None:
    deliver(HOOK, MESSAGE, receiver.values)
    deliver(HOOK, changed(action="resolve"), receiver.values)
    taken = []
    for one in receiver.wait_for(2):
        headers = {
            "X-CodeWhale-Timestamp": one.headers["x-codewhale-timestamp"],
            "X-CodeWhale-Signature": one.headers["x-codewhale-signature"],
        }
        taken.append(snippet["verified"](headers, one.raw, SECRET.encode())["action"])
    assert taken == ["trigger", "resolve"]


def test_the_page_names_the_headers_the_window_and_every_field_of_the_event() -> None:
    text = PAGE.read_text()
    for header in (payload.DELIVERY, payload.TIMESTAMP, payload.SIGNATURE):
        assert f"`{header}`" in text
    assert f"WINDOW_SECONDS = {payload.WINDOW_SECONDS}" in text
    for field in event_of(MESSAGE):
        assert f"`{field}`" in text
