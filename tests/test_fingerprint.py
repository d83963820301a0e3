"""What counts as the same request, and what a record keeps of one."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import QueryDict
from django.test import RequestFactory
from django.utils.datastructures import MultiValueDict
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.body import raw_body, record_stream
from django_idempotency.fingerprint import (
    MAX_DEPTH,
    canonical_json,
    canonical_pairs,
    content_digest,
    differences,
    field_digests,
    flatten,
    load_json,
    sign,
    split_digest,
)
from django_idempotency.models import IdempotencyKey, KeyEvent
from django_idempotency.multipart import form_body
from tests.orders.models import Order
from tests.sender import new_key

FORM = "application/x-www-form-urlencoded"
CANARY = "canary-5f1d9e"
DRF_WAYS = ["/apiview/", "/viewset/", "/viewset/reorder/", "/function/"]
extra_urls = pytest.mark.urls("tests.conformance.views_kfm")

_leaf = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
documents = st.recursive(
    _leaf,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)
pairs = st.lists(st.tuples(st.sampled_from(["a", "b", "a&", "ü"]), st.text(max_size=3)), max_size=6)
randoms = st.randoms(use_true_random=False)


def fingerprint(raw: str) -> bytes:
    return content_digest(canonical_json(load_json(raw.encode())))


def spelled(document: Any, random: Random) -> str:
    """The same JSON in any of its spellings."""
    space = lambda: random.choice(["", "", " ", "\n\t", "\r\n"])  # noqa: E731
    if isinstance(document, str):
        whole = json.dumps(document, ensure_ascii=random.random() < 0.5)
        return whole if random.random() < 0.5 else _escaped(document)
    if isinstance(document, dict):
        members = list(document.items())
        random.shuffle(members)
        inside = ("," + space()).join(
            f"{spelled(name, random)}{space()}:{space()}{spelled(value, random)}"
            for name, value in members
        )
        return f"{space()}{{{space()}{inside}{space()}}}{space()}"
    if isinstance(document, list):
        return f"[{space()}{(space() + ',').join(spelled(item, random) for item in document)}]"
    return json.dumps(document)


def _escaped(text: str) -> str:
    raw = text.encode("utf-16-be")
    units = (raw[at : at + 2].hex() for at in range(0, len(raw), 2))
    return '"' + "".join(rf"\u{unit}" for unit in units) + '"'


def changed(document: Any, random: Random) -> Any:
    """The document with one thing about it changed."""
    if isinstance(document, dict) and document:
        return _changed_object(document, random)
    if isinstance(document, list) and document:
        return _changed_array(document, random)
    if isinstance(document, bool):
        return random.choice([not document, int(document), str(document).lower()])
    if isinstance(document, int):
        return random.choice([document + 1, -document - 1, str(document), [document]])
    if isinstance(document, str):
        return random.choice([document + "x", None, [document], {document: None}])
    return random.choice(["", 0, False, "null", [None]])


def _changed_object(document: dict[str, Any], random: Random) -> Any:
    name = random.choice(sorted(document))
    rest = {other: value for other, value in document.items() if other != name}
    unused = max(document) + "'"
    kind = random.randrange(4)
    if kind == 0:
        return rest
    if kind == 1:
        return rest | {unused: document[name]}
    return rest | {name: changed(document[name], random)}


def _changed_array(document: list[Any], random: Random) -> Any:
    at = random.randrange(len(document))
    kind = random.randrange(4)
    if kind == 0:
        return document[:at] + document[at + 1 :]
    if kind == 1:
        return [*document, document[at]]
    return [*document[:at], changed(document[at], random), *document[at + 1 :]]


def same(left: Any, right: Any) -> bool:
    """Equality that tells 1 from True."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


# -- content


@given(document=documents, random=randoms)
def test_equal_json_has_equal_fingerprints(document: Any, random: Random) -> None:
    """Member order, white space and escapes do not count."""
    assert fingerprint(spelled(document, random)) == fingerprint(json.dumps(document))


