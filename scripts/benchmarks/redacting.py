"""How fast secret values are taken out of logs: 50 of them, by the runtime and by the manager.

Promises texts of the kinds that tasks write, the same for each way of looking, and that what was
taken out was counted right. `ways` are others that were tried, over the same needles. Knows no
aims.
"""

import base64
import json
import random
import re
import string
import sys
import time
from collections.abc import Callable
from functools import cache

from peers import HOME, Unable

sys.path.insert(0, str(HOME))

from codewhale_fleet.wire.redaction import Redaction
from codewhale_fleet.worker.redaction import Redactor

SECRETS = 50
SIZE = 8 << 20
BLOCK = 256 * 1024
MARK = b"[redacted:"
KINDS = (
    "a log", "a log, a value every 64 KiB", "an agent's JSON", "JSON in JSON", "URLs", "base64",
    "random bytes",
)  # fmt: skip


@cache
def secrets() -> dict[str, str]:
    rng = random.Random(5)
    signs = string.ascii_letters + string.digits + "-_/+!$&"
    return {
        f"SECRET_{number}": "".join(rng.choices(signs, k=rng.choice((16, 24, 40, 64))))
        for number in range(SECRETS)
    }


@cache
def text(kind: str) -> bytes:
    rng = random.Random(7)
    if kind == "random bytes":
        return rng.randbytes(SIZE)
    if kind == "base64":
        return base64.b64encode(rng.randbytes(SIZE * 3 // 4))
    words = [
        "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 10))) for _ in range(5000)
    ]
    lines: list[str] = []
    size = 0
    while size < SIZE:
        said = " ".join(rng.choices(words, k=rng.randint(4, 14)))
        when = f"2026-11-21T22:{rng.randrange(60):02}:{rng.randrange(60):02}Z"
        line = f"{when} INFO {said} id={rng.getrandbits(32):08x}"
        if "JSON" in kind:
            line = json.dumps({"type": "text", "text": f'{line}\n"{said}"\t{said[::-1]}\n'})
            line = json.dumps(line) if kind == "JSON in JSON" else line
        elif kind == "URLs":
            line = f"GET /search?q={said[:40].replace(' ', '%20')}&path=%2Fsrv%2F{said[-9:]}"
        lines.append(line + "\n")
        size += len(lines[-1])
    made = "".join(lines).encode()[:SIZE]
    if kind == "a log, a value every 64 KiB":
        values = [value.encode() for value in secrets().values()]
        parts = [made[at : at + 65536 - 100] for at in range(0, SIZE, 65536)]
        made = b"".join(values[n % SECRETS] + part for n, part in enumerate(parts))
    return made


def by_the_runtime(kind: str) -> float:
    """Megabytes a second, in blocks, standard library only."""
    data, stream = text(kind), Redactor(secrets()).stream()
    began = time.perf_counter()
    out = [stream.feed(data[at : at + BLOCK]) for at in range(0, len(data), BLOCK)]
    out.append(stream.finish())
    return _checked(kind, b"".join(out), time.perf_counter() - began)


def by_the_manager(kind: str) -> float:
    """The same, in one piece, with RE2."""
    data, redaction = text(kind), Redaction(secrets())
    # RE2 works out a part of its pattern when it first meets it, each value once.
    redaction.redacted(data[: 1 << 20] + "\n".join(secrets().values()).encode())
    began = time.perf_counter()
    out = redaction.redacted(data)
    return _checked(kind, out, time.perf_counter() - began)


def _checked(kind: str, out: bytes, seconds: float) -> float:
    wanted = SIZE // 65536 if kind == "a log, a value every 64 KiB" else 0
    if out.count(MARK) != wanted:
        raise Unable(f"{out.count(MARK)} values were taken out of {kind}, not {wanted}")
    return len(text(kind)) / seconds / 1e6


def ways() -> dict[str, float]:
    """Other ways to look for the same needles in a log, as it is: megabytes a second."""
    needles = list(Redactor(secrets()).needles)
    pattern = re.compile(b"|".join(map(re.escape, needles)))
    tried: dict[str, tuple[Callable[[bytes], object], int]] = {
        "bytes.find, needle by needle": (lambda d: [n for n in needles if d.find(n) >= 0], 8),
        "one alternation for re": (pattern.search, 128),
    }
    found = {}
    for name, (way, part) in tried.items():
        data = text("a log")[: SIZE // part]
        began = time.perf_counter()
        for at in range(0, len(data), BLOCK):
            way(data[at : at + BLOCK])
        found[name] = len(data) / (time.perf_counter() - began) / 1e6
    return found
