"""What is shown of bodies and headers: nothing raises, nothing that must be hidden is shown."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from django_idempotency.admin.compare import changes, side_by_side
from django_idempotency.admin.documents import compact, parse
from django_idempotency.admin.payload import (
    SHOWN,
    Header,
    Record,
    content_of,
    download_of,
    headers_of,
    record_of,
)

JSON = (Header("Content-Type", "application/json"),)


def text_of(body: bytes, headers: tuple[Header, ...] = JSON) -> str:
    return "".join(token.text for token in content_of(body, headers).tokens)


def test_json_is_printed_in_lines_and_keeps_its_spelling() -> None:
    """10.10 stays 10.10, long numbers stay whole, doubled members stay two."""
    body = b'{"a":10.10,"b":[1,{"c":null}],"a":12345678901234567890123,"e":{},"f":[]}'

    assert text_of(body) == (
        '{\n  "a": 10.10,\n  "b": [\n    1,\n    {\n      "c": null\n    }\n  ],\n'
        '  "a": 12345678901234567890123,\n  "e": {},\n  "f": []\n}'
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"card_number": "SECRET"}',
        b'{"deep": [{"Password": {"is": "SECRET"}}]}',
        b'{"access_token": "SECRET", "access_token": "SECRET"}',
        b'{"broken": 1, "password": "SECRET"',
        b"password=SECRET&amount=5",
        b'password: "SECRET and SECRET"',
        b'{"password": "SEC\\"SECRET"',
    ],
)
def test_sensitive_fields_are_hidden(body: bytes) -> None:
    """In JSON by member, in broken JSON and other text as far as names can be told."""
    shown = text_of(body)
    assert "SECRET" not in shown
    assert "[redacted]" in shown
    assert b"SECRET" not in download_of(body, JSON)


def test_a_download_is_byte_for_byte_unless_something_is_hidden() -> None:
    """White space, spelling and bytes that are no text included."""
    for body in (b'{ "a" :1.0 }', b"\xff\x00\x01", b"", b"plain\r\ntext"):
        assert download_of(body, JSON) == body


def test_sensitive_headers_are_hidden() -> None:
    """By the patterns, and the usual ones whatever the patterns are."""
    stored = [["X-Auth-Token", "S"], ["Authorization", "S"], ["X-API-Key", "S"], ["X-Plain", "p"]]

    shown = headers_of(json.dumps(stored))

    assert [header.value for header in shown] == ["[redacted]"] * 3 + ["p"]


@pytest.mark.parametrize(
    ("body", "content_type", "kind", "broken"),
    [
        (b"", "application/json", "empty", False),
        (None, "application/json", "missing", False),
        (b"<h1>Hi</h1>", "text/html", "text", False),
        (b"{", "application/json", "text", True),
        (b"{", "application/problem+json; charset=utf-8", "text", True),
        (b'{"a": 1}', "text/plain", "json", False),
        (b"\x89PNG\x00", "image/png", "binary", False),
        (b"\xff\xfe", "application/json", "binary", False),
        ("grüß".encode("latin-1"), "text/plain; charset=latin-1", "text", False),
        (b"abc", "text/plain; charset=no-such", "binary", False),
        (b"abc", "text/plain; charset=hex", "binary", False),
        (b"a\x00b", "text/plain", "binary", False),
        (b"[" * 100_000, "application/json", "text", True),
        (b"[" * 700 + b"]" * 700, "application/json", None, None),
        (b"1" * 10_000, "application/json", "json", False),
        (b"NaN", "application/json", "json", False),
        (memoryview(b'{"a": 1}'), "application/json", "json", False),
    ],
)
def test_a_body_may_be_anything(body: Any, content_type: str, kind: str, broken: bool) -> None:
    """Its type is a claim, and no claim makes an error."""
    content = content_of(body, (Header("Content-Type", content_type),))

    assert kind in {None, content.kind}
    assert broken in {None, content.broken}


def test_what_is_not_text_is_described_by_size_and_digest() -> None:
    """Also what is compressed."""
    content = content_of(b"abc", (Header("Content-Encoding", "gzip"),))

    assert (content.kind, content.size) == ("binary", 3)
    assert content.digest == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize(
    "body", [b"x" * (SHOWN * 50), json.dumps(["y" * 70] * 40_000).encode(), b"=" * (SHOWN * 20)]
)
def test_a_large_body_is_cut(body: bytes) -> None:
    """The page stays small."""
    content = content_of(body, ())

    assert content.cut
    assert sum(len(token.text) for token in content.tokens) <= SHOWN


@pytest.mark.parametrize(
    "stored",
    [
        *("", "{", "null", "[]", "5", '"x"', '{"fields": 5}', '{"fields": {"a": {}}}'),
        *('{"fields": null, "body": null}', "[" * 100_000),
    ],
)
def test_broken_columns_are_read_as_far_as_they_go(stored: str) -> None:
    """Records, headers and differences are JSON in text columns."""
    record = record_of(stored)
    headers_of(stored)
    changes(stored, record, record)

    assert record.names in {(), ("a",)}


def test_todays_patterns_hide_what_yesterday_kept(settings: Any) -> None:
    """A record was redacted when it was stored; a name may have been added since."""
    settings.IDEMPOTENCY = {"REDACT": ["email"]}
    record = record_of('{"fields": {}, "body": {"email": "SECRET", "n": 1}}')

    assert compact(record.body) == '{"email": "[redacted]", "n": 1}'


@pytest.mark.parametrize(
    "text",
    ['{"a": [1, 2.50, {"b": "x, {y}\\n"}], "c": {}, "d": []}', "[]", '"x"', "null", "-1.5e3"],
)
def test_one_line_is_the_same_document(text: str) -> None:
    """What goes into a command says what was kept."""
    assert compact(parse(text)) == text


def test_changes_have_values_where_both_bodies_are_known() -> None:
    """Else only names."""
    stored = (
        '{"n": "changed", "list[1]": "added", "old": "removed", "x": "odd", "@path": "changed"}'
    )
    mine = record_of('{"fields": {}, "body": {"n": 1, "list": [1], "old": "o"}}')
    theirs = record_of('{"fields": {}, "body": {"n": 2.0, "list": [1, 2]}}')

    told = [(one.name, one.how, one.before, one.after) for one in changes(stored, mine, theirs)]

    assert told == [
        ("n", "changed", "1", "2.0"),
        ("list[1]", "added", "", "2"),
        ("old", "removed", '"o"', ""),
        ("path", "changed", "", ""),
    ]
    assert changes('{"n": "changed"}', Record(), theirs)[0].before == ""


def test_side_by_side_marks_values_and_folds_what_is_equal() -> None:
    """A trailing comma is no difference, twenty equal lines are one."""
    rest = ",".join(f'"f{n}": {n}' for n in range(20))
    mine, theirs = parse(f'{{{rest},"z": 1}}'), parse(f'{{{rest},"z": 2,"new": 3}}')

    rows = side_by_side(mine, theirs)

    assert [(row.kind, row.folded) for row in rows if row.folded] == [("folded", 18)]
    changed = next(row for row in rows if row.kind == "changed")
    assert changed.left is not None
    assert changed.right is not None
    assert (changed.left.before, changed.left.marked) == ('  "z": ', "1")
    assert (changed.right.marked, changed.right.after) == ("2", ",")
    assert [row.kind for row in rows].count("added") == 1
    assert side_by_side(mine, mine)[0].kind == "folded"
