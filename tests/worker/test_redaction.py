"""Secret values are found in every form that they are promised to be found in, however cut."""

import base64
import html
import json
import random
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codewhale_fleet.worker.needles import SHORTEST, Places
from codewhale_fleet.worker.redaction import Redactor

TOKEN = 'tok-4f9A/x+Q7&z"=\\y9'
KEY = "\n".join(
    [
        "-----BEGIN KEY-----",
        *("Mq7/" + c * 9 + "+pZ0" * 12 for c in "abc"),
        "9Qw==",
        "-----END-----",
    ]
)
VALUES = {"API_TOKEN": TOKEN, "PASSWORD": "correct horse 9 ünder", "SIGNING_KEY": KEY}


def wrapped(text: str) -> str:
    return "\n".join(text[at : at + 76] for at in range(0, len(text), 76))


def base64_of(before: str, alphabet: Callable[[bytes], bytes]) -> Callable[[str], str]:
    return lambda value: alphabet(f"{before}{value} and more".encode()).decode()


def by_code(form: str) -> Callable[[str], str]:
    return lambda value: "".join(form % unit for unit in value.encode())


def all_escaped(value: str) -> str:
    units = value.encode("utf-16-be")
    return "".join(
        f"\\u{int.from_bytes(units[at : at + 2], 'big'):04X}" for at in range(0, len(units), 2)
    )


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "with other line ends": lambda value: value.replace("\n", "\r\n"),
    "wrapped": lambda value: value[:7] + "\n" + value[7:],
    **{
        f"{name} behind {count} bytes": base64_of("x" * count, alphabet)
        for name, alphabet in (("base64", base64.b64encode), ("url-safe", base64.urlsafe_b64encode))
        for count in range(3)
    },
    "base64 in lines": lambda value: wrapped(base64.b64encode(b"x" * 50 + value.encode()).decode()),
    "base64 in lines in JSON": lambda value: json.dumps(
        wrapped(base64.b64encode(b"x" * 50 + value.encode()).decode())
    ).replace("/", "\\/"),
    "hex": lambda value: value.encode().hex(),
    "upper hex": lambda value: value.encode().hex().upper(),
    "URL": lambda value: urllib.parse.quote(value, safe=""),
    "path of a URL": lambda value: urllib.parse.quote(value),
    "form": urllib.parse.quote_plus,
    "lower URL": lambda value: (
        urllib.parse.quote(value, safe="").replace("%2", "%2").lower()
        if value.islower()
        else "".join(f"%{byte:02x}" for byte in value.encode())
    ),
    "every byte in a URL": by_code("%%%02X"),
    "URL twice": lambda value: urllib.parse.quote(urllib.parse.quote(value, safe=""), safe=""),
    "JSON": json.dumps,
    "JSON as it may be": lambda value: json.dumps(value, ensure_ascii=False).replace("/", "\\/"),
    "JSON in JSON": lambda value: json.dumps(json.dumps({"a": value})),
    "JSON three deep": lambda value: json.dumps(json.dumps(json.dumps(value))),
    "every letter escaped": all_escaped,
    "C": by_code("\\x%02x"),
    "octal": by_code("\\%03o"),
    "Python": repr,
    "HTML": html.escape,
    "HTML without quotes": lambda value: html.escape(value, quote=False),
    "XML": lambda value: html.escape(value).replace("&#x27;", "&apos;"),
    "XML in numbers": lambda value: (
        html.escape(value).replace("&quot;", "&#34;").replace("x27", "39")
    ),
}


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor(VALUES)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", VALUES)
def test_each_value_is_found_in_each_form(redactor: Redactor, key: str, form: str) -> None:
    shown = FORMS[form](VALUES[key])
    text = f"before it\t{shown}\tafter it\n".encode()
    left = redactor.redacted(text)
    assert left.startswith(b"before it\t") and left.endswith(b"\tafter it\n"), left
    assert f"[redacted:{key}]".encode() in left
    rest = left.replace(f"[redacted:{key}]".encode(), b"")
    longest = max(rest.split(b"redacted"), key=len)
    assert len(longest) <= len(text) - len(shown) + 120, longest
    assert redactor.held_in(text) == [key]
    assert redactor.held_in(left) == []


PIECES = st.one_of(
    st.sampled_from([form(value) for form in FORMS.values() for value in VALUES.values()]),
    st.sampled_from([value[:size] for value in VALUES.values() for size in (3, 9, 17)]),
    st.sampled_from(["\\", "\\\\", "%", "\n", "%4", "\\u00", "tok-4f9A", "=", "A"]),
    st.text(max_size=30),
)


TEXTS = st.lists(PIECES, max_size=12).map(lambda parts: "".join(parts).encode("utf-8", "replace"))
SIZES = st.lists(st.integers(1, 90), min_size=1, max_size=40)


def goes_by_pieces(text: bytes, sizes: list[int]) -> None:
    redactor = Redactor(VALUES)
    stream, out, at, turn = redactor.stream(), b"", 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        out += stream.feed(text[at : at + size])
        at, turn = at + size, turn + 1
    out += stream.finish()
    assert out == redactor.redacted(text)
    assert redactor.held_in(out) == []


