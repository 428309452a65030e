"""A real receiver of alerts: https on loopback, under a CA of its own.

It takes what Slack, PagerDuty (Events API v2) and a signed webhook take, refuses what they refuse,
and misbehaves as told: answers late, never, with another status, or breaks off. `Receiver` is for
tests of everything that sends; it keeps what came, in order, and lets a test wait for it. What is
to happen to the next requests is queued with `then`; with nothing queued all is well.
"""

import hmac
import json
import re
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

WINDOW_SECONDS = 300
ROUTING_KEY = "R0123456789ABCDEFGHIJKLMNOPQRSTU"
"""A key of 32 characters, as PagerDuty's are."""
SLACK_PATH = "/services/T00000000/B00000000/planted0slack0path"
HOOK_PATH = "/hooks/planted0hook0path"
SECRET = "planted-signing-secret"


@dataclass
class Received:
    """One request, and what is wrong with it."""

    path: str
    headers: dict[str, str]
    """By lower-case name."""
    raw: bytes
    at: float
    problems: list[str]
    answered: int = 0
    """Status; 0: none."""

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def key(self) -> str:
        """What a receiver knows a delivery again by: once for each is enough."""
        body = self.body
        if "event_action" in body:
            return f"{body.get('dedup_key')}:{body['event_action']}"
        return self.headers.get("x-codewhale-delivery", "")


@dataclass
class Answer:
    """What to do with one request: see `Receiver.then`."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    deed: str = ""


@cache
def authority() -> trustme.CA:
    return trustme.CA()


class Receiver:
    """See the module. `url` ends without a slash; `ca` is a file for SSL_CERT_FILE."""

    def __init__(self, folder: Path, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.secret = SECRET
        self.received: list[Received] = []
        self.connections = 0
        self._next: deque[Answer] = deque()
        self._news = threading.Condition()
        self._over = threading.Event()
        self.ca = folder / "ca.pem"
        authority().cert_pem.write_to_path(self.ca)
        names = ("localhost", "127.0.0.1", "127.0.0.2", "::1", "*.alerts.test", "169.254.7.7")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority().issue_cert(*names).configure_cert(self.context)
        receiver = self

        class Handler(_Handler):
            owner = receiver

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # broken connections are what some tests are about

        self.server = Server((host, port), Handler)
        self.port = int(self.server.server_address[1])
        self._thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def slack_url(self) -> str:
        return self.url + SLACK_PATH

    @property
    def hook_url(self) -> str:
        return self.url + HOOK_PATH

    @property
    def values(self) -> dict[str, str]:
        """Variables under the names of the reference's defaults, for everything here."""
        return {
            "CODEWHALE_FLEET_SLACK_WEBHOOK": self.slack_url,
            "CODEWHALE_FLEET_WEBHOOK_URL": self.hook_url,
            "CODEWHALE_FLEET_WEBHOOK_SECRET": self.secret,
            "CODEWHALE_FLEET_PAGERDUTY_ROUTING_KEY": ROUTING_KEY,
            "SSL_CERT_FILE": str(self.ca),
            "SSL_CERT_DIR": "",
            "NO_PROXY": "localhost,127.0.0.1",
        }

    def then(
        self, *deeds: int | str, retry_after: str = "", body: bytes = b"", location: str = ""
    ) -> "Receiver":
        """Queue what happens to the next requests: a status, or a deed.

        Deeds: `hang` (reads, and never answers), `deaf` (does not even shake hands), `drip` (a byte
        of the answer now and then), `stall` (an answer whose body never ends), `reset` (breaks the
        connection after reading), `close` (ends it in order, without an answer), `plain` (does not
        speak TLS).
        """
        for deed in deeds:
            if isinstance(deed, str):
                self._next.append(Answer(deed=deed))
                continue
            headers = {"Retry-After": retry_after} if retry_after else {}
            if location:
                headers["Location"] = location
            self._next.append(Answer(status=deed, headers=headers, body=body))
        return self

    def wait_for(self, count: int, seconds: float = 20.0) -> list[Received]:
        """The first `count` requests, once they are there."""
        with self._news:
            arrived = self._news.wait_for(lambda: len(self.received) >= count, seconds)
            assert arrived, f"{len(self.received)} of {count} requests came in {seconds:g} s"
            return self.received[:count]

    @property
    def taken(self) -> list[Received]:
        """What was answered with success."""
        return [one for one in self.received if 200 <= one.answered < 300]

    @property
    def problems(self) -> list[str]:
        """Everything that was wrong with anything."""
        return [problem for one in self.received for problem in one.problems]

    def close(self) -> None:
        self._over.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    # For the handler --------------------------------------------------------------------------

    def take_next(self) -> Answer:
        with self._news:
            self.connections += 1
            return self._next.popleft() if self._next else Answer()

    def keep(self, one: Received) -> None:
        with self._news:
            self.received.append(one)
            self._news.notify_all()

    def until_over(self) -> None:
        self._over.wait(60)


