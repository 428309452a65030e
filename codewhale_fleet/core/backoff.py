"""Whether a failed attempt is followed by another, and after how long.

The whole retry policy in one pure function: attempts, initial and longest wait, multiplier, jitter
(the random number comes from outside) and the failure sources that are retried. Defaults and their
reasons: a task without a policy has one attempt; inside a given policy transport and task failures
(time-outs included) are retried.
"""

from .events import Receipt, Usage
from .spec import Task as TaskSpec
from .state import Task
from .tasks import decode_task
from .usage import used_up

FIRST_SEND_SECONDS = 2.0
"""Wait after the first time that a message could not be sent; twice as long each next time."""
LONGEST_SEND_SECONDS = 600.0
LONGEST_ASKED_SECONDS = 3600.0
"""A receiver that asks for more is asked again after this."""
SEND_JITTER = 0.2


def is_exhausted(task: Task) -> bool:
    """Has a failed task used up more than one attempt, all that its policy gave it?"""
    if task.status != "failed" or task.failures < 2:
        return False
    policy = decode_task(task.raw).retry_policy
    return policy is not None and task.failures >= policy.max_attempts


def wait_to_send(tries: int, after: float | None, jitter: float) -> float:
    """Seconds until a message is tried again that came to nothing `tries` times before.

    `after` is how long its receiver asked to be left alone.
    """
    wait = min(FIRST_SEND_SECONDS * 2.0 ** min(tries, 20), LONGEST_SEND_SECONDS)
    if after is not None:
        wait = max(wait if after <= 0 else 0.0, min(after, LONGEST_ASKED_SECONDS))
    return round(wait * (1.0 + SEND_JITTER * jitter), 3)


def retry_after(
    spec: TaskSpec, *, failures: int, spent: float, usage: Usage, receipt: Receipt, jitter: float
) -> float | None:
    """Seconds until the next attempt, or None when the receipt decides the task.

    `failures` counts failed attempts including this one, `spent` and `usage` are sums over all
    attempts, `jitter` is in [0, 1) and lengthens the wait by up to the policy's share. What a chain
    of verification found is followed by its own word, `on_fail`.
    """
    policy = spec.retry_policy
    if policy is None or receipt.result not in ("fail", "timeout"):
        return None
    if spec.verify and receipt.scorer and receipt.source == "task":
        if spec.verify.on_fail == "stop":
            return None
    elif receipt.source not in policy.retry_on:
        return None
    if failures >= policy.max_attempts:
        return None
    if used_up(spec.budget, usage, spent):
        return None
    wait = float(policy.initial_backoff_seconds)
    for _ in range(failures - 1):
        wait = min(wait * policy.backoff_multiplier, float(policy.max_backoff_seconds))
    wait = min(wait, float(policy.max_backoff_seconds))
    return float(round(wait * (1.0 + policy.jitter * jitter), 3))
