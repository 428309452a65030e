"""Selections of workers: what is meant, in which order words bind, and what is refused where."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from codewhale_fleet.core.ranges import MOST, expanded
from codewhale_fleet.core.selectors import BadSelector, parse
from codewhale_fleet.core.spec_hosts import LocalHost, SshHost, Worker


class Row(Struct):
    draining: bool = False
    unreachable: str = ""


def a_worker(id: str, **fields: Any) -> Worker:
    host = fields.pop("host", f"{id}.example.net")
    return Worker(id=id, name=fields.pop("name", id), host=SshHost(host=host), **fields)


WORKERS = {
    one.id: one
    for one in (
        a_worker("db01", labels={"role": "db", "rack": "A 1"}, groups=["dbs", "prod"]),
        a_worker("db02", labels={"role": "db", "rack": "B 2"}, groups=["dbs"]),
        a_worker("web01", labels={"role": "web"}, groups=["webs", "prod"], host="10.0.0.1"),
        a_worker("web02", labels={"role": "web"}, groups=["webs"], name="the second"),
        a_worker("web10", groups=["webs"]),
    )
}
ROWS = {"web02": Row(draining=True), "web10": Row(unreachable="it did not answer")}


def chosen(text: str, **more: Any) -> list[str]:
    return parse(text, **more).choose(WORKERS, ROWS)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("all", "db01 db02 web01 web02 web10"),
        ("web01", "web01"),
        ("10.0.0.1", "web01"),
        ('"the second"', "web02"),
        ("db02.example.net", "db02"),
        ("web*", "web01 web02 web10"),
        ("web0?", "web01 web02"),
        ("web[01-02,10]", "web01 web02 web10"),
        ("db[01,02]", "db01 db02"),
        ("webs", "web01 web02 web10"),
        ("role=db", "db01 db02"),
        ("role!=db", "web01 web02 web10"),
        ("role=[dw]*", ""),
        ("role=*", "db01 db02 web01 web02"),
        ("rack='A 1'", "db01"),
        ("draining", "web02"),
        ("unreachable", "web10"),
        ("all and not draining", "db01 db02 web01 web10"),
        ("web01,db01", "db01 web01"),
        ("web01, db* and prod", "db01 web01"),
        ("web01 or db* and prod", "db01 web01"),
        ("web02 or db* and prod", "db01 web02"),
        ("(web02 or db*) and prod", "db01"),
        ("all and not web01,db01", "db02 web02 web10"),
        ("not not webs", "web01 web02 web10"),
        ("NOT webs AND not db02", "db01"),
        ("local", "local"),
        ("local,web01", "local web01"),
        ("not local", "db01 db02 web01 web02 web10"),
    ],
)
def test_a_selection_means_these(text: str, ids: str) -> None:
    if ids:
        assert chosen(text) == ids.split()
    else:
        with pytest.raises(BadSelector):
            chosen(text)


def test_this_machine_is_meant_only_by_name_unless_it_was_written_down() -> None:
    written = Worker(id="local", name="here", host=LocalHost(), groups=["webs"])
    assert "local" not in chosen("all")
    assert parse("webs").choose({"local": written, **WORKERS})[0] == "local"


def test_what_stands_behind_an_at_is_for_the_caller() -> None:
    asked = []

    def resolve(word: str, rest: str) -> list[str]:
        asked.append((word, rest))
        return ["web02", "gone"]

    assert chosen("@failed:deploy-7k3f2a", resolve=resolve) == ["web02"]
    assert asked == [("failed", "deploy-7k3f2a")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("   ", "it is empty"),
        ("web01 web02", 'before "web02" (at character 7)'),
        ("web01 and", 'lacks a name after "and"'),
        ("or web01", "lacks a name at its start (at character 1)"),
        ("web01,,db01", 'lacks a name after "," (at character 7)'),
        ("web01,", 'lacks a name after ","'),
        ("(web01", 'has a "(" that nothing closes (at character 1)'),
        ("web01)", 'has a ")" that nothing opened (at character 6)'),
        ("()", 'lacks a name after "("'),
        ("(web01 db01)", 'before "db01" (at character 8)'),
        ("web[01", "has a bracket that is not closed (at character 4)"),
        ("web[5-1]", "counts to nowhere"),
        ("web[]", "nothing in its brackets"),
        ("web[1-99999]", "more than 10,000 names"),
        ("'web01", "has a quotation mark that is not closed (at character 1)"),
        ("=db", "no label stands before the ="),
        ("!=db", "no label stands before the ="),
        ("@failed", 'cannot use "@failed"'),
        ("@failed:x", 'cannot use "@failed:x"'),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(BadSelector) as caught:
        parse(text)
    assert words in caught.value.sentence
    assert (caught.value.exit_code, caught.value.field) == (2, "--on")
    assert caught.value.hint


@pytest.mark.parametrize("text", ["web0l", "db01,web0l", "all and not web0l", "web0l or all"])
def test_a_name_that_is_nobodys_is_refused_wherever_it_stands(text: str) -> None:
    with pytest.raises(BadSelector, match='called "web0l"') as caught:
        chosen(text)
    assert caught.value.hint.startswith("Nearest: ") and "web01" in caught.value.hint


@pytest.mark.parametrize("text", ["web[01-20]", "db01,web[01-20]", "all and not web[01-20]"])
def test_a_range_is_the_list_that_it_spells_and_who_is_not_there_is_named(text: str) -> None:
    with pytest.raises(BadSelector) as caught:
        chosen(text)
    assert caught.value.sentence == (
        "no worker and no group is called web03, web04, web05, web06, web07, web08, web09, web11 "
        'and 9 more, of "web[01-20]".'
    )
    assert caught.value.hint == "A glob takes those that there are: web*"
    with pytest.raises(BadSelector, match='called "mail\\[1-2\\]"'):
        chosen("mail[1-2]")


def test_nothing_selected_says_what_there_is() -> None:
    with pytest.raises(BadSelector, match="selects no worker") as caught:
        chosen("role=mail")
    assert caught.value.hint == (
        "There are workers db01, db02, web01, web02, web10; groups dbs, prod, webs; "
        "labels rack=A 1, rack=B 2, role=db, role=web."
    )
    with pytest.raises(BadSelector) as caught:
        parse("all").choose({})
    assert "fleet worker add" in caught.value.hint


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("web", ["web"]),
        ("web[08-11]", ["web08", "web09", "web10", "web11"]),
        ("web[8-11]", ["web8", "web9", "web10", "web11"]),
        ("web[098-101]", ["web098", "web099", "web100", "web101"]),
        ("n[1:7:3]", ["n1", "n4", "n7"]),
        ("db-[a-c]x", ["db-ax", "db-bx", "db-cx"]),
        ("r[1-2]n[a,b]", ["r1na", "r1nb", "r2na", "r2nb"]),
        ("x[1,1,01-02]", ["x1", "x01", "x02"]),
    ],
)
def test_brackets_stand_for_every_name_they_spell(pattern: str, names: list[str]) -> None:
    assert expanded(pattern) == names


def test_a_pattern_may_stand_for_ten_thousand_names_and_no_more() -> None:
    assert len(expanded("n[0000-9999]")) == MOST
    for text in ("n[0-10000]", "n[0-999][0-99]", "a[b", "a]b", "a[[b]]", "a[b c]"):
        with pytest.raises(ValueError):
            expanded(text)


# Whatever is typed ----------------------------------------------------------------------------

_words = st.sampled_from(["web01", "web*", "dbs", "role=db", "role!=db", "draining", "all"])
_trees = st.recursive(
    _words,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or", ","]), inner, inner),
    ),
    max_leaves=8,
)


def _written(tree: Any) -> str:
    if isinstance(tree, str):
        return tree
    if tree[0] == "not":
        return f"not ({_written(tree[1])})"
    return f"({_written(tree[1])}) {tree[0]} ({_written(tree[2])})"


def _meant(tree: Any) -> set[str]:
    if isinstance(tree, str):
        return {id for id, one in WORKERS.items() if parse(tree).matches(id, one, ROWS.get(id))}
    if tree[0] == "not":
        return set(WORKERS) - _meant(tree[1])
    one, other = _meant(tree[1]), _meant(tree[2])
    return one & other if tree[0] == "and" else one | other


@given(_trees)
def test_operators_are_those_of_sets(tree: Any) -> None:
    selector = parse(_written(tree))
    found = {id for id, one in WORKERS.items() if selector.matches(id, one, ROWS.get(id))}
    assert found == _meant(tree)


@given(st.text(alphabet="ab1[]()-:,=!@*?'\" andor", max_size=24))
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    try:
        parse(text, lambda word, rest: ()).choose(WORKERS, ROWS)
    except BadSelector as error:
        assert error.sentence.endswith(".") and error.hint


@given(st.integers(0, 300), st.integers(0, 60), st.integers(1, 4))
def test_a_range_holds_every_number_once_and_in_order(first: int, more: int, width: int) -> None:
    written = f"{first:0{width}d}"
    names = expanded(f"n[{written}-{first + more}]")
    assert [int(name[1:]) for name in names] == list(range(first, first + more + 1))
    assert names[0] == f"n{written}"
