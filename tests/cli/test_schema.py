from .driver import REPOSITORY
from .scene import told


def test_the_schema_is_the_one_in_the_tree() -> None:
    kept = (REPOSITORY / "specs" / "schema" / "fleet-spec.schema.json").read_text()
    assert told("schema").out == kept