@settings(max_examples=40, deadline=None, derandomize=True)
@given(TEXTS, SIZES)
@example(b"\\\\u0041\\\\" * 300, [7])
@example(b"\\%74%6f%6b%2d%34%66%39%41%2f%78%2b%51%37%26%7a%22%3d%5c%79%39", [1])
@example(b"\\tok-4f9A%2Fx%2BQ7%26z%22%3D%5Cy9", [1])
@example(b"\\tok-4f9A%252Fx%252BQ7%2526z%2522%253D%255Cy9", [1])
def test_what_comes_out_does_not_depend_on_how_it_was_cut(text: bytes, sizes: list[int]) -> None:
    goes_by_pieces(text, sizes)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(TEXTS, SIZES)
def test_however_long_one_looks_nothing_depends_on_the_cuts(text: bytes, sizes: list[int]) -> None:
    goes_by_pieces(text, sizes)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.text(min_size=SHORTEST, max_size=60).filter(lambda v: len(v.encode().strip()) >= SHORTEST),
    st.sampled_from(sorted(FORMS)),
    st.binary(max_size=40),
    st.integers(1, 30),
)
def test_a_value_of_any_letters_is_found(value: str, form: str, around: bytes, size: int) -> None:
    if form == "Python" and not (value.isascii() and value.isprintable()):
        return  # its escapes name letters, not bytes
    redactor = Redactor({"V": value})
    stream = redactor.stream()
    text = around + b" " + FORMS[form](value).encode() + b" " + around
    out = b"".join(stream.feed(text[at : at + size]) for at in range(0, len(text), size))
    assert b"[redacted:V]" in out + stream.finish()


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=3000))
def test_text_without_values_comes_out_byte_for_byte(text: bytes) -> None:
    redactor = Redactor(VALUES)
    stream = redactor.stream()
    assert stream.feed(text) + stream.finish() == text == redactor.redacted(text)


def test_a_line_is_let_out_as_soon_as_it_is_there(redactor: Redactor) -> None:
    stream = redactor.stream()
    assert stream.feed(b"step 1 is about\n", soon=True) == b"step 1 is about\n"
    assert stream.feed(b"it is tok-4f9A", soon=True) == b"it is "
    assert stream.feed(b" not\n", soon=True) == b"tok-4f9A not\n"
    assert stream.feed(b"to\n", soon=True) == b"to\n"
    rest = stream.feed(TOKEN.encode()[2:] + b" goes on\n")
    assert rest + stream.finish() == b"[redacted:API_TOKEN] goes on\n"


def test_a_text_that_was_cut_within_a_value_does_not_show_its_beginning(redactor: Redactor) -> None:
    stream = redactor.stream()
    shown = stream.feed(b"it is " + TOKEN.encode()[:12])
    assert shown + stream.finish(cut=True) == b"it is [redacted:API_TOKEN]"


def test_two_lines_with_a_value_each_stay_two_lines(redactor: Redactor) -> None:
    text = f"{TOKEN}\n{TOKEN}\n{TOKEN.encode().hex()} {TOKEN}".encode()
    assert redactor.redacted(text).count(b"\n") == 2


def test_short_values_are_named_and_not_looked_for() -> None:
    redactor = Redactor({"PIN": "1234", "LONG": "12345678"})
    assert redactor.short == ["PIN"]
    assert redactor.redacted(b"1234 12345678") == b"1234 [redacted:LONG]"
    assert not Redactor({"PIN": "1234"})


def test_texts_in_a_tree_are_redacted_but_those_that_name_things(redactor: Redactor) -> None:
    tree = {
        "attempt": TOKEN,
        "note": f"has {TOKEN}",
        "list": [TOKEN, 1, None],
        "inner": {"x": TOKEN},
    }
    assert redactor.tree(tree, frozenset({"attempt"})) == {
        "attempt": TOKEN,
        "note": "has [redacted:API_TOKEN]",
        "list": ["[redacted:API_TOKEN]", 1, None],
        "inner": {"x": "[redacted:API_TOKEN]"},
    }


SHORT = {"A": "Kq7-xW2p", "B": "zz/9+Tf=Lm", "C": "0123456789abcdefXYZ", "D": VALUES["SIGNING_KEY"]}


@pytest.mark.parametrize("known", [{key: SHORT[key]} for key in SHORT] + [SHORT])
def test_in_random_bytes_one_escape_hides_no_value(known: dict[str, str]) -> None:
    redactor, rng = Redactor(known), random.Random(3)
    for key in known:
        value = known[key].replace("\n", "")
        for at in (0, 1, len(value) // 2, len(value) - 1):
            for form in ("\\x%02x", "%%%02X", "\\%03o", "\\u%04x"):
                first, last, ends = value[:at], value[at + 1 :], "\r\n" * 20
                shown = form % ord(value[at])
                for one in (first + shown + last, f"{first}{ends}{shown}{ends}{last}"):
                    noise = [rng.randbytes(rng.randrange(6000)).rstrip(b"%\\") for _ in "ab"]
                    left = redactor.redacted(one.encode().join(noise))
                    assert left.count(f"[redacted:{key}]".encode()) == 1, (one, noise[0][-20:])
                    assert abs(len(left) - sum(map(len, noise))) < 2 * len(ends) + 20


def test_places_are_those_of_the_text_with_its_line_ends() -> None:
    text = b"\r\n\n" * 3000 + b"abc" + b"\n" * 9000 + b"defg\r\n" * 2000 + b"\n"
    places = Places(text)
    wanted = [at for at, byte in enumerate(text) if byte not in b"\r\n"]
    assert [places.of(number) for number in range(0, len(wanted), 7)] == wanted[::7]
    assert places.of(len(wanted)) == len(text)
