"""What a good spec loads to, in each of its forms."""

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from codewhale_fleet.core.spec import FileExists, RetryPolicy
from codewhale_fleet.wire.specfile import format_for, load, task_from_raw

from .builders import a_spec, a_task, loaded, toml_text

EVERYTHING_HELD: dict[str, Any] = a_spec(
    a_task(
        name="Build it",
        description="d",
        objective="o",
        instructions="for people",
        tags=["a", "b"],
        metadata={"class": "heavy", "coordination_contracts": ["schema"], "free": [1, {"x": 2}]},
        command=["make", "-j4"],
        workspace={
            "root": "web",
            "required_files": ["Makefile"],
            "writable_paths": ["out"],
            "environment": {"required": ["LANG"], "allowlist": ["CI"]},
        },
        budget={"max_seconds": 600},
        timeout_seconds=60,
        retry_policy={
            "max_attempts": 5,
            "initial_backoff_seconds": 1,
            "max_backoff_seconds": 10,
            "backoff_multiplier": 3,
            "jitter": 0.5,
            "retry_on": ["transport"],
        },
        expected_artifacts=["report", "log"],
        artifacts={"report": "out/*.md", "patch": ["a.diff", "b.diff"]},
        scorer={"kind": "regex_match", "path": "out/log", "pattern": "ok"},
        priority=-1,
    ),
    a_task(id="b", scorer={"kind": "json_path", "path": "x.json", "expression": ".a.b"}),
    a_task(id="c", scorer={"kind": "file_exists", "path": "x"}),
    a_task(id="d", scorer={"kind": "exit_code"}),
    a_task(id="e", scorer={"kind": "manual"}),
    name="release",
    labels={"goal": "ship"},
    max_workers=8,
    max_failures=3,
)


def test_every_held_field_loads_without_a_waiver() -> None:
    spec = loaded(EVERYTHING_HELD)

    assert (spec.name, spec.labels, spec.max_workers) == ("release", {"goal": "ship"}, 8)
    assert (spec.max_failures, spec.waived, spec.environment) == (3, [], ["CI", "LANG"])
    assert len(spec.tasks) == 5


def test_toml_and_json_of_one_spec_are_equal() -> None:
    from_json = loaded(EVERYTHING_HELD)
    from_toml = load(toml_text(EVERYTHING_HELD), file="spec.toml")

    assert from_toml.tasks == from_json.tasks
    assert from_toml.digest == from_json.digest


def test_what_is_loaded_loads_again_to_the_same() -> None:
    once = loaded(EVERYTHING_HELD)
    head = json.loads(msgspec.json.encode(once.spec))
    again = loaded({**head, "tasks": [json.loads(raw) for raw in once.tasks]})

    assert again.tasks == once.tasks
    assert again.digest == once.digest


def test_a_digest_changes_with_what_is_said_and_not_with_how() -> None:
    plain = loaded(a_spec(a_task(metadata={"a": 1, "b": 2})))
    turned = loaded(a_spec({"command": "true", "metadata": {"b": 2, "a": 1}, "id": "build"}))
    other = loaded(a_spec(a_task(metadata={"a": 1, "b": 3})))

    assert plain.digest == turned.digest != other.digest


def test_tasks_come_back_sparse() -> None:
    spec = loaded(a_spec(a_task(timeout_seconds=None, expected_artifacts=[], metadata={})))

    assert spec.tasks == [b'{"id":"build","command":"true"}']


def test_a_list_of_tasks_and_a_bare_task_are_specs_too() -> None:
    assert len(loaded([a_task(), a_task(id="b")]).tasks) == 2
    assert loaded(a_task()).tasks == [b'{"id":"build","command":"true"}']
    assert load(b'id = "a"\ncommand = "true"\n', file="a.toml").tasks


def test_a_run_without_a_name_is_called_after_its_file() -> None:
    data = json.dumps(a_spec()).encode()

    assert load(data, file="dir/nightly.v2.json").name == "nightly.v2"
    assert load(data, file="Fleetfile").name == "Fleetfile"
    assert load(data, file="-").name == "fleet-run"


