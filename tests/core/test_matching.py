"""Who may run what: trust and what is known of a worker; the rest is told in test_spread.py."""

import pytest

from codewhale_fleet.core.fleet_words import WorkerRow
from codewhale_fleet.core.matching import Need, level_of_worker, why_not
from codewhale_fleet.core.spec_hosts import (
    DockerHost,
    Host,
    LocalHost,
    SecurityPolicy,
    SshHost,
    TrustLevel,
    Worker,
)

STRICT = SecurityPolicy(require_identity_verification=True)
SSH = SshHost(host="h")
PINNED = SshHost(host="h", host_key_fingerprint="SHA256:x")
LISTED = SshHost(host="h", known_hosts="~/keys")
BOX = DockerHost(image="i")


@pytest.mark.parametrize(
    ("host", "says", "policy", "level"),
    [
        (LocalHost(), None, None, "operator"),
        (LocalHost(), "local", STRICT, "local"),
        (SSH, None, None, "remote_verified"),
        (SSH, "operator", None, "operator"),
        (SSH, None, STRICT, "sandbox"),
        (SSH, "operator", STRICT, "sandbox"),
        (PINNED, None, STRICT, "remote_verified"),
        (LISTED, "operator", STRICT, "operator"),
        (BOX, None, None, "sandbox"),
        (BOX, "remote_verified", STRICT, "sandbox"),
    ],
)
def test_a_worker_is_trusted_as_its_road_proves_it(
    host: Host, says: TrustLevel | None, policy: SecurityPolicy | None, level: TrustLevel
) -> None:
    made = Worker(id="w", name="w", host=host, trust_level=says)
    assert level_of_worker(made, policy) == level


def test_what_is_not_known_of_a_worker_speaks_for_it_and_its_definition_counts() -> None:
    made = Worker(id="w", name="w", host=SSH, cores=8)
    large = Need(platform="darwin", memory_mb=64_000, gpus=1)
    assert why_not(large, made) == ""
    assert why_not(Need(cores=9), made) == "it has 8 cores, not 9"
    row = WorkerRow(boot="b", platform="linux", cores=64, memory_mb=100)
    assert why_not(large, made, row) == "it is linux, not darwin"
    assert why_not(Need(memory_mb=101), made, row) == "it has 100 MiB of memory, not 101"
    assert why_not(Need(gpus=1), made, row) == "it has 0 GPUs, not 1"
    assert why_not(Need(cores=9), made, row) == "it has 8 cores, not 9"
    assert why_not(Need(level="operator"), made) == (
        "its trust level is remote_verified, the task's is operator"
    )
