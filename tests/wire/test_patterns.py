"""What is refused at load is what the scorers could not use, and nothing else."""

import pytest

from codewhale_fleet.core.spec import JsonPath, RegexMatch
from codewhale_fleet.wire.patterns import expression_flaw, pattern_flaw
from tests.scoring.builders import of_file


@pytest.mark.parametrize(
    "pattern",
    ["", "ok", "^a$", "(?m)^a$", "a(", "(?=x)", r"(a)\1", r"\d+", "[z-a]", "x{2000}", "é", "(?i)A"],
)
def test_a_pattern_is_judged_as_the_scorer_does(pattern: str) -> None:
    receipt = of_file(RegexMatch(path="x", pattern=pattern), "text")

    assert bool(pattern_flaw(pattern)) == (receipt.source == "verifier")


@pytest.mark.parametrize(
    "expression",
    [
        "", "$", ".", "$.a", ".a", ".a.b-c.0", "$.a-b", "a.b", "$..a", "$[0]", "$.a[", "$[*].b",
        "$[?@.a > 1]", "$[?match(@.a, 'x.*')]", "$[?nothing(@.a)]", "$.a b", "..a", ".a[0]", "$a",
        "$[?" + "(" * 3000,
    ],
)  # fmt: skip
def test_an_expression_is_judged_as_the_scorer_does(expression: str) -> None:
    receipt = of_file(JsonPath(path="x", expression=expression), '{"a": 1}')

    assert bool(expression_flaw(expression)) == (receipt.source == "verifier")
