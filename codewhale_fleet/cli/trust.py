"""What fleet.toml and this machine say of trust, for runs without a spec.

Looks at fleet.toml where there is one.
"""

from pathlib import Path

from ..errors import FleetError
from .run import lacking


def of_lines(root: Path) -> tuple[bytes, list[str]]:
    """The policy of a run without a spec, as JSON, and what of it was waived."""
    from ..wire import fleetfile

    trust = fleetfile.read(root).trust
    if trust.policy is None:
        return b"null", []
    from ..core import posture
    from ..core.spec import Task
    from ..wire.trust import Trusted
    from ..wire.unenforced import Waivers

    waivers = Waivers(trust.waived)
    trusted = Trusted(trust.policy, trust, waivers, lacking)
    for found in trusted.held(Task(id="a", command="true"), None):
        raise FleetError(f"{found.message}.", found.hint, field=posture.LEVEL)
    return trusted.policy_json, waivers.used
