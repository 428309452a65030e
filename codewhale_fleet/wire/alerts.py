"""`[alerts]` of fleet.toml, or a file of its own: the reference's shape, every problem at once.

`settle` looks at what was written, before it is checked against the types: other spellings, values
that stand where names of variables belong (they are never shown), routes to nowhere. `unready` says
what a config would fail on when it sends, as far as it can be known here. Knows of no fleet.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import convert

from ..core.alert_config import (
    AlertConfig,
    Apprise,
    Webhook,
    variables_of,
)
from ..errors import to_install
from .parse import format_for, refuse, text_of, values_of
from .problems import Format, Found, Path, Problem, SpecProblems, excerpt, field_name
from .walker import nearest, shape_of, walk

MAX_BYTES = 1024 * 1024
_KINDS = {"pagerduty": "pager_duty", "pager-duty": "pager_duty"}
_PLACEHOLDER = "NAME"

_ENDPOINT = {"slack": "webhook_env", "pager_duty": "routing_key_env"}
_SECRETS = ("secret", "webhook_secret", "signing_secret")
_LITERALS = (
    *_SECRETS, "url", "webhook", "webhook_url", "endpoint_url", "token", "key", "routing_key",
    "integration_key", "service_key", "password",
)  # fmt: skip
"""Fields that people write where a value would stand in the file."""

NEEDS = {
    "slack": ("alerts", ("httpcore2", "slack_sdk")),
    "webhook": ("alerts", ("httpcore2",)),
    "pager_duty": ("alerts", ("httpcore2", "httpx2", "pagerduty")),
    "apprise": ("apprise", ("apprise",)),
}
"""Kind -> the extra that it needs, and its packages."""


def settle(tree: Any, path: Path = ()) -> Iterator[Found]:
    """Bring a config to our spelling, in place; yields what is wrong beyond its types."""
    adapters = tree.get("adapters") if isinstance(tree, dict) else None
    if isinstance(adapters, dict):
        for name, adapter in adapters.items():
            if isinstance(adapter, dict):
                kind = adapter.get("kind")
                if isinstance(kind, str):
                    kind = adapter["kind"] = _KINDS.get(kind, kind)
                yield from _adapter(adapter, str(kind), (*path, "adapters", name))
    routes = tree.get("routes") if isinstance(tree, dict) else None
    for index, route in enumerate(routes if isinstance(routes, list) else ()):
        if isinstance(route, dict) and isinstance(route.get("adapter"), str):
            known = adapters if isinstance(adapters, dict) else {}
            yield from _route(route["adapter"], known, (*path, "routes", index, "adapter"))


def _route(name: str, adapters: Mapping[str, Any], path: Path) -> Iterator[Found]:
    if name in adapters:
        return
    near = nearest(name, tuple(adapters))
    hint = f"did you mean {near}?" if near else f"there are: {', '.join(adapters)}"
    if not adapters:
        hint = f"add [alerts.adapters.{name}] with its kind"
    yield Found(path, f"no adapter is called {excerpt(name)}", hint, excerpt(name))


def _adapter(adapter: dict[str, Any], kind: str, path: Path) -> Iterator[Found]:
    endpoint = _ENDPOINT.get(kind, "url_env")
    for field in _LITERALS:
        if field in adapter:
            del adapter[field]
            is_secret = field in _SECRETS and kind == "webhook"
            instead = "secret_env" if is_secret else endpoint
            if not is_secret or "secret_env" in adapter:
                adapter.setdefault(instead, _PLACEHOLDER)
            yield Found(
                (*path, field),
                "must not stand in a file: whoever reads it could send as you",
                f'put it into a variable, and write {instead} = "ITS_NAME"',
            )
    for field in ("webhook_env", "url_env", "secret_env", "routing_key_env"):
        value = adapter.get(field)
        if isinstance(value, str) and not (value.isascii() and value.isidentifier()):
            adapter[field] = _PLACEHOLDER
            yield Found(
                (*path, field),
                "must be the name of a variable, not its value",
                f'export NAME=…, and write {field} = "NAME"',
            )
    base = adapter.get("base_url")
    if kind == "pager_duty" and isinstance(base, str) and not _is_base(base):
        yield Found(
            (*path, "base_url"),
            f"must be https://HOST, not {excerpt(base)}",
            "https://events.eu.pagerduty.com is PagerDuty's region in Europe",
            excerpt(base),
        )
    allowed = adapter.get("allow_networks")
    for index, text in enumerate(allowed if isinstance(allowed, list) else ()):
        if isinstance(text, str) and not _is_network(text):
            message = f"{excerpt(text)} is no network"
            hint = "such as 169.254.7.0/24, or one address"
            yield Found((*path, "allow_networks", index), message, hint, excerpt(text))


def _is_base(url: str) -> bool:
    """Whether a URL is https, a host, perhaps a port, and nothing else."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return False
    return url.removesuffix("/").lower() == f"https://{parts.hostname}{port}"