class _Handler(BaseHTTPRequestHandler):
    owner: Receiver
    planned: Answer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.planned = self.owner.take_next()
        if self.planned.deed == "deaf":
            self.owner.until_over()
        if self.planned.deed != "plain":
            self.request.settimeout(20)
            self.request = self.owner.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.request.close()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        one = Received(self.path, headers, raw, time.time(), [])
        one.problems = problems_of(one, self.owner.secret)
        self.close_connection = True
        planned = self.planned
        status, body = planned.status, planned.body
        if not status and not planned.deed:
            status, body = proper_answer(one)
        one.answered = status
        self.owner.keep(one)  # before the answer: whoever has it may look at once
        self._answer(planned, status, body)

    def _answer(self, planned: Answer, status: int, body: bytes) -> None:
        match planned.deed:
            case "hang":
                self.owner.until_over()
                return
            case "drip":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not self.owner._over.wait(0.2):
                    self.wfile.write(b"x")
                return
            case "stall":
                self.wfile.write(
                    b"HTTP/1.1 429 Slow\r\nRetry-After: 9\r\nContent-Length: 9\r\n\r\n"
                )
                self.owner.until_over()
                return
            case "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                return
            case "close":
                return
        self.send_response(status)
        for name, value in planned.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Nothing here is fetched: a redirect that was followed, most likely."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.owner.keep(Received(self.path, headers, b"{}", time.time(), ["a GET"]))
        self.send_error(405)


def proper_answer(one: Received) -> tuple[int, bytes]:
    """What the service whose path it is answers."""
    if one.path == "/v2/enqueue":
        if one.problems:
            told = {"status": "invalid event", "message": "invalid", "errors": one.problems}
            return 400, json.dumps(told).encode()
        key = one.body.get("dedup_key", "made-here")
        told = {"status": "success", "message": "Event processed", "dedup_key": key}
        return 202, json.dumps(told).encode()
    if one.path.startswith("/services/"):
        return (400, b"invalid_blocks") if one.problems else (200, b"ok")
    return (401, b"") if one.problems else (204, b"")


def problems_of(one: Received, secret: str) -> list[str]:
    """What is wrong with a request, by the rules of whoever its path belongs to."""
    if one.headers.get("content-type", "").split(";")[0] != "application/json":
        return ["Content-Type is not application/json"]
    try:
        body = json.loads(one.raw)
    except ValueError:
        return ["no JSON"]
    if one.path == "/v2/enqueue":
        return list(pagerduty_problems(body))
    if one.path.startswith("/services/"):
        return list(slack_problems(body))
    if one.path.startswith("/hooks/"):
        return list(hook_problems(one, secret))
    return []


def hook_problems(one: Received, secret: str) -> Iterator[str]:
    """The event object, and the signature over timestamp and body within its window."""
    stamp = one.headers.get("x-codewhale-timestamp", "")
    if not re.fullmatch(r"\d{1,12}", stamp) or abs(one.at - int(stamp)) > WINDOW_SECONDS:
        yield "timestamp outside the window"
    if secret:
        digest = hmac.new(secret.encode(), f"{stamp}.".encode() + one.raw, "sha256").hexdigest()
        if not hmac.compare_digest(
            one.headers.get("x-codewhale-signature", ""), f"sha256={digest}"
        ):
            yield "wrong signature"
    if not one.headers.get("x-codewhale-delivery"):
        yield "no delivery key"
    body = one.body
    if set(body) != {"source", "event"} or body["source"] != "codewhale":
        yield "not source and event"
        return
    needed = {"class", "run_id", "worker_id", "task_id", "status", "reason", "commands"}
    if missing := needed - set(body["event"]):
        yield f"event lacks {sorted(missing)}"


