"""Redaction: any cutting gives the same text, nothing of a secret comes through, and everything else does."""

from __future__ import annotations

import base64
import json
import re
import shlex
import urllib.parse
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opagent.policy.patterns import Patterns
from opagent.policy.redact import HELD, Redactor, Secrets, marker
from opagent.policy.shapes import SHAPES, Shape
from opagent.policy.spellings import SHORTEST, secret_values, spellings
from tests.doubles.secrets import KINDS, NO_SECRETS, PEM
from tests.doubles.steps import grows_linearly

VALUES = {
    "API_TOKEN": "sesame-open-7Q",
    "DB_PASSWORD": "sesame-open-7Q-sesame",  # begins like the other one
    "OLD_KEY": "aaaaaaaaaaaa",
    "LONG_SECRET": "Kz9" * 100,
    "SPOKEN_PASSWORD": 'correct "horse" battery\nstaple & cö',
}
SECRETS = Secrets({value: name for name, value in VALUES.items()})
FRAGMENTS = [
    *(form for value in VALUES.values() for form in sorted(spellings(value))),
    *(text.replace("|", "") for _, text in KINDS),
    *(start for shape in SHAPES for start in shape.starts),
    "sesame", "sesame-open-7", "aaaa", "a", "Kz9Kz9", "correct ", "correct \"horse", "\n", " ", "://", ":", "@", "/", ".", "-", "_", "é", "x",
    "-----END RSA PRIVATE KEY-----", "Bearer ", "Authorization: ", "eyJ", "sk-", "word", "0123456789abcdef", marker("API_TOKEN"),
]  # fmt: skip
texts = st.lists(
    st.sampled_from(FRAGMENTS) | st.builds(lambda f, n: f[: n % (len(f) + 1)], st.sampled_from(FRAGMENTS), st.integers(0))
).map("".join)


def whole(text: str, secrets: Secrets = SECRETS) -> str:
    redactor = Redactor(secrets)
    return redactor.feed(text) + redactor.finish()


@st.composite
def cut(draw: st.DrawFn, of: st.SearchStrategy[str]) -> list[str]:
    text = draw(of)
    if draw(st.booleans()):
        return list(text)
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@given(cut(texts | st.text(max_size=300)))
@example(list(PEM * 2))
@example(list("-----BEGIN RSA PRIVATE KEY----- and -----BEGIN OPENSSH PRIVATE KEY-----\n"))
@example(list("eyJ" + "a" * 200 + ".eyJ" + "b" * 30 + ".c.d. e"))
@example(["sesame-open-7Q-", "sesam", "e"])
def test_any_cutting_gives_the_same_text(pieces: list[str]) -> None:
    redactor = Redactor(SECRETS)
    out = "".join(map(redactor.feed, pieces)) + redactor.finish()
    assert out == whole("".join(pieces)) == SECRETS.redact("".join(pieces))
    assert redactor.feed("x") + redactor.finish() == "x"


@given(cut(texts))
def test_little_is_held_back(pieces: list[str]) -> None:
    redactor = Redactor(SECRETS)
    given, out = "", ""
    for piece in pieces:
        given, out = given + piece, out + redactor.feed(piece)
        so_far = whole(given)
        assert so_far.startswith(out) or re.sub("«.*", "", so_far).startswith(re.sub("«.*", "", out))
        assert all(len(stream._held) <= HELD for stream in redactor._streams)


@given(texts | st.text(max_size=300))
def test_the_quick_search_misses_nothing(text: str) -> None:
    for patterns in SECRETS.passes:
        places = patterns.places(text, 0)
        assert {place for place in range(len(text)) if patterns.match(text, place)} <= set(places)
        assert patterns.touches(text) or not places


FILLER = "uvwxy UVWXY,.\n"  # shares no character with the value below, nor with any of its spellings but base64


@given(st.text(FILLER), st.text(FILLER), st.sampled_from(sorted(spellings("3#b4$91&7"))), st.integers(1, 5))
def test_nothing_of_a_value_comes_through(before: str, after: str, form: str, size: int) -> None:
    redactor = Redactor(Secrets({"3#b4$91&7": "PIN_TOKEN"}))
    text = before + form + after
    out = "".join(redactor.feed(text[start : start + size]) for start in range(0, len(text), size)) + redactor.finish()
    assert out == before + marker("PIN_TOKEN") + after


