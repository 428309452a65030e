"""What a running task can ask of its runtime: one function a verb.

`perform` is given an attempt that was let in. It answers the reply (None: later) and whether the
reply says that something is kept. Raises Wrong with the sentence for the task. It knows nothing of
tokens, and nothing here waits.
"""

from __future__ import annotations

import os

from codewhale_fleet.worker import collect, limits, tags
from codewhale_fleet.worker.own import USAGE, Question
from codewhale_fleet.worker.processes import clock
from codewhale_fleet.worker.tags import Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from codewhale_fleet.worker.asks import Asks, Client
    from codewhale_fleet.worker.attempts import Attempt

    Request = dict[str, Any]
    Reply = tuple[dict[str, Any] | None, bool]

_NOTE = 200
_MOST_AT_ONCE = 10.0**15


def perform(asks: Asks, client: Client, attempt: Attempt, request: Request) -> Reply:
    """Does what a task asks for."""
    verb = _VERBS.get(str(request.get("v")))
    if verb is None:
        raise Wrong(f"a task can't ask for {request.get('v')!r}")
    return verb(asks, client, attempt, request)


def _text(request: Request, field: str, most: int) -> str:
    """A field that is text of one line."""
    found = request.get(field)
    if type(found) is not str or not found.strip():
        raise Wrong(f"{field} must be text")
    if len(found) > most:
        raise Wrong(f"{field} may have {most:,} characters, and has {len(found):,}")
    plain = "".join(sign if sign.isprintable() else " " for sign in found)
    return " ".join(plain.encode("utf-8", "replace").decode().split())


def _spend_fact(asks: Asks, attempt: Attempt) -> None:
    if asks.own(attempt).facts >= limits.OWN_FACTS:
        raise Wrong(
            f"{attempt.id} has told {limits.OWN_FACTS:,} facts, which is all that one attempt may"
        )


# ---- what it leaves and uses


def _artifact(asks: Asks, client: Client, attempt: Attempt, request: Request) -> Reply:
    kind, path = _text(request, "kind", 64), str(request.get("path"))
    if not tags.is_plain(kind):
        raise Wrong(f'"{kind}" can be no kind: letters, digits and ._:/-')
    if len(asks.own(attempt).artifacts) >= limits.OWN_ARTIFACTS:
        raise Wrong(f"an attempt may add {limits.OWN_ARTIFACTS:,} artifacts")
    root, inner = _place(asks, attempt, path)
    fd, size, real = _opened(asks, attempt, path)
    os.close(fd)
    top = os.path.realpath(root).rstrip("/")
    relative = (collect.SCRATCH if inner is not path else "") + real[len(top) + 1 :]
    if [kind, relative] not in asks.own(attempt).artifacts:
        asks.put(attempt, "artifact", kind=kind, path=relative)
    return {"ok": True, "kind": kind, "path": relative, "size": size}, True


def _root(asks: Asks, attempt: Attempt) -> str:
    """The directory that its files lie in."""
    execution = asks.execution
    if "isolate" in attempt.plan:
        from codewhale_fleet.worker import isolation

        return isolation.root_of(attempt.plan, execution.fleet_dir)
    root: str = execution.place.home.plan(attempt.plan)["root"]
    return root


def _place(asks: Asks, attempt: Attempt, path: str) -> tuple[str, str]:
    """The directory that a path is looked for in, and the path itself, or what it means there."""
    if "sandbox" in attempt.plan:
        from codewhale_fleet.worker import confining

        fleet_dir = asks.execution.fleet_dir
        inner = confining.scratch_path(fleet_dir, path)
        if inner is not None:
            return confining.scratch_of(fleet_dir, attempt.plan), inner
    return _root(asks, attempt), path


def _opened(asks: Asks, attempt: Attempt, path: str) -> tuple[int, int, str]:
    """(descriptor, size, real path) of a regular file of its workspace; Wrong where it is none."""
    if "\0" in path:
        raise Wrong("a path has no NUL bytes")
    try:
        return collect.opened(*_place(asks, attempt, path))
    except collect.Refusal as refusal:
        raise Wrong(f"{path} can't be taken: {refusal}") from None


def _usage(asks: Asks, client: Client, attempt: Attempt, request: Request) -> Reply:
    used: dict[str, float] = {}
    for name in USAGE:
        value = request.get(name)
        if value is None:
            continue
        kinds = (int, float) if name == "cost_usd" else (int,)
        if type(value) not in kinds or not 0 <= value <= _MOST_AT_ONCE:
            raise Wrong(f"{name} must be a number from 0 on")
        used[name] = value
    if not used:
        raise Wrong("no usage was named")
    mark = str(request.get("i", ""))[:64]
    if mark and mark in asks.own(attempt).heard:  # its answer was lost with a killed runtime
        return {"ok": True, "usage": asks.own(attempt).usage}, True
    asks.put(attempt, "usage", u=used, i=mark)
    if attempt.metering:  # a cap may be crossed by this: look now
        attempt.look_at = clock()
        asks.execution.timers.set(attempt.id, attempt.look_at)
    return {"ok": True, "usage": asks.own(attempt).usage}, True


