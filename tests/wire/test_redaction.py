"""The manager's second look finds what the runtime's redactor finds."""

import pytest

from codewhale_fleet.wire.redaction import Redaction
from codewhale_fleet.worker.redaction import Redactor
from tests.worker.test_redaction import FORMS, VALUES

NESTED = ("JSON three deep", "JSON in JSON", "base64 in lines in JSON")


@pytest.fixture(scope="module")
def redaction() -> Redaction:
    return Redaction(VALUES)


@pytest.mark.parametrize("form", sorted(set(FORMS) - set(NESTED)))
def test_the_manager_takes_out_what_the_runtime_takes_out(redaction: Redaction, form: str) -> None:
    for key, value in VALUES.items():
        text = f"before it\t{FORMS[form](value)}\tafter it\n".encode()
        assert redaction.redacted(text) == Redactor(VALUES).redacted(text)
        assert f"[redacted:{key}]".encode() in redaction.redacted(text)


def test_values_are_found_over_the_ends_of_blocks(redaction: Redaction) -> None:
    value = VALUES["API_TOKEN"].encode()
    for place in range(65536 - len(value) - 1, 65536 + 2, 3):
        text = b"." * place + value + b"." * 70000
        assert redaction.redacted(text) == b"." * place + b"[redacted:API_TOKEN]" + b"." * 70000


def test_a_text_without_values_is_the_same_text(redaction: Redaction) -> None:
    text = bytes(range(256)) * 1000
    assert redaction.redacted(text) is text
    assert Redaction({"PIN": "1234"}).redacted(b"1234") == b"1234"
