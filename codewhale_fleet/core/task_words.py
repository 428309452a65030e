"""What tasks say of themselves while they run, and what people answer. Words of `events.py`.

A fact that a worker runtime told has `src`; what a person did has none, and stands under `by`.
"""

# ruff: noqa: RUF012 (msgspec copies mutable defaults)
from .parts import Event


class QuestionAsked(Event, frozen=True, kw_only=True):
    """A task asks a person, and waits. `number` counts the questions of its attempt.

    `answer`: an earlier attempt has asked the same, and was answered so.
    """

    word = "question.asked"
    attempt: str
    worker: str
    src: tuple[str, int]
    text: str
    number: int = 1
    choices: list[str] = []
    answer: str | None = None


class QuestionAnswered(Event, frozen=True, kw_only=True):
    """A person has answered; the same question of a later attempt has this answer, too."""

    word = "question.answered"
    attempt: str
    answer: str
    number: int = 1


class DataPut(Event, frozen=True, kw_only=True):
    """A value of the run, under the next version of its name; its bytes are kept by digest."""

    word = "data.put"
    name: str
    version: int
    sha256: str
    size: int
    tags: dict[str, str] = {}
    attempt: str = ""
    src: tuple[str, int] | None = None


class DataDeleted(Event, frozen=True, kw_only=True):
    """No version of this name up to `version` is shown any more; their numbers stay used."""

    word = "data.deleted"
    name: str
    version: int
    attempt: str = ""
    src: tuple[str, int] | None = None


class SecretsUsed(Event, frozen=True, kw_only=True):
    """An attempt got secrets, by name: with its start (env, file), or when it asked (get).

    `step`: a step of its verification got them, and not the attempt itself.
    """

    word = "secrets.used"
    attempt: str
    worker: str
    src: tuple[str, int]
    secrets: dict[str, str]
    step: int = 0