# Slack: https://docs.slack.dev/reference/block-kit ----------------------------------------------


def slack_problems(body: Any) -> Iterator[str]:
    """What an incoming webhook refuses, of the parts that alerts are made of."""
    if not isinstance(body, dict):
        yield "no object"
        return
    for name in set(body) - {"text", "blocks", "channel"}:
        yield f"unknown field {name}"
    text = body.get("text")
    if not isinstance(text, str) or not 1 <= len(text) <= 40_000:
        yield "text"
    blocks = body.get("blocks", [])
    if not isinstance(blocks, list) or len(blocks) > 50:
        yield "blocks"
        return
    for block in blocks:
        match block:
            case {"type": "section", "text": shown} if set(block) <= {"type", "text", "block_id"}:
                yield from _text_problems(shown, 3000)
            case {"type": "context", "elements": [*elements]} if 1 <= len(elements) <= 10:
                for element in elements:
                    yield from _text_problems(element, 2000)
            case _:
                yield f"block {block}"


def _text_problems(text: Any, limit: int) -> Iterator[str]:
    if not isinstance(text, dict) or text.get("type") not in ("mrkdwn", "plain_text"):
        yield "no text object"
    elif not isinstance(text.get("text"), str) or not 1 <= len(text["text"]) <= limit:
        yield f"a text of 1 to {limit} characters is needed"
    elif set(text) - {"type", "text", "verbatim", "emoji"}:
        yield "unknown field of a text object"
    elif text["type"] == "mrkdwn" and re.search(r"<[!@#]|<http", text["text"]):
        yield "a mention or a link that nobody meant"


# PagerDuty: https://developer.pagerduty.com/docs/send-alert-event ---------------------------------


def _is_text(limit: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and 1 <= len(value) <= limit


_EVENT: dict[str, Callable[[Any], bool]] = {
    "routing_key": lambda value: isinstance(value, str) and len(value) == 32,
    "event_action": lambda value: value in ("trigger", "acknowledge", "resolve"),
    "dedup_key": _is_text(255),
    "payload": lambda value: isinstance(value, dict),
    "client": _is_text(1024),
    "client_url": _is_text(1024),
    "links": lambda value: isinstance(value, list),
    "images": lambda value: isinstance(value, list),
}
_PAYLOAD: dict[str, Callable[[Any], bool]] = {
    "summary": _is_text(1024),
    "source": _is_text(1024),
    "severity": lambda value: value in ("critical", "error", "warning", "info"),
    "timestamp": lambda value: bool(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)", str(value))
    ),
    "component": _is_text(1024),
    "group": _is_text(1024),
    "class": _is_text(1024),
    "custom_details": lambda value: isinstance(value, dict),
}


def pagerduty_problems(body: Any) -> Iterator[str]:
    """What the Events API v2 refuses."""
    if not isinstance(body, dict) or len(json.dumps(body)) > 512 * 1024:
        yield "no object of at most 512 KB"
        return
    yield from _of_schema(body, _EVENT, ("routing_key", "event_action"))
    if body.get("event_action") == "trigger":
        needed = ("summary", "source", "severity")
        yield from _of_schema(body.get("payload") or {}, _PAYLOAD, needed)
    elif not body.get("dedup_key"):
        yield "dedup_key is needed"


def _of_schema(
    body: dict[str, Any], schema: dict[str, Callable[[Any], bool]], needed: tuple[str, ...]
) -> Iterator[str]:
    for name in needed:
        if name not in body:
            yield f"{name} is needed"
    for name, value in body.items():
        if name not in schema:
            yield f"unknown field {name}"
        elif not schema[name](value):
            yield f"{name} is invalid"


@contextmanager
def a_receiver(folder: Path | None = None, **more: Any) -> Iterator[Receiver]:
    """A receiver for a while; its files lie in `folder`, or in one of its own."""
    with tempfile.TemporaryDirectory(prefix="receiver-") as made:
        receiver = Receiver(folder or Path(made), **more)
        try:
            yield receiver
        finally:
            receiver.close()
