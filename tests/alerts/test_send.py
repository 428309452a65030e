"""One attempt at a real receiver: what arrives there, and what the answers mean."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codewhale_fleet.alerts.road import Request, Trouble, post
from codewhale_fleet.alerts.send import Outcome, deliver
from codewhale_fleet.core.alert_config import Adapter, Webhook, variables

from .builders import HOOK, MESSAGE, SLACK, changed, pager
from .receiver import HOOK_PATH, ROUTING_KEY, SECRET, SLACK_PATH, Receiver, a_receiver

pytestmark = pytest.mark.slow


def test_the_end_of_an_alert_goes_out_under_the_key_of_its_beginning(receiver: Receiver) -> None:
    for action in ("trigger", "resolve"):
        for adapter in (SLACK, HOOK, pager(receiver)):
            outcome = deliver(adapter, changed(action=action), receiver.values)
            assert (outcome.state, receiver.problems) == ("sent", [])
    _, hook, paged, _, hook_over, paged_over = receiver.wait_for(6)
    assert paged.body["dedup_key"] == paged_over.body["dedup_key"]
    assert paged_over.body["event_action"] == "resolve"
    assert hook.body["event"]["key"] == hook_over.body["event"]["key"]
    assert hook_over.body["event"]["action"] == "resolve"
    assert hook.key != hook_over.key


def test_what_is_sent_again_has_the_same_key(receiver: Receiver) -> None:
    receiver.then(503)
    states = [deliver(HOOK, MESSAGE, receiver.values).state for _ in range(3)]
    assert states == ["retry", "sent", "sent"]
    assert len({one.key for one in receiver.wait_for(3)}) == 1


def test_a_signature_that_does_not_fit_is_noticed(receiver: Receiver) -> None:
    values = {**receiver.values, "CODEWHALE_FLEET_WEBHOOK_SECRET": "another"}
    outcome = deliver(HOOK, MESSAGE, values)
    assert (outcome.state, outcome.status) == ("failed", 401)
    assert receiver.problems == ["wrong signature"]


@pytest.mark.parametrize(
    ("status", "asked", "state", "after"),
    [
        (200, "", "sent", None),
        (204, "", "sent", None),
        (429, "7", "retry", 7.0),
        (429, "", "retry", None),
        (503, "120", "retry", 120.0),
        (500, "", "retry", None),
        (599, "", "retry", None),
        (408, "", "retry", None),
        (400, "7", "failed", None),
        (403, "", "failed", None),
        (404, "", "failed", None),
        (410, "", "failed", None),
    ],
)
def test_a_status_says_whether_to_try_again(
    receiver: Receiver, status: int, asked: str, state: str, after: float | None
) -> None:
    receiver.then(status, retry_after=asked)
    outcome = deliver(HOOK, MESSAGE, receiver.values)
    assert (outcome.state, outcome.after, outcome.status) == (state, after, status)


def test_the_words_of_slack_are_told_and_no_others(receiver: Receiver) -> None:
    receiver.then(404, body=b"no_service").then(404, body=b"planted0slack0path")
    told = [deliver(SLACK, MESSAGE, receiver.values).words for _ in range(2)]
    assert told == ["answered HTTP 404 (no_service)", "answered HTTP 404"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    receiver.then(status, location=f"{receiver.url}/elsewhere")
    outcome = deliver(HOOK, MESSAGE, receiver.values)
    assert outcome.state == "failed"
    assert "redirects are not followed" in outcome.words
    assert [one.path for one in receiver.received] == [HOOK_PATH]


@pytest.mark.parametrize("deed", ["reset", "close"])
def test_a_connection_that_breaks_is_worth_another_attempt(receiver: Receiver, deed: str) -> None:
    receiver.then(deed)
    outcome = deliver(HOOK, MESSAGE, receiver.values)
    assert outcome.state == "retry"
    assert outcome.words == "the connection was broken before there was an answer"


def test_nobody_there_is_worth_another_attempt(receiver: Receiver) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        values = {**receiver.values, HOOK.url_env: f"https://127.0.0.1:{free.getsockname()[1]}/x"}
        outcome = deliver(HOOK, MESSAGE, values)
    assert (outcome.state, outcome.words) == ("retry", "the connection was refused")


def request_of(receiver: Receiver) -> Request:
    return Request(url=receiver.hook_url, headers={"Content-Type": "application/json"}, body=b"{}")


@pytest.mark.parametrize("deed", ["hang", "deaf", "drip"])
def test_whatever_hangs_is_given_up_after_one_span_for_everything(
    receiver: Receiver, deed: str
) -> None:
    receiver.then(deed)
    began = time.monotonic()
    with pytest.raises(Trouble) as trouble:
        post(request_of(receiver), receiver.values, seconds=0.3)
    assert trouble.value.words == "there was no answer within 0.3 s"
    assert not trouble.value.final
    assert time.monotonic() - began < 3
    for thread in threading.enumerate():
        if thread.name == "alert":
            thread.join(10)
            assert not thread.is_alive()


def test_an_answer_counts_though_its_body_never_ends(receiver: Receiver) -> None:
    receiver.then("stall")
    answer = post(request_of(receiver), receiver.values, seconds=0.5)
    assert (answer.status, answer.headers["retry-after"], answer.body) == (429, "9", b"")


def test_an_adapter_is_waited_for_for_ten_seconds(receiver: Receiver) -> None:
    receiver.then("drip")
    began = time.monotonic()
    outcome = deliver(HOOK, MESSAGE, receiver.values)
    assert 9.5 < time.monotonic() - began < 13
    assert (outcome.state, outcome.words) == ("retry", "there was no answer within 10 s")


def test_a_certificate_of_nobody_known_is_refused(receiver: Receiver) -> None:
    system = {"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}
    outcome = deliver(HOOK, MESSAGE, {**receiver.values, **system})
    assert outcome.state == "retry"
    assert "of no authority known here; SSL_CERT_FILE" in outcome.words
    assert receiver.received == []


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    with a_receiver(tmp_path, host="127.0.0.3") as receiver:
        values = {**receiver.values, HOOK.url_env: f"https://127.0.0.3:{receiver.port}/hooks/x"}
        outcome = deliver(HOOK, MESSAGE, values)
        assert outcome.words == "its certificate is for another name"
        assert receiver.received == []


def test_a_file_of_authorities_that_is_none_is_said(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("no certificate")
    for name in ("empty.pem", "absent.pem"):
        values = {**receiver.values, "SSL_CERT_FILE": str(tmp_path / name)}
        outcome = deliver(HOOK, MESSAGE, values)
        assert outcome.state == "failed"
        assert outcome.words == "SSL_CERT_FILE names no file of certificates"


def test_what_does_not_speak_tls_gets_nothing(receiver: Receiver) -> None:
    receiver.then("plain")
    assert deliver(HOOK, MESSAGE, receiver.values).state == "retry"
    assert receiver.received == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://localhost/hooks/x", "holds an http URL, and alerts go by https only"),
        ("ftp://localhost/x", "holds no https URL"),
        ("localhost/x", "holds no https URL"),
        ("https://", "holds no https URL"),
        ("https://[::1", "holds no URL"),
        ("https://localhost:99999/x", "holds no URL"),
        ("https://localhost/a b", "holds an https URL with characters that have to be encoded"),
    ],
)
def test_a_variable_that_holds_no_https_url_is_named_and_not_shown(url: str, words: str) -> None:
    outcome = deliver(Webhook(url_env="OPS_URL"), MESSAGE, {"OPS_URL": url})
    assert (outcome.state, outcome.words) == ("failed", f"OPS_URL {words}")


def test_an_unset_variable_is_named() -> None:
    outcome = deliver(SLACK, MESSAGE, {"CODEWHALE_FLEET_SLACK_WEBHOOK": " \n"})
    words = "CODEWHALE_FLEET_SLACK_WEBHOOK, which webhook_env names, is not set here"
    assert (outcome.state, outcome.words) == ("failed", words)


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:a9fe:a9fe]", "2852039166", "0.0.0.0"])
def test_an_address_that_is_refused_is_never_connected_to(host: str) -> None:
    for adapter in (HOOK, SLACK):
        url = f"https://{host}/x"
        values = dict.fromkeys(variables([adapter]), url)
        outcome = deliver(adapter, MESSAGE, values)
        assert outcome.state == "failed"
        assert outcome.words.endswith("and such addresses are refused")


def test_a_dry_run_sends_nothing_and_has_the_digest_of_the_real_one(receiver: Receiver) -> None:
    dry = deliver(HOOK, MESSAGE, {}, dry_run=True)
    assert (dry.state, dry.words) == ("sent", "dry run: nothing was sent")
    assert receiver.connections == 0
    assert deliver(HOOK, MESSAGE, receiver.values).digest == dry.digest != ""


def every_outcome(receiver: Receiver) -> Iterator[Outcome]:
    echo = json.dumps({"you": receiver.values, "key": ROUTING_KEY}).encode()
    roads: list[Adapter] = [SLACK, HOOK, pager(receiver)]
    for adapter in roads:
        for status in (200, 302, 400, 401, 404, 429, 500):
            receiver.then(status, body=echo, retry_after=SECRET, location=receiver.hook_url)
            yield deliver(adapter, MESSAGE, receiver.values)
        receiver.then("reset")
        yield deliver(adapter, MESSAGE, receiver.values)
        yield deliver(adapter, MESSAGE, {**receiver.values, "SSL_CERT_FILE": "/dev/null"})


def test_no_outcome_holds_a_url_a_key_or_what_was_echoed(receiver: Receiver) -> None:
    told = " ".join(map(str, every_outcome(receiver)))
    for planted in (SLACK_PATH, HOOK_PATH, SECRET, ROUTING_KEY, "planted", "localhost", "https:"):
        assert planted not in told, planted


def test_a_secret_in_a_reason_goes_to_nobody(receiver: Receiver) -> None:
    leaking = changed(reason=f"could not post to {receiver.hook_url} with {SECRET}")
    assert deliver(HOOK, leaking, receiver.values).state == "sent"
    (one,) = receiver.wait_for(1)
    assert b"planted" not in one.raw
    assert b"<redacted:env:CODEWHALE_FLEET_WEBHOOK_SECRET>" in one.raw


def test_credentials_in_a_url_go_as_a_header(receiver: Receiver) -> None:
    url = receiver.hook_url.replace("https://", "https://ops:p%40ss@")
    assert deliver(HOOK, MESSAGE, {**receiver.values, HOOK.url_env: url}).state == "sent"
    (one,) = receiver.wait_for(1)
    assert one.headers["authorization"] == "Basic b3BzOnBAc3M="


# Through a proxy ------------------------------------------------------------------------------


@contextmanager
def a_proxy() -> Iterator[tuple[int, list[str]]]:
    """A real one, for one CONNECT at a time; gives its port, and what it was asked for."""
    asked: list[str] = []
    server = socket.create_server(("127.0.0.1", 0))

    def carry(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            asked.append(head.decode())
            host, _, port = head.split()[1].decode().rpartition(":")
            target = socket.create_connection((host, int(port)))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            threading.Thread(target=carry, args=(client, target), daemon=True).start()
            carry(target, client)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield server.getsockname()[1], asked
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def test_a_proxy_is_gone_through_unless_the_host_is_excepted(receiver: Receiver) -> None:
    with a_proxy() as (port, asked):
        through = {
            **receiver.values,
            "HTTPS_PROXY": f"http://me:pw@127.0.0.1:{port}",
            "NO_PROXY": "",
        }
        assert deliver(HOOK, MESSAGE, through).state == "sent"
        assert asked[0].startswith(f"CONNECT localhost:{receiver.port} ")
        assert "Proxy-Authorization: Basic bWU6cHc=" in asked[0]
        assert SECRET not in asked[0]
        around = {**through, "NO_PROXY": "example.org, localhost"}
        assert deliver(HOOK, MESSAGE, around).state == "sent"
        assert len(asked) == 1
        literal = {**through, HOOK.url_env: "https://169.254.169.254/x"}
        assert deliver(HOOK, MESSAGE, literal).state == "failed"
        assert len(asked) == 1


def test_a_proxy_that_is_none_is_said(receiver: Receiver) -> None:
    values = {**receiver.values, "HTTPS_PROXY": "socks5://127.0.0.1:1", "NO_PROXY": ""}
    outcome = deliver(HOOK, MESSAGE, values)
    assert (outcome.state, outcome.words) == ("failed", "HTTPS_PROXY names no http proxy")
