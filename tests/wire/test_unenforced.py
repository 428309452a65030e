"""Fields that are not held yet: refused by name, allowed by name, never passed over."""

from typing import Any

import pytest

from codewhale_fleet.core.spec import Document, Task
from codewhale_fleet.errors import FleetError
from codewhale_fleet.wire.unenforced import NOT_YET, OF_AGENTS, OF_MACHINES, waiver_name

from .builders import a_spec, a_task, loaded, problem_of, problems_of

USES: dict[str, dict[str, Any]] = {
    "inputs": a_spec(inputs={"who": {"default": "you"}}),
    "worker_types": a_spec(worker_types={"vm": {"create": "make-vm"}}),
    "workers.env": a_spec(workers=[{"id": "w", "env": "snapshot"}]),
    **{
        f"tasks.{path}": a_spec(a_task(**{path.partition(".")[0]: value}))
        for path, value in {
            "budget.max_cost_usd": {"max_cost_usd": 1.5},
            "budget.max_tokens": {"max_tokens": 0},
            "budget.max_tool_calls": {"max_tool_calls": 10},
            "concurrency": 2,
            "context": ["a line"],
            "for_each": ["a", "b"],
            "input_files": ["a.txt"],
            "inputs_digest": ["src/**"],
            "lease_seconds": 0,
            "max_parallel_per": {"db": 1},
            "needs": ["other"],
            "outputs": {"size": {"json_path": "$.size"}},
            "reuse": True,
            "when": "always",
            "worker.args": {"args": {"size": 3}},
            "worker.loadout": {"loadout": "fast"},
            "worker.model": {"model": "m"},
            "worker.model_class": {"model_class": "fast"},
            "worker.type": {"type": "vm"},
        }.items()
    },
    "tasks.expressions": a_spec(a_task(command="echo ${{ inputs.who }}")),
}


def test_every_entry_of_the_table_is_tried() -> None:
    assert set(USES) == {*NOT_YET, *OF_AGENTS}


@pytest.mark.parametrize("entry", USES)
def test_a_field_that_is_not_held_is_refused_with_its_name(entry: str) -> None:
    field, message = problem_of(USES[entry])

    assert message == (OF_AGENTS.get(entry) or f"not enforced yet: {NOT_YET[entry]}")
    if entry == "tasks.expressions":
        assert field == "tasks[0].command"
    else:
        assert field.replace("[0]", "") == entry


@pytest.mark.parametrize("entry", USES)
def test_a_field_that_is_waived_by_name_loads_and_is_listed(entry: str) -> None:
    name = waiver_name(entry)

    assert loaded(USES[entry], name).waived == [name]
    assert loaded(USES[entry], name.rsplit(".", 1)[-1]).waived == [name]


@pytest.mark.parametrize("entry", [*USES, *OF_MACHINES])
def test_a_waiver_that_is_not_needed_is_not_listed(entry: str) -> None:
    assert loaded(a_spec(), waiver_name(entry)).waived == []


def test_a_refusal_says_how_to_allow_it() -> None:
    with pytest.raises(FleetError) as caught:
        loaded(USES["tasks.worker.model"])
    assert caught.value.hint == (
        "remove it, or allow it unheld with --allow-unenforced worker.model"
    )


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("budget.max_tokns", "budget.max_tokens"),
        ("tols", "tools"),
        ("worker.tols", "worker.tools"),
        ("lease_second", "lease_seconds"),
    ],
)
def test_an_unknown_waiver_names_the_nearest(name: str, near: str) -> None:
    with pytest.raises(FleetError, match="is no field that could be allowed") as caught:
        loaded(a_spec(), name)
    assert caught.value.hint == f"Nearest: --allow-unenforced {near}"


@pytest.mark.parametrize("name", ["", "qqqqqq", "command.x", "tasks.tasks"])
def test_a_waiver_like_nothing_is_refused_too(name: str) -> None:
    with pytest.raises(FleetError, match="is no field"):
        loaded(a_spec(), name)


@pytest.mark.parametrize("name", ["budget.max_seconds", "tasks.command", "command", "max_workers"])
def test_a_waiver_of_a_held_field_changes_nothing(name: str) -> None:
    assert loaded(a_spec(), name).waived == []


def test_a_waiver_covers_all_tasks_and_nothing_else() -> None:
    tasks = [a_task(id=f"t{n}", reuse=True, lease_seconds=5) for n in range(3)]
    found = problems_of(a_spec(*tasks), "", "reuse")
    assert set(found) == {f"tasks[{n}].lease_seconds" for n in range(3)}


@pytest.mark.parametrize(
    "fields",
    [
        {"needs": [], "context": [], "for_each": None, "when": "success", "reuse": False},
        {"worker": {}, "requires": {}, "alert_policy": {}, "budget": {}, "workspace": {}},
        {"worker": {"tools": [], "role": None}, "workspace": {"isolation": "none"}},
        {"stall_seconds": None, "lease_seconds": None, "verify": None, "scorer": None},
    ],
)
def test_a_field_that_asks_for_nothing_is_no_refusal(fields: dict[str, Any]) -> None:
    assert loaded(a_spec(a_task(**fields))).waived == []


HELD_DOCUMENT = {
    "schema", "name", "labels", "max_workers", "max_failures", "deadline_seconds", "budget",
    "security_policy", "workers",
}  # fmt: skip
HELD_TASK = {
    "id", "name", "description", "objective", "instructions", "command", "agent",
    "timeout_seconds", "retry_policy", "expected_artifacts", "artifacts", "tags", "metadata",
    "priority", "stall_seconds", "secrets", "alert_policy",
}  # fmt: skip
IN_PARTS = {"worker", "workspace", "budget", "requires", "scorer", "verify"}


def test_every_field_is_held_or_in_the_table() -> None:
    whole = {entry.removeprefix("tasks.").split(".")[0] for entry in (*NOT_YET, *OF_AGENTS)}

    assert set(Document.__struct_fields__) - HELD_DOCUMENT <= whole
    assert set(Task.__struct_fields__) - HELD_TASK - IN_PARTS <= whole
    assert not HELD_TASK & {e.removeprefix("tasks.") for e in NOT_YET if e.startswith("tasks.")}
