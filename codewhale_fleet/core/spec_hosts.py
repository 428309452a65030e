"""What a spec may say about workers, hosts, trust, secrets and alerts.

Types and simple limits only, like `core/spec.py`, which uses them. Nothing here knows whether this
version holds a field: that is one table in `wire/unenforced.py`.
"""

from functools import lru_cache
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field, json

from .fleet_words import LOCAL

TOKEN = r"^[A-Za-z0-9._-]{1,128}$(?!\n)"
"""Ids of tasks and workers; Python's `$` alone would allow a last newline."""

Token = Annotated[
    str, Meta(pattern=TOKEN, extra={"allowed": "1 to 128 of the characters A-Z a-z 0-9 . _ -"})
]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[int, Meta(ge=1, le=2**53)]
Priority = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Seconds = Annotated[float, Meta(ge=0, le=3_153_600_000)]
"""A duration; the upper limit is a hundred years, so that infinity is refused."""
Limit = Annotated[float, Meta(gt=0, le=3_153_600_000)]
"""A duration after which something ends: 0 would end it before it starts."""
Amount = Annotated[float, Meta(ge=0, le=1e12)]

TrustLevel = Literal["sandbox", "local", "remote_verified", "operator"]
SecretSource = Literal["env", "keyring", "file"]
SecretDelivery = Literal["env", "file"]


