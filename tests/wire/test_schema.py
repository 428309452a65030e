"""The JSON Schema that editors read."""

from pathlib import Path

from codewhale_fleet.core.spec import Document, Task
from codewhale_fleet.wire.schema import schema_text, spec_schema

KEPT = Path(__file__).parents[2] / "specs/schema/fleet-spec.schema.json"


def test_the_kept_schema_is_the_one_that_the_types_make() -> None:
    again = "run .venv/bin/python scripts/schema"
    assert KEPT.read_text(encoding="utf-8") == schema_text(), again


def test_every_field_of_a_spec_and_a_task_is_explained() -> None:
    parts = spec_schema()["$defs"]

    assert set(parts["Task"]["properties"]) == set(Task.__struct_encode_fields__)
    assert set(parts["Spec"]["properties"]) == {*Document.__struct_encode_fields__, "tasks"}
    for name, part in parts.items():
        for field, schema in part["properties"].items():
            assert field == "kind" or schema.get("description"), f"{name}.{field}"
