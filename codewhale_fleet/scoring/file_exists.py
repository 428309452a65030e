"""Scorer `file_exists`: a regular file is there when the attempt has ended.

Promises: the size of the file does not matter, nor does the exit status. Whether this attempt made
the file or an earlier one did, it does not know.
"""

from ..core.events import AttemptEnded, Receipt
from ..core.spec import FileExists
from .reading import fail, passed, why_not_kept

KIND = "file_exists"


def judge(scorer: FileExists, ended: AttemptEnded) -> Receipt:
    """Pass for a regular file of any size; fail/task where there is none."""
    path = scorer.path
    evidence = ended.evidence.get(path)
    error = evidence.error if evidence is not None else ""
    if error == "too large":
        return passed(KIND, f"{path} is there")
    if error.startswith("unreadable: it is "):
        return fail(KIND, "task", f"{path} is no regular file")
    return why_not_kept(KIND, path, evidence) or passed(
        KIND, f"{path} is there, {evidence.size if evidence else 0:,} bytes"
    )
