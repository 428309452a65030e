"""Carries out a page of the docs as a reader would: one shell, an empty directory, top to bottom.

A `toml` block is written to the file that its first line names, an `sh` block is typed, and a
`text` block behind one is what it prints, but for ids, times and numbers that differ each time; a
line `…` stands for any others. tests/cli/test_pages.py holds every page to it, and
`scripts/docs --typed` puts in what is printed now. Nothing here knows what the commands do.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TYPED_BY_PEOPLE = {
    "./scripts/fleet run specs/checks.toml": "runs the tests as one of its tasks",
    "./scripts/test": "is the tests",
}
"""Commands that the tests can't type, because each of them would start them again -> why."""

RECEIVING = Path("docs/how-to/alerts.md")
"""A page that sends to services: a receiver on loopback stands in for them."""
SERVICES = ("https://hooks.slack.com", "https://hooks.example.com")
SIGNING_KEY = "keep-this-long-and-random"
"""What that page signs with."""

REACHING = (Path("docs/how-to/ssh.md"), Path("docs/how-to/exec.md"))
"""Pages that reach other machines: a server on loopback stands in for those of `MACHINES`."""
MACHINES = ("web01", "web02", "db1", "old01")
"""Names in the ssh config of these pages: nobody knows the host key of db1, old01 is down."""

BLOCK = re.compile(r"^```(sh|toml|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
MARK = "=====next block====="

VARYING = [
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"\b([a-z0-9-]+)-[a-z0-9]{6}\b", r"\1-xxxxxx"),
        (r"\b\d+(\.\d+)? (µs|ms|s|min|h|d)\b", "T"),
        (r"\bT( T)+", "T"),
        (r"(#|\brecord )\d+", r"\1N"),
        (r"-local-\d+", "-local-N"),
        (r"\b(process|epoch) \d+", r"\1 N"),
        (r"\b(Python )[\d.]+", r"\1N"),
        (r"\b\d+ cores?\b", "N cores"),
        (r"\b[\d.]+ (KiB|MiB|GiB)\b", "SIZE"),
        (r"SHA256:[\w+/]{43}", "SHA256:KEY"),
        (r"\bAAAA[\w+/]{20,}=*", "KEY"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE"),
        (r"\d\d:\d\d:\d\d", "CLOCK"),
        (r"\b[0-9a-f]{12,64}\b", "DIGEST"),
        (r"\s+", " "),
    )
]
"""What differs each time -> what stands for it."""


class Printed:
    """What a page's `sh` blocks printed, in order; `status` is the shell's."""

    def __init__(self, status: int, outs: list[str], errs: list[str]) -> None:
        self.status = status
        self.outs = outs
        self.errs = errs


def pages() -> list[Path]:
    """README and every page of the docs that has something to type, below the checkout."""
    found = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    return [page.relative_to(ROOT) for page in found if "```sh\n" in page.read_text("utf-8")]


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """(kind, text) of a page's blocks."""
    return BLOCK.findall((ROOT / page).read_text("utf-8"))


def typed(text: str) -> str:
    """A block as the tests may type it."""
    lines = text.splitlines()
    return "\n".join(":" if line.startswith(tuple(TYPED_BY_PEOPLE)) else line for line in lines)


def script_of(blocks: list[tuple[str, str]]) -> str:
    """One shell script that does what a page says."""
    parts = ["set -e"]
    for kind, text in blocks:
        if kind == "toml":
            name = text.split("\n", 1)[0].removeprefix("# ")
            if not re.fullmatch(r"[\w.-]+\.toml", name):
                raise ValueError(f"a toml block whose first line names no file:\n{text}")
            parts.append(f"cat > {name} <<'END OF FILE'\n{text}END OF FILE")
        elif kind == "sh":
            parts.append(f"echo '{MARK}'; echo '{MARK}' >&2\n{typed(text)}")
    return "\n".join(parts) + "\n"


def place(room: Path) -> tuple[Path, dict[str, str]]:
    """An empty directory in `room`, and an environment where `fleet` is this checkout's."""
    for name in ("bin", "place", "tmp"):
        (room / name).mkdir()
    shim = room / "bin" / "fleet"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m codewhale_fleet "$@"\n')
    shim.chmod(0o755)
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FLEET", "NO_COLOR", "PYTEST"))
    }
    own = {
        "PYTHONPATH": str(ROOT),
        "TERM": "dumb",
        "TMPDIR": str(room / "tmp"),
        "XDG_CONFIG_HOME": str(room / "config"),  # what is kept there is not the reader's
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
    }
    return room / "place", {**env, **own, "PATH": f"{shim.parent}:{env['PATH']}"}