@given(document=documents, random=randoms)
def test_any_change_to_json_changes_the_fingerprint(document: Any, random: Random) -> None:
    """A value, a type, a name, an item more or less."""
    other = changed(document, random)

    assert fingerprint(json.dumps(document)) != fingerprint(json.dumps(other))


@given(left=documents, right=documents)
def test_fingerprints_are_equal_exactly_for_equal_json(left: Any, right: Any) -> None:
    """Any two documents."""
    equal = fingerprint(json.dumps(left)) == fingerprint(json.dumps(right))

    assert equal == same(left, right)


@given(items=st.lists(_leaf, min_size=2, max_size=5), random=randoms)
def test_the_order_of_an_array_counts(items: list[Any], random: Random) -> None:
    """Unless both orders are the same array."""
    shuffled = random.sample(items, len(items))

    equal = fingerprint(json.dumps(items)) == fingerprint(json.dumps(shuffled))

    assert equal == same(items, shuffled)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1.10", "1.1"),
        ("1e400", "1e401"),
        ("0.1", "0.10000000000000000001"),
        ("1.0", "1"),
        ("NaN", '"NaN"'),
        ("[1.5,NaN]", "[NaN,1.5]"),
        ("-0.0", "0.0"),
        ('{"a":1.5,"b":2.5}', '{"a":2.5,"b":1.5}'),
        (r'"\ud800"', r'"\ud801"'),
    ],
)
def test_numbers_count_as_they_are_written(left: str, right: str) -> None:
    """Two texts that one float cannot tell apart may be two amounts."""
    assert fingerprint(left) != fingerprint(right)


@pytest.mark.parametrize(
    "raw",
    [b'{"a":1,"a":2}', b"{", b"", b"\xff", b"[" * 100_000, b'{"x":{"a":1,"a":1}}', b"1" * 5_000],
)
def test_what_is_no_clear_json_cannot_be_compared_by_content(raw: bytes) -> None:
    """Doubled members, broken, too deep or too long: a ValueError, whatever the input."""
    with pytest.raises(ValueError):  # noqa: PT011 - any will do
        load_json(raw)


def raw_parts(raw: str) -> list[bytes]:
    """What is compared of a JSON body."""
    request = RequestFactory().post("/", raw, content_type="application/json")
    record_stream(request)
    return raw_body(request, "application/json", ()).parts


@pytest.mark.parametrize(
    ("left", "right"),
    [('{"a":1,"a":2}', '{"a":2,"a":1}'), ('{"a":1,"a":2}', '{"a":2}'), ("{", "{ ")],
)
def test_unclear_json_is_compared_by_its_bytes(left: str, right: str) -> None:
    """So no two requests are taken for one because a parser chose for them."""
    assert raw_parts(left) != raw_parts(right)
    assert raw_parts(left) == raw_parts(left)


def nested(levels: int, gap: str) -> str:
    """Lists and objects by turns, ``levels`` of them."""
    half = levels // 2
    return '[{"a":' * half + gap + "1" + "}]" * half


@pytest.mark.parametrize(("levels", "by_content"), [(MAX_DEPTH, True), (MAX_DEPTH + 2, False)])
@pytest.mark.parametrize("stack", [0, 500])
def test_depth_is_judged_alike_wherever_a_request_meets_us(
    levels: int, stack: int, *, by_content: bool
) -> None:
    """A retry under another middleware must not be compared by bytes, and its first not."""

    def below(frames: int) -> bool:
        if frames:
            return below(frames - 1)
        parts = [raw_parts(nested(levels, gap)) for gap in ("", " ")]
        return parts[0] == parts[1]

    assert below(stack) is by_content


@given(left=st.lists(st.binary(max_size=4)), right=st.lists(st.binary(max_size=4)))
def test_no_two_splits_of_one_text_meet(left: list[bytes], right: list[bytes]) -> None:
    """Digests are equal exactly for equal lists of parts."""
    assert (content_digest(left) == content_digest(right)) == (left == right)


