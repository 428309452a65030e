"""A private sshd on loopback, with keys of its own, for as long as a test runs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from codewhale_fleet.core.spec_hosts import SshHost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tests.real.wire import Wire


def make_key(path: Path, kind: str = "ed25519") -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", str(path)], check=True
    )


class Sshd:
    """One server. `home` is the HOME that its sessions see; `before`, words that start it.

    `wire`: it listens at the far end of that, and nowhere else.
    """

    def __init__(
        self,
        folder: Path,
        *,
        path: str | None = None,
        options: str = "",
        wire: Wire | None = None,
    ) -> None:
        self.before: list[str] = []
        self.wire = wire
        self.address = wire.addresses[1] if wire else "127.0.0.1"
        self.folder = folder
        self.home = folder / "home"
        self.work = folder / "work"
        for one in (self.home, self.work):
            one.mkdir()
        for name in ("host", "id", "stranger"):
            make_key(folder / name)
        allowed = folder / "authorized"
        allowed.write_text((folder / "id.pub").read_text())
        allowed.chmod(0o600)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        host_key = (folder / "host.pub").read_text()
        (folder / "known").write_text(f"[{self.address}]:{self.port} {host_key}")
        given = f"HOME={self.home}" + (f" PATH={path}" if path is not None else "")
        (folder / "config").write_text(
            f"Port {self.port}\nListenAddress {self.address}\nHostKey {folder}/host\n"
            f"AuthorizedKeysFile {allowed}\nStrictModes no\nUsePAM no\nPidFile none\n"
            f"PermitRootLogin yes\nSetEnv {given}\nMaxStartups 200\nMaxSessions 200\n{options}"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Listen; returns when somebody would be heard."""
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "apt-get install -y openssh-server"
        Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
        words = [*self.before, program, "-D", "-e", "-f", str(self.folder / "config")]
        with (self.folder / "log").open("ab") as log, self._place():
            self.process = subprocess.Popen(words, stderr=log)
            while True:
                with socket.socket() as one:
                    if not one.connect_ex((self.address, self.port)):
                        return
                assert self.process.poll() is None, (self.folder / "log").read_text()

    def _place(self) -> AbstractContextManager[None]:
        return self.wire.inside(self.wire.there) if self.wire else nullcontext()

    def sessions(self) -> list[int]:
        """Pids of the server's own children: each serves one connection."""
        assert self.process
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def drop(self) -> None:
        """Every connection breaks off."""
        gone: set[int] = set()
        while left := set(self.sessions()) - gone:  # while some end, others may not be listed
            for pid in left:
                below: list[str] = []
                with suppress(FileNotFoundError):  # it may end by itself meanwhile
                    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                for one in (*map(int, below), pid):
                    with suppress(ProcessLookupError):
                        os.kill(one, signal.SIGKILL)
            gone |= left

    def stop(self) -> None:
        """It is gone, and its connections."""
        if self.process is None:
            return
        self.drop()
        self.process.kill()
        self.process.wait()
        self.process = None

    def host(self, **fields: object) -> SshHost:
        """How a worker reaches it."""
        known = {
            "host": self.address,
            "port": self.port,
            "identity": str(self.folder / "id"),
            "known_hosts": str(self.folder / "known"),
            "working_directory": str(self.work),
        }
        return SshHost(**{**known, **fields})  # type: ignore[arg-type]

    @property
    def fingerprint(self) -> str:
        """Of its host key, as ssh-keygen shows it."""
        done = subprocess.run(
            ["ssh-keygen", "-lf", str(self.folder / "host.pub")],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()[1]


@contextmanager
def serving(
    folder: Path, *, path: str | None = None, options: str = "", wire: Wire | None = None
) -> Iterator[Sshd]:
    """A server that runs within the block."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Sshd(folder, path=path, options=options, wire=wire)
    server.start()
    try:
        yield server
    finally:
        server.stop()