def _is_network(text: str) -> bool:
    from ipaddress import ip_network

    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


# A file of its own ----------------------------------------------------------------------------


def parse(data: bytes, file: str) -> AlertConfig:
    """A config from the bytes of a file, TOML or JSON; SpecProblems with everything wrong."""
    form = format_for(file, data)
    if len(data) > MAX_BYTES:
        refuse(file, 0, "is larger than 1 MiB", "an alert config is a page at most")
    tree = values_of(data, file, form)
    if not isinstance(tree, dict):
        refuse(file, 1, "must be a table with enabled, dry_run, routes and adapters")
    text = text_of(data, file)
    if form == "json":
        _no_repeats(data, text, file)
    found = list(settle(tree))
    walk(tree, shape_of(AlertConfig), (), found)
    if found:
        raise told(found, text, file, form)
    return convert(tree, AlertConfig)


def _no_repeats(data: bytes, text: str, file: str) -> None:
    from .repeats import repeated_keys, repeats

    if repeats(data):
        problems = [
            Problem(
                file=file,
                line=line,
                field=field_name(path),
                message=f"stands in line {first} already",
            )
            for path, line, first in repeated_keys(text)
        ]
        if problems:
            raise SpecProblems(problems)


def told(
    found: list[Found], text: str, file: str, form: Format, all_of_them: str = ""
) -> SpecProblems:
    """The problems of a file, with their lines; `all_of_them` is the command that shows them."""
    from .locate import lines_of

    lines = lines_of(text, form, {one.path for one in found})
    problems = SpecProblems(
        [
            Problem(
                file=file,
                line=lines[one.path],
                field=field_name(one.path),
                message=one.message,
                hint=one.hint,
                value=one.value,
            )
            for one in found
        ]
    )
    if len(found) > 1:
        shown = all_of_them or f"fleet check SPEC --alerts {file}"
        problems.hint = f"To see them all: {shown}"
    return problems


# Whether it could send from here --------------------------------------------------------------


def unready(config: AlertConfig, environ: Mapping[str, str], path: Path = ()) -> list[Found]:
    """What would keep the adapters that routes name from sending, here and now."""
    if not config.enabled:
        return []
    used = dict.fromkeys(route.adapter for route in config.routes)
    found: list[Found] = []
    for name in used:
        place = (*path, "adapters", name)
        # a dry run makes its messages, too: only what they would be sent with may lack
        found += (
            _not_installed(config, name, place)
            if config.dry_run
            else adapter_unready(config, name, environ, place)
        )
    return found


def _not_installed(config: AlertConfig, name: str, path: Path) -> Iterator[Found]:
    """The packages of one adapter that are missing."""
    kind = str(config.adapters[name].__struct_config__.tag)
    extra, packages = NEEDS[kind]
    if missing := [package for package in packages if not _is_there(package)]:
        yield Found(
            (*path, "kind"),
            f"{kind} needs packages that are not installed: {', '.join(missing)}",
            to_install(extra),
        )


def adapter_unready(
    config: AlertConfig, name: str, environ: Mapping[str, str], path: Path
) -> Iterator[Found]:
    """The same of one adapter."""
    yield from _not_installed(config, name, path)
    adapter = config.adapters[name]
    for field, variable in variables_of(adapter):
        value = environ.get(variable, "").strip()
        if not value:
            yield Found(
                (*path, field),
                f"{variable} is not set here",
                f"export {variable}=…; dry_run = true sends nothing",
            )
        elif field in ("webhook_env", "url_env") and not isinstance(adapter, Apprise):
            allowed = adapter.allow_networks if isinstance(adapter, Webhook) else []
            if words := _unreachable(value, allowed):
                hint = "it must hold an https URL"
                if words.endswith("such are refused"):
                    hint += ", of another address"
                    if isinstance(adapter, Webhook):
                        hint += "; allow_networks lets single networks through"
                yield Found((*path, field), f"{variable} {words}", hint)


def _unreachable(url: str, allowed: list[str]) -> str:
    """Why a URL may never be posted to; empty: it may."""
    from ..alerts import guard
    from ..alerts.road import Trouble, parsed

    try:
        guard.check_literal(parsed(url).hostname or "", guard.networks(allowed))
    except Trouble as trouble:
        return trouble.words
    except guard.RefusedAddress as refused:
        return f"names an address that is {refused.kind}, and such are refused"
    return ""


def _is_there(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None