# ---- how far it is


def _progress(asks: Asks, client: Client, attempt: Attempt, request: Request) -> Reply:
    percent = request.get("percent")
    if percent is not None and (type(percent) not in (int, float) or not 0 <= percent <= 100):
        raise Wrong("percent is a number from 0 to 100")
    text = _text(request, "text", 10_000) if request.get("text") else ""
    if percent is None and not text:
        raise Wrong("say how far it is: a percentage, a line of text, or both")
    _spend_fact(asks, attempt)
    own = asks.own(attempt)
    own.percent = percent if percent is not None else own.percent
    own.note = text[: _NOTE - 1] + "…" if len(text) > _NOTE else text or own.note
    own.unsaid = True
    asks.later(tell_progress(asks, attempt, clock()))
    return {"ok": True}, False


def tell_progress(asks: Asks, attempt: Attempt, now: float) -> float:
    """The fact `progressed`, if the last one is long enough ago; else when it will be."""
    own = asks.own(attempt)
    when = own.said_at + limits.PROGRESS_SECONDS
    if now < when:
        return when
    own.said_at, own.unsaid = now, False
    if own.facts < limits.OWN_FACTS:
        asks.put(attempt, "progress")
        percent = {} if own.percent is None else {"percent": own.percent}
        asks.fact(attempt, "progressed", note=own.note, **percent)
    return 0.0


def _checkpoint(asks: Asks, client: Client, attempt: Attempt, request: Request) -> Reply:
    _spend_fact(asks, attempt)
    store = asks.execution.fleet_dir + "/evidence"
    if request.get("path") is not None:
        fd, _, _ = _opened(asks, attempt, str(request["path"]))
        with open(fd, "rb") as file:
            data = file.read(limits.CHECKPOINT_BYTES + 1)
        if len(data) > limits.CHECKPOINT_BYTES:
            raise Wrong(f"{request['path']} can't be kept: too large")
        if attempt.run.redactor is not None:
            from codewhale_fleet.worker import screening

            screening.check_checkpoint(attempt.run.redactor, data)
        kept = collect.keep(data, store)
    else:
        text = request.get("text")
        if type(text) is not str or not text.strip():
            raise Wrong("a checkpoint is a file, or text")
        kept = collect.keep(text.encode("utf-8", "surrogateescape"), store)
    asks.put(attempt, "checkpoint")
    asks.fact(attempt, "progressed", checkpoint=kept)
    return {"ok": True, **kept}, True


# ---- asking a person


def _ask(asks: Asks, client: Client, attempt: Attempt, request: Request) -> Reply:
    text, choices = _text(request, "question", limits.QUESTION_CHARACTERS), request.get("choices")
    choices = choices or []
    if type(choices) is not list or len(choices) > 20:
        raise Wrong("choices are a list of at most 20 texts")
    choices = [_text({"a choice": one}, "a choice", 100) for one in choices]
    own = asks.own(attempt)
    question = own.asked(text, choices)
    if question is None:
        _spend_fact(asks, attempt)
        number = len(own.questions) + 1
        asks.put(attempt, "asked", q=number, text=text, choices=choices)
        asks.fact(attempt, "asked", number=number, text=text, choices=choices)
        question = own.questions[-1]
    if question.answer is not None:
        return _answer(question), True
    if len(asks.waiting(attempt.id)) >= limits.ASKS_WAITING:
        raise Wrong(f"{attempt.id} waits for {limits.ASKS_WAITING} answers already")
    client.attempt, client.number = attempt.id, question.number
    return None, False


def _answer(question: Question) -> dict[str, Any]:
    return {"ok": True, "answer": question.answer}


# ---- the run's data


