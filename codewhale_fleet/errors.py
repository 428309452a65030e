"""The one family of errors that a person may see.

An error is a sentence (what, where, which value), a hint (what to type next) and the exit code
that the command ends with. It knows nothing of terminals or JSON; `cli` draws it.
"""


class FleetError(Exception):
    """A mistake that is told to a person in one sentence.

    `exit_code` follows the table of the command line: 2 wrong request, 4 refused, 5 ledger,
    6 nothing can be placed. `field`, `file` and `line` say where, when the mistake is in a file.
    """

    exit_code = 2
    code = "bad_request"

    def __init__(
        self,
        sentence: str,
        hint: str = "",
        *,
        exit_code: "int | None" = None,
        code: "str | None" = None,
        field: "str | None" = None,
        file: "str | None" = None,
        line: "int | None" = None,
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.hint = hint
        self.field = field
        self.file = file
        self.line = line
        if exit_code is not None:
            self.exit_code = exit_code
        if code is not None:
            self.code = code


class Refused(FleetError):
    """What was asked may not be done in the state that the fleet is in."""

    exit_code = 4
    code = "refused"


class Damaged(FleetError):
    """What is on the disk contradicts itself, or can no longer be written."""

    exit_code = 5
    code = "ledger"


class Unreachable(FleetError):
    """A host, a runtime or a manager does not answer.

    `final`: trying again cannot help until somebody changes something.
    """

    exit_code = 6
    code = "unreachable"

    def __init__(self, sentence: str, hint: str = "", *, final: bool = False) -> None:
        super().__init__(sentence, hint)
        self.final = final


def to_install(extra: str) -> str:
    """What brings an extra; nothing of a checkout is installed but what its lock files name."""
    return f"pip install 'codewhale-fleet[{extra}]'; in a checkout: scripts/bootstrap dev"