@given(parts=st.lists(st.binary(max_size=3), min_size=2))
def test_joined_parts_are_other_parts(parts: list[bytes]) -> None:
    """A length stands before each part, and cannot be forged inside one."""
    joined = b"".join(parts)
    forged = b"".join(b"%d:%b" % (len(part), part) for part in parts)

    assert content_digest(parts) not in {content_digest([joined]), content_digest([forged])}


@given(
    parts=st.lists(st.text("-ab\n", max_size=6), min_size=1, max_size=4),
    other=st.lists(st.text("-ab\n", max_size=6), min_size=1, max_size=4),
    size=st.integers(1, 9),
)
def test_what_stands_between_marks_counts_however_it_is_read(
    parts: list[str], other: list[str], size: int
) -> None:
    """Another mark and other chunks change nothing, other parts do."""

    def digest(parts: list[str], mark: bytes, size: int) -> bytes:
        raw = mark.join(part.encode() for part in parts)
        chunks = (raw[at : at + size] for at in range(0, len(raw), size))
        return split_digest(chunks, mark)

    usual = digest(parts, b"--xyx", 100)
    assert digest(parts, b"--xx", size) == usual
    assert (digest(other, b"--xyx", size) == usual) == (other == parts)


def by_name(form: list[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, value in form:
        grouped.setdefault(name, []).append(value)
    return grouped


@given(left=pairs, right=pairs)
def test_forms_are_equal_when_each_name_has_the_same_values(
    left: list[tuple[str, str]], right: list[tuple[str, str]]
) -> None:
    """The order of names does not count, that of the values of one name does."""
    equal = content_digest(canonical_pairs(left)) == content_digest(canonical_pairs(right))

    assert equal == (by_name(left) == by_name(right))


@given(form=pairs, random=randoms)
def test_a_form_may_be_reordered(form: list[tuple[str, str]], random: Random) -> None:
    """Names shuffled, values of each name in their order."""
    grouped = by_name(form)
    names = random.sample(sorted(grouped), len(grouped))
    reordered = [(name, value) for name in names for value in grouped[name]]

    assert content_digest(canonical_pairs(form)) == content_digest(canonical_pairs(reordered))


def _multipart(name: str, kind: str, content: bytes, sku: str = "tea") -> bytes:
    upload = SimpleUploadedFile(name, content, kind)
    body = form_body(QueryDict(f"sku={sku}"), MultiValueDict({"file": [upload]}), ())
    assert upload.read() == content, "the view must find the file at its beginning"
    return content_digest(body.parts)


def test_a_file_counts_by_name_type_and_bytes() -> None:
    """The boundary is no part of it."""
    usual = _multipart("a.txt", "text/plain", b"abc")

    assert usual == _multipart("a.txt", "text/plain", b"abc")
    others = [
        _multipart("b.txt", "text/plain", b"abc"),
        _multipart("a.txt", "text/html", b"abc"),
        _multipart("a.txt", "text/plain", b"abd"),
        _multipart("a.txt", "text/plain", b"abc", sku="mate"),
    ]
    assert len({usual, *others}) == 5


@given(digest=st.binary(min_size=32, max_size=32), secrets=st.lists(st.binary(), unique=True))
def test_a_signature_needs_the_secret(digest: bytes, secrets: list[bytes]) -> None:
    """One fingerprint a secret, in their order, none of them the digest itself."""
    signed = sign(digest, secrets)

    assert signed == tuple(sign(digest, [secret])[0] for secret in secrets)
    assert digest.hex() not in signed


@given(before=documents, after=documents)
def test_differences_name_exactly_the_fields_that_differ(before: Any, after: Any) -> None:
    """By short digests, as by the values themselves."""
    old, new = dict(flatten({"d": before})), dict(flatten({"d": after}))
    digests = [field_digests(fields.items(), secret=b"s", salt=b"salt") for fields in (old, new)]

    assert differences(*digests) == differences(old, new)


def test_equal_values_of_two_keys_have_unrelated_digests() -> None:
    """A reader of the table cannot tell that two clients sent the same card."""
    first, second = (
        field_digests([("pan", "4111")], secret=b"s", salt=salt) for salt in (b"1", b"2")
    )

    assert first != second


# -- secrets


@pytest.mark.parametrize("way", ["/apiview/", "/plain/", "/async/"])
def test_a_rotated_secret_key_still_replays(send: Any, settings: Any, way: str) -> None:
    """The old one stands in SECRET_KEY_FALLBACKS."""
    key, old = new_key(), settings.SECRET_KEY
    first = send(way, key=key)
    settings.SECRET_KEY = "another-secret-key-that-is-long-enough-for-anyone"
    settings.SECRET_KEY_FALLBACKS = [old]

    retry = send(way, key=key)

    assert (retry.status_code, retry.content) == (201, first.content)
    assert retry["Idempotent-Replayed"] == "true"
    assert send(way, {"sku": "tea", "qty": 2}, key=key).status_code == 422
    assert Order.objects.count() == 1


def test_a_forgotten_secret_key_makes_a_conflict_and_never_a_second_order(
    send: Any, settings: Any
) -> None:
    """Without the old secret the requests cannot be compared."""
    key = new_key()
    send("/apiview/", key=key)
    settings.SECRET_KEY = "another-secret-key-that-is-long-enough-for-anyone"

    assert send("/apiview/", key=key).status_code == 422
    assert Order.objects.count() == 1


def test_fingerprint_keys_make_the_secret_key_irrelevant(send: Any, settings: Any) -> None:
    """``FINGERPRINT_KEYS`` rotates on its own."""
    key = new_key()
    settings.IDEMPOTENCY = {"FINGERPRINT_KEYS": ["first"]}
    send("/apiview/", key=key)
    settings.SECRET_KEY = "another-secret-key-that-is-long-enough-for-anyone"
    settings.IDEMPOTENCY = {"FINGERPRINT_KEYS": ["second", "first"]}

    assert send("/apiview/", key=key)["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


# -- how the body is read


@pytest.mark.parametrize("way", DRF_WAYS)
def test_a_large_json_body_fares_with_a_key_as_without(send: Any, settings: Any, way: str) -> None:
    """3 MB, more than DATA_UPLOAD_MAX_MEMORY_SIZE: DRF before 3.18 takes it, later ones refuse."""
    assert settings.DATA_UPLOAD_MAX_MEMORY_SIZE < 3_000_000
    body, key = {"sku": "tea", "qty": 1, "note": "n" * 3_000_000}, new_key()
    unkeyed = send(way, body).status_code
    Order.objects.all().delete()

    first, retry = send(way, body, key=key), send(way, body, key=key)

    assert (first.status_code, retry.status_code) == (unkeyed, unkeyed)
    assert Order.objects.count() == (unkeyed == 201)


@extra_urls
def test_a_large_upload_works_with_a_key_as_without(send: Any) -> None:
    """3 MB that the view reads from the stream: it gets all of it, a byte changed is noticed."""
    way, kind, key = "/bytes/", "application/octet-stream", new_key()
    body = bytes(3_000_000)
    assert send(way, body, content_type=kind).status_code == 201
    Order.objects.all().delete()

    first, retry = (send(way, body, key=key, content_type=kind) for _ in range(2))

    assert (first.status_code, retry.content) == (201, first.content)
    assert first.json()["sku"] == "3000000"
    assert retry["Idempotent-Replayed"] == "true"
    assert send(way, body[:-1] + b"1", key=key, content_type=kind).status_code == 422
    assert Order.objects.count() == 1


@pytest.mark.parametrize("way", DRF_WAYS)
def test_a_large_json_body_works_where_the_limit_allows_it(
    send: Any, settings: Any, way: str
) -> None:
    """3 MB, larger than what is kept in memory: read, replayed, compared whole."""
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 4_000_000
    body, key = {"sku": "tea", "qty": 1, "note": "n" * 3_000_000}, new_key()

    first, retry = send(way, body, key=key), send(way, body, key=key)

    assert (first.status_code, retry.content) == (201, first.content)
    assert retry["Idempotent-Replayed"] == "true"
    assert send(way, body | {"note": "n" * 2_999_999 + "m"}, key=key).status_code == 422
    assert Order.objects.count() == 1


@pytest.mark.parametrize("way", ["/plain/", "/class/", "/async/"])
def test_a_body_that_django_refuses_is_refused_with_a_key_too(
    send: Any, settings: Any, way: str
) -> None:
    """The limit holds, and the key is free afterwards."""
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    body, key = {"sku": "tea", "note": "n" * 200}, new_key()

    assert send(way, body).status_code == 400
    assert send(way, body, key=key).status_code == 400
    assert not Order.objects.exists()

    assert send(way, key=key).status_code == 201
    assert Order.objects.count() == 1


MULTIPART = '--b\r\nContent-Disposition: form-data; name="sku"\r\n\r\n{}\r\n--b--\r\n'


@extra_urls
@pytest.mark.parametrize(
    ("form", "content_type"),
    [
        ('{{"sku":"{}"}}', "application/json"),
        ("sku={}", FORM),
        (MULTIPART, "multipart/form-data; boundary=b"),
    ],
)
def test_a_permission_that_reads_the_body_does_not_blind_the_fingerprint(
    send: Any, form: str, content_type: str
) -> None:
    """Another body is refused, the same is replayed, the view still gets it."""
    key = new_key()

    def post(sku: str) -> Any:
        return send("/nosy/", form.format(sku), key=key, content_type=content_type)

    first = post("tea")
    assert first.status_code == 201, first.content
    assert first.json()["sku"] == "tea"
    assert post("tea")["Idempotent-Replayed"] == "true"
    assert post("mate").status_code == 422
    assert Order.objects.count() == 1


# -- what a record keeps


def every_column() -> str:
    """All that the tables hold, as one text."""
    rows = [*IdempotencyKey.objects.values(), *KeyEvent.objects.values()]
    values = [value for row in rows for value in row.values()]
    return "\n".join(
        bytes(value).decode("utf-8", "replace")
        if isinstance(value, (bytes, memoryview))
        else str(value)
        for value in values
    )


def conflict(send: Any, way: str, first: Any, second: Any, **request: Any) -> KeyEvent:
    key = new_key()
    assert send(way, first, key=key, **request).status_code == 201
    assert send(way, second, key=key, **request).status_code == 422
    assert Order.objects.count() == 1
    return KeyEvent.objects.get(kind="conflict")


def order(**members: Any) -> dict[str, Any]:
    return {"sku": "tea", "qty": 1, **members}


ANSWERING_WAYS = [*DRF_WAYS, "/plain/", "/class/", "/async/"]


@pytest.mark.parametrize("way", ANSWERING_WAYS)
def test_fields_records_name_what_differs_without_values(send: Any, way: str) -> None:
    """``RECORD_REQUEST="fields"``, the default: changed, added, removed; nested too."""
    event = conflict(
        send,
        way,
        order(note=f"{CANARY}-1", gone=f"{CANARY}-2", to={"street": f"{CANARY}-3", "no": 1}),
        order(note=f"{CANARY}-4", new=f"{CANARY}-5", to={"street": f"{CANARY}-6", "no": 1}),
    )

    assert json.loads(event.differences) == {
        "note": "changed",
        "gone": "removed",
        "new": "added",
        "to.street": "changed",
    }
    assert CANARY not in every_column()


def test_fields_records_name_a_different_endpoint(send: Any) -> None:
    """Method, path, query and content type are fields, too."""
    key = new_key()
    send("/apiview/", key=key)
    send("/function/?x=1", key=key, method="PATCH")

    event = KeyEvent.objects.get()
    assert json.loads(event.differences) == {
        "@method": "changed",
        "@path": "changed",
        "@query": "changed",
    }


@pytest.mark.parametrize("way", ["/apiview/", "/viewset/", "/function/", "/plain/", "/class/"])
def test_fields_records_name_form_fields_without_values(send: Any, way: str) -> None:
    """The second value of a name is told from the first."""
    event = conflict(
        send, way, f"x=1&x={CANARY}1", f"x=1&x={CANARY}2&y={CANARY}", content_type=FORM
    )

    assert json.loads(event.differences) == {"x[1]": "changed", "y": "added"}
    assert CANARY not in every_column()


@pytest.mark.parametrize("way", ANSWERING_WAYS)
def test_body_records_keep_the_redacted_body(send: Any, settings: Any, way: str) -> None:
    """``RECORD_REQUEST="body"``: both bodies, passwords in no column, at no depth."""
    settings.IDEMPOTENCY = {"RECORD_REQUEST": "body"}
    secret = {"password": CANARY, "Old_Password": [CANARY], "items": [{"password": CANARY, "n": 1}]}

    event = conflict(send, way, order(note="kept", rate=1.5, **secret), order(note="new", **secret))

    kept = json.loads(IdempotencyKey.objects.get().request_record)["body"]
    assert kept == {
        **order(note="kept", rate=1.5),
        "password": "[redacted]",
        "Old_Password": "[redacted]",
        "items": [{"password": "[redacted]", "n": 1}],
    }
    assert json.loads(event.request_record)["body"]["note"] == "new"
    assert json.loads(event.differences) == {"note": "changed", "rate": "removed"}
    assert CANARY not in every_column()


@pytest.mark.parametrize("way", ["/apiview/", "/viewset/", "/function/", "/plain/", "/class/"])
def test_body_records_redact_forms(send: Any, settings: Any, way: str) -> None:
    """Forms as JSON."""
    settings.IDEMPOTENCY = {"RECORD_REQUEST": "body"}

    conflict(
        send,
        way,
        f"note=kept&password={CANARY}",
        f"note=new&password={CANARY}",
        content_type=FORM,
    )

    kept = json.loads(IdempotencyKey.objects.get().request_record)["body"]
    assert kept == {"note": "kept", "password": "[redacted]"}
    assert CANARY not in every_column()


def test_body_records_redact_what_the_setting_names(send: Any, settings: Any) -> None:
    """``REDACT`` replaces the default patterns."""
    settings.IDEMPOTENCY = {"RECORD_REQUEST": "body", "REDACT": ["*Note*"]}

    conflict(send, "/apiview/", order(my_note=CANARY), order(my_note=CANARY, x=1))

    assert CANARY not in every_column()


def test_body_records_of_huge_bodies_keep_fields_only(send: Any, settings: Any) -> None:
    """A record stays small."""
    settings.IDEMPOTENCY = {"RECORD_REQUEST": "body"}
    note = CANARY + "n" * 100_000

    event = conflict(send, "/apiview/", order(note=note), order(note=note + "m"))

    assert json.loads(event.differences) == {"note": "changed"}
    assert CANARY not in every_column()


@pytest.mark.parametrize("way", ANSWERING_WAYS)
def test_nothing_records_keep_nothing(send: Any, settings: Any, way: str) -> None:
    """``RECORD_REQUEST="nothing"``: a conflict is refused and counted, not explained."""
    settings.IDEMPOTENCY = {"RECORD_REQUEST": "nothing"}

    event = conflict(send, way, order(note=CANARY), order(note=CANARY, canary_name=1))

    record = IdempotencyKey.objects.get()
    assert record.conflict_count == 1
    assert (record.request_record, event.request_record, event.differences) == ("", "", "")
    assert CANARY not in every_column()
    assert "canary_name" not in every_column()
