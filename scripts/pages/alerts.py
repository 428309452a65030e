"""What a config of alerts may say, and which addresses are refused, as tables."""

from msgspec import inspect as kinds
from tables import default_words, table, type_words

from codewhale_fleet.alerts import guard, message
from codewhale_fleet.core import alert_config
from codewhale_fleet.core.alert_config import CLASSES
from codewhale_fleet.wire.schema import _docstrings as docstrings

HEADS = ("field", "type", "default", "meaning")
KINDS = (
    alert_config.AlertConfig, alert_config.Route, alert_config.Slack, alert_config.Webhook,
    alert_config.PagerDuty, alert_config.Apprise,
)  # fmt: skip


def blocks() -> dict[str, str]:
    """Every table of docs/reference/alerts.md."""
    words = docstrings(alert_config)
    made = {kind.__name__: _of(kind, words[kind.__name__]) for kind in KINDS}
    made["refused"] = table(
        ("what", "networks"),
        [
            (kind, ", ".join(f"`{network}`" for network in networks))
            for kind, networks in guard.REFUSED.items()
        ],
    )
    made["statuses"] = table(
        ("class", "status"),
        [(f"`{cls}`", f"`{message.STATUSES.get(cls, cls)}`") for cls in CLASSES],
    )
    return made


def _of(kind: type, words: dict[str, str]) -> str:
    known = kinds.type_info(kind)
    assert isinstance(known, kinds.StructType)
    rows = [
        (
            f"`{field.name}`",
            _linked(type_words(field.type)),
            default_words(field),
            " ".join(words.get(field.name, "").split()),
        )
        for field in known.fields
    ]
    if known.tag is not None:
        rows.insert(0, ("`kind`", f"`{known.tag}`", "**required**", "Which adapter it is."))
    return table(HEADS, rows)


def _linked(text: str) -> str:
    """Types have their headings under the words of people."""
    text = text.replace("[Route](#route)", "[route](#routes)")
    for name in ("Slack", "Webhook", "PagerDuty", "Apprise"):
        text = text.replace(f"[{name}](#{name.lower()})", f"[{name.lower()}](#{name.lower()})")
    return text