@given(st.text(alphabet="abcdefgh#$%0123456789+/ ", min_size=SHORTEST, max_size=400), st.text(",;! \n"), st.integers(0, 2))
def test_every_spelling_of_any_value_is_found(value: str, around: str, before: int) -> None:
    if len(value.strip()) < SHORTEST:
        return
    secrets = Secrets(secret_values({"A_SECRET": value}))
    if not secrets.values:
        return
    value = value.strip()
    for form in (
        value, urllib.parse.quote(value), urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value), value.encode().hex(),
        json.dumps(value)[1:-1], base64.b64encode(value.encode()).decode(), base64.urlsafe_b64encode(value.encode()).decode(),
    ):  # fmt: skip
        assert secrets.redact(around + form + around) == around + marker("A_SECRET") + around
    inside = base64.b64encode(b"user:"[:before] + value.encode() + b":more").decode()
    assert len(secrets.redact(inside).replace(marker("A_SECRET"), "")) <= 16  # what the neighbours share a character with
    quoted = secrets.redact(shlex.quote("it's " + value))
    assert value not in quoted and marker("A_SECRET") in quoted


@given(st.text(st.characters(exclude_characters="«»"), max_size=400).filter(lambda text: not Secrets().named(text)))
def test_other_text_passes(text: str) -> None:
    assert Secrets().redact(text) == whole(text, Secrets()) == text


@pytest.mark.parametrize("text", NO_SECRETS)
def test_text_that_only_looks_like_it_passes_unchanged(text: str) -> None:
    assert whole(text) == text == SECRETS.redact(text)
    assert "".join(map(Redactor(SECRETS).feed, [text, ";;"])) == text + ";;"  # and at once


@pytest.mark.parametrize(("kind", "text"), KINDS)
def test_a_known_shape(kind: str, text: str) -> None:
    shown, hidden, more = text.split("|") if "|" in text else ("", text, "")
    for before, after in (("", ""), ("See ", " there."), ("`", "`"), ('{"a": "', '"}'), ("(", ").\n"), ("=", ",")):
        assert whole(f"{before}{shown}{hidden}{more}{after}") == f"{before}{shown}{marker(kind)}{more}{after}"
    assert Secrets().named(f"x {shown}{hidden}{more} y") == [kind]


def test_every_shape_is_decided_in_time_and_has_an_example() -> None:
    assert {kind for kind, _ in KINDS} == {shape.name for shape in SHAPES}
    for shape in SHAPES:
        assert Patterns([shape])._reach <= HELD
        assert all(shape.mark in start for start in shape.starts)


def test_a_key_goes_on_however_long_and_ends_where_it_ends() -> None:
    body = "\n".join(["MIIEpAIBAAKCAQEAx7Vn" + "b" * 44] * 5000)
    text = f"before\n-----BEGIN PRIVATE KEY-----\n{body}\nAb==\n-----END PRIVATE KEY-----\nafter this.\n"
    assert whole(text) == f"before\n{marker('private key')}\nafter this.\n"
    assert whole(text.replace("\n", "\\n")) == f"before\\n{marker('private key')}\\nafter this.\\n"
    assert (
        whole("-----BEGIN PRIVATE KEY-----\nMIIEpAIBAAKCAQEAx7Vn\n\nThat was all.") == f"{marker('private key')}\n\nThat was all."
    )


@pytest.mark.parametrize("unit", [*(text.replace("|", "") for _, text in KINDS[:5]), "sesame-open-7Q ", "sesame-open-7", "sk-", "://", "eyJ",
                                  "-----BEGIN ", "://a:b@", "Authorization: ", "aaaa", "x", "\\n", "Kz9"])  # fmt: skip
