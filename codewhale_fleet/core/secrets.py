"""Secrets by name: which of them a task gets, under which variables, and what a policy says of it.

Pure. There is no value in here, and none comes out: a `SecretRef` names a secret, the plan of an
attempt names it again, and what it stands for only the worker runtime has in memory. Knows neither
stores nor files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from .parts import SecretName
from .spec import Task
from .spec_hosts import SecretRef

KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
"""What a secret may be called: it names a file of the store."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
"""What a variable may be called that carries one: a shell must be able to say it."""


def ref_of(written: str | SecretRef) -> SecretRef:
    """A reference in its one form: plain text is a key, and what is so anyway is left out."""
    if isinstance(written, str):
        return SecretRef(key=written)
    return SecretRef(
        key=written.key,
        source=written.source,
        as_=written.as_ if written.as_ != written.key else None,
        deliver="file" if written.deliver == "file" else None,
    )


def variable_of(ref: SecretRef) -> str:
    """The variable by which a task finds it."""
    return ref.as_ or ref.key


def name_of(ref: SecretRef) -> SecretName:
    """What a run records of it."""
    return SecretName(key=ref.key, source=ref.source or "")


def shown(ref: SecretRef | SecretName) -> str:
    """How people see it: `<secret:KEY>`, with its source where one is named."""
    return f"<secret:{ref.source}.{ref.key}>" if ref.source else f"<secret:{ref.key}>"


def refs_of(task: Task, of_agent: Iterable[str | SecretRef] = ()) -> list[SecretRef]:
    """Everything that a task gets: what it names itself, and what its agent names."""
    return list(dict.fromkeys(map(ref_of, (*task.secrets, *of_agent))))


def planned(refs: Iterable[SecretRef], run: Iterable[SecretName]) -> list[dict[str, Any]]:
    """What the plan of an attempt says of its secrets; only those that its run was allowed."""
    known = set(run)
    return [
        {
            "key": ref.key,
            "source": ref.source or "",
            "as": variable_of(ref),
            "file": ref.deliver == "file",
        }
        for ref in refs
        if name_of(ref) in known
    ]