@contextmanager
def services(page: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Where the services of a page are in truth, and the variables that it takes to reach them."""
    if page != RECEIVING:
        yield "", {}
        return
    from tests.alerts.receiver import a_receiver

    with a_receiver() as receiver:
        receiver.secret = SIGNING_KEY
        trusted = {"SSL_CERT_FILE": str(receiver.ca), "SSL_CERT_DIR": "", "NO_PROXY": "localhost"}
        yield receiver.url, trusted
        if receiver.problems or not receiver.taken:
            raise ValueError(f"{page}: {receiver.problems or 'nothing arrived'}")


@contextmanager
def machines(page: Path, room: Path) -> Iterator[dict[str, str]]:
    """The variables that it takes to reach the machines of a page."""
    if page not in REACHING:
        yield {}
        return
    from tests.hosts.sshd import serving

    with serving(room / "sshd") as server:
        keys, home = server.folder, room / "home"
        (home / ".ssh").mkdir(parents=True)
        for name in ("id", "id.pub"):
            (home / ".ssh" / name.replace("id", "id_ed25519")).write_bytes(
                (keys / name).read_bytes()
            )
        (home / ".ssh/id_ed25519").chmod(0o600)
        key = (keys / "host.pub").read_text()
        (home / ".ssh/known_hosts").write_text(f"web01,web02,example.com {key}")
        (home / ".ssh/config").write_text(
            "".join(
                f"Host {name}\n  HostName 127.0.0.1\n  HostKeyAlias {name}\n  User root\n"
                f"  Port {1 if name == 'old01' else server.port}\n"
                for name in MACHINES
            )
            + f"Host *.example.com\n  HostName 127.0.0.1\n  HostKeyAlias example.com\n"
            f"  User root\n  Port {server.port}\n"
        )
        yield {"HOME": str(home)}


def carry_out(page: Path, room: Path) -> Printed:
    """Do what a page says, in an empty `room`."""
    here, env = place(room)
    with services(page) as (url, more), machines(page, room) as reached:
        script = script_of(blocks_of(page))
        for service in SERVICES if url else ():
            script = script.replace(service, url)
        return _carried_out(script, here, room, {**env, **more, **reached})


def _carried_out(script: str, here: Path, room: Path, env: dict[str, str]) -> Printed:
    told, said = room / "stdout", room / "stderr"
    with told.open("w") as out, said.open("w") as err:
        done = subprocess.run(
            ["sh", "-c", script],
            cwd=here,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            timeout=100,
            check=False,
        )
    outs, errs = (path.read_text("utf-8").split(f"{MARK}\n")[1:] for path in (told, said))
    return Printed(done.returncode, outs, errs)


def steady(text: str) -> Counter[str]:
    """The lines of an output without what varies; order is not compared, tasks run side by side."""
    lines = []
    for line in text.splitlines():
        plain = line
        for pattern, instead in VARYING:
            plain = pattern.sub(instead, plain)
        lines.append(plain.strip())
    return Counter(line for line in lines if line)


def holds(shown: str, out: str, err: str) -> bool:
    """Whether a `text` block is what was printed: on stdout, or on both."""
    lines = steady(shown)
    partly = lines.pop("…", 0)
    both = (steady(out), steady(out + err))
    return any(lines <= one if partly else lines == one for one in both)


def renew() -> list[str]:
    """Put what is printed now into every page; the pages that a person must look at."""
    left = []
    for page in pages():
        with tempfile.TemporaryDirectory(prefix="fleet-docs-", ignore_cleanup_errors=True) as room:
            printed = carry_out(page, Path(room))
        if printed.status:
            left.append(f"{page}: {(printed.errs or ['?'])[-1].strip()}")
            continue
        text, at, made, end = (ROOT / page).read_text("utf-8"), -1, "", 0
        for found in BLOCK.finditer(text):
            kind, shown = found[1], found[2]
            at += kind == "sh"
            if kind != "text" or at < 0 or holds(shown, printed.outs[at], printed.errs[at]):
                continue
            if "\n…" in f"\n{shown}":
                left.append(f"{page}: shows only a part, and not what is printed:\n{shown}")
                continue
            made += text[end : found.start(2)] + printed.outs[at].strip("\n") + "\n"
            end = found.end(2)
        (ROOT / page).write_text(made + text[end:], "utf-8")
    return left
