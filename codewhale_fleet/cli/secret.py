"""`fleet secret …`: a person keeps secrets; a task that was granted one gets its value.

Promises: a value comes from stdin or from a hidden prompt and never from a command line; nothing
here prints one but `get`, which only a task can call, for what its spec grants it. `get` imports
no more than the other commands of tasks; where secrets are kept is the engine's.
"""

import sys

from ..errors import FleetError
from . import inside
from .common import Context, import_msgspec, write_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from ..engine.vault import Unusable

SOURCES = ("file", "keyring")
"""Where a person can keep one."""


def secret_get(*, key: str, ctx: Context) -> int:
    """Print the value as it is, without a newline."""
    told = inside.request(ctx, "secret get", "secret", key=key)
    if ctx.json:
        return inside.say(ctx, told)
    write_bytes(told["value"].encode("utf-8", "surrogateescape"))
    return 0


def secret_set(*, key: str, source: "str | None" = None, ctx: Context) -> int:
    """Keep a value in the keyring, where it works, else in a file."""
    _refuse_key(key)
    _refuse_source(source)
    from ..engine import vault

    value = _asked(ctx, key)
    source = source or ("keyring" if vault.keyring_works() else "file")
    try:
        vault.checked(key, value, "standard input")
        if source == "keyring":
            vault.keyring_set(key, value)
        else:
            vault.file_set(key, value)
    except vault.Unusable as flaw:
        _tell(flaw)
    if source == "file" and vault.keyring_knows(key):
        more = f"to remove that: fleet secret rm {key} --source keyring"
        ctx.note(f"the keyring has a {key} too, and is asked first; {more}")
    where = "the keyring" if source == "keyring" else f"{vault.place()}/{key}"
    return inside.say(ctx, {"key": key, "source": source}, f"{key} is kept in {where}")


def secret_list(*, ctx: Context) -> int:
    """List names, where each is, and whether it is to be had; no values."""
    import_msgspec()
    from ..engine import vault

    rows: list[dict[str, Any]] = []
    try:
        rows += [_row(key, "file", vault.file_get) for key in vault.file_keys()]
        rows += [_row(key, "keyring", vault.keyring_get) for key in vault.keyring_keys()]
    except vault.Unusable as flaw:
        _tell(flaw)
    rows.sort(key=lambda row: (row["key"], row["source"]))
    if ctx.json:
        return inside.say(ctx, {"secrets": rows})
    if not rows:
        ctx.note("no secret is kept; to keep one: fleet secret set KEY")
    wide = max((len(row["key"]) for row in rows), default=0)
    for row in rows:
        said = row.get("why") or ("there" if row["exists"] else "gone")
        print(f"{row['key']:<{wide}}  {row['source']:<7}  {said}")
    return 0


def secret_rm(*, key: str, source: "str | None" = None, ctx: Context) -> int:
    """Keep it no more, wherever it is."""
    _refuse_key(key)
    _refuse_source(source)
    from ..engine import vault

    gone = []
    try:
        if source in (None, "file") and vault.file_remove(key):
            gone.append("file")
        asked = source == "keyring" or (source is None and vault.keyring_knows(key))
        if asked and vault.keyring_remove(key):
            gone.append("keyring")
    except vault.Unusable as flaw:
        _tell(flaw)
    if not gone:
        where = f"by {source}" if source else "here"
        raise FleetError(
            f"no secret {key} is kept {where}.", "fleet secret list shows them.", code="not_found"
        )
    return inside.say(ctx, {"key": key, "removed": gone}, f"{key} is removed ({', '.join(gone)})")


def _row(key: str, source: str, get: "Callable[[str], str | None]") -> "dict[str, Any]":
    from ..engine.vault import Unusable

    try:
        return {"key": key, "source": source, "exists": get(key) is not None}
    except Unusable as flaw:
        return {"key": key, "source": source, "exists": False, "why": f"not usable: {flaw}"}


def _asked(ctx: Context, key: str) -> str:
    """The value, from stdin or from a person who types it; one newline at its end is none of it."""
    from ..engine.vault import VALUE_BYTES

    if sys.stdin is not None and sys.stdin.isatty():
        import getpass

        return getpass.getpass(f"Value of {key}: ")
    data = sys.stdin.buffer.read(VALUE_BYTES + 3)
    for end in (b"\r\n", b"\n"):
        if data.endswith(end):
            data = data[: -len(end)]
            break
    if not data:
        raise FleetError(
            f"no value came for {key}.",
            f"fleet secret set {key}, and type it; or from a file: fleet secret set {key} < FILE",
            code="secret",
        )
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise FleetError(
            f"the value of {key} is not UTF-8.", "Keep it in base64.", code="secret"
        ) from None


def _refuse_key(key: str) -> None:
    import_msgspec()
    from ..core.secrets import KEY

    if not KEY.fullmatch(key):
        raise FleetError(
            f'"{key}" can be no secret\'s name.' if len(key) < 40 else "this is no secret's name.",
            "letters, digits and ._-, at most 128; the value comes from stdin, not as a word",
            code="secret",
        )


def _refuse_source(source: "str | None") -> None:
    if source not in (None, *SOURCES):
        raise FleetError(
            f'"{source}" is no place where a secret can be kept.',
            "--source file, or --source keyring",
            field="--source",
        )


def _tell(flaw: "Unusable") -> "NoReturn":
    raise FleetError(f"{flaw}.", flaw.hint, code="secret") from None
