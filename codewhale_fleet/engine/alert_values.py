"""Values that the alerts of a run need: names from its config, values from whoever asks for it.

The variables that its adapters name are the asker's own; what a task's channel names is a secret,
and comes from where secrets are. Promises that a value is answered and never shown. Whether a
config could be sent from here is looked at before, where it is read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec import json

from ..core.alert_config import SURROUNDINGS, AlertConfig, variables
from ..core.alerts import channels_of, label_of
from ..core.parts import SecretName
from ..errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CHANNELS = 32
"""Channels that the tasks of a run may name."""
SECRET = "secret:"
"""How the name of a value begins that is a secret's, not a variable's."""


def refuse_channels(tasks: Iterable[bytes], of: str) -> None:
    """FleetError where tasks name channels although alerts are off: nothing would ever go there."""
    if any(True for _ in channels_of(tasks)):
        raise FleetError(
            f"tasks of {of} name channels in their alert_policy, and alerts are off here.",
            "Turn them on: [alerts] with enabled = true in fleet.toml, or --alerts FILE\n"
            "Or leave the channels out.",
            field="alert_policy.channels",
        )


def resolved(
    config: bytes,
    tasks: Iterable[bytes],
    *,
    of: str,
    again: str,
    must: bool,
    environ: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The values that are to be had; FleetError for a secret that is not, where all `must` be.

    `tasks` are specs as JSON; `of` is what needs the secrets, `again` what to type once they are
    there.
    """
    env = os.environ if environ is None else environ
    read = json.decode(config, type=AlertConfig)
    if not read.enabled or read.dry_run:
        return {}
    used = dict.fromkeys(route.adapter for route in read.routes)
    adapters = (read.adapters[name] for name in used if name in read.adapters)
    names = [*variables(adapters), *SURROUNDINGS]
    values = {name: env[name] for name in names if env.get(name)}
    channels = {label_of(channel): channel for channel in channels_of(tasks)}
    if len(channels) > CHANNELS:
        raise FleetError(
            f"tasks of {of} name {len(channels):,} channels of their own; a run may have "
            f"{CHANNELS}.",
            "Routes of [alerts] in fleet.toml are for what many tasks share.",
            field="alert_policy.channels",
        )
    keys = {
        key: None
        for channel in channels.values()
        for key in (channel.url_ref, getattr(channel, "secret_ref", None))
        if key
    }
    if keys:
        from .secrets import resolve

        wanted = [SecretName(key=key) for key in keys]
        given: tuple[list[SecretName], list[SecretName]] = (wanted, []) if must else ([], wanted)
        found = resolve(given[0], of=of, again=again, spare=given[1], environ=env)
        values |= {SECRET + key: value for key, value in found.items()}
    if not must and values.keys() <= set(SURROUNDINGS):
        return {}  # a shell that knows no receiver does not say how to reach one
    return values
