"""Every word of the ledger with its payload, from core/events.py.

Promises that each word that a record may carry is on the page; what the fields of all records mean
stands there by hand.
"""

from msgspec import Struct
from msgspec import inspect as kinds
from tables import default_words, table, type_words

from codewhale_fleet.core import events
from codewhale_fleet.ledger.record import FORMAT, LIMIT

HEADS = ("field", "type", "when absent")


def blocks() -> dict[str, str]:
    """The tables of docs/reference/ledger.md."""
    listed = [
        (f"[`{word}`](#{word.replace('.', '')})", _sentence(kind))
        for word, kind in events.EVENTS.items()
    ]
    parts = {
        name: kind
        for name, kind in vars(events).items()
        if isinstance(kind, type)
        and issubclass(kind, Struct)
        and not issubclass(kind, events.Event)
        and kind not in (events.Envelope, Struct)
    }
    return {
        "format": f"Format {FORMAT}. A line has at most {LIMIT:,} bytes.\n",
        "list": table(("word", "says"), listed),
        "words": "\n".join(
            f"### {word}\n\n{_described(kind)}" for word, kind in events.EVENTS.items()
        ),
        "parts": "\n".join(f"### {name}\n\n{_described(kind)}" for name, kind in parts.items()),
    }


def _sentence(kind: type[Struct]) -> str:
    return _doc(kind).partition("\n\n")[0].replace("\n", " ")


def _doc(kind: type[Struct]) -> str:
    """The docstring as paragraphs, each on one line."""
    paragraphs = (kind.__doc__ or "").strip().split("\n\n")
    return "\n\n".join(" ".join(one.split()) for one in paragraphs)


def _described(kind: type[Struct]) -> str:
    known = kinds.type_info(kind)
    assert isinstance(known, kinds.StructType)
    rows = [
        (f"`{field.encode_name}`", type_words(field.type), default_words(field))
        for field in known.fields
    ]
    version = getattr(kind, "payload_version", 1)
    newer = f"\nPayload version {version}.\n" if version != 1 else ""
    return f"{_doc(kind)}\n{newer}\n{table(HEADS, rows)}" if rows else f"{_doc(kind)}\n{newer}"
