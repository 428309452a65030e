"""What a machine says of itself."""

import os
import sys

from codewhale_fleet.worker import machine


def test_a_machine_tells_what_attempts_may_use() -> None:
    facts = machine.facts()
    assert facts["host"] == os.uname().nodename
    assert facts["platform"] == sys.platform
    assert facts["cores"] == len(os.sched_getaffinity(0))
    assert 16 < facts["memory_mb"] <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    assert facts["gpus"] >= 0
    assert facts["boot"] and facts["python"].startswith("3.")
