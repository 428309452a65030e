"""From the names of secrets to their values, at the last moment, for whoever asks for a run.

Promises: everything that is not found is told at once, with where it was looked for and what to
type; a value is answered, never shown, kept or logged. A name without a source is looked for in
the keyring (where `fleet secret set` has put it), then in the file store, then in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import NoReturn

from ..core.parts import SecretName
from ..errors import FleetError
from . import vault
from .vault import Unusable

VALUE_BYTES = vault.VALUE_BYTES
ALL_BYTES = 4 * 1024 * 1024
"""All values of one run."""


def needed(
    tasks: Iterable[bytes], agents: Mapping[str, bytes], known: Iterable[SecretName]
) -> list[SecretName]:
    """Those of a run's secrets that these tasks (JSON) name, or their agents."""
    from ..agents.definition import decode_agent
    from ..core.secrets import ref_of, refs_of
    from ..core.tasks import decode_task, judges_of

    giving = {
        name: decode_agent(raw).secrets for name, raw in agents.items() if b'"secrets":' in raw
    }
    marks = [b'"secrets":', *(f'"agent":"{name}"'.encode() for name in giving)]
    keys: set[str] = set()
    for raw in tasks:
        if not any(mark in raw for mark in marks):
            continue
        task = decode_task(raw)
        keys.update(ref.key for ref in refs_of(task, giving.get(task.agent or "", ())))
        for judge in judges_of(task):
            keys.update(ref_of(one).key for one in giving.get(judge.agent or "", ()))
    return [one for one in known if one.key in keys]


def resolve(
    wanted: Iterable[SecretName],
    *,
    of: str,
    again: str,
    spare: Iterable[SecretName] = (),
    environ: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Key -> value of all that is wanted; FleetError with every one that is not to be had.

    `of` is what wants them, `again` what to type once they are there. What is in `spare` is taken
    where it is found, and not missed.
    """
    env = os.environ if environ is None else environ
    found: dict[str, str] = {}
    flaws: list[Unusable] = []
    for one in wanted:
        try:
            found[one.key] = _value(one, env)
        except Unusable as flaw:
            flaws.append(flaw)
    if flaws:
        _refuse(flaws, of, again)
    for one in spare:
        try:
            found.setdefault(one.key, _value(one, env))
        except Unusable:
            continue
    if sum(map(len, found.values())) > ALL_BYTES:
        raise FleetError(f"the secrets of {of} take more than {ALL_BYTES:,} bytes together.")
    return found


def shown_anyway(values: Mapping[str, str]) -> list[str]:
    """A sentence for each value that is too short to be looked for in what tasks write."""
    from ..worker.needles import SHORTEST

    short = [key for key, value in values.items() if len(value.strip().encode()) < SHORTEST]
    return [
        f"{key} has fewer than {SHORTEST} bytes, so it is not taken out of what tasks write"
        for key in short
    ]


def _value(wanted: SecretName, env: Mapping[str, str]) -> str:
    """The value, from where it is; Unusable with the reason where there is none of use."""
    key, source = wanted.key, wanted.source
    looked = []
    if source == "keyring" or (not source and vault.keyring_knows(key)):
        looked.append("the keyring")
        value = vault.keyring_get(key)
        if value is not None:
            return vault.checked(key, value, "the keyring")
    if source in ("", "file"):
        looked.append(f"the file store {vault.place()}")
        value = vault.file_get(key)
        if value is not None:
            return vault.checked(key, value, f"the file store {vault.place()}")
    if source in ("", "env"):
        looked.append("the environment")
        if env.get(key):
            return vault.checked(key, env[key], "the environment")
        if key in env:
            raise Unusable(key, f"{key} is set to nothing in the environment", f"{key}=…")
    where = (
        " and ".join(looked) if len(looked) < 3 else f"{', '.join(looked[:-1])} and {looked[-1]}"
    )
    store = f"fleet secret set {key}" + (f" --source {source}" if source else "")
    hint = f"set it where fleet is started: {key}=…" if source == "env" else store
    raise Unusable(key, f"{key} is not found (looked in {where})", hint)


def _refuse(flaws: list[Unusable], of: str, again: str) -> NoReturn:
    if len(flaws) == 1:
        said = f"{of} needs a secret: {flaws[0]}."
    else:
        said = f"{of} needs secrets: {'; '.join(map(str, flaws))}."
    hints = list(dict.fromkeys(flaw.hint for flaw in flaws if flaw.hint))
    raise FleetError(said, "\n".join([*hints, f"then: {again}"]), code="secret", field="secrets")
