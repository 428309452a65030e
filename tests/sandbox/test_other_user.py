"""A whole run of confined attempts, of a user who is not root: by `fleet`, to its receipts."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.driver import fleet, spec
from tests.surroundings import NOBODY

pytestmark = pytest.mark.slow

VALUE = "nobody-s-own/secret+0123456789"
LOOKS = r"""
id -u; ulimit -u; ls -A "$HOME" | wc -l; cat /proc/self/uid_map | wc -l
for path in /etc/made elsewhere fleet.toml tasks.toml; do
    (echo x >> "$path") 2>/dev/null && echo "wrote $path"
done
test -e .fleet/fleet.jsonl && echo "saw the ledger"
unshare -Ur true 2>/dev/null && echo "a namespace of its own"
(exec 3<> /dev/tcp/127.0.0.1/PORT) 2>/dev/null && echo "reached the machine"
echo good > out/good; setsid sleep 1234.5 & echo over
"""
SPEC = """
[security_policy]
default_trust_level = "sandbox"
allowed_secrets = ["API_TOKEN"]

[[security_policy.capability_grants]]
capability = "provider-secrets"
scope = "API_TOKEN"

[[tasks]]
id = "looks"
command = "bash looks.sh"
workspace = { writable_paths = ["out"] }

[[tasks]]
id = "secret"
command = 'stat -c "%a %u" "$TOKEN_FILE"; echo it is; cat "$TOKEN_FILE"'
secrets = [{ key = "API_TOKEN", as = "TOKEN_FILE", deliver = "file" }]

[[tasks]]
id = "breaks"
command = "rm -rf / 2>/dev/null; exit 7"
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the other user's, with a home beside the workspace."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        where = Path(name)
        (where / "work").mkdir()
        store = where / "home/.config/codewhale-fleet/secrets"
        store.mkdir(parents=True)
        store.chmod(0o700)
        (store / "API_TOKEN").touch(0o600)
        (store / "API_TOKEN").write_text(VALUE)
        (where / "work/fleet.toml").touch()
        if os.geteuid() == 0:
            for path in (where, *where.rglob("*")):
                os.chown(path, 65534, 65534)
        yield where


def test_a_user_who_is_not_root_is_confined_from_start_to_end(place: Path) -> None:
    import socket

    work, user = place / "work", 65534 if os.geteuid() == 0 else os.geteuid()
    before = NOBODY if os.geteuid() == 0 else ()
    env = {"HOME": str(place / "home"), "XDG_CONFIG_HOME": str(place / "home/.config")}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        (work / "looks.sh").write_text(LOOKS.replace("PORT", port))
        spec(work, SPEC)
        done = fleet(work, "run", "tasks.toml", before=before, **env)
    assert done.returncode == 1, done.stdout + done.stderr
    told = fleet(work, "receipts", "@last", "--json", before=before, **env).stdout
    found = {one["task_id"]: one for one in json.loads(told)["receipts"]}
    assert [found[name]["result"] for name in ("looks", "secret", "breaks")] == [
        "pass", "pass", "fail",
    ], told  # fmt: skip
    said = fleet(work, "logs", "@last/looks", before=before, **env).stdout.split("\n")
    lines = [line for line in said if line and not line.startswith("==")]
    assert lines[0] == str(user) and lines[1].isdigit() and lines[2:4] == ["0", "1"], said
    assert lines[4:] == ["over"], said
    assert (work / "out/good").stat().st_uid == user and not Path("/etc/made").exists()
    said = fleet(work, "logs", "@last/secret", before=before, **env).stdout
    assert f"600 {user}\nit is\n[redacted:API_TOKEN]" in said, said
    assert list((work / ".fleet/attempts").glob("*/*")) == []
    assert not any(b"sleep\x001234.5" in path.read_bytes() for path in _command_lines()), (
        "a daemon was left behind"
    )


def _command_lines() -> Iterator[Path]:
    yield from (path for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
