"""The alert config of a run: from `--alerts FILE`, else from `[alerts]` of fleet.toml.

Promises that what a run records could be sent from here: variables that are not set, packages that
are missing and URLs that could never be reached are told before anything is recorded. Reads
fleet.toml once more only where it mentions alerts at all.
"""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, json

from ..core.alert_config import AlertConfig
from ..errors import FleetError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..wire.problems import Format
    from ..wire.problems import Path as Place

NOBODY = b"{}"
"""The config of a run that tells nobody."""


class Loaded(Struct, frozen=True):
    """A config, and the text that it came from."""

    config: AlertConfig
    text: str
    name: str
    format: "Format"
    path: "Place"
    """Where it stands in the text."""


def alerts_for(root: Path, file: str | None, environ: Mapping[str, str], spec: str = "") -> bytes:
    """The config that a run in `root` records, as JSON; hints name its `spec`, where it has one."""
    from ..wire.problems import SpecProblems

    try:
        return _config_for(root, file, environ)
    except SpecProblems as error:
        if spec and error.hint:
            from shlex import quote

            error.hint = error.hint.replace(" SPEC ", f" {quote(spec)} ")
        raise


def _config_for(root: Path, file: str | None, environ: Mapping[str, str]) -> bytes:
    loaded = load(root, file)
    if loaded is None or not loaded.config.enabled:
        return NOBODY
    from ..wire.alerts import told, unready

    if found := unready(loaded.config, environ, loaded.path):
        shown = "" if file is not None else "fleet doctor"
        raise told(found, loaded.text, loaded.name, loaded.format, shown)
    return json.encode(loaded.config)


def load(root: Path, file: str | None) -> Loaded | None:
    """What `--alerts` or fleet.toml says; None where neither says anything."""
    if file is not None:
        from ..wire.alerts import parse
        from ..wire.parse import format_for
        from .each import read

        data = read(file)
        return Loaded(parse(data, file), data.decode(), file, format_for(file, data), ())
    from ..wire import fleetfile

    path = root / fleetfile.NAME
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if b"alerts" not in data:
        return None
    config = fleetfile.parse(data, str(path)).alerts
    if config is None:
        return None
    return Loaded(config, data.decode(), str(path), "toml", ("alerts",))


def looked_at(root: Path, environ: Mapping[str, str]) -> list[tuple[bool, str, str]]:
    """What `fleet doctor` says of alerts here: whether all is well, what is seen, what to do."""
    try:
        loaded = load(root, None)
    except FleetError:  # told of fleet.toml as a whole
        return []
    if loaded is None:
        return []
    config = loaded.config
    if not config.enabled:
        return [(True, "off: enabled is not true in [alerts]", "")]
    from ..wire.alerts import unready

    found = unready(config, environ, loaded.path)
    if found:
        return [(False, f"{one.path[2]}: {one.message}", one.hint) for one in found]
    used = {route.adapter for route in config.routes}
    dry = ", a dry run: nothing is sent" if config.dry_run else ""
    return [(True, f"{', '.join(sorted(used)) or 'no routes, so nobody is told'}{dry}", "")]
