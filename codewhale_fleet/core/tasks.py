"""A task's spec out of its row or line: decoded as far as somebody needs it, and not before."""

from msgspec import Raw, Struct, json

from .spec import Scorer, Task, VerifierPrompt, claims_of
from .state import rest_of

_ABSENT = Raw()

_decoder: json.Decoder[Task] | None = None


def decode_task(raw: bytes) -> Task:
    """The spec of a task, from its sparse JSON as it stands in the ledger."""
    global _decoder  # noqa: PLW0603 (made at first use: most commands never need it)
    if _decoder is None:
        _decoder = json.Decoder(Task)
    return _decoder.decode(raw)


class Top(Struct, gc=False):
    """The few fields of a task that placement needs without decoding the rest."""

    id: str
    priority: int = 0
    metadata: Raw = _ABSENT
    workspace: Raw = _ABSENT

    @property
    def needs_more(self) -> bool:
        """Whether placement may hang on what is not decoded here."""
        return self.metadata is not _ABSENT or self.workspace is not _ABSENT


decode_tops = json.Decoder(list[Top]).decode


def alike(tops: list[Top], text: bytes, first: bytes) -> bytes:
    """What follows the id in each of some tasks, where that is the same and placement needs none of
    it; else nothing. `text` is all of them with commas between: one comparison tells."""
    if not tops or tops[0].needs_more:
        return b""
    rest = rest_of(tops[0].id, first)
    names = [top.id.encode() for top in tops]
    same = text == b'{"id":"%b"%b' % ((b'"%b,{"id":"' % rest).join(names), rest)
    return rest if same else b""


def chain_of(task: Task) -> list[Scorer]:
    """The scorers of a task, in the order in which they judge; none where it names none."""
    if task.verify is not None:
        return task.verify.steps
    return [task.scorer] if task.scorer is not None else []


def judges_of(task: Task) -> list[VerifierPrompt]:
    """The verdicts of agents that a task asks for, in their order."""
    return [scorer for scorer in chain_of(task) if isinstance(scorer, VerifierPrompt)]


def priority_of(task: Task) -> int:
    """Lower runs first; `metadata.priority` counts where `priority` says nothing."""
    if task.priority:
        return task.priority
    written = task.metadata.get("priority", 0)
    return written if isinstance(written, int) else 0


__all__ = [
    "alike",
    "chain_of",
    "claims_of",
    "decode_task",
    "decode_tops",
    "judges_of",
    "priority_of",
]
