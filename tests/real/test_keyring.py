"""A real keyring, GNOME's, on a D-Bus session of its own: kept, used, locked, and opened again."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.driver import fleet, spec

pytestmark = pytest.mark.slow

PASSWORD = b"open sesame"
VALUE = "kept-in-a-keyring/0123456789"
SPEC = """
[[tasks]]
id = "t"
command = 'test "$KEY" = "$WANTED"'
secrets = [{ key = "KEY", source = "keyring" }]
workspace = { environment = { required = ["WANTED"] } }
"""
LOCK = """
import secretstorage
bus = secretstorage.dbus_init()
secretstorage.get_default_collection(bus).lock()
"""


class Session:
    """A bus, a keyring on it, and what a shell of that session has in its environment."""

    def __init__(self, place: Path) -> None:
        self.work = place / "work"
        self.work.mkdir()
        (place / "run").mkdir(0o700)
        self.env = {
            "HOME": str(place),
            "XDG_CONFIG_HOME": str(place / "config"),
            "XDG_DATA_HOME": str(place / "data"),
            "XDG_RUNTIME_DIR": str(place / "run"),
            "DISPLAY": "",
        }

    def call(self, *words: str, given: bytes = b"", **more: str) -> tuple[int, str]:
        done = fleet(self.work, *words, given=given, **{**self.env, **more})
        return done.returncode, done.stdout + done.stderr

    def perform(self, code: str) -> None:
        words, env = [sys.executable, "-c", code], {**os.environ, **self.env}
        subprocess.run(words, env=env, check=True, capture_output=True)

    @contextmanager
    def bus(self) -> Iterator[None]:
        words = ["dbus-daemon", "--session", "--nofork", "--print-address"]
        with subprocess.Popen(
            words, env={**os.environ, **self.env}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as daemon:
            assert daemon.stdout is not None
            self.env["DBUS_SESSION_BUS_ADDRESS"] = daemon.stdout.readline().decode().strip()
            try:
                yield
            finally:
                daemon.terminate()

    @contextmanager
    def keyring(self) -> Iterator[None]:
        words = ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"]
        with subprocess.Popen(
            words,
            env={**os.environ, **self.env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as daemon:
            assert daemon.stdin is not None and daemon.stdout is not None
            daemon.stdin.write(PASSWORD)
            daemon.stdin.close()
            daemon.stdout.readline()  # where its control socket is: it is up
            self.perform(LOCK.replace(".lock()", ".is_locked()"))
            try:
                yield
            finally:
                daemon.terminate()


def test_a_value_in_a_keyring_reaches_its_task_and_a_locked_one_is_a_sentence(
    tmp_path: Path,
) -> None:
    session = Session(tmp_path)
    name = spec(session.work, SPEC)
    with session.bus():
        with session.keyring():
            code, said = session.call("secret", "set", "KEY", given=VALUE.encode() + b"\n")
            assert code == 0 and "KEY is kept in the keyring" in said, said
            assert session.call("run", name, WANTED=VALUE)[0] == 0
            session.perform(LOCK)
            code, said = session.call("run", name, WANTED=VALUE)
            assert code == 2 and "the keyring is locked, so KEY cannot be had from it" in said
            assert "unlock it and try again" in said and "then: fleet run" in said, said
            code, said = session.call("secret", "rm", "KEY")
            assert code == 2 and "the keyring is locked" in said, said
        with session.keyring():  # somebody has logged in again
            assert session.call("run", name, WANTED=VALUE)[0] == 0
            code, said = session.call("secret", "rm", "KEY")
            assert code == 0, said
            code, said = session.call("run", name, WANTED=VALUE)
            assert code == 2 and "KEY is not found (looked in the keyring)" in said, said
        backend = {"PYTHON_KEYRING_BACKEND": "keyring.backends.SecretService.Keyring"}
        code, said = session.call("run", name, WANTED=VALUE, **backend)
        assert code == 2 and "fleet secret set KEY --source file" in said, said
    code, said = session.call("run", name, WANTED=VALUE, **backend)
    assert code == 2 and "fleet secret set KEY --source file" in said, said
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert VALUE.encode() not in path.read_bytes(), path