class Written(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Base of everything that people write: unknown fields are errors, defaults are left out."""


class SecretRef(Written, frozen=True, kw_only=True):
    """A secret by name, never by value."""

    key: str
    """Name of the secret."""
    source: SecretSource | None = None
    """Where its value is; absent: the store first (keyring, then file), then the environment."""
    as_: str | None = field(name="as", default=None)
    """Environment variable that carries it; absent: the key."""
    deliver: SecretDelivery | None = None
    """env (the default): the variable holds the value; file: the path of a file in memory."""


class CapabilityGrant(Written, frozen=True, kw_only=True):
    """One right that is given on top of a trust level."""

    capability: str
    """network, git-push, provider-secrets or workspace-write."""
    scope: str | None = None
    """Bounds the right: a path below the workspace for workspace-write, a glob of keys for
    provider-secrets; absent: all of it. The other two have none."""
    reason: str | None = None
    """Why it is given; fleet check --explain shows it."""


class SecurityPolicy(Written, frozen=True, kw_only=True):
    """Trust and secrets of a run."""

    default_trust_level: TrustLevel = "sandbox"
    """Trust of tasks whose role states none."""
    max_trust_level: TrustLevel = "operator"
    """No task of the run is trusted more than this."""
    allowed_secrets: list[str | SecretRef] = []
    """Secrets that tasks may get."""
    capability_grants: list[CapabilityGrant] = []
    """Rights on top of the trust levels."""
    require_identity_verification: bool = False
    """A remote worker must prove its host key to be remote_verified."""
    allow_parallel_reads: bool = False
    """Agents are told that they may make several tool calls at once that only read."""


class LocalHost(Written, frozen=True, kw_only=True, tag_field="kind", tag="local"):
    """This machine."""


class SshHost(Written, frozen=True, kw_only=True, tag_field="kind", tag="ssh"):
    """A machine that is reached by ssh."""

    host: str
    """Name or address."""
    user: str | None = None
    """Login name there."""
    port: Annotated[int, Meta(ge=0, le=65535)] | None = None
    """TCP port."""
    identity: str | None = None
    """File of the private key."""
    known_hosts: str | None = None
    """File of the known host keys."""
    host_key_fingerprint: str | None = None
    """SHA256:… of the host key."""
    working_directory: str | None = None
    """Workspace root there."""
    codewhale_binary: str | None = None
    """The agent program there."""
    fleet_binary: str | None = None
    """The worker runtime there; absent: it is shipped."""
    transport: Literal["asyncssh", "openssh"] | None = None
    """Which ssh client carries the connection."""
    proxy_jump: str | None = None
    """[USER@]HOST[:PORT] on the way there, several with commas; absent: ssh's config says."""
    connect_timeout_seconds: Limit | None = None
    """Longest time until the login; absent: 10, or with asyncssh what ssh's config says."""
    keepalive_seconds: Limit | None = None
    """A connection that is silent for so long is asked whether it lives, three times; absent: 15,
    or with asyncssh what ssh's config says."""
    env_allowlist: list[str] = []
    """Names of variables that are forwarded."""


class DockerHost(Written, frozen=True, kw_only=True, tag_field="kind", tag="docker"):
    """A container."""

    image: str
    """Image to start."""
    args: list[str] = []
    """Arguments of the container's start."""


Host = LocalHost | SshHost | DockerHost


class Worker(Written, frozen=True, kw_only=True):
    """Who may run tasks."""

    id: Token
    """Unique among the workers. `web[01-50]` stands for as many."""
    name: str
    """Title for people."""
    host: Host
    """Where it runs; a text is the name of an ssh host."""
    trust_level: TrustLevel | None = None
    """How far it is trusted; absent: by its road, remote_verified for ssh."""
    labels: dict[str, str] = {}
    """Tags that selectors and requires read."""
    groups: list[Token] = []
    """Names that select it together with others."""
    capabilities: list[str] = []
    """What it can do."""
    max_concurrent_tasks: Positive | None = None
    """Slots, for all runs together; absent: one, on this machine as many as a run has."""
    cores: Positive | None = None
    """Processor cores to pack tasks on."""
    memory_mb: Positive | None = None
    """Memory to pack tasks on, in MiB."""
    gpus: Count | None = None
    """Number of GPUs."""
    env: Literal["allowlist", "snapshot"] | None = None
    """Which variables of the asker reach its tasks."""


class WorkerType(Written, frozen=True, kw_only=True):
    """How workers of a type are made and removed."""

    create: str | list[str]
    """Command that makes one."""
    probe: str | list[str] | None = None
    """Command that says whether it lives."""
    destroy: str | list[str] | None = None
    """Command that removes it."""
    args: dict[str, Any] = {}
    """JSON Schema of its arguments."""
    fan_out: bool = False
    """Whether one instance runs many tasks."""


AlertClass = Literal[
    "stale", "restart_exhausted", "needs_human", "budget_exceeded", "verifier_failed",
    "run_completed",
]  # fmt: skip


class _WebChannel(Written, frozen=True, kw_only=True):
    url: str | None = None
    """Refused in a spec: it would stand in the ledger. Write url_ref."""
    url_ref: str | None = None
    """Name of the secret that holds the URL."""
    secret_ref: str | None = None
    """Name of the secret that is sent along."""


class SlackChannel(_WebChannel, frozen=True, kw_only=True, tag_field="kind", tag="slack"):
    """A Slack webhook."""


class WebhookChannel(_WebChannel, frozen=True, kw_only=True, tag_field="kind", tag="webhook"):
    """Any webhook."""


class PagerDutyChannel(Written, frozen=True, kw_only=True, tag_field="kind", tag="pager_duty"):
    """A PagerDuty service."""

    severity: str
    """critical, error, warning or info."""
    routing_key: str | None = None
    """Refused in a spec: it would stand in the ledger. Write url_ref."""
    url_ref: str | None = None
    """Name of the secret that holds the routing key."""


Channel = SlackChannel | WebhookChannel | PagerDutyChannel


class AlertPolicy(Written, frozen=True, kw_only=True):
    """Who is told what about a task."""

    events: list[AlertClass] = []
    """Which classes; empty: all."""
    channels: list[Channel] = []
    """Where to."""
    after_attempts: Count | None = None
    """Not before this many attempts."""
    after_minutes_stale: Count | None = None
    """Not before this many minutes without a sign of life."""


THIS_MACHINE = Worker(id=LOCAL, name="this machine", host=LocalHost())
"""The worker that this machine is where nobody has written it down."""


@lru_cache(maxsize=4096)
def decode_worker(raw: bytes) -> Worker:
    """A worker from its definition as JSON."""
    return json.decode(raw, type=Worker)


@lru_cache(maxsize=4096)
def mark_of(raw: bytes) -> str:
    """What tells the host of a definition, and how it is reached, from that of another."""
    from hashlib import blake2b

    return blake2b(json.encode(decode_worker(raw).host), digest_size=4).hexdigest()