def test_the_cost_is_linear(unit: str) -> None:
    for size in (7, 64_000):
        work = lambda total, size=size: pieces(unit * (total // len(unit)), size)  # noqa: E731
        assert grows_linearly(work, 3_000)
    pieces(unit * (3_000_000 // len(unit)), 64_000)  # what C code does is not counted: with a square in it this would not end
    whole(unit * (1_000_000 // len(unit)))


def pieces(text: str, size: int) -> str:
    redactor = Redactor(SECRETS)
    return "".join(redactor.feed(text[start : start + size]) for start in range(0, len(text), size)) + redactor.finish()


def test_a_value_is_found_next_to_anything() -> None:
    assert whole("sesame-open-7Qsesame-open-7Q") == marker("API_TOKEN")
    assert whole("xsesame-open-7Q-sesamex") == f"x{marker('DB_PASSWORD')}x"
    assert whole("sesame-open-7Q-ses ame") == f"{marker('API_TOKEN')}-ses ame"
    assert whole("https://u:sesame-open-7Q@host") == f"https://u:{marker('API_TOKEN')}@host"
    assert whole("Kz9" * 100 + "!") == marker("LONG_SECRET") + "!"
    assert whole(base64.b64encode(b"user:sesame-open-7Q").decode()) == f"dXNlcjp{marker('API_TOKEN')}"


def test_the_beginning_of_a_value_at_the_end_of_a_text_counts() -> None:
    """Agents cut long outputs anywhere."""
    assert whole('see correct "') == f"see {marker('SPOKEN_PASSWORD')}"
    assert whole("see correct") == "see correct"
    assert SECRETS.redact('see correct "horse') == f"see {marker('SPOKEN_PASSWORD')}"
    assert SECRETS.redact("see sesame-open-7Q") == f"see {marker('API_TOKEN')}"


def test_lines_of_a_long_value_are_found_alone() -> None:
    secrets = Secrets({PEM: "SIGNING_KEY"})
    lines = [line for line in PEM.splitlines() if "-----" not in line]
    assert secrets.redact(f"2:{lines[1]}\n") == f"2:{marker('SIGNING_KEY')}\n"
    assert whole(f"<{PEM}>", secrets) == f"<{marker('SIGNING_KEY')}>"


def test_names_that_hold_secrets() -> None:
    yes = """OPENAI_API_KEY GITHUB_TOKEN DB_PASSWORD MYSQL_PWD SMTP_PASS APP_SECRET npm_config__authToken GH_PAT HTTP_AUTH PASSPHRASE
        AWS_SECRET_ACCESS_KEY GOOGLE_CREDENTIALS SLACK_WEBHOOK_URL SENTRY_DSN SESSION_COOKIE ApiKey PASSWORD2 DB_PASS_1"""
    no = """PWD OLDPWD PATH HOME SSH_AUTH_SOCK KEYBOARD XKB_KEYMAP GIT_ASKPASS SSH_KEY_PATH TOKEN_FILE COMPASS_HOST PATTERN
        MAX_TOKENS AUTHOR KEY_TYPE LANG"""
    environment = {name: f"Xy12345678{name}" for name in (*yes.split(), *no.split())}
    assert list(secret_values(environment).values()) == yes.split()
    assert secret_values({"A_KEY": "short", "B_KEY": "disabled", "C_KEY": "  padded-value\n"}) == {"padded-value": "C_KEY"}


def test_what_a_person_typed_is_only_named() -> None:
    assert SECRETS.named("use sesame-open-7Q and sesame-open-7Q, or AKIAIOSFODNN7EXAMPLE") == ["API_TOKEN", "aws key"]
    assert SECRETS.named("nothing here") == []


def test_the_order_of_shapes_decides_where_two_begin_together() -> None:
    first, second = Shape("first", ("ab",), "[a-z]{3}", "b"), Shape("second", ("ab",), "[a-z0-9]{2}", "b")
    patterns = Patterns([replace(first, word=False), replace(second, word=False)])
    assert patterns.places("xab1abcde", 0) == [1, 4]
    found = patterns.match("abcde", 0)
    assert found is not None and (found.name, found.begin, found.start, found.end) == ("first", 0, 0, 5)
    assert patterns.begun("abcd", 0) == [0]
