"""What an agent that verifies is shown of an attempt: how it ended, its output, what it left.

Promises: bounded by limits.py, whatever the attempt wrote; the same bytes are kept as evidence, so
that a quote can be looked up; no file outside the workspace and the fleet's evidence is read, and
none that cannot be read stops it. It asks nobody anything.
"""

from __future__ import annotations

from codewhale_fleet.worker import collect, limits, logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TEXTS = ("text/", "application/json", "application/jsonl", "application/toml", "application/yaml")
_PATCH = "patch"


def shown(attempt: str, plan: dict[str, Any], fields: dict[str, Any], fleet_dir: str) -> str:
    """The text about an attempt whose end will be stated with `fields`."""
    parts = [f"The attempt {attempt} ended with {_end(fields)} after {fields['seconds']} s."]
    if fields.get("missing"):
        parts.append(f"Promised, and not there: {', '.join(fields['missing'])}")
    for stream, name in (("out", "standard output"), ("err", "standard error")):
        parts.append(_stream(name, fields.get("logs", {}).get(stream), fleet_dir))
    parts += _artifacts(plan, fields.get("artifacts", []), fleet_dir)
    return "\n".join(parts) + "\n"


def _end(fields: dict[str, Any]) -> str:
    if "exit" in fields:
        return f"exit {fields['exit']}"
    return f"signal {fields['signal']}" if "signal" in fields else "an exit that nobody saw"


def _block(title: str, text: str) -> str:
    """Text between two lines that it cannot contain itself."""
    state = logs.new_sha256(len(text))
    state.update(text.encode())
    mark = state.hexdigest()[:12]
    return f"\n----- begin {mark}: {title}\n{text.rstrip()}\n----- end {mark}"


def _stream(name: str, log: dict[str, Any] | None, fleet_dir: str) -> str:
    if log is None:
        return f"It wrote nothing to its {name}."
    path, half = f"{fleet_dir}/{log['path']}", limits.STEP_STREAM_BYTES // 2
    try:
        if log["size"] <= 2 * half:
            data = logs.read_log(path)[0]
        else:
            head = logs.read_log(path, half, tail=False, marker=False)[0]
            data = head + b"\n[... cut ...]\n" + logs.read_log(path, half, marker=False)[0]
    except OSError:
        return f"Its {name} is gone."
    return _block(f"{name}, {log['size']} bytes in all", _decoded(data))


def _artifacts(plan: dict[str, Any], entries: list[dict[str, Any]], fleet_dir: str) -> list[str]:
    if not entries:
        return ["It left no artifacts."]
    parts = [f"Artifacts ({len(entries)}): kind, path, bytes, SHA-256"]
    for one in entries[: limits.STEP_LISTED]:
        parts.append(f"  {one['kind']}  {one['path']}  {one['size']}  {one['sha256']}")
    if len(entries) > limits.STEP_LISTED:
        parts.append(f"  and {len(entries) - limits.STEP_LISTED} more")
    room = limits.STEP_SHOWN_BYTES
    for one in sorted(entries, key=_is_no_patch)[: limits.STEP_LISTED]:
        if room <= 0:
            break
        text = _text_of(plan, one, min(room, limits.STEP_ARTIFACT_BYTES), fleet_dir)
        if text is not None:
            room -= len(text)
            parts.append(_block(f"{one['kind']} {one['path']}", text))
    return parts


def _is_no_patch(one: dict[str, Any]) -> bool:
    return bool(one["kind"] != _PATCH)


def _text_of(plan: dict[str, Any], one: dict[str, Any], most: int, fleet_dir: str) -> str | None:
    """The beginning of an artifact that is a text; None where it is none, or gone."""
    if one["kind"] == "prompt" or not one.get("mime", "").startswith(_TEXTS):
        return None
    data: bytes | None = None
    for root, path in ((plan["root"], one["path"]), (f"{fleet_dir}/evidence", one["sha256"])):
        try:
            data = collect.read_inside(root, path, most)
            break
        except (collect.Refusal, OSError, ValueError):
            continue
    if data is None or b"\0" in data:
        return None
    cut = "\n[... cut ...]" if one["size"] > len(data) else ""
    return _decoded(data) + cut


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\0", "\ufffd")
