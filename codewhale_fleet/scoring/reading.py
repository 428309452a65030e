"""What the scorers that look into a file share: getting at it, and quoting from it.

Promises: whatever keeps a file from being judged is a receipt with its source, never an exception.
Knows nothing of patterns or expressions.
"""

from collections.abc import Callable

from ..core.events import AttemptEnded, Evidence, Receipt

EXCERPT = 200
"""Most characters of a file in a receipt."""


def fail(scorer: str, source: str, reason: str) -> Receipt:
    """A failure that this scorer found."""
    return Receipt(result="fail", source=source, scorer=scorer, reason=reason)


def passed(scorer: str, reason: str) -> Receipt:
    """A pass, and what it rests on."""
    return Receipt(result="pass", scorer=scorer, reason=reason)


def why_not_kept(scorer: str, path: str, evidence: Evidence | None) -> Receipt | None:
    """The receipt of a file that the host could not keep, None when it was kept.

    Missing is the task's fault and an escape is against policy; that the file was never collected
    is the transport's. For the rest (too large, unreadable) the scorer can't tell: verifier.
    """
    if evidence is None:
        return fail(scorer, "transport", f"{path} was never collected")
    match evidence.error:
        case "":
            return None
        case "missing":
            return fail(scorer, "task", f"{path} does not exist")
        case "outside the workspace":
            return fail(scorer, "policy", f"{path} is outside the workspace")
        case "too large":
            return fail(scorer, "verifier", f"{path} is larger than 1,000,000 bytes")
        case error:
            return fail(scorer, "verifier", f"{path}: {error}")


def bytes_of(
    scorer: str, path: str, ended: AttemptEnded, read: Callable[[Evidence], bytes]
) -> bytes | Receipt:
    """The UTF-8 bytes of a file that the host kept, or the receipt that says why there are none."""
    evidence = ended.evidence.get(path)
    refused = why_not_kept(scorer, path, evidence)
    if refused is not None or evidence is None:
        return refused or fail(scorer, "transport", f"{path} was never collected")
    try:
        data = read(evidence)
    except OSError as error:
        return fail(scorer, "verifier", f"the kept copy of {path}: {error.strerror}")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return fail(scorer, "verifier", f"{path} is not UTF-8 at byte {error.start:,}")
    return data


def quote(text: str, limit: int = EXCERPT, *, end: bool = False) -> str:
    """One printable line of at most `limit` characters: the text's beginning, or its end."""
    part = text[-2 * limit :] if end else text[: 2 * limit]
    line = " ".join("".join(c if c.isprintable() else " " for c in part).split())
    if len(line) <= limit and len(part) == len(text):
        return line
    if end:
        return f"…{line[1 - limit :]}"
    return f"{line[: limit - 1]}…"
