"""`fleet ask QUESTION`: a task asks a person and waits for the answer, which is all it prints."""

import time

from . import inside
from .common import Context


def ask(
    *, question: str, choices: "str | None" = None, timeout: "float | None" = None, ctx: Context
) -> int:
    """Print what a person answers; exit 3 once nobody has for `timeout` seconds."""
    listed = [one.strip() for one in (choices or "").split(",") if one.strip()]
    until = None if timeout is None else time.monotonic() + timeout
    try:
        told = inside.request(ctx, "ask", "ask", until=until, question=question, choices=listed)
    except TimeoutError:
        attempt = ctx.environ["FLEET_ATTEMPT_ID"]
        raise inside.Waited(
            f"nobody answered within {timeout:g} s: {question}",
            f'An answer still counts when the same is asked again: fleet answer {attempt} "…"',
        ) from None
    return inside.say(ctx, {"question": question, **told}, told["answer"])