@pytest.mark.parametrize(
    ("file", "data", "format"),
    [
        ("a.toml", b"{}", "toml"),
        ("a.TOML", b"", "toml"),
        ("a.json", b"", "json"),
        ("a", b"x = 1", "json"),
        ("-", b' \n{"tasks"', "json"),
        ("-", b'[\n {"id"', "json"),
        ("-", b"[]", "json"),
        ("-", b"[[tasks]]", "toml"),
        ("-", b"[ labels ]", "toml"),
        ("-", b"# a spec\nname = 1", "toml"),
    ],
)
def test_the_format_follows_the_name_and_on_standard_input_the_text(
    file: str, data: bytes, format: str
) -> None:
    assert format_for(file, data) == format


def test_a_byte_order_mark_is_skipped() -> None:
    assert load(b"\xef\xbb\xbf" + toml_text(a_spec()), file="a.toml").tasks


def test_other_spellings_of_the_reference_are_read() -> None:
    spec = a_spec(
        a_task(
            worker={"profile": "reviewer"},
            alert_policy={
                "channels": [
                    {"kind": "webhook", "webhook_url_ref": "SLACK", "signing_secret": "S"},
                    {"kind": "pagerduty", "severity": "error", "url_secret_ref": "PD"},
                ]
            },
        ),
        worker_specs=[
            {"id": "w", "name": "W", "host": {"kind": "ssh", "host": "x"}},
            {"id": "v", "name": "V", "host": "v", "trust_level": "remote-verified"},
        ],
        security_policy={"default_trust_level": "local", "max_trust_level": "remoteVerified"},
    )
    made = loaded(spec, "workers")
    task = task_from_raw(made.tasks[0])

    assert task.worker is not None and task.worker.agent_profile == "reviewer"
    assert task.alert_policy is not None
    assert [getattr(one, "url_ref", "") for one in task.alert_policy.channels] == ["SLACK", "PD"]
    assert made.spec.workers[1].trust_level == "remote_verified"
    assert made.spec.security_policy is not None
    assert made.spec.security_policy.max_trust_level == "remote_verified"


def test_paths_are_kept_in_their_one_spelling() -> None:
    spec = loaded(
        a_spec(
            a_task(
                workspace={"root": "./web/", "writable_paths": [r"a\b", "a//b"]},
                scorer={"kind": "file_exists", "path": "./x"},
                artifacts={"report": ["./out/*.md", r"out\*.txt"], "log": "a"},
            )
        )
    )
    task = task_from_raw(spec.tasks[0])

    assert task.workspace is not None
    assert (task.workspace.root, task.workspace.writable_paths) == ("web", ["a/b"])
    assert task.scorer == FileExists(path="x")
    assert task.artifacts == {"report": ["out/*.md", "out/*.txt"], "log": "a"}


def test_the_priority_of_metadata_is_the_priority() -> None:
    spec = loaded(a_spec(a_task(metadata={"priority": -3})))

    assert task_from_raw(spec.tasks[0]).priority == -3


def test_a_policy_that_says_nothing_is_still_a_policy() -> None:
    spec = loaded(a_spec(a_task(retry_policy={})))

    assert task_from_raw(spec.tasks[0]).retry_policy == RetryPolicy()


def test_a_hundred_thousand_tasks_load() -> None:
    tasks = ",".join(f'{{"id":"task-{n}","command":["true"]}}' for n in range(100_000))

    assert len(load(f"[{tasks}]".encode(), file="many.json").tasks) == 100_000


def test_loading_needs_no_module_that_only_few_specs_need() -> None:
    script = (
        "import sys, codewhale_fleet.wire.specfile as s\n"
        's.load(b\'[{"id":"a","command":"true"}]\', file=\'a.json\')\n'
        "rare = {'tomllib', 'difflib', 're2', 'jsonpath_rfc9535', 'pathlib'}\n"
        "rare |= {'codewhale_fleet.wire.' + name for name in ('walker', 'locate', 'patterns')}\n"
        "print(sorted(rare & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-S", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert answer.stdout.strip() == "[]"
