"""The scorer `exit_code`, which also judges commands without a scorer."""

import pytest

from codewhale_fleet.core.spec import ExitCode, Scorer
from codewhale_fleet.scoring.exit_code import PASSED

from .builders import a_task, an_end, judged, told

pytestmark = pytest.mark.parametrize("scorer", [None, ExitCode()], ids=["absent", "exit_code"])


def test_exit_0_passes_and_the_receipt_is_one_object_for_all(scorer: Scorer | None) -> None:
    assert judged(a_task(scorer), an_end(exit=0)) is PASSED


@pytest.mark.parametrize("status", [1, 2, 75, 125, 128, 255])
def test_another_exit_is_the_tasks_fault(scorer: Scorer | None, status: int) -> None:
    receipt = judged(a_task(scorer), an_end(exit=status))
    assert told(receipt) == ("fail", "task")
    assert (receipt.scorer, receipt.reason) == ("exit_code", f"exit {status}")


def test_a_command_that_the_shell_did_not_find_is_said_so(scorer: Scorer | None) -> None:
    reason = judged(a_task(scorer), an_end(exit=127)).reason
    assert reason == "exit 127 (in a shell: command not found)"
    reason = judged(a_task(scorer), an_end(exit=126)).reason
    assert reason == "exit 126 (in a shell: not executable)"


def test_a_signal_is_named(scorer: Scorer | None) -> None:
    receipt = judged(a_task(scorer), an_end(signal=9))
    assert told(receipt) == ("fail", "task")
    assert receipt.reason == "killed by SIGKILL"


def test_a_signal_without_a_name_has_its_number(scorer: Scorer | None) -> None:
    assert judged(a_task(scorer), an_end(signal=40)).reason == "killed by signal 40"


def test_a_status_that_was_never_seen_is_neither_0_nor_1(scorer: Scorer | None) -> None:
    receipt = judged(a_task(scorer), an_end(unknown=True))
    assert told(receipt) == ("fail", "transport")
    assert receipt.reason == "exit status was never seen"


def test_a_kill_beside_the_memory_killer_is_named_as_what_it_probably_is(
    scorer: Scorer | None,
) -> None:
    receipt = judged(a_task(scorer), an_end(signal=9, oom=True))
    assert told(receipt) == ("fail", "task")
    assert receipt.reason == "killed by SIGKILL: probably out of memory"
    receipt = judged(a_task(scorer), an_end(exit=137, oom=True))
    assert receipt.reason == "exit 137: probably out of memory"
