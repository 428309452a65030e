"""Other spellings of fields and values that specs of the reference use, brought to ours.

Works on plain dicts, before they are checked. Promises to touch nothing but the spellings below;
knows nothing of what is right.
"""

from collections.abc import Iterator
from typing import Any

from .problems import Found, Path

ALIASES = {
    "worker_specs": "workers",
    "profile": "agent_profile",
    "webhook_url": "url",
    "endpoint_url": "url",
    "webhook_url_ref": "url_ref",
    "webhook_ref": "url_ref",
    "url_secret_ref": "url_ref",
    "secret": "secret_ref",
    "webhook_secret": "secret_ref",
    "signing_secret": "secret_ref",
}
"""Other name of a field -> its name. Where each counts is said below."""

_DOCUMENT = ("worker_specs",)
_WORKER = ("profile",)
_CHANNEL = tuple(
    name for name, field in ALIASES.items() if field in ("url", "url_ref", "secret_ref")
)
_TRUST = {"remote-verified": "remote_verified", "remoteVerified": "remote_verified"}
_HOSTS = {"container": "docker", "Container": "docker"}
_CHANNELS = {"pagerduty": "pager_duty"}


def settle_document(tree: dict[str, Any]) -> Iterator[Found]:
    """Bring a document without its tasks to our spelling, in place; yields fields given twice."""
    yield from _rename(tree, _DOCUMENT, ())
    _respell(tree.get("security_policy"), "default_trust_level", _TRUST)
    _respell(tree.get("security_policy"), "max_trust_level", _TRUST)
    settle_workers(tree)


def settle_workers(tree: dict[str, Any]) -> None:
    """Bring hosts and levels of trust below `workers` to our spelling, in place."""
    workers = tree.get("workers")
    for worker in workers if isinstance(workers, list) else ():
        _respell(worker, "trust_level", _TRUST)
        if isinstance(worker, dict):
            _respell(worker.get("host"), "kind", _HOSTS)


def settle_fleet_file(tree: dict[str, Any]) -> None:
    """Bring the levels of trust and the hosts in a fleet.toml to our spelling, in place."""
    settle_workers(tree)
    _respell(tree.get("security_policy"), "default_trust_level", _TRUST)
    _respell(tree.get("security_policy"), "max_trust_level", _TRUST)
    roles = tree.get("roles")
    for role in roles.values() if isinstance(roles, dict) else ():
        _respell(role, "trust_level", _TRUST)


def settle_task(tree: dict[str, Any]) -> Iterator[Found]:
    """Bring one task to our spelling, in place; yields fields given twice."""
    worker = tree.get("worker")
    if isinstance(worker, dict):
        yield from _rename(worker, _WORKER, ("worker",))
    policy = tree.get("alert_policy")
    channels = policy.get("channels") if isinstance(policy, dict) else None
    for index, channel in enumerate(channels if isinstance(channels, list) else ()):
        _respell(channel, "kind", _CHANNELS)
        if isinstance(channel, dict):
            yield from _rename(channel, _CHANNEL, ("alert_policy", "channels", index))


def _rename(tree: dict[str, Any], names: tuple[str, ...], path: Path) -> Iterator[Found]:
    for name in names:
        if name not in tree:
            continue
        value = tree.pop(name)
        field = ALIASES[name]
        if field in tree:
            yield Found((*path, name), f"is the same as {field}, which is given too")
        else:
            tree[field] = value


def _respell(tree: Any, field: str, spellings: dict[str, str]) -> None:
    if isinstance(tree, dict) and isinstance(tree.get(field), str):
        tree[field] = spellings.get(tree[field], tree[field])
