"""A task's side of the door to its runtime: one request, one answer. For the commands of tasks.

Promises: no import beyond the smallest parts of the standard library, so that a task may call them
often; any length of path; a runtime that is killed meanwhile is asked again once its successor
serves, and what it was told counts once. Outside a task there is one sentence. It knows nothing of
what the verbs do.
"""

# ruff: noqa: PTH109, PTH118, PTH119, PTH120 (pathlib takes 12 ms)

import os
import time

from ..errors import FleetError, Refused, Unreachable
from ..worker import codec
from .common import EXIT_PERSON, Context, write_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

AGAIN_SECONDS = 10.0
"""How long a runtime that is not there may take to come back."""
_NAMES = ("FLEET_SOCKET", "FLEET_TOKEN", "FLEET_ATTEMPT_ID")


class Waited(FleetError):
    """Nobody answered in time."""

    exit_code = EXIT_PERSON
    code = "unanswered"


def is_inside(ctx: Context) -> bool:
    """Whether this is part of an attempt that has a door."""
    return all(ctx.environ.get(name) for name in _NAMES)


def refuse_outside(ctx: Context, command: str) -> None:
    """The one sentence for people who call a command of tasks."""
    if not is_inside(ctx):
        raise FleetError(
            f"fleet {command} is for tasks: it speaks for the attempt that calls it, and this "
            "shell is part of none.",
            "Put it into the command of a task, then: fleet run SPEC",
            code="outside",
        )


def request(
    ctx: Context, command: str, verb: str, *, until: "float | None" = None, **fields: "Any"
) -> "dict[str, Any]":
    """The answer of the runtime to one request; the sentence of a refusal is raised.

    `until` (monotonic seconds): how long an answer may take; TimeoutError after it.
    """
    refuse_outside(ctx, command)
    socket, token, attempt = (ctx.environ[name] for name in _NAMES)
    asked = {key: value for key, value in fields.items() if value is not None}
    line = codec.encode({"v": verb, "a": attempt, "t": token, "i": os.urandom(8).hex(), **asked})
    lost = 0.0
    while True:
        answer = _ask(socket, line, until)
        if answer:
            break
        lost = lost or time.monotonic()
        if time.monotonic() - lost > AGAIN_SECONDS:
            raise Unreachable(
                f"the worker runtime of this attempt does not answer at {socket}.",
                "What it was told before is kept. Is it stopped? See: fleet status",
            )
        time.sleep(0.05)
    told: dict[str, Any] = codec.decode(answer)
    if "refused" in told:
        raise Refused(f"{told['refused']}.", str(told.get("hint", "")))
    return told


def _ask(path: str, line: bytes, until: "float | None") -> bytes:
    """One answer line; empty where nobody is there, or where the connection broke."""
    import _socket

    try:
        near = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return b""
    client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    parts: list[bytes] = []
    try:
        if until is not None:
            client.settimeout(max(until - time.monotonic(), 0.001))
        client.connect(f"/proc/self/fd/{near}/{os.path.basename(path)}")
        client.sendall(line)
        while not (parts and parts[-1].endswith(b"\n")):
            if until is not None:
                client.settimeout(max(until - time.monotonic(), 0.001))
            data = client.recv(1 << 18)
            if not data:
                return b""
            parts.append(data)
    except OSError as error:
        if isinstance(error, _socket.timeout):  # a TimeoutError since Python 3.10
            raise TimeoutError from None
        return b"".join(parts) if parts and parts[-1].endswith(b"\n") else b""
    finally:
        client.close()
        os.close(near)
    return b"".join(parts)


def say(ctx: Context, answer: "dict[str, Any]", line: str = "") -> int:
    """The answer: JSON with --json, else a line, if there is one and nobody said --quiet."""
    if ctx.json:
        answer.pop("ok", None)
        write_bytes(codec.encode(answer))
    elif line and not ctx.quiet:
        print(line)
    return 0


def absolute(ctx: Context, path: str) -> str:
    """A path that a task named, from where it stands."""
    return os.path.join(ctx.cwd or os.getcwd(), path)
