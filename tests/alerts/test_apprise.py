"""Alerts through apprise: really sent by it, from a process of its own, under the same rules."""

import time

import pytest

from codewhale_fleet.alerts import by_apprise
from codewhale_fleet.alerts.send import Outcome, deliver
from codewhale_fleet.core.alert_config import Apprise

from .builders import MESSAGE
from .receiver import Receiver

pytestmark = pytest.mark.slow

ADAPTER = Apprise(url_env="OPS_APPRISE")


def sent(receiver: Receiver, url: str, adapter: Apprise = ADAPTER) -> Outcome:
    outcome = deliver(adapter, MESSAGE, {**receiver.values, "OPS_APPRISE": url})
    assert "planted" not in str(outcome)
    return outcome


def test_apprise_delivers_title_and_text(receiver: Receiver) -> None:
    assert sent(receiver, f"jsons://localhost:{receiver.port}/planted").state == "sent"
    (one,) = receiver.wait_for(1)
    assert one.body["title"] == "alert: restart exhausted (demo-7k3f2a)"
    assert "fleet inspect demo-7k3f2a/build@2" in one.body["message"]
    assert one.body["type"] == "failure"


@pytest.mark.parametrize("status", [429, 500, 404])
def test_what_apprise_could_not_deliver_is_worth_another_attempt(
    receiver: Receiver, status: int
) -> None:
    receiver.then(status)
    outcome = sent(receiver, f"jsons://localhost:{receiver.port}/planted")
    assert (outcome.state, outcome.words) == ("retry", "apprise could not deliver it")


def test_apprise_follows_no_redirect_even_where_its_url_asks_for_it(receiver: Receiver) -> None:
    receiver.then(307, location=f"{receiver.url}/elsewhere")
    url = f"jsons://localhost:{receiver.port}/planted?redirect=yes"
    assert sent(receiver, url).state == "retry"
    assert [one.path for one in receiver.received] == ["/planted"]


def test_apprise_verifies_certificates_even_where_its_url_says_not_to(receiver: Receiver) -> None:
    url = f"jsons://localhost:{receiver.port}/planted?verify=no"
    values = {**receiver.values, "OPS_APPRISE": url}
    values["SSL_CERT_FILE"] = "/etc/ssl/certs/ca-certificates.crt"
    assert deliver(ADAPTER, MESSAGE, values).state == "retry"
    assert receiver.received == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("json://localhost:1/planted", "holds a URL without TLS, and alerts go by https only"),
        ("planted", "holds no URL that apprise knows"),
    ],
)
def test_a_url_that_apprise_may_not_use_is_refused(
    receiver: Receiver, url: str, words: str
) -> None:
    outcome = sent(receiver, url)
    assert (outcome.state, outcome.words) == ("failed", f"OPS_APPRISE {words}")


@pytest.mark.parametrize("host", ["169.254.169.254", "2852039166", "[::ffff:169.254.169.254]"])
def test_apprise_connects_to_no_address_that_is_refused(receiver: Receiver, host: str) -> None:
    outcome = sent(receiver, f"jsons://{host}/planted")
    assert outcome.state == "failed"
    assert outcome.words == "its host is link-local, and such addresses are refused"


def test_apprise_is_ended_when_its_time_is_over(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_apprise, "SECONDS", 2.0)
    receiver.then("drip")
    began = time.monotonic()
    outcome = sent(receiver, f"jsons://localhost:{receiver.port}/planted?rto=60")
    assert time.monotonic() - began < 6
    assert (outcome.state, outcome.words) == ("retry", "there was no answer within 2 s")
