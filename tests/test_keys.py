"""The key parser against an independent implementation of structured fields."""

from __future__ import annotations

import uuid

import http_sf
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from django_idempotency.exceptions import KeyInvalid
from django_idempotency.keys import KeyRules, parse_key
from django_idempotency.protocol import ids_of, key_id

ANY_LENGTH = KeyRules(min_length=0, max_length=10**6)

_ascii = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
_inner = st.one_of(
    st.text(_ascii),
    st.text(st.sampled_from('ab\\" ;,=')),
    st.text(st.characters(max_codepoint=0xFF)),
    st.text(_ascii).map(lambda text: text.replace("\\", r"\\").replace('"', r"\"")),
)
_name = st.one_of(
    st.from_regex(r"[a-z*][a-z0-9_\-.*]*", fullmatch=True), st.text(_ascii, max_size=3)
)
_value = st.one_of(
    st.integers(-(10**15), 10**15).map(str),
    st.from_regex(r"-?[0-9]{0,13}\.[0-9]{0,4}", fullmatch=True),
    st.from_regex(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*", fullmatch=True),
    st.binary(max_size=6).map(lambda raw: http_sf.ser(raw)),
    st.sampled_from(
        ["?0", "?1", "?2", "@1659578233", "@-1", "@1.5", '%"f%c3%bc"', '%"a"', '%"%C3"']
    ),
    _inner.map('"{}"'.format),
    st.text(_ascii, max_size=4),
)
_parameter = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "", "", " "]),
    st.sampled_from([";", ";", "; ", ";  ", ";\t", ","]),
    _name,
    st.sampled_from(["", "=", "=", "=", " ="]),
    _value,
)
_quoted = st.builds(
    '{}"{}"{}{}'.format,
    st.sampled_from(["", "", " ", "  "]),
    _inner,
    st.lists(_parameter, max_size=3).map("".join),
    st.sampled_from(["", "", " ", "x", "\t"]),
)


def ours(header: str) -> str | None:
    try:
        return parse_key(header, ANY_LENGTH)
    except KeyInvalid:
        return None


def theirs(header: str) -> str | None:
    try:
        value, _ = http_sf.parse(header.encode("latin-1"), tltype="item")
    except ValueError:
        return None
    return value if isinstance(value, str) else None


@settings(max_examples=1500, deadline=None)
@given(header=_quoted)
@example(header='"k";v=1')
@example(header=r'"a\"b\\c"')
@example(header='"k";')
@example(header='"k" ;v')
@example(header='"k";v=1.')
@example(header='"k";v=1234567890123.1')
@example(header='"k";v=%"%c3"')
@example(header='"k";v=:YQ:')
@example(header='"k";v=:Y:')
@example(header='"k";v=:a=b:')
@example(header='"k";V=1')
@example(header='"a","b"')
def test_a_quoted_key_means_what_a_structured_field_string_means(header: str) -> None:
    """Both accept or both refuse, and both read the same value."""
    assert ours(header) == theirs(header)


@given(value=st.text(_ascii))
def test_every_string_that_can_be_serialised_comes_back(value: str) -> None:
    """What a conforming client sends is what we read."""
    assert ours(http_sf.ser(value)) == value


@given(value=st.from_regex(r"[A-Za-z0-9_.:/+=@~!#$%&'()*<>?{}|^`\[\]-]+", fullmatch=True))
def test_a_bare_key_and_its_quoted_form_are_one_key(value: str) -> None:
    """No bare key has a meaning of its own."""
    assert ours(value) == ours(f'"{value}"') == value


@given(header=st.text(st.characters(max_codepoint=0xFF)))
def test_no_header_value_breaks_the_parser(header: str) -> None:
    """A key that is printable ASCII, or KeyInvalid, and nothing else."""
    key = ours(header)

    assert key is None or (key.isascii() and key.isprintable())


@given(key=st.text(st.sampled_from("ab"), max_size=12))
def test_length_limits_are_inclusive(key: str) -> None:
    """3 to 9 characters."""
    rules = KeyRules(min_length=3, max_length=9)

    if 3 <= len(key) <= 9:
        assert parse_key(f'"{key}"', rules) == key
    else:
        with pytest.raises(KeyInvalid):
            parse_key(f'"{key}"', rules)


@given(value=st.uuids(), upper=st.booleans())
def test_the_uuid_pattern_accepts_the_usual_form_only(value: object, upper: bool) -> None:
    """Any case; no braces, no URN, no missing hyphens."""
    rules = KeyRules(pattern="uuid")
    text = str(value).upper() if upper else str(value)

    assert parse_key(text, rules) == text
    for other in (f"{{{text}}}", f"urn:uuid:{text}", text.replace("-", ""), text[:-1]):
        with pytest.raises(KeyInvalid):
            parse_key(other, rules)


@given(scope=st.text(st.characters(codec="utf-8")), key=st.text(_ascii))
def test_an_id_is_a_uuid_that_any_database_takes(scope: str, key: str) -> None:
    """Version 8 of RFC 9562, and in the range of its key."""
    id_ = key_id(scope, key)
    least, greatest = ids_of(key)

    assert (id_.version, id_.variant) == (8, uuid.RFC_4122)
    assert least <= id_ <= greatest
    assert id_.bytes[:8] == least.bytes[:8] == greatest.bytes[:8]


@pytest.mark.parametrize("header", ["a,b", "a, b", '"a", "b"', '"a";v=1,"b"', '"a,b", "c"'])
def test_a_list_of_keys_is_guessed_to_be_two_headers(header: str) -> None:
    """Servers join the lines of a header that came twice."""
    with pytest.raises(KeyInvalid, match="Perhaps the header was sent twice"):
        parse_key(header, ANY_LENGTH)


@pytest.mark.parametrize("header", ["a b", '"a', '"a" b', "a;b", '"a,b', '"é,"'])
def test_what_is_malformed_otherwise_is_not(header: str) -> None:
    """A comma inside the quotes is part of the key."""
    with pytest.raises(KeyInvalid, match="Send exactly one key") as refused:
        parse_key(header, ANY_LENGTH)
    assert "twice" not in str(refused.value)
