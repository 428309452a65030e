"""A scripted model API on loopback: the far side for real agents, without a provider.

`Api()` serves every scenario at once; `url("limit")` is the base URL of one. It keeps a line for
each request that came, and `wait_for` waits for them, so a test can say what arrived. By hand:

    python -m tests.agents.api --port 8080 --log requests.jsonl --bodies DIRECTORY

It promises answers in the providers' formats, not that a provider would have given them.
"""

import argparse
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from tests.agents.dialects import Dialect, Refusal, dialect_of
from tests.agents.scenarios import SCENARIOS, Answer, Hang, Limit, Overload, Step

ASIDE = Answer("A session")
"""What an agent's housekeeping gets in every scenario."""


@dataclass(frozen=True)
class Request:
    """What arrived, and what it got."""

    scenario: str
    method: str
    path: str
    """Without the scenario's name, with the query."""
    bytes: int
    """Of the body."""
    dialect: str | None
    main: bool
    """Part of the agent's work; else housekeeping."""
    status: int
    step: str
    """The kind of step that was played."""
    model: str | None


class Api:
    """Serves from a thread until closed. `listener`: a socket that listens, in a namespace say."""

    def __init__(
        self,
        listener: socket.socket | None = None,
        *,
        resets_at: int | None = None,
        log: TextIO | None = None,
        bodies: Path | None = None,
    ) -> None:
        self.listener = listener or socket.create_server(("127.0.0.1", 0))
        self.resets_at = resets_at or int(time.time()) // 60 * 60 + 3600
        self.closing = threading.Event()
        self._requests: list[Request] = []
        self._arrived = threading.Condition()
        self._played: Counter[str] = Counter()
        self._log = log
        self._bodies = bodies
        address = self.listener.getsockname()
        self._server = ThreadingHTTPServer(address, _Handler, bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.socket.close()
        self._server.socket = self.listener
        self._server.server_name, self._server.server_port = "127.0.0.1", address[1]
        self._server.api = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, scenario: str) -> str:
        """The base URL of a scenario, without /v1."""
        if scenario not in SCENARIOS:
            raise LookupError(f"no scenario {scenario}; there are {', '.join(SCENARIOS)}")
        return f"http://127.0.0.1:{self._server.server_port}/{scenario}"

    @property
    def requests(self) -> list[Request]:
        with self._arrived:
            return list(self._requests)

    def wait_for(self, until: Callable[[list[Request]], bool], timeout: float = 60) -> None:
        """Return when the requests so far satisfy the predicate."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: until(self._requests), timeout):
                raise TimeoutError(f"after {timeout} s only {self._requests}")

    def step(self, scenario: str, dialect: Dialect, request: dict[str, Any]) -> Step:
        """What this request gets."""
        if not dialect.is_main(request):
            return ASIDE
        script = SCENARIOS[scenario]
        with self._arrived:
            number = self._played[scenario]
            self._played[scenario] += 1
        if number < len(script.first):
            return script.first[number]
        done = dialect.rounds(request)
        return script.steps[
            done % len(script.steps) if script.repeat else min(done, len(script.steps) - 1)
        ]

    def note(self, request: Request, body: bytes) -> None:
        with self._arrived:
            self._requests.append(request)
            number = len(self._requests)
            if self._log is not None:
                self._log.write(json.dumps(asdict(request)) + "\n")
                self._log.flush()
            if self._bodies is not None:
                (self._bodies / f"{number:03}.json").write_bytes(body)
            self._arrived.notify_all()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "scripted"

    @property
    def api(self) -> Api:
        api: Api = self.server.api  # type: ignore[attr-defined]
        return api

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._elsewhere()

    def do_GET(self) -> None:
        self._elsewhere()

    def do_POST(self) -> None:
        body = self._body()
        scenario, _, rest = self.path.lstrip("/").partition("/")
        dialect = dialect_of("/" + rest.partition("?")[0])
        if scenario not in SCENARIOS or dialect is None:
            self._elsewhere(body)
            return
        request = json.loads(body)
        step = self.api.step(scenario, dialect, request)
        answer = step if isinstance(step, Answer) else Answer("This will not reach its end.")
        streamed = dialect.streams(rest, request) or not isinstance(step, Answer)
        events: list[bytes] = []
        refusal = self._refusal(step, dialect)
        try:
            events = list(dialect.stream(request, answer)) if streamed else []
            whole = dialect.whole(request, answer)
        except LookupError as error:  # the agent does not offer the tool: its flags are wrong
            problem = {"type": "invalid_request_error", "message": str(error)}
            refusal = Refusal(400, {"error": problem})
        noted = Request(
            scenario=scenario,
            method="POST",
            path="/" + rest,
            bytes=len(body),
            dialect=dialect.name,
            main=dialect.is_main(request),
            status=refusal.status if refusal else 200,
            step=type(step).__name__.lower(),
            model=request.get("model"),
        )
        self.api.note(noted, body)
        if refusal is not None:
            self._reply(refusal.status, refusal.body, refusal.headers)
        elif streamed:
            self._stream(events, step)
        else:
            self._reply(200, whole)

    def _refusal(self, step: Step, dialect: Dialect) -> Refusal | None:
        key = self.headers.get("authorization", "").removeprefix("Bearer ")
        match step:
            case Limit():
                return dialect.limit(key, self.api.resets_at)
            case Overload():
                return dialect.overload()
        return None

    def _stream(self, events: list[bytes], step: Step) -> None:
        """All events of an answer; of a step that is none, the first half."""
        whole = isinstance(step, Answer)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for event in events if whole else events[: max(1, len(events) // 2)]:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                self.wfile.flush()
            if whole:
                self.wfile.write(b"0\r\n\r\n")
                return
            if isinstance(step, Hang):
                self._until_gone()
        except OSError:  # the agent left
            pass
        self.close_connection = True

    def _until_gone(self) -> None:
        self.connection.settimeout(0.2)
        while not self.api.closing.is_set():
            try:
                if not self.connection.recv(1):
                    return
            except TimeoutError:
                continue

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _elsewhere(self, body: bytes = b"") -> None:
        """Paths that no scenario plays: lists of models, probes, telemetry."""
        scenario, _, rest = self.path.lstrip("/").partition("/")
        known = scenario in SCENARIOS
        self.api.note(
            Request(
                scenario=scenario if known else "",
                method=self.command,
                path="/" + rest if known else self.path,
                bytes=len(body),
                dialect=None,
                main=False,
                status=404,
                step="none",
                model=None,
            ),
            body,
        )
        self._reply(404, {"error": {"type": "not_found_error", "message": "not scripted"}})

    def _reply(
        self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "content-type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve every scenario until interrupted.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, help="a line of JSON for each request")
    parser.add_argument("--bodies", type=Path, help="a directory for the requests' bodies")
    given = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", given.port))
    log = given.log.open("a") if given.log else sys.stderr
    with Api(listener, log=log, bodies=given.bodies) as api:
        print(api.url("success").removesuffix("/success"), os.getpid(), flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
