"""Whatever is in a file, the answer is a spec or a sentence, never a traceback."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codewhale_fleet.core.spec import Document, Task
from codewhale_fleet.errors import FleetError
from codewhale_fleet.wire.specfile import SpecProblems, load, problems_text, task_from_raw
from codewhale_fleet.wire.unenforced import NOT_YET, waiver_name

from .builders import toml_text
from .test_specfile import EVERYTHING_HELD
from .test_unenforced import USES

WAIVE_ALL = [waiver_name(entry) for entry in NOT_YET]

words = st.sampled_from(
    [
        *Task.__struct_fields__, *Document.__struct_fields__, "tasks", "kind", "path", "host",
        "channels", "url", "steps", "profile", "worker_specs", "$schema", "max_attempts", "",
        "a.b", "\n", "é", "\0",
    ]
)  # fmt: skip
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 2**31, 2**63, 10**40]),
    st.floats(),
    st.text(max_size=20),
    words,
    st.sampled_from(["..", "/etc", "a(", "$[", "${{ x }}", "exit_code", "regex_match", "local"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
bases = [EVERYTHING_HELD, *USES.values()]


def places_of(tree: Any) -> list[Any]:
    """Every dict and list in a document."""
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    here = [tree] if isinstance(tree, (dict, list)) else []
    return here + [place for one in inner for place in places_of(one)]


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A good spec with a few things taken out, put in or replaced."""
    tree = json.loads(json.dumps(draw(st.sampled_from(bases))))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.sampled_from(places_of(tree)))
        if isinstance(place, dict):
            key = draw(st.sampled_from(sorted(place)) | words if place else words)
            if draw(st.booleans()):
                place[key] = draw(values)
            else:
                place.pop(key, None)
        elif place and draw(st.booleans()):
            place[draw(st.integers(0, len(place) - 1))] = draw(values)
        else:
            place.append(draw(values))
    return tree


def try_to_load(data: bytes, file: str, waivers: list[str]) -> None:
    try:
        spec = load(data, file=file, waivers=waivers)
    except FleetError as error:
        assert isinstance(error, SpecProblems)
        assert error.sentence and problems_text(error.problems)
        for problem in error.problems:
            assert 0 <= problem.line <= data.count(b"\n") + 1
            assert problem.message
    else:
        for raw in spec.tasks:
            assert task_from_raw(raw).id
        tasks = b",".join(spec.tasks)
        again = load(b"[" + tasks + b"]", file="again.json", waivers=WAIVE_ALL)
        assert again.tasks == spec.tasks


some, many = (
    settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        database=None,
    )
    for count in (100, 1000)
)
mutations = given(tree=mutated() | values, waives=st.booleans())
scraps = given(
    data=st.binary(max_size=80)
    | st.text(alphabet="[]{}=\"'\n#.,:\\ abtu01é\0", max_size=60).map(str.encode),
    at=st.integers(0, 2000),
    file=st.sampled_from(["spec.toml", "spec.json", "-"]),
)


@some
@mutations
def test_a_mutated_spec_gives_a_spec_or_a_sentence(tree: Any, waives: bool) -> None:
    spec_or_sentence(tree, waives)


@pytest.mark.slow
@many
@mutations
def test_each_of_a_thousand_mutated_specs_gives_a_spec_or_a_sentence(
    tree: Any, waives: bool
) -> None:
    spec_or_sentence(tree, waives)


def spec_or_sentence(tree: Any, waives: bool) -> None:
    waivers = WAIVE_ALL if waives else []
    try_to_load(json.dumps(tree).encode("utf-8", "surrogatepass"), "spec.json", waivers)
    if isinstance(tree, dict):
        try:
            text = toml_text(tree)
        except UnicodeEncodeError:
            return
        try_to_load(text, "spec.toml", waivers)


@some
@scraps
def test_random_bytes_give_a_spec_or_a_sentence(data: bytes, at: int, file: str) -> None:
    bytes_or_sentence(data, at, file)


@pytest.mark.slow
@many
@scraps
def test_a_thousand_times_random_bytes_give_a_spec_or_a_sentence(
    data: bytes, at: int, file: str
) -> None:
    bytes_or_sentence(data, at, file)


def bytes_or_sentence(data: bytes, at: int, file: str) -> None:
    good = (
        toml_text(EVERYTHING_HELD) if file == "spec.toml" else json.dumps(EVERYTHING_HELD).encode()
    )
    try_to_load(data, file, [])
    try_to_load(good[:at] + data + good[at + len(data) :], file, [])


@settings(max_examples=200, deadline=None, database=None)
@given(
    metadata=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
        st.recursive(
            st.booleans()
            | st.integers(-(2**62), 2**62)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=5,
        ),
        max_size=4,
    )
)
def test_toml_and_json_say_the_same(metadata: dict[str, Any]) -> None:
    document = {"tasks": [{"id": "a", "command": "true", "metadata": {"free": metadata}}]}
    from_json = load(json.dumps(document).encode(), file="a.json", waivers=["expressions"])
    from_toml = load(toml_text(document), file="a.toml", waivers=["expressions"])

    assert from_toml.tasks == from_json.tasks
    assert from_toml.digest == from_json.digest
