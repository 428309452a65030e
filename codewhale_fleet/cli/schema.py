"""`fleet schema`: the JSON Schema of specs, for editors."""

from .common import Context


def schema(*, ctx: Context) -> int:
    """Print it; --json changes nothing, because it is JSON."""
    from ..wire.schema import schema_text

    print(schema_text(), end="")
    return 0