def _put(asks: Asks, client: Client, attempt: Attempt, request: Request) -> Reply:
    import binascii

    name, given = tags.name_of(request.get("name")), tags.tags_of(request.get("tags") or {})
    try:
        value = binascii.a2b_base64(request.get("value", ""))
    except (binascii.Error, TypeError, ValueError):
        raise Wrong("a value comes in base64") from None
    if len(value) > limits.DATA_BYTES:
        raise Wrong(f"a value may have {limits.DATA_BYTES:,} bytes, and this has {len(value):,}")
    run, own = attempt.run.name, asks.own(attempt)
    shelf = asks.shelf(run)
    if shelf.is_full and not shelf.get(name):
        raise Wrong(f"a run may have {limits.DATA_NAMES:,} names of data")
    kept = collect.keep(value, asks.execution.fleet_dir + "/evidence")
    known = shelf.same(name, kept["sha256"], given)
    if known is None:
        _spend_fact(asks, attempt)
        if own.bytes + len(value) > limits.DATA_ATTEMPT_BYTES:
            raise Wrong(f"an attempt may put {limits.DATA_ATTEMPT_BYTES:,} bytes in all")
        version = 0 if attempt.plan.get("shared") else shelf.next_version(name)
        entry = {"name": name, "version": version, **kept, "tags": given}
        asks.put(attempt, "data", size=len(value))
        asks.shelve(run, entry)
        asks.fact(attempt, "data", **entry)
        known = shelf.same(name, kept["sha256"], given) or entry
    if known["version"]:
        return {"ok": True, **told(known)}, True
    client.attempt, client.due = attempt.id, known  # the ledger numbers it, if it can be heard
    client.until = clock() + limits.NUMBER_SECONDS
    asks.later(client.until)
    return None, False


def _delete(asks: Asks, client: Client, attempt: Attempt, request: Request) -> Reply:
    _spend_fact(asks, attempt)
    found = _found(asks, attempt, {"name": request.get("name")})
    entry = {"name": found["name"], "version": found["version"], "deleted": True}
    asks.put(attempt, "data")
    asks.shelve(attempt.run.name, entry)
    asks.fact(attempt, "data", **entry)
    return {"ok": True, **entry, "version": entry["version"] or None}, True


def _get(asks: Asks, client: Client, attempt: Attempt, request: Request) -> Reply:
    import binascii

    found = _found(asks, attempt, request)
    path = f"{asks.execution.fleet_dir}/evidence/{found['sha256']}"
    if not os.path.exists(path):  # it was put on another machine, or has been told of
        path = f"{asks.execution.fleet_dir}/inputs/{found['sha256']}"
    try:
        value = collect.read_inside(os.path.dirname(path), path, limits.DATA_BYTES)
    except (collect.Refusal, OSError):
        raise Wrong(f"the value of {found['name']} is gone from the fleet's evidence") from None
    encoded = binascii.b2a_base64(value, newline=False).decode()
    return {"ok": True, **told(found), "value": encoded}, False


def _found(asks: Asks, attempt: Attempt, request: Request) -> dict[str, Any]:
    name, version = tags.name_of(request.get("name")), request.get("version") or 0
    found = asks.shelf(attempt.run.name).get(name, version)
    if found is None:
        of = f" in version {version}" if version else ""
        raise Wrong(f'{attempt.run.name} has no data "{name}"{of}; fleet data list shows it')
    return found


def _list(asks: Asks, client: Client, attempt: Attempt, request: Request) -> Reply:
    found = asks.shelf(attempt.run.name).newest()
    if request.get("query"):
        query = tags.Query(str(request["query"]))
        found = [one for one in found if query.holds(one["tags"])]
    return {"ok": True, "run": attempt.run.name, "data": [told(one) for one in found]}, False


def told(entry: dict[str, Any]) -> dict[str, Any]:
    """A version as tasks see it; without a number where nobody has given it one yet."""
    made = {key: entry[key] for key in ("name", "version", "sha256", "size", "tags")}
    return {**made, "version": made["version"] or None}


# ---- its secrets


def _secret(asks: Asks, client: Client, attempt: Attempt, request: Request) -> Reply:
    key, granted = request.get("key"), attempt.plan.get("secrets") or ()
    if type(key) is not str or not any(one["key"] == key for one in granted):
        names = ", ".join(sorted(one["key"] for one in granted)) or "none"
        raise Wrong(f"{attempt.id} was not granted {str(key)[:128]!r}; its spec grants it {names}")
    value = attempt.run.secrets.get(key)
    if value is None:
        raise Wrong(f"the secret {key} is not in memory any more")
    new = key not in asks.own(attempt).secrets
    if new:  # the first time is recorded; told only once that is in the journal
        asks.put(attempt, "secret", key=key)
        asks.fact(attempt, "secrets", secrets={key: "get"})
    return {"ok": True, "key": key, "value": value}, new


_VERBS: dict[str, Callable[[Asks, Client, Attempt, Request], Reply]] = {
    "artifact": _artifact,
    "usage": _usage,
    "progress": _progress,
    "checkpoint": _checkpoint,
    "ask": _ask,
    "put": _put,
    "get": _get,
    "list": _list,
    "delete": _delete,
    "secret": _secret,
}
