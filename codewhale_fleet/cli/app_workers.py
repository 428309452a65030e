"""The command line, continued: the machines that work may run on. Declared as in app.py."""

from typing import Annotated

import typer

from .app import Arg, Opt, app, command
from .reach import FLEET, ONE, many

worker = typer.Typer(
    name="worker", help="Other machines.", rich_markup_mode=None, no_args_is_help=True
)
app.add_typer(worker)

_SELECTOR = "Ids, web[01-50], groups, role=db, and, or, not; all."

_PORT = Annotated[int | None, Opt("--port -p", "Port.", metavar="N", min=1, max=65535)]
_IDENTITY = Annotated[str | None, Opt("--identity -i", "File of the private key.", metavar="FILE")]
_KNOWN = Annotated[str | None, Opt("--known-hosts", "File of the known host keys.", metavar="FILE")]
_FINGERPRINT = Annotated[
    str | None, Opt("--fingerprint", "The host key that is expected.", metavar="SHA256:…")
]
_DIRECTORY = Annotated[
    str | None,
    Opt("--working-directory --directory", "Directory there that work runs in.", metavar="PATH"),
]
_JUMP = Annotated[
    str | None, Opt("--jump -J", "Machine on the way there.", metavar="[USER@]HOST[:PORT]")
]
_TIMEOUT = Annotated[
    float | None,
    Opt("--connect-timeout", "Longest time until the login.", metavar="SECONDS", min=0.1),
]
_OPENSSH = Annotated[bool, Opt("--openssh", "By the system's ssh client.")]


@command(
    "fleet worker add web[01-03].example.com --group web --no-test",
    reach=many("fleet worker add HOST HOST"),
    group=worker,
)
def worker_add(
    hosts: Annotated[
        list[str] | None, Arg("Machines, also web[01-50].", "[USER@]HOST[:PORT]…")
    ] = None,
    ssh_config: Annotated[
        bool, Opt("--ssh-config", "Those that ~/.ssh/config names; HOSTs choose among them.")
    ] = False,
    ansible: Annotated[
        str | None, Opt("--ansible", "Those of an inventory of Ansible.", metavar="FILE")
    ] = None,
    id: Annotated[str | None, Opt("--id", "Its id; absent: its host's name.", metavar="ID")] = None,
    name: Annotated[str | None, Opt("--name", "A title for people.", metavar="TEXT")] = None,
    label: Annotated[list[str] | None, Opt("--label", "A label.", metavar="K=V")] = None,
    group: Annotated[list[str] | None, Opt("--group", "A group.", metavar="NAME")] = None,
    capability: Annotated[
        list[str] | None, Opt("--capability", "What it can do.", metavar="NAME")
    ] = None,
    slots: Annotated[
        int | None, Opt("--slots", "Most attempts there at once; absent: 1.", metavar="N", min=1)
    ] = None,
    trust: Annotated[str | None, Opt("--trust", "Its trust level.", metavar="LEVEL")] = None,
    env: Annotated[
        list[str] | None, Opt("--env", "A variable of yours that its tasks get.", metavar="NAME")
    ] = None,
    user: Annotated[str | None, Opt("--user -l", "Login name there.", metavar="NAME")] = None,
    port: _PORT = None,
    identity: _IDENTITY = None,
    known_hosts: _KNOWN = None,
    fingerprint: _FINGERPRINT = None,
    accept_host_key: Annotated[
        bool, Opt("--accept-host-key", "Trust host keys that nobody knows yet, from now on.")
    ] = False,
    working_directory: _DIRECTORY = None,
    jump: _JUMP = None,
    connect_timeout: _TIMEOUT = None,
    openssh: _OPENSSH = False,
    no_test: Annotated[bool, Opt("--no-test", "Add them untried.")] = False,
) -> None:
    """Make machines known as workers, once they were tried."""


@command("fleet worker list", reach=FLEET, group=worker)
def worker_list(
    selector: Annotated[str | None, Arg(_SELECTOR, "SELECTOR")] = None,
    all: Annotated[bool, Opt("--all", "Those that were retired, too.")] = False,
) -> None:
    """List workers, how they are, and what they have."""


@command("fleet worker inspect local", reach=ONE, group=worker)
def worker_inspect(id: Annotated[str, Arg("The worker.", "ID")]) -> None:
    """Show one worker: its definition, machine, work and records."""


@command(
    "fleet worker test localhost --working-directory /tmp",
    reach=many("fleet worker test SELECTOR"),
    group=worker,
)
def worker_test(
    hosts: Annotated[
        list[str], Arg("Workers, or machines that ssh reaches.", "SELECTOR | [USER@]HOST[:PORT]…")
    ],
    port: _PORT = None,
    identity: _IDENTITY = None,
    known_hosts: _KNOWN = None,
    fingerprint: _FINGERPRINT = None,
    working_directory: _DIRECTORY = None,
    jump: _JUMP = None,
    connect_timeout: _TIMEOUT = None,
    openssh: _OPENSSH = False,
) -> None:
    """Try whether work could run on other machines."""


@command("fleet worker drain local --off", reach=many("fleet worker drain SELECTOR"), group=worker)
def worker_drain(
    selectors: Annotated[list[str], Arg(_SELECTOR, "SELECTOR…")],
    off: Annotated[bool, Opt("--off", "Give them work again.")] = False,
    wait: Annotated[bool, Opt("--wait", "Until nothing runs there.")] = False,
    reason: Annotated[str | None, Opt("--reason", "Why.", metavar="TEXT")] = None,
) -> None:
    """Give workers nothing new; what runs there goes on."""


@command(
    "fleet worker retire web01.example.com",
    reach=many("fleet worker retire SELECTOR"),
    group=worker,
)
def worker_retire(
    ids: Annotated[list[str], Arg(_SELECTOR, "SELECTOR…")],
    reason: Annotated[str | None, Opt("--reason", "Why.", metavar="TEXT")] = None,
) -> None:
    """Take workers out of the fleet."""
